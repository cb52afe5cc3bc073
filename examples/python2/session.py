"""The manual's network example with workers in Python 2: they connect to the session by TCP and are greeted."""

import socket

import cdsw

workers = cdsw.launch_workers(n=2, cpu=0.5, memory=1, kernel="python2", script="worker.py")
assert all("id" in w for w in workers), "not all workers were accepted"

server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("0.0.0.0", 6000))
server.listen(2)
server.settimeout(120)
addresses = []
for _ in workers:
    connection, address = server.accept()
    with connection, connection.makefile("rw") as lines:
        greeting = lines.readline()
        print("Master received:", greeting, end="")
        assert greeting == "Hello From Worker!\n", greeting
        lines.write("Hello From Server!\n")
    addresses.append(address[0])

done = cdsw.await_workers(workers, timeout_seconds=120)
assert len(done["workers"]) == 2, "%d of 2 workers failed" % len(done["failures"])
assert sorted(addresses) == sorted(w["ip_address"] for w in done["workers"]), addresses
print("2 workers in %s were greeted" % done["workers"][0]["kernel"])
