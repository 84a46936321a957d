"""The API as its clients have it: one base URL, users who register, and the doors that lead to it.

A door is the listener itself, HAProxy in front of it, or PostgREST on the same database; the same
calls go through each. Door programs run with the configurations of docs/config as they are shipped,
only addresses changed.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import shutil
import struct
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from . import process
from .client import Client
from .server import DATABASE, free_port
from .wait import wait_until

CONFIG = Path(__file__).resolve().parent.parent.parent / "docs" / "config"
PASSWORD = "correct horse battery"


@dataclass
class Person:
    """A registered user: her client carries the access token."""

    email: str
    user_id: str
    client: Client
    refresh_token: str

    def rpc(self, function, **arguments):
        return self.client.rpc(function, **arguments)


class Api:
    """One door: where it is, and an administrator's token for what users may not do."""

    def __init__(self, door, base, admin_token):
        self.door = door
        self.anonymous = Client(base)
        self.admin = Client(base, admin_token)

    @property
    def is_postgrest(self):
        return self.door == "postgrest"

    def rpc(self, function, **arguments):
        return self.anonymous.rpc(function, **arguments)

    def person(self, name="user", password=PASSWORD):
        """Registers somebody new."""
        email = f"{name}-{uuid.uuid4().hex[:16]}@example.org"
        answer = self.rpc("auth_register", email=email, password=password)
        assert answer.status == 201, (answer.status, answer.text)
        body = answer.json()
        return Person(email, body["user_id"], self.anonymous.as_user(body["access_token"]),
                      body["refresh_token"])

    def login(self, person, password=PASSWORD, **more):
        """A second session of hers."""
        answer = self.rpc("auth_login", email=person.email, password=password, **more)
        assert answer.status == 200, (answer.status, answer.text)
        body = answer.json()
        return Person(person.email, person.user_id, self.anonymous.as_user(body["access_token"]),
                      body["refresh_token"])


def totp(secret, step_offset=0):
    """The one-time password (RFC 6238) of a base32 secret, so many steps from now."""
    seed = base64.b32decode(secret + "=" * (-len(secret) % 8))
    counter = struct.pack(">Q", int(time.time()) // 30 + step_offset)
    digest = hmac.new(seed, counter, hashlib.sha1).digest()
    (number,) = struct.unpack_from(">I", digest, digest[-1] & 15)
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06d}"


def token_part(token, part):
    """Header (0) or claims (1) of a JWT, as bytes; the token is not verified."""
    text = token.split(".")[part]
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise AssertionError(f"not base64url: {text!r}") from error


def program(name):
    """A program on PATH or where Debian keeps daemons; None when there is none."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/sbin")


class Daemon:
    """A program that runs until stop(), its output in a file."""

    def __init__(self, argv, log, **env):
        self.log = log
        self.popen = process.spawn(argv, log, **env)

    def wait_answering(self, url, timeout=20):
        """Waits until the server there answers anything that is no error of its own."""

        def answers():
            if self.popen.poll() is not None:
                raise RuntimeError(f"{self.popen.args[0]} exited with {self.popen.returncode}:\n"
                                   f"{process.tail(self.log)}")
            return Client(url, timeout=2).get("/").status

        wait_until(f"{url} answers", answers, timeout, until=lambda status: status < 500)
        return url

    def stop(self):
        one = process.look(self.popen.pid)
        if one is not None:
            process.end([one, *process.children(one.pid)])
        self.popen.wait(timeout=10)


def haproxy(folder, **addresses):
    """HAProxy with the shipped configuration; addresses are its A67_… variables. (daemon, URLs)"""
    binds = {"A67_BIND": f"127.0.0.1:{free_port()}", "A67_POSTGREST_BIND": f"127.0.0.1:{free_port()}"}
    daemon = Daemon([program("haproxy"), "-db", "-f", CONFIG / "haproxy.cfg"],
                    Path(folder) / "haproxy.log", **binds, **addresses)
    return daemon, {name: f"http://{address}" for name, address in binds.items()}


def postgrest(cluster, jwks, **more):
    """PostgREST with the shipped configuration, changed by more, on this cluster's database. (daemon, URL)"""
    keys = cluster.folder / "a67.jwks"
    keys.write_text(jwks)
    keys.chmod(0o600)
    process.own(keys)
    port = free_port()
    changes = {
        "db-uri": f'"postgresql://a67_authenticator@/{DATABASE}?host={cluster.socket}"',
        "jwt-secret": f'"@{keys}"',
        "server-port": port,
        **more,
    }
    text = (CONFIG / "postgrest.conf").read_text()
    for name, value in changes.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        assert count == 1, f"docs/config/postgrest.conf sets {name} {count} times"
    path = cluster.folder / "postgrest.conf"
    path.write_text(text)
    process.own(path)
    daemon = Daemon([program("postgrest"), path], cluster.folder / "postgrest.log")
    return daemon, f"http://127.0.0.1:{port}"
