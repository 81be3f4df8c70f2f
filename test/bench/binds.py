"""The worker of the bind measurement: binds sockets TIMES times to each kind of address, then listens on PORT. It answers with its
pid, and at /binds with how long each bind took, in nanoseconds."""

import http.server
import json
import os
import socket
import sys
import time

port, times = int(os.environ["PORT"]), int(sys.argv[1])


def binds(family, kind, address):
    took = []
    for _ in range(times):
        with socket.socket(family, kind) as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            start = time.perf_counter_ns()
            bound.bind(address)
            took.append(time.perf_counter_ns() - start)
    return took


figures = {
    "own": binds(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
    "other": binds(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
    "netlink": binds(socket.AF_NETLINK, socket.SOCK_RAW, (0, 0)),
}


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        answer = json.dumps(figures) if self.path == "/binds" else f"pid {os.getpid()}\n"
        self.wfile.write(answer.encode())


http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()
