"""The listener's own cost: a trivial RPC through HTTP against the same SQL through pgbench.

Both run the statements of one request: role, claims, call, commit. At saturation pgbench has one connection per api
worker, which is the most that the pool could reach.
"""

import socket
from pathlib import Path

from cloud.server import Cluster
from cloud.wait import wait_until
from load import pgbench, report, rss_bytes, say, wrk

HERE = Path(__file__).parent
SECONDS = 8
WORKERS = 2
IDLE = 1000
SAME_SQL = """BEGIN;
SELECT set_config('role', 'a67_user', true), set_config('request.jwt.claims', '{"role": "a67_user"}', true),
       set_config('request.method', 'POST', true), set_config('request.path', '/rpc/version', true);
SELECT to_json(a67.version());
COMMIT;
"""


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


def main():
    with Cluster(settings={"a67.api_workers": WORKERS, "a67.max_clients": 2 * IDLE}) as cluster:
        listener = cluster.row("SELECT * FROM a67.listener")
        user = cluster.value("SELECT a67.user_create('bench@example.com')")
        token = cluster.value("SELECT a67.token_create(%s)", user)
        report("api", "idle_connection_rss", idle_connections(cluster, listener), "bytes")
        url = f"{listener['url']}/rpc/version"
        limit = {clients: pgbench(cluster, SAME_SQL, clients, SECONDS) for clients in (1, WORKERS)}
        say(f"pgbench: {limit}")
        for connections in (1, 16, 64):
            run = wrk(url, HERE / "rpc.lua", connections, SECONDS, arguments=(token, "{}"))
            say(f"{connections} connections: {run}")
            peer = limit[1 if connections == 1 else WORKERS]
            report("api", f"rpc_trivial_c{connections}_rps", run["rps"], "1/s", pgbench=run["rps"] / peer["rps"])
            report("api", f"rpc_trivial_c{connections}_p50", run["p50_ms"], "ms")
            report("api", f"rpc_trivial_c{connections}_p99", run["p99_ms"], "ms")
        report("api", "rpc_trivial_rps", run["rps"], "1/s", pgbench=run["rps"] / limit[WORKERS]["rps"])


main()
