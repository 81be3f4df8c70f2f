"""Dies when asked, and leaves a child that goes on writing to the standard
output that it shares with the worker.
"""

import os
import time

import serving

if os.fork() == 0:
    while True:
        print(f"the child of generation {serving.GENERATION} is still here", flush=True)
        time.sleep(0.02)
serving.start()
serving.asked()
os._exit(1)
