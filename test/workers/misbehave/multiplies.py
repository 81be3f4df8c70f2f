"""Forks without end. Forty children stay, deaf to SIGTERM, and three lines of
processes each fork a successor and end, again and again, in new sessions: no list
of processes is true when it has been read. All children are an ordinary user, so
that RLIMIT_NPROC, which root is exempt from, bounds them too.
"""

import os
import resource
import signal
import time

import serving

NOBODY = 65534


def demote():
    resource.setrlimit(resource.RLIMIT_NPROC, (200, 200))
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run_on():
    while True:
        os.setsid()
        time.sleep(0.03)
        if os.fork() != 0:
            os._exit(0)


for i in range(43):
    if os.fork() == 0:
        demote()
        if i >= 40:
            run_on()
        while True:
            signal.pause()
serving.start()
while True:
    signal.pause()
