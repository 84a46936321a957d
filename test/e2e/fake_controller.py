"""A controller played by Python, for tests of a67-agent alone: what the protocol page says, and the
misbehaviour that a real one would not show on demand (slow, silent, wrong answers, forged commands).
"""

import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloud import Client, wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def sign(claims, key, header=None):
    """A JWT signed by an Ed25519 key, whatever its header says."""
    head = base64url(compact(header or {"alg": "EdDSA", "typ": "JWT"}))
    text = head + "." + base64url(compact(claims))
    return text + "." + base64url(key.sign(text.encode()))


def raw_public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def unbase64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sodium():
    return ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")


def box_seal(data, ed25519_public):
    """crypto_box_seal for the X25519 key that belongs to an Ed25519 one, in base64."""
    key = ctypes.create_string_buffer(32)
    box = ctypes.create_string_buffer(len(data) + 48)
    assert sodium().crypto_sign_ed25519_pk_to_curve25519(key, ed25519_public) == 0
    assert sodium().crypto_box_seal(box, data, ctypes.c_ulonglong(len(data)), key) == 0
    return base64.b64encode(box.raw).decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _answer(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def do_POST(self):
        controller = self.server.controller
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._answer(*controller.post(self.path, self.headers, json.loads(body)))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self):
        controller = self.server.controller
        try:
            self._answer(*controller.get(self.path, self.headers))
        except (ConnectionError, TimeoutError):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """An agent that is killed resets its connections: nothing to report."""


class FakeController:
    """Answers one agent. Knobs: statuses[path] = status to answer instead; hold = Event to wait for."""

    def __init__(self, interval=0.2, port=0, key=None):
        self.key = key or Ed25519PrivateKey.generate()
        self.secret = secrets.token_bytes(32)
        self.node_id = str(uuid.uuid4())
        self.interval = interval
        self.token_life = 86400
        self.statuses = {}
        self.overrides = {}
        self.hold = None
        self.closed = False
        self.packages = {}
        self.beats = []
        self.taker = None  # what takes batches of output, and answers; None: a controller that knows no logs
        self.seen = []
        self.registrations = []
        self.join_secret = secrets.token_bytes(32)
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.controller = self
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.closed = True  # kept connections get no answer either
        if self.hold is not None:
            self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    # -- what the agent asks ---------------------------------------------------------------------

    def node_token(self):
        now = int(time.time())
        claims = {"sub": self.node_id, "role": "a67_node", "aud": "a67", "iat": now,
                  "exp": now + self.token_life, "jti": secrets.token_hex(8)}
        text = base64url(compact({"alg": "HS256", "typ": "JWT"})) + "." + base64url(compact(claims))
        return text + "." + base64url(hmac.digest(self.secret, text.encode(), "sha256"))

    def _known(self, headers):
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        text, _, signature = token.rpartition(".")
        good = base64url(hmac.digest(self.secret, text.encode(), "sha256"))
        return hmac.compare_digest(good, signature)

    def _wait(self):
        hold = self.hold
        if hold is not None:
            hold.wait(60)
        if self.closed:
            raise ConnectionError("closed")

    def post(self, path, headers, body):
        self.seen.append(path)
        self._wait()
        if path in self.statuses:
            return self.statuses[path], compact({"code": "X", "message": "said the test",
                                                 "details": None, "hint": None})
        if path == "/api/v1/nodes/register":
            self.registrations.append(body)
            answer = {"node_id": self.node_id, "node_token": self.node_token(),
                      "controller_endpoint": self.url, "heartbeat_interval": self.interval,
                      "controller_key": base64url(raw_public(self.key)), **self.overrides}
            return 201, compact(answer)
        if not self._known(headers):
            return 401, compact({"code": "PT401", "message": "who are you"})
        if path == "/rpc/node_token_renew":
            return 200, compact({"node_token": self.node_token(), "expires_in": self.token_life})
        if path == "/api/v1/nodes/heartbeat":
            self.beats.append(body)
            return 204, b""
        if path == "/api/v1/nodes/logs" and self.taker is not None:
            return self.taker(body)
        return 404, compact({"code": "PT404", "message": "no such path"})

    def get(self, path, headers):
        self.seen.append(path)
        self._wait()
        digest = path.removeprefix("/api/v1/packages/")
        if path in self.statuses:
            return self.statuses[path], b"{}"
        if not self._known(headers):
            return 401, b"{}"
        if digest not in self.packages:
            return 404, b"{}"
        return 200, self.packages[digest], "application/gzip"

    # -- what tests ask --------------------------------------------------------------------------

    def node_key(self):
        return unbase64url(self.registrations[-1]["public_key"])

    def seal(self, replica_id, env=None, secret=None):
        """What sealed_env carries to this node."""
        return box_seal(compact({"replica": replica_id, "env": env or {}, "secrets": secret or {}}),
                        self.node_key())

    def join_token(self, key=None):
        return (f"a67j.{base64url(self.join_secret)}."
                f"{base64url(raw_public(key or self.key))}")

    def package(self, content, digest=None):
        """Offers a package; digest: under another name than its own."""
        digest = digest or hashlib.sha256(content).hexdigest()
        self.packages[digest] = content
        return {"digest": digest, "path": f"/api/v1/packages/{digest}"}

    def replica(self, replica_id):
        """The replica as the last heartbeat showed it, or None."""
        for one in self.beats[-1]["replicas"] if self.beats else []:
            if one["id"] == replica_id:
                return one
        return None

    def wait_state(self, replica_id, state, timeout=20.0):
        return wait_until(f"replica is {state}", lambda: self.replica(replica_id), timeout,
                          until=lambda one: one is not None and one["state"] == state)

    def last_beat(self):
        """The one that was sent last: another may arrive after it, when a goodbye cut it off."""
        return max(self.beats, key=lambda beat: beat["seq"])

    def wait_beat(self, count=1, timeout=20.0):
        """The last beat, once `count` more have come."""
        want = len(self.beats) + count
        wait_until("heartbeats", lambda: len(self.beats), timeout, until=lambda n: n >= want)
        return self.beats[-1]


class Commands:
    """Sends commands to an agent, signed as the controller would, or wrongly."""

    def __init__(self, controller, url):
        self.controller = controller
        self.client = Client(url, timeout=10.0, key=controller.node_key())

    def claims(self, method, path, body=b"", /, **changes):
        now = int(time.time())
        whole = {"aud": self.controller.node_id, "iat": now, "exp": now + 30,
                 "jti": secrets.token_hex(12), "method": method, "path": path,
                 "body_sha256": hashlib.sha256(body).hexdigest(), **changes}
        return {name: value for name, value in whole.items() if value is not None}

    def send(self, method, path, body=None, token=None):
        data = b"" if body is None else body if isinstance(body, bytes) else compact(body)
        if token is None:
            token = sign(self.claims(method, path, data), self.controller.key)
        headers = {"Authorization": f"Bearer {token}"}
        if data:
            headers["Content-Type"] = "application/json"
        return self.client.request(method, path, data or None, headers)

    def open(self, method, path):
        """The same without a body, for an answer that goes on: it is to be read, and closed."""
        token = sign(self.claims(method, path), self.controller.key)
        return self.client.open(method, path, {"Authorization": f"Bearer {token}"})

    def put(self, replica_id, desired):
        """env and secrets are sealed on the way; the version that goes with them tells them apart."""
        sent = dict(desired)
        env, secret = sent.pop("env", None), sent.pop("secrets", None)
        if env or secret:
            sent.setdefault("sealed_env", self.controller.seal(replica_id, env, secret))
            sent.setdefault("env_version", hashlib.sha256(compact([env, secret])).hexdigest()[:32])
        return self.send("PUT", f"/v1/replicas/{replica_id}", sent)

    def delete(self, replica_id, generation):
        return self.send("DELETE", f"/v1/replicas/{replica_id}?generation={generation}")

    def list(self):
        return self.send("GET", "/v1/replicas").json()

    def logs(self, replica_id, tail=16384):
        return self.send("GET", f"/v1/replicas/{replica_id}/logs?tail={tail}")

    def get(self, path):
        return self.client.get(path)


def ask_app(port, path="/", timeout=5.0):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
