"""A worker by the listen-fds protocol that tells what happens to it: each
request and each signal is a line on its standard output.

/exit/N ends it with that code, /environment shows its environment, /warming is
answered with 503 the first time. While /tmp/slow exists it does not begin to
serve, while /tmp/dies exists it ends at once with code 3, and while /tmp/deaf
exists no signal ends it.
"""

import json
import os
import signal
import socket
import sys
import threading

if os.path.exists("/tmp/dies"):
    sys.exit(3)


def stop(number, _):
    tell("signal", signal.Signals(number).name)
    if not os.path.exists("/tmp/deaf"):
        os._exit(0)


def tell(*words):
    print("worker:", *words, flush=True)


warm = threading.Event()


def answer(path):
    if path == "/environment":
        return 200, json.dumps(dict(os.environ))
    if path == "/warming" and not warm.is_set():
        warm.set()
        return 503, "warming"
    return 200, f"generation {os.environ['GATEWAY_GENERATION']} pid {os.getpid()}\n"


def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536).decode(errors="replace").split()
            if len(request) < 2:
                continue
            host = request[request.index("Host:") + 1] if "Host:" in request else ""
            tell("request", request[1], "to", host)
            if request[1].startswith("/exit/"):
                os._exit(int(request[1].removeprefix("/exit/")))
            code, body = answer(request[1])
            head = f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + body).encode())


for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, stop)
if os.path.exists("/tmp/slow"):
    signal.pause()
for fd in range(3, 3 + int(os.environ["LISTEN_FDS"])):
    threading.Thread(target=serve, args=(socket.socket(fileno=fd),), daemon=True).start()
while True:
    signal.pause()
