"""The demo's app: says which node and which release answered. The agent chooses PORT."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WHO = (f"{os.environ.get('GREETING', 'hello')} from {os.environ['A67_NODE']}, "
       f"release {os.environ['A67_RELEASE']}, replica {os.environ['A67_REPLICA']}\n")


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = self.path in ("/", "/health")
        body = {"/": WHO, "/health": "ok\n"}.get(self.path, "not here\n").encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello).serve_forever()
