"""Statements that are sent to shards whole: which ones, as what text, and that the answer is that of one plain database."""

import re

import psycopg
import pytest
from virtual_pair import Pair, Sides
from virtual_rows import fill, plan, remote_sql, strategies

@pytest.fixture(scope="module")
def filled():
    """Nothing here changes rows for good."""
    with Pair() as pair:
        sides = Sides(pair)
        fill(sides)
        yield sides
        sides.close()


@pytest.fixture
def sides(filled):
    yield filled
    for side in (filled.ours, filled.plain):
        side.execute("ROLLBACK")
        side.execute("RESET ALL")


# -- where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    "SELECT * FROM accounts WHERE aid = 5",
    "SELECT * FROM accounts WHERE aid = 5::bigint OR aid = 5.0 ORDER BY aid LIMIT 3",
    "SELECT * FROM accounts WHERE aid IN (5)",
    "SELECT count(*), max(balance) FROM accounts WHERE aid = 5 AND bid = 77",
    "SELECT count(*) FROM accounts WHERE aid = NULL::int",
    "SELECT count(*) FROM days WHERE day = '2031-01-01'",
    "SELECT count(*) FROM tenants WHERE tenant = 'nobody'",
    "SELECT * FROM days WHERE day = '2025-12-24'",
    "SELECT * FROM tenants WHERE tenant = 'globex'",
    "SELECT * FROM settings ORDER BY name DESC LIMIT 1",
    "SELECT a.aid, k.c FROM accounts a JOIN kinds k ON k.id = a.aid WHERE a.aid = 7",
    "SELECT * FROM accounts a LEFT JOIN kinds k ON k.id = a.aid AND k.ok LEFT JOIN regions r ON r.size = a.bid WHERE a.aid = 8",
    "SELECT (SELECT count(*) FROM kinds k WHERE k.id = a.aid) FROM accounts a WHERE aid = 9",
    "SELECT EXISTS (SELECT FROM accounts WHERE aid = 5)",
    "SELECT c FROM kinds WHERE id = 5 AND id IN (SELECT aid FROM accounts)",
    "WITH q AS (SELECT * FROM events WHERE name = 'name 2') SELECT count(*), min(note) FROM q",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) SELECT i, c FROM n, kinds WHERE id = 5 ORDER BY i",
    "SELECT aid FROM accounts WHERE aid = 5 UNION SELECT id FROM kinds WHERE id = 5",
    "SELECT grouping(bid), bid, count(*) FROM accounts WHERE aid = 5 GROUP BY ROLLUP (bid) ORDER BY 1",
    "SELECT at, row_number() OVER (ORDER BY at DESC) FROM events WHERE name = 'name 3' ORDER BY 1",
    "SELECT DISTINCT ON (note) note, at FROM events WHERE name = 'name 3' ORDER BY note, at",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance) FROM accounts WHERE aid = 5",
    "SELECT g, aid FROM accounts, generate_series(1, 3) g WHERE aid = 5 ORDER BY g",
    "SELECT x FROM accounts, LATERAL (VALUES (aid + 1), (aid + 2)) v(x) WHERE aid = 5 ORDER BY x",
])
def test_one_shard(sides, query):
    assert strategies(sides.ours, query) == ["one shard"]
    sides.both(query, ordered="ORDER BY" in query)


@pytest.mark.parametrize("query", ["SELECT * FROM regions ORDER BY region", "SELECT count(*), sum(size) FROM regions",
                                   "SELECT a.title FROM regions a, regions b WHERE a.size = b.size + 1 ORDER BY 1"])
def test_reference_tables_alone_are_read_on_any_shard(sides, query):
    assert strategies(sides.ours, query) == ["any shard"]
    sides.both(query, ordered=True)


@pytest.mark.parametrize("query", [
    "SELECT * FROM accounts WHERE bid = 3",
    "SELECT a.aid, k.c FROM accounts a JOIN kinds k ON k.id = a.aid WHERE k.ok",
    "SELECT a.aid, r.title FROM accounts a JOIN regions r ON r.size = a.bid",
    "SELECT note FROM days WHERE day >= '2025-12-20' AND day < '2026-01-10'",
])
def test_parts_of_each_shard_need_nothing_more(sides, query):
    assert strategies(sides.ours, query) == ["each shard"]
    sides.both(query)


def test_keys_on_different_shards_are_no_single_shard(sides):
    other = sides.ours.execute("SELECT min(i) FROM generate_series(6, 60) i WHERE a67.shard_of('accounts', i::text) <> "
                               "a67.shard_of('accounts', '5')").fetchone()[0]
    query = f"SELECT a.aid, b.aid FROM accounts a, accounts b WHERE a.aid = 5 AND b.aid = {other}"
    assert strategies(sides.ours, query) != ["one shard"]
    sides.both(query)


def test_only_shards_that_can_have_the_rows_are_asked(sides):
    shown = plan(sides.ours, "SELECT * FROM days WHERE day < '2025-12-01'")
    assert re.search(r"Shards: s1$", shown, re.MULTILINE), shown


# -- text ----------------------------------------------------------------------------------------


def test_names_are_those_of_the_shards(sides):
    assert remote_sql(sides.ours, "SELECT balance FROM accounts WHERE aid = 5 AND bid = 0") == \
        "SELECT balance FROM accounts WHERE ((aid = $1) AND (bid = 0))"
    sides.ours.execute("SET search_path = pg_catalog")
    assert "shop" not in remote_sql(sides.ours, "SELECT c::shop.colour FROM shop.kinds WHERE id = 5 AND c > 'red'::shop.colour")


@pytest.mark.parametrize("query", [
    "WITH accounts AS (SELECT * FROM accounts WHERE aid = 5) SELECT * FROM accounts",
    "WITH accounts AS (SELECT * FROM kinds WHERE id = 5) SELECT accounts.c, a.bid FROM accounts JOIN shop.accounts a ON a.aid = accounts.id WHERE a.aid = 5",
    'SELECT aid AS "select", bid AS "a ""b"" c", 1 AS "x  y" FROM accounts AS "or der" WHERE aid = 5',
    "SELECT t.a, t.b FROM accounts AS t(a, b) WHERE a = 5",
    "SELECT s.x FROM (SELECT aid, aid FROM accounts) AS s(x, y) WHERE s.x = 5",
    "SELECT * FROM accounts JOIN kinds USING (aid) WHERE aid = 5".replace("JOIN kinds USING (aid)", "NATURAL JOIN (SELECT id AS aid, c FROM kinds) k"),
    r"SELECT 'it''s \ ' || E'\n\t\\', $$two  spaces$$, 'ä' FROM accounts WHERE aid = 5",
    "SELECT 1.5, -3, 1e30, 'NaN'::float8, NULL, true, '{1,NULL}'::int[], decode('00ff', 'hex'), B'101', 0.1::float4 FROM accounts WHERE aid = 5",
    "SELECT '2026-03-29 01:30'::timestamptz, '2026-02-03'::date, '-1 year -2 days +3 hours'::interval, 'infinity'::timestamp FROM accounts WHERE aid = 5",
    "SELECT c FROM kinds WHERE id = 5 AND c = ANY ('{red,blue}'::colour[])",
    "SELECT row_to_json(a), a IS NULL, count(a) OVER () FROM accounts a WHERE aid = 5",
    "SELECT a FROM accounts a WHERE aid = 5",
    "SELECT (a).bid, (a.*)::text FROM accounts a WHERE aid = 5",
    "SELECT jsonb_agg(e ORDER BY e.at) FROM events e WHERE name = 'name 1'",
    "SELECT a FROM regions r LEFT JOIN accounts a ON a.bid = r.size AND a.aid = 5 WHERE a.aid = 5 OR a.aid = 5",
    "SELECT EXTRACT(year FROM ts), ts AT TIME ZONE 'UTC', to_char(ts, 'YYYY-MM'), ts::date FROM kinds WHERE id = 5",
    "SELECT EXTRACT(year FROM at), EXTRACT(hour FROM at) FROM events WHERE name = 'year' UNION ALL SELECT 5, count(*) FROM events WHERE name = 'year'",
    "SELECT 5, aid, 5 + aid, count(*) FROM accounts WHERE aid = 5 GROUP BY 1, 2, 5 + aid ORDER BY 5 + aid LIMIT 5",
    "SELECT overlay(filler PLACING 'x' FROM 1 FOR 2), position('r' IN filler), trim(LEADING 'r' FROM filler) FROM accounts WHERE aid = 5",
    "SELECT r @> 7, a[2], j -> 'k', ch || '|', b FROM kinds WHERE id = 5",
])
def test_text_means_the_same(sides, query):
    for settings in ("", "SET datestyle = german; SET timezone = 'America/New_York'; SET intervalstyle = sql_standard",
                     "SET standard_conforming_strings = off; SET bytea_output = escape; SET extra_float_digits = 0"):
        for side in (sides.ours, sides.plain):
            side.execute(settings)
        sides.both(query)
    assert strategies(sides.ours, query) == ["one shard"]


def test_views_are_part_of_the_statement(sides):
    for side in (sides.ours, sides.plain):
        side.execute("CREATE VIEW rich (id, worth) AS SELECT aid, balance FROM accounts WHERE balance > 30")
        side.execute("ALTER VIEW rich RENAME COLUMN worth TO value")
        side.execute("CREATE VIEW barred WITH (security_barrier) AS SELECT aid, bid FROM accounts WHERE bid <> 2")
        side.execute("CREATE VIEW checked AS SELECT aid, bid FROM accounts WHERE bid < 4 WITH CHECK OPTION")
    try:
        query = "SELECT r.value, rich.id FROM rich r JOIN rich ON rich.id = r.id WHERE r.id = 30"
        assert strategies(sides.ours, query) == ["one shard"]
        sides.both(query)
        sides.both("SELECT * FROM barred WHERE aid = 7 AND 1 / (bid - 2) > -5")
        assert "one shard" not in strategies(sides.ours, "SELECT * FROM barred WHERE aid = 7")
        sides.both("UPDATE rich SET value = value + 1 WHERE id = 30 RETURNING *")
        sides.both("UPDATE checked SET bid = 9 WHERE aid = 6")
        sides.both("UPDATE checked SET bid = 3 WHERE aid = 6")
        sides.same_rows("accounts")
    finally:
        for side in (sides.ours, sides.plain):
            side.execute("DROP VIEW rich, barred, checked")


# -- what is computed here -----------------------------------------------------------------------


@pytest.mark.parametrize("expression", [
    "now()", "current_date", "current_user", "current_setting('a67.shard_timeout')", "pg_typeof(5)::text", "localtimestamp",
    "mine(7)", "now() - interval '1 day' > '2020-01-01'", "'accounts'::regclass::oid", "inet_client_addr()",
])
def test_stable_expressions_are_sent_as_values(sides, expression):
    sides.ours.execute("CREATE OR REPLACE FUNCTION mine(i int) RETURNS int LANGUAGE sql STABLE AS 'SELECT i * 2'")
    query = f"SELECT {expression} IS NULL, aid FROM accounts WHERE aid = 5 AND {expression} IS NOT DISTINCT FROM {expression}"
    assert strategies(sides.ours, query) == ["one shard"]
    assert sides.ours.execute(query).fetchone()[1] == 5


def test_now_is_one_for_all(sides):
    rows = sides.ours.execute("SELECT now() AS n, count(*) FROM kinds WHERE id = 5 GROUP BY now() ORDER BY n").fetchall()
    assert rows[0][1] == 1
    assert sides.ours.execute("SELECT now() = (SELECT now() FROM kinds WHERE id = 5)").fetchone()[0]


@pytest.mark.parametrize("query", [
    "SELECT random() < 2, aid FROM accounts WHERE aid = 5",
    "SELECT aid, tableoid::regclass::text FROM accounts WHERE aid = 5",
    "SELECT to_char(balance, 'FM999D99') FROM accounts WHERE aid = 5",
    "SELECT to_char(ts, 'TMMonth') FROM kinds WHERE id = 5",
    "SELECT age(ts) IS NULL FROM kinds WHERE id = 5",
    "SELECT pg_typeof(bid)::text FROM accounts WHERE aid = 5",
    "SELECT to_tsvector(filler) FROM accounts WHERE aid = 5",
    "SELECT quote_ident(filler), doubled(bid) FROM accounts WHERE aid = 5",
    "SELECT ROW(aid, bid) FROM accounts WHERE aid = 5",
    "SELECT filler COLLATE \"en-x-icu\" < 's' FROM accounts WHERE aid = 5",
])
def test_what_shards_may_see_differently_stays_here(sides, query):
    for side in (sides.ours, sides.plain):
        side.execute("CREATE OR REPLACE FUNCTION doubled(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i * 2; END'")
    assert "one shard" not in strategies(sides.ours, query)
    sides.both(query)


# -- parameters and plans ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
def test_prepared_statements(sides, mode):
    names = ("point", "counted", "either", "two", "coloured", "change")
    for side in (sides.ours, sides.plain):
        side.execute(f"SET plan_cache_mode = {mode}")
        side.execute("PREPARE point (int) AS SELECT * FROM accounts WHERE aid = $1")
        side.execute("PREPARE counted (numeric, text) AS SELECT count(*), $2 || 'x' FROM accounts WHERE aid = $1 AND filler <> $2")
        side.execute("PREPARE either (int, int) AS SELECT aid FROM accounts WHERE aid IN ($1, $2)")
        side.execute("PREPARE two (int, int) AS SELECT a.aid, b.aid FROM accounts a, accounts b WHERE a.aid = $1 AND b.aid = $2")
        side.execute("PREPARE coloured (colour) AS SELECT id FROM kinds WHERE id = 6 AND c IN ($1, 'green')")
        side.execute("PREPARE change (int, numeric) AS UPDATE accounts SET balance = balance + $2 WHERE aid = $1 RETURNING aid, balance")
    for i in [1, 2, 3, "NULL", 5, 6, 7, 8]:
        sides.both(f"EXECUTE point ({i})")
        sides.both(f"EXECUTE counted ({i}, 'y')")
        sides.both(f"EXECUTE either ({i}, 9)")
        sides.both(f"EXECUTE two ({i}, 4)")
        sides.both("EXECUTE coloured ('red')")
        sides.both(f"EXECUTE change ({i}, 0.5)")
    sides.same_rows("accounts")
    for name in names:
        sides.both(f"DEALLOCATE {name}")


def test_point_statements_get_generic_plans(sides):
    sides.ours.execute("PREPARE point (int) AS SELECT * FROM accounts WHERE aid = $1")
    for i in range(9):
        sides.ours.execute(f"EXECUTE point ({i})")
    row = sides.ours.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'point'").fetchone()
    sides.ours.execute("DEALLOCATE point")
    assert row == (4, 5)


def test_parameters_of_every_kind(sides):
    values = (5, "red", "2026-03-02 10:00+01", 0.25, b"\x00\xff", ["a", None], True, None)
    sides.both("SELECT %s::int, %s::colour, %s::timestamptz, %s::float8, %s::bytea, %s::text[], %s::bool, %s::uuid FROM kinds WHERE id = 5",
               values, binary=False)
    sides.both("SELECT id FROM kinds WHERE id = %s AND c = %s AND a @> %s", (5, "blue", ["5"]))


def test_plans_follow_their_tables(sides):
    # psycopg prepares it itself after five executions.
    for _ in range(8):
        sides.ours.execute("SELECT * FROM settings WHERE name = %s", ("size",))
    sides.pair.shards.execute("ALTER TABLE settings ADD COLUMN more int DEFAULT 4")
    try:
        sides.ours.execute("ALTER FOREIGN TABLE settings ADD COLUMN more int")
        row = sides.ours.execute("SELECT * FROM settings WHERE name = %s AND true", ("size",)).fetchone()
        assert row == ("size", "12", 4)
        sides.ours.execute("ALTER FOREIGN TABLE settings OPTIONS (SET shard 's1')")
        assert sides.ours.execute("SELECT count(*) FROM settings").fetchone()[0] == 0
    finally:
        sides.ours.execute("ALTER FOREIGN TABLE settings OPTIONS (SET shard 's2')")
        sides.ours.execute("ALTER FOREIGN TABLE settings DROP COLUMN more")
        sides.pair.shards.execute("ALTER TABLE settings DROP COLUMN more")
    # Its row type has a hole now: rows are put together here.
    sides.both("SELECT s FROM settings s WHERE name = 'size'")


def test_functions_and_cursors(sides):
    for side in (sides.ours, sides.plain):
        side.execute("""CREATE OR REPLACE FUNCTION total(i int) RETURNS numeric LANGUAGE plpgsql AS $$
            DECLARE r record; t numeric := 0;
            BEGIN
                FOR r IN SELECT * FROM events WHERE name = 'name ' || i LOOP t := t + length(r.note); END LOOP;
                UPDATE accounts SET balance = balance + t WHERE aid = i;
                IF NOT FOUND THEN RAISE EXCEPTION 'no account %', i; END IF;
                RETURN t + (SELECT balance FROM accounts WHERE aid = i);
            EXCEPTION WHEN raise_exception THEN RETURN -1;
            END $$""")
    for i in [1, 2, 3, 4, 5, 1, 2, 3, 99]:
        sides.both(f"SELECT total({i})")
    sides.both("BEGIN")
    sides.both("DECLARE c SCROLL CURSOR FOR SELECT * FROM events WHERE name = 'name 1' ORDER BY at")
    for fetch in ("3 FROM c", "BACKWARD 2 FROM c", "LAST FROM c", "ABSOLUTE 2 FROM c", "FORWARD ALL FROM c"):
        sides.both(f"FETCH {fetch}", ordered=True)
    assert "Materialize" in plan(sides.ours, "DECLARE d SCROLL CURSOR FOR SELECT * FROM events WHERE name = 'name 1'")
    sides.both("DECLARE h CURSOR WITH HOLD FOR SELECT * FROM accounts WHERE aid = 5")
    sides.both("DECLARE n NO SCROLL CURSOR FOR SELECT * FROM events WHERE name = 'name 1'")
    sides.both("FETCH 1 FROM n", ordered=True)
    sides.both("SELECT count(*) FROM events WHERE name = 'name 1'")
    sides.both("COMMIT")
    sides.both("FETCH ALL FROM h")


def test_shards_of_a_range_are_found_when_the_plan_runs(sides):
    for side in (sides.ours, sides.plain):
        side.execute("SET plan_cache_mode = force_generic_plan")
        side.execute("""CREATE OR REPLACE FUNCTION lines(since date, until date) RETURNS text LANGUAGE plpgsql AS $$
            DECLARE found text[] := '{}'; r record;
            BEGIN
                FOR r IN SELECT line FROM days WHERE day >= since AND day < until LOOP found := found || r.line::text; END LOOP;
                RETURN (SELECT string_agg(f, ',' ORDER BY f) FROM unnest(found) f);
            END $$""")
    for since, until in [("2025-11-01", "2025-11-03"), ("2025-12-30", "2026-01-03"), ("2026-02-01", "2026-02-02"), ("2031-01-01", "2032-01-01"),
                         ("2026-01-01", "2025-01-01")]:
        sides.both(f"SELECT lines('{since}', '{until}')")
    sides.both("SELECT lines(NULL, '2026-01-01')")
    sides.ours.execute("PREPARE since (date) AS SELECT line FROM days WHERE day >= $1 AND day < '2027-01-01'")
    asked = [len(sides.ours.execute(f"EXPLAIN ANALYZE EXECUTE since ('{day}')").fetchall()) for day in ("2025-12-01", "2026-06-01")]
    sides.ours.execute("DEALLOCATE since")
    assert asked[0] == asked[1] + 1, "one line for each shard that was asked"


def test_explain_analyze_counts(sides):
    shown = "\n".join(row[0] for row in sides.ours.execute("EXPLAIN ANALYZE SELECT * FROM events WHERE name = 'name 1'"))
    assert re.search(r"Shard s\d: rows=7 ", shown), shown
    assert "password" not in shown and "host=" not in shown


# -- permissions ---------------------------------------------------------------------------------


def test_permissions_are_those_of_the_tables_here(sides):
    admin = sides.ours
    admin.execute("CREATE ROLE guest LOGIN")
    try:
        admin.execute("GRANT USAGE ON SCHEMA shop TO guest; GRANT SELECT (aid, bid), UPDATE (bid) ON accounts TO guest")
        admin.execute("CREATE VIEW open AS SELECT id, c FROM kinds; GRANT SELECT ON open TO guest")
        with sides.pair.ours(user="guest") as guest:
            guest.execute("SELECT aid, bid FROM accounts WHERE aid = 5")
            guest.execute("UPDATE accounts SET bid = 2 WHERE aid = 5")
            assert guest.execute("SELECT c FROM open WHERE id = 5").fetchone() == ("blue",)
            for query in ("SELECT * FROM accounts WHERE aid = 5", "SELECT c FROM kinds WHERE id = 5",
                          "UPDATE accounts SET balance = 2 WHERE aid = 5", "DELETE FROM accounts WHERE aid = 5",
                          "SELECT aid FROM accounts WHERE aid = 5 AND EXISTS (SELECT FROM kinds WHERE id = 5)",
                          "WITH k AS (SELECT * FROM kinds WHERE id = 5) SELECT count(*) FROM k",
                          "SELECT aid FROM accounts WHERE aid = 5 AND balance > 0",
                          "INSERT INTO accounts (aid) SELECT aid FROM accounts WHERE aid = 5"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    guest.execute(query)
            for _ in range(7):
                guest.execute("SELECT bid FROM accounts WHERE aid = %s", (5,))
            admin.execute("REVOKE SELECT (bid) ON accounts FROM guest")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                guest.execute("SELECT bid FROM accounts WHERE aid = %s", (5,))
    finally:
        admin.execute("DROP VIEW open; DROP OWNED BY guest; DROP ROLE guest")
