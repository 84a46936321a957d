"""Queries of the API that eat time, memory, disk or places: what they cost others, and what happens when shards are away."""

import json
import signal
import statistics
import threading
import time

import psycopg
import pytest

from cloud import Cluster, process, wait_until
from cloud.api import Api
from cloud.shards import Shards
from cloud.tenant import Tenants

FOREVER = "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 30000) b, generate_series(1, 30000) c"
# Compares each letter with each letter, without looking whether it should stop.
DEAF = "SELECT length(translate(repeat('a', 400000), repeat('b', 400000), ''))"

MEMORY = {
    "one string": "SELECT length(repeat('x', 1000000000))",
    "gathered": "SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 900)",
    "array": "SELECT array_length(array_fill(0::bigint, ARRAY[100000000]), 1)",
    "array_agg": "SELECT array_length(array_agg(g), 1) FROM generate_series(1, 100000000) g",
    "json": "SELECT length(jsonb_agg(repeat('x', 1000))::text) FROM generate_series(1, 1000000)",
    "many hashes": "SELECT count(*) FROM (SELECT DISTINCT ON (a) a, array_agg(b) FROM generate_series(1, 3000000) a, LATERAL"
                   " (SELECT repeat(a::text, 50) AS b) x GROUP BY a) y",
    "format": "SELECT length(format('%1000000000s', 'x'))",
    "row of a shard": "SELECT repeat(name, 100000000) FROM item WHERE id = 1",
    "rows of a shard": "SELECT string_agg(repeat(name, 100000), '') FROM item",
    "lpad": "SELECT length(lpad('x', 1000000000, 'y'))",
    "entities": "SELECT XMLPARSE(DOCUMENT '<!DOCTYPE x [" + "".join(
        f"<!ENTITY e{n + 1} \"{f'&e{n};' * 20}\">" for n in range(9)) + "<!ENTITY e0 \"ha\">]><x>&e9;</x>')",
}
DISK = {
    "sort": "SELECT count(*) FROM (SELECT repeat(g::text, 100) AS r FROM generate_series(1, 10000000) g ORDER BY 1) x",
    "recursion": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
}


@pytest.fixture(scope="module")
def tenants():
    with Tenants({"eve": 1, "ann": 1}, settings={"a67.request_timeout": "2s", "a67.query_memory": "64MB"}) as tenants:
        for one in (tenants.eve, tenants.ann):
            one.data("CREATE TABLE item (id int PRIMARY KEY, name text)")
            one.data("INSERT INTO item SELECT g, 'item ' || g FROM generate_series(1, 100) g")
        yield tenants


# Small texts that are large inside, or deep.
DEEP = {
    "parentheses": "SELECT " + "(" * 20000 + "1" + ")" * 20000,
    "sum": "SELECT 1" + " + 1" * 50000,
    "conditions": "SELECT * FROM item WHERE " + " OR ".join(f"(id = {n} AND name = 'x')" for n in range(8000)),
    "subqueries": "SELECT * FROM item" + "".join(f" WHERE id IN (SELECT id FROM item i{n}" for n in range(800)) + ")" * 800,
    "joins": "SELECT count(*) FROM " + ", ".join(f"item i{n}" for n in range(300)),
    "joins by key": "SELECT count(*) FROM item i0 " + " ".join(f"JOIN item i{n} USING (id)" for n in range(1, 60)),
    "unions": "SELECT id FROM item" + " UNION SELECT id FROM item" * 800,
    "CTEs": "WITH c0 AS (SELECT id FROM item)" + "".join(
        f", c{n} AS NOT MATERIALIZED (SELECT a.id FROM c{n - 1} a JOIN c{n - 1} b USING (id))" for n in range(1, 25))
        + " SELECT count(*) FROM c24",
    "a list": "SELECT count(*) FROM item WHERE id IN (" + ",".join(str(n) for n in range(60000)) + ")",
    "columns": "SELECT " + ", ".join(["id"] * 1700) + " FROM item",
    "JSON": "SELECT '" + "[" * 60000 + "]" * 60000 + "'::jsonb",
    "array": "SELECT '" + "{" * 60000 + "}" * 60000 + "'::int[]",
}


def workers(cluster):
    return {row["pid"] for row in cluster.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'a67 api worker'")}


class Attack:
    """Statements of one sender, at once and again and again, until the block ends."""

    def __init__(self, sender, query, threads):
        self.statuses = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(sender, query)) for _ in range(threads)]

    def _run(self, sender, query):
        while not self.over.is_set():
            self.statuses.append(sender.ask(query).status)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def point_queries(tenant, count=40):
    """Times in seconds of queries that must all succeed."""
    taken = []
    for number in range(count):
        began = time.monotonic()
        assert tenant.data("SELECT name FROM item WHERE id = $1", number + 1) == [[f"item {number + 1}"]]
        taken.append(time.monotonic() - began)
    return taken


def running(tenants):
    """How many requests run."""
    return tenants.cluster.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'a67 api worker' AND state = 'active'")


def test_a_time_bomb_takes_one_place(tenants):
    with Attack(tenants.eve, FOREVER, threads=6) as attack:
        wait_until("it runs", lambda: running(tenants))
        taken = point_queries(tenants.ann)
        assert running(tenants) == 1
        assert tenants.ann.person.client.get("/api/v1/databases").status == 200
        # Eve's own other requests are no queries.
        assert tenants.eve.person.client.get("/api/v1/databases/eve").status == 200
    assert statistics.median(taken) < 0.5, taken
    assert set(attack.statuses) <= {503, 504} and 504 in attack.statuses


@pytest.mark.parametrize("name", MEMORY)
def test_memory_bombs_are_refused(tenants, name):
    before = workers(tenants.cluster)
    answer = tenants.eve.ask(MEMORY[name])
    assert (answer.status, answer.json()["code"][:2]) in ((400, "54"), (400, "22"), (504, "57")), answer.text
    assert workers(tenants.cluster) == before
    assert tenants.eve.data("SELECT count(*) FROM item") == [[100]]
    assert len(point_queries(tenants.ann, 1)) == 1


@pytest.mark.parametrize("name", DISK)
def test_disk_bombs_are_refused(tenants, name):
    answer = tenants.eve.ask(DISK[name])
    assert (answer.status, answer.json()["code"]) in ((400, "54000"), (504, "57014")), answer.text
    assert tenants.cluster.value("SELECT count(*) FROM pg_ls_tmpdir()") == 0


@pytest.mark.parametrize("name", DEEP)
def test_deep_and_wide_statements_end(tenants, name):
    before = workers(tenants.cluster)
    answer = tenants.eve.ask(DEEP[name])
    assert answer.status in (200, 400, 504), (answer.status, answer.text[:500])
    assert workers(tenants.cluster) == before
    assert len(point_queries(tenants.ann, 1)) == 1


def test_views_upon_views(tenants):
    names = [f"v{number}" for number in range(20)]
    tenants.eve.data("CREATE VIEW v0 AS SELECT id FROM item")
    for lower, upper in zip(names, names[1:]):
        tenants.eve.data(f"CREATE VIEW {upper} AS SELECT a.id FROM {lower} a JOIN {lower} b USING (id)")
    before = workers(tenants.cluster)
    assert tenants.eve.ask("SELECT count(*) FROM v19").status in (400, 504)
    assert workers(tenants.cluster) == before
    assert len(point_queries(tenants.ann, 1)) == 1
    for name in reversed(names):
        tenants.eve.data(f"DROP VIEW {name}")


def test_shards_hear_of_the_time_out(tenants):
    assert tenants.eve.ask("SELECT count(*) FROM item a, item b, item c, item d, item e, item f").status == 504
    shard = tenants.shards.servers[0]
    wait_until("the shard works no more", lambda: shard.value(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tenant' AND state = 'active'"), until=lambda count: count == 0)
    assert tenants.eve.data("SELECT count(*) FROM item") == [[100]]


def test_memory_bombs_leave_others_alone(tenants):
    before = workers(tenants.cluster)
    with Attack(tenants.eve, MEMORY["array_agg"], threads=4) as attack:
        wait_until("some are over", lambda: attack.statuses)
        taken = point_queries(tenants.ann)
    assert statistics.median(taken) < 0.5, taken
    assert set(attack.statuses) <= {400, 503, 504}
    assert workers(tenants.cluster) == before


def test_a_worker_that_does_not_listen_is_replaced(tenants):
    before = workers(tenants.cluster)
    answer = tenants.eve.ask(DEAF)
    assert answer.status == 504, answer.text
    added = wait_until("another takes its place", lambda: workers(tenants.cluster) - before, timeout=20)
    assert len(added) == 1
    assert statistics.median(point_queries(tenants.ann)) < 0.5
    log = tenants.cluster.log.read_text()
    assert "does not end; another takes its place" in log
    assert tenants.eve.data("SELECT count(*) FROM item") == [[100]]


# -- shards that are away --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart():
    """The operator's database over two servers, how to ask it, and the keys on s2. The rows of s2 are in the database
    `copy` of the other server too, which stands for its replica."""
    settings = {"a67.request_timeout": "2s", "a67.shard_connect_timeout": "1s"}
    with Shards(2, apart=True) as shards, Cluster(settings=settings) as cluster:
        token = cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '2 hours')")
        client = Api("listener", cluster.listener_url(), token).admin

        def ask(query, *params, **more):
            return client.post("/api/v1/databases/shop/query", {"query": query, "params": list(params), **more})

        shards.create_database(cluster, "shop", {"strategy": "hash", "key": "id"})
        shards.execute("CREATE DATABASE copy", ["s1"])
        copy = psycopg.conninfo.make_conninfo(shards.connection("s1"), dbname="copy")
        cluster.execute("INSERT INTO a67_internal.shard_replica (shard_id)"
                        " SELECT shard_id FROM a67_internal.database_shard WHERE name = 's2'")
        cluster.execute("""
            UPDATE a67_internal.shard_replica SET connection_sealed =
                a67_internal._vault_seal(convert_to(%s, 'UTF8'), 'shard_replica.connection:' || replica_id)""", copy)
        assert ask("CREATE TABLE item (id int PRIMARY KEY, name text)").status == 200
        assert ask("INSERT INTO item SELECT g, 'x' FROM generate_series(1, 100) g").status == 200
        with shards.connect("s2") as s2, psycopg.connect(copy, autocommit=True) as replica:
            ids = [row[0] for row in s2.execute("SELECT id FROM item").fetchall()]
            replica.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
            replica.execute("INSERT INTO item SELECT unnest(%s::int[]), 'x'", (ids,))
        yield shards, ask, ids


def test_everything_answers(apart):
    _, ask, ids = apart
    assert ask("SELECT count(*) FROM item").json()["data"] == [[100]]
    assert 0 < len(ids) < 100


def test_a_stalled_shard(apart):
    shards, ask, ids = apart
    family = [shards.server("s2").postmaster, *process.children(shards.server("s2").postmaster.pid)]
    for one in family:
        one.kill(signal.SIGSTOP)
    try:
        answer = ask("SELECT count(*) FROM item")
        assert answer.status in (503, 504), answer.text
        answer = ask("SELECT count(*) FROM item", allow_partial=True)
        assert answer.status == 200, answer.text
        assert (answer.json()["partial"], answer.json()["shards_missing"]) == (True, ["s2"])
        assert answer.json()["data"] == [[100 - len(ids)]]
        # A write is whole or not at all.
        assert ask("UPDATE item SET name = 'y'", allow_partial=True).status in (503, 504)
    finally:
        for one in family:
            one.kill(signal.SIGCONT)
    wait_until("it answers again", lambda: ask("SELECT count(*) FROM item WHERE name = 'x'").json(), timeout=30,
               until=lambda body: body.get("data") == [[100]])


def test_a_shard_that_is_down(apart):
    shards, ask, ids = apart
    shards.server("s2").stop(signal.SIGINT)
    answer = ask("SELECT count(*) FROM item")
    assert answer.status == 503 and "s2" in answer.text, answer.text
    assert "host=" not in answer.text and "dbname" not in answer.text
    # Of what is on the other shard all is there.
    here = next(number for number in range(1, 101) if number not in ids)
    assert ask("SELECT id FROM item WHERE id = $1", here).json()["data"] == [[here]]
    # The replica may be behind: only who asks for it gets its rows.
    answer = ask("SELECT count(*) FROM item", consistency="eventual")
    assert (answer.status, answer.json().get("data")) == (200, [[100]]), answer.text
    answer = ask("SELECT count(*) FROM item", allow_partial=True)
    assert (answer.status, answer.json()["data"], answer.json()["shards_missing"]) == (200, [[100 - len(ids)]], ["s2"])
    assert ask("DELETE FROM item", allow_partial=True).status == 503
    shards.server("s1").stop(signal.SIGINT)
    assert ask("SELECT count(*) FROM item", allow_partial=True).status == 503
