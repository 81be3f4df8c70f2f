"""Ignores SIGTERM, and every other signal that can be ignored."""

import signal

import serving

for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass  # the C library keeps it for itself
serving.start()
while True:
    signal.pause()
