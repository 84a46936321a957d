"""Taking nodes out: their replicas move while everything goes on serving; and taking them in again."""

import signal

from cloud import wait_until
from cloud.traffic import Traffic
from test_health import changes, latest_event


def drained(cloud):
    return [row["node"] for row in cloud.cluster.rows(
        "SELECT payload ->> 'node' AS node FROM a67.event WHERE type = 'node.drained' ORDER BY event_id")]


def test_drain_under_traffic_loses_nothing(make_cloud):
    cloud = make_cloud("oak", "elm", "ash", "fir")
    cloud.deploy("hello", replicas=3)
    first, second = sorted({row["node"] for row in cloud.endpoints("hello")})[:2]
    since = latest_event(cloud)
    with Traffic(cloud, "hello", 3) as traffic:
        wait_until("traffic flows", lambda: traffic.requests > 20)
        for name in (first, second):
            cloud.cluster.execute("SELECT a67.node_drain(%s)", name)
            wait_until(f"node {name} is empty", lambda: drained(cloud), timeout=40, until=lambda found, name=name: name in found)
            cloud.cluster.execute("SELECT a67.node_activate(%s)", name)
        count = traffic.requests
        wait_until("traffic flows on", lambda: traffic.requests > count + 20)
    assert not traffic.troubles, traffic.troubles[:10]
    assert drained(cloud) == [first, second]
    assert not cloud.cluster.rows("""SELECT payload FROM a67.event WHERE type = 'deployment.changed' AND event_id > %s
                                     AND payload ->> 'status' <> 'running'""", since)
    assert sum(len(pids) for pids in cloud.processes("hello").values()) == 3


def test_drain_without_room_elsewhere_waits(make_cloud):
    cloud = make_cloud("oak")
    cloud.deploy("hello", replicas=2)
    before = cloud.apps()
    cloud.cluster.execute("SELECT a67.node_drain('oak')")
    wait_until("the reason is told", lambda: cloud.deployment("hello")["status_reason"] or "",
               until=lambda reason: reason.startswith('cannot empty "oak": insufficient capacity'))
    cloud.cluster.wait_ticks("reconciler", 10)
    assert cloud.apps() == before
    cloud.wait_serving("hello", 2)
    # A second node brings the room.
    cloud.join("elm")
    wait_until("the node is empty", lambda: drained(cloud), timeout=40)
    cloud.wait_serving("hello", 2)
    assert not cloud.agents["oak"].apps()
    assert cloud.deployment("hello")["status_reason"] is None


def test_drained_node_that_dies_on_the_way(make_cloud):
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    lost = cloud.endpoints("hello")[0]["node"]
    cloud.agents[lost].kill_node()
    cloud.cluster.execute("SELECT a67.node_drain(%s)", lost)
    answers = wait_until("others serve", lambda: cloud.answers("hello"), timeout=40,
                         until=lambda found: len(found) == 2 and all(" from " in text for text in found.values()))
    assert not [text for text in answers.values() if f"from {lost}," in text]
    cloud.agents[lost].restart()
    wait_until("it is empty when it has said so itself", lambda: drained(cloud), timeout=40)
    assert sum(len(pids) for pids in cloud.processes("hello").values()) == 2


def test_drain_goes_on_when_the_reconciler_is_killed(make_cloud):
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    name = cloud.endpoints("hello")[0]["node"]
    cloud.cluster.execute("SELECT a67.node_drain(%s)", name)
    cloud.cluster.worker("reconciler").kill(signal.SIGTERM)
    wait_until("the node is empty", lambda: drained(cloud), timeout=40, until=lambda found: found == [name])
    cloud.wait_serving("hello", 2)
    wait_until("two processes run, no more", cloud.apps,
               until=lambda apps: sum(len(one) for one in apps.values()) == 2 and not apps[name])


def test_maintenance_lets_a_node_go_and_come(make_cloud):
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    name = cloud.endpoints("hello")[0]["node"]
    cloud.cluster.execute("SELECT a67.node_maintenance(%s)", name)
    cloud.wait_nodes("maintenance", name)
    wait_until("the node is empty", lambda: drained(cloud), timeout=40, until=lambda found: found == [name])
    since = latest_event(cloud)
    cloud.agents[name].kill_node()
    cloud.cluster.wait_ticks("monitor", 20, timeout=40)
    assert cloud.node(name)["status"] == "maintenance"
    assert name not in dict(changes(cloud, since))
    assert not cloud.cluster.rows("SELECT 1 FROM a67.alert WHERE resolved_at IS NULL AND dedup_key LIKE 'node-failed%%'")
    cloud.agents[name].restart()
    cloud.cluster.wait_ticks("monitor", 5)
    assert cloud.node(name)["status"] == "maintenance", "a heartbeat does not end it"
    cloud.cluster.execute("SELECT a67.node_activate(%s)", name)
    cloud.wait_nodes("ready", name)
    cloud.wait_serving("hello", 2)


def test_routes(make_cloud):
    cloud = make_cloud("oak")
    owner = cloud.cluster.client(cloud.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '1 hour')"))
    other = cloud.cluster.client(cloud.cluster.value(
        "SELECT a67.token_create(a67.user_create('other@example.org'), '1 hour')"))
    node_id = str(cloud.node("oak")["node_id"])
    for action, wanted, status in (("drain", "draining", "ready"), ("maintenance", "maintenance", "maintenance"),
                                   ("drain", "draining", "initializing"), ("activate", "active", None)):
        for name in ("oak", node_id):
            answer = owner.post(f"/api/v1/nodes/{name}/{action}")
            assert answer.status == 200, answer.text
            assert answer.json()["desired_state"] == wanted
            assert status in (None, answer.json()["status"]) or answer.json()["status"] in ("ready", "busy")
    for action in ("drain", "maintenance", "activate"):
        assert other.post(f"/api/v1/nodes/{node_id}/{action}").status == 404
        assert owner.post(f"/api/v1/nodes/nowhere/{action}").status == 404
        assert owner.get(f"/api/v1/nodes/oak/{action}").status == 405
        assert owner.as_user(None).post(f"/api/v1/nodes/oak/{action}").status == 401
        assert owner.post(f"/api/v1/nodes/oak/{action}", {"how": "fast"}).status == 400
    assert owner.request("DELETE", "/api/v1/nodes/oak").status == 204
    for action in ("drain", "maintenance", "activate"):
        assert owner.post(f"/api/v1/nodes/{node_id}/{action}").status == 404
