import subprocess, sys
for code in ("import cdsw; print(len(cdsw.list_workers()))", "import cml.workers_v1 as w; print(len(w.list_workers()))"):
    out = subprocess.check_output(["python3", "-c", code], cwd="/")
    assert out == b"0\n", out
assert subprocess.check_output("python3 -c 'import cdsw; print(cdsw.list_workers())'", shell=True) == b"[]\n"
