"""The demo's receiver of alerts: checks the signature of each message and prints one line for it.

    WEBHOOK_SECRET=… webhook.py PORT

It stands for somebody's pager. docs/alerts.md says what comes and how it is signed.
"""

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = os.environ["WEBHOOK_SECRET"].encode()
MAX_AGE = 300


def genuine(header, body):
    """Whether the X-A67-Signature is that of body, and is not an old one."""
    sent = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    stamp = sent.get("t", "")
    expected = hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return (hmac.compare_digest(expected, sent.get("v1", ""))
            and abs(time.time() - int(stamp)) < MAX_AGE)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        good = genuine(self.headers.get("X-A67-Signature", ""), body)
        if good:
            message = json.loads(body)
            print(f"{message['type']}: {message['text']}", flush=True)
        self.send_response(204 if good else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
