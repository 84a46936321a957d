"""What an operator can see of the controller itself, and what the listener says of itself."""

import uuid

import psycopg
import pytest

from cloud import Client, wait_until

WORKERS = {"launcher", "listener", "monitor", "reconciler", "telemetry"}


def test_worker_status_shows_all_workers(shared):
    workers = shared.cluster.workers()
    assert WORKERS <= set(workers), workers
    for name in WORKERS:
        row = workers[name]
        assert row["pid"] and row["started_at"], row
        assert row["errors"] == 0, row
    for name in ("monitor", "reconciler"):
        shared.cluster.wait_ticks(name, 2)


def test_heartbeats_reach_the_live_table(shared):
    def seen():
        return {row["node_id"]: row["last_seen_at"]
                for row in shared.cluster.rows("SELECT * FROM a67.node_live WHERE last_seen_at IS NOT NULL")}

    first = wait_until("all nodes are live", seen, until=lambda rows: len(rows) == 4)
    wait_until("every node is seen again", seen, until=lambda now: all(
        now.get(node, at) > at for node, at in first.items()))


def test_telemetry_brings_metrics_into_the_node_view(shared):
    at = shared.cluster.value("SELECT max(metrics_at) FROM a67_internal.node_observed")
    wait_until("metrics are stored again", lambda: shared.cluster.value(
        "SELECT min(metrics_at) FROM a67_internal.node_observed"), until=lambda now: now > at)


def test_heartbeats_take_the_fast_path(shared):
    """Beats that bring no news touch no table of nodes but through telemetry's batches."""
    def state():
        return shared.cluster.rows("SELECT node_id, state_version, boot_id FROM"
                                   " a67_internal.node_observed ORDER BY node_id")

    before = state()
    requests = shared.cluster.value("SELECT sum(requests) FROM a67.listener")
    wait_until("twenty more requests", lambda: shared.cluster.value(
        "SELECT sum(requests) FROM a67.listener"), until=lambda now: now >= requests + 20)
    assert state() == before


def test_health_and_readiness(shared):
    client = shared.cluster.client()
    assert client.get("/healthz").status == 200
    assert client.get("/readyz").status == 200


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nowhere", 404), ("POST", "/healthz", 405), ("GET", "/rpc/no_such_function", 404),
    ("GET", "/%00", 400), ("GET", "/a" * 20000, 431),
])
def test_requests_that_lead_nowhere(shared, method, path, status):
    answer = shared.cluster.client().request(method, path)
    allowed = {status, 404} if status == 405 else {status, 414} if status == 431 else {status}
    assert answer.status in allowed | ({404} if path == "/%00" else set()), answer.text


@pytest.mark.parametrize("body, headers", [
    (b"{", {}), (b"[]", {}), (b"1", {}), (b"nul", {}), (b'{"a":1}{"b":2}', {}),
    (b'{"deployment": "\\ud800"}', {}), (b"\xff\xfe", {}), (b'{"deployment": {}} x', {}),
])
def test_bad_bodies_are_400(shared, body, headers):
    token = shared.cluster.value(
        "SELECT a67.token_create((SELECT user_id FROM a67_internal.\"user\" WHERE is_operator))")
    answer = shared.cluster.client(token).post(
        "/rpc/deployment_stop", body, headers={"Content-Type": "application/json", **headers})
    assert answer.status == 400, (body, answer.status, answer.text)
    assert answer.json()["message"]


def test_unknown_and_missing_arguments_are_named(shared):
    token = shared.cluster.value(
        "SELECT a67.token_create((SELECT user_id FROM a67_internal.\"user\" WHERE is_operator))")
    client = shared.cluster.client(token)
    answer = client.rpc("deployment_scale", deployment="x", replicas=1, colour="red")
    assert answer.status == 400 and "colour" in answer.text, answer.text
    answer = client.rpc("deployment_scale", deployment="x")
    assert answer.status == 400 and "replicas" in answer.text, answer.text


def test_request_id_is_given_back(shared):
    client = shared.cluster.client()
    mine = uuid.uuid4().hex
    assert client.get("/healthz", headers={"X-Request-Id": mine}).headers["x-request-id"]
    ids = {client.get("/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_body_above_the_limit_is_413(shared):
    answer = shared.cluster.client().post("/api/v1/nodes/register", b" " * (2 << 20))
    assert answer.status == 413, answer.text


def test_two_listeners_share_one_port(make_cloud):
    cloud = make_cloud("oak", settings={"a67.listeners": "2"})
    rows = wait_until("two listeners", lambda: cloud.cluster.rows("SELECT * FROM a67.listener"),
                      until=lambda found: len(found) == 2)
    assert len({row["port"] for row in rows}) == 1 and len({row["pid"] for row in rows}) == 2
    client = cloud.cluster.client()
    assert {client.get("/healthz").status for _ in range(40)} == {200}
    cloud.deploy("hello")
    wait_until("both were asked", lambda: (client.get("/healthz").status, [
        row["requests"] for row in cloud.cluster.rows("SELECT requests FROM a67.listener")]),
        until=lambda found: all(found[1]))


def test_extension_dropped_and_created_again(make_cloud):
    """DROP EXTENSION ends the workers; CREATE EXTENSION brings an empty controller."""
    cloud = make_cloud("oak")
    cloud.deploy("hello")
    old = cloud.cluster.listener_url()
    cloud.cluster.execute("DROP EXTENSION a67 CASCADE")

    def answers():
        try:
            return Client(old, timeout=2).get("/readyz").status
        except OSError:
            return None

    wait_until("the listener is gone", answers, until=lambda status: status != 200)
    wait_until("no worker is connected", lambda: cloud.cluster.rows(
        "SELECT pid, backend_type FROM pg_stat_activity WHERE datname = 'postgres'"
        " AND pid <> pg_backend_pid() AND backend_type LIKE 'a67%'"
        " AND backend_type NOT LIKE '%launcher%'"), until=lambda rows: not rows)
    cloud.cluster.execute("CREATE EXTENSION a67")
    cloud.cluster.wait_listening()
    assert cloud.cluster.rows("SELECT * FROM a67.node") == []
    cloud.start_agent("elm")
    cloud.wait_nodes("ready", "elm")
    cloud.deploy("hello", timeout=40)


def test_drop_waits_for_nobody(make_cloud):
    cloud = make_cloud("oak", "elm")
    cloud.deploy("hello", replicas=2)
    with cloud.cluster.connect() as connection:
        connection.execute("SET lock_timeout = '10s'")
        connection.execute("DROP EXTENSION a67 CASCADE")
    with pytest.raises(psycopg.errors.UndefinedTable):
        cloud.cluster.rows("SELECT * FROM a67.node")


def test_extension_needs_its_library_preloaded(make_cloud):
    cloud = make_cloud()
    cloud.cluster.stop()
    cloud.cluster.configure(shared_preload_libraries="")
    cloud.cluster.settings = {name: value for name, value in cloud.cluster.settings.items()
                              if not name.startswith("a67.")}
    cloud.cluster.configure()
    cloud.cluster.start()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        cloud.cluster.rows("SELECT * FROM a67.worker_status")
    assert "shared_preload_libraries" in str(caught.value)
