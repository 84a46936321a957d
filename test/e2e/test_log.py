"""Output of deployments at the controller: shipped by real agents, read and followed over HTTP."""

import base64
import re
import threading
import time
from http.client import HTTPException

import pytest
from cloud import Client, deterministic_tar, wait_until

# Says what it is asked to say.
APP = r"""
import http.server, os
print("hello", flush=True)
class App(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        if self.path.startswith("/say/"):
            print(self.path[5:], flush=True)
        if self.path.startswith("/raw/"):
            os.write(1, bytes.fromhex(self.path[5:]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x from y")
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), App).serve_forever()
"""


class Events(threading.Thread):
    """Reads server-sent events until they end."""

    def __init__(self, client, path, headers=None):
        super().__init__(daemon=True)
        self.answer = client.open("GET", path, {"Accept": "text/event-stream", **(headers or {})})
        self.text = ""
        self.ended = False
        self.start()

    def run(self):
        try:
            while piece := self.answer.read1(65536):
                self.text += piece.decode()
        except (OSError, HTTPException):
            pass
        self.ended = True

    def lines(self):
        return [line.split(" ", 2)[2] for line in re.findall(r"^data: (\d{4}-.*)$", self.text, re.M)]

    def last_id(self):
        return re.findall(r"^id: (\d+)$", self.text, re.M)[-1]

    def wait(self, until, timeout=20.0):
        return wait_until("events come", self.lines, timeout, until=until)


def deploy(cloud, name, replicas=1):
    package = cloud.put_package(deterministic_tar({"app.py": APP}))
    cloud.deploy(name, replicas, package=package, entrypoint=["python3", "app.py"])


def say(cloud, name, text):
    for endpoint in cloud.endpoints(name):
        Client(endpoint["url"], timeout=5).get(text if text.startswith("/") else f"/say/{text}")


def lines(cloud, name, **arguments):
    named = "".join(f", {key} => %s" for key in arguments)
    return [row["line"] for row in cloud.cluster.rows(
        f"SELECT line FROM a67.deployment_logs(%s{named})", name, *arguments.values())]


def wait_line(cloud, name, line, count=1):
    return wait_until(f"{line!r} is there", lambda: lines(cloud, name), until=lambda all: all.count(line) == count)


def operator(cloud, life="1 hour"):
    return cloud.cluster.client(cloud.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), %s::interval)", life))


@pytest.fixture
def shop(shared):
    """A deployment of two replicas that have said hello, and its name."""
    name = f"shop-{time.monotonic_ns()}"
    deploy(shared, name, 2)
    wait_line(shared, name, "hello", 2)
    yield name
    shared.cluster.execute("SELECT a67.deployment_remove(%s) WHERE EXISTS (SELECT FROM a67.deployment WHERE name = %s)", name, name)


def test_reading(shared, shop):
    say(shared, shop, "one")
    wait_line(shared, shop, "one", 2)
    say(shared, shop, "two")
    wait_line(shared, shop, "two", 2)
    assert lines(shared, shop, tail=2) == ["two", "two"]
    row = shared.cluster.rows("SELECT * FROM a67.deployment_logs(%s, tail => 1)", shop)[0]
    replica = str(row["replica_id"])
    assert replica in {str(one["replica_id"]) for one in shared.replicas(shop)}
    assert row["node"] in {one["node"] for one in shared.replicas(shop)}
    assert lines(shared, shop, replica=replica) == ["hello", "one", "two"]
    client = operator(shared)
    answer = client.get(f"/api/v1/deployments/{shop}/logs?tail=1")
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(rf"\d{{4}}-\S+Z {row['node']}/{replica[:8]} two\n", answer.text)
    assert client.get(f"/api/v1/deployments/{shop}/logs?since=2100-01-01T00:00:00Z").text == ""
    assert len(client.get(f"/api/v1/deployments/{shop}/logs?replica={replica}&follow=false").text.splitlines()) == 3
    figures = shared.cluster.rows("SELECT * FROM a67.replica_log WHERE deployment = %s", shop)
    assert len(figures) == 2 and all(one["bytes"] == 14 and one["missing_bytes"] == 0 for one in figures)


def test_malformed_queries(shared, shop):
    client = operator(shared)
    for query in ("tail=-1", "tail=many", "tail=100001", "since=soon", "replica=x", "colour=red", "follow=maybe",
                  "follow=true&colour=red", "follow=true&tail=-1", "follow=true&replica=x", "follow=true&since="):
        answer = client.get(f"/api/v1/deployments/{shop}/logs?{query}")
        assert answer.status == 400, (query, answer.status, answer.text)


def test_other_users_and_nobody(shared, shop):
    path = f"/api/v1/deployments/{shared.deployment(shop)['deployment_id']}/logs"
    stranger = shared.cluster.value("SELECT a67.token_create(a67.user_create(%s), '1 hour')", f"{shop}@example.org")
    for query in ("", "?follow=true"):
        assert shared.cluster.client(stranger).get(path + query).status == 404
        assert shared.cluster.client().get(path + query).status == 401
        assert shared.cluster.client("x.y.z").get(path + query).status == 401
        assert operator(shared).get(f"/api/v1/deployments/nowhere/logs{query}").status == 404


def test_following(shared, shop):
    events = Events(operator(shared), f"/api/v1/deployments/{shop}/logs?follow=true&tail=1")
    assert events.answer.status == 200
    assert events.answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    events.wait(lambda found: found == ["hello"])
    say(shared, shop, "one")
    events.wait(lambda found: found.count("one") == 2)
    seen = events.last_id()
    events.answer.hang_up()
    say(shared, shop, "two")
    wait_line(shared, shop, "two", 2)
    resumed = Events(operator(shared), f"/api/v1/deployments/{shop}/logs?follow=true", {"Last-Event-ID": seen})
    resumed.wait(lambda found: found == ["two", "two"])
    say(shared, shop, "/raw/00ff0d78e282ac0a")
    resumed.wait(lambda found: len(found) == 4)
    assert resumed.text.count("data: x€") == 2, "a carriage return ends a line"


def test_follower_of_a_removed_deployment_gets_the_end(shared, shop):
    events = Events(operator(shared), f"/api/v1/deployments/{shop}/logs?follow=true")
    events.wait(lambda found: "hello" in found)
    shared.cluster.execute("SELECT a67.deployment_remove(%s)", shop)
    wait_until("the answer ends", lambda: events.ended, 40)
    assert events.text.endswith("event: end\ndata: deployment was removed\n\n")


def test_token_that_expires(shared, shop):
    events = Events(operator(shared, "3 seconds"), f"/api/v1/deployments/{shop}/logs?follow=true")
    events.wait(lambda found: "hello" in found)
    wait_until("the answer ends", lambda: events.ended)
    assert events.text.endswith("event: end\ndata: token has expired\n\n")


def test_followers_of_one_user_are_bounded(shared, shop):
    client, path = operator(shared), f"/api/v1/deployments/{shop}/logs?follow=true"
    many = [Events(client, path) for _ in range(8)]
    for events in many:
        events.wait(lambda found: "hello" in found)
    assert client.get(path).status == 429
    # Other requests find an api worker all the same.
    assert client.get(f"/api/v1/deployments/{shop}/logs").status == 200
    for events in many:
        events.answer.hang_up()

    def again():
        say(shared, shop, "more")
        events = Events(client, path)
        status = events.answer.status
        events.answer.hang_up()
        return status

    wait_until("a place is free", again, until=lambda status: status == 200)


def test_nodes_ship_only_their_own(shared, shop):
    row = shared.cluster.rows("SELECT r.replica_id, r.node_id FROM a67.replica r WHERE r.deployment = %s", shop)[0]
    other = shared.cluster.value("SELECT node_id FROM a67.node WHERE node_id <> %s LIMIT 1", row["node_id"])
    forged = {"chunks": [{"replica": str(row["replica_id"]), "offset": 6, "at": "2026-01-01T00:00:00Z",
                          "data": base64.b64encode(b"forged\n").decode()}]}
    token = shared.cluster.value("SELECT a67_internal._token(%s::uuid, 'a67_node', '1 hour')", other)
    answer = shared.cluster.client(token).post("/api/v1/nodes/logs", forged)
    assert answer.status == 200 and answer.json()["unknown"] == [str(row["replica_id"])]
    assert "forged" not in lines(shared, shop)
    assert operator(shared).post("/api/v1/nodes/logs", forged).status == 403
    assert shared.cluster.client().post("/api/v1/nodes/logs", forged).status == 401
    assert shared.cluster.client(token).post("/api/v1/nodes/logs", {"chunks": [{}]}).status == 400


def test_controller_down_then_back(make_cloud):
    cloud = make_cloud("oak")
    deploy(cloud, "shop")
    wait_line(cloud, "shop", "hello")
    urls = [one["url"] for one in cloud.endpoints("shop")]
    cloud.cluster.kill9()
    for i in range(50):
        Client(urls[0], timeout=5).get(f"/say/line-{i}")
    cloud.cluster.start()
    wait_line(cloud, "shop", "line-49")
    assert lines(cloud, "shop") == ["hello", *(f"line-{i}" for i in range(50))]


def test_nothing_is_taken_without_retention(make_cloud):
    cloud = make_cloud("oak", settings={"a67.log_retention": "0"})
    deploy(cloud, "shop")
    say(cloud, "shop", "one")
    cloud.cluster.wait_ticks("monitor", 5)
    assert lines(cloud, "shop") == [] and cloud.cluster.rows("SELECT * FROM a67.replica_log") == []
