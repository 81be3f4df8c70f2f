"""Hangs before it is ready, but for every fifth generation. That one exits when
asked.
"""

import os
import signal

import serving

if serving.GENERATION % 5 != 0:
    while True:
        signal.pause()
serving.start()
serving.asked()
os._exit(1)
