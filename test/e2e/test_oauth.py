"""OAuth credentials against a provider that nobody here wrote: stored, refreshed in time, rotated, refused, retried,
revoked; with a provider that fails, hangs or is gone, and a worker that is killed. No answer, log line or row holds a secret."""

import base64
import signal
import uuid

import psycopg
import pytest

from cloud import Cluster, process, wait_until
from cloud.api import Api
from cloud.oauth import Provider, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

CANARY = "canary-"
TIMEOUT_S = 2


@pytest.fixture(scope="module")
def cluster():
    settings = {"a67.outbound_private": "on", "a67.outbound_timeout": f"{TIMEOUT_S}s"}
    with Cluster(settings=settings) as one:
        yield one


@pytest.fixture(scope="module")
def people(cluster):
    token = cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '2 hours')")
    return Api("listener", cluster.listener_url(), token)


@pytest.fixture(scope="module")
def shared_provider(cluster):
    with Provider(cluster.folder / "provider.log") as one:
        yield one


@pytest.fixture
def provider(shared_provider):
    shared_provider.plain()
    return shared_provider


class Held:
    """One credential of somebody new, and all that was ever answered about it."""

    def __init__(self, cluster, api, provider):
        self.cluster = cluster
        self.provider = provider
        self.ann = api.person("ann")
        self.answers = []
        # Its tokens begin like this, so that its requests are known among others.
        self.mark = f"{CANARY}{uuid.uuid4().hex[:12]}"
        self.id = None

    def call(self, method, path="", body=None, status=200):
        answer = self.ann.client.request(method, f"/api/v1/credentials{path}", body)
        self.answers.append(answer.text)
        assert answer.status == status, (answer.status, answer.text)
        return answer.json()

    def store(self, status=201, **changes):
        body = {"provider": "render", "token_url": self.provider.url("/token"), "client_id": "client one",
                "client_secret": f"{self.mark}-secret", "refresh_token": f"{self.mark}-r0",
                "access_token": f"{self.mark}-a0", "expires_in": 3600, "scopes": ["read"], **changes}
        made = self.call("POST", "", {name: value for name, value in body.items() if value is not None}, status)
        self.id = made["id"]
        return made

    def look(self):
        return self.call("GET", f"/{self.id}")

    def refresh(self):
        return self.call("POST", f"/{self.id}/refresh", {}, 202)

    def answer(self, number, **more):
        """A good answer with tokens of this number."""
        return {"body": {"access_token": f"{self.mark}-a{number}", "refresh_token": f"{self.mark}-r{number}",
                         "expires_in": 3600, **more}}

    def seen(self, path="/token"):
        return self.provider.seen(self.mark, path)

    def sent(self):
        """The refresh tokens that were sent so far."""
        return [one["form"]["refresh_token"].removeprefix(f"{self.mark}-") for one in self.seen()]

    def tokens(self):
        """What is stored now, as only the server can see it."""
        row = self.cluster.row(
            "SELECT a67_internal._oauth_open(credential_id, 'access_token_sealed', access_token_sealed) AS access,"
            " a67_internal._oauth_open(credential_id, 'refresh_token_sealed', refresh_token_sealed) AS refresh"
            " FROM a67_internal.oauth_credential WHERE credential_id = %s", self.id)
        return {name: value and value.removeprefix(f"{self.mark}-") for name, value in row.items()}

    def wait(self, description, until, timeout=30):
        """Waits for a state, waking the worker each time instead of waiting for its next round."""

        def now():
            self.cluster.execute("SELECT a67_internal._wake('vault')")
            return self.look()

        return wait_until(description, now, timeout, until=until)

    def wait_refreshed(self, since=None):
        return self.wait("the credential is refreshed", lambda now: now["refreshed_at"] not in (None, since)
                         and now["attempts"] == 0 and now["last_error"] is None)

    def wait_error(self, error):
        return self.wait(f"the refresh ends with {error}", lambda now: now["last_error"] == error)

    def wait_rounds(self, count):
        """Waits until the worker has looked so many times for something to do."""
        before = self.cluster.workers()["vault"]["ticks"]
        self.wait(f"{count} rounds of the worker",
                  lambda now: self.cluster.workers()["vault"]["ticks"] >= before + count)

    def alerts(self):
        found = self.ann.client.get("/api/v1/alerts")
        self.answers.append(found.text)
        return [one["message"] for one in found.json() if one["subject_id"] == self.id]


@pytest.fixture
def held(cluster, people, provider):
    one = Held(cluster, people, provider)
    yield one
    assert CANARY not in "".join(one.answers), "no answer holds a secret"


def test_it_is_refreshed_before_it_expires(held, provider):
    provider.next(held.answer(1))
    made = held.store(expires_in=8)
    assert (made["status"], made["refreshable"], made["scopes"]) == ("active", True, ["read"])
    done = held.wait_refreshed()
    assert done["refreshed_at"] < made["expires_at"] < done["expires_at"]
    assert held.tokens() == {"access": "a1", "refresh": "r1"}
    (request,) = held.seen()
    assert request["form"] == {"grant_type": "refresh_token", "refresh_token": f"{held.mark}-r0"}
    named = base64.b64encode(f"client+one:{held.mark}-secret".encode()).decode()
    assert request["authorization"] == f"Basic {named}"


def test_what_the_package_answers_by_itself_is_taken(held):
    """No word of ours in the answer: a JWT as access token, a UUID as refresh token."""
    held.store(access_token=None, expires_in=None)
    done = held.wait_refreshed()
    assert done["expires_at"] and done["token_type"] == "Bearer" and done["scopes"] == ["dummy"]
    tokens = held.tokens()
    assert tokens["access"].count(".") == 2 and uuid.UUID(tokens["refresh"])
    held.answers.append("")
    assert tokens["access"] not in "".join(held.answers) and tokens["refresh"] not in "".join(held.answers)


def test_refresh_tokens_rotate(held, provider):
    held.store()
    before = None
    for number in (1, 2, 3):
        provider.next(held.answer(number))
        held.refresh()
        before = held.wait_refreshed(since=before)["refreshed_at"]
    assert held.sent() == ["r0", "r1", "r2"]
    assert held.tokens() == {"access": "a3", "refresh": "r3"}


def test_client_in_the_body(held):
    held.store(client_auth="post", access_token=None, expires_in=None)
    held.wait_refreshed()
    (request,) = held.seen()
    assert request["authorization"] is None
    assert (request["form"]["client_id"], request["form"]["client_secret"]) == ("client one", f"{held.mark}-secret")


def test_invalid_grant_ends_it_until_it_is_stored_anew(held, provider):
    held.store()
    provider.next({"status": 400, "body": {"error": "invalid_grant", "error_description": f"{held.mark} is bad"}})
    held.refresh()
    assert held.wait_error("invalid_grant")["status"] == "failed"
    assert len(held.alerts()) == 1 and "invalid_grant" in held.alerts()[0]
    held.wait_rounds(3)
    assert held.sent() == ["r0"], "a refusal is not tried again"
    assert held.tokens() == {"access": "a0", "refresh": "r0"}
    assert held.store(status=200, refresh_token=f"{held.mark}-n0")["status"] == "active"
    assert held.alerts() == []
    held.refresh()
    held.wait_refreshed()
    assert held.sent() == ["r0", "n0"]


def test_errors_of_the_provider_are_waited_out(held, provider):
    held.store()
    provider.next({"status": 500}, {"status": 503, "body": {"error": "invalid_grant"}}, {"raw": "<html>" + CANARY},
                  held.answer(1))
    held.refresh()
    held.wait("the third failure alerts", lambda now: now["attempts"] >= 3 or now["refreshed_at"])
    assert held.look()["last_error"] in ("malformed answer", None)
    held.wait_refreshed()
    assert held.sent() == ["r0", "r0", "r0", "r0"]
    assert held.alerts() == [], "resolved by the success"
    resolved = held.cluster.row("SELECT * FROM a67.alert WHERE subject_id = %s", held.id)
    assert "3 times in a row (malformed answer)" in resolved["message"] and resolved["resolved_at"]
    assert held.tokens() == {"access": "a1", "refresh": "r1"}


@pytest.mark.parametrize("answer", [
    {"raw": '{"access_token": "' + "x" * 70000 + '"}'},
    {"raw": '{"access_token": "a\\u0000b"}'},
    {"raw": '{"access_token": "a", '},
    {"raw": "[" * 30000},
    {"body": {"access_token": None}},
    {"body": {"access_token": "x" * 17000}},
    {"body": {"refresh_token": "two\nlines"}},
    {"status": 302},
    {"status": 204},
], ids=["huge", "nul", "cut", "deep", "null", "long", "lines", "redirect", "nothing"])
def test_useless_answers_change_nothing(held, provider, answer):
    held.store()
    provider.next(answer)
    held.refresh()
    failed = held.wait("the answer is refused", lambda now: now["last_error"] or now["refreshed_at"])
    assert failed["last_error"] in ("malformed answer", "answer too large", "HTTP 302"), failed
    held.wait_refreshed()
    assert held.sent() == ["r0", "r0"]


def test_a_provider_that_hangs(held, provider):
    held.store()
    provider.freeze()
    try:
        held.refresh()
        held.wait_error("timeout")
        assert held.look()["status"] == "active"
    finally:
        provider.thaw()
    held.wait_refreshed()


def test_a_provider_that_is_down(held, provider):
    held.store()
    provider.stop()
    try:
        held.refresh()
        held.wait_error("connection refused")
    finally:
        provider.start()
    held.wait_refreshed()


def worker_waits_for_a_lock(cluster):
    return cluster.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
                         cluster.worker_pid("vault"))


def test_the_worker_is_killed_between_answer_and_record(held, provider, cluster):
    """Its lease ends, and the same refresh token is sent again: nothing else could be known to be good."""
    held.store()
    provider.next(held.answer(1), held.answer(2))
    provider.freeze()
    holder = cluster.connect(autocommit=False)
    try:
        held.refresh()
        wait_until("the request is under way", lambda: cluster.value(
            "SELECT under_way FROM a67_internal.oauth_credential WHERE credential_id = %s", held.id))
        holder.execute("SELECT 1 FROM a67_internal.oauth_credential WHERE credential_id = %s FOR UPDATE", (held.id,))
    finally:
        provider.thaw()
    wait_until("the worker cannot record the answer", lambda: worker_waits_for_a_lock(cluster))
    worker = cluster.worker("vault")
    worker.kill(signal.SIGKILL)
    wait_until("the worker is gone", worker.alive, until=lambda there: not there)
    holder.close()
    cluster.wait_listening(60)
    held.wait_refreshed()
    assert held.sent()[:2] == ["r0", "r0"]
    assert held.tokens()["refresh"] != "r0"
    assert held.look()["status"] == "active"


def test_revocation(held, provider):
    provider.revocations(503)
    held.store(revocation_url=provider.url("/revoke"))
    assert held.call("DELETE", f"/{held.id}", None, 202)["status"] == "revoking"
    assert held.call("DELETE", f"/{held.id}", None, 202)["status"] == "revoking"
    held.wait("the credential is revoked", lambda now: now["status"] == "revoked")
    asked = [one["form"] for one in held.seen("/revoke")]
    assert asked == [{"token": f"{held.mark}-r0", "token_type_hint": "refresh_token"}] * 2 + [
        {"token": f"{held.mark}-a0", "token_type_hint": "access_token"}]
    assert held.tokens() == {"access": None, "refresh": None} and held.alerts() == []
    held.call("POST", f"/{held.id}/refresh", {}, 409)
    first = held.id
    assert held.store()["id"] != first
    assert {one["status"] for one in held.call("GET")} == {"active", "revoked"}


def test_revocation_that_the_provider_refuses(held, provider):
    """Nobody listens: the secrets go all the same, and somebody is told."""
    provider.revocations(*[500] * 10)
    held.store(revocation_url=provider.url("/revoke"))
    held.call("DELETE", f"/{held.id}", None, 202)
    held.cluster.execute("UPDATE a67_internal.oauth_credential SET attempts = 4 WHERE credential_id = %s", held.id)
    held.wait("the credential is erased", lambda now: now["status"] == "revoked")
    assert held.tokens() == {"access": None, "refresh": None}
    assert len(held.alerts()) == 1 and "did not confirm the revocation (HTTP 500)" in held.alerts()[0]


def test_revocation_without_an_endpoint_is_at_once(held):
    held.store()
    assert held.call("DELETE", f"/{held.id}", None, 202)["status"] == "revoked"
    assert held.tokens() == {"access": None, "refresh": None}


def test_revoked_while_a_refresh_hangs(held, provider):
    """What the refresh brings is what is revoked."""
    held.store(revocation_url=provider.url("/revoke"))
    provider.next(held.answer(1))
    provider.freeze()
    try:
        held.refresh()
        wait_until("the request is under way", lambda: held.cluster.value(
            "SELECT under_way FROM a67_internal.oauth_credential WHERE credential_id = %s", held.id))
        assert held.call("DELETE", f"/{held.id}", None, 202)["status"] == "revoking"
    finally:
        provider.thaw()
    held.wait("the credential is revoked", lambda now: now["status"] == "revoked")
    asked = [one["form"]["token"].removeprefix(f"{held.mark}-") for one in held.seen("/revoke")]
    assert asked == ["r1", "a1"]


def test_others_do_not_see_it(held, people):
    held.store()
    bob = people.person("bob").client
    assert bob.get("/api/v1/credentials").json() == []
    for method, path in (("GET", ""), ("POST", "/refresh"), ("DELETE", "")):
        answer = bob.request(method, f"/api/v1/credentials/{held.id}{path}", {} if method == "POST" else None)
        assert (answer.status, answer.json()["code"]) == (404, "PT404"), (method, path)
    for method in ("GET", "POST"):
        answer = people.anonymous.request(method, "/api/v1/credentials", {} if method == "POST" else None)
        assert answer.status == 401
    assert people.anonymous.get(f"/api/v1/credentials/{held.id}").status == 401
    assert people.admin.get(f"/api/v1/credentials/{held.id}").json()["id"] == held.id
    assert CANARY not in people.admin.get("/api/v1/credentials").text
    assert CANARY not in held.ann.client.get("/openapi.json").text
    assert held.look()["status"] == "active"


@pytest.mark.parametrize("body, field", [
    ({"provider": "Render"}, "provider"),
    ({"token_url": "http://192.0.2.1/token"}, "token_url"),
    ({"token_url": "https://user:word@example.org/"}, "token_url"),
    ({"revocation_url": "ftp://example.org/"}, "revocation_url"),
    ({"refresh_token": CANARY + "\n"}, "refresh_token"),
    ({"scopes": ["a b"]}, "scopes"),
    ({"expires_in": -1}, "expires_in"),
    ({"expires_in": "soon"}, "integer"),
    ({"scopes": 5}, "scopes"),
    ({"password": CANARY}, "password"),
])
def test_bad_bodies_are_400(held, body, field):
    given = {"provider": "render", "token_url": "https://example.org/token", "client_id": "i",
             "refresh_token": CANARY + "r", **body}
    answer = held.ann.client.post("/api/v1/credentials", given)
    held.answers.append(answer.text)
    assert answer.status == 400 and field in answer.text, answer.text
    assert held.call("GET") == []


def test_private_addresses_are_refused_when_not_allowed(held, cluster):
    held.store()
    cluster.configure(**{"a67.outbound_private": "off"})
    cluster.execute("SELECT pg_reload_conf()")
    try:
        held.refresh()
        held.wait_error("address not allowed")
        assert held.seen() == []
        answer = held.ann.client.post("/api/v1/credentials", {
            "provider": "fly", "token_url": held.provider.url("/token"), "client_id": "i", "refresh_token": "r"})
        assert (answer.status, answer.json()["details"]) == (400, "Field: token_url.")
    finally:
        cluster.configure(**{"a67.outbound_private": "on"})
        cluster.execute("SELECT pg_reload_conf()")
    held.wait_refreshed()


def test_a_sealed_vault_sends_and_takes_nothing(held, cluster):
    """What is due stays due; what needs no secret goes on. (Nobody can show a token to the listener meanwhile.)"""
    held.store()
    cluster.execute("SELECT a67.vault_seal()")
    try:
        cluster.execute("SELECT a67.credential_refresh(%s)", held.id)
        with pytest.raises(psycopg.Error) as refused:
            cluster.execute("SELECT a67.credential_set('fly', access_token => 'x')")
        assert refused.value.sqlstate == "PT503"
        before = cluster.workers()["vault"]["ticks"]
        wait_until("the worker has looked for work", lambda: (
            cluster.execute("SELECT a67_internal._wake('vault')"), cluster.workers()["vault"]["ticks"])[1],
            until=lambda ticks: ticks >= before + 3)
        row = cluster.row("SELECT * FROM a67.credential WHERE credential_id = %s", held.id)
        assert (row["status"], row["attempts"], row["last_error"], row["refreshed_at"]) == ("active", 0, None, None)
        assert held.seen() == []
    finally:
        cluster.execute("SELECT a67.vault_unseal()")
    cluster.wait_listening()
    held.wait_refreshed()
    assert held.sent() == ["r0"]


def test_a_new_master_key_opens_it_as_well(held, cluster):
    """Rotation wraps these secrets, too."""
    held.store()
    before = cluster.value("SELECT substring(refresh_token_sealed FROM 2 FOR 8) FROM a67_internal.oauth_credential"
                           " WHERE credential_id = %s", held.id)
    cluster.execute("SELECT a67.vault_rotate()")
    held.wait("the rotation is done", lambda now: cluster.value(
        "SELECT count(*) FROM a67_internal.oauth_credential, unnest(ARRAY[client_secret_sealed, access_token_sealed,"
        " refresh_token_sealed]) s WHERE substring(s FROM 2 FOR 8) = %s", before) == 0)
    assert held.tokens() == {"access": "a0", "refresh": "r0"}
    held.refresh()
    held.wait_refreshed()
    assert held.sent() == ["r0"]


def test_nothing_secret_is_in_log_or_rows(held, cluster):
    """Last: after all of the above."""
    held.store()
    held.refresh()
    held.wait_refreshed()
    assert CANARY not in cluster.log.read_text(errors="replace")
    for table in ("event", "alert", "audit", "oauth_credential"):
        assert cluster.rows(f"SELECT 1 FROM a67_internal.{table} t WHERE t::text LIKE '%%' || %s || '%%'", CANARY) == []
    assert process.size(cluster.log) > 0
