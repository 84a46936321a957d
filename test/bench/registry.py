"""Heartbeats end to end: HTTP POST, live table, flushed rows; and node selection inside one backend."""

import json
from pathlib import Path

from cloud import process
from cloud.server import Cluster
from cloud.wait import wait_until
from load import cpu_seconds, report, say, wrk

HERE = Path(__file__).parent
NODES = 20000
CONNECTIONS = 64
SECONDS = 10
BODY = {"boot_id": "0123456789abcdef", "seq": 1, "state_version": 1, "status": "ok", "replicas": [],
        "metrics": {"cpu_percent": 12.5, "memory_percent": 40.1, "memory_free_bytes": 300000000,
                    "memory_total_bytes": 512000000, "disk_percent": 10.2, "load1": 0.4, "uptime_s": 4242, "active_requests": 3}}


def add_nodes(cluster, count):
    cluster.execute("""
        WITH n AS (
            INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                           max_concurrent_requests)
            SELECT a67_internal._operator_id(), 'bench-' || i, 'http://127.0.0.1:1', lpad(i::text, 43, '0'), 2, 1073741824,
                   10737418240, 100
            FROM generate_series(1, %s) i RETURNING node_id)
        INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, cpu_percent, memory_percent, metrics_at)
        SELECT node_id, 'ready', now(), random() * 80, random() * 80, now() FROM n""", count)
    cluster.execute("ANALYZE a67_internal.node, a67_internal.node_observed")


def heartbeats(cluster):
    tokens = cluster.folder / "tokens"
    rows = cluster.rows("SELECT a67_internal._token(node_id, 'a67_node', '1 day') AS token FROM a67_internal.node")
    tokens.write_text("".join(row["token"] + "\n" for row in rows))
    process.own(tokens)
    listener = cluster.row("SELECT * FROM a67.listener")
    url = f"{listener['url']}/api/v1/nodes/heartbeat"

    def run(seconds):
        return wrk(url, HERE / "heartbeat.lua", CONNECTIONS, seconds, arguments=(tokens, json.dumps(BODY)))

    def known():
        run(SECONDS)
        return cluster.value("SELECT count(*) FROM a67.node_live")

    # The first beat of each node goes through SQL; what is measured is the beats after that.
    wait_until("every node is in the live table", known, timeout=120, until=lambda count: count == NODES)
    workers = {row["name"]: row["pid"] for row in cluster.rows("SELECT name, pid FROM a67.worker_status")}
    before = {name: cpu_seconds(pid) for name, pid in workers.items()}
    start = cluster.value("SELECT clock_timestamp()")
    figures = run(SECONDS)
    used = {name: cpu_seconds(pid) - before[name] for name, pid in workers.items()}
    wait_until("every beat is flushed", lambda: cluster.value(
        "SELECT count(*) FROM a67_internal.node_observed WHERE last_heartbeat_at < %s", start), until=lambda left: left == 0)
    report("registry", "heartbeats_per_s", figures["rps"], "1/s")
    report("registry", "heartbeat_p99", figures["p99_ms"], "ms")
    beats = figures["rps"] * SECONDS
    for name in ("listener", "telemetry"):
        report("registry", f"heartbeat_cpu_{name}", used[name] / beats * 1e6, "us")


def selection(cluster):
    """Time of one a67.node_select call over all nodes, median of 30."""
    cluster.execute("SELECT a67.node_select(1) FROM generate_series(1, 3)")
    took = sorted(cluster.value("""
        SELECT extract(epoch FROM clock_timestamp() - t) * 1e6
        FROM (SELECT clock_timestamp() AS t) s, LATERAL (SELECT count(*) FROM a67.node_select(1) WHERE t IS NOT NULL) n""")
                  for _ in range(30))
    report("registry", f"node_select_sql_{NODES // 1000}k_p50", float(took[15]), "us")


def main():
    with Cluster(settings={"a67.heartbeat_interval": "30s", "a67.max_clients": "256",
                           "a67.max_nodes": "32768", "a67.rate_limits": "off"}) as cluster:
        add_nodes(cluster, NODES)
        selection(cluster)
        heartbeats(cluster)
        say(f"listener after all: {cluster.row('SELECT * FROM a67.listener')}")


main()
