"""Prints what the launcher answers to GET on its control socket."""

import http.client
import socket
import sys

connection = http.client.HTTPConnection("gateway")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", sys.argv[2])
print(connection.getresponse().read().decode())
