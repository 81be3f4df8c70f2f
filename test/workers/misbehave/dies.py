"""Becomes ready, and dies of a signal when asked."""

import os
import signal

import serving

serving.start()
serving.asked()
os.kill(os.getpid(), signal.SIGKILL)
