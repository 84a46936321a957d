"""UPDATE and DELETE that shards cannot do by themselves: new values that only this server computes, joins, keys that move.

local(x) is a function that shards do not have. Most statements run on a virtual database and on a plain one, which must
answer alike (virtual_pair).
"""

import psycopg
import pytest
from virtual_pair import Pair, Sides

FUNCTION = """CREATE FUNCTION local({0}) RETURNS {0} LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'"""


@pytest.fixture(scope="module")
def pair():
    with Pair() as made:
        for connect in (made.ours, made.plain):
            with connect() as side:
                for kind in ("anyelement", "text"):
                    side.execute(FUNCTION.format(kind))
                side.execute("CREATE TABLE public.extra (id int, word text)")
                side.execute("INSERT INTO public.extra VALUES (1, 'one'), (2, 'two'), (2, 'zwei'), (5, 'five'), (900, 'none')")
        yield made


@pytest.fixture
def sides(pair):
    made = Sides(pair)
    made.both("INSERT INTO accounts SELECT i, i % 7, i * 1.5, 'row ' || i FROM generate_series(1, 60) i")
    made.both("INSERT INTO regions VALUES ('north', 'The North', 1), ('south', NULL, 2), ('east', 'The East', NULL)")
    yield made
    made.close()
    pair.clear()


# -- new values ------------------------------------------------------------------------------------


def test_update_by_local_expressions(sides):
    sides.both("UPDATE accounts SET balance = local(balance) + 1 WHERE aid < 30")
    sides.both("UPDATE accounts SET filler = local(filler) || '!', bid = NULL WHERE local(bid) = 3")
    sides.both("UPDATE accounts SET filler = NULL WHERE local(aid) = 5")
    sides.both("UPDATE accounts SET balance = local(aid) WHERE aid = 7")
    sides.both("UPDATE accounts SET balance = local(balance) WHERE aid = 0")
    sides.same_rows("accounts")


def test_delete_by_local_expressions(sides):
    sides.both("DELETE FROM accounts WHERE local(bid) = 2")
    sides.both("DELETE FROM accounts WHERE local(aid) = 5 RETURNING *")
    sides.both("DELETE FROM accounts WHERE local(aid) = 5 RETURNING *")
    sides.same_rows("accounts")
    sides.both("DELETE FROM accounts WHERE local(true)")
    sides.same_rows("accounts")


@pytest.mark.parametrize("returning", ["*", "aid, balance", "1", "aid + local(bid), upper(filler)", "accounts", "tableoid::regclass::text",
                                       "(SELECT max(word) FROM public.extra)"])
def test_returning(sides, returning):
    sides.both(f"UPDATE accounts SET balance = local(balance) * 2 WHERE aid < 9 RETURNING {returning}")
    sides.both(f"DELETE FROM accounts WHERE local(aid) < 9 RETURNING {returning}")


def test_returning_must_not_read_what_was_changed(sides):
    sides.refused("UPDATE accounts SET balance = local(1) RETURNING (SELECT sum(balance) FROM accounts)", "0A000")
    sides.refused("DELETE FROM accounts WHERE local(aid) = 3 RETURNING (SELECT title FROM regions LIMIT 1)", "0A000")
    sides.same_rows("accounts")


def test_values_of_every_kind(sides):
    sides.both("""INSERT INTO kinds VALUES
        (1, 'red', '2026-03-29 01:30+02', 0.1, '\\x00ff', '{a,NULL,"b c"}', '{"k": [1, "ü"]}', '00000000-0000-0000-0000-000000000001',
         '2026-02-28', true, 'ab', '1 mon 2 days 03:04:05', 12345.678, '[1,5)'), (2), (3)""".replace(
             "(2), (3)", "(2" + ", NULL" * 13 + "), (3, 'blue'" + ", NULL" * 12 + ")"))
    columns = ["c", "ts", "f", "b", "a", "j", "u", "d", "ok", "ch", "iv", "n", "r"]
    for column in columns:
        sides.both(f"UPDATE kinds k SET {column} = (SELECT local({column}) FROM (VALUES (k.{column})) v ({column})) WHERE local(id) > 0")
        sides.both(f"UPDATE kinds SET {column} = local({column}) WHERE id = 1 RETURNING *")
    sides.both("UPDATE kinds SET a = ARRAY[local('x'::text), NULL, '\"', E'\\\\'], c = local('green'::text)::colour, f = local(1e-300) / 3")
    sides.same_rows("kinds")
    sides.both("UPDATE kinds SET a[2] = local('second'::text), f = 0.1::float8 + 0.2")
    sides.same_rows("kinds")


def test_floats_stay_exact_whatever_is_shown(sides):
    sides.both("INSERT INTO kinds (id, f, a) VALUES (1, 0.1, '{}'), (2, 0.3, '{}')")
    for side in (sides.ours, sides.plain):
        side.execute("SET extra_float_digits = -5")
        side.execute("UPDATE kinds SET f = local(f) / 3, c = local('red'::text)::colour")
        side.execute("RESET extra_float_digits")
    sides.same_rows("kinds")


# -- joins -------------------------------------------------------------------------------------------


def test_rows_of_other_tables(sides):
    sides.both("UPDATE accounts SET filler = word FROM public.extra WHERE id = aid AND word <> 'zwei'")
    sides.both("DELETE FROM accounts USING public.extra WHERE id = aid AND id > 2 RETURNING aid, word")
    sides.both("UPDATE accounts a SET balance = b.balance FROM accounts b WHERE b.aid = a.bid AND local(a.aid) > 10")
    sides.same_rows("accounts")


def test_a_row_found_twice_is_changed_once(sides):
    for side in (sides.ours, sides.plain):
        assert side.execute("UPDATE accounts SET balance = balance + local(1) FROM public.extra WHERE id = aid").rowcount == 3
        assert side.execute("DELETE FROM accounts USING public.extra WHERE id = local(aid)").rowcount == 3
        assert side.execute("UPDATE accounts SET bid = local(1) FROM public.extra WHERE aid < 9 RETURNING aid").rowcount == 5
    sides.same_rows("accounts")


def test_no_row_sees_what_became_of_another(sides):
    sides.both("UPDATE accounts a SET balance = (SELECT sum(local(b.balance)) FROM accounts b WHERE b.bid = a.bid)")
    sides.same_rows("accounts")
    sides.both("UPDATE accounts a SET balance = (SELECT local(b.balance) FROM accounts b WHERE b.aid = a.aid - 1)")
    sides.same_rows("accounts")
    sides.both("DELETE FROM accounts a WHERE (SELECT count(*) FROM accounts b WHERE b.bid = local(a.bid)) > 8")
    sides.same_rows("accounts")


def test_views(sides):
    for side in (sides.ours, sides.plain):
        side.execute("CREATE VIEW small AS SELECT * FROM accounts WHERE aid < 20 WITH CHECK OPTION")
    sides.both("UPDATE small SET filler = local('v') WHERE bid = 1 RETURNING aid")
    sides.both("UPDATE small SET aid = local(aid) + 100 WHERE aid = 3")
    sides.both("DELETE FROM small WHERE local(aid) = 4")
    sides.same_rows("accounts")
    for side in (sides.ours, sides.plain):
        side.execute("DROP VIEW small")


# -- keys ----------------------------------------------------------------------------------------------


def test_a_changed_key_moves_the_row(sides):
    before = sides.pair.counts("accounts")
    sides.both("UPDATE accounts SET aid = local(aid) + 1000")
    sides.same_rows("accounts")
    assert sides.pair.counts("accounts") != before and sum(sides.pair.counts("accounts")) == 60
    sides.both("UPDATE accounts SET aid = aid + 1000 WHERE aid = 1001 RETURNING *")
    sides.both("UPDATE accounts SET aid = aid - 1000 WHERE local(aid) < 1010 RETURNING aid, filler")
    sides.both("SELECT * FROM accounts WHERE aid = 2001")
    sides.both("UPDATE accounts SET aid = 5000 WHERE aid = 1020 RETURNING *")
    sides.same_rows("accounts")


def test_many_rows_move(sides):
    sides.both("INSERT INTO accounts SELECT i, i % 7, i, repeat('x', 200) FROM generate_series(100, 5000) i")
    sides.both("UPDATE accounts SET aid = aid + 10000, balance = local(balance)")
    sides.both("UPDATE accounts SET balance = local(balance) + 1, filler = NULL WHERE bid <> 3")
    sides.both("SELECT count(*), sum(aid), sum(balance), count(filler) FROM accounts")
    sides.both("DELETE FROM accounts WHERE local(aid) % 2 = 0")
    sides.same_rows("accounts")


def test_keys_that_cannot_be(sides):
    sides.both("UPDATE accounts SET aid = NULL WHERE aid = 3")
    sides.both("UPDATE accounts SET aid = local(NULL::int) WHERE aid = 3")
    sides.both("UPDATE accounts SET aid = local(5) WHERE aid = 3")
    sides.both("UPDATE accounts SET bid = local(13) WHERE aid < 9")
    sides.both("UPDATE accounts SET aid = local(aid) + 1000, bid = 13 WHERE aid < 9")
    sides.same_rows("accounts")
    sides.both("INSERT INTO tenants VALUES ('acme', 1), ('globex', 2)")
    sides.both("UPDATE tenants SET tenant = local('initech') WHERE tenant = 'acme' RETURNING *")
    assert "initech" not in str(sides.pair.counts("tenants"))
    diag = sides.refused("UPDATE tenants SET tenant = local('unknown') WHERE tenant = 'globex'", "23514")
    assert "tenant" in diag.message_detail
    sides.same_rows("tenants")


def test_ranges(sides):
    sides.both("INSERT INTO days SELECT date '2025-12-20' + i, i, 'x' FROM generate_series(1, 30) i")
    sides.both("UPDATE days SET day = local(day) + 15")
    sides.same_rows("days")
    assert sides.pair.counts("days")[0] == 0
    sides.refused("UPDATE days SET day = local(day) + 1000", "23514")
    sides.same_rows("days")


def test_transactions(sides):
    for side in (sides.ours, sides.plain):
        side.execute("BEGIN")
        side.execute("UPDATE accounts SET aid = local(aid) + 500, filler = 'moved' WHERE aid < 10")
        side.execute("SAVEPOINT one")
        side.execute("DELETE FROM accounts WHERE local(aid) > 500")
        side.execute("ROLLBACK TO one")
    sides.same_rows("accounts")
    sides.both("ROLLBACK")
    sides.same_rows("accounts")


def test_a_row_changed_meanwhile(sides):
    with sides.pair.ours() as other:
        sides.ours.execute("BEGIN")
        sides.ours.execute("UPDATE accounts SET balance = local(1000) WHERE aid = 7")
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("UPDATE accounts SET balance = local(balance) + 1 WHERE aid = 7")
        sides.ours.execute("COMMIT")
        other.execute("UPDATE accounts SET balance = local(balance) + 1 WHERE aid = 7")
        assert other.execute("SELECT balance FROM accounts WHERE aid = 7").fetchone() == (1001,)


# -- reference tables ---------------------------------------------------------------------------------------


def copies(pair, table="regions"):
    found = set()
    for name in pair.shards.names:
        with pair.shards.connect(name) as connection:
            found.add(str(sorted(connection.execute(f"SELECT t::text FROM {table} t").fetchall())))
    return found


def test_copies_stay_equal(sides):
    sides.both("UPDATE regions SET title = local(title) || '!', size = local(size) + 1")
    sides.both("UPDATE regions SET title = local('x') WHERE region = 'east' RETURNING *")
    sides.both("UPDATE regions SET region = local('west'), size = NULL WHERE local(region) = 'north' RETURNING *")
    sides.both("DELETE FROM regions WHERE local(region) = 'south' RETURNING region, title")
    sides.both("UPDATE regions SET title = word FROM public.extra WHERE id = 5")
    sides.same_rows("regions")
    assert len(copies(sides.pair)) == 1
    sides.ours.execute("UPDATE regions SET title = random()::text, size = local(3)")
    assert len(copies(sides.pair)) == 1


def test_copies_that_differ_are_told_of(sides):
    sides.pair.shards.execute("DELETE FROM regions WHERE region = 'south'", ["s3"])
    diag = sides.refused("UPDATE regions SET title = local(title) || 'y' WHERE region = 'south'", "XX001")
    assert '"s3"' in diag.message_detail
    diag = sides.refused("DELETE FROM regions WHERE region = 'south'", "XX001")
    assert '"s3"' in diag.message_detail and diag.message_hint
    # Nothing of the statements stayed.
    with sides.pair.shards.connect("s1") as connection:
        assert connection.execute("SELECT title FROM regions WHERE region = 'south'").fetchall() == [(None,)]


# -- parts of a statement --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) SELECT * FROM gone",
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) SELECT count(*), sum(balance) FROM gone JOIN public.extra ON id = aid",
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) INSERT INTO regions SELECT 'r' || aid, filler FROM gone",
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) INSERT INTO accounts SELECT aid + 900, bid, balance FROM gone RETURNING *",
    "WITH new AS (INSERT INTO accounts SELECT i, 1, 2, 'n' FROM generate_series(200, 230) i RETURNING aid) SELECT count(*) FROM new",
    "WITH new AS (INSERT INTO tenants VALUES ('acme', 3) RETURNING *) UPDATE regions SET size = local(seats) FROM new WHERE region = 'east'",
    "WITH src AS (SELECT local(aid) AS aid FROM accounts WHERE bid = 3), up AS (UPDATE accounts a SET filler = 'w' FROM src "
    "WHERE src.aid = a.aid RETURNING a.aid) SELECT * FROM up",
    "WITH up AS (UPDATE accounts SET bid = local(1)) SELECT 1",
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) INSERT INTO accounts SELECT aid + 900 + id, bid FROM public.extra JOIN gone ON true",
])
def test_writing_queries_in_with(sides, query):
    sides.both(query)
    for table in ("accounts", "regions", "tenants"):
        sides.same_rows(table)


@pytest.mark.parametrize("query", [
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) SELECT count(*) FROM accounts, gone",
    "WITH up AS (UPDATE accounts SET bid = local(1) RETURNING *), other AS (SELECT * FROM accounts) SELECT * FROM other, up",
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9 RETURNING *) INSERT INTO accounts SELECT 900 UNION ALL SELECT 901 FROM gone",
    "WITH gone AS (DELETE FROM accounts WHERE local(aid) < 9) INSERT INTO accounts SELECT 900",
    "WITH new AS (INSERT INTO accounts VALUES (300) RETURNING *) UPDATE accounts SET bid = local(2)",
    "WITH new AS (INSERT INTO regions VALUES ('w') RETURNING *) SELECT (SELECT count(*) FROM regions), local(1) FROM new",
])
def test_parts_that_would_see_each_other_are_refused(sides, query):
    diag = sides.refused(query, "0A000")
    assert "one part of the statement" in diag.message_primary and diag.message_hint
    for table in ("accounts", "regions"):
        sides.same_rows(table)


# -- triggers, partitions ----------------------------------------------------------------------------------------


def test_triggers_of_virtual_tables(sides):
    body = """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_WHEN = 'BEFORE' THEN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; NEW.filler := 'by trigger'; RETURN NEW; END IF;
        INSERT INTO public.noted VALUES (TG_OP, OLD.filler, NEW.filler); RETURN NULL; END $$"""
    for side, table in ((sides.ours, "shop.accounts"), (sides.plain, "shop.accounts")):
        side.execute("CREATE TABLE public.noted (op text, old text, new text)")
        side.execute(body)
        side.execute(f"CREATE TRIGGER b BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION note()")
        side.execute(f"CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION note()")
    sides.both("INSERT INTO accounts (aid) VALUES (100), (101) RETURNING aid, filler")
    sides.both("UPDATE accounts SET balance = 3 WHERE aid IN (100, 7) RETURNING aid, filler")
    sides.both("UPDATE accounts SET aid = aid + 300 WHERE aid IN (100, 7)")
    sides.both("DELETE FROM accounts WHERE aid IN (400, 8)")
    sides.same_rows("accounts")
    sides.both("SELECT * FROM public.noted")
    for side in (sides.ours, sides.plain):
        side.execute("DROP TABLE public.noted")
        side.execute("DROP FUNCTION note() CASCADE")


def test_a_virtual_table_as_a_partition(sides):
    sides.ours.execute("CREATE TABLE public.parent (aid int NOT NULL, bid int, balance numeric, filler text) PARTITION BY RANGE (aid)")
    sides.ours.execute("CREATE TABLE public.few PARTITION OF public.parent FOR VALUES FROM (-100) TO (0)")
    sides.ours.execute("ALTER TABLE public.parent ATTACH PARTITION accounts FOR VALUES FROM (0) TO (10000)")
    assert sides.ours.execute("INSERT INTO public.parent SELECT i FROM generate_series(-5, -1) i RETURNING aid").rowcount == 5
    assert sides.ours.execute("INSERT INTO public.parent SELECT i FROM generate_series(200, 205) i RETURNING aid").rowcount == 6
    assert sides.ours.execute("UPDATE public.parent SET balance = local(4) WHERE aid < 5 RETURNING aid").rowcount == 9
    assert sides.ours.execute("UPDATE public.parent SET aid = aid + 300 WHERE aid = -5 RETURNING aid").fetchone() == (295,)
    assert sides.ours.execute("DELETE FROM public.parent WHERE local(aid) > 190").rowcount == 7
    assert sides.ours.execute("SELECT count(*) FROM public.parent").fetchone() == (64,)
    sides.ours.execute("ALTER TABLE public.parent DETACH PARTITION accounts")
    sides.ours.execute("DROP TABLE public.parent")


def test_explain(sides):
    plan = "\n".join(row[0] for row in sides.ours.execute("EXPLAIN (VERBOSE) UPDATE accounts SET bid = local(bid)").fetchall())
    assert "A67Hold" in plan and "UPDATE accounts SET bid = $1 WHERE ctid" in plan and "FOR UPDATE" in plan and "host=" not in plan
