"""Shards that die, hang or are not there: no wrong rows ever, errors that say what is known, and recovery by itself.

Each shard is a server of its own. The table is item (id, n), where n = id; sums tell of anything lost or done twice.
"""

import signal
import threading

import psycopg
import pytest

from cloud import Cluster, process
from cloud.shards import Shards
from cloud.wait import wait_until

WHOLE = (100, 5050)
UNAVAILABLE = ("08", "57P")


@pytest.fixture(scope="module")
def shop():
    settings = {"a67.shard_timeout": "2s", "a67.shard_connect_timeout": "2s"}
    with Shards(2, apart=True) as shards, Cluster(settings=settings) as cluster:
        shards.create_database(cluster, "shop")
        cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE item (id int PRIMARY KEY, n int)')")
        cluster.execute("INSERT INTO shop.item SELECT i, i FROM generate_series(1, 100) i")
        cluster.shards = shards
        cluster.keys = [cluster.value("SELECT min(i) FROM generate_series(1, 100) i WHERE a67.shard_of('shop.item', i::text) = %s",
                                      name) for name in shards.names]
        yield cluster


@pytest.fixture
def session(shop):
    """Starts and ends with shards that are well and rows that are right."""
    wait_until("all rows are there", lambda: whole(shop), until=lambda found: found == WHOLE)
    with shop.connect() as connection:
        yield connection
    wait_until("all rows are there again", lambda: whole(shop), until=lambda found: found == WHOLE)


def whole(shop):
    with shop.connect() as connection:
        return everything(connection)


def everything(connection):
    return connection.execute("SELECT count(*), sum(n) FROM shop.item").fetchone()


def remote(shop, shard="s1", where="true"):
    """Processes on the shard that serve a67."""
    with shop.shards.connect(shard) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'a67' AND datname = %s "
                                  f"AND {where}", [shard]).fetchall()
    return [process.look(row[0]) for row in rows]


def kill_remote(shop, shard="s1", number=signal.SIGKILL):
    """Kills what serves a67 on the shard; after SIGKILL its server restarts all processes."""
    for one in remote(shop, shard):
        one.kill(number)


class Attempt(threading.Thread):
    """A statement in a thread of its own: its rows, or the error."""

    def __init__(self, connection, statement, *parameters):
        super().__init__(daemon=True)
        self.connection, self.statement, self.parameters = connection, statement, parameters
        self.rows = self.error = None
        self.start()

    def run(self):
        try:
            cursor = self.connection.execute(self.statement, self.parameters or None)
            self.rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self.error = error

    def end(self):
        self.join(20)
        assert not self.is_alive()
        return self


def assert_unavailable(error):
    assert error is not None and error.sqlstate.startswith(UNAVAILABLE), repr(error)
    assert "host=" not in str(error) and "user=" not in str(error)


def blocked(shop, shard="s1"):
    return remote(shop, shard, "wait_event_type = 'Lock'")


class Blocker:
    """Holds a lock on the shard, so that statements of others stay under way."""

    def __init__(self, shop, shard="s1"):
        self.connection = shop.shards.connect(shard)
        self.connection.execute("BEGIN; LOCK TABLE item")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


# ---- kill -9 of a shard's backend: idle, in a read, in a write, in a transaction, at its commit ----


def test_idle_connection_dies(shop, session):
    """Nobody notices: it is seen before anything is sent, or the statement can be sent again."""
    for statement in ("SELECT count(*), sum(n) FROM shop.item", "UPDATE shop.item SET n = n WHERE id = %s" % shop.keys[0]):
        assert everything(session) == WHOLE
        kill_remote(shop, number=signal.SIGTERM)
        wait_until("it is gone", lambda: remote(shop), until=lambda left: not left)
        session.execute(statement)
    assert everything(session) == WHOLE


def test_server_restarts_between_statements(shop, session):
    assert everything(session) == WHOLE
    server = shop.shards.server("s1")
    server.stop(signal.SIGQUIT)
    server.start()
    session.execute("UPDATE shop.item SET n = n WHERE id = %s", [shop.keys[0]])
    assert everything(session) == WHOLE


@pytest.mark.parametrize("statement", ["SELECT n FROM shop.item WHERE id = {key}", "SELECT count(*), sum(n) FROM shop.item"])
def test_read_dies(shop, session, statement):
    """It is repeated as soon as the shard is back, or says that it is not: right rows or none."""
    expected = [(shop.keys[0],)] if "{key}" in statement else [WHOLE]
    with Blocker(shop):
        attempt = Attempt(session, statement.format(key=shop.keys[0]))
        wait_until("it is under way", lambda: blocked(shop))
        kill_remote(shop)
        attempt.end()
    if attempt.error is None:
        assert attempt.rows == expected
    else:
        assert_unavailable(attempt.error)


def test_terminated_read_is_repeated(shop, session):
    """The shard ends the session properly (as poolers and providers do): the read is simply sent again."""
    with Blocker(shop) as blocker:
        attempt = Attempt(session, "SELECT count(*), sum(n) FROM shop.item")
        wait_until("it is under way", lambda: blocked(shop))
        first = [one.pid for one in blocked(shop)]
        kill_remote(shop, number=signal.SIGTERM)
        wait_until("it comes again", lambda: [one.pid for one in blocked(shop) if one.pid not in first])
        blocker.connection.rollback()
        attempt.end()
    assert attempt.error is None and attempt.rows == [WHOLE]


def test_terminated_write_is_repeated_once(shop, session):
    """An UPDATE of its own that the shard ended with FATAL was not done: it is sent again, and done once."""
    key = shop.keys[0]
    with Blocker(shop) as blocker:
        attempt = Attempt(session, "UPDATE shop.item SET n = n + 1 WHERE id = %s", key)
        wait_until("it is under way", lambda: blocked(shop))
        first = [one.pid for one in blocked(shop)]
        kill_remote(shop, number=signal.SIGTERM)
        wait_until("it comes again", lambda: [one.pid for one in blocked(shop) if one.pid not in first])
        blocker.connection.rollback()
        attempt.end()
    assert attempt.error is None
    assert session.execute("SELECT n FROM shop.item WHERE id = %s", [key]).fetchone() == (key + 1,)
    session.execute("UPDATE shop.item SET n = id WHERE id = %s", [key])


def test_write_dies(shop, session):
    """A write of its own: whether it was done is not known, and that is said."""
    with Blocker(shop):
        attempt = Attempt(session, "UPDATE shop.item SET n = n + 1 WHERE id = %s", shop.keys[0])
        wait_until("it is under way", lambda: blocked(shop))
        kill_remote(shop)
        attempt.end()
    assert attempt.error.sqlstate == "08007"
    assert 'shard "s1"' in str(attempt.error) and "not known" in attempt.error.diag.message_detail


def test_write_on_all_dies(shop, session):
    """On several shards it is a transaction: nothing of it stays anywhere. It may have been repeated in time."""
    with Blocker(shop):
        attempt = Attempt(session, "UPDATE shop.item SET n = n + 1")
        wait_until("it is under way", lambda: blocked(shop))
        kill_remote(shop)
        attempt.end()
    if attempt.error is None:
        wait_until("it was done once", lambda: whole(shop), until=lambda found: found == (100, 5150))
        session.execute("UPDATE shop.item SET n = id")
    else:
        assert_unavailable(attempt.error)


@pytest.mark.parametrize("end", ["COMMIT", "SELECT count(*) FROM shop.item", "RELEASE a"])
def test_transaction_dies_between_statements(shop, session, end):
    session.execute("BEGIN")
    session.execute("UPDATE shop.item SET n = 0 WHERE id = ANY (%s)", [shop.keys])
    session.execute("SAVEPOINT a")
    session.execute("UPDATE shop.item SET n = 1 WHERE id = ANY (%s)", [shop.keys])
    kill_remote(shop)
    attempt = Attempt(session, end).end()
    if attempt.error is None:
        attempt = Attempt(session, "COMMIT").end()
    assert_unavailable(attempt.error)
    session.rollback()


def test_a_lost_transaction_stays_lost(shop, session):
    """An error that is caught by a savepoint does not bring back what the shard forgot."""
    session.execute("BEGIN")
    session.execute("UPDATE shop.item SET n = 0 WHERE id = %s", [shop.keys[0]])
    session.execute("SAVEPOINT a")
    kill_remote(shop)
    assert_unavailable(Attempt(session, "UPDATE shop.item SET n = 1 WHERE id = %s", shop.keys[0]).end().error)
    session.execute("ROLLBACK TO a")
    assert_unavailable(Attempt(session, "SELECT n FROM shop.item WHERE id = %s", shop.keys[0]).end().error)
    session.execute("ROLLBACK TO a")
    assert_unavailable(Attempt(session, "COMMIT").end().error)


def test_a_lost_subtransaction_is_enough(shop, session):
    """When all that was done on the shard belongs to what is rolled back, the transaction goes on."""
    session.execute("BEGIN")
    session.execute("UPDATE shop.item SET n = n WHERE id = %s", [shop.keys[1]])
    session.execute("SAVEPOINT a")
    session.execute("UPDATE shop.item SET n = 0 WHERE id = %s", [shop.keys[0]])
    kill_remote(shop, number=signal.SIGTERM)
    assert_unavailable(Attempt(session, "UPDATE shop.item SET n = 1 WHERE id = %s", shop.keys[0]).end().error)
    session.execute("ROLLBACK TO a")
    session.execute("UPDATE shop.item SET n = n WHERE id = %s", [shop.keys[0]])
    session.execute("COMMIT")


def test_rows_under_way_are_not_mixed(shop, session):
    """A shard that dies after some of its rows were handed out: an error, not the rows of two attempts."""
    session.execute("BEGIN")
    session.execute("DECLARE c CURSOR FOR SELECT i.id, repeat('x', 1000) FROM shop.item i, generate_series(1, 2000)")
    session.execute("FETCH 10 FROM c")
    kill_remote(shop, "s1")
    kill_remote(shop, "s2")
    assert_unavailable(Attempt(session, "FETCH ALL FROM c").end().error)
    session.rollback()


def test_copy_dies(shop, session):
    """Nothing of a COPY stays when a shard dies in the middle of it."""
    everything(session)
    with pytest.raises(psycopg.Error) as error:
        with session.cursor().copy("COPY shop.item (id, n) FROM STDIN") as copy:
            for number in range(1000, 100000):
                copy.write_row((number, number))
            wait_until("it is under way", lambda: remote(shop, where="query LIKE '%%COPY%%'"))
            kill_remote(shop)
            for number in range(100000, 300000):
                copy.write_row((number, number))
    assert_unavailable(error.value)


# ---- servers that are gone, or hang ----


def test_server_is_gone(shop, session):
    """Refused at once, with a breaker that opens; partial answers only if asked for; recovery by itself."""
    server = shop.shards.server("s1")
    server.kill9()
    try:
        assert_unavailable(Attempt(session, "SELECT * FROM shop.item").end().error)
        assert_unavailable(Attempt(session, "UPDATE shop.item SET n = 0").end().error)
        found = shop.row("SELECT * FROM a67.shard_endpoint WHERE shard = 's1'")
        assert found["state"] in ("open", "half_open") and found["failures"] >= 3, found
        assert found["last_error"].startswith("08") and found["connections"] == 0
        assert session.execute("SELECT n FROM shop.item WHERE id = %s", [shop.keys[1]]).fetchone() == (shop.keys[1],)

        notices = []
        session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        session.execute("SET a67.allow_partial = on")
        assert session.execute("SELECT count(*) FROM shop.item").fetchone()[0] < 100
        assert notices == ['shard "s1" is unavailable and left out of the answer']
        for write in ("UPDATE shop.item SET n = 0", "INSERT INTO shop.item VALUES (101, 0)", "SELECT FROM shop.item FOR UPDATE"):
            if shop.value("SELECT a67.shard_of('shop.item', '101')") == "s1" or "101" not in write:
                assert_unavailable(Attempt(session, write).end().error)
    finally:
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        server.start()
    wait_until("the breaker closes", lambda: everything(session), until=lambda found: found == WHOLE)
    assert shop.row("SELECT state, failures FROM a67.shard_endpoint WHERE shard = 's1'") == {"state": "closed", "failures": 0}


def test_server_hangs(shop, session):
    """A stopped server: time-outs, then the breaker; its connection is not used again; cancelling does not hang either."""
    server = shop.shards.server("s1")
    session.execute("SET a67.shard_timeout = '300ms'")
    assert everything(session) == WHOLE
    family = [server.postmaster, *process.children(server.postmaster.pid)]
    for one in family:
        one.kill(signal.SIGSTOP)
    try:
        attempt = Attempt(session, "SELECT * FROM shop.item").end()
        assert attempt.error.sqlstate == "57014" and 'shard "s1" did not answer in time' in str(attempt.error)
        with shop.connect() as other:
            session_two = Attempt(other, "SELECT n FROM shop.item WHERE id = %s", shop.keys[0])
            wait_until("it waits", lambda: session_two.is_alive())
            other.cancel()
            assert session_two.end().error is not None
        assert session.execute("SELECT n FROM shop.item WHERE id = %s", [shop.keys[1]]).fetchone() == (shop.keys[1],)
    finally:
        for one in family:
            one.kill(signal.SIGCONT)
    wait_until("it answers again", lambda: everything(session), until=lambda found: found == WHOLE)


def test_replica_answers_reads(shop, session):
    """A copy stands in for a shard that is gone: for reads outside of transactions that changed it, and told."""
    shards = shop.shards
    with shards.connect("s2") as connection:
        connection.execute("CREATE DATABASE copy_of_s1")
    copy = shards.connection("s2").replace("dbname=s2", "dbname=copy_of_s1")
    with psycopg.connect(copy, autocommit=True) as connection, shards.connect("s1") as source:
        connection.execute("CREATE TABLE item (id int PRIMARY KEY, n int)")
        for row in source.execute("SELECT id, n FROM item").fetchall():
            connection.execute("INSERT INTO item VALUES (%s, %s)", row)
    shop.execute("""WITH made AS (INSERT INTO a67_internal.shard_replica (shard_id)
                        SELECT shard_id FROM a67_internal.database_shard WHERE name = 's1' RETURNING replica_id)
                    SELECT FROM made""")
    shop.execute("""UPDATE a67_internal.shard_replica SET connection_sealed = a67_internal._vault_seal(
                        convert_to(%s, 'UTF8'), 'shard_replica.connection:' || replica_id)""", copy)
    notices = []
    session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    server = shards.server("s1")
    server.kill9()
    try:
        assert everything(session) == WHOLE
        assert notices == ['a replica answers for shard "s1"']
        assert_unavailable(Attempt(session, "UPDATE shop.item SET n = 0 WHERE id = %s", shop.keys[0]).end().error)
        session.execute("SET a67.shard_replicas = off")
        assert_unavailable(Attempt(session, "SELECT * FROM shop.item").end().error)
        session.execute("RESET a67.shard_replicas")
        assert shop.value("SELECT count(*) FROM a67.shard_endpoint WHERE shard = 's1' AND replica_id > 0") == 1
    finally:
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        server.start()
        shop.execute("DELETE FROM a67_internal.shard_replica")


def test_controller_crash_frees_every_place(shop, session):
    """kill -9 of one of our own sessions: the server starts anew, and nothing stays counted."""
    everything(session)
    victim = shop.connect()
    everything(victim)
    process.look(victim.info.backend_pid).kill()
    wait_until("the cluster is back", lambda: shop.value("SELECT sum(connections) FROM a67.shard_endpoint"), until=lambda n: n == 0)
    victim.close()
