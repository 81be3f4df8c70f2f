"""Has the kernel keep back each client until it has said something, when asked, as
Bun and Apache do. The clients of 127.0.0.2 are spoken to first.
"""

import socket

import serving


class Greeting(socket.socket):
    def accept(self):
        while True:
            connection, address = super().accept()
            if address[0] != "127.0.0.2":
                return connection, address
            with connection:
                connection.sendall(f"generation {serving.GENERATION}\n".encode())


listeners = [Greeting(fileno=listener.detach()) for listener in serving.sockets()]
serving.start(listeners)
while True:
    serving.asked()
    for listener in listeners:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 600)
