"""Placements a second: 1,000 replicas of one app over 1,000 nodes, from the command to the last node's acknowledgement. Part of
the deployments' benchmark.

The nodes are rows, and one process that speaks the agents' API answers for all of them: what is measured is the controller,
which chooses the nodes, reserves what the replicas need, signs a command for each, sends them and records the answers. A
replica counts once the database knows that its node has taken it.
"""

import asyncio
import json
import multiprocessing
import re
import statistics
import time

from cloud.server import Cluster
from cloud.wait import wait_until
from load import report, say

NODES = 1000
ROUNDS = 5

_HEAD = re.compile(rb"^(PUT|DELETE|GET) (\S+)/v1/replicas/([0-9a-f-]{36})", re.M)
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.I | re.M)

ADD = """
    WITH n AS (
        INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                       max_concurrent_requests)
        SELECT a67_internal._operator_id(), 'stub-' || i, 'http://127.0.0.1:%(port)s/' || i, lpad(i::text, 43, '0'), 2,
               1073741824, 10737418240, 100
        FROM generate_series(1, %(nodes)s) i RETURNING node_id)
    INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, cpu_percent, memory_percent, latency_ms,
                                            active_requests, metrics_at)
    SELECT node_id, 'ready', now(), random() * 60, random() * 60, random() * 200, random() * 50, now() FROM n"""


class StubAgents(asyncio.Protocol):
    """Takes every command: 202 for a PUT, 204 for a DELETE, on connections that stay open."""

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            self.answer(_HEAD.match(head))

    def answer(self, command):
        if command is None:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif command[1] == b"DELETE":
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            body = json.dumps({"id": command[3].decode(), "state": "starting"}).encode()
            self.transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                                 % (len(body), body))


def _serve(port):
    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(StubAgents, "127.0.0.1", 0, backlog=4096)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def _acknowledged(cluster):
    return cluster.value("SELECT count(*) FROM a67_internal.replica WHERE pushed_generation = generation AND desired_state = 'running'")


def _place_all(cluster, name, package):
    """Seconds until every replica's node has taken its command."""
    began = time.perf_counter()
    cluster.execute("SELECT a67.deployment_create(%s::jsonb)", json.dumps({
        "name": name, "package": package, "entrypoint": ["app"], "replicas": NODES,
        "resources": {"memory": "32MB", "cpu": 0.1}}))
    wait_until("every node has taken its command", lambda: _acknowledged(cluster), timeout=120, interval=0.01,
               until=lambda taken: taken == NODES)
    took = time.perf_counter() - began
    say(f"placements: {NODES} in {took:.3f} s")
    return took


def placements(package_of):
    """Several rounds on one cluster; the median counts."""
    here, there = multiprocessing.Pipe()
    stub = multiprocessing.Process(target=_serve, args=(there,), daemon=True)
    stub.start()
    try:
        # The nodes never beat: nobody is to judge them in the course of the run.
        with Cluster(settings={"a67.heartbeat_interval": "10min", "a67.monitor_interval": "10min",
                               "a67.reconcile_interval": "1s", "a67.push_timeout": "10s"}) as cluster:
            cluster.execute(ADD % {"port": here.recv(), "nodes": NODES})
            cluster.execute("VACUUM ANALYZE a67_internal.node, a67_internal.node_observed, a67_internal.node_reserved")
            package = cluster.value("SELECT a67.package_put(%s)", package_of())
            took = []
            for i in range(ROUNDS):
                took.append(_place_all(cluster, f"many-{i}", package))
                cluster.execute("SELECT a67.deployment_remove(%s)", f"many-{i}")
                wait_until("the replicas are gone", lambda: cluster.value("SELECT count(*) FROM a67_internal.replica"),
                           timeout=120, until=lambda left: left == 0)
            report("deploy", "placements_per_s", NODES / statistics.median(took), "1/s")
    finally:
        stub.terminate()
        stub.join()
