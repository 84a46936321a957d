"""The agent's own HTTPS: its key is its certificate, and nobody but its controller gets anywhere. Before that,
its first contact with a controller, which it does not trust until it has seen the pinned key.
"""

import base64
import datetime
import hashlib
import os
import socket
import ssl
import stat
import threading
import time

import pytest
from agent_alone import desired, new_id, sanitized
from cloud import wait_until
from cloud.client import ED25519_INFO, Client, unverified_tls
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (Encoding, NoEncryption, PrivateFormat,
                                                          PublicFormat)
from fake_controller import base64url, raw_public, sign

HANDSHAKES = {0x14, 0x15, 0x16}  # kinds of TLS records: change cipher spec, alert, handshake
STALLED_S = 5  # the agent's patience with a request that does not come


def port_of(agent):
    return int(agent.ready_line.rsplit(":", 1)[1])


def dial(agent):
    return socket.create_connection(("127.0.0.1", port_of(agent)), timeout=10)


def certificate_for(key, folder):
    """A self-signed certificate of the key; returns the files of both."""
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "recorder")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(1)
            .not_valid_before(datetime.datetime(2020, 1, 1))
            .not_valid_after(datetime.datetime(2049, 1, 1)).sign(key, None))
    certificate, secret = folder / f"{id(key)}.crt", folder / f"{id(key)}.key"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, secret


def pin_of(key):
    return hashlib.sha256(key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class Recorder:
    """A TLS server on a port of its own. It keeps every byte that comes, sealed and opened, and answers nothing."""

    def __init__(self, key, folder, port=0):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate_for(key, folder))
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.raw = []  # of each connection
        self.opened = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client:
                self._record(client)

    def _record(self, client):
        """Shakes hands over memory, so that what was really sent can be looked at."""
        client.settimeout(2)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        raw, opened, shaken = b"", b"", False
        try:
            while True:
                try:
                    if not shaken:
                        tls.do_handshake()
                        shaken = True
                    opened += tls.read(65536)
                except ssl.SSLWantReadError:
                    pass
                client.sendall(outgoing.read())
                data = client.recv(65536)
                if not data:
                    break
                raw += data
                incoming.write(data)
        except OSError:
            pass
        self.raw.append(raw)
        self.opened.append(opened)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


# -- first contact ---------------------------------------------------------------------------------


def test_nothing_is_said_before_the_controller_has_shown_its_key(alone, tmp_path):
    """A server with another key than the token's pin hears a handshake and no more."""
    pinned, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    recorder = Recorder(other, tmp_path)
    secret = base64url(alone.controller.join_secret)
    token = f"{alone.controller.join_token()}.{base64url(pin_of(pinned))}"
    try:
        alone.start("join", f"https://127.0.0.1:{recorder.port}", token, "--name", "oak-of-mine", wait=False)
        wait_until("two attempts", lambda: len(recorder.raw), until=lambda count: count >= 2)
    finally:
        recorder.close()
    assert recorder.opened[:2] == [b"", b""]
    node_key = base64.urlsafe_b64decode((alone.state / "node.key").read_text().strip() + "=")
    public = raw_public(Ed25519PrivateKey.from_private_bytes(node_key))
    for raw in recorder.raw:
        assert raw[0] == 0x16 and len(raw) < 2000
        for word in (secret.encode(), alone.controller.join_secret, b"oak-of-mine", public,
                     base64url(public).encode(), b"POST", b"a67"):
            assert word not in raw
    assert alone.text().count("not the pinned one") == 1, "said once, though tried again"
    # The key pair was there before; a registration is not.
    assert stat.S_IMODE((alone.state / "node.key").stat().st_mode) == 0o600
    assert not (alone.state / "node.json").exists()
    assert alone.popen.poll() is None


def test_with_the_pinned_key_the_registration_comes_at_once(alone, tmp_path):
    pinned = Ed25519PrivateKey.generate()
    recorder = Recorder(pinned, tmp_path)
    token = f"{alone.controller.join_token()}.{base64url(pin_of(pinned))}"
    try:
        alone.start("join", f"https://127.0.0.1:{recorder.port}", token, wait=False)
        wait_until("what it says", lambda: recorder.opened)
    finally:
        recorder.close()
    assert recorder.opened[0].startswith(b"POST /api/v1/nodes/register HTTP/1.1\r\n")
    kinds = set()
    raw = recorder.raw[0]
    while raw:
        kinds.add(raw[0])
        raw = raw[5 + int.from_bytes(raw[3:5], "big"):]
    assert kinds - HANDSHAKES == {0x17}


@pytest.mark.parametrize("url", ["http://192.0.2.1:6767", "http://controller.example.org:6767",
                                 "http://127.0.0.1.example.org:6767", "http://[2001:db8::1]"])
def test_plain_http_is_for_a_controller_on_this_machine(alone, url):
    alone.start("join", url, alone.controller.join_token(), wait=False)
    assert alone.status() == 100
    assert "https URL" in alone.text() and url in alone.text()


def test_token_and_key_are_the_users_alone(alone):
    alone.start()
    for name in ("node.key", "node.json"):
        assert stat.S_IMODE((alone.state / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(alone.state.stat().st_mode) == 0o700


def test_once_registers_and_ends(alone):
    alone.start("join", alone.controller.url, alone.controller.join_token(), "--once", wait=False)
    assert alone.status() == 0
    assert f"a67-agent: joined node={alone.controller.node_id} listen=https://" in alone.text()
    assert len(alone.controller.registrations) == 1 and alone.controller.beats == []
    alone.run_again()
    alone.controller.wait_beat()
    assert len(alone.controller.registrations) == 1
    assert alone.ready_line.rsplit("listen=", 1)[1] == alone.controller.registrations[0]["endpoint"]


def test_url_and_token_from_the_environment_leave_no_token_there(alone):
    alone.start("join", A67_URL=alone.controller.url, A67_TOKEN=alone.controller.join_token())
    if os.geteuid() == 0:
        assert b"a67j." not in open(f"/proc/{alone.popen.pid}/environ", "rb").read()
    alone.kill()
    # A container starts the same command again.
    alone.start("join", A67_URL=alone.controller.url, A67_TOKEN=alone.controller.join_token())
    assert len(alone.controller.registrations) == 1


def test_service_manager_is_told_when_ready(alone):
    path = alone.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        alone.start(NOTIFY_SOCKET=str(path))
        assert manager.recv(100) == b"READY=1"


def test_registration_of_another_key_is_put_aside(alone):
    alone.start()
    alone.kill()
    (alone.state / "node.key").unlink()
    alone.start("run", wait=False)
    assert alone.status() == 111
    assert "not registered" in alone.text() and (alone.state / "node.json.corrupt").exists()


# -- the server --------------------------------------------------------------------------------------


def test_certificate_is_the_registered_key(shared_agent):
    sent = shared_agent.controller.registrations[-1]
    assert sent["endpoint"].startswith("https://127.0.0.1:")
    with unverified_tls().wrap_socket(dial(shared_agent)) as tls:
        der = tls.getpeercert(binary_form=True)
        assert tls.version() == "TLSv1.3"
    assert ED25519_INFO + shared_agent.controller.node_key() in der
    certificate = x509.load_der_x509_certificate(der)
    certificate.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes)
    assert raw_public(Ed25519PrivateKey.generate()) != shared_agent.controller.node_key()


def test_another_key_is_not_taken_for_it(shared_agent):
    stranger = Client(shared_agent.ready_line.rsplit("listen=", 1)[1],
                      key=raw_public(Ed25519PrivateKey.generate()))
    with pytest.raises(ConnectionError, match="pinned key"):
        stranger.get("/health")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_2_is_the_least(shared_agent):
    context = unverified_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(dial(shared_agent)) as tls:
        assert tls.version() == "TLSv1.2"
        tls.sendall(b"GET /health HTTP/1.1\r\nHost: n\r\n\r\n")
        assert tls.recv(4096).startswith(b"HTTP/1.1 200 ")
    old = unverified_tls()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(dial(shared_agent))


def test_plain_http_gets_no_answer(shared_agent):
    with dial(shared_agent) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: n\r\n\r\n")
        try:
            said = plain.recv(4096)
        except ConnectionError:
            said = b""
    assert not said.startswith(b"HTTP")


def test_command_of_one_connection_is_spent_on_all(shared_agent):
    path = f"/v1/replicas/{new_id()}?generation=1"
    token = sign(shared_agent.commands.claims("DELETE", path), shared_agent.controller.key)
    assert shared_agent.commands.send("DELETE", path, token=token).status == 404
    assert shared_agent.commands.send("DELETE", path, token=token).status == 401
    # The query is part of what was signed.
    token = sign(shared_agent.commands.claims("DELETE", path), shared_agent.controller.key)
    assert shared_agent.commands.send("DELETE", path[:-1] + "2", token=token).status == 401
    assert shared_agent.commands.send("DELETE", path + "&x=1", token=token).status == 401
    assert shared_agent.commands.send("DELETE", path, token=token).status == 404


def test_body_is_compared_with_what_was_signed(shared_agent):
    replica = new_id()
    body = str(desired(shared_agent.app)).encode()
    token = sign(shared_agent.commands.claims("PUT", f"/v1/replicas/{replica}", body), shared_agent.controller.key)
    answer = shared_agent.commands.send("PUT", f"/v1/replicas/{replica}", body + b" ", token)
    assert answer.status == 401 and "another body" in answer.json()["message"]


def test_insecure_loopback_serves_plain_http(alone):
    alone.start("join", alone.controller.url, alone.controller.join_token(), "--insecure-loopback")
    assert alone.controller.registrations[-1]["endpoint"].startswith("http://127.0.0.1:")
    assert alone.commands.get("/health").status == 200
    alone.deploy()
    alone.kill()
    alone.run_again()
    assert "knows this node by its http endpoint" in alone.text()
    assert alone.ready_line.rsplit("listen=", 1)[1].startswith("https://")


# -- clients that stall --------------------------------------------------------------------------------


def closed(sock):
    """Whether the agent has hung up."""
    sock.settimeout(0)
    try:
        while sock.recv(65536):
            continue
        return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def test_stalled_clients_hold_up_nobody(alone):
    """More than the agent takes, in every stage of a connection, and it beats and obeys as ever."""
    alone.start()
    replica = alone.deploy()
    context = unverified_tls()
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # of a handshake that never goes on
    mute, halves, drips = [], [], []
    try:
        for _ in range(30):
            mute.append(dial(alone))
            halves.append(dial(alone))
            halves[-1].sendall(hello)
        for _ in range(30):
            drips.append(context.wrap_socket(dial(alone)))
            drips[-1].sendall(b"GET /health HTTP/1.1\r\n")
        begun = time.monotonic()
        for _ in range(5):
            assert alone.commands.get("/health").status == 200
            assert alone.commands.list()[0]["state"] == "running"
            alone.controller.wait_beat(timeout=2)
        assert alone.controller.replica(replica)["state"] == "running"
        assert time.monotonic() - begun < 4
        # A header byte a second is no excuse: the whole head has its time.
        def all_gone():
            for drip in drips:
                try:
                    drip.sendall(b"X")
                except OSError:
                    pass
            return all(closed(one) for one in mute + halves + drips)
        wait_until("they are cut off", all_gone, timeout=STALLED_S + 5, interval=0.5)
    finally:
        for one in mute + halves + drips:
            one.close()
    assert alone.commands.get("/health").status == 200


def test_body_that_does_not_come_holds_up_nobody(alone):
    alone.start()
    replica = new_id()
    path = f"/v1/replicas/{replica}"
    token = sign(alone.commands.claims("PUT", path, b"x" * 1000), alone.controller.key)
    with unverified_tls().wrap_socket(dial(alone)) as slow:
        slow.sendall(f"PUT {path} HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer {token}\r\n"
                     "Content-Length: 1000\r\n\r\nxxx".encode())
        assert alone.commands.get("/health").status == 200
        alone.controller.wait_beat(2)
        assert alone.commands.list() == []


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


@pytest.mark.skipif(sanitized(), reason="sanitizers have memory of their own")
def test_memory_of_clients_is_bounded(alone):
    alone.start()
    pid = alone.popen.pid
    wait_until("memory that only the start needed is given back", lambda: resident_kb(pid),
               until=lambda kb: kb <= 6 * 1024)
    context = unverified_tls()
    clients = []
    try:
        for _ in range(200):
            clients.append(context.wrap_socket(dial(alone)))
            clients[-1].sendall(b"GET /health HTTP/1.1\r\nHost: n\r\n\r\n")
        for one in clients[-64:]:
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")
        used = resident_kb(pid)
        assert used < 12 * 1024
        assert sum(not closed(one) for one in clients) <= 64
    finally:
        for one in clients:
            one.close()


def test_signal_during_a_handshake_ends_it(alone):
    alone.start()
    with dial(alone) as mute:
        mute.sendall(b"\x16\x03\x01")
        assert alone.terminate() == 0


# -- the controller's side -----------------------------------------------------------------------------


def test_controller_tells_a_stranger_in_a_nodes_place_nothing(make_cloud, tmp_path):
    """Whoever takes over the address of a node gets neither a command nor a token."""
    cloud = make_cloud()
    elm, = cloud.join("elm")
    endpoint = cloud.cluster.value("SELECT endpoint FROM a67_internal.node WHERE name = 'elm'")
    assert endpoint.startswith("https://")
    elm.kill_node()
    recorder = Recorder(Ed25519PrivateKey.generate(), tmp_path, int(endpoint.rsplit(":", 1)[1]))
    try:
        wait_until("probes", lambda: len(recorder.raw), until=lambda count: count >= 2)
        cloud.wait_nodes("failed", "elm")
    finally:
        recorder.close()
    assert [one for one in recorder.opened if one] == []
