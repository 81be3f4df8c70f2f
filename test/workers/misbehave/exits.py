"""Exits at once, but for every fifth generation. That one exits when asked."""

import os

import serving

if serving.GENERATION % 5 == 0:
    serving.start()
    serving.asked()
os._exit(1)
