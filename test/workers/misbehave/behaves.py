"""Does nothing wrong: what the others are compared with, and what is killed."""

import signal

import serving

serving.start()
while True:
    signal.pause()
