"""An app that shows its environment and the files of its secrets; it counts signals, and reads the files
when one comes. DEAF=1: it minds no signal. GATE=fifo: it does nothing until somebody has written there.
"""

APP = r"""
import http.server, json, os, signal

if "GATE" in os.environ:
    open(os.environ["GATE"]).read()

PLACE = os.environ.get("A67_SECRETS_DIR")
SEEN = {"signals": 0, "read": {}}

def read():
    return {one: open(os.path.join(PLACE, one)).read() for one in sorted(os.listdir(PLACE))} if PLACE else {}

def told(number, frame):
    SEEN["signals"] += 1
    SEEN["read"] = read()

if os.environ.get("DEAF") != "1":
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, told)

class App(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        body = json.dumps({"env": dict(os.environ), "files": read(), "pid": os.getpid(), **SEEN}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"""
