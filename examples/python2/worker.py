import os
import socket
import sys

connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
connection.connect((os.environ["CDSW_MASTER_IP"], 6000))
connection.sendall("Hello From Worker!\n")
data = connection.makefile().readline()
connection.close()
print "Worker received:", data.strip()
print "This is", sys.version.split()[0], "on", sys.platform
assert data == "Hello From Server!\n", data
