"""The listener and its api workers when things go wrong: slow clients, lost clients, lost workers, too
much of everything. One server without nodes; functions made for the tests stand in schema a67."""

import contextlib
import hashlib
import os
import socket
import struct
import threading
import time

import pytest

from cloud import process, random_package
from cloud.server import Cluster
from cloud.wait import wait_until

SETTINGS = {"a67.request_timeout": "2s", "a67.api_queue": "4", "a67.api_workers": "2"}

FUNCTIONS = """
CREATE FUNCTION a67.t_wait() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(67); END $$;
CREATE FUNCTION a67.t_stubborn() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN LOOP BEGIN PERFORM pg_advisory_xact_lock_shared(67); EXIT; EXCEPTION WHEN query_canceled THEN NULL; END;
       END LOOP; END $$;
CREATE FUNCTION a67.t_die() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_advisory_xact_lock_shared(67); END $$;
CREATE FUNCTION a67.t_echo(a integer, b text DEFAULT 'x', c jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('a', a, 'b', b, 'c', c) $$;
CREATE FUNCTION a67.t_two(a integer) RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION a67.t_two(b text) RETURNS integer LANGUAGE sql AS $$ SELECT 2 $$;
CREATE FUNCTION a67.t_any(a integer DEFAULT 1) RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION a67.t_any(b text DEFAULT 'x') RETURNS integer LANGUAGE sql AS $$ SELECT 2 $$;
CREATE FUNCTION a67.t_table(n integer) RETURNS TABLE (i integer, t text) LANGUAGE sql AS
    $$ SELECT i, 't' || i FROM generate_series(1, n) i $$;
CREATE FUNCTION a67.t_headers(h text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('response.headers', h, true); RETURN 'x'; END $$;
CREATE FUNCTION a67.t_status(s text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('response.status', s, true); RETURN 'x'; END $$;
CREATE FUNCTION a67.t_raise(code text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = code, DETAIL = 'd', HINT = 'h'; END $$;
CREATE FUNCTION a67.t_octets(n integer, size integer, fail_at integer DEFAULT 0) RETURNS SETOF bytea
    LANGUAGE sql AS $$ SELECT decode(repeat('ab', size / (i <> fail_at)::integer), 'hex')
        FROM generate_series(1, n) i $$;
CREATE FUNCTION a67.t_leak() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('my.leak', 'x', false), set_config('role', 'a67_user', false),
       set_config('statement_timeout', '1ms', false), pg_advisory_lock(4711); END $$;
CREATE FUNCTION a67.t_who() RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('role', current_user, 'session', session_user, 'pid', pg_backend_pid(),
       'leak', coalesce(current_setting('my.leak', true), ''), 'id', current_setting('request.id', true),
       'headers', current_setting('request.headers', true)::jsonb) $$;
CREATE TABLE public.t_once (x integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION a67.t_once(x integer) RETURNS void LANGUAGE sql SECURITY DEFINER AS
    $$ INSERT INTO public.t_once VALUES (x) $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA a67 TO a67_anon;
"""


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=SETTINGS) as one:
        one.execute(FUNCTIONS)
        yield one


@pytest.fixture
def http(cluster):
    cluster.wait_listening()
    pool_is_whole(cluster)
    return cluster.client()


@pytest.fixture(scope="module")
def token(cluster):
    return cluster.value("SELECT a67.token_create(a67.user_create('ann@example.org'), '1 hour')")


@pytest.fixture(scope="module")
def package():
    """60 MB that the database takes for an application package."""
    return random_package(60 * 1024 * 1024)


def pool_is_whole(cluster):
    wait_until("both api workers are connected",
               lambda: cluster.value("SELECT sum(api_workers)::int FROM a67.listener"),
               until=lambda count: count == 2)


@contextlib.contextmanager
def gate(cluster):
    """Inside, calls of t_wait wait; at the end those that are left go on."""
    with cluster.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(67)")
        yield


def api_workers(cluster, state=None):
    rows = cluster.rows("SELECT pid, state FROM pg_stat_activity WHERE backend_type = 'a67 api worker'")
    return {row["pid"] for row in rows if state in (None, row["state"])}


def wait_idle(cluster, timeout=10):
    wait_until("no api worker is busy", lambda: api_workers(cluster, "active"), timeout,
               until=lambda pids: not pids)


class Calls:
    """Calls made at the same time, each in a thread of its own."""

    def __init__(self, call, count):
        self.answers = []
        self.threads = [threading.Thread(target=self._run, args=(call,)) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, call):
        self.answers.append(call())

    def wait(self, count):
        """Waits until so many have been answered."""
        wait_until(f"{count} calls are answered", lambda: len(self.answers),
                   until=lambda answered: answered >= count)

    def join(self):
        """All statuses, in order of size."""
        for thread in self.threads:
            thread.join()
        return sorted(answer.status for answer in self.answers)


def dial(cluster, receive_buffer=None):
    address = cluster.listener_url().removeprefix("http://").split(":")
    peer = socket.socket()
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(20)
    peer.connect((address[0], int(address[1])))
    return peer


def head(method, path, length, token=None):
    auth = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{auth}Content-Length: {length}\r\n\r\n".encode()


def reset(peer):
    """Breaks the connection, as a client that crashes does."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def private_memory(pid):
    """kB that only this process holds."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


# -- calls ---------------------------------------------------------------------------------------


def test_arguments_by_name(http):
    assert http.rpc("t_echo", a="7", c=[1, {"x": None}]).json() == {"a": 7, "b": "x", "c": [1, {"x": None}]}
    assert http.rpc("t_two", b=1).json() == 2
    assert http.rpc("t_table", n=2).json() == [{"i": 1, "t": "t1"}, {"i": 2, "t": "t2"}]
    assert http.rpc("t_table", n=0).json() == []


@pytest.mark.parametrize("function, body, code, words", [
    ("t_echo", {}, "22023", 'missing field "a"'),
    ("t_echo", {"a": 1, "z": 1}, "22023", 'unknown field "z"'),
    ("t_echo", {"a": "x"}, "22P02", "integer"),
    ("t_echo", [1], "22023", "not a JSON object"),
    ("t_echo", b'{"a":', "22P02", "json"),
    ("t_echo", b'{"a":1,"b":"\xff"}', "22021", "UTF8"),
    ("t_echo", b'{"a":1}\0', "22023", "NUL"),
    ("t_echo", b'{"a":1,"c":' + b"[" * 1000 + b"]" * 1000 + b"}", "22023", "deeper"),
    ("t_two", {"c": 1}, "22023", "no variant"),
    ("t_any", {}, "42725", "more than one variant"),
])
def test_bad_calls_are_400(http, function, body, code, words):
    answer = http.post(f"/rpc/{function}", body)
    assert (answer.status, answer.json()["code"]) == (400, code)
    assert words in answer.json()["message"]


def test_unknown_function_is_404(http):
    assert http.rpc("t_nothing").status == 404
    assert http.rpc("pg_sleep", seconds=1).status == 404


@pytest.mark.parametrize("code, status", [("PT418", 418), ("23505", 409), ("28000", 403), ("40001", 503),
                                          ("P0001", 400), ("42P10", 400)])
def test_errors_become_statuses(http, code, status):
    answer = http.rpc("t_raise", code=code)
    assert answer.status == status
    assert answer.json() == {"code": code, "message": "raised", "details": "d", "hint": "h"}


def test_internal_errors_stay_in_the_log(http):
    answer = http.rpc("t_raise", code="XX000")
    assert (answer.status, answer.json()["message"], answer.json()["details"]) == (500, "internal error", None)


def test_failed_commit_is_no_success(http):
    assert [http.rpc("t_once", x=1).status for _ in range(2)] == [204, 409]


def test_response_settings(http):
    answer = http.rpc("t_headers", h='[{"X-Test": "a"}, {"Content-Type": "text/plain"}]')
    assert (answer.status, answer.headers["x-test"], answer.headers["content-type"]) == (200, "a", "text/plain")
    assert http.rpc("t_status", s="202").status == 202


@pytest.mark.parametrize("headers", ['[{"X-A": "a\\r\\nX-Evil: 1"}]', '[{"Content-Length": "1"}]',
                                     '[{"X-Request-Id": "1"}]', '{"X-A": "b"}', "nonsense", '[{"X-A": 5}]',
                                     '[{"X-A": {"X-B": "c"}}]'])
def test_bad_response_headers_are_500(http, headers):
    answer = http.rpc("t_headers", h=headers)
    assert (answer.status, answer.json()["code"]) == (500, "38000")
    assert "x-evil" not in answer.headers


def test_nothing_leaks_into_the_next_call(cluster, http):
    for _ in range(4):
        assert http.rpc("t_leak").status == 204
        who = http.rpc("t_who").json()
        assert (who["role"], who["session"], who["leak"]) == ("a67_anon", "a67_authenticator", "")
    assert cluster.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711") == 0


def test_request_id_and_headers(http):
    who = http.post("/rpc/t_who", {}, headers={"X-Request-Id": "my-id", "X-Two": "b"})
    assert who.headers["x-request-id"] == who.json()["id"] == "my-id"
    assert who.json()["headers"]["x-two"] == "b"
    assert len(http.get("/healthz", headers={"X-Request-Id": "two words"}).headers["x-request-id"]) == 32


def test_a_present_token_must_be_good(http):
    for value in ("Basic abc", "Bearer", "Bearer a.b.c"):
        answer = http.post("/rpc/version", {}, headers={"Authorization": value})
        assert (answer.status, "www-authenticate" in answer.headers) == (401, True)


# -- time and room -------------------------------------------------------------------------------


def test_late_function_is_504(cluster, http):
    began = time.monotonic()
    with gate(cluster):
        answer = http.rpc("t_wait")
    assert (answer.status, answer.json()["code"]) == (504, "57014")
    assert time.monotonic() - began < 6


def test_stubborn_function_loses_its_worker(cluster, http):
    before = api_workers(cluster)
    with gate(cluster):
        assert http.rpc("t_stubborn").status == 504
        pool_is_whole(cluster)
    assert len(before & api_workers(cluster)) == 1


def test_queue_is_bounded(cluster, http):
    with gate(cluster):
        calls = Calls(lambda: http.rpc("t_wait"), 12)
        calls.wait(6)
        assert cluster.value("SELECT queued FROM a67.listener") == 4
        assert [(one.status, one.headers["retry-after"]) for one in calls.answers] == [(503, "1")] * 6
    assert calls.join() == [204] * 6 + [503] * 6


def test_large_bodies(cluster, http, token):
    assert len(http.rpc("t_echo", a=1, b="y" * 900_000).json()["b"]) == 900_000
    assert http.post("/rpc/t_echo", b" " * (1024 * 1024 + 1)).status == 413
    peer = dial(cluster)
    peer.sendall(head("PUT", "/api/v1/packages", 64 * 1024 * 1024 + 1, token))
    assert peer.recv(100).startswith(b"HTTP/1.1 413 ")
    peer.close()


# -- workers that end ----------------------------------------------------------------------------


def test_lost_worker_costs_one_request(cluster, http):
    with gate(cluster):
        neighbour = Calls(lambda: http.rpc("t_wait"), 1)
        wait_until("the neighbour runs", lambda: api_workers(cluster, "active"))
        assert http.rpc("t_die").status == 502
    assert neighbour.join() == [204]
    assert http.rpc("version").status == 200
    pool_is_whole(cluster)


def test_requests_wait_for_new_workers(cluster, http):
    before = api_workers(cluster)
    cluster.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'a67 api worker'")
    wait_until("the old ones are gone", lambda: before & api_workers(cluster), until=lambda pids: not pids)
    assert http.rpc("version").status == 200


def test_workers_end_with_their_listener(cluster, http):
    before = api_workers(cluster)
    cluster.worker("listener").kill(15)
    wait_until("the old workers are gone", lambda: before & api_workers(cluster), until=lambda pids: not pids)
    cluster.wait_listening()


# -- streams and clients -------------------------------------------------------------------------


def test_octets(http):
    answer = http.rpc("t_octets", n=3, size=100_000)
    assert (answer.status, answer.body) == (200, b"\xab" * 300_000)
    assert answer.headers["content-type"] == "application/octet-stream"


def test_refusal_before_the_first_octet_has_a_status(http):
    assert http.rpc("t_octets", n=3, size=1, fail_at=1).status == 400


def test_failure_in_the_middle_is_seen(http):
    with pytest.raises(OSError):
        http.rpc("t_octets", n=100, size=100_000, fail_at=90)


def test_package_round_trip_in_little_memory(cluster, http, token, package):
    listener = cluster.worker("listener").pid
    before = private_memory(listener)
    user = http.as_user(token)
    user.timeout = 60
    digest = hashlib.sha256(package).hexdigest()
    assert user.put("/api/v1/packages", package).json() == {"digest": digest}
    assert hashlib.sha256(user.get(f"/api/v1/packages/{digest}").body).hexdigest() == digest
    assert private_memory(listener) - before < 8 * 1024


def test_slow_client_holds_one_worker_and_no_memory(cluster, http, token, package):
    user = http.as_user(token)
    user.timeout = 60
    digest = user.put("/api/v1/packages", package).json()["digest"]
    listener = cluster.worker("listener").pid
    before = private_memory(listener)
    peer = dial(cluster, receive_buffer=65536)
    peer.sendall(head("GET", f"/api/v1/packages/{digest}", 0, token))
    for _ in range(30):
        assert peer.recv(65536)
        assert http.rpc("version").status == 200
    assert private_memory(listener) - before < 4 * 1024
    reset(peer)
    wait_idle(cluster)


def test_call_of_a_lost_client_is_cancelled(cluster, http):
    with gate(cluster):
        peer = dial(cluster)
        peer.sendall(head("POST", "/rpc/t_wait", 0))
        wait_until("the call runs", lambda: api_workers(cluster, "active"))
        reset(peer)
        wait_idle(cluster, timeout=1.5)


def test_upload_of_a_lost_client_frees_its_worker(cluster, http, token):
    peer = dial(cluster)
    peer.sendall(head("PUT", "/api/v1/packages", 5_000_000, token) + b"x" * 300_000)
    assert http.rpc("version").status == 200
    peer.close()
    answer = http.as_user(token).put("/api/v1/packages", random_package(1000))
    assert answer.status == 201


def test_pipelined_requests_are_answered_in_order(cluster, http):
    peer = dial(cluster)
    peer.sendall(b"".join(head("POST", path, 2) + b"{}" for path in ("/rpc/version", "/rpc/nope", "/rpc/version"))
                 + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    text = b"".join(iter(lambda: peer.recv(65536), b"")).decode()
    assert [part.split()[0] for part in text.split("HTTP/1.1 ")[1:]] == ["200", "404", "200", "200"]
    peer.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"Content-Length: 2, 2",
                                     b"Content-Length: 2\r\nContent-Length: 3", b"Transfer-Encoding: x, chunked",
                                     b"Content-Length : 2"])
def test_ambiguous_framing_is_refused(cluster, http, framing):
    peer = dial(cluster)
    peer.sendall(b"POST /rpc/version HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n{}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    text = b"".join(iter(lambda: peer.recv(65536), b""))
    assert text.count(b"HTTP/1.1 ") == 1 and text[9:12] in (b"400", b"501")
    peer.close()


# -- the server ----------------------------------------------------------------------------------


def test_limits_follow_a_reload(cluster, http):
    cluster.configure(**{"a67.max_body_size": "2kB"})
    cluster.rows("SELECT pg_reload_conf()")
    wait_until("the new limit counts", lambda: http.post("/rpc/version", b"{%3000s}" % b"").status,
               until=lambda status: status == 413)
    cluster.configure(**{"a67.max_body_size": "1MB"})
    cluster.rows("SELECT pg_reload_conf()")
    wait_until("the old limit counts", lambda: http.post("/rpc/version", b"{%3000s}" % b"").status,
               until=lambda status: status == 200)


def test_fast_shutdown_does_not_wait_for_requests(cluster, http):
    connection = cluster.connect()
    connection.execute("SELECT pg_advisory_lock(67)")
    peers = [dial(cluster) for _ in range(3)]
    for peer in peers:
        peer.sendall(head("POST", "/rpc/t_wait", 0))
    wait_until("calls run", lambda: api_workers(cluster, "active"))
    began = time.monotonic()
    cluster.stop()
    assert time.monotonic() - began < 1.5
    for peer in [*peers, connection]:
        peer.close()
    cluster.start()
    cluster.wait_listening()


def test_killed_api_worker_restarts_the_server_once(cluster, http):
    process.look(next(iter(api_workers(cluster)))).kill()
    wait_until("server is back", lambda: cluster.value("SELECT 1"))
    cluster.wait_listening()
    assert cluster.client().rpc("version").status == 200
