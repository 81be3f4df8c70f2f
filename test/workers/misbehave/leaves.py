"""Shuts the listening sockets down at SIGTERM, as some servers do to stop
accepting, takes its time, and ends.
"""

import signal
import socket
import threading

import serving

# Blocked before there are other threads, which inherit that.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
listeners = serving.sockets()
serving.start(listeners)
signal.sigwait({signal.SIGTERM})
for listener in listeners:
    listener.shutdown(socket.SHUT_RDWR)
threading.Event().wait(0.3)
