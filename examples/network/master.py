import cdsw
import socket

workers = cdsw.launch_workers(n=2, cpu=0.2, memory=0.5, script="worker.py")

server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("0.0.0.0", 6000))
server.listen(1)
connection, address = server.accept()
for _ in range(2):
    data = connection.recv(20)
    if not data:
        break
    print("Master received:", data.decode())
    connection.send("Hello From Server!".encode())
connection.close()
