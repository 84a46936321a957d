"""Heartbeats end to end: HTTP POST, live table, flushed rows. Part of the registry's benchmark.

The server has one core and wrk another one, so that a rate is a rate per core. The rows know a heartbeat of every node, as they
do after a restart: what is measured are beats that bring metrics and no other news.
"""

import contextlib
import json
import os
import signal
from pathlib import Path

from cloud import process
from cloud.server import Cluster
from cloud.wait import wait_until
from load import cpu_seconds, report, say, wrk

HERE = Path(__file__).parent
NODES = 20000
CONNECTIONS = 64
SECONDS = 10
ROUNDS = 3
FLEET_NODES = 100000
FLEET_INTERVAL_S = 30
FLEET_CONNECTIONS = 500
FLEET_SECONDS = 20
BODY = {"boot_id": "0123456789abcdef", "seq": 1, "state_version": 1, "status": "ok",
        "metrics": {"cpu_percent": 12.5, "memory_percent": 40.1, "memory_free_bytes": 300000000,
                    "memory_total_bytes": 512000000, "disk_percent": 10.2, "load1": 0.4, "uptime_s": 4242, "active_requests": 3,
                    "latency_ms": 1.8, "network_bytes": 123456789},
        "replicas": []}


SETTINGS = {"a67.heartbeat_interval": "30s", "a67.max_clients": "1024", "a67.max_nodes": "131072", "shared_buffers": "256MB",
            # The server's own defaults, not those of tests.
            "a67.monitor_interval": None, "a67.reconcile_interval": None, "a67.rate_limits": None}


def add_nodes(cluster, count):
    """Nodes that are ready, with one heartbeat behind them, and known to the live table."""
    for first in range(1, count + 1, 10000):
        cluster.execute("""
            WITH n AS (
                INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                               max_concurrent_requests)
                SELECT a67_internal._operator_id(), 'bench-' || i, 'http://127.0.0.1:1', lpad(i::text, 43, '0'), 2, 1073741824,
                       10737418240, 100
                FROM generate_series(%s::integer, %s::integer) i RETURNING node_id)
            INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, cpu_percent, memory_percent, metrics_at,
                                                    boot_id, state_version)
            SELECT node_id, 'ready', now(), random() * 80, random() * 80, now(), %s, %s FROM n""",
            first, min(first + 9999, count), BODY["boot_id"], BODY["state_version"])
    cluster.execute("ANALYZE a67_internal.node, a67_internal.node_observed")
    # It reads the rows when it starts.
    cluster.worker("telemetry").kill(signal.SIGTERM)
    wait_until("the live table knows every node", lambda: cluster.value("SELECT count(boot_id) FROM a67.node_live"),
               timeout=120, until=lambda known: known == count)


class Cores:
    """One core for the server and its children, another one for this process and the load it starts."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.all = os.sched_getaffinity(0)

    def __enter__(self):
        cores = sorted(self.all)
        if len(cores) < 2:
            say("only one core: server and load share it")
            return
        self._pin({cores[0]})
        os.sched_setaffinity(0, {cores[1]})

    def __exit__(self, *_):
        self._pin(self.all)
        os.sched_setaffinity(0, self.all)

    def _pin(self, cores):
        for one in [self.cluster.postmaster, *process.children(self.cluster.postmaster.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(one.pid, cores)


class Load:
    """wrk with the token of every node in turn."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.tokens = cluster.folder / "tokens"
        with cluster.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            rows = connection.execute("SELECT a67_internal._token(node_id, 'a67_node', '1 day') FROM a67_internal.node").fetchall()
        self.tokens.write_text("".join(token + "\n" for token, in rows))
        process.own(self.tokens)
        self.nodes = len(rows)
        self.url = f"{cluster.listener_url()}/api/v1/nodes/heartbeat"

    def run(self, seconds, connections=CONNECTIONS, pause_ms=0):
        return wrk(self.url, HERE / "heartbeat.lua", connections, seconds,
                   arguments=(self.tokens, json.dumps(BODY), pause_ms))

    def measure(self, seconds, **options):
        """A run and the processor time that it took of each worker; ends when the row of each node that beat has a beat of the run."""
        pids = {row["name"]: row["pid"] for row in self.cluster.rows("SELECT name, pid FROM a67.worker_status")}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        start = self.cluster.value("SELECT clock_timestamp()")
        figures = self.run(seconds, **options)
        figures["cpu"] = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        sent = int(figures["rps"] * seconds)
        wait_until("every node that beat has it in its row", lambda: self.cluster.value(
            "SELECT count(*) FROM a67_internal.node_observed WHERE last_heartbeat_at >= %s", start),
            until=lambda count: count >= min(sent, self.nodes))
        return figures


def heartbeats(cluster):
    """As many as 20,000 nodes can send over 64 connections: the best of some rounds."""
    load = Load(cluster)
    with Cores(cluster):
        # Tokens are verified once, and then known.
        load.run(SECONDS)
        rounds = [load.measure(SECONDS) for _ in range(ROUNDS)]
    best = max(rounds, key=lambda one: one["rps"])
    say(f"heartbeats/s of each round: {[round(one['rps']) for one in rounds]}; processor seconds: {best['cpu']}")
    report("registry", "heartbeats_per_s", best["rps"], "1/s")
    report("registry", "heartbeat_p99", best["p99_ms"], "ms")
    for name in ("listener", "telemetry"):
        report("registry", f"heartbeat_cpu_{name}", best["cpu"][name] / (best["rps"] * SECONDS) * 1e6, "us")


def fleet(cluster):
    """The share of one core that 100,000 nodes take whose heartbeats are 30 seconds apart."""
    load = Load(cluster)
    wanted = load.nodes / FLEET_INTERVAL_S
    pace = {"connections": FLEET_CONNECTIONS, "pause_ms": FLEET_CONNECTIONS / wanted * 1000}
    # Nobody is late yet: making all that took its time.
    cluster.execute("UPDATE a67_internal.node_observed SET last_heartbeat_at = now()")
    with Cores(cluster):
        load.run(FLEET_INTERVAL_S + 5, **pace)
        figures = load.measure(FLEET_SECONDS, **pace)
    share = {name: used / FLEET_SECONDS * 100 * wanted / figures["rps"] for name, used in figures["cpu"].items()}
    say(f"fleet: {figures['rps']:.0f} beats/s, percent of a core by worker: {share}")
    size = f"fleet_{load.nodes // 1000}k"
    report("registry", f"{size}_cpu", share["listener"] + share["telemetry"], "%")
    report("registry", f"{size}_cpu_monitor", share["monitor"], "%")


def main():
    for measure, count in ((heartbeats, NODES), (fleet, FLEET_NODES)):
        with Cluster(settings=SETTINGS) as cluster:
            add_nodes(cluster, count)
            measure(cluster)
