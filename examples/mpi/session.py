import os
import subprocess
import cdsw

workers = cdsw.launch_workers(n=4, cpu=0.5, memory=0.5)  # neither script nor code: they wait to be used
ready = cdsw.await_workers(workers, wait_for_completion=False)
hosts = ",".join(w["ip_address"] for w in ready["workers"])

subprocess.run(["mpicc", "-o", "hello", "hello.c"], check=True)
root = ["--allow-run-as-root"] if os.getuid() == 0 else []
subprocess.run(["mpirun", *root, "-np", "4", "--host", hosts, "./hello"], check=True)
cdsw.stop_workers()
