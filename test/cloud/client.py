"""A small HTTP client for the listener and the apps: one connection a request, nothing retried."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from socket import SHUT_RDWR
from urllib.parse import urlsplit


# What an Ed25519 key begins with in a certificate (RFC 8410).
ED25519_INFO = bytes.fromhex("302a300506032b6570032100")


@dataclass
class Response:
    status: int
    body: bytes
    headers: dict = field(default_factory=dict)

    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode(errors="replace")


def unverified_tls():
    """A context that takes any certificate: of a peer whose key is looked at instead, or of nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _PinnedConnection(http.client.HTTPSConnection):
    """Talks to the holder of one Ed25519 key alone, as the controller does with agents."""

    def __init__(self, *args, key, **more):
        super().__init__(*args, context=unverified_tls(), **more)
        self.key = key

    def connect(self):
        super().connect()
        if ED25519_INFO + self.key not in self.sock.getpeercert(binary_form=True):
            self.close()
            raise ConnectionError("the server does not have the pinned key")


class Client:
    """Requests to one base URL, with an optional bearer token. For https: tls is the context, or
    key the 32 bytes of the Ed25519 key that the server must hold."""

    def __init__(self, base, token=None, timeout=10.0, tls=None, key=None):
        self.base = base.rstrip("/")
        self.token = token
        self.timeout = timeout
        self.tls = tls
        self.key = key

    def as_user(self, token):
        return Client(self.base, token, self.timeout, self.tls, self.key)

    def _connection(self, url):
        if url.scheme != "https":
            return http.client.HTTPConnection(url.hostname, url.port, timeout=self.timeout)
        if self.key is not None:
            return _PinnedConnection(url.hostname, url.port, timeout=self.timeout, key=self.key)
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=self.timeout,
                                           context=self.tls)

    def request(self, method, path="/", body=None, headers=None):
        """Sends body (bytes as they are, everything else as JSON) and returns the Response."""
        url = urlsplit(self.base)
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = self._connection(url)
        try:
            connection.request(method, url.path + path, body=body, headers=sent)
            answer = connection.getresponse()
            return Response(answer.status, answer.read(),
                            {name.lower(): value for name, value in answer.getheaders()})
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {self.base}{path}: {error!r}") from error
        finally:
            connection.close()

    def open(self, method, path, headers=None):
        """Sends a request and returns http.client's response as soon as its head has come; its `hang_up()` ends it."""
        url = urlsplit(self.base)
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        connection = self._connection(url)
        connection.request(method, url.path + path, headers=sent)
        socket = connection.sock
        answer = connection.getresponse()
        answer.hang_up = lambda: socket.shutdown(SHUT_RDWR)
        return answer

    def get(self, path="/", **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def put(self, path, body=None, **more):
        return self.request("PUT", path, body, **more)

    def rpc(self, function, **arguments):
        return self.post(f"/rpc/{function}", arguments)
