"""Selection over the live node table: it follows what is committed, survives the loss of shared memory, is right
where the table cannot help, and never promises a resource twice. Nodes are rows without agents here."""

import json
import signal
import threading

import psycopg
import pytest

from cloud import Cluster, process, wait_until

# Nobody judges or commands nodes that have no agent.
QUIET = {"a67.monitor_interval": "1h", "a67.heartbeat_interval": "1h", "a67.reconcile_interval": "1h",
         "max_prepared_transactions": "5"}
EMPTY = "insufficient capacity for 1 replicas"


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=QUIET) as one:
        yield one


@pytest.fixture
def fresh():
    """A server for this test alone, made with these settings more."""
    made = []

    def make(**settings):
        made.append(Cluster(settings={**QUIET, **settings}).create())
        return made[-1]

    yield make
    for one in made:
        one.destroy()


@pytest.fixture(autouse=True)
def clean(request):
    yield
    if "cluster" in request.fixturenames:
        one = request.getfixturevalue("cluster")
        one.execute("DELETE FROM a67_internal.replica")
        one.execute("DELETE FROM a67_internal.deployment")
        one.execute("DELETE FROM a67_internal.node")


def add_nodes(where, *names, owner=None, memory=1 << 30, status="ready"):
    """Ready nodes without agents; where is a cluster or a connection."""
    where.execute("""
        WITH n AS (
            INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                                           max_concurrent_requests, region)
            SELECT coalesce(%s, a67_internal._operator_id()), name, 'http://127.0.0.1:1',
                   left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 43), 4, %s, 1073741824, 100, 'here'
            FROM unnest(%s::text[]) name RETURNING node_id)
        INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, metrics_at, cpu_percent, memory_percent)
        SELECT node_id, %s, now(), now(), 10, 10 FROM n""", *arguments(where, owner, memory, list(names), status))


def arguments(where, *values):
    """A cluster takes parameters one by one, a connection in a list."""
    return values if isinstance(where, Cluster) else (values,)


def chosen(cluster, count=1, more=""):
    """Names that a selection chooses, in order."""
    return [row["name"] for row in cluster.rows(f"SELECT * FROM a67.node_select({count}{more}) ORDER BY ordinal")]


def built(cluster):
    """Makes sure that selections use the shared table."""
    assert cluster.value("SELECT a67_internal._live_rebuild()")


def kill_shared_memory(cluster):
    """SIGKILLs a session: the server makes shared memory anew."""
    with cluster.connect() as victim:
        process.look(victim.info.backend_pid).kill()
        wait_until("the server noticed", lambda: cluster.value("SELECT 1"))
    cluster.wait_listening()


# -- what is committed, and what is not ------------------------------------------------------------


def test_changes_are_seen_when_they_are_committed(cluster):
    built(cluster)
    with cluster.connect(autocommit=False) as writer:
        add_nodes(writer, "oak")
        assert writer.execute("SELECT name FROM a67.node_select()").fetchall() == [("oak",)]
        with pytest.raises(psycopg.errors.InsufficientResources, match=EMPTY):
            chosen(cluster)
        writer.rollback()
        with pytest.raises(psycopg.errors.InsufficientResources, match=EMPTY):
            writer.execute("SELECT name FROM a67.node_select()")
        writer.rollback()
        add_nodes(writer, "oak", "elm")
        writer.commit()
    assert sorted(chosen(cluster, 2)) == ["elm", "oak"]
    cluster.execute("UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id ="
                    " (SELECT node_id FROM a67_internal.node WHERE name = 'elm')")
    assert chosen(cluster) == ["oak"]
    cluster.execute("UPDATE a67_internal.node SET desired_state = 'removed' WHERE name = 'oak'")
    with pytest.raises(psycopg.errors.InsufficientResources, match="all nodes failed"):
        chosen(cluster)
    assert [row["name"] for row in cluster.rows("SELECT name FROM a67.node_live")] == ["elm"]


def test_a_rolled_back_savepoint_takes_its_changes_along(cluster):
    built(cluster)
    with cluster.connect(autocommit=False) as writer:
        add_nodes(writer, "oak")
        writer.execute("SAVEPOINT s")
        add_nodes(writer, "elm")
        writer.execute("UPDATE a67_internal.node SET desired_state = 'draining' WHERE name = 'oak'")
        assert writer.execute("SELECT name FROM a67.node_select()").fetchall() == [("elm",)]
        writer.execute("ROLLBACK TO s")
        assert writer.execute("SELECT name FROM a67.node_select()").fetchall() == [("oak",)]
        writer.commit()
    assert chosen(cluster) == ["oak"]
    assert cluster.value("SELECT count(*) FROM a67.node_live") == 1


def test_a_transaction_that_changed_nodes_cannot_be_prepared(cluster):
    with cluster.connect(autocommit=False) as writer:
        add_nodes(writer, "oak")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="changed nodes"):
            writer.execute("PREPARE TRANSACTION 'nodes'")
    assert cluster.value("SELECT count(*) FROM a67_internal.node") == 0
    with pytest.raises(psycopg.errors.InsufficientResources):
        chosen(cluster)


def test_versions_grow_with_every_change(cluster):
    add_nodes(cluster, "oak")

    def versions():
        return tuple(cluster.row("""SELECT n.facts_version, o.epoch, r.version FROM a67_internal.node n
            JOIN a67_internal.node_observed o USING (node_id) JOIN a67_internal.node_reserved r USING (node_id)""").values())

    facts, epoch, version = versions()
    cluster.execute("UPDATE a67_internal.node SET labels = '{\"a\": \"b\"}'")
    cluster.execute("UPDATE a67_internal.node_observed SET status = 'busy'")
    cluster.execute("UPDATE a67_internal.node_observed SET near_quota = true, epoch = epoch + 5")
    cluster.execute("UPDATE a67_internal.node_observed SET cpu_percent = 3")
    cluster.execute("UPDATE a67_internal.node_reserved SET memory_bytes = 1")
    assert versions() == (facts + 1, epoch + 6, version + 1)
    row = cluster.row("SELECT status, near_quota, free_memory_bytes FROM a67.node_live")
    assert tuple(row.values()) == ("busy", True, (1 << 30) - 1)


def test_triggers_fire_for_a_replication_role(cluster):
    built(cluster)
    with cluster.connect() as subscriber:
        subscriber.execute("SET session_replication_role = replica")
        add_nodes(subscriber, "oak")
    assert chosen(cluster) == ["oak"]


# -- shared memory that is lost, full, or not there ------------------------------------------------


def test_a_crash_of_a_session_loses_nothing(fresh):
    cluster = fresh()
    add_nodes(cluster, "oak", "elm")
    cluster.execute("UPDATE a67_internal.node_reserved SET memory_bytes = 1073741824 WHERE node_id ="
                    " (SELECT node_id FROM a67_internal.node WHERE name = 'elm')")
    assert chosen(cluster, 1, ", 1000") == ["oak"]
    kill_shared_memory(cluster)
    # Repaired first: nobody had promised that.
    wait_until("the launcher has built the table", lambda: cluster.value("SELECT count(*) FROM a67.node_live"),
               until=lambda count: count == 2)
    assert sorted(chosen(cluster, 2, ", 1000")) == ["elm", "oak"]
    assert cluster.value("SELECT sum(memory_bytes) FROM a67_internal.node_reserved") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["restart", "kill"])
def test_a_restart_finds_the_nodes_again(fresh, number):
    cluster = fresh(fsync="on")
    add_nodes(cluster, "oak", "elm")
    if number == signal.SIGKILL:
        cluster.kill9()
    else:
        cluster.stop(number)
    cluster.start()
    assert sorted(chosen(cluster, 2)) == ["elm", "oak"]
    cluster.wait_listening()
    wait_until("the table is built", lambda: cluster.value("SELECT count(*) FROM a67.node_live"),
               until=lambda count: count == 2)


def test_more_nodes_than_there_is_room_for(fresh):
    cluster = fresh(**{"a67.max_nodes": "16"})
    add_nodes(cluster, *(f"n{i}" for i in range(16)))
    assert len(set(chosen(cluster, 16))) == 16
    add_nodes(cluster, *(f"m{i}" for i in range(4)))
    for _ in range(3):
        assert len(set(chosen(cluster, 20))) == 20, "none is ignored"
    log = cluster.log.read_text(errors="replace")
    assert log.count("more nodes than the live node table has room for (16)") == 1
    assert "Increase a67.max_nodes" in log
    assert cluster.value("SELECT count(*) FROM a67.node_live") == 16
    # There is room again.
    cluster.execute("DELETE FROM a67_internal.node WHERE name LIKE 'n%%' AND name > 'n14'")
    assert len(set(chosen(cluster, 9))) == 9
    cluster.execute("DELETE FROM a67_internal.node WHERE name LIKE 'n%'")
    assert sorted(chosen(cluster, 4)) == ["m0", "m1", "m2", "m3"]
    assert cluster.value("SELECT count(*) FROM a67.node_live") == 4


def test_a_change_of_very_many_nodes(fresh):
    """More than a transaction lists: seen inside it, and after it, and by the launcher's rebuild."""
    cluster = fresh(**{"a67.max_nodes": "32768"})
    built(cluster)
    names = [f"n{i}" for i in range(20000)]
    with cluster.connect(autocommit=False) as writer:
        add_nodes(writer, *names)
        assert len(writer.execute("SELECT name FROM a67.node_select(10)").fetchall()) == 10
        with pytest.raises(psycopg.errors.InsufficientResources):
            chosen(cluster)
        writer.commit()
    wait_until("the launcher has built the table", lambda: cluster.value("SELECT count(*) FROM a67.node_live"),
               until=lambda count: count == 20000)
    assert len(chosen(cluster, 10)) == 10
    cluster.execute("UPDATE a67_internal.node_observed SET status = 'failed'")
    with pytest.raises(psycopg.errors.InsufficientResources, match="all nodes failed"):
        chosen(cluster)


def test_truncate_and_drop_extension(fresh):
    cluster = fresh()
    add_nodes(cluster, "oak", "elm")
    assert chosen(cluster)
    cluster.execute("TRUNCATE a67_internal.node CASCADE")
    with pytest.raises(psycopg.errors.InsufficientResources, match=EMPTY):
        chosen(cluster)
    assert cluster.value("SELECT count(*) FROM a67_internal._node_live()") == 0
    add_nodes(cluster, "oak")
    with cluster.connect(autocommit=False) as dropper:
        dropper.execute("DROP EXTENSION a67")
        dropper.rollback()
    assert chosen(cluster) == ["oak"]
    cluster.execute("DROP EXTENSION a67")
    cluster.execute("CREATE EXTENSION a67")
    add_nodes(cluster, "elm")
    assert chosen(cluster) == ["elm"]
    cluster.wait_listening()
    assert chosen(cluster) == ["elm"], "also when the launcher has noticed"


def test_another_database_is_another_world(fresh):
    cluster = fresh()
    add_nodes(cluster, "oak")
    cluster.execute("CREATE DATABASE other")
    with psycopg.connect(host=str(cluster.socket), port=5432, user="postgres", dbname="other", autocommit=True) as other:
        other.execute("CREATE EXTENSION a67")
        with pytest.raises(psycopg.errors.InsufficientResources, match=EMPTY):
            other.execute("SELECT a67.node_select()")
        add_nodes(other, "elm")
        assert other.execute("SELECT name FROM a67.node_select()").fetchall() == [("elm",)]
        assert not other.execute("SELECT a67_internal._live_rebuild()").fetchone()[0]
    assert chosen(cluster) == ["oak"]
    assert cluster.value("SELECT count(*) FROM a67_internal._node_live()") == 1


def test_a_dump_is_restored_with_its_promises(fresh):
    """Also those on a node that has shrunk since."""
    cluster = fresh()
    add_nodes(cluster, "oak")
    deployment(cluster, "app")
    assert cluster.value(PLACE, 2, "app") is None
    cluster.execute("UPDATE a67_internal.replica SET epoch = 1")
    cluster.execute("UPDATE a67_internal.node SET memory_bytes = 5")
    rows = {table: cluster.rows(f"SELECT to_jsonb(t) AS row FROM a67_internal.{table} t") for table in
            ("node", "node_observed", "replica")}
    cluster.execute("DELETE FROM a67_internal.replica")
    cluster.execute("DELETE FROM a67_internal.node")
    for table, found in rows.items():
        cluster.execute(f"INSERT INTO a67_internal.{table} SELECT r.* FROM jsonb_populate_recordset("
                        f"NULL::a67_internal.{table}, %s::jsonb) r", json.dumps([row["row"] for row in found]))
    assert cluster.value("SELECT memory_bytes FROM a67_internal.node_reserved") == 200
    assert cluster.value("SELECT free_memory_bytes FROM a67.node_live") == 5 - 200


# -- who sees what ---------------------------------------------------------------------------------


def test_users_see_and_get_their_own_nodes(cluster):
    bob = cluster.value("SELECT a67.user_create('bob@example.org')")
    add_nodes(cluster, "oak")
    add_nodes(cluster, "elm", owner=bob)
    with cluster.connect(user="a67_authenticator") as session:
        session.execute("SET ROLE a67_user")
        session.execute("SELECT set_config('request.jwt.claims', %s, false)",
                        (json.dumps({"role": "a67_user", "sub": str(bob)}),))
        assert session.execute("SELECT name FROM a67.node_select()").fetchall() == [("elm",)]
        assert session.execute("SELECT name FROM a67.node_live").fetchall() == [("elm",)]
        assert session.execute("SELECT count(*) FROM a67_internal._node_live()").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SELECT a67_internal._live_rebuild()")
        session.execute("RESET request.jwt.claims")
        assert session.execute("SELECT count(*) FROM a67_internal._node_live()").fetchone() == (0,)
        with pytest.raises(psycopg.Error) as refused:
            session.execute("SELECT a67.node_select()")
        assert refused.value.sqlstate == "PT401"


def test_selection_over_http(cluster):
    add_nodes(cluster, "oak", "elm")
    token = cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '1 hour')")
    http = cluster.client(token)
    answer = http.post("/api/v1/nodes/select", {"count": 2, "memory_bytes": 1000, "seed": 7})
    assert answer.status == 200, answer.text
    assert sorted(row["name"] for row in answer.json()) == ["elm", "oak"]
    assert answer.json()[0]["parts"]["strategy"] == "composite"
    for body, status, told in (({"strategy": "random"}, 400, "strategy"), ({"nodes": 3}, 400, "nodes"),
                               ({"memory_bytes": 1 << 40}, 503, "1099511627776 bytes of memory")):
        answer = http.post("/api/v1/nodes/select", body)
        assert answer.status == status and told in answer.text, answer.text
    assert cluster.client().post("/api/v1/nodes/select", {}).status == 401


def test_history_fades_and_counts(cluster):
    add_nodes(cluster, "oak")
    assert not cluster.value("SELECT a67_internal._live_observe('00000000-0000-4000-8000-000000000009', 1, 1, 1)")
    assert not cluster.value("SELECT a67_internal._live_observe(NULL, 1, 1, 1)")
    node = cluster.value("SELECT node_id FROM a67.node_live")
    before = cluster.row("SELECT * FROM a67.node_select()")["parts"]
    assert before["reliability"] == 1 and before["latency"] == 0
    assert cluster.value("SELECT a67_internal._live_observe(%s, 1000, 50, 100)", node)
    assert cluster.value("SELECT a67_internal._live_observe(%s, 1000, 50, 200)", node)
    assert cluster.value("SELECT a67_internal._live_observe(%s, 'NaN', -5, 'Infinity')", node)
    after = cluster.row("SELECT * FROM a67.node_select()")["parts"]
    assert abs(after["reliability"] - 0.5) < 0.01 and abs(after["latency"] - 0.7) < 0.01
    row = cluster.row("SELECT requests, failures, latency_ms, metrics_usable, metrics_age FROM a67.node_live")
    assert 1900 < row["requests"] <= 2000 and row["metrics_usable"]
    wait_until("it fades", lambda: cluster.value("SELECT requests FROM a67.node_live"),
               until=lambda requests: requests < row["requests"])


def test_weights_follow_a_reload(cluster):
    add_nodes(cluster, *(f"n{i}" for i in range(12)))
    cluster.execute("UPDATE a67_internal.node_observed SET cpu_percent = 70, memory_percent = 5, status = 'busy'")
    cluster.execute("UPDATE a67_internal.node_observed SET cpu_percent = 5, memory_percent = 70, metrics_at = clock_timestamp(),"
                    " status = 'ready' WHERE node_id IN (SELECT node_id FROM a67_internal.node WHERE name < 'n2')")
    built(cluster)
    few = {"n0", "n1", "n10", "n11"}
    for weights, expected in (("cpu=1", True), ("memory=1", False)):
        cluster.configure(**{"a67.score_weights": weights})
        cluster.execute("SELECT pg_reload_conf()")
        wait_until("the weights count", lambda: {name for _ in range(20) for name in chosen(cluster)},
                   until=lambda names, few=few, expected=expected: (names <= few) == expected)
    cluster.configure(**{"a67.score_weights": None})
    cluster.execute("SELECT pg_reload_conf()")


# -- promises --------------------------------------------------------------------------------------

PLACE = """SELECT a67_internal._deployment_place(d, 1, %s::integer, now()) FROM a67_internal.deployment d WHERE d.name = %s"""
PROMISED = """SELECT bool_and(r.memory_bytes <= n.memory_bytes AND r.memory_bytes = p.promised) FROM a67_internal.node n
    JOIN a67_internal.node_reserved r USING (node_id),
    LATERAL (SELECT coalesce(sum(memory_bytes), 0) AS promised FROM a67_internal.replica p WHERE p.node_id = n.node_id) p"""


def deployment(cluster, name, memory=100):
    """A deployment that the reconciler leaves alone."""
    cluster.execute("""
        WITH d AS (INSERT INTO a67_internal.deployment (owner_id, name, replicas, desired_state)
                   VALUES (a67_internal._operator_id(), %s, 0, 'stopped') RETURNING deployment_id)
        INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest)
        SELECT deployment_id, 1, jsonb_build_object('resources', jsonb_build_object('memory_bytes', %s::bigint, 'cpu', 0.001)), 'x'
        FROM d""", name, memory)


def test_concurrent_deployments_never_oversubscribe(cluster):
    """Sixteen sessions place 320 replicas on nodes that have room for 60 of them, and remove some again."""
    add_nodes(cluster, *(f"n{i}" for i in range(20)), memory=300)
    for i in range(16):
        deployment(cluster, f"app-{i}")
    wrong = []

    def place(name):
        with cluster.connect() as session:
            for round in range(4):
                session.execute(PLACE, (5, name))
                if not session.execute(PROMISED).fetchone()[0]:
                    wrong.append(name)
                if round == 1:
                    session.execute("""DELETE FROM a67_internal.replica WHERE replica_id IN (
                        SELECT replica_id FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
                        WHERE d.name = %s LIMIT 2)""", (name,))

    threads = [threading.Thread(target=place, args=(f"app-{i}",)) for i in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    assert not wrong
    for i in range(16):
        cluster.execute(PLACE, 5, f"app-{i}")
    assert cluster.value(PROMISED)
    assert cluster.value("SELECT count(*) FROM a67_internal.replica") == 60, "all room is used"
    assert "deadlock" not in cluster.log.read_text(errors="replace")


def test_nodes_that_others_fill_are_passed_over(cluster):
    """Nobody waits: what finds no other node is placed in the next round."""
    add_nodes(cluster, "oak", memory=100)
    add_nodes(cluster, "elm", memory=100, status="degraded")
    deployment(cluster, "first")
    deployment(cluster, "second")
    with cluster.connect(autocommit=False) as first:
        first.execute(PLACE, (1, "first"))
        answer = cluster.value(PLACE, 2, "second")
        assert answer.startswith("insufficient capacity for 1 of 2 replicas: Of 2 nodes, 1 is being filled by others."), answer
        first.rollback()
    assert cluster.value(PLACE, 1, "second") is None
    assert cluster.value("SELECT count(DISTINCT node_id) FROM a67_internal.replica") == 2
    assert cluster.value(PROMISED)
