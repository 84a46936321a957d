"""The listener as a gateway: routes, the calling convention, sessions, refusals on record, compression.
One server without nodes; functions made for the tests stand in schema a67."""

import gzip
import json
import re
import socket
import threading
import uuid

import pytest

from cloud import package_of, process
from cloud.server import Cluster
from cloud.wait import wait_until

PASSWORD = "correct horse battery"
SETTINGS = {"a67.rate_limits": "off", "a67.header_timeout": "1s"}

FUNCTIONS = """
CREATE TYPE a67.t_pair AS (a integer, b text);
CREATE FUNCTION a67.t_add(a integer, b integer DEFAULT 1) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT a + b $$;
CREATE FUNCTION a67.t_types(i bigint DEFAULT NULL, b boolean DEFAULT NULL, t text DEFAULT NULL, l integer[] DEFAULT NULL,
    w text[] DEFAULT NULL, j jsonb DEFAULT NULL, p a67.t_pair DEFAULT NULL, at timestamptz DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE AS $$ SELECT jsonb_strip_nulls(jsonb_build_object('i', i, 'b', b, 't', t, 'l', l, 'w', w, 'j', j,
        'p', p, 'at', at)) $$;
CREATE FUNCTION a67.t_write() RETURNS integer LANGUAGE sql VOLATILE AS $$ SELECT 1 $$;
CREATE TABLE public.t_row (x integer);
CREATE FUNCTION public.t_insert() RETURNS integer LANGUAGE sql VOLATILE SECURITY DEFINER AS
    $$ INSERT INTO public.t_row VALUES (1) RETURNING x $$;
CREATE FUNCTION a67.t_liar() RETURNS integer LANGUAGE sql STABLE AS $$ SELECT public.t_insert() $$;
CREATE FUNCTION a67.t_one(x integer, OUT double integer) LANGUAGE sql IMMUTABLE AS $$ SELECT 2 * x $$;
CREATE FUNCTION a67.t_one_text(x text, OUT "its name" text) LANGUAGE sql IMMUTABLE AS $$ SELECT nullif(x, '') $$;
CREATE FUNCTION a67.t_one_json(OUT doc jsonb) LANGUAGE sql IMMUTABLE AS $$ SELECT '[1]'::jsonb $$;
CREATE FUNCTION a67.t_inout(INOUT x integer) LANGUAGE sql IMMUTABLE AS $$ SELECT x + 1 $$;
CREATE FUNCTION a67.t_two_out(OUT a integer, OUT b text) LANGUAGE sql IMMUTABLE AS $$ SELECT 1, 'x' $$;
CREATE FUNCTION a67.t_column() RETURNS TABLE (n integer) LANGUAGE sql IMMUTABLE AS $$ VALUES (1), (2) $$;
CREATE FUNCTION a67.t_set() RETURNS SETOF integer LANGUAGE sql IMMUTABLE AS $$ VALUES (1), (2) $$;
CREATE FUNCTION a67.t_rows(r integer) RETURNS TABLE (a integer, s text) LANGUAGE sql IMMUTABLE AS $$ SELECT r, 'x' $$;
CREATE FUNCTION a67.t_octets(n integer) RETURNS SETOF bytea LANGUAGE sql STABLE AS
    $$ SELECT '\\xabcd'::bytea FROM generate_series(1, n) $$;
CREATE FUNCTION a67.t_long(n integer, tag boolean DEFAULT false) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
    IF tag THEN PERFORM set_config('response.headers', '[{"ETag": "x"}]', true); END IF; RETURN repeat('x', n); END $$;
CREATE FUNCTION a67.t_seen() RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT jsonb_build_object('role', current_user,
    'method', current_setting('request.method'), 'path', current_setting('request.path'),
    'address', current_setting('request.address'), 'id', current_setting('request.id'),
    'headers', current_setting('request.headers')::jsonb, 'read_only', current_setting('transaction_read_only')) $$;
CREATE FUNCTION a67.t_denied() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not yours' USING ERRCODE = '42501'; END $$;
CREATE FUNCTION a67.t_wait() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(67); END $$;
CREATE FUNCTION a67.t_hidden() RETURNS integer LANGUAGE sql STABLE AS $$ SELECT 1 $$;
REVOKE EXECUTE ON FUNCTION a67.t_hidden() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.t_insert() TO PUBLIC;
"""


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=SETTINGS) as one:
        one.execute(FUNCTIONS)
        yield one


@pytest.fixture(scope="module")
def http(cluster):
    return cluster.client()


@pytest.fixture
def person(http):
    """A new user's {client, user_id, email, refresh_token}."""
    email = f"p-{uuid.uuid4().hex[:12]}@example.org"
    answer = http.post("/api/v1/auth/register", {"email": email, "password": PASSWORD})
    assert answer.status == 201, answer.text
    return {**answer.json(), "email": email, "client": http.as_user(answer.json()["access_token"])}


@pytest.fixture(scope="module")
def user(cluster, http):
    return http.as_user(cluster.value("SELECT a67.token_create(a67.user_create('ann@example.org'), '1 hour')"))


def error_of(answer, status, code=None):
    assert answer.status == status, (answer.status, answer.text)
    body = answer.json()
    assert set(body) == {"code", "message", "details", "hint"}
    assert code is None or body["code"] == code
    return body


def raw(cluster, text):
    """Everything that the listener answers to these bytes until it closes."""
    host, port = cluster.listener_url().removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(text)
        return b"".join(iter(lambda: peer.recv(65536), b"")).decode()


def audit(cluster, request_id):
    """The rows of one request; a refusal of the listener itself is written a moment after its answer."""
    return cluster.rows("SELECT * FROM a67.audit WHERE request_id = %s ORDER BY audit_id", request_id)


# -- accounts ------------------------------------------------------------------------------------


def test_login_me_logout(http, person):
    login = http.post("/api/v1/auth/login", {"email": person["email"], "password": PASSWORD})
    assert (login.status, login.json()["expires_in"]) == (200, 3600)
    client = http.as_user(login.json()["access_token"])
    me = client.get("/api/v1/auth/me")
    assert (me.status, me.json()["email"]) == (200, person["email"])
    assert client.post("/api/v1/auth/logout").status == 204
    body = error_of(client.get("/api/v1/auth/me"), 401, "PT401")
    assert body["message"] == "session has ended"
    assert "www-authenticate" in client.get("/api/v1/nodes").headers
    assert person["client"].get("/api/v1/auth/me").status == 200, "another session goes on"


def test_refresh_takes_the_bearer_token(http, person):
    spent = http.as_user(person["refresh_token"])
    answer = spent.post("/api/v1/auth/refresh")
    assert answer.status == 200, answer.text
    assert http.as_user(answer.json()["access_token"]).get("/api/v1/auth/me").status == 200
    error_of(spent.post("/api/v1/auth/refresh", {}), 401, "PT401")
    error_of(http.as_user(answer.json()["access_token"]).get("/api/v1/auth/me"), 401, "PT401")


@pytest.mark.parametrize("headers, status", [({}, 401), ({"Authorization": "Basic abc"}, 401),
                                             ({"Authorization": "Bearer a.b.c"}, 401)])
def test_refresh_without_a_good_token(http, headers, status):
    answer = http.post("/api/v1/auth/refresh", headers=headers)
    error_of(answer, status)
    assert "www-authenticate" in answer.headers


def test_refresh_token_in_two_places(http, person):
    answer = http.as_user(person["refresh_token"]).post("/api/v1/auth/refresh", {"refresh_token": "x"})
    assert "given twice" in error_of(answer, 400, "22023")["message"]


def test_refresh_token_opens_nothing_else(http, person):
    error_of(http.as_user(person["refresh_token"]).get("/api/v1/auth/me"), 401)
    error_of(http.as_user(person["client"].token).post("/api/v1/auth/refresh"), 401)


def test_password_and_mfa_routes(http, person):
    client = person["client"]
    error_of(client.post("/api/v1/auth/password", {"old_password": "wrong", "new_password": PASSWORD + "2"}), 401)
    changed = client.post("/api/v1/auth/password", {"old_password": PASSWORD, "new_password": PASSWORD + "2"})
    assert changed.status == 200, changed.text
    enrolled = client.post("/api/v1/auth/mfa/enroll", {"password": PASSWORD + "2"})
    assert enrolled.json()["otpauth_uri"].startswith("otpauth://totp/")
    error_of(client.post("/api/v1/auth/mfa/confirm", {"code": "x"}), 401)
    error_of(client.post("/api/v1/auth/mfa/disable", {"password": PASSWORD + "2", "code": "000000"}), 400, "22023")


@pytest.mark.parametrize("path, body, status", [
    ("register", {"email": "x", "password": PASSWORD}, 400),
    ("register", {"email": "y@example.org", "password": PASSWORD, "role": "a67_admin"}, 400),
    ("login", {"password": PASSWORD}, 400),
    ("login", {"email": "nobody@example.org", "password": PASSWORD}, 401),
    ("password", {"old_password": "x", "new_password": "y"}, 401),
    ("mfa/enroll", {"password": "x"}, 401),
    ("logout", None, 401),
])
def test_bad_account_requests(http, path, body, status):
    error_of(http.post(f"/api/v1/auth/{path}", body), status)


def test_role_that_was_taken_away(cluster, http):
    admin = cluster.value("SELECT a67.user_create('boss@example.org', 'a67_admin')")
    client = http.as_user(cluster.value("SELECT a67.token_create(%s, '1 hour')", admin))
    assert client.rpc("user_create", email="made@example.org").status == 200
    cluster.execute("UPDATE a67_internal.\"user\" SET role = 'a67_user' WHERE user_id = %s", admin)
    error_of(client.rpc("user_create", email="made2@example.org"), 401, "PT401")


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["nodes", "nodes?status=online&limit=5&offset=0", "deployments", "events?since=0",
                                  "alerts", "alerts?include_resolved=true"])
def test_lists(user, path):
    answer = user.get(f"/api/v1/{path}")
    assert (answer.status, answer.json()) == (200, [])


@pytest.mark.parametrize("path", ["nodes", "nodes/x", "deployments", "deployments/x", "events", "alerts", "auth/me"])
def test_reading_needs_a_token(http, path):
    answer = http.get(f"/api/v1/{path}")
    error_of(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path, status, words", [
    ("nodes/nope", 404, 'node "nope"'),
    ("deployments/nope", 404, 'deployment "nope"'),
    ("nodes?colour=red", 400, 'unknown field "colour"'),
    ("nodes?limit=many", 400, "integer"),
    ("nodes?limit=0", 400, "limit"),
    ("nodes?limit=99999999999", 400, "out of range"),
    ("nodes?limit=1&limit=2", 400, 'field "limit" is given twice'),
    ("nodes/x?node=y", 400, 'field "node" is given twice'),
    ("alerts?include_resolved=perhaps", 400, "boolean"),
    ("nodes?limit", 400, "malformed query"),
    ("nodes?limit=%zz", 400, "malformed query"),
    ("nodes?status=%ff", 200, None),
    ("nodes?" + "&".join(f"a{i}=1" for i in range(40)), 400, "malformed query"),
])
def test_queries(user, path, status, words):
    answer = user.get(f"/api/v1/{path}")
    assert answer.status == status, answer.text
    assert words is None or words in error_of(answer, status)["message"]


def test_malformed_parameter_is_named(user):
    assert error_of(user.get("/api/v1/nodes?limit=many"), 400, "22P02")["details"] == "Field: limit."
    assert error_of(user.get("/rpc/t_types?l=1,x"), 400, "22P02")["details"] == "Field: l."
    assert error_of(user.get("/rpc/t_types?j=%7B"), 400, "22P02")["details"] == "Field: j."
    assert error_of(user.get("/rpc/t_types?at=soon"), 400, "22007")["details"] == "Field: at."


def test_head_is_get_without_a_body(user):
    got = user.get("/api/v1/nodes")
    head = user.request("HEAD", "/api/v1/nodes")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", got.headers["content-length"])
    head = user.request("HEAD", "/rpc/t_octets?n=3")
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/octet-stream")
    assert user.request("HEAD", "/api/v1/nodes/nope").status == 404
    assert user.get("/rpc/t_octets?n=3").body == b"\xab\xcd" * 3


@pytest.mark.parametrize("path, allow", [
    ("/api/v1/nodes", "GET, HEAD, OPTIONS"), ("/api/v1/nodes/x", "GET, HEAD, DELETE, PATCH, OPTIONS"),
    ("/api/v1/auth/login", "POST, OPTIONS"), ("/rpc/version", "GET, HEAD, POST, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"), ("*", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
])
def test_options_say_what_is_allowed(cluster, path, allow):
    text = raw(cluster, f"OPTIONS {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert text.startswith("HTTP/1.1 204 ") and f"\r\nAllow: {allow}\r\n" in text


def test_wrong_methods_and_paths(http):
    answer = http.request("PATCH", "/api/v1/nodes")
    assert (error_of(answer, 405)["code"], answer.headers["allow"]) == ("HTTP405", "GET, HEAD, OPTIONS")
    error_of(http.get("/api/v2/nodes"), 404)
    error_of(http.request("GET", "/api/v1/nodes", body=b"{}"), 400)


# -- calls ---------------------------------------------------------------------------------------


def test_get_calls_what_changes_nothing(http):
    assert http.get("/rpc/version").status == 200
    assert http.get("/rpc/t_add?a=41").json() == 42
    assert http.get("/rpc/t_add?a=40&b=2").json() == http.rpc("t_add", a=40, b=2).json() == 42
    assert http.get("/rpc/t_seen").json()["read_only"] == "on"
    assert http.rpc("t_seen").json()["read_only"] == "off"


@pytest.mark.parametrize("query, value", [
    ("i=9007199254740993", {"i": 9007199254740993}), ("b=true", {"b": True}), ("b=f", {"b": False}),
    ("t=a%20b+c%2Bd", {"t": "a b c+d"}), ("t=", {"t": ""}), ("t=%22%5C%7B", {"t": '"\\{'}),
    ("l=1,2,3", {"l": [1, 2, 3]}), ("l=", {"l": []}), ("l={4,5}", {"l": [4, 5]}), ("w=a,b%20c", {"w": ["a", "b c"]}),
    ('w={"a,b",c}', {"w": ["a,b", "c"]}), ("j=%7B%22x%22%3A%5B1%5D%7D", {"j": {"x": [1]}}), ("j=5", {"j": 5}),
    ("p=%7B%22a%22%3A1%7D", {"p": {"a": 1}}), ("at=2026-01-02", {"at": "2026-01-02T00:00:00+00:00"}),
])
def test_texts_become_arguments(http, query, value):
    answer = http.get(f"/rpc/t_types?{query}")
    assert (answer.status, answer.json()) == (200, value)


@pytest.mark.parametrize("query", ["j=1,%22t%22:2", "j=%5B" + "%5B" * 200, "l={1", "p=(1,x)", "i=1.5", "t=%00"])
def test_texts_that_are_none(http, query):
    error_of(http.get(f"/rpc/t_types?{query}"), 400)


@pytest.mark.parametrize("function", ["t_write", "t_liar"])
def test_get_of_what_changes_data_is_405(cluster, http, function):
    answer = http.get(f"/rpc/{function}")
    error_of(answer, 405, "25006")
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert cluster.value("SELECT count(*) FROM t_row") == 0
    assert http.request("HEAD", f"/rpc/{function}").status == 405


def test_get_of_what_is_not_there(http):
    error_of(http.get("/rpc/t_nothing"), 404, "42883")
    error_of(http.get("/rpc/t_hidden"), 401, "42501")
    error_of(http.get("/rpc/t_add"), 400, "22023")
    error_of(http.post("/rpc/t_add?a=1", {}), 400, "22023")


def test_results_with_names(http):
    assert http.rpc("t_one", x=4).json() == {"double": 8}
    assert http.rpc("t_one_text", x="y").json() == {"its name": "y"}
    assert http.rpc("t_one_text", x="").json() == {"its name": None}
    assert http.rpc("t_one_json").json() == {"doc": [1]}
    assert http.rpc("t_inout", x=1).json() == {"x": 2}
    assert http.rpc("t_two_out").json() == {"a": 1, "b": "x"}
    assert http.rpc("t_column").json() == [{"n": 1}, {"n": 2}]
    assert http.rpc("t_set").json() == [1, 2]
    assert http.rpc("t_rows", r=1).json() == [{"a": 1, "s": "x"}]


@pytest.mark.parametrize("headers, status", [
    ({"Content-Type": "application/json"}, 200), ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
    ({"Content-Type": "application/problem+json"}, 200), ({}, 200), ({"Content-Encoding": "identity"}, 200),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415), ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/jsonx"}, 415), ({"Content-Type": "text/x+json"}, 415),
    ({"Content-Type": "application/json, text/plain"}, 415), ({"Content-Type": ""}, 415),
    ({"Content-Encoding": "gzip"}, 415),
])
def test_type_of_the_body(http, headers, status):
    answer = http.post("/rpc/t_add", b'{"a": 1}', headers=headers)
    assert answer.status == status, answer.text
    if status == 415:
        error_of(answer, 415, "HTTP415")


def test_package_may_be_of_any_type(user):
    answer = user.put("/api/v1/packages", package_of(), headers={"Content-Type": "application/gzip"})
    assert (answer.status, list(answer.json())) == (201, ["digest"])


# -- what a function sees ------------------------------------------------------------------------


def test_settings_of_the_request(user):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = user.get("/rpc/t_seen", headers={"X-Request-Id": "my.id", "traceparent": trace}).json()
    assert (seen["role"], seen["method"], seen["path"]) == ("a67_user", "GET", "/rpc/t_seen")
    assert (seen["address"], seen["id"], seen["headers"]["traceparent"]) == ("127.0.0.1", "my.id", trace)
    assert "authorization" not in seen["headers"]


@pytest.mark.parametrize("request_bytes, status", [
    (b"GET / HTTP/1.1\r\nHost: a\r\nBad header\r\n\r\n", 400),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: %s\r\n" % (b"y" * 5000) * 4 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n", 408),
    (b"POST /rpc/version HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
    (b"POST /rpc/version HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
])
def test_every_refusal_has_a_request_id(cluster, request_bytes, status):
    text = raw(cluster, request_bytes)
    assert text.startswith(f"HTTP/1.1 {status} "), text
    assert len(re.findall(r"^X-Request-Id: [0-9a-f]{32}\r$", text, re.MULTILINE)) == 1


def test_refusals_repeat_the_request_id(cluster, http):
    for answer in (http.get("/nope", headers={"X-Request-Id": "abc"}),
                   http.post("/rpc/t_add", b"x", headers={"X-Request-Id": "abc", "Content-Type": "text/plain"})):
        assert answer.headers["x-request-id"] == "abc"
    text = raw(cluster, b"POST /rpc/version HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert text.startswith("HTTP/1.1 400 ") and text.count("X-Request-Id: abc\r\n") == 1


# -- refusals on record --------------------------------------------------------------------------


def test_denied_call_is_on_record(cluster, person):
    for number, function in enumerate(("signing_key_rotate", "t_denied")):
        request_id = f"denied-{person['user_id'][:8]}-{number}"
        error_of(person["client"].post(f"/rpc/{function}", {}, headers={"X-Request-Id": request_id}), 403, "42501")
        row, = audit(cluster, request_id)
        assert (row["action"], row["outcome"], str(row["actor_id"])) == ("request.denied", "refused", person["user_id"])
        assert (row["subject"], row["address"]) == (f"POST /rpc/{function} {function}", "127.0.0.1")


def test_denied_stranger_is_on_record(cluster, http):
    request_id = uuid.uuid4().hex
    error_of(http.post("/rpc/signing_key_rotate", {}, headers={"X-Request-Id": request_id}), 401, "42501")
    row, = audit(cluster, request_id)
    assert (row["actor_id"], row["subject"]) == (None, "POST /rpc/signing_key_rotate signing_key_rotate")


def test_ended_session_is_on_record(cluster, person):
    request_id = uuid.uuid4().hex
    assert person["client"].post("/api/v1/auth/logout").status == 204
    error_of(person["client"].get("/api/v1/auth/me", headers={"X-Request-Id": request_id}), 401, "PT401")
    row, = audit(cluster, request_id)
    assert (str(row["actor_id"]), row["subject"]) == (person["user_id"], "GET /api/v1/auth/me auth_me")


def test_bad_join_token_is_on_record_and_not_in_it(cluster, http):
    request_id, secret = uuid.uuid4().hex, f"a67j.{uuid.uuid4().hex}"
    answer = http.post("/api/v1/nodes/register", {"join_token": secret, "endpoint": "http://127.0.0.1:1", "public_key": "x",
                                                  "capabilities": {}}, headers={"X-Request-Id": request_id})
    error_of(answer, 401, "PT401")
    row, = audit(cluster, request_id)
    assert (row["actor_id"], row["subject"]) == (None, "POST /api/v1/nodes/register node_register")
    assert secret not in json.dumps(row, default=str)


@pytest.mark.parametrize("method, path, function", [
    ("GET", "/api/v1/nodes", "node_list"), ("POST", "/rpc/version", "version"), ("PUT", "/api/v1/packages", "package_put"),
    ("POST", "/api/v1/nodes/heartbeat", "node_heartbeat"),
])
def test_bad_token_is_on_record_and_not_in_it(cluster, http, method, path, function):
    request_id, secret = uuid.uuid4().hex, f"x.{uuid.uuid4().hex}.y"
    answer = http.request(method, path, headers={"X-Request-Id": request_id, "Authorization": f"Bearer {secret}"})
    error_of(answer, 401)
    row, = wait_until("the refusal is on record", lambda: audit(cluster, request_id))
    assert (row["action"], row["subject"]) == ("request.denied", f"{method} {path} {function}")
    assert secret not in json.dumps(row, default=str)


def test_user_who_plays_a_node_is_on_record(cluster, person):
    request_id = uuid.uuid4().hex
    error_of(person["client"].post("/api/v1/nodes/heartbeat", {}, headers={"X-Request-Id": request_id}), 403)
    row, = wait_until("the refusal is on record", lambda: audit(cluster, request_id))
    assert str(row["actor_id"]) == person["user_id"]


def test_other_errors_are_not_on_record(cluster, http, user):
    for client, path, status in ((user, "/rpc/t_add", 400), (http, "/api/v1/nodes", 401), (user, "/nope", 404)):
        request_id = uuid.uuid4().hex
        assert client.get(path, headers={"X-Request-Id": request_id}).status == status
        assert not audit(cluster, request_id)


def test_refusal_does_not_need_its_record(cluster, person):
    cluster.execute("ALTER TABLE a67_internal.audit ADD CONSTRAINT t_full CHECK (action <> 'request.denied') NOT VALID")
    try:
        for _ in range(3):
            error_of(person["client"].rpc("signing_key_rotate"), 403, "42501")
            error_of(person["client"].as_user("a.b.c").get("/api/v1/nodes"), 401)
    finally:
        cluster.execute("ALTER TABLE a67_internal.audit DROP CONSTRAINT t_full")
    assert person["client"].get("/api/v1/auth/me").status == 200


def test_refusals_do_not_wait_for_their_record(cluster, http):
    """While every api worker is busy, refusals are answered at once, kept in bounds, and recorded later."""
    workers = int(cluster.value("SHOW a67.api_workers"))
    calls = [threading.Thread(target=http.rpc, args=("t_wait",)) for _ in range(workers)]
    prefix = uuid.uuid4().hex[:8]
    before = process.size(cluster.log)
    with cluster.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(67)")
        for one in calls:
            one.start()
        wait_until("all workers are busy", lambda: cluster.value(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'a67 api worker' AND state = 'active'"),
            until=lambda busy: busy == workers)
        stranger = http.as_user("a.b.c")
        for number in range(300):
            answer = stranger.get("/api/v1/nodes", headers={"X-Request-Id": f"{prefix}-{number}"})
            assert answer.status == 401
        assert all(one.is_alive() for one in calls), "the workers are still busy"
        assert cluster.value("SELECT queued FROM a67.listener") == 0, "notes take no request's place"
    for one in calls:
        one.join()
    count = "SELECT count(*) FROM a67.audit WHERE request_id LIKE %s || '-%%'"
    wait_until("what was kept is on record", lambda: cluster.value(count, prefix), until=lambda rows: rows == 256)
    assert "could not be put on record" in process.tail(cluster.log, 500, since=before)


# -- compression ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["gzip", "deflate, gzip;q=0.5", "*", "br;q=1.0, *;q=0.1", "GZIP"])
def test_long_json_is_compressed(http, accept):
    answer = http.get("/rpc/t_long?n=5000", headers={"Accept-Encoding": accept})
    assert answer.headers["content-encoding"] == "gzip" and len(answer.body) < 500
    assert answer.headers["vary"] == "Accept-Encoding"
    assert json.loads(gzip.decompress(answer.body)) == "x" * 5000


@pytest.mark.parametrize("accept", ["identity", "", "br", "gzip;q=0", "*;q=0", "gzip;q=0.000, *", "gzip;q=x"])
def test_nobody_gets_gzip_against_his_will(http, accept):
    answer = http.get("/rpc/t_long?n=5000", headers={"Accept-Encoding": accept})
    assert "content-encoding" not in answer.headers and answer.json() == "x" * 5000
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/rpc/t_long?n=1000", "/rpc/t_octets?n=5000", "/rpc/t_long?n=5000&tag=true"])
def test_what_is_never_compressed(http, path):
    answer = http.get(path, headers={"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert "content-encoding" not in answer.headers and "vary" not in answer.headers


def test_incompressible_json_stays_as_it_is(http):
    answer = http.get("/rpc/t_long?n=900000", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(answer.body) == b'"' + b"x" * 900_000 + b'"'
    head = http.request("HEAD", "/rpc/t_long?n=900000", headers={"Accept-Encoding": "gzip"})
    assert head.headers["content-length"] == answer.headers["content-length"]


# -- description ---------------------------------------------------------------------------------


def test_openapi(http):
    answer = http.get("/openapi.json")
    assert answer.status == 200
    paths = answer.json()["paths"]
    assert answer.json()["openapi"].startswith("3.1")
    assert paths["/api/v1/nodes"]["get"]["parameters"][0]["in"] == "query"
    assert paths["/api/v1/nodes/{node}"]["get"]["parameters"][0] == {
        "name": "node", "in": "path", "required": True, "schema": {"type": "string"}}
    assert "requestBody" not in paths["/api/v1/auth/refresh"]["post"]
    assert "application/octet-stream" in paths["/api/v1/packages"]["put"]["requestBody"]["content"]
    assert "security" not in paths["/api/v1/auth/login"]["post"] and "security" in paths["/api/v1/nodes"]["get"]
    assert {"/rpc/version", "/api/v1/deployments", "/api/v1/nodes/heartbeat"} <= set(paths)
    assert not [path for path in paths if path in ("/healthz", "/rpc/{function}")]


@pytest.mark.parametrize("query", ["?routes=[]", "?x=1"])
def test_openapi_takes_nothing(http, query):
    error_of(http.get("/openapi.json" + query), 400, "22023")
