"""Connections to shards: how many there are, how long they stay, what they share with the session, how statements end early."""

import threading

import psycopg
import pytest

from cloud import Cluster
from cloud.shards import Shards
from cloud.wait import wait_until

CAP = 3


@pytest.fixture(scope="module")
def shop():
    """A cluster with database "shop" over two shards; table item (id, n), 1 to 100."""
    with Shards(2) as shards, Cluster(settings={"a67.shard_connections": str(CAP)}) as cluster:
        shards.create_database(cluster, "shop")
        cluster.execute("SELECT a67.table_create('shop', 'CREATE TABLE item (id int PRIMARY KEY, n int, note text)')")
        cluster.execute("INSERT INTO shop.item SELECT i, i FROM generate_series(1, 100) i")
        cluster.shards = shards
        yield cluster


@pytest.fixture
def session(shop):
    with shop.connect() as connection:
        yield connection


def backends(shop, shard="s1", where="true"):
    """Sessions of a67 on a shard."""
    with shop.shards.connect(shard) as connection:
        return connection.execute("SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'a67' "
                                  f"AND datname = current_database() AND {where}").fetchall()


def everywhere(connection):
    return connection.execute("SELECT count(*), sum(n) FROM shop.item").fetchone()


def endpoint(shop, shard="s1"):
    return shop.row("SELECT * FROM a67.shard_endpoint WHERE database = 'shop' AND shard = %s AND replica_id IS NULL", shard)


def only(shop, shard):
    """A key on that shard."""
    return shop.value("SELECT min(i) FROM generate_series(1, 100) i WHERE a67.shard_of('shop.item', i::text) = %s", shard)


def test_one_connection_is_kept(shop, session):
    everywhere(session)
    before = {row[0] for row in backends(shop)}
    for _ in range(5):
        everywhere(session)
    assert {row[0] for row in backends(shop)} == before


def test_cap_hands_idle_connections_on(shop):
    """More sessions than places: all get their turn, never more than the cap are connected."""
    sessions = [shop.connect() for _ in range(2 * CAP)]
    try:
        for _ in range(3):
            for one in sessions:
                assert everywhere(one) == (100, 5050)
                assert endpoint(shop)["connections"] <= CAP
        assert len(backends(shop)) <= CAP + 1  # one may be on its way out
    finally:
        for one in sessions:
            one.close()
    wait_until("places are given back", lambda: endpoint(shop)["connections"], until=lambda n: n == 0)


def test_cap_is_told(shop):
    """Places that transactions hold cannot be handed on: 53300, which names no connection string."""
    key = only(shop, "s1")
    shop.execute("ALTER SYSTEM SET a67.shard_connect_timeout = '300ms'")
    shop.execute("SELECT pg_reload_conf()")
    holders = [shop.connect(autocommit=False) for _ in range(CAP)]
    try:
        for at, one in enumerate(holders):
            one.execute("SELECT FROM shop.item WHERE id = %s FOR KEY SHARE", [key])
        with shop.connect() as late:
            wait_until("the setting is read", lambda: late.execute("SHOW a67.shard_connect_timeout").fetchone()[0] == "300ms")
            with pytest.raises(psycopg.errors.TooManyConnections) as error:
                late.execute("SELECT n FROM shop.item WHERE id = %s", [key])
            assert "a67.shard_connections" in error.value.diag.message_hint
            assert endpoint(shop)["state"] == "closed"
            holders[0].rollback()
            assert late.execute("SELECT n FROM shop.item WHERE id = %s", [key]).fetchone() == (key,)
    finally:
        for one in holders:
            one.close()
        shop.execute("ALTER SYSTEM RESET a67.shard_connect_timeout")
        shop.execute("SELECT pg_reload_conf()")


def test_ended_session_gives_its_place_back(shop):
    with shop.connect() as victim, shop.connect() as other:
        everywhere(victim)
        taken = endpoint(shop)["connections"]
        other.execute("SELECT pg_terminate_backend(%s)", [victim.info.backend_pid])
        wait_until("the place is free", lambda: endpoint(shop)["connections"], until=lambda n: n < taken)


def test_idle_connections_close_by_themselves(shop):
    shop.execute("ALTER SYSTEM SET a67.shard_idle_timeout = '200ms'")
    shop.execute("SELECT pg_reload_conf()")
    try:
        with shop.connect() as idle:
            assert everywhere(idle) == (100, 5050)
            wait_until("idle connections end", lambda: backends(shop), until=lambda found: not found)
            assert everywhere(idle) == (100, 5050)
            with pytest.raises(psycopg.Error):  # errors end all timers of a session
                idle.execute("SELECT 1/0 FROM shop.item")
            everywhere(idle)
            wait_until("after an error too", lambda: backends(shop), until=lambda found: not found)
    finally:
        shop.execute("ALTER SYSTEM RESET a67.shard_idle_timeout")
        shop.execute("SELECT pg_reload_conf()")


def test_settings_are_shared(shop, session):
    seen = "SELECT min(to_char(t, 'TZ') || ' ' || d::text) FROM shop.item, (SELECT now() t, DATE '2024-02-03' d) x"
    session.execute("SET timezone = 'UTC'")
    assert session.execute(seen).fetchone()[0] == "UTC 2024-02-03"
    session.execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'")
    assert session.execute(seen).fetchone()[0] == "JST 03.02.2024"
    # Rolled back here, rolled back there.
    with session.transaction(force_rollback=True):
        session.execute("UPDATE shop.item SET n = n")
        session.execute("SET LOCAL datestyle = 'SQL'")
        assert session.execute(seen).fetchone()[0] == "JST 03/02/2024"
    assert session.execute(seen).fetchone()[0] == "JST 03.02.2024"


def test_prepared_statements_survive_what_shards_forget(shop, session):
    key = only(shop, "s1")
    query = "SELECT pg_temp.look(%s)"
    session.execute("""CREATE FUNCTION pg_temp.look(wanted int) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE found text; BEGIN SELECT n INTO found FROM shop.item WHERE id = wanted; RETURN found; END $$""")
    for _ in range(7):
        assert session.execute(query, [key]).fetchone() == (str(key),)
    # The plan there may not be used any more, the name goes on.
    for change in ("bigint", "int"):
        shop.execute(f"SELECT a67.database_ddl('shop', 'ALTER TABLE item ALTER n TYPE {change}')")
        assert session.execute(query, [key]).fetchone() == (str(key),)
        with session.transaction():
            session.execute("UPDATE shop.item SET n = n WHERE id = %s", [key])
            assert session.execute(query, [key]).fetchone() == (str(key),)


def test_many_prepared_statements(shop, session):
    """More than are kept on a connection."""
    key = only(shop, "s1")
    for number in range(300):
        assert session.execute(f"SELECT n + {number} FROM shop.item WHERE id = %s", [key], prepare=True).fetchone() == (key + number,)
    assert session.execute("SELECT n FROM shop.item WHERE id = %s", [key], prepare=True).fetchone() == (key,)


def test_savepoints(shop):
    keys = [only(shop, "s1"), only(shop, "s2")]
    read = "SELECT sum(n) FROM shop.item WHERE id = ANY (%s)"
    with shop.connect(autocommit=False) as session:
        session.execute("UPDATE shop.item SET n = 1000 WHERE id = ANY (%s)", [keys])
        session.execute("SAVEPOINT a")
        session.execute("UPDATE shop.item SET n = 2000 WHERE id = %s", [keys[0]])
        session.execute("SAVEPOINT b")
        session.execute("UPDATE shop.item SET n = 3000 WHERE id = ANY (%s)", [keys])
        session.execute("RELEASE b")
        assert session.execute(read, [keys]).fetchone() == (6000,)
        session.execute("ROLLBACK TO a")
        assert session.execute(read, [keys]).fetchone() == (2000,)
        for divisor in (0, 1, 0, 1):
            session.execute("SAVEPOINT c")
            try:
                session.execute("UPDATE shop.item SET n = n / %s WHERE id = ANY (%s)", [divisor, keys])
                session.execute("RELEASE c")
            except psycopg.errors.DivisionByZero:
                session.execute("ROLLBACK TO c")
        assert session.execute(read, [keys]).fetchone() == (2000,)
        session.rollback()
        assert session.execute(read, [keys]).fetchone() == (sum(keys),)


def test_subtransactions_in_a_loop(shop, session):
    """Thousands of them: savepoints do not pile up on the shard."""
    key = only(shop, "s2")
    session.execute(f"""
        DO $$ BEGIN
            FOR i IN 1 .. 2000 LOOP
                BEGIN
                    UPDATE shop.item SET n = n + 1 WHERE id = {key};
                    IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
                EXCEPTION WHEN division_by_zero THEN NULL;
                END;
            END LOOP;
        END $$""")
    assert session.execute("SELECT n FROM shop.item WHERE id = %s", [key]).fetchone() == (key + 1000,)
    session.execute("UPDATE shop.item SET n = id WHERE id = %s", [key])


def test_early_end_leaves_the_transaction_whole(shop):
    """Rows that nobody wants any more, inside of a remote transaction and outside."""
    with shop.connect(autocommit=False) as session:
        session.execute("UPDATE shop.item SET n = n WHERE id <= 10")
        session.execute("DECLARE c CURSOR FOR SELECT i.id FROM shop.item i, generate_series(1, 2000)")
        assert len(session.execute("FETCH 5 FROM c").fetchall()) == 5
        session.execute("CLOSE c")
        assert session.execute("SELECT count(*) FROM shop.item").fetchone() == (100,)
        session.commit()
    with shop.connect() as session:
        for _ in range(3):
            assert len(session.execute("SELECT i.id FROM shop.item i, generate_series(1, 2000) LIMIT 5").fetchall()) == 5
        assert everywhere(session) == (100, 5050)


def test_two_readers_of_one_connection(shop):
    """A cursor that is half read gives the connection up without losing a row."""
    with shop.connect(autocommit=False) as session:
        session.execute("DECLARE c CURSOR FOR SELECT id FROM shop.item")
        rows = session.execute("FETCH 3 FROM c").fetchall()
        assert session.execute("SELECT count(*) FROM shop.item").fetchone() == (100,)
        session.execute("UPDATE shop.item SET n = n")
        rows += session.execute("FETCH ALL FROM c").fetchall()
        assert sorted(row[0] for row in rows) == list(range(1, 101))


@pytest.mark.parametrize("how", ["read", "write", "all"])
def test_cancel_reaches_the_shard(shop, session, how):
    key = only(shop, "s1")
    statement = {"read": f"SELECT FROM shop.item WHERE id = {key} FOR UPDATE",
                 "write": f"UPDATE shop.item SET n = 0 WHERE id = {key}",
                 "all": "UPDATE shop.item SET n = 0"}[how]
    with shop.shards.connect("s1") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE item")
        errors = []

        def run():
            try:
                session.execute(statement)
            except psycopg.Error as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until("the shard waits", lambda: backends(shop, where="wait_event_type = 'Lock'"))
        session.cancel()
        thread.join(20)
        assert isinstance(errors[0], psycopg.errors.QueryCanceled), errors
        wait_until("nothing waits there", lambda: backends(shop, where="wait_event_type = 'Lock'"), until=lambda found: not found)
        blocker.execute("ROLLBACK")
    assert everywhere(session) == (100, 5050)


def test_statement_timeout_is_told_as_such(shop, session):
    session.execute("SET statement_timeout = '200ms'")
    with shop.shards.connect("s1") as blocker:
        blocker.execute("BEGIN; LOCK TABLE item")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            session.execute("UPDATE shop.item SET n = 0 WHERE id = %s", [only(shop, "s1")])
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            session.execute("SELECT * FROM shop.item")
        blocker.execute("ROLLBACK")
    session.execute("RESET statement_timeout")
    assert everywhere(session) == (100, 5050)


def test_shard_timeout(shop, session):
    session.execute("SET a67.shard_timeout = '200ms'")
    with shop.shards.connect("s2") as blocker:
        blocker.execute("BEGIN; LOCK TABLE item")
        for statement in ("SELECT * FROM shop.item", "UPDATE shop.item SET n = 0", f"DELETE FROM shop.item WHERE id = {only(shop, 's2')}"):
            with pytest.raises(psycopg.errors.QueryCanceled, match='shard "s2" did not answer in time') as error:
                session.execute(statement)
            assert "a67.shard_timeout" in error.value.diag.message_hint
        blocker.execute("ROLLBACK")
    session.execute("RESET a67.shard_timeout")
    assert everywhere(session) == (100, 5050)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        session.execute("SET a67.shard_timeout = 1")


def test_lock_timeout_is_passed_on(shop, session):
    session.execute("SET lock_timeout = '100ms'")
    with shop.shards.connect("s1") as blocker:
        blocker.execute("BEGIN; LOCK TABLE item")
        with pytest.raises(psycopg.errors.LockNotAvailable) as error:
            session.execute("UPDATE shop.item SET n = 0 WHERE id = %s", [only(shop, "s1")])
        assert 'shard "s1"' in error.value.diag.context
        blocker.execute("ROLLBACK")


def test_remote_errors_keep_their_fields(shop, session):
    key = only(shop, "s1")
    with pytest.raises(psycopg.errors.UniqueViolation) as error:
        session.execute("INSERT INTO shop.item VALUES (%s)", [key])
    diag = error.value.diag
    assert (diag.constraint_name, diag.table_name) == ("item_pkey", "item")
    assert diag.message_detail == f"Key (id)=({key}) already exists." and 'shard "s1"' in diag.context
    assert everywhere(session) == (100, 5050)


def test_deferred_constraints_fail_before_anybody_commits(shop):
    keys = [only(shop, "s1"), only(shop, "s2")]
    shop.shards.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE integrity_constraint_violation; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()""",
                        ["s2"])
    try:
        with shop.connect(autocommit=False) as session:
            session.execute("UPDATE shop.item SET n = 0 WHERE id = ANY (%s)", [keys])
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                session.commit()
    finally:
        shop.shards.execute("DROP FUNCTION refuse CASCADE", ["s2"])
    with shop.connect() as session:
        assert everywhere(session) == (100, 5050)


def test_repeatable_read_is_one_snapshot_of_a_shard(shop):
    key = only(shop, "s1")
    with shop.connect(autocommit=False) as reader, shop.connect() as writer:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        first = reader.execute("SELECT n FROM shop.item WHERE id = %s", [key]).fetchone()
        writer.execute("UPDATE shop.item SET n = n + 1 WHERE id = %s", [key])
        assert reader.execute("SELECT n FROM shop.item WHERE id = %s", [key]).fetchone() == first
        with pytest.raises(psycopg.errors.SerializationFailure):
            reader.execute("UPDATE shop.item SET n = 0 WHERE id = %s", [key])
        reader.rollback()
        writer.execute("UPDATE shop.item SET n = id WHERE id = %s", [key])


def test_prepare_transaction_is_refused(shop):
    shop_key = only(shop, "s1")
    with shop.connect(autocommit=False) as session:
        session.execute("UPDATE shop.item SET n = 0 WHERE id = %s", [shop_key])
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            session.execute("PREPARE TRANSACTION 'x'")
        session.rollback()
        assert everywhere(session) == (100, 5050)


def test_a_changed_connection_string_counts_at_once(shop, session):
    """The same shard under another login: the next statement uses it, in sessions that are connected too."""
    shop.shards.execute("CREATE ROLE mover LOGIN SUPERUSER", ["s1"])
    everywhere(session)
    string = shop.shards.connection("s1").replace("user=postgres", "user=mover")
    assert "user=mover" in string
    try:
        shop.execute("""UPDATE a67_internal.database_shard SET connection_sealed = a67_internal._vault_seal(
            convert_to(%s, 'UTF8'), 'database_shard.connection:' || shard_id) WHERE name = 's1'""", string)
        assert everywhere(session) == (100, 5050)
        assert backends(shop, where="usename = 'mover'")
    finally:
        shop.execute("""UPDATE a67_internal.database_shard SET connection_sealed = a67_internal._vault_seal(
            convert_to(%s, 'UTF8'), 'database_shard.connection:' || shard_id) WHERE name = 's1'""", shop.shards.connection("s1"))
    assert everywhere(session) == (100, 5050)


PLAIN = "host=db.example.org dbname=d user=u password=TOPSECRET "


@pytest.mark.parametrize("string", [
    "no string at all",
    "host=/run/postgresql dbname=d user=u password=TOPSECRET",
    "host=@abstract dbname=d user=u password=TOPSECRET",
    "host=db.example.org,/run/postgresql dbname=d user=u password=TOPSECRET",
    "dbname=d user=u password=TOPSECRET",
    "host=db.example.org dbname=d user=u",
    "host=db.example.org user=u password=TOPSECRET",
    "postgresql://u:TOPSECRET@/d",
    "postgresql://u:TOPSECRET@127.0.0.1/d",
    "postgresql://u:TOPSECRET@[::1]/d",
    "postgresql://u:TOPSECRET@localhost:5432/d",
    "postgresql://u:TOPSECRET@169.254.169.254/d",
    "postgresql://u:TOPSECRET@10.0.0.1,192.168.1.1/d",
    PLAIN + "hostaddr=127.0.0.1",
    PLAIN + "service=mine",
    PLAIN + "passfile=/etc/passwd",
    PLAIN + "sslkey=/etc/passwd",
    PLAIN + "sslcert=/etc/passwd",
    PLAIN + "sslrootcert=/etc/passwd",
    PLAIN + "krbsrvname=x",
    PLAIN + "replication=database",
])
def test_a_users_string_reaches_nothing_of_ours(session, string):
    with pytest.raises(psycopg.Error, match='^could not connect to shard "mine"') as error:
        session.execute("SELECT a67_internal._shard_try(%s, 'mine', 'SELECT 1', false)", [string])
    assert error.value.sqlstate.startswith("08")
    assert "TOPSECRET" not in str(error.value) and "reached" not in error.value.diag.message_detail


def test_the_operators_string_may_be_anything(shop, session):
    assert session.execute("SELECT a67_internal._shard_try(%s, 's1', 'SELECT 41 + 1', true)",
                           [shop.shards.connection("s1")]).fetchone() == ("42",)
    with pytest.raises(psycopg.Error) as error:
        session.execute("SELECT a67_internal._shard_try(%s, 's1', 'SELECT 1', true)",
                        [shop.shards.connection("s1").replace("user=postgres", "user=stranger password=TOPSECRET")])
    assert "28000" in error.value.diag.message_detail and "stranger" not in str(error.value)
