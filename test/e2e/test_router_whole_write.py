"""Writes and locks that are sent to shards whole, and MERGE; each must do what one plain database does."""

import psycopg
import pytest
from virtual_pair import Pair, Sides
from virtual_rows import ROWS, fill, strategies


@pytest.fixture(scope="module")
def pair():
    with Pair() as made:
        yield made


@pytest.fixture
def sides(pair):
    made = Sides(pair)
    fill(made)
    yield made
    made.close()
    pair.clear()


# -- writes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query, strategy", [
    ("UPDATE accounts SET balance = balance + 1 WHERE aid = 5", "one shard"),
    ("UPDATE accounts SET balance = balance + 1, filler = upper(filler) WHERE bid = 3 RETURNING *", "each shard"),
    ("UPDATE accounts SET (bid, filler) = (SELECT 7, c::text FROM kinds WHERE id = 5) WHERE aid = 5", "one shard"),
    ("UPDATE accounts a SET filler = k.c FROM kinds k WHERE k.id = a.aid AND k.ok RETURNING a.aid, k.c", "each shard"),
    ("UPDATE accounts SET filler = (SELECT title FROM regions r WHERE r.size = bid)", "each shard"),
    ("UPDATE accounts SET aid = aid, bid = 1 WHERE bid = 2", "each shard"),
    ("UPDATE accounts SET bid = 1 WHERE aid IN (SELECT id FROM kinds WHERE ok) AND aid = 6", "one shard"),
    ("UPDATE accounts SET aid = 5, bid = 1 WHERE aid = 5", None),
    ("UPDATE kinds SET a[1] = 'z', j['k'] = '7' WHERE id = 5", "one shard"),
    ("UPDATE kinds SET ts = now(), c = 'blue' WHERE id < 10", "each shard"),
    ("DELETE FROM accounts WHERE aid = 5 RETURNING balance", "one shard"),
    ("DELETE FROM accounts WHERE aid = NULL::int", "one shard"),
    ("DELETE FROM events WHERE note LIKE '%1'", "each shard"),
    ("DELETE FROM accounts a USING kinds k WHERE k.id = a.aid AND k.c = 'red'", "each shard"),
    ("DELETE FROM days WHERE day BETWEEN '2025-12-01' AND '2025-12-05'", None),
    ("WITH d AS (DELETE FROM events WHERE name = 'name 1' RETURNING *) SELECT count(*) FROM d", "one shard"),
    ("INSERT INTO settings SELECT name || '2', value FROM settings", "one shard"),
    ("INSERT INTO kinds (id, c) SELECT aid, 'red' FROM accounts WHERE aid = 55", "one shard"),
    ("INSERT INTO kinds (id, d) SELECT aid, current_date FROM accounts WHERE aid > 30 RETURNING id", "each shard"),
    ("INSERT INTO kinds (id, f) SELECT aid, 0.5 FROM accounts ON CONFLICT (id) DO UPDATE "
     "SET f = kinds.f + excluded.f WHERE kinds.ok", "each shard"),
    ("WITH s AS (SELECT aid FROM accounts WHERE aid = 40) INSERT INTO kinds (id, f) SELECT aid, 1 FROM s", "one shard"),
    ("UPDATE regions SET title = upper(title), size = size + 1 WHERE region < 'o' RETURNING *", "all copies"),
    ("DELETE FROM regions r USING regions s WHERE r.size = s.size + 1", "all copies"),
    ("INSERT INTO regions SELECT 'x' || region, title FROM regions", "all copies"),
    ("WITH i AS (INSERT INTO accounts (filler, aid) VALUES ('one', 900) RETURNING *) SELECT * FROM i", None),
    ("WITH i AS (INSERT INTO accounts (aid) VALUES (901), (901 + 1) RETURNING *) SELECT count(*) FROM i", None),
    ("WITH i AS (INSERT INTO accounts (aid) VALUES (901), (903), (905) ON CONFLICT DO NOTHING RETURNING *) SELECT count(*) FROM i", None),
    ("WITH u AS (UPDATE regions SET size = 1 RETURNING *) SELECT a.aid, u.size FROM accounts a, u WHERE aid = 5", None),
    ("UPDATE accounts SET balance = 1 / (bid - bid) WHERE aid = 5", "one shard"),
    ("UPDATE accounts SET bid = 13 WHERE aid = 5", "one shard"),
])
def test_writes_sent_whole(sides, query, strategy):
    if strategy is not None:
        assert strategies(sides.ours, query) == [strategy]
    sides.both(query)
    for table in ROWS:
        if table != "kinds":  # now() differs between two servers
            sides.same_rows(table)


def test_copies_stay_equal(sides):
    sides.both("UPDATE regions SET title = title || '!', size = size + (SELECT count(*)::int FROM regions)")
    sides.both("DELETE FROM regions WHERE region = 'east'")
    answers = set()
    for name in sides.pair.shards.names:
        with sides.pair.shards.connect(name) as shard:
            answers.add(str(shard.execute("SELECT * FROM regions ORDER BY region").fetchall()))
    assert len(answers) == 1


@pytest.mark.parametrize("query", [
    "UPDATE regions SET title = (SELECT filler FROM accounts WHERE bid = 1 LIMIT 1)",
    "INSERT INTO regions SELECT region || '3', title FROM regions LIMIT 1",
    "INSERT INTO regions SELECT 'one', filler FROM (VALUES ('a'), ('b')) v(filler) ON CONFLICT DO NOTHING",
    "UPDATE regions r SET title = s.title FROM regions s",
])
def test_what_copies_may_do_differently_is_not_left_to_them(sides, query):
    try:
        assert strategies(sides.ours, query) != ["all copies"]
    except psycopg.errors.FeatureNotSupported:
        pass


@pytest.mark.parametrize("query", [
    "INSERT INTO days (day, line) SELECT '2031-01-01'::date, 1",
    "INSERT INTO tenants SELECT 'nobody', 5 WHERE EXISTS (SELECT FROM settings)",
    "WITH i AS (INSERT INTO tenants VALUES ('nobody', 5) RETURNING *) SELECT * FROM i",
])
def test_rows_without_a_shard_are_refused(sides, query):
    with pytest.raises(psycopg.Error) as refusal:
        sides.ours.execute(query)
    assert "shard" in str(refusal.value)
    sides.ours.execute("PREPARE placed (date) AS INSERT INTO days (day, line) SELECT $1, 1")
    sides.ours.execute("SET plan_cache_mode = force_generic_plan")
    sides.ours.execute("EXECUTE placed ('2026-05-05')")
    with pytest.raises(psycopg.Error):
        sides.ours.execute("EXECUTE placed ('2031-05-05')")
    assert sides.ours.execute("SELECT count(*) FROM days WHERE day > '2026-05-01'").fetchone()[0] == 1
    for name in sides.pair.shards.names:
        with sides.pair.shards.connect(name) as shard:
            assert shard.execute("SELECT count(*) FROM days WHERE day > '2030-01-01'").fetchone()[0] == 0


def test_moved_keys_and_triggers_are_seen_here(sides):
    assert "one shard" not in strategies(sides.ours, "UPDATE accounts SET aid = 500 WHERE aid = 5")
    sides.both("UPDATE accounts SET aid = 500 WHERE aid = 5")
    sides.both("SELECT * FROM accounts WHERE aid IN (5, 500)")
    for side in (sides.ours, sides.plain):
        side.execute("CREATE TABLE IF NOT EXISTS public.seen (what text)")
        side.execute("""CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO public.seen VALUES (tg_op || coalesce(new.aid, old.aid)); RETURN NULL; END$$""")
        side.execute("CREATE TRIGGER see AFTER UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION see()")
    try:
        sides.both("UPDATE accounts SET bid = 0 WHERE aid = 7")
        sides.both("DELETE FROM accounts WHERE aid = 8")
        sides.both("SELECT * FROM public.seen")
    finally:
        for side in (sides.ours, sides.plain):
            side.execute("DROP TRIGGER see ON accounts")
            side.execute("DROP TABLE public.seen")


def test_a_failed_statement_changes_nothing(sides):
    sides.both("UPDATE accounts SET balance = 10 / (aid - 33)")
    sides.same_rows("accounts")
    sides.both("BEGIN")
    sides.both("UPDATE accounts SET bid = 1 WHERE aid = 5")
    sides.both("SAVEPOINT s")
    sides.both("UPDATE accounts SET bid = 13")
    sides.both("ROLLBACK TO s")
    sides.both("DELETE FROM accounts WHERE aid = 6")
    sides.both("COMMIT")
    sides.same_rows("accounts")


def test_read_only_transactions_stay_so(sides):
    sides.both("BEGIN READ ONLY")
    sides.both("SELECT * FROM accounts WHERE aid = 5")
    sides.both("UPDATE accounts SET bid = 1 WHERE aid = 5")
    sides.both("ROLLBACK")


# -- locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("query, strategy", [
    ("SELECT * FROM accounts WHERE aid = 5 FOR UPDATE", "one shard"),
    ("SELECT aid FROM accounts WHERE bid = 0 FOR NO KEY UPDATE", "each shard"),
    ("SELECT filler FROM accounts WHERE bid = 0 ORDER BY aid DESC FOR UPDATE", "each shard"),
    ("SELECT filler FROM accounts WHERE bid = 0 ORDER BY balance LIMIT 2 OFFSET 1 FOR UPDATE", "each shard"),
    ("SELECT * FROM regions WHERE region = 'north' FOR UPDATE", "one shard"),
])
def test_locks_are_taken_on_shards(sides, query, strategy):
    assert strategies(sides.ours, query) == [strategy]
    sides.both("BEGIN")
    rows = sides.both(query, ordered="ORDER BY" in query)
    with sides.pair.ours() as other, pytest.raises(psycopg.errors.LockNotAvailable):
        other.execute(query + " NOWAIT")
    assert rows
    sides.both("COMMIT")
    with sides.pair.ours() as other:
        other.execute(query + " NOWAIT")


def test_a_queue_gives_each_worker_its_own(sides):
    query = "SELECT aid FROM accounts WHERE bid = 0 ORDER BY aid LIMIT 1 FOR UPDATE SKIP LOCKED"
    with sides.pair.ours() as one, sides.pair.ours() as two:
        one.execute("BEGIN")
        two.execute("BEGIN")
        first, second = one.execute(query).fetchone(), two.execute(query).fetchone()
        assert first == (5,) and second is not None and second != first


@pytest.mark.parametrize("query", ["SELECT * FROM accounts a JOIN regions r ON r.size = a.bid WHERE aid = 6 FOR UPDATE",
                                   "SELECT * FROM (SELECT * FROM regions) r, accounts a WHERE r.size = a.bid FOR NO KEY UPDATE"])
def test_copies_are_locked_in_one_place_or_not_at_all(sides, query):
    assert "FOR UPDATE OF" in sides.refused(query, "0A000").message_hint
    sides.both("SELECT a.* FROM accounts a JOIN regions r ON r.size = a.bid WHERE aid = 6 FOR UPDATE OF a FOR SHARE OF r")


# -- MERGE ---------------------------------------------------------------------------------------


def query_run(connection, query):
    return connection.execute("SELECT a67_internal._query_run('shop', 'postgres', %s, NULL)", (query,)).fetchone()[0]


def test_merge_on_one_shard(sides):
    merge = ("MERGE INTO accounts a USING (VALUES ({0}, 7)) v(aid, b) ON a.aid = v.aid AND a.aid = {0} WHEN MATCHED AND a.bid = 7 THEN DELETE "
             "WHEN MATCHED THEN UPDATE SET bid = v.b, filler = DEFAULT WHEN NOT MATCHED THEN INSERT (aid, bid) VALUES ({0}, v.b)")
    for aid in (5, 5, 5, 700, 6):
        assert query_run(sides.ours, merge.format(aid))["rows_affected"] == 1
        sides.plain.execute(merge.format(aid))
        sides.same_rows("accounts")


@pytest.mark.parametrize("query", [
    "MERGE INTO accounts a USING kinds k ON k.id = a.aid WHEN MATCHED THEN DELETE",
    "MERGE INTO accounts a USING kinds k ON k.id = a.bid WHEN NOT MATCHED THEN INSERT (aid) VALUES (k.id)",
    "MERGE INTO regions r USING regions s ON r.region = s.region WHEN MATCHED THEN DELETE",
    "MERGE INTO accounts a USING (VALUES (5)) v(aid) ON a.aid = v.aid AND a.aid = 5 WHEN MATCHED THEN UPDATE SET aid = 6",
])
def test_merge_on_several_shards_is_refused(sides, query):
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refusal:
        query_run(sides.ours, query)
    assert refusal.value.diag.message_detail and refusal.value.diag.message_hint
    sides.refused(query, "0A000")
    sides.same_rows("accounts")
