"""The listener's own cost: a trivial call and a list through HTTP, against the same statements through pgbench.

`pgbench` runs what one request runs: begin, role and request settings, the check of the session, the call, commit. It
does so in the faster of two ways, all in one message or prepared statements one by one, over a Unix socket. At
saturation it has one connection per api worker, which is the most that the pool could reach. `pgbench_bare` runs the
call alone, prepared, as a superuser: what PostgreSQL could do if requests needed no identity. PostgREST is measured with
as many connections in its pool as there are api workers, when it is on PATH. Everything is run in turn, ROUNDS times, and
the best of each counts: what else the machine does meanwhile costs every side the same.
"""

import contextlib
import functools
import json
import socket
from pathlib import Path

from cloud.api import postgrest, program
from cloud.server import Cluster
from cloud.wait import wait_until
from load import pgbench, report, rss_bytes, say, wrk

HERE = Path(__file__).parent
SECONDS = 3
ROUNDS = 3
WORKERS = 2
CONNECTIONS = (1, 16, 64)
IDLE = 1000
NODES = 20
SETTINGS = {"a67.api_workers": WORKERS, "a67.max_clients": 2 * IDLE, "a67.rate_limits": "off"}
SAME = """BEGIN;
SELECT set_config('role', 'a67_user', true), set_config('request.jwt.claims', '{claims}', true),
    set_config('request.method', 'POST', true), set_config('request.path', '{path}', true),
    set_config('request.headers', '{{"host": "127.0.0.1"}}', true), set_config('request.id', 'bench', true),
    set_config('request.address', '127.0.0.1', true);
SELECT a67.request_check();
SELECT {call};
COMMIT;
"""


class Work:
    """One request, and the SQL that does the same."""

    def __init__(self, name, path, body, call):
        self.name, self.path, self.body, self.call = name, path, body, call

    def arguments(self, token):
        return (token,) if self.body is None else (token, self.body)

    def peers(self, cluster, claims, clients):
        """Runs of pgbench to compare with: {name: run without arguments}."""
        script = SAME.format(claims=claims, path=self.path, call=self.call)
        one_message = script.replace(";\n", "\\;\n").rstrip("\\;\n") + ";\n"
        bare = f"SELECT {self.call};\n"
        return {
            "pgbench": lambda: best([pgbench(cluster, one_message, clients, SECONDS, protocol="simple"),
                                     pgbench(cluster, script, clients, SECONDS)]),
            "pgbench_bare": lambda: pgbench(cluster, bare, clients, SECONDS, user="postgres"),
        }


def best(runs):
    return max(runs, key=lambda run: run["rps"])


WORKS = (
    Work("rpc_trivial", "/rpc/version", "{}", "to_json(a67.version())"),
    Work("nodes", "/api/v1/nodes", None, "a67.node_list()::text"),
)


def idle_connections(cluster, listener):
    """Memory that an idle keep-alive connection costs the listener, after one request on each."""
    address = (listener["address"], listener["port"])
    before = rss_bytes(listener["pid"])
    opened = []
    for _ in range(IDLE):
        connection = socket.create_connection(address, timeout=10)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")
        opened.append(connection)
    for connection in opened:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    wait_until("all connections are counted", lambda: cluster.value("SELECT sum(clients) FROM a67.listener"),
               until=lambda clients: clients >= IDLE)
    cost = (rss_bytes(listener["pid"]) - before) / IDLE
    for connection in opened:
        connection.close()
    return cost


def new_user(cluster):
    """A user with nodes: (claims, token)."""
    user = cluster.value("SELECT a67.user_create('bench@example.com')")
    cluster.execute("""
        WITH n AS (
            INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                           max_concurrent_requests)
            SELECT %s, 'bench-' || i, 'http://127.0.0.1:1', lpad(i::text, 43, '0'), 2, 1073741824, 10737418240, 100
            FROM generate_series(1, %s) i RETURNING node_id)
        INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, metrics_at)
        SELECT node_id, 'maintenance', now(), now() FROM n""", user, NODES)
    cluster.execute("ANALYZE")
    return json.dumps({"sub": str(user), "role": "a67_user"}), cluster.value("SELECT a67.token_create(%s)", user)


@contextlib.contextmanager
def postgrest_url(cluster):
    """Where PostgREST answers, or None without it."""
    if program("postgrest") is None:
        say("postgrest is not on PATH: not compared")
        yield None
        return
    daemon, url = postgrest(cluster, cluster.value("SELECT a67_internal._jwks()::text"), **{"db-pool": WORKERS})
    try:
        yield daemon.wait_answering(url)
    finally:
        daemon.stop()


def measure(cluster, work, urls, identity):
    """Reports one request at every number of connections; the last one is saturation."""
    claims, token = identity
    sides = {}
    for name, url in urls.items():
        path = work.path if name == "listener" or work.body else "/rpc/node_list"
        for connections in CONNECTIONS:
            sides[name, connections] = functools.partial(
                wrk, url + path, HERE / "rpc.lua", connections, SECONDS, arguments=work.arguments(token))
    for clients in (1, WORKERS):
        sides.update({(name, clients): run for name, run in work.peers(cluster, claims, clients).items()})
    found = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, run in sides.items():
            found[side].append(run())
    found = {side: best(runs) for side, runs in found.items()}
    say(f"{work.name}: {found}")
    for connections in CONNECTIONS:
        run = found["listener", connections]
        clients = {"pgbench": min(connections, WORKERS), "pgbench_bare": min(connections, WORKERS), "postgrest": connections}
        peers = {name: run["rps"] / found[name, count]["rps"] for name, count in clients.items() if (name, count) in found}
        report("api", f"{work.name}_c{connections}_rps", run["rps"], "1/s", **peers)
        report("api", f"{work.name}_c{connections}_p50", run["p50_ms"], "ms")
        report("api", f"{work.name}_c{connections}_p99", run["p99_ms"], "ms")
    report("api", f"{work.name}_rps", run["rps"], "1/s", **peers)


def main():
    with Cluster(settings=SETTINGS) as cluster:
        listener = cluster.row("SELECT * FROM a67.listener")
        report("api", "idle_connection_rss", idle_connections(cluster, listener), "bytes")
        identity = new_user(cluster)
        with postgrest_url(cluster) as peer_url:
            urls = {"listener": listener["url"], "postgrest": peer_url}
            for work in WORKS:
                measure(cluster, work, {name: url for name, url in urls.items() if url is not None}, identity)


main()
