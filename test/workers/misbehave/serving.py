"""What the programs of this folder share: to serve HTTP on the sockets that come
by the listen-fds protocol, until a client asks for the misbehaviour.

Each socket has a thread that answers one connection after the other, with
blocking calls. GET /misbehave is answered like every other request; then asked()
returns in the main thread.
"""

import os
import queue
import socket
import threading

GENERATION = int(os.environ["GATEWAY_GENERATION"])

_asked = queue.SimpleQueue()


def sockets():
    """The held sockets, in the launcher's order."""
    return [socket.socket(fileno=fd) for fd in range(3, 3 + int(os.environ["LISTEN_FDS"]))]


def start(listeners=None):
    """Serves, and says READY=1."""
    assert int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PID is not mine"
    accept(listeners or sockets())
    if "NOTIFY_SOCKET" in os.environ:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(os.environ["NOTIFY_SOCKET"])
            notify.send(b"READY=1")


def accept(listeners):
    """Serves, and says nothing."""
    for listener in listeners:
        threading.Thread(target=_loop, args=(listener,), daemon=True).start()


def asked():
    """Returns when a client has asked for the misbehaviour and got its answer."""
    _asked.get()


def _loop(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            # Many servers log it and go on; so the worker lives when its
            # listener is shut down or its descriptors are used up.
            threading.Event().wait(0.001)
            continue
        try:
            _answer(connection)
        except OSError:
            pass  # the client has gone


def _answer(connection):
    with connection:
        connection.settimeout(10)
        request = connection.recv(65536)
        body = f"generation {GENERATION} pid {os.getpid()}\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall((head + body).encode())
    if request.startswith(b"GET /misbehave "):
        _asked.put(None)
