"""The ingress leads requests where the rows say: by host and path, in the right parts, and without losing one when
replicas come and go. Nodes and replicas are rows, the apps small programs; HAProxy is real."""

import json
import socket
import sys
import threading
import time

import pytest

from conftest import CLOUDS
from cloud import process, wait_until
from cloud.edge import Edge, Load


@pytest.fixture(scope="module")
def edge():
    with Edge(track_functions="pl") as one:
        CLOUDS.append(one)
        yield one
        CLOUDS.remove(one)


def traffic(edge, app):
    return edge.cluster.row("SELECT * FROM a67_internal.replica_traffic WHERE replica_id = %s", app.id)


def rollout(edge, deployment, kind, weight):
    edge.cluster.execute("""
        INSERT INTO a67_internal.rollout (deployment_id, from_release, to_release, strategy, state, weight, old_target,
                                          new_target)
        VALUES (%s, 1, 2, jsonb_build_object('type', %s::text), 'paused', %s, 2, 1)""", deployment, kind, weight)


def weights(edge, *apps):
    """What HAProxy has as weights, by name of the app, once it runs the configuration that it should."""
    found = {row["server"]: row["weight"] for row in edge.cluster.rows(
        "SELECT server, weight FROM a67_internal._ingress_observed(%s) WHERE NOT stopping AND server IS NOT NULL"
        " AND description = 'a67-' || md5(a67_internal._ingress_text(false))",
        edge.ask("".join(f"@!{pid} show info;@!{pid} show stat -1 6 -1\n" for pid in edge.workers())))}
    return [found.get(str(app.id)) for app in apps]


def test_by_host_and_path(edge):
    node = edge.node("paths")
    shop = edge.app(edge.deployment("shop"), node)
    web = edge.app(edge.deployment("web", routes=[{"host": "www.example.org"}]), node)
    api = edge.app(edge.deployment("api", routes=[{"host": "www.example.org", "path": "/api"}, {"path": "/only"}]), node)
    edge.wait_routed(shop, web, api)
    for host, path, name in (("shop.apps.test", "/", shop.name), ("SHOP.apps.test.:8080", "/x?y", shop.name),
                             ("www.example.org", "/", web.name), ("www.example.org", "/apix", web.name),
                             ("www.example.org", "/api", api.name), ("www.example.org", "/api/x/y", api.name),
                             ("www.example.org", "/api?x", api.name), ("api.apps.test", "/only/x", api.name)):
        edge.wait_answer(host, path, until=lambda answer, name=name: answer.text.strip() == name)
    for host, path in (("api.apps.test", "/"), ("nobody.apps.test", "/"), ("127.0.0.1", "/"), ("apps.test", "/"),
                       ("x.shop.apps.test", "/"), ("www.example.org.evil", "/")):
        assert edge.get(host, path).status in (400, 404), (host, path)
    rows = edge.cluster.rows("SELECT kind, url, node FROM a67.endpoint WHERE deployment = 'api' ORDER BY kind, url")
    assert [row["kind"] for row in rows] == ["public", "public", "replica"]
    assert f"http://www.example.org:{edge.port}/api" in [row["url"] for row in rows] and rows[2]["node"] == "paths"
    assert edge.cluster.value("SELECT a67.deployment_get('shop') -> 'endpoints' ->> 0") == f"http://shop.apps.test:{edge.port}/"


def test_what_apps_see(edge):
    app = edge.app(edge.deployment("seen"), edge.node("seen"))
    edge.wait_routed(app)
    head = edge.wait_answer("seen.apps.test", "/headers").text.lower()
    assert "x-forwarded-for: 127.0.0.1" in head and "x-forwarded-proto: http" in head and "host: seen.apps.test" in head
    head = edge.get("seen.apps.test", "/headers", **{"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}).text.lower()
    assert "6.6.6.6" not in head and "x-forwarded-proto: http\r" in head
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as talk:
        talk.sendall(b"GET /ws HTTP/1.1\r\nHost: seen.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert b"101 Switching" in talk.recv(4096)
        talk.sendall(b"echo")
        assert talk.recv(4096) == b"echo"


def test_weights_of_a_canary(edge):
    node, deployment = edge.node("canary"), edge.deployment("canary")
    edge.release(deployment, 2)
    old = [edge.app(deployment, node) for _ in range(2)]
    new = edge.app(deployment, node, release=2)
    rollout(edge, deployment, "canary", 10)
    edge.wait_routed(*old, new)
    edge.wait_answer("canary.apps.test")
    # Without concurrency, where least connections would deal evenly.
    wait_until("weights are set", lambda: weights(edge, *old, new),
               until=lambda now: None not in now and abs(now[2] / sum(now) - 0.1) < 0.005 and now[0] == now[1])
    with Load(edge, "canary.apps.test", threads=1) as load:
        load.wait_more(1000)
    assert not load.lost
    assert abs(load.answers[new.name] / load.total() - 0.1) < 0.02, load.answers
    for percent, part in ((0, 0), (50, 0.5), (100, 1)):
        edge.cluster.execute("UPDATE a67_internal.rollout SET weight = %s WHERE deployment_id = %s", percent, deployment)
        wait_until(f"{percent} %", lambda: weights(edge, *old, new), until=lambda now, part=part: now[2] == part * sum(now))
    with Load(edge, "canary.apps.test", threads=1) as load:
        load.wait_more(100)
    assert not load.lost and set(load.answers) == {new.name}
    assert edge.routed(old[0]) == "in", "no weight is not out: it is ready"


def test_rest_is_cheap(edge):
    """While nothing changes HAProxy is asked every second, but nothing is compared."""
    edge.wait_routed(edge.app(edge.deployment("rest"), edge.node("rest")))
    seen = []

    def plans():
        seen.append((time.monotonic(), edge.cluster.value(
            "SELECT calls FROM pg_stat_user_functions WHERE funcname = '_ingress_plan'")))
        return {calls for at, calls in seen if at > seen[-1][0] - 5}

    wait_until("five seconds with at most one plan", plans,
               until=lambda counts: seen[-1][0] - seen[0][0] > 5 and max(counts) - min(counts) <= 1, timeout=30)


def test_weights_of_nodes(edge):
    deployment = edge.deployment("cores", balance="weighted")
    small, large = edge.node("small", cores=1), edge.node("large", cores=3)
    apps = [edge.app(deployment, small), edge.app(deployment, large)]
    edge.wait_routed(*apps)
    wait_until("by cores", lambda: weights(edge, *apps), until=lambda now: now == [1, 3])
    edge.cluster.execute("UPDATE a67_internal.node_observed SET status = 'degraded' WHERE node_id = %s", large)
    wait_until("half of it", lambda: weights(edge, *apps), until=lambda now: now == [2, 3])
    # Nothing has changed for a while; what is changed by hand is seen, and so is the row of a node.
    worker = edge.workers()[0]
    edge.ask(f"@!{worker} set weight {deployment}/{apps[0].id} 77\n")
    wait_until("corrected", lambda: weights(edge, *apps), until=lambda now: now == [2, 3], timeout=5)
    edge.cluster.execute("UPDATE a67_internal.node SET cpu_cores = 9 WHERE node_id = %s", large)
    wait_until("more cores", lambda: weights(edge, *apps), until=lambda now: now == [2, 9], timeout=5)
    edge.cluster.execute("UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id = %s", large)
    edge.wait_routed(apps[1], state="out")
    wait_until("the other gets all", lambda: weights(edge, *apps), until=lambda now: now[0] and now[1] is None)


def test_coming_and_going_loses_nothing(edge):
    node, deployment = edge.node("drain"), edge.deployment("drain")
    first = edge.app(deployment, node)
    edge.wait_routed(first)
    edge.wait_answer("drain.apps.test")
    slow = {}
    with Load(edge, "drain.apps.test") as load, Load(edge, "drain.apps.test", method="POST", threads=2) as posts:
        for _ in range(3):
            asker = threading.Thread(target=lambda: slow.setdefault("answer", edge.get("drain.apps.test", "/slow?700")))
            asker.start()
            second = edge.app(deployment, node)
            edge.wait_routed(second)
            load.wait_more(50)
            edge.stop(first)
            edge.wait_routed(first, state="out")
            assert edge.cluster.value("SELECT drain_until <= now() FROM a67_internal.replica WHERE replica_id = %s", first.id)
            first.kill()
            asker.join()
            assert slow.pop("answer").status == 200
            load.wait_more(50)
            posts.wait_more(20)
            first = second
    assert not load.lost and not posts.lost


def test_drain_has_an_end(edge):
    node, deployment = edge.node("patience"), edge.deployment("patience")
    apps = [edge.app(deployment, node) for _ in range(2)]
    edge.wait_routed(*apps)
    edge.wait_answer("patience.apps.test")
    talks = [socket.create_connection(("127.0.0.1", edge.port), timeout=20) for _ in range(2)]
    for talk in talks:
        talk.sendall(b"GET /slow?60000 HTTP/1.1\r\nHost: patience.apps.test\r\n\r\n")
    for app in apps:
        wait_until("under way", lambda app=app: traffic(edge, app)["sessions"], until=lambda n: n == 1)
        edge.stop(app, drain="1s")
    edge.wait_routed(*apps, state="draining")
    edge.wait_routed(*apps, state="out")
    for talk in talks:
        assert talk.recv(100)[9:12] in (b"502", b"503", b"504", b""), "cut at the end of its time"
        talk.close()


def test_unhealthy_is_left_alone(edge):
    node, deployment = edge.node("sick"), edge.deployment("sick")
    apps = [edge.app(deployment, node) for _ in range(2)]
    edge.wait_routed(*apps)
    edge.wait_answer("sick.apps.test")
    with Load(edge, "sick.apps.test", threads=2) as load:
        load.wait_more(50)
        edge.cluster.execute("UPDATE a67_internal.replica SET state = 'unhealthy' WHERE replica_id = %s", apps[0].id)
        edge.wait_routed(apps[0], state="out")
        load.answers.clear()
        load.wait_more(50)
        assert set(load.answers) == {apps[1].name}
        edge.cluster.execute("UPDATE a67_internal.replica SET state = 'running' WHERE replica_id = %s", apps[0].id)
        edge.wait_routed(apps[0])
        wait_until("it is back", lambda: load.answers.get(apps[0].name))
    assert not load.lost


def test_dead_app_costs_only_what_is_under_way(edge):
    node, deployment = edge.node("dying"), edge.deployment("dying")
    apps = [edge.app(deployment, node) for _ in range(3)]
    edge.wait_routed(*apps)
    edge.wait_answer("dying.apps.test")
    with Load(edge, "dying.apps.test") as load, Load(edge, "dying.apps.test", method="POST", threads=2) as posts:
        load.wait_more(100)
        apps[0].kill()
        load.wait_more(500)
        posts.wait_more(100)
    assert not load.lost, "what may be repeated is"
    assert len(posts.lost) <= 2, posts.lost
    edge.wait_routed(apps[0], state="joining")


FLOOD = """
import socket, sys, time
talks = []
for _ in range(1020):
    talks.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60))
    talks[-1].sendall(b"GET /slow?10000 HTTP/1.1\\r\\nHost: queue.apps.test\\r\\n\\r\\n")
for talk in talks:
    talk.recv(100)
"""


def test_queue_full_is_said(edge):
    deployment = edge.deployment("queue")
    app = edge.app(deployment, edge.node("narrow", requests=1))
    edge.wait_routed(app)
    edge.wait_answer("queue.apps.test")
    # A process of its own: so many descriptors are more than some libraries take here.
    flood = process.spawn([sys.executable, "-c", FLOOD, str(edge.port)], edge.cluster.folder / "flood.log")
    try:
        row = wait_until("it is full, and counted", lambda: edge.cluster.row(
            "SELECT refused, queued FROM a67_internal.deployment_traffic WHERE deployment_id = %s", deployment),
            until=lambda row: row["refused"] > 0)
        assert row["queued"] >= 900
        answer = edge.get("queue.apps.test")
        assert (answer.status, answer.text) == (503, "queue full\n")
        assert {name.lower(): value for name, value in answer.headers.items()}["retry-after"] == "5"
    finally:
        process.look(flood.pid).kill()
        flood.wait(timeout=10)
    wait_until("who went away waits no more", lambda: edge.cluster.value(
        "SELECT queued FROM a67_internal.deployment_traffic WHERE deployment_id = %s", deployment), until=lambda n: n == 0)


def test_counts_reach_replicas_and_nodes(edge):
    node, deployment = edge.node("counted"), edge.deployment("counted")
    app = edge.app(deployment, node)
    edge.wait_routed(app)
    edge.wait_answer("counted.apps.test")
    before = wait_until("counted", lambda: traffic(edge, app), until=lambda row: row["requests"] > 0)
    for _ in range(10):
        assert edge.get("counted.apps.test", "/slow?20").status == 200
    for _ in range(5):
        assert edge.get("counted.apps.test", "/fail").status == 500
    after = wait_until("counted", lambda: traffic(edge, app), until=lambda row: row["requests"] >= before["requests"] + 15)
    assert after["requests"] == before["requests"] + 15 and after["failures"] == before["failures"] + 5
    assert after["latency_sum_ms"] > before["latency_sum_ms"]
    live = edge.cluster.row("SELECT * FROM a67.node_live WHERE node_id = %s", node)
    assert 13 <= live["requests"] <= 17 and 4 <= live["failures"] <= 6 and live["latency_ms"] > 0


def test_no_replica_is_503(edge):
    edge.deployment("empty")
    answer = edge.wait_answer("empty.apps.test", until=lambda answer: answer.status == 503)
    assert "no replica" in answer.text and "Retry-After" in json.dumps(dict(answer.headers)).replace("retry-after", "Retry-After")
    assert not edge.cluster.rows("SELECT FROM a67.endpoint WHERE deployment = 'empty'")
