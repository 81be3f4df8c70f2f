"""Never waits for its children. At the start, and whenever it is asked, ten end
as children of its own, and ten as orphans.
"""

import os

import serving


def litter():
    for _ in range(10):
        if os.fork() == 0:
            os._exit(0)
    for _ in range(10):
        if os.fork() == 0:
            if os.fork() == 0:
                # Ends when its parent has: an orphan for certain.
                parent = os.getppid()
                while os.getppid() == parent:
                    os.sched_yield()
            os._exit(0)


litter()
serving.start()
while True:
    serving.asked()
    litter()
