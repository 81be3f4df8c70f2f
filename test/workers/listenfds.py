"""A worker that takes sockets by the listen-fds protocol and accepts on them
with blocking calls, one thread a socket, as many Python servers do."""

import json
import os
import socket
import sys
import threading

assert int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PID is not mine"


def serve(listener):
    while True:
        connection, _ = listener.accept()  # BlockingIOError when it is non-blocking
        with connection:
            request = connection.recv(65536).decode(errors="replace")
            if request.startswith("GET /environment "):
                body = json.dumps(dict(os.environ))
            else:
                body = f"generation {os.environ['GATEWAY_GENERATION']} pid {os.getpid()}\n"
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + body).encode())


def run(listener):
    try:
        serve(listener)
    except BaseException as error:  # a thread would die alone
        print(f"accept on {listener.getsockname()} failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


threads = [
    threading.Thread(target=run, args=(socket.socket(fileno=fd),))
    for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))
]
for thread in threads:
    thread.start()
