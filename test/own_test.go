package test

import "testing"

// Only what stands for the code's own file is filled in: code, arguments and variables reach the engine as they were written.
func TestOwnKernelTakesTextAsItIs(t *testing.T) {
	for _, rung := range []string{"root", "plain"} {
		t.Run(rung, func(t *testing.T) {
			if rung == "root" {
				requireRoot(t)
			}
			w := makeWorld(t)
			w.write("muster.toml", "[kernels.shell]\ncommand = \"/bin/sh\"\ncode = [\"-c\", \"{code}\", \"{file}\"]\n")
			w.write("session.py", `
import cdsw, sys
print("session", sys.argv[1])
cdsw.await_workers(cdsw.launch_workers(1, cpu=0.2, memory=0.2, kernel="shell", env={"TEXT": "in {private}"},
    code="""echo "'code {private} {file}' '$TEXT' $(grep -c private "$0")" """))
`)
			w.muster("run", "--rung", rung, "session.py", "of {private}").ok(t).
				has(t, "session of {private}", "'code {private} {file}' 'in {private}' 1")
		})
	}
}
