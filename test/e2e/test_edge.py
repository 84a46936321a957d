"""The edge of the listener: limits, client addresses, TLS, pinned join tokens, other origins."""

import json
import shutil
import socket
import ssl
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest
from cloud import Agent, Client, Cluster, process, wait_until
from cloud.server import run_directory

READ = "/api/v1/nodes"
BEAT = {"boot_id": "0123456789abcdef", "seq": 1, "state_version": 0, "metrics": {}, "replicas": []}
NODE = {"endpoint": "http://127.0.0.1:9", "public_key": "A" * 43,
        "capabilities": {"cpu_cores": 1, "memory_gb": 0.5, "disk_gb": 1}}


@pytest.fixture
def make_cluster():
    """A server of this test alone: make_cluster(rate_limits=…)."""
    made = []

    def make(**settings):
        made.append(Cluster(settings={f"a67.{name}": value for name, value in settings.items()}))
        return made[-1].create()

    yield make
    for cluster in made:
        cluster.destroy()


@pytest.fixture
def folder():
    """A directory in which the run user can read and write."""
    made = Path(tempfile.mkdtemp(prefix="f-", dir=run_directory()))
    made.chmod(0o755)
    process.own(made)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def user(cluster, email="ann@example.org"):
    """A client with the token of a new user."""
    return cluster.client(cluster.value("SELECT a67.token_create(a67.user_create(%s))", email))


def statuses(client, count, path=READ, **more):
    return [client.get(path, **more).status for _ in range(count)]


def reload(cluster, **changes):
    cluster.configure(**{f"a67.{name}": value for name, value in changes.items()})
    cluster.execute("SELECT pg_reload_conf()")


def logged(cluster, text):
    wait_until(f"the server's log says {text!r}", lambda: text in cluster.log.read_text())


# -- limits ----------------------------------------------------------------------------------------


def test_a_client_over_its_limit_is_told_when_to_come_back(make_cluster):
    ann = user(make_cluster(rate_limits="read=2/s:3"))
    first = ann.get(READ)
    assert first.status == 200
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("3", "2")
    assert first.headers["ratelimit-reset"] == "1"
    refused = wait_until("a read is refused", lambda: ann.get(READ),
                         until=lambda answer: answer.status != 200, interval=0)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.json() == {"code": "HTTP429", "message": "too many requests", "details": None,
                              "hint": None}
    assert "x-request-id" in refused.headers
    wait_until("reads are allowed again", lambda: ann.get(READ).status, until=lambda s: s == 200)


def test_users_and_classes_have_limits_of_their_own(make_cluster):
    cluster = make_cluster(rate_limits="read=1/h:2, write=1/h:3")
    ann, bob = user(cluster), user(cluster, "bob@example.org")
    assert statuses(ann, 3) == [200, 200, 429]
    assert statuses(bob, 3) == [200, 200, 429]
    assert [ann.rpc("version").status for _ in range(4)] == [200, 200, 200, 429]


def test_a_function_is_limited_by_whichever_path_it_is_called(make_cluster):
    ann = user(make_cluster(rate_limits="read=1/h:2, write=1/h:9"))
    assert statuses(ann, 2) == [200, 200]
    assert ann.rpc("node_list").status == 429
    assert ann.get("/rpc/node_list").status == 429


def test_strangers_are_limited_by_address_and_health_is_not(make_cluster):
    cluster = make_cluster(rate_limits="address=1/h:4")
    client = cluster.client()
    assert client.rpc("version").headers["ratelimit-limit"] == "4"
    assert client.get("/no/such/path").status == 404
    assert client.request("OPTIONS", READ).status == 204
    assert client.as_user("not.a.token").get(READ).status == 401
    assert client.rpc("version").status == 429
    assert client.get("/no/such/path").status == 429
    assert user(cluster).get(READ).status == 429, "a token does not help an address over its limit"
    assert statuses(client, 20, "/healthz") + statuses(client, 20, "/readyz") == [200] * 40


def test_guesses_at_passwords_are_limited_by_address_on_all_listeners(make_cluster):
    cluster = make_cluster(rate_limits="auth=5/h:5", listeners="3")
    wait_until("three listeners are there",
               lambda: cluster.value("SELECT count(*) FROM a67.listener"), until=lambda n: n == 3)
    guess = {"email": "ann@example.org", "password": "not the password"}
    found = [cluster.client().post("/api/v1/auth/login", guess) for _ in range(12)]
    assert [answer.status for answer in found] == [401] * 5 + [429] * 7
    assert 0 < int(found[-1].headers["retry-after"]) <= 720
    # Other names do not help, other paths are not hindered.
    guess["email"] = "bob@example.org"
    assert cluster.client().post("/api/v1/auth/login", guess).status == 429
    assert cluster.client().rpc("version").status == 200


def test_heartbeats_are_limited_by_node_and_not_by_a_local_address(make_cluster):
    cluster = make_cluster(rate_limits="address=1/h:3, heartbeat=1/h:2")

    def join(name, key):
        token = cluster.value("SELECT a67.join_token_create() ->> 'token'")
        answer = cluster.client().post("/api/v1/nodes/register", {
            **NODE, "join_token": token, "name": name, "public_key": key * 43})
        assert answer.status == 201, answer.text
        return cluster.client(answer.json()["node_token"])

    one, two = join("one", "A"), join("two", "E")
    for node in (one, two):
        beats = [node.post("/api/v1/nodes/heartbeat", BEAT) for _ in range(3)]
        assert [beat.status for beat in beats] == [204, 204, 429]
        assert "ratelimit-limit" not in beats[0].headers
        assert int(beats[2].headers["retry-after"]) > 3000
    assert cluster.client().rpc("version").status == 200, "the third that the address may send"
    assert cluster.client().rpc("version").status == 429


def test_limits_follow_a_reload_and_can_be_off(make_cluster):
    cluster = make_cluster(rate_limits="read=1/h:1")
    ann = user(cluster)
    assert statuses(ann, 2) == [200, 429]
    reload(cluster, rate_limits="off")
    answer = wait_until("reads are allowed", lambda: ann.get(READ),
                        until=lambda found: found.status == 200)
    assert not [name for name in answer.headers if name.startswith("ratelimit")]
    assert statuses(ann, 50) == [200] * 50


def test_the_table_of_clients_does_not_grow(make_cluster):
    """More clients than it has room for: it goes on counting."""
    cluster = make_cluster(rate_limits="address=1/h:1", trusted_proxies="127.0.0.1", max_nodes="16")
    requests = b"".join(
        b"GET /x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.%d.%d.%d\r\n\r\n"
        % (i >> 16, i >> 8 & 255, i & 255) for i in range(50000))
    address = cluster.row("SELECT address, port FROM a67.listener")
    with socket.create_connection((address["address"], address["port"]), timeout=60) as flood:
        writer = threading.Thread(target=flood.sendall, args=(requests,))
        writer.start()
        answers, tail, refused = 0, b"", 0
        while answers < 50000:
            piece = tail + flood.recv(1 << 20)
            answers += piece.count(b"HTTP/1.1 404") + piece.count(b"HTTP/1.1 429")
            refused += piece.count(b"HTTP/1.1 429")
            tail = piece[-11:]
            tail = tail if b"HTTP/1.1 4" not in tail else b""
        writer.join()
    assert refused == 0
    last = {"X-Forwarded-For": "10.0.195.79"}
    assert statuses(cluster.client(), 1, "/x", headers=last) == [429]


@pytest.mark.parametrize("name, value, detail", [
    ("rate_limits", "read=1/day", "The rate of class"),
    ("rate_limits", "reads=1/s", "There is no class"),
    ("rate_limits", "read=0/s", "number from 1"),
    ("trusted_proxies", "10.0.0.0/40", "is not an IP address or network"),
    ("trusted_proxies", "proxy.example", "is not an IP address or network"),
    ("cors_origins", "https://a.example/", "is not an origin"),
    ("cors_origins", "*, https://a.example", "is not an origin"),
    ("tls", "maybe", ""),
])
def test_settings_that_make_no_sense_are_refused(shared, name, value, detail):
    with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
        shared.cluster.execute(f"ALTER SYSTEM SET a67.{name} = '{value}'")
    assert detail in (refused.value.diag.message_detail or "")


# -- addresses -------------------------------------------------------------------------------------


def test_forwarded_addresses_of_strangers_mean_nothing(make_cluster):
    client = make_cluster(rate_limits="address=1/h:3").client()
    found = [client.get("/x", headers={"X-Forwarded-For": f"10.0.0.{i}"}).status for i in range(5)]
    assert found == [404, 404, 404, 429, 429]


def test_a_trusted_proxy_tells_who_the_client_is(make_cluster):
    cluster = make_cluster(rate_limits="address=1/h:2", trusted_proxies="127.0.0.0/8, 10.9.0.0/16")

    def get(forwarded, count):
        return statuses(cluster.client(), count, "/x", headers={"X-Forwarded-For": forwarded})

    assert get("192.0.2.1", 3) == [404, 404, 429]
    assert get("192.0.2.2", 1) == [404]
    # What the client made up stands left of what the proxy saw.
    assert get("6.6.6.6, 192.0.2.1", 1) == [429]
    assert get("192.0.2.1, 10.9.0.1", 1) == [429]
    # One site of IPv6 is one client.
    assert get("2001:db8:1:1::1", 2) == [404, 404]
    assert get("2001:db8:1:1:ffff::9", 1) == [429]
    assert get("2001:db8:1:2::1", 1) == [404]
    # The proxy itself, when it names nobody.
    assert get("nonsense", 3) == [404, 404, 429]


def test_the_address_is_on_record(make_cluster):
    cluster = make_cluster(trusted_proxies="127.0.0.1")
    account = {"email": "ann@example.org", "password": "correct horse battery"}
    sent = {"X-Forwarded-For": "192.0.2.7"}
    assert cluster.client().post("/api/v1/auth/register", account, headers=sent).status == 201
    assert cluster.value("SELECT address FROM a67.audit WHERE action = 'auth.register'") == "192.0.2.7"
    assert cluster.value("SELECT DISTINCT address FROM a67.session") == "192.0.2.7"


# -- TLS -------------------------------------------------------------------------------------------


def make_pair(folder, name, days=30, host="127.0.0.1"):
    """A self-signed certificate and its key as files of the run user: (certificate, key)."""
    key, request, extensions, certificate = (
        folder / f"{name}.{kind}" for kind in ("key", "csr", "ext", "crt"))
    extensions.write_text(f"subjectAltName=IP:{host}\n")
    process.own(extensions)
    process.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}"])
    process.run(["openssl", "x509", "-req", "-in", request, "-signkey", key, "-days", str(days),
                 "-extfile", extensions, "-out", certificate])
    key.chmod(0o600)
    return certificate, key


def install_pair(cluster, name, pair):
    """Puts a pair where the settings of the test look for it."""
    for source, kind in zip(pair, ("crt", "key")):
        target = cluster.data / f"{name}.{kind}"
        target.write_bytes(source.read_bytes())
        target.chmod(0o600)
        process.own(target)


def pin_of(cluster):
    return cluster.value("SELECT DISTINCT tls_pin FROM a67.listener")


def test_an_agent_joins_and_an_app_runs_over_https(make_cloud):
    cloud = make_cloud("oak", settings={"a67.tls": "on"})
    assert cloud.cluster.listener_url().startswith("https://127.0.0.1:")
    assert cloud.join_token().split(".")[3] == pin_of(cloud.cluster)
    cloud.deploy("hello")
    oak = cloud.agents["oak"]
    state = oak.state / "node.json"
    assert json.loads(state.read_text())["tls_pin"] == pin_of(cloud.cluster)
    oak.kill()
    oak.restart()
    cloud.wait_nodes("ready", "oak")
    seen = cloud.node("oak")["last_heartbeat_at"]
    wait_until("the restarted agent sends heartbeats",
               lambda: cloud.node("oak")["last_heartbeat_at"], until=lambda at: at > seen)


def test_listeners_agree_on_one_pair_that_survives(make_cluster):
    cluster = make_cluster(tls="on", listeners="4")
    rows = wait_until("four listeners are there", lambda: cluster.rows("SELECT * FROM a67.listener"),
                      until=lambda found: len(found) == 4)
    pins = {row["tls_pin"] for row in rows}
    assert len(pins) == 1
    assert (cluster.data / "a67_tls.key").stat().st_mode & 0o777 == 0o600
    assert not list(cluster.data.glob("a67_tls*.new"))
    assert statuses(cluster.client(), 20, "/healthz") == [200] * 20
    # The certificate can be made again for the same key, so the pin stays.
    (cluster.data / "a67_tls.crt").unlink()
    cluster.stop()
    cluster.start()
    cluster.wait_listening()
    assert {pin_of(cluster)} == pins


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_plain_http_and_old_tls_get_no_answer_from_a_tls_port(make_cluster):
    cluster = make_cluster(tls="on")
    plain = Client(cluster.listener_url().replace("https:", "http:"))
    with pytest.raises(OSError):
        plain.get("/healthz")
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(cluster.listener_url()).get("/healthz")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        Client(cluster.listener_url(), tls=old).get("/healthz")
    assert cluster.client().get("/healthz").status == 200


def test_a_certificate_of_ones_own_is_replaced_by_a_reload(make_cluster, folder):
    cluster = make_cluster(tls="on")
    first, second = make_pair(folder, "first"), make_pair(folder, "second")
    install_pair(cluster, "own", first)
    reload(cluster, tls_certificate_file="own.crt", tls_key_file="own.key")
    wait_until("the certificate is in use", lambda: cluster.client().get("/healthz").status,
               until=lambda status: status == 200)
    wait_until("no pin is published", lambda: pin_of(cluster), until=lambda pin: pin is None)
    assert len(cluster.value("SELECT a67.join_token_create() ->> 'token'").split(".")) == 3

    # A key that does not fit, one that others can read, and none: each is refused, the old pair stays.
    for broken, why in (((second[0], first[1]), "key values mismatch"), (second, "closed to"),
                        (None, "could not open private key")):
        cluster.mark()
        if broken is None:
            (cluster.data / "own.key").unlink()
        else:
            install_pair(cluster, "own", broken)
        if broken is second:
            (cluster.data / "own.key").chmod(0o644)
        reload(cluster)
        logged(cluster, why)
        assert Client(cluster.listener_url(),
                      tls=ssl.create_default_context(cafile=first[0])).get("/healthz").status == 200
    install_pair(cluster, "own", second)
    reload(cluster)
    wait_until("the second certificate is in use", lambda: cluster.client().get("/healthz").status,
               until=lambda status: status == 200)


def test_a_listener_without_its_files_does_not_start(make_cluster):
    cluster = make_cluster(tls="on")
    cluster.stop()
    cluster.configure(**{"a67.tls_certificate_file": "gone.crt"})
    cluster.start()
    logged(cluster, "must be set together")
    cluster.configure(**{"a67.tls_key_file": "gone.key"})
    cluster.execute("SELECT pg_reload_conf()")
    logged(cluster, 'could not open private key file "gone.key"')
    assert cluster.rows("SELECT * FROM a67.listener") == []
    cluster.configure(**{"a67.tls_certificate_file": None, "a67.tls_key_file": None})
    cluster.execute("SELECT pg_reload_conf()")
    cluster.wait_listening()


# -- whom an agent trusts --------------------------------------------------------------------------


class Recorder:
    """A TLS server that answers nothing and writes down what each client made of it."""

    def __init__(self, pair):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.socket.getsockname()[1]}"
        self.seen = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            try:
                plain.settimeout(10)
                with self.context.wrap_socket(plain, server_side=True) as client:
                    self.seen.append(("said", client.recv(65536)))
            except OSError as error:
                self.seen.append(("refused", str(error)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@pytest.fixture
def lonely(folder):
    """Starts agents that join a URL of the test's: lonely(url, token, *options)."""
    agents = []

    def start(url, token, *options):
        agents.append(Agent(f"lonely{len(agents)}", folder))
        return agents[-1].join(url, token, *options)

    yield start
    for agent in agents:
        agent.destroy()


def token_with(*pin):
    return ".".join(("a67j", "A" * 43, "E" * 43, *pin))


@pytest.mark.parametrize("days, options, pin, why", [
    (30, (), "I" * 43, "not the pinned one"),
    (30, ("ca",), "I" * 43, "not the pinned one"),
    (30, (), None, "self-signed certificate"),
    (-1, ("ca",), None, "certificate has expired"),
    (30, ("ca", "10.0.0.1"), None, "IP address mismatch"),
], ids=["wrong pin", "wrong pin of a good CA", "unknown CA", "expired", "another host"])
def test_an_agent_tells_a_stranger_nothing(lonely, folder, days, options, pin, why):
    pair = make_pair(folder, "server", days, *options[1:])
    more = ("--ca-file", pair[0]) if options else ()
    with Recorder(pair) as server:
        agent = lonely(server.url, token_with(*([pin] if pin else [])), *more)
        wait_until("the agent gives up twice", lambda: len(server.seen), until=lambda n: n >= 2)
        assert [what for what, _ in server.seen if what != "refused"] == []
        assert why in agent.report()
        assert agent.alive(), "a listener may come back with the right key"


def test_an_agent_talks_to_a_server_that_its_ca_vouches_for(lonely, folder):
    pair = make_pair(folder, "server")
    with Recorder(pair) as server:
        lonely(server.url, token_with(), "--ca-file", pair[0])
        what, said = wait_until("the agent talks", lambda: server.seen)[0]
        assert what == "said"
        assert said.startswith(b"POST /api/v1/nodes/register HTTP/1.1\r\n")


def test_a_pinned_token_is_not_for_plain_http(lonely):
    agent = lonely("http://127.0.0.1:9", token_with("I" * 43))
    assert agent.exit_status() == 100
    assert "https://" in agent.report()


def test_a_join_token_with_a_made_up_pin_is_checked_like_others(make_cluster):
    client = make_cluster().client()
    for token in (token_with("I" * 43), token_with("short"), token_with("I" * 43, "I" * 43)):
        answer = client.post("/api/v1/nodes/register", {**NODE, "join_token": token})
        assert answer.status == 401, answer.text


# -- other origins ---------------------------------------------------------------------------------

PREFLIGHT = {"Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization"}


def cors(answer):
    return {name for name in answer.headers if name.startswith("access-control")}


def test_pages_of_other_origins_read_nothing_by_default(shared):
    client = shared.cluster.client()
    for origin in ("https://a.example", "null"):
        assert cors(client.get("/healthz", headers={"Origin": origin})) == set()
        answer = client.request("OPTIONS", READ, headers={"Origin": origin, **PREFLIGHT})
        assert (answer.status, cors(answer)) == (204, set())
        assert "POST" not in answer.headers["allow"]


def test_pages_of_listed_origins_read_answers_and_errors(make_cluster):
    cluster = make_cluster(cors_origins="https://a.example, http://localhost:3000",
                           rate_limits="write=1/h:1")
    client, ann = cluster.client(), user(cluster)
    good, bad = {"Origin": "https://a.example"}, {"Origin": "https://a.example.evil"}
    found = [client.get("/healthz", headers=good), client.get("/nowhere", headers=good),
             client.get(READ, headers=good), client.rpc("nothing"),
             ann.post("/rpc/version", {}, headers=good), ann.post("/rpc/version", {}, headers=good)]
    assert [answer.status for answer in found] == [200, 404, 401, 404, 200, 429]
    for answer in found[:3] + found[4:]:
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "RateLimit-Remaining" in answer.headers["access-control-expose-headers"]
        assert "Origin" in answer.headers["vary"]
    assert cors(found[3]) == set()
    assert "Origin" in found[3].headers["vary"], "caches must not mix the two up"
    assert cors(client.get("/healthz", headers=bad)) == set()

    asked = client.request("OPTIONS", "/api/v1/deployments", headers={**good, **PREFLIGHT})
    assert (asked.status, asked.body) == (204, b"")
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert int(asked.headers["access-control-max-age"]) > 0
    assert cors(client.request("OPTIONS", READ, headers={**bad, **PREFLIGHT})) == set()
    assert client.request("OPTIONS", "/nowhere", headers={**good, **PREFLIGHT}).status == 404


def test_any_origin_comes_without_credentials(make_cluster):
    client = make_cluster(cors_origins="*").client()
    answer = client.get("/healthz", headers={"Origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
