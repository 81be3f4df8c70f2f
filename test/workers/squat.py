"""Takes an address: HOST:PORT to listen there, or pid PID for a copy of the first
listening socket of another process, as one that was forked there would have.
"""

import ctypes
import os
import signal
import socket
import sys

if sys.argv[1] == "pid":
    pidfd = os.pidfd_open(int(sys.argv[2]))
    for name in sorted(os.listdir(f"/proc/{sys.argv[2]}/fd"), key=int):
        # SYS_pidfd_getfd, the same number on all architectures.
        fd = ctypes.CDLL(None).syscall(438, pidfd, int(name), 0)
        try:
            taken = socket.socket(fileno=fd)
            if taken.family == socket.AF_INET and taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                break
            taken.detach()
        except OSError:
            pass
        os.close(fd)
    else:
        sys.exit("no listening socket there")
else:
    host, port = sys.argv[1].rsplit(":", 1)
    taken = socket.create_server((host, int(port)))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
while True:
    signal.pause()
