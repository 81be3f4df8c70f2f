"""Takes an address: HOST:PORT to listen there, or nothing to keep what systemd has
passed.
"""

import os
import signal
import socket
import sys

if len(sys.argv) > 1:
    host, port = sys.argv[1].rsplit(":", 1)
    taken = socket.create_server((host, int(port)))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
while True:
    signal.pause()
