"""Leaves a daemon behind that keeps the listening sockets: two forks, a session
of its own, deaf to SIGTERM and SIGHUP. With the argument "answers" the daemon
also takes clients, beside the main process.
"""

import os
import signal
import sys

import serving

listeners = serving.sockets()
child = os.fork()
if child == 0:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.argv[1:] == ["answers"]:
        serving.accept(listeners)
else:
    os.waitpid(child, 0)
    serving.start(listeners)
while True:
    signal.pause()
