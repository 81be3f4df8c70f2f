"""Shuts the listening sockets down when asked, for everybody that has them, and
lives on.
"""

import socket

import serving

listeners = serving.sockets()
serving.start(listeners)
while True:
    serving.asked()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
