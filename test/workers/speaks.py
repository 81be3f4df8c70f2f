"""A worker by the listen-fds protocol that speaks sd_notify(3), and answers /slow
after a second, also when it was told to stop meanwhile.

At SIGHUP it starts a successor on the same sockets, names it as the main process
(MAINPID=), finishes what it has begun, and ends. "migrates FIFO" says that it
does, asks for a minute each time, and waits for the pipe before it serves;
"speaks" says READY=1; "untrap" takes SIGTERM although its parent ignores it.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

arguments = sys.argv[1:]


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        s.send(text.encode())


def tell(*words):
    print("worker:", *words, flush=True)


lock = threading.Lock()
begun = 0
leaving = threading.Event()
count = int(os.environ["LISTEN_FDS"])
sockets = [socket.socket(fileno=fd) for fd in range(3, 3 + count)]


def answer(connection):
    global begun
    with connection:
        request = connection.recv(65536).decode(errors="replace").split()
        if len(request) > 1:
            tell("begins", request[1])
            if request[1].startswith("/slow"):
                time.sleep(1)
            body = f"pid {os.getpid()}\n"
            connection.sendall(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    with lock:
        begun -= 1
        if leaving.is_set() and begun == 0:
            os._exit(0)


def serve(listener):
    global begun
    listener.setblocking(False)
    while True:
        select.select([listener], [], [])
        with lock:
            if leaving.is_set():
                return
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                continue  # another process has it
            begun += 1
        connection.setblocking(True)
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def leave(*_):
    with lock:
        leaving.set()
        if begun == 0:
            os._exit(0)


def succeed(*_):
    child = subprocess.Popen([sys.executable] + sys.argv, pass_fds=[s.fileno() for s in sockets])
    notify(f"MAINPID={child.pid}")
    leave()


signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGHUP, succeed)
if arguments[:1] == ["migrates"]:
    notify("STATUS=migrating table 3 of 6\nEXTEND_TIMEOUT_USEC=120000000")
    open(arguments[1]).read()
for listener in sockets:
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
if arguments[:1] == ["speaks"]:
    notify("READY=1")
while True:
    signal.pause()
