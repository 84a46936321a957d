"""Mailbox: a mail server of the test's own (aiosmtpd) that keeps what it is given."""

import email
import email.policy
import socket
import ssl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from . import process

USERNAME, PASSWORD = "a67", "T0pSecret mail"


def certificate(folder):
    """A certificate for 127.0.0.1 that signs itself, and its key: (certificate, key)."""
    key, crt = folder / "mail.key", folder / "mail.crt"
    process.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-keyout", key, "-out", crt, "-days", "2", "-subj", "/CN=127.0.0.1",
                 "-addext", "subjectAltName=IP:127.0.0.1"])
    return crt, key


class Mailbox:
    """Use as a context manager. mails is a list of (envelope, parsed message); tls is "none",
    "starttls" (required, as is a login) or "tls"; refuse is a reply to recipients, e.g. "550 no"."""

    def __init__(self, tls="none", pair=None, refuse=None):
        self.mails = []
        self.logins = []
        self.refuse = refuse
        context = None
        if pair is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*map(str, pair))
        options = {"hostname": "127.0.0.1", "port": _free_port()}
        if tls == "tls":
            options["ssl_context"] = context
        elif tls == "starttls":
            options.update(tls_context=context, require_starttls=True, auth_required=True,
                           authenticator=self._authenticate)
        self.controller = _Controller(self, **options)
        self.port = options["port"]

    def __enter__(self):
        self.controller.start()
        return self

    def __exit__(self, *_):
        self.controller.stop()

    def _authenticate(self, server, session, envelope, mechanism, data):
        good = (isinstance(data, LoginPassword) and data.login == USERNAME.encode()
                and data.password == PASSWORD.encode())
        self.logins.append((mechanism, good))
        return AuthResult(success=good, handled=False)

    # -- what aiosmtpd calls -------------------------------------------------------------------

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.refuse is not None:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((envelope, message))
        return "250 OK"


class _Controller(Controller):
    def _trigger_server(self):
        """A server that speaks TLS at once does so with its own certificate: just see that it listens."""
        with socket.create_connection((self.hostname, self.port), timeout=5):
            pass


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
