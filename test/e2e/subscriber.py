"""Users, events and a server without nodes, for the tests of the WebSocket.

Events are written by calling _event() as the controller does. The fixtures are imported by the tests
that use them: a server for each of their modules.
"""

import pytest

from cloud.server import Cluster

TYPE = "node.status.changed"
EVENT = "SELECT a67_internal._event(%s, %s, gen_random_uuid(), jsonb_build_object('n', %s::integer))"


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings={"a67.heartbeat_interval": "1s", "a67.max_clients": "200"}) as one:
        yield one


@pytest.fixture(scope="module")
def ann(cluster):
    return User(cluster, "ann@example.org")


@pytest.fixture(scope="module")
def bob(cluster):
    return User(cluster, "bob@example.org")


@pytest.fixture
def base(cluster):
    return cluster.wait_listening()


class User:
    def __init__(self, cluster, email, password="correct horse battery"):
        self.cluster = cluster
        self.email, self.password = email, password
        cluster.execute("SELECT a67.auth_register(%s, %s)", email, password)
        self.id = cluster.value('SELECT user_id FROM a67_internal."user" WHERE email = %s', email)
        self.token = cluster.value("SELECT a67.token_create(%s, '1 hour')", self.id)

    def event(self, n, kind=TYPE):
        self.cluster.execute(EVENT, self.id, kind, n)

    def login(self):
        return self.cluster.value("SELECT a67.auth_login(%s, %s) ->> 'access_token'",
                                  self.email, self.password)

    def last_event(self):
        return self.cluster.value("SELECT coalesce(max(event_id), 0) FROM a67_internal.event")


def numbers(events):
    return [event["payload"]["n"] for event in events]


def nothing_more(one):
    """Whatever was on its way has arrived once a mark of our own, sent behind it, has."""
    one.send({"subscribe": ["no.such.type"]})
    *before, last = one.receive_until(lambda message: "error" in message)
    assert last["error"]["code"] == "22023"
    return before
