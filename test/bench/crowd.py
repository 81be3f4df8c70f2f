"""Fills a machine: PROCESSES sleeping processes that hold SOCKETS open sockets
between them, both ends of connections over loopback. Says "ready" and stays."""

import os
import socket
import subprocess
import sys

processes, sockets = int(sys.argv[1]), int(sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(processes):
    pairs = []
    for _ in range(sockets // processes // 2):
        client = socket.create_connection(listener.getsockname())
        pairs += [client, listener.accept()[0]]
    # It ends by itself, whatever becomes of the benchmark.
    subprocess.Popen(["sleep", "600"], pass_fds=[end.fileno() for end in pairs])
    for end in pairs:
        end.close()
print("ready", flush=True)
os.execvp("sleep", ["sleep", "600"])
