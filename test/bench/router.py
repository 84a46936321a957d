"""The virtual database over four shards with a million rows, against a direct connection to one plain database with all rows,
postgres_fdw over hash partitions, and PL/Proxy (router_peers.py).

Statements run under pgbench, queries over all shards in one session one after the other; all peers in turn, ROUNDS times, and medians
count. Ratios above 1 are in our favour: transactions a second over the peer's, or the peer's time over ours. All servers run on this
machine with synchronous_commit off, as what is measured is the way and not the disk; a routed statement keeps two server
processes busy, so on two cores half of direct is about what can be reached.
"""

import re
import statistics
import subprocess
import time

from cloud import process
from cloud.server import SUPERUSER, Cluster, server_program
from cloud.shards import PLAIN, Shards
from load import report, say
from router_peers import make_a67, make_plain, make_plproxy, make_postgres_fdw, rows_as_text

ROWS = 1000000
ROUNDS = 5
SECONDS = 2
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
            "synchronous_commit": "off", "max_connections": "100", "work_mem": "64MB"}

KEY = f"\\set k random(1, {ROWS})\n"
CUSTOMER = f"\\set k random(1, {ROWS // 10})\n"
NEW = "\\set k random(2000000, 9000000000000)\n"

# metric: clients, protocol, script per peer
STATEMENTS = {
    "point_select_prepared_c1": (1, "prepared", "point"),
    "point_select_prepared_c8": (8, "prepared", "point"),
    "point_select_simple_c1": (1, "simple", "point"),
    "point_select_simple_c8": (8, "simple", "point"),
    "join_by_key": (8, "prepared", "join"),
    "update_by_key": (8, "prepared", "update"),
    "insert_single": (8, "prepared", "insert"),
}
SCRIPTS = {
    "point": {
        None: KEY + "SELECT abalance FROM {}accounts WHERE aid = :k;",
        "plproxy": KEY + "SELECT pp.account(:k);",
    },
    "join": {
        None: CUSTOMER + "SELECT count(*), sum(o.total) FROM {0}customers c JOIN {0}orders o USING (customer_id) "
                         "WHERE customer_id = :k;",
        "plproxy": CUSTOMER + "SELECT * FROM pp.customer(:k);",
    },
    "update": {
        None: KEY + "UPDATE {}accounts SET abalance = abalance + 1 WHERE aid = :k;",
        "plproxy": KEY + "SELECT pp.change(:k, 1);",
    },
    "insert": {
        None: NEW + "INSERT INTO {}accounts VALUES (:k, 1, 1, 1, '');",
        "plproxy": NEW + "SELECT pp.add(:k, 1);",
    },
}
QUERIES = {
    "fanout_group_by": {
        None: "SELECT bid, count(*), sum(abalance) FROM {}accounts GROUP BY bid",
        "plproxy": "SELECT bid, sum(n), sum(s) FROM pp.by_branch() GROUP BY bid",
    },
    "top_20": {
        None: "SELECT abalance, aid FROM {}accounts ORDER BY abalance DESC, aid LIMIT 20",
        "plproxy": "SELECT * FROM pp.top() ORDER BY abalance DESC, aid LIMIT 20",
    },
    "count_distinct": {None: "SELECT count(DISTINCT device) FROM {}accounts"},
    "join_aggregate": {
        None: "SELECT c.region, count(*), sum(o.total) FROM {0}customers c JOIN {0}orders o USING (customer_id) GROUP BY c.region",
    },
}
SCHEMAS = {"a67": "cloud.", "postgres_fdw": "fdw.", "direct": ""}
PEERS = ("a67", "direct", "postgres_fdw", "plproxy")


def text_of(choice, peer):
    """What a peer runs; None when it has no such thing."""
    text = choice.get(peer) or (choice[None] if peer in SCHEMAS else None)
    return text and text.format(SCHEMAS.get(peer))


class Bench:
    def __init__(self, cluster, shards):
        self.cluster = cluster
        self.shards = shards
        self.plain = shards.server(PLAIN)

    def place(self, peer):
        """Server and database that a peer is asked at."""
        return (self.plain, PLAIN) if peer == "direct" else (self.cluster, "postgres")

    def pgbench(self, peer, script, clients, protocol):
        """Transactions a second."""
        server, database = self.place(peer)
        path = server.folder / "pgbench.sql"
        path.write_text(script)
        process.own(path)
        done = subprocess.run(
            [str(server_program("pgbench")), "-n", "-M", protocol, "-h", str(server.socket), "-U", SUPERUSER, "-c", str(clients),
             "-j", "1", "-T", str(SECONDS), "-f", str(path), database],
            capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0 or "aborted" in done.stderr:
            raise RuntimeError(f"pgbench at {peer}: {done.stderr[-2000:]}")
        return float(re.search(r"tps = ([\d.]+)", done.stdout)[1])

    def statements(self):
        for metric, (clients, protocol, name) in STATEMENTS.items():
            peers = [peer for peer in PEERS if text_of(SCRIPTS[name], peer)]
            found = {peer: [] for peer in peers}
            for _ in range(ROUNDS):
                for peer in peers:
                    found[peer].append(self.pgbench(peer, text_of(SCRIPTS[name], peer), clients, protocol))
            medians = {peer: statistics.median(values) for peer, values in found.items()}
            say(f"{metric}: " + ", ".join(f"{peer} {value:.0f}/s" for peer, value in medians.items()))
            report("router", metric, medians["a67"], "1/s",
                   **{peer: medians["a67"] / value for peer, value in medians.items() if peer != "a67"})

    def connect(self, peer):
        connection = self.shards.connect(PLAIN) if peer == "direct" else self.cluster.connect()
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET enable_partitionwise_aggregate = on")
        connection.execute("SET enable_partitionwise_join = on")
        return connection

    def queries(self):
        for metric, choice in QUERIES.items():
            peers = {peer: self.connect(peer) for peer in PEERS if text_of(choice, peer)}
            found = {peer: [] for peer in peers}
            answers = {}
            for round_ in range(ROUNDS + 1):
                for peer, connection in peers.items():
                    began = time.perf_counter()
                    rows = connection.execute(text_of(choice, peer)).fetchall()
                    # The first one warms connections and caches.
                    if round_:
                        found[peer].append(time.perf_counter() - began)
                    answers[peer] = sorted(rows)
            for peer, connection in peers.items():
                connection.close()
                if answers[peer] != answers["direct"]:
                    raise RuntimeError(f"{metric}: {peer} answers something else than direct")
            medians = {peer: statistics.median(values) for peer, values in found.items()}
            say(f"{metric}: " + ", ".join(f"{peer} {value * 1e3:.0f} ms" for peer, value in medians.items()))
            report("router", metric, medians["a67"] * 1e3, "ms",
                   **{peer: value / medians["a67"] for peer, value in medians.items() if peer != "a67"})

    def load(self, connection, table, text):
        """Seconds that COPY of all rows takes into an empty table."""
        connection.execute(f"TRUNCATE {table}")
        began = time.perf_counter()
        with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            for at in range(0, len(text), 1 << 20):
                copy.write(text[at:at + (1 << 20)])
        return time.perf_counter() - began

    def copies(self):
        text = rows_as_text(self.shards)
        found = {"a67": [], "direct": []}
        with self.connect("a67") as ours, self.connect("direct") as plain:
            for _ in range(ROUNDS):
                found["a67"].append(self.load(ours, "cloud.accounts", text))
                found["direct"].append(self.load(plain, "accounts", text))
        ours, plain = (statistics.median(values) for values in found.values())
        say(f"copy_1m: a67 {ours:.2f} s, direct {plain:.2f} s")
        report("router", "copy_1m", ROWS / ours, "rows/s", single_server=plain / ours)


def main():
    with Cluster(settings=SETTINGS) as cluster, Shards(4, settings=SETTINGS) as shards:
        began = time.perf_counter()
        make_plain(shards, ROWS)
        for make in (make_a67, make_plproxy, make_postgres_fdw):
            make(shards, cluster)
        shards.servers[0].execute("CHECKPOINT")
        say(f"set up in {time.perf_counter() - began:.0f} s")
        bench = Bench(cluster, shards)
        bench.queries()
        bench.statements()
        bench.copies()


if __name__ == "__main__":
    main()
