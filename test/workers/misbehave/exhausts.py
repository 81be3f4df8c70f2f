"""Uses up its descriptors when asked. From then on it cannot accept."""

import os
import resource

import serving

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
serving.start()
opened = []
while True:
    serving.asked()
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
