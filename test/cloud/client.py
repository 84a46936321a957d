"""A small HTTP client for the listener and the apps: one connection a request, nothing retried."""

import http.client
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit


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


class Client:
    """Requests to one base URL, with an optional bearer token; tls is the context for https."""

    def __init__(self, base, token=None, timeout=10.0, tls=None):
        self.base = base.rstrip("/")
        self.token = token
        self.timeout = timeout
        self.tls = tls

    def as_user(self, token):
        return Client(self.base, token, self.timeout, self.tls)

    def request(self, method, path="/", body=None, headers=None):
        """Sends body (bytes as they are, everything else as JSON) and returns the Response."""
        url = urlsplit(self.base)
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=self.timeout,
                                                     context=self.tls)
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=self.timeout)
        try:
            connection.request(method, url.path + path, body=body, headers=sent)
            answer = connection.getresponse()
            return Response(answer.status, answer.read(),
                            {name.lower(): value for name, value in answer.getheaders()})
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {self.base}{path}: {error!r}") from error
        finally:
            connection.close()

    def get(self, path="/", **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def put(self, path, body=None, **more):
        return self.request("PUT", path, body, **more)

    def rpc(self, function, **arguments):
        return self.post(f"/rpc/{function}", arguments)
