"""WebSockets: what an idle one costs the listener, and how long an event takes from its writer to the client.

Latency is counted from sending the statement that writes and commits the event until the whole frame has been
read, with 1,000 subscribed sockets open: to the only socket of one user, and to 999 sockets of another.
"""

import resource
import selectors
import time

from cloud.server import Cluster
from cloud.wait import wait_until
from cloud.websocket import WebSocket
from load import report, rss_bytes, say

SOCKETS = 1000
IDLE = 2000
EVENTS = 300
FANOUTS = 30
PAUSE_S = 0.03
EVENT = "SELECT a67_internal._event(%s, 'node.status.changed', gen_random_uuid(), '{\"node\": \"oak\"}')"


def user(cluster, name):
    found = cluster.value("SELECT a67.user_create(%s)", f"{name}@example.com")
    return found, cluster.value("SELECT a67.token_create(%s)", found)


def open_sockets(url, token, count):
    opened = [WebSocket(url, token) for _ in range(count)]
    for one in opened:
        one.send({"subscribe": ["node.status.changed"]})
    for one in opened:
        assert "subscribed" in one.receive()
    return opened


def idle_cost(cluster, url, token):
    """Bytes of the listener's memory per subscribed socket that says nothing."""
    pid = cluster.row("SELECT pid FROM a67.listener")["pid"]
    for one in open_sockets(url, token, 100):
        one.socket.close()
    wait_until("the first ones have left", lambda: cluster.value("SELECT sum(clients)::integer FROM a67.listener"),
               until=lambda clients: clients == 0)
    before = rss_bytes(pid)
    opened = open_sockets(url, token, IDLE)
    cost = (rss_bytes(pid) - before) / IDLE
    for one in opened:
        one.socket.close()
    wait_until("all have left", lambda: cluster.value("SELECT sum(clients)::integer FROM a67.listener"),
               until=lambda clients: clients == 0, timeout=60)
    return cost


def percentiles(times):
    ordered = sorted(times)
    return [1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99)]


def to_one(connection, owner, one):
    times = []
    for _ in range(EVENTS):
        began = time.perf_counter()
        connection.execute(EVENT, (owner,))
        one.receive()
        times.append(time.perf_counter() - began)
        # Apart enough not to share a question, as most events are.
        pause = time.perf_counter() + PAUSE_S
        one.pump(timeout=max(0.0, pause - time.perf_counter()))
    return times


def to_all(connection, owner, sockets):
    """Time until the last one has its frame; this program reads them one after the other."""
    selector = selectors.DefaultSelector()
    for one in sockets:
        selector.register(one.socket, selectors.EVENT_READ, one)
    times = []
    for _ in range(FANOUTS):
        began = time.perf_counter()
        connection.execute(EVENT, (owner,))
        left = len(sockets)
        while left > 0:
            for key, _ in selector.select(10):
                key.data.receive()
                left -= 1
        times.append(time.perf_counter() - began)
    return times


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * IDLE + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with Cluster(settings={"a67.max_clients": str(2 * IDLE), "a67.api_workers": "2"}) as cluster:
        url = cluster.listener_url()
        ann, ann_token = user(cluster, "ann")
        bob, bob_token = user(cluster, "bob")
        report("websocket", "idle_socket_rss", idle_cost(cluster, url, ann_token), "bytes")
        mine = open_sockets(url, ann_token, 1)[0]
        others = open_sockets(url, bob_token, SOCKETS - 1)
        with cluster.connect() as connection:
            p50, p99 = percentiles(to_one(connection, ann, mine))
            say(f"one of {SOCKETS}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
            report("websocket", "event_p50", p50, "ms")
            report("websocket", "event_p99", p99, "ms")
            p50, p99 = percentiles(to_all(connection, bob, others))
            report("websocket", "fanout_999_p50", p50, "ms")
            report("websocket", "fanout_999_p99", p99, "ms")


main()
