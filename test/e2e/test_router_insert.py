"""INSERT into virtual tables: rows are routed one by one, defaults and RETURNING are computed here, shards do the rest.

Most statements run on a virtual database and on a plain one, which must answer alike (virtual_pair).
"""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from cloud.wait import wait_until
from virtual_pair import Pair, Sides


@pytest.fixture(scope="module")
def pair():
    with Pair() as made:
        yield made


@pytest.fixture
def sides(pair):
    made = Sides(pair)
    yield made
    made.close()
    pair.clear()


# -- rows ----------------------------------------------------------------------------------------


def test_single_rows(sides):
    for aid in range(20):
        sides.both("INSERT INTO accounts VALUES (%s, %s, %s, %s)", (aid, aid % 3, aid * 1.5, f"row {aid}"))
    sides.both("INSERT INTO accounts (filler, aid) VALUES ('default balance', 100)")
    sides.same_rows("accounts")
    assert sum(1 for count in sides.pair.counts("accounts") if count > 0) == 4


def test_many_rows_in_one_statement(sides):
    values = ", ".join(f"({aid}, {aid % 7}, DEFAULT, 'x')" for aid in range(2500))
    sides.both(f"INSERT INTO accounts VALUES {values}")
    sides.same_rows("accounts")


def test_returning_is_in_the_order_of_the_rows(sides):
    rows = sides.both("INSERT INTO accounts (aid) SELECT i FROM generate_series(1, 3000) i RETURNING aid", ordered=True)
    assert [int(row[0]) for row in rows] == list(range(1, 3001))


@pytest.mark.parametrize("returning", [
    "*", "aid", "1", "aid + 1, upper(filler)", "accounts", "accounts.*, balance IS NULL", "tableoid::regclass::text",
    "(SELECT count(*) FROM generate_series(1, aid))", "(SELECT max(i) FROM generate_series(1, 3) i), filler", "xmax = 0",
])
def test_returning(sides, returning):
    sides.both(f"INSERT INTO accounts (aid, filler) VALUES (1, 'a'), (2, NULL), (3, 'c') RETURNING {returning}", ordered=True)
    sides.both(f"INSERT INTO accounts (aid, filler) VALUES (4, 'd') RETURNING {returning}")


def test_volatile_returning_is_evaluated_for_each_row(sides):
    rows = sides.ours.execute("INSERT INTO accounts (aid) SELECT generate_series(1, 50) RETURNING random()").fetchall()
    assert len({row[0] for row in rows}) == 50


def test_defaults_are_computed_here(sides):
    rows = sides.both("INSERT INTO counted (twice) SELECT i * 2 FROM generate_series(1, 40) i RETURNING id, note, made = now(), twice",
                      ordered=True)
    assert [int(row[0]) for row in rows] == list(range(1, 41))
    sides.both("INSERT INTO counted DEFAULT VALUES RETURNING id, note, twice")
    sides.both("INSERT INTO counted (note) VALUES (DEFAULT), ('two') RETURNING id, note")


def test_values_of_every_kind(sides):
    sides.both("""INSERT INTO kinds VALUES
        (1, 'red', '2026-03-29 01:30+02', 0.1, '\\x00ff', '{a,NULL,"b c"}', '{"k": [1, "ü"]}', '00000000-0000-0000-0000-000000000001',
         '2026-02-28', true, 'ab', '1 mon 2 days 03:04:05', 12345.678, '[1,5)'),
        (2, NULL, 'infinity', 'NaN', NULL, '{}', 'null', NULL, '-infinity', NULL, '', '-1 year', NULL, 'empty'),
        (3, 'blue', 'epoch', '-infinity', '', NULL, '{}', NULL, NULL, false, NULL, NULL, 'NaN', NULL)""")
    sides.both("INSERT INTO kinds (id, c, a, ch) VALUES (%s, %s, %s, %s) RETURNING *", (4, "green", ["ä", None, "\\\"'"], "x"))
    sides.same_rows("kinds")


def test_arrays_and_composites_by_element(sides):
    sides.both("INSERT INTO kinds (id, a[2]) VALUES (1, 'second') RETURNING a")


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan", "auto"])
def test_prepared(sides, mode):
    for side in (sides.ours, sides.plain):
        side.execute(f"SET plan_cache_mode = {mode}")
    for aid in range(30):
        sides.both("INSERT INTO accounts VALUES (%s, %s, %s, %s) RETURNING aid, balance", (aid, 1, aid / 4, None if aid % 3 else "x"),
                   prepare=True)
    sides.same_rows("accounts")


# -- sources -------------------------------------------------------------------------------------


def test_select_from_anything(sides):
    sides.both("INSERT INTO accounts SELECT i, i % 5, i, 'x' || i FROM generate_series(1, 200) i")
    sides.both("INSERT INTO events SELECT filler, 'epoch', bid FROM accounts WHERE aid <= 50")
    sides.both("INSERT INTO regions SELECT 'r' || bid, count(*) || ' rows', sum(aid) FROM accounts GROUP BY bid")
    sides.both("INSERT INTO settings SELECT region, title FROM regions")
    sides.both("INSERT INTO accounts (aid, filler) SELECT 1000 + size, title FROM regions ORDER BY size DESC LIMIT 3")
    sides.both("INSERT INTO accounts (aid, bid) SELECT aid + 2000, (SELECT count(*) FROM events) FROM accounts WHERE bid = 2")
    sides.both("WITH big AS (SELECT aid FROM accounts WHERE aid > 1500) INSERT INTO accounts (aid) SELECT aid + 10000 FROM big RETURNING aid")
    sides.both("INSERT INTO accounts (aid) SELECT 50000 WHERE false")
    sides.both("INSERT INTO accounts (aid) SELECT 50001 WHERE true")
    sides.both("INSERT INTO accounts (aid) VALUES ((SELECT max(aid) + 1 FROM accounts))")
    for table in ("accounts", "events", "regions", "settings"):
        sides.same_rows(table)


def test_select_from_itself_sees_no_new_rows(sides):
    sides.both("INSERT INTO accounts SELECT i, 0, i, 'x' FROM generate_series(1, 3000) i")
    sides.both("INSERT INTO accounts SELECT aid + 100000, bid, balance FROM accounts")
    sides.both("INSERT INTO accounts SELECT a.aid + 1000000 FROM accounts a JOIN accounts b ON b.aid = a.aid + 1 WHERE a.aid < 3000")
    sides.both("SELECT count(*), sum(aid) FROM accounts")


def test_writing_ctes(sides):
    sides.both("WITH new AS (INSERT INTO accounts VALUES (1, 1), (2, 2) RETURNING aid) INSERT INTO events SELECT 'e' || aid, 'epoch' FROM new")
    sides.same_rows("accounts")
    sides.same_rows("events")


# -- strategies ----------------------------------------------------------------------------------


def test_reference_table_is_everywhere(sides):
    sides.both("INSERT INTO regions VALUES ('n', 'North', 1), ('s', 'South', 2) RETURNING region, size", ordered=True)
    sides.both("INSERT INTO regions VALUES ('n', 'again', 3) ON CONFLICT (region) DO UPDATE SET title = excluded.title RETURNING *")
    assert sides.pair.counts("regions") == [2, 2, 2, 2]
    assert sides.both("INSERT INTO regions VALUES ('n', 'twice', 1)") == ("23505",)
    assert sides.pair.counts("regions") == [2, 2, 2, 2]


def test_local_range_and_directory(sides):
    sides.both("INSERT INTO settings VALUES ('a', 'b')")
    assert sides.pair.counts("settings") == [0, 1, 0, 0]
    sides.both("INSERT INTO days VALUES ('2025-12-31', 1), ('2026-01-01', 2), ('-infinity', 3) RETURNING *")
    assert sides.pair.counts("days") == [2, 0, 1, 0]
    sides.both("INSERT INTO tenants VALUES ('initech', 5), ('acme', 6)")
    assert sides.pair.counts("tenants") == [1, 0, 0, 1]


def test_key_without_a_shard_is_refused(sides):
    diagnostics = sides.refused("INSERT INTO days VALUES ('2026-05-05', 1), ('2027-01-01', 1)", "23514")
    assert "(day) = (2027-01-01)" in diagnostics.message_detail
    assert sides.refused("INSERT INTO tenants VALUES ('unknown', 1)", "23514").message_hint
    assert sides.pair.counts("days") == [0, 0, 0, 0]


# -- ON CONFLICT ---------------------------------------------------------------------------------


@pytest.mark.parametrize("clause", [
    "DO NOTHING", "(aid) DO NOTHING", "(aid) DO UPDATE SET filler = excluded.filler", "(aid) DO UPDATE SET aid = excluded.aid, bid = a.bid + 1",
    "(aid) DO UPDATE SET filler = a.filler || excluded.filler || now()::date::text WHERE a.bid = 1",
    "(aid) DO UPDATE SET (bid, filler) = ROW(excluded.bid + 10, upper(a.filler))",
    "(aid) WHERE true DO UPDATE SET balance = a.balance + excluded.balance", "(aid) DO UPDATE SET balance = DEFAULT",
])
def test_on_conflict(sides, clause):
    sides.both("INSERT INTO accounts VALUES (1, 1, 1, 'one'), (2, 2, 2, 'two'), (3, 3, 3, 'three')")
    sides.both(f"INSERT INTO accounts AS a VALUES (2, 7, 7, 'new two') ON CONFLICT {clause} RETURNING a.*")
    sides.both(f"INSERT INTO accounts AS a SELECT i, 8, i, 'new ' || i FROM generate_series(1, 6) i ON CONFLICT {clause} RETURNING a.*")
    sides.same_rows("accounts")


def test_on_conflict_with_parameters(sides):
    query = "INSERT INTO accounts VALUES (%s, %s, 0) ON CONFLICT (aid) DO UPDATE SET balance = accounts.balance + %s, filler = %s WHERE accounts.bid = %s"
    for turn in range(24):
        sides.both(query, (turn % 4, turn % 4, turn, f"turn {turn}", turn % 4), prepare=True)
    sides.same_rows("accounts")


@pytest.mark.parametrize("query, detail", [
    ("INSERT INTO accounts VALUES (1) ON CONFLICT (bid) DO NOTHING", "each shard only"),
    ("INSERT INTO accounts VALUES (1) ON CONFLICT (aid) DO UPDATE SET aid = 5", "another shard"),
    ("INSERT INTO accounts VALUES (1) ON CONFLICT (aid) DO UPDATE SET balance = random()", "volatile"),
    ("INSERT INTO accounts VALUES (1) ON CONFLICT (aid) DO UPDATE SET bid = (SELECT max(bid) FROM accounts)", "other tables"),
    ("INSERT INTO accounts VALUES (1) ON CONFLICT (aid) DO UPDATE SET filler = accounts::text", ""),
])
def test_on_conflict_that_is_refused(sides, query, detail):
    diagnostics = sides.refused(query, "0A000")
    assert detail in (diagnostics.message_detail or "")
    assert diagnostics.message_hint


def test_conflict_twice_in_one_statement(sides):
    """Also when thousands of rows, hence several statements of shards, are between the two."""
    source = "INSERT INTO accounts (aid, balance) SELECT i % 5000, i FROM generate_series(1, {}) i ON CONFLICT (aid) DO "
    assert sides.both(source.format(5001) + "UPDATE SET balance = 1") == ("21000",)
    sides.both(source.format(5000) + "UPDATE SET balance = 1")
    sides.both(source.format(5000) + "UPDATE SET filler = 'again'")
    sides.both(source.format(5001) + "NOTHING")
    sides.both("INSERT INTO events SELECT 'e' || i % 3, timestamptz '2026-01-01' + i % 4000 * interval '1 s' FROM generate_series(1, 9000) i "
               "ON CONFLICT (at, name) DO UPDATE SET note = 'again'")
    sides.both("SELECT count(*), sum(balance), count(filler) FROM accounts")
    diagnostics = sides.refused("INSERT INTO accounts SELECT i FROM generate_series(1, 9000) i "
                                "ON CONFLICT (aid) WHERE aid > 0 DO UPDATE SET balance = 1", "0A000")
    assert diagnostics.message_hint
    assert sides.both("INSERT INTO accounts VALUES (1), (1) ON CONFLICT (aid) DO UPDATE SET bid = 1") == ("21000",)


# -- errors, and nothing but the whole ----------------------------------------------------------------


@pytest.mark.parametrize("query", [
    "INSERT INTO accounts VALUES (NULL)", "INSERT INTO accounts (bid) VALUES (1)", "INSERT INTO accounts VALUES (1), (1)",
    "INSERT INTO accounts VALUES (1, 13)", "INSERT INTO accounts VALUES (1, 'x')", "INSERT INTO accounts VALUES (1, 2, 3, 4, 5)",
    "INSERT INTO accounts (aid, nothing) VALUES (1, 2)", "INSERT INTO accounts VALUES (1, 1/(SELECT 0))",
    "INSERT INTO accounts SELECT i, 1, 1 / (i - 2500) FROM generate_series(1, 3000) i",
    "INSERT INTO kinds (id, n) VALUES (1, 1e12)", "INSERT INTO kinds (id, ch) VALUES (1, 'toolong')",
    "INSERT INTO accounts SELECT i, 1 FROM generate_series(1, 2500) i UNION ALL SELECT 2500, 1",
])
def test_errors_store_nothing(sides, query):
    sqlstate = sides.both(query)
    assert len(sqlstate) == 1 and len(sqlstate[0]) == 5
    assert sides.pair.counts("accounts") == [0, 0, 0, 0]
    sides.both("INSERT INTO accounts VALUES (1)")


def test_error_names_shard_and_constraint(sides):
    sides.both("INSERT INTO accounts VALUES (1)")
    diagnostics = sides.refused("INSERT INTO accounts VALUES (1)", "23505")
    assert diagnostics.constraint_name == "accounts_pkey"
    assert diagnostics.table_name == "accounts"
    assert 'shard "s' in diagnostics.context
    assert sides.refused("INSERT INTO accounts VALUES (NULL)", "23502").column_name == "aid"


def test_transactions_and_savepoints(sides):
    for command in ("BEGIN", "INSERT INTO accounts SELECT generate_series(1, 40)", "SAVEPOINT a", "INSERT INTO accounts VALUES (50)",
                    "INSERT INTO accounts SELECT generate_series(30, 60)", "ROLLBACK TO a", "INSERT INTO accounts VALUES (50, 2)",
                    "SELECT count(*), sum(bid) FROM accounts", "COMMIT"):
        sides.both(command)
    for command in ("BEGIN", "INSERT INTO accounts SELECT generate_series(100, 140)", "ROLLBACK"):
        sides.both(command)
    sides.same_rows("accounts")
    sides.both("SET default_transaction_read_only = on")
    assert sides.both("INSERT INTO accounts VALUES (500)") == ("25006",)


def test_in_functions(sides):
    body = """CREATE FUNCTION {}.fill(last int) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE n bigint; m bigint; BEGIN
        FOR i IN 1..last LOOP INSERT INTO shop.accounts VALUES (i, i % 3); END LOOP;
        INSERT INTO shop.accounts VALUES (last + 1) RETURNING aid INTO n;
        BEGIN INSERT INTO shop.accounts VALUES (last + 2), (1); EXCEPTION WHEN unique_violation THEN n := n + 1000; END;
        INSERT INTO shop.accounts SELECT generate_series(1, 3) ON CONFLICT DO NOTHING; GET DIAGNOSTICS m = ROW_COUNT;
        RETURN n + m; END $$"""
    for side in (sides.ours, sides.plain):
        side.execute(body.format("public"))
    try:
        assert sides.both("SELECT public.fill(10)") == [("1011",)]
        sides.same_rows("accounts")
        # All of a function or nothing: its statements are not alone.
        assert sides.both("SELECT public.fill(2)") == ("23505",)
        sides.same_rows("accounts")
    finally:
        for side in (sides.ours, sides.plain):
            side.execute("DROP FUNCTION public.fill")


def test_shard_is_lost_between_batches(sides):
    """The first thousands are stored on all shards, in their transactions; then one of these is gone."""
    query = ("INSERT INTO accounts SELECT i FROM generate_series(1, 20000) i "
             "WHERE CASE WHEN i = 15000 THEN pg_advisory_xact_lock(67) IS NOT NULL ELSE true END")
    with sides.pair.cluster.connect() as holder, ThreadPoolExecutor() as pool, sides.pair.shards.connect("s2") as shard:
        holder.execute("SELECT pg_advisory_lock(67)")
        inserting = pool.submit(sides.refused, query, "08006")
        wait_until("a transaction on the shard", lambda: shard.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = 's2' AND state = 'idle in transaction'"
        ).fetchone()[0], 20)
        holder.execute("SELECT pg_advisory_unlock(67)")
        assert "s2" in inserting.result(30).message_primary
    assert sides.pair.counts("accounts") == [0, 0, 0, 0]
    sides.both("INSERT INTO accounts SELECT generate_series(1, 100)")


def test_pipeline_is_one_transaction(sides):
    for side in (sides.ours, sides.plain):
        with pytest.raises(psycopg.errors.UniqueViolation):
            with side.pipeline():
                side.execute("INSERT INTO accounts VALUES (%s)", (1,))
                side.execute("INSERT INTO accounts VALUES (%s)", (1,))
    sides.same_rows("accounts")


@pytest.mark.parametrize("query", [
    "INSERT INTO accounts VALUES (1) RETURNING 1 / (aid - 1)",
    "WITH gone AS (DELETE FROM regions RETURNING 1 / (size - 5)) INSERT INTO accounts VALUES (1)",
    "INSERT INTO accounts VALUES (1) RETURNING public.note_and_fail(aid)",
    "INSERT INTO accounts VALUES (public.note(1)) RETURNING 1 / (aid - 1)",
])
def test_nothing_is_kept_when_the_statement_fails_late(sides, query):
    for side in (sides.ours, sides.plain):
        side.execute("""CREATE OR REPLACE FUNCTION public.note(n int) RETURNS int LANGUAGE plpgsql AS
            'BEGIN INSERT INTO shop.events VALUES (n::text, now()); RETURN n; END';
            CREATE OR REPLACE FUNCTION public.note_and_fail(n int) RETURNS int LANGUAGE plpgsql AS
            'BEGIN PERFORM public.note(n); RAISE EXCEPTION USING ERRCODE = 22012; END'""")
    sides.both("INSERT INTO regions VALUES ('r', 'x', 5)")
    for _ in range(2):
        assert sides.both(query) == ("22012",)
    assert sides.both("SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM events)") == [("0", "0")]
    assert sides.both("INSERT INTO accounts VALUES (public.note(1)) RETURNING aid") == [("1",)]
    sides.both("SELECT name FROM events")
    for side in (sides.ours, sides.plain):
        side.execute("DROP FUNCTION public.note_and_fail, public.note")


def test_names_that_need_quotes(sides):
    definition = '"select" int NOT NULL, "a ""b" text, "ÜBER VALUES (" int DEFAULT 7'
    name = '"DEFAULT VALUES ""x"'
    sides.pair.shards.execute(f'CREATE TABLE {name} ({definition}, PRIMARY KEY ("select"))')
    sides.plain.execute(f'CREATE TABLE {name} ({definition}, PRIMARY KEY ("select"))')
    sides.ours.execute(f"CREATE FOREIGN TABLE {name} ({definition}) SERVER a67_shop OPTIONS (strategy 'hash', key 'select')")
    try:
        sides.both(f'INSERT INTO {name} VALUES (1, 2), (3, NULL) RETURNING *')
        sides.both(f'INSERT INTO {name} AS "DEFAULT VALUES" VALUES (1, 2) ON CONFLICT ("select") DO UPDATE SET "a ""b" = '
                   'excluded."a ""b" || "DEFAULT VALUES"."ÜBER VALUES (" RETURNING *')
        for side in (sides.ours, sides.plain):
            with side.cursor().copy(f'COPY {name} ("select", "a ""b") FROM STDIN (FORMAT csv, FORCE_NULL ("a ""b"))') as copy:
                copy.write('5,""\n6,x\n')
        sides.same_rows(name)
    finally:
        sides.ours.execute(f"DROP FOREIGN TABLE {name}")
        sides.plain.execute(f"DROP TABLE {name}")
        sides.pair.shards.execute(f"DROP TABLE {name}")


def test_generated_and_overridden_columns(sides):
    definition = "id int NOT NULL PRIMARY KEY, half int GENERATED ALWAYS AS (id / 2) STORED, at int DEFAULT 3"
    sides.pair.shards.execute(f"CREATE TABLE generated ({definition})")
    sides.plain.execute(f"CREATE TABLE generated ({definition})")
    sides.ours.execute(f"CREATE FOREIGN TABLE generated ({definition.replace(' PRIMARY KEY', '')}) SERVER a67_shop "
                       "OPTIONS (strategy 'hash', key 'id')")
    try:
        sides.both("INSERT INTO generated VALUES (10), (21) RETURNING *")
        sides.both("INSERT INTO generated VALUES (10) ON CONFLICT (id) DO UPDATE SET at = generated.half RETURNING *")
        assert sides.both("INSERT INTO generated VALUES (1, 2)") == ("428C9",)
        sides.both("INSERT INTO generated (id, at) OVERRIDING SYSTEM VALUE VALUES (30, DEFAULT), (31, 5) RETURNING *")
        for side in (sides.ours, sides.plain):
            with side.cursor().copy("COPY generated FROM STDIN WHERE at > 1") as copy:
                copy.write("50\t1\n51\t2\n")
            with pytest.raises(psycopg.errors.InvalidColumnReference), side.cursor().copy("COPY generated FROM STDIN WHERE half > 1"):
                pass
        sides.same_rows("generated")
    finally:
        sides.ours.execute("DROP FOREIGN TABLE generated")
        sides.plain.execute("DROP TABLE generated")
        sides.pair.shards.execute("DROP TABLE generated")


def test_triggers_take_the_slow_way(sides):
    for side in (sides.ours, sides.plain):
        side.execute("""CREATE FUNCTION public.mend() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF new.aid < 0 THEN RETURN NULL; END IF; new.aid := new.aid + 1000; new.filler := ''mended''; RETURN new; END';
            CREATE TRIGGER mend BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION public.mend()""")
    try:
        sides.both("INSERT INTO accounts SELECT i FROM generate_series(-5, 40) i RETURNING aid")
        sides.both("INSERT INTO accounts VALUES (500, 1), (501, 13)")
        for side in (sides.ours, sides.plain):
            with side.cursor().copy("COPY accounts (aid) FROM STDIN") as copy:
                copy.write("\n".join(str(i) for i in range(-100, 300) if not 0 <= i <= 40))
        sides.same_rows("accounts")
        sides.refused("INSERT INTO accounts VALUES (1) ON CONFLICT DO NOTHING", "0A000")
    finally:
        for side in (sides.ours, sides.plain):
            side.execute("DROP TRIGGER mend ON accounts; DROP FUNCTION public.mend")


def test_views_take_the_slow_way(sides):
    for side in (sides.ours, sides.plain):
        side.execute("CREATE VIEW rich AS SELECT * FROM accounts WHERE balance > 100 WITH CHECK OPTION")
        side.execute("CREATE VIEW everybody AS SELECT aid, filler FROM accounts")
    try:
        sides.both("INSERT INTO everybody VALUES (1, 'a'), (2, 'b') RETURNING aid")
        sides.both("INSERT INTO rich VALUES (3, 3, 300)")
        assert sides.both("INSERT INTO rich VALUES (4, 4, 4)") == ("44000",)
        sides.same_rows("accounts")
    finally:
        for side in (sides.ours, sides.plain):
            side.execute("DROP VIEW rich, everybody")


def test_privileges(sides):
    sides.ours.execute("CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA shop TO clerk; GRANT INSERT (aid, bid), SELECT (aid) ON accounts TO clerk")
    try:
        with sides.pair.ours("clerk") as clerk:
            clerk.execute("INSERT INTO accounts (aid, bid) VALUES (1, 2) RETURNING aid")
            for query in ("INSERT INTO accounts (aid, filler) VALUES (2, 'x')", "INSERT INTO accounts (aid) VALUES (2) RETURNING bid",
                          "INSERT INTO regions VALUES ('n')", "INSERT INTO accounts (aid) VALUES (1) ON CONFLICT (aid) DO UPDATE SET bid = 3"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    clerk.execute(query)
        assert sum(sides.pair.counts("accounts")) == 1
    finally:
        sides.ours.execute("REVOKE ALL ON accounts FROM clerk; REVOKE USAGE ON SCHEMA shop FROM clerk; DROP ROLE clerk")


# -- plans ---------------------------------------------------------------------------------------


def plan(sides, query):
    return "\n".join(row[0] for row in sides.ours.execute(query).fetchall())


def test_explain(sides):
    shown = plan(sides, "EXPLAIN (VERBOSE, COSTS OFF) INSERT INTO accounts (aid, filler) VALUES (1, 'x') "
                        "ON CONFLICT (aid) DO UPDATE SET filler = now()::text RETURNING upper(filler)")
    assert "INSERT INTO accounts (aid, balance, filler) VALUES ($2, $3, $4) ON CONFLICT" in shown
    assert "Output: upper(accounts.filler)" in shown
    assert sides.pair.counts("accounts") == [0, 0, 0, 0]
    shown = plan(sides, "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) INSERT INTO accounts SELECT generate_series(1, 100)")
    assert shown.count("Shard s") == 4
    assert sum(sides.pair.counts("accounts")) == 100


def test_plan_follows_the_table(sides):
    """A prepared INSERT learns of a new column."""
    connection = sides.ours
    connection.execute("PREPARE add AS INSERT INTO settings VALUES ($1, $2)")
    connection.execute("EXECUTE add ('a', 'b')")
    try:
        sides.pair.shards.execute("ALTER TABLE settings ADD COLUMN more int")
        connection.execute("ALTER FOREIGN TABLE settings ADD COLUMN more int DEFAULT 5")
        connection.execute("EXECUTE add ('c', 'd')")
        assert connection.execute("SELECT more FROM settings WHERE name = 'c'").fetchone() == (5,)
    finally:
        connection.execute("ALTER FOREIGN TABLE settings DROP COLUMN more")
        sides.pair.shards.execute("ALTER TABLE settings DROP COLUMN more")
    connection.execute("EXECUTE add ('e', 'f')")
    assert connection.execute("INSERT INTO settings VALUES ('g', 'h') RETURNING settings").fetchone() == ("(g,h)",)
