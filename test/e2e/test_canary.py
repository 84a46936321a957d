"""Canaries: secrets are planted through every way there is to give one to the server, and then looked for.

Each flow is one function that plants what it has; the searches come after all of them. Values are looked for as
they are, in hex and in base64, in every file of the data directory (WAL, temporary files and statistics
included) but the file of master keys, in the server log with everything logged that can be, in pg_dump's
output, in what other sessions see of a statement, in core files and in every HTTP answer.
"""

import base64
import json
import os
import resource
import secrets
import signal
from pathlib import Path

import psycopg
import pytest

from cloud import Cluster, manifest, process, wait_until
from cloud.api import totp
from cloud.app import package_of
from cloud.server import server_program

SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements,a67",
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_verbose": "on",
    "pg_stat_statements.track": "all",
    "log_statement": "all",
    "log_duration": "on",
    "log_min_duration_statement": "0",
    "log_min_messages": "debug1",
    "log_min_error_statement": "debug1",
    "log_error_verbosity": "verbose",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "wal_level": "replica",
    "temp_file_limit": "-1",
}


class Planted:
    """The server, what was planted in it, and what it has answered."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.values = {}
        self.answers = []
        self.seen = []
        self.client = cluster.client()

    def canary(self, name, make=None):
        """A fresh value to plant."""
        value = make() if make else f"canary{secrets.token_hex(12)}"
        self.values[name] = value
        return value

    def expect(self, name, value):
        """What the server made and gave to one client, which must be nowhere else."""
        self.values[name] = value
        return value

    def http(self, method, path, body=None, token=None, gives=()):
        """A request; gives names the fields of its answer that are there to hand out a secret."""
        answer = self.client.as_user(token).request(method, path, body)
        text = answer.text
        if gives and answer.status < 300:
            shown = answer.json()
            for field in gives:
                given = shown.pop(field)
                for n, one in enumerate(given if isinstance(given, list) else [given]):
                    self.expect(f"{path} {field} {n}", one)
            text = json.dumps(shown)
        self.answers.append((f"{method} {path}", text + json.dumps(answer.headers)))
        return answer

    def sql(self, query, *values, error=None):
        """The same statement in all the ways that a client may send it: literals, parameters, prepared."""
        for way in (psycopg.ClientCursor, psycopg.Cursor):
            for prepare in (False, True):
                with self.cluster.connect() as connection, self.cluster.connect() as other:
                    cursor = way(connection)
                    try:
                        cursor.execute(query, values, **({"prepare": prepare} if way is psycopg.Cursor else {}))
                    except psycopg.Error as raised:
                        if error is None or raised.sqlstate not in error:
                            raise
                    else:
                        assert error is None or "00000" in error, f"{query} succeeded"
                    self.seen += [row[0] for row in other.execute("SELECT query FROM pg_stat_activity")]

    def forms(self, value):
        raw = value if isinstance(value, bytes) else value.encode()
        found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
        # Base64 of a text in which the value may begin at any place: what does not depend on its neighbours.
        for shift in range(3):
            text = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
            found.add(text[(0, 2, 3)[shift]:-1 or None])
        if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
            found.add(bytes.fromhex(value))
        return {form for form in found if len(form) >= 12}

    def search(self, content):
        """Names of the values that stand in the bytes."""
        return sorted({name for name, value in self.values.items()
                       for form in self.forms(value) if form in content})


# -- flows -----------------------------------------------------------------------------------------

FLOWS = []


def flow(function):
    FLOWS.append(function)
    return function


@flow
def master_key(planted):
    planted.expect("master key", (planted.cluster.data / "a67_master.key").read_text().strip())


@flow
def passwords(planted):
    first, second, guess = (planted.canary(f"password {n}") for n in range(3))
    tokens = ("access_token", "refresh_token")
    person = {"email": "ann@example.org", "password": first}
    answer = planted.http("POST", "/api/v1/auth/register", person, gives=tokens).json()
    assert planted.http("POST", "/api/v1/auth/login", {**person, "password": guess}).status == 401
    assert planted.http("POST", "/api/v1/auth/login", {**person, "pasword": guess}).status == 400
    assert planted.http("POST", "/api/v1/auth/password",
                        {"old_password": first, "new_password": second}, answer["access_token"]).status == 200
    answer = planted.http("POST", "/api/v1/auth/login", {**person, "password": second}, gives=tokens).json()
    refreshed = planted.http("POST", "/api/v1/auth/refresh", {}, answer["refresh_token"], gives=tokens).json()
    planted.token = refreshed["access_token"]
    planted.password = second
    planted.sql("SELECT a67.auth_register(%s, %s)", "bob@example.org", planted.canary("password by sql"),
                error=("00000", "23505"))
    planted.sql("SELECT a67.auth_login(%s, %s)", "ann@example.org", planted.canary("guess by sql"))
    planted.sql("SELECT a67.auth_login(%s, password_hash => %s", "x@example.org",
                planted.canary("password in a syntax error"), error=("42601",))


@flow
def second_factor(planted):
    answer = planted.http("POST", "/api/v1/auth/mfa/enroll", {"password": planted.password}, planted.token,
                          gives=("secret", "otpauth_uri")).json()
    seed = answer["secret"]
    planted.expect("seed", base64.b32decode(seed))
    assert planted.http("POST", "/api/v1/auth/mfa/confirm", {"code": totp(seed)}, planted.token,
                        gives=("recovery_codes",)).status == 200
    codes = [value for name, value in planted.values.items() if "recovery_codes" in name]
    assert planted.http("POST", "/api/v1/auth/mfa/disable",
                        {"password": planted.password, "code": codes[0]}, planted.token).status == 200


@flow
def tokens(planted):
    token = planted.cluster.value("SELECT a67.token_create(a67_internal._operator_id())")
    planted.admin = planted.expect("administrator's token", token)
    answer = planted.http("POST", "/api/v1/nodes/join-tokens", {"ttl": "1 hour"}, planted.token, gives=("token",))
    assert answer.status == 201
    # What is secret of a join token is its second part: the rest is a public key.
    name = "/api/v1/nodes/join-tokens token 0"
    planted.values[name] = planted.values[name].split(".")[1]
    planted.sql("SELECT a67.auth_refresh(%s)", planted.canary("no refresh token"))


@flow
def environment_and_secrets(planted):
    package = planted.cluster.value("SELECT a67.package_put(%s)", package_of())
    planted.client.as_user(planted.token).put("/api/v1/packages", package_of())
    whole = manifest("hello", package, env={"PASSWORD": planted.canary("env value")})
    answer = planted.http("POST", "/api/v1/deployments", whole, planted.token)
    assert answer.status in (202, 503), answer.text
    broken = manifest("broken", package, env={"PASSWORD": planted.canary("refused env value")}, replicas=-1)
    assert planted.http("POST", "/api/v1/deployments", broken, planted.token).status == 400
    planted.http("GET", "/api/v1/deployments", None, planted.token)
    planted.sql("SELECT a67.deployment_create(%s::jsonb)",
                json.dumps({**whole, "env": {"PASSWORD": planted.canary("env value by sql")}}),
                error=("00000", "53000", "23505"))
    planted.sql("SELECT a67.deployment_create(%s::jsonb)",
                '{"env": {"PASSWORD": "' + planted.canary("env value in bad json") + '"', error=("22P02",))
    planted.http("POST", "/rpc/secret_set", {"name": "database", "value": planted.canary("secret")}, planted.token)
    planted.http("POST", "/rpc/secret_set", {"name": "NO NAME", "value": planted.canary("refused secret")}, planted.token)
    planted.sql("SELECT a67.secret_set('other', %s)", planted.canary("secret by sql"))
    planted.sql("SELECT a67.secret_set('nameless', %s, 5)", planted.canary("secret and too many arguments"),
                error=("42883",))
    secret = planted.canary("secret of a prepared statement")
    with planted.cluster.connect() as connection:
        connection.execute("PREPARE store AS SELECT a67.secret_set('third', $1)")
        connection.execute(f"EXECUTE store('{secret}')")
        with pytest.raises(psycopg.Error):
            connection.execute(f"EXECUTE store('{secret}', 5)")
        connection.execute(f"DO $$ BEGIN PERFORM a67.secret_set('fourth', '{secret}'); END $$")
        with pytest.raises(psycopg.Error):
            connection.execute(f"DO $$ BEGIN PERFORM a67.secret_set('!', '{secret}'); END $$")


@flow
def oauth_credentials(planted):
    body = {"provider": "github", "token_url": "https://127.0.0.1:1/token", "client_id": "a67",
            "client_secret": planted.canary("client secret"), "expires_in": 3600,
            "access_token": planted.canary("access token"), "refresh_token": planted.canary("refresh token")}
    answer = planted.http("POST", "/api/v1/credentials", body, planted.token)
    assert answer.status < 300, answer.text
    planted.http("POST", "/api/v1/credentials", {**body, "scopes": 5}, planted.token)
    planted.http("GET", "/api/v1/credentials", None, planted.token)
    planted.sql("SELECT a67.credential_set('gitlab', 'https://127.0.0.1:1/token', 'a67', %s, %s)",
                planted.canary("client secret by sql"), planted.canary("refresh token by sql"))


@flow
def channels(planted):
    config = {"url": "https://hooks.example.org/" + planted.canary("url of a channel"),
              "secret": planted.canary("secret of a channel")}
    answer = planted.http("POST", "/api/v1/channels", {"name": "hook", "kind": "webhook", "config": config},
                          planted.token)
    assert answer.status == 201, answer.text
    config = {"url": "http:/" + planted.canary("bad url"), "secret": planted.canary("unused secret")}
    assert planted.http("POST", "/api/v1/channels", {"name": "bad", "kind": "webhook", "config": config},
                        planted.token).status == 400
    planted.http("GET", "/api/v1/channels", None, planted.token)
    assert planted.http("POST", "/api/v1/channels/hook/test", {}, planted.token).status == 202
    wait_until("delivery was tried", lambda: planted.cluster.value(
        "SELECT count(*) FROM a67_internal.outbox WHERE attempts > 0"), timeout=40)
    planted.http("GET", "/api/v1/outbox", None, planted.token)
    planted.sql("SELECT a67.channel_create('by sql', 'slack', %s::jsonb)",
                json.dumps({"url": "https://hooks.example.org/" + planted.canary("url by sql")}),
                error=("00000", "22023", "23505"))


@flow
def provider_hooks(planted):
    planted.sql("SELECT a67.provider_set('mine', %s::jsonb)", json.dumps(
        {"title": "Mine", "restart_url": "https://hooks.example.org/restart",
         "restart_secret": planted.canary("restart secret")}))
    planted.sql("SELECT a67.provider_set('mine', %s::jsonb)",
                '{"restart_secret": ' + planted.canary("restart secret in bad json"), error=("22P02",))
    planted.http("GET", "/api/v1/providers", None, planted.token)


@flow
def vault(planted):
    passphrase = planted.canary("passphrase")
    cluster = planted.cluster
    planted.sql("SELECT a67.vault_unseal(%s)", planted.canary("no master key", lambda: secrets.token_hex(32)))
    planted.sql("SELECT a67.vault_rotate(%s)", passphrase, error=("00000", "PT409"))
    wait_until("rotation ends", lambda: cluster.value("SELECT a67.vault_status()"), timeout=60,
               until=lambda now: not now["rotation"]["running"])
    cluster.value("SELECT a67.vault_seal()")
    wait_until("unsealed", lambda: cluster.value("SELECT a67.vault_unseal(%s)", passphrase),
               until=lambda now: now.get("sealed") is False)
    with cluster.connect() as connection:
        psycopg.ClientCursor(connection).execute("SELECT a67.vault_unseal(%s)", (passphrase,))
    cluster.value("SELECT a67.vault_rotate()")
    wait_until("rotation ends", lambda: cluster.value("SELECT a67.vault_status()"), timeout=60,
               until=lambda now: not now["rotation"]["running"])
    planted.expect("new master key", (cluster.data / "a67_master.key").read_text().split()[0])


@flow
def signing_keys(planted):
    """What the server itself keeps: opened here only to know what to look for."""
    with planted.cluster.connect() as connection:
        rows = connection.execute("SELECT kid, a67_internal._vault_open(sealed, 'signing_key.sealed:' || kid) "
                                  "FROM a67_internal.signing_key WHERE sealed IS NOT NULL").fetchall()
    for kid, key in rows:
        planted.expect(f"signing key {kid}", bytes(key))
    planted.http("GET", "/api/v1/system/vault", None, planted.admin)
    planted.http("GET", "/openapi.json")
    planted.http("GET", "/api/v1/events", None, planted.admin)
    planted.http("GET", "/api/v1/alerts", None, planted.admin)


# -- searches --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted():
    with Cluster(settings=SETTINGS) as cluster:
        resource.prlimit(cluster.postmaster.pid, resource.RLIMIT_CORE, (-1, -1))
        cluster.execute("CREATE EXTENSION pg_stat_statements")
        found = Planted(cluster)
        for plant in FLOWS:
            plant(found)
        cluster.execute("CHECKPOINT")
        yield found


def test_flows_left_something_to_find(planted):
    """The search itself works, or finding nothing would say nothing."""
    assert len(planted.values) > 40
    for name, value in planted.values.items():
        raw = value if isinstance(value, bytes) else value.encode()
        for text in (b"xx" + raw + b"yy", base64.b64encode(raw), base64.b64encode(b"{" + raw + b"}"), raw.hex().encode()):
            assert name in planted.search(text)
    assert planted.search(b"nothing") == []
    log = planted.cluster.log.read_bytes()
    assert log.count(b"(not shown: it may hold secrets)") > 40
    assert b"SELECT a67.package_put" in log, "everything else is logged"


def test_data_directory(planted):
    found = {}
    count = 0
    for path in planted.cluster.data.rglob("*"):
        if not path.is_file() or path.name == "a67_master.key":
            continue
        count += 1
        hits = planted.search(path.read_bytes())
        if hits:
            found[str(path.relative_to(planted.cluster.data))] = hits
    assert found == {}
    assert count > 500


def test_server_log(planted):
    assert planted.search(planted.cluster.log.read_bytes()) == []


def test_dump(planted):
    dump = process.run([server_program("pg_dump"), "--host", planted.cluster.socket, "--username", "postgres", "postgres"])
    assert "COPY a67_internal.signing_key" in dump
    assert planted.search(dump.encode()) == []


def test_statistics_of_statements(planted):
    rows = planted.cluster.rows("SELECT query FROM pg_stat_statements")
    assert len(rows) > 50
    assert planted.search("\n".join(row["query"] for row in rows).encode()) == []


def test_activity_of_sessions(planted):
    assert "(not shown: it may hold secrets)" in planted.seen
    assert planted.search("\n".join(text or "" for text in planted.seen).encode()) == []


def test_tables_as_superusers_read_them(planted):
    """Columns in the clear, whatever their type."""
    tables = planted.cluster.rows("SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
                                  "WHERE schemaname = 'a67_internal'")
    for table in tables:
        text = planted.cluster.value(f"SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table['name']} t")
        assert planted.search(text.encode()) == [], table["name"]


def test_http_answers(planted):
    found = {what: planted.search(text.encode()) for what, text in planted.answers}
    assert {what: hits for what, hits in found.items() if hits} == {}
    assert len(planted.answers) > 15


def image(pid):
    """What a core file of a process would hold: all it has mapped, but what it excludes from dumps."""
    content = []
    with open(f"/proc/{pid}/smaps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        span = None
        for line in maps:
            words = line.split()
            if "-" in words[0] and ":" not in words[0]:
                span = [int(end, 16) for end in words[0].split("-")]
                readable = words[1].startswith("r") and "[v" not in line
            elif words[0] == "VmFlags:" and readable and "dd" not in words:
                memory.seek(span[0])
                try:
                    content.append(memory.read(span[1] - span[0]))
                except OSError:
                    continue
    return b"".join(content)


def core_files(cluster):
    """Core files that the server's processes have left; where the system puts them elsewhere, none."""
    return [path for path in cluster.data.glob("core*") if path.is_file()]


def abort(cluster, pid):
    """Makes a process of the server dump core, and waits until the server has restarted the others."""
    resource.prlimit(pid, resource.RLIMIT_CORE, (-1, -1))
    began = cluster.value("SELECT pg_postmaster_start_time()")
    os.kill(pid, signal.SIGABRT)
    wait_until("the server is back", lambda: process.look(pid) is None and cluster.value("SELECT 1"))
    cluster.wait_listening()
    assert cluster.value("SELECT pg_postmaster_start_time()") == began


def find(cluster, title):
    """The pid of a process of the server by its title, or None."""
    for one in process.children(cluster.postmaster.pid):
        try:
            if title in Path(f"/proc/{one.pid}/cmdline").read_text():
                return one.pid
        except OSError:
            continue
    return None


def test_core_files(planted):
    """Processes with secrets leave none; what others leave has no key in it."""
    cluster = planted.cluster
    with cluster.connect() as idle:
        pid = idle.info.backend_pid
        idle.execute("SELECT count(*) FROM a67.node")
        assert os.stat(f"/proc/{pid}/mem").st_uid != 0 or os.geteuid() == 0
        assert planted.search(image(pid)) == []
        abort(cluster, pid)
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        cores = core_files(cluster)
        assert len(cores) == 1
        assert planted.search(cores[0].read_bytes()) == []
        cores[0].unlink()

    with cluster.connect() as user:
        user.execute("SELECT a67.secret_set('again', 'something')")
        abort(cluster, user.info.backend_pid)
    for name in ("listener", "launcher", "api"):
        abort(cluster, wait_until(f"a process {name} runs", lambda wanted=name: find(cluster, f"a67 {wanted}")))
    assert core_files(cluster) == []


def test_swap_is_not_for_keys(planted):
    """The pages of keys are locked and left out of dumps."""
    flags = []
    with open(f"/proc/{planted.cluster.postmaster.pid}/smaps") as maps:
        flags = [line.split()[1:] for line in maps if line.startswith("VmFlags:")]
    assert [one for one in flags if "lo" in one and "dd" in one and "sh" in one]
