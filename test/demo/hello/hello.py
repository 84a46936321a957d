"""The demo's app: says which node and which release answered. The agent chooses PORT.

/secret proves that the app holds its secret, and does not tell it. The file is read each time: a
new value is in it without a restart.
"""

import hashlib
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WHO = (f"{os.environ.get('GREETING', 'hello')} from {os.environ['A67_NODE']}, "
       f"release {os.environ['A67_RELEASE']}, replica {os.environ['A67_REPLICA']}\n")
NAME = "API_KEY"


def proof():
    if NAME not in os.environ:
        return f"no {NAME}\n"
    value = Path(os.environ["A67_SECRETS_DIR"], NAME).read_bytes()
    return f"{NAME}: {len(value)} bytes, SHA-256 {hashlib.sha256(value).hexdigest()[:16]}…\n"


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        pages = {"/": lambda: WHO, "/health": lambda: "ok\n", "/secret": proof}
        known = self.path in pages
        body = pages.get(self.path, lambda: "not here\n")().encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello).serve_forever()
