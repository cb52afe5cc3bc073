package engine

import "testing"

func TestInstallation(t *testing.T) {
	for program, want := range map[string]string{
		"/usr/bin/python3":           "/usr",
		"/opt/R/4.4/bin/R":           "/opt/R/4.4",
		"/tmp/venv/bin/python3":      "/tmp/venv",
		"/tmp/shims/python3":         "/tmp/shims",
		"/run/shims/python3":         "/run/shims",
		"/dev/shm/shims/python3":     "/dev/shm/shims",
		"/dev/shm/venv/bin/python3":  "/dev/shm/venv",
		"/tmp/python3":               "/tmp/python3",
		"/dev/shm/python3":           "/dev/shm/python3",
		"/tmpfiles/bin/python3":      "/tmpfiles",
		"/home/u/.local/bin/Rscript": "/home/u/.local",
	} {
		if got := Installation(program); got != want {
			t.Errorf("%s: %s, want %s", program, got, want)
		}
	}
}
