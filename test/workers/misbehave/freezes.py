"""Stops itself when asked, as SIGSTOP does it: it lives, and answers nothing, not
even SIGTERM.
"""

import os
import signal

import serving

serving.start()
while True:
    serving.asked()
    os.kill(os.getpid(), signal.SIGSTOP)
