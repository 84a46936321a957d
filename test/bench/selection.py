"""Time of one a67.node_select() inside one backend, over 1k, 10k and 100k nodes, and of the best SQL statement that does the
same. Part of the registry's benchmark.

Every node has fresh metrics and a history, so every part of the composite score has to be worked out. The peer reads one
flat table that holds just what it needs, one row a node, in one backend: joins, or the real tables, only make it slower.
"""

from cloud.server import Cluster
from load import report, say

SIZES = (1000, 10000, 100000)
CALLS = {1000: 2000, 10000: 500, 100000: 100}
ROUNDS = 3

ADD = """
    WITH n AS (
        INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                       max_concurrent_requests, region, provider)
        SELECT a67_internal._operator_id(), 'bench-' || i, 'http://127.0.0.1:1', lpad(i::text, 43, '0'), 2, 1073741824,
               10737418240, 100, 'region-' || i %% 20, 'provider-' || i %% 5
        FROM generate_series(%s::integer, %s::integer) i RETURNING node_id)
    INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, cpu_percent, memory_percent, latency_ms,
                                            active_requests, metrics_at)
    SELECT node_id, 'ready', now(), random() * 80, random() * 80, random() * 200, random() * 50, now() FROM n"""

FLAT = """
    DROP TABLE IF EXISTS bench_node;
    CREATE UNLOGGED TABLE bench_node AS
    SELECT n.owner_id, n.node_id, l.selectable, l.free_memory_bytes, l.free_cpu, l.free_disk_bytes, l.cpu_percent::float8 AS cpu,
           l.memory_percent::float8 AS memory, l.latency_ms::float8 AS latency, l.active_requests::float8 AS active,
           n.max_concurrent_requests::float8 AS most, l.requests, l.failures, clock_timestamp() AS history_at, l.metrics_at
    FROM a67.node_live l JOIN a67_internal.node n USING (node_id);
    VACUUM ANALYZE bench_node"""

# Ours counts the nodes besides, to know how many of the best it may draw from; the peer is spared that.
PEER = """
    SELECT node_id FROM (
        SELECT node_id FROM bench_node
        WHERE owner_id = owner AND selectable AND free_memory_bytes >= 1048576 AND free_cpu >= 0.1 AND free_disk_bytes >= 0
          AND metrics_at > now() - interval '2 h'
        ORDER BY (0.30 * greatest(0, 1 - cpu / 100) + 0.25 * greatest(0, 1 - memory / 100) + 0.20 * greatest(0, 1 - latency / 500)
                  + 0.15 * greatest(0, 1 - active / most)
                  + 0.10 * CASE WHEN requests <= 100 THEN 1
                                WHEN requests * exp(-0.011552453 * extract(epoch FROM now() - history_at)::float8) <= 100 THEN 1
                                ELSE greatest(0, 1 - 10 * failures / requests) END)
                 * CASE WHEN cpu > 80 OR memory > 80 THEN 0.5 ELSE 1 END DESC LIMIT 3) best
    ORDER BY random() LIMIT 1"""

TIMER = """
    CREATE OR REPLACE FUNCTION pg_temp.{name}(calls integer) RETURNS float8[] LANGUAGE plpgsql AS $$
    DECLARE
        owner uuid := a67_internal._operator_id();
        began timestamptz;
        took float8[];
        chosen uuid;
    BEGIN
        FOR i IN 1..calls LOOP
            began := clock_timestamp();
            {statement};
            took := took || extract(epoch FROM clock_timestamp() - began)::float8 * 1e6;
        END LOOP;
        RETURN took;
    END $$"""


def p50(session, name, calls):
    """Microseconds of a call: the median of the quietest round."""
    rounds = []
    for _ in range(ROUNDS):
        took = sorted(session.execute(f"SELECT pg_temp.{name}(%s)", (calls,)).fetchone()[0])
        rounds.append(took[len(took) // 2])
    return min(rounds)


def measure(cluster, size):
    with cluster.connect() as session:
        session.execute("SET max_parallel_workers_per_gather = 0; SET jit = off; SET statement_timeout = 0")
        session.execute(TIMER.format(name="ours", statement="SELECT node_id INTO chosen FROM a67.node_select(1, 1048576, 0.1)"))
        session.execute(TIMER.format(name="peer", statement=PEER.replace("SELECT node_id FROM (", "SELECT node_id INTO chosen FROM (", 1)))
        session.execute("SELECT a67_internal._live_observe(node_id, 100 + random() * 400, random() * 5, 50) FROM a67_internal.node")
        for statement in FLAT.split(";"):
            session.execute(statement)
        session.execute("SELECT pg_temp.ours(100), pg_temp.peer(3)")
        ours = p50(session, "ours", CALLS[size])
        peer = p50(session, "peer", max(CALLS[size] // 50, 5))
    report("registry", f"node_select_{size // 1000}k_p50", ours, "us", pure_sql=peer / ours)
    say(f"the best SQL statement over {size} nodes takes {peer:.0f} us")


def main():
    with Cluster(settings={"a67.max_nodes": "131072", "shared_buffers": "256MB", "a67.heartbeat_interval": "1h",
                           "a67.monitor_interval": "1h", "a67.reconcile_interval": "1h"}) as cluster:
        there = 0
        for size in SIZES:
            cluster.execute(ADD, there + 1, size)
            there = size
            measure(cluster, size)
