"""Chunks of an agent as its controller handles them, and as a client that misbehaves on the wire does."""

import hashlib
import os
import socket
import time
from urllib.parse import urlsplit

from cloud.client import unverified_tls
from fake_controller import sign


def chunk(size, seed=0):
    """(bytes, digest): other bytes for each seed, the same at each call."""
    block = hashlib.sha256(str(seed).encode()).digest() * 2048
    data = (block * (size // len(block) + 1))[:size]
    return data, hashlib.sha256(data).hexdigest()


def digest_path(digest):
    return f"/v1/chunks/{digest}"


# The fraction of a second by which an agent knows its own mark in a modification time.
MARK_NS = 670_067_000


def plant(chunks, count):
    """Files that look like verified chunks, made while no agent runs; returns their digests in order."""
    names = sorted(hashlib.sha256(b"%d" % number).hexdigest() for number in range(count))
    now = int(time.time()) * 10**9 + MARK_NS
    for name in names:
        path = chunks.file(name)
        if not path.parent.exists():
            path.parent.mkdir()
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o400))
        os.utime(path, ns=(now, now))
    return names


class Chunks:
    """The chunk store of one AgentAlone."""

    def __init__(self, alone):
        self.alone = alone

    @property
    def folder(self):
        return self.alone.state / "chunks"

    def file(self, digest):
        return self.folder / digest[:2] / digest

    def temps(self):
        return sorted(os.listdir(self.folder / "tmp"))

    def token(self, method, path, body_sha256=None):
        changes = {} if body_sha256 is None else {"body_sha256": body_sha256}
        return sign(self.alone.commands.claims(method, path, b"", **changes), self.alone.controller.key)

    def send(self, method, path, body=None, body_sha256=None, headers=None, token=None):
        token = token or self.token(method, path, body_sha256)
        return self.alone.commands.client.request(
            method, path, body, {"Authorization": f"Bearer {token}", **(headers or {})})

    def put(self, data, digest=None, **more):
        digest = digest or hashlib.sha256(data).hexdigest()
        more.setdefault("body_sha256", digest)
        return self.send("PUT", digest_path(digest), data, **more)

    def get(self, digest, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("GET", digest_path(digest), headers=named)

    def head(self, digest):
        return self.send("HEAD", digest_path(digest))

    def delete(self, digest):
        return self.send("DELETE", digest_path(digest))

    def list(self, query=""):
        return self.send("GET", "/v1/chunks" + query)

    def every(self, limit=1000, query=""):
        """The whole inventory, page by page."""
        found, after = [], None
        while True:
            page = self.list(f"?limit={limit}{query}" + (f"&after={after}" if after else "")).json()
            found += page["chunks"]
            after = page["next"]
            if after is None:
                return found

    def rot(self, digest, at=0, unseen=True):
        """Flips a bit of a stored chunk; unseen: as a disk does, not as a writer."""
        path = self.file(digest)
        before = os.stat(path)
        os.chmod(path, 0o600)
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
        if unseen:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def age(self, digest, seconds):
        """Makes its last verification so much older."""
        stat = os.stat(self.file(digest))
        os.utime(self.file(digest), ns=(stat.st_atime_ns, stat.st_mtime_ns - seconds * 10**9))

    def metric(self, name):
        """A figure of GET /metrics without labels."""
        for line in self.alone.commands.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    # -- on the wire -----------------------------------------------------------------------------

    def connect(self):
        url = urlsplit(self.alone.commands.client.base)
        plain = socket.create_connection((url.hostname, url.port), timeout=10)
        return plain if url.scheme == "http" else unverified_tls().wrap_socket(plain)

    def begin_put(self, digest, length, connection=None):
        """Sends the head of a PUT, and nothing else; returns the connection."""
        connection = connection or self.connect()
        path = digest_path(digest)
        connection.sendall(
            f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n"
            f"Authorization: Bearer {self.token('PUT', path, digest)}\r\n\r\n".encode())
        return connection


def read_status(connection, timeout=20):
    """The status of the answer on a raw connection; None when it ends without one."""
    connection.settimeout(timeout)
    text = b""
    until = time.monotonic() + timeout
    while b"\r\n" not in text and time.monotonic() < until:
        try:
            piece = connection.recv(4096)
        except ConnectionError:
            return None
        if not piece:
            return None
        text += piece
    return int(text.split()[1])
