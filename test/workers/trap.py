"""What lies in the place of a file, and what it costs to look at it.

    trap.py lay KIND PATH       puts it there, by a rename
    trap.py measure COMMAND…    runs the command with at most 60 s, and prints seconds, KiB of memory, exit status and its
                                output as JSON
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time


def text(content):
    """Content makes it: what this program takes itself would count as what a command takes."""
    def write(path):
        with open(path, "w") as file:
            file.write(content())
    return write


def sparse(path):
    with open(path, "w") as file:
        file.truncate(8 << 40)


def held(path):
    """A pipe that somebody keeps open and never writes to."""
    os.mkfifo(path)
    if os.fork() == 0:
        os.setsid()
        os.open(path, os.O_RDWR)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        while True:
            signal.pause()


LAY = {
    "kmsg": lambda path: os.symlink("/proc/kmsg", path),
    "zero": lambda path: os.symlink("/dev/zero", path),
    "shadow": lambda path: os.symlink("/etc/shadow", path),
    "pipe": os.mkfifo,
    "held": held,
    "sparse": sparse,
    "folder": os.mkdir,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(path),
    "brackets": text(lambda: "[" * 8_000_000),
    "bracket": text(lambda: "a: [\n" + ("# " + "x" * 8000 + "\n") * 990),
    "entries": text(lambda: "listen: [" + "a," * 4_000_000 + "]\n"),
    "names": text(lambda: "A1=1\n" * 1_000_000 + "".join(f"A{i}=\n" for i in range(300_000))),
}


def lay(kind, path):
    LAY[kind](path + ".new")
    # No rename puts a folder over a file, nor a file over a folder.
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    elif kind == "folder":
        os.remove(path)
    os.rename(path + ".new", path)


def measure(command):
    # Nothing of what went wrong must cost more than the test.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        output, _ = child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
    print(json.dumps({
        "seconds": time.monotonic() - begun,
        "kib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        "exit": child.returncode,
        "output": output.decode(errors="replace"),
    }))


if sys.argv[1] == "lay":
    lay(*sys.argv[2:])
else:
    measure(sys.argv[2:])
