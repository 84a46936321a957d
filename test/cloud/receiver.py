"""A web server of the test's own that keeps what is posted to it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Use as a context manager; received is a list of (path, headers in lower case, body).

    status is what it answers, also while it runs; answering is an event: while it is clear, what came
    is kept but not answered. port is a given one, or any that is free.
    """

    def __init__(self, status=204, port=0):
        receiver = self
        self.received = []
        self.status = status
        self.answering = threading.Event()
        self.answering.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append((self.path, headers, body))
                receiver.answering.wait(timeout=60)
                try:
                    self.send_response(receiver.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    self.close_connection = True  # who asked has gone

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.answering.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
