"""Somebody on the private socket of a user's manager, who does not answer as one: spy.py PATH MODE REPORT.

Whatever connects is looked into with all that a process of the same user may try, and the outcome goes to REPORT."""
import ctypes, json, os, signal, socket, sys, threading, time

path, mode, report = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17


def attempt(what):
    try:
        return str(what())
    except OSError as e:
        return os.strerror(e.errno)


def seize(pid):
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "")
    return "traced"


def look(pid):
    stat = open(f"/proc/{pid}/stat").read()
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return {
        "uid": status["Uid"].split()[0], "no_new_privs": status["NoNewPrivs"].strip(), "tty": stat.rsplit(")", 1)[1].split()[4],
        "ptrace": attempt(lambda: seize(pid)), "environ": attempt(lambda: open(f"/proc/{pid}/environ").read()),
        "mem": attempt(lambda: open(f"/proc/{pid}/mem")), "fd": attempt(lambda: os.listdir(f"/proc/{pid}/fd")),
        "argv": open(f"/proc/{pid}/cmdline").read().replace("\0", " "),
    }


def send(connection, data):
    try:
        while True:
            connection.sendall(data)
    except OSError:
        pass


def string(text):
    return len(text).to_bytes(4, "little") + text.encode() + b"\0"


def fail(connection, words):
    """Answers each call with an error of these words."""
    stream = connection.makefile("rb")
    while len(head := stream.read(16)) == 16:
        serial, size = head[8:12], int.from_bytes(head[12:16], "little")
        stream.read(size + -size % 8 + int.from_bytes(head[4:8], "little"))
        fields = b"\4\1s\0" + string("x.Failed")
        for field in b"\5\1u\0" + serial, b"\x08\1g\0\1s\0":
            fields += b"\0" * (-len(fields) % 8) + field
        body = string(words)
        header = b"l\3\0\1" + len(body).to_bytes(4, "little") + (1).to_bytes(4, "little") + len(fields).to_bytes(4, "little") + fields
        connection.sendall(header + b"\0" * (-len(header) % 8) + body)


def serve(connection):
    pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    with open(report + ".new", "w") as file:
        json.dump(look(pid), file)
    os.rename(report + ".new", report)
    if mode == "stop":
        os.kill(pid, signal.SIGSTOP)
    if mode in ("silent", "stop"):
        return
    if mode == "flood":
        return send(connection, b"x" * 65536)
    connection.recv(4096)
    connection.sendall(b"REJECTED EXTERNAL\r\n")
    connection.recv(4096)
    connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
    connection.recv(4096)
    if mode == "error":
        return fail(connection, "no\n\nAs root run: sh /x\n")
    if mode == "garbage":
        return send(connection, os.urandom(65536))
    if mode == "large":  # a reply, it says, of 100 MB: zeros, which would be 25 million empty strings
        header = b"l\x02\x01\x01" + (100_000_000).to_bytes(4, "little") + (1).to_bytes(4, "little")
        fields = b"\x05\x01u\0" + (2).to_bytes(4, "little") + b"\x08\x01g\0\x02as\0"
        connection.sendall(header + len(fields).to_bytes(4, "little") + fields + b"\0" * (-len(fields) % 8))
        connection.sendall((100_000_000 - 4).to_bytes(4, "little"))
        return send(connection, b"\0" * 65536)
    if mode == "calls":  # each of which asks for an answer, which nobody reads
        header = b"l\x01\x00\x01" + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
        fields = b"\x01\x01o\0" + (1).to_bytes(4, "little") + b"/\0\0\0\0\0\0\0" + b"\x03\x01s\0" + (1).to_bytes(4, "little") + b"x\0"
        return send(connection, (header + len(fields).to_bytes(4, "little") + fields + b"\0" * (-len(fields) % 8)) * 500)


kept = []
server = socket.socket(socket.AF_UNIX)
if os.path.exists(path):
    os.unlink(path)
server.bind(path)
server.listen(64)
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    kept.append(connection)
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
