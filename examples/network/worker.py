import os
import socket

connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
connection.connect((os.environ["CDSW_MASTER_IP"], 6000))
connection.send("Hello From Worker!".encode())
data = connection.recv(20)
connection.close()
print("Worker received:", data.decode())
