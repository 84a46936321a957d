"""Queries that shards answer in parts: what each computes, how it is put together, and what must not be taken apart."""

import psycopg
import pytest
from virtual_pair import SCHEMA, Pair, Sides
from virtual_rows import fill, plan, remote_sql, strategies


@pytest.fixture(scope="module")
def filled():
    """Nothing here changes rows for good."""
    with Pair() as pair:
        sides = Sides(pair)
        fill(sides)
        for side in (sides.ours, sides.plain):
            side.execute("SET extra_float_digits = 0; SET plan_cache_mode = auto")
        yield sides
        sides.close()


@pytest.fixture
def sides(filled):
    yield filled
    for side in (filled.ours, filled.plain):
        side.execute("ROLLBACK")
        side.execute("RESET search_path; RESET plan_cache_mode; RESET enable_hashagg")


def in_parts(sides, query, **more):
    """Answered like plain PostgreSQL, without a scan of a whole table; the rows."""
    found = set(strategies(sides.ours, query))
    assert found and found <= {"parts", "one shard", "any shard"}, plan(sides.ours, query)
    return sides.both(query, **more)


# -- aggregates ----------------------------------------------------------------------------------

EVERY_AGGREGATE = [
    "count(*)", "count(bid)", "count(*) FILTER (WHERE bid = 2)", "sum(bid)", "sum(aid::int8)", "sum(aid::int2)", "sum(balance)", "avg(bid)",
    "avg(aid::int2)", "avg(aid::int8)", "avg(balance)", "avg(balance) FILTER (WHERE aid > 40)", "min(filler)", "max(filler)", "min(balance)", "max(aid)",
    "bool_and(aid > 0)", "bool_or(aid > 59)", "every(bid < 4)", "bit_and(aid)", "bit_or(aid::int8)", "bit_xor(aid)", "sum(aid * interval '1 hour')",
    "avg(aid * interval '1 minute')", "stddev(bid)", "stddev_pop(aid::int2)", "stddev_samp(aid::int8)", "var_pop(balance)",
    "var_samp(balance)", "variance(aid)", "stddev(balance * 1e12)", "stddev(balance / 1e9)", "variance(balance * 0)", "var_samp('NaN'::numeric)",
    "round(sum(balance::float8)::numeric, 9)", "round(avg(balance::float4)::numeric, 5)", "round(var_samp(balance::float8)::numeric, 9)",
    "round(stddev_pop(balance::float4)::numeric, 5)", "regr_count(balance::float8, aid)", "round(corr(balance::float8, bid)::numeric, 9)",
    "round(regr_slope(aid, bid)::numeric, 9)", "round(regr_intercept(aid, nullif(bid, 2))::numeric, 9)", "round(regr_r2(aid, bid)::numeric, 9)",
    "round(covar_pop(aid, balance::float8)::numeric, 6)", "round(covar_samp(aid, nullif(bid, 1)) FILTER (WHERE aid > 3)::numeric, 6)",
    "round(regr_avgx(aid, nullif(bid, 3))::numeric, 9)", "round(regr_avgy(aid, bid)::numeric, 9)", "round(regr_sxx(aid, bid)::numeric, 6)",
    "round(regr_syy(aid, bid)::numeric, 6)", "round(regr_sxy(aid, bid)::numeric, 6)", "count(DISTINCT bid)", "sum(DISTINCT bid)", "avg(DISTINCT aid % 7)",
    "count(DISTINCT bid) FILTER (WHERE aid % 2 = 0)", "string_agg(DISTINCT filler, ',' ORDER BY filler)", "array_agg(DISTINCT bid)", "min(DISTINCT aid)",
    "count(*) + sum(bid) * 2", "coalesce(max(aid), 0) || 'x'",
]


@pytest.mark.parametrize("aggregate", EVERY_AGGREGATE)
def test_aggregates(sides, aggregate):
    for query in (f"SELECT {aggregate} FROM accounts", f"SELECT bid, {aggregate} FROM accounts GROUP BY bid",
                  f"SELECT {aggregate} FROM accounts WHERE filler = 'nothing has this'", f"SELECT {aggregate} FROM accounts WHERE aid IN (3, 4, 5) AND bid = 4"):
        in_parts(sides, query)


def test_all_aggregates_at_once(sides):
    several = ", ".join(EVERY_AGGREGATE)
    in_parts(sides, f"SELECT bid % 2, {several} FROM accounts GROUP BY 1 ORDER BY 1", ordered=True)
    in_parts(sides, f"SELECT bid, aid % 2, {several} FROM accounts GROUP BY CUBE (1, 2) ORDER BY 1, 2, 3", ordered=True)


def test_equal_columns_are_asked_for_once(sides):
    sql = remote_sql(sides.ours, "SELECT avg(bid), sum(bid), count(bid), stddev(bid) FROM accounts")
    assert sql.count("count(bid)") == 1 and sql.count("sum(bid)") == 1, sql


def test_different_keys_are_counted_by_shards(sides):
    for query in ("SELECT count(DISTINCT aid), sum(DISTINCT aid) FROM accounts", "SELECT bid, count(DISTINCT aid) FILTER (WHERE aid > 9) FROM accounts GROUP BY bid",
                  "SELECT count(DISTINCT k.id) FROM accounts a JOIN kinds k ON k.id = a.aid", "SELECT count(DISTINCT name) FROM events"):
        assert "count(DISTINCT" in remote_sql(sides.ours, query)
        in_parts(sides, query)
    # Null keys are on all shards; among groups of other columns a key comes more than once.
    for query in ("SELECT count(DISTINCT k.id) FROM accounts a LEFT JOIN kinds k ON k.id = a.aid", "SELECT count(DISTINCT name), count(DISTINCT note), sum(DISTINCT 1) FROM events",
                  "SELECT count(DISTINCT name) FROM events HAVING count(DISTINCT note) > 1",
                  "SELECT length(note), count(DISTINCT name) FROM events GROUP BY GROUPING SETS ((length(note)), ())"):
        assert "count(DISTINCT" not in remote_sql(sides.ours, query)
        in_parts(sides, query)


@pytest.mark.parametrize("query", [
    "SELECT array_agg(aid ORDER BY aid) FROM accounts", "SELECT string_agg(filler, ',' ORDER BY aid) FROM accounts WHERE bid = 1",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance) FROM accounts", "SELECT mode() WITHIN GROUP (ORDER BY bid) FROM accounts WHERE bid = 3",
    "SELECT sum(balance ORDER BY aid) FROM accounts", "SELECT jsonb_object_agg(aid, bid) FROM accounts",
    "SELECT rank(7) WITHIN GROUP (ORDER BY bid) FROM accounts",
])
def test_other_aggregates_are_computed_here(sides, query):
    assert strategies(sides.ours, query) == ["scan"]
    sides.both(query)


@pytest.mark.parametrize("query", [
    "SELECT bid, count(*) FROM accounts GROUP BY bid HAVING count(*) > 11 AND avg(aid) > 30", "SELECT count(*) FROM accounts HAVING count(*) > 100",
    "SELECT bid FROM accounts GROUP BY bid", "SELECT 'x', count(*) FROM accounts GROUP BY 1",
    "SELECT bid + 1, sum(aid) FROM accounts GROUP BY bid + 1", "SELECT bid + 1, sum(aid) FROM accounts GROUP BY bid",
    "SELECT bid, aid % 3, count(*), grouping(bid), grouping(bid, aid % 3) FROM accounts GROUP BY ROLLUP (bid, aid % 3)",
    "SELECT bid, count(*) FROM accounts GROUP BY GROUPING SETS ((bid), ())", "SELECT count(*) FROM accounts WHERE false GROUP BY ()",
    "SELECT count(*), sum(bid) FROM accounts WHERE aid < 0 GROUP BY GROUPING SETS ((), (bid))",
    "SELECT bid, sum(count(*)) OVER (ORDER BY bid) FROM accounts GROUP BY bid", "SELECT DISTINCT count(*) FROM accounts GROUP BY bid",
    "SELECT bid, count(*) FROM accounts GROUP BY bid ORDER BY 2 DESC, 1 LIMIT 2 OFFSET 1", "SELECT generate_series(1, count(*)) FROM tenants",
    "SELECT sum(a.balance), count(k.d) FROM accounts a JOIN kinds k ON a.aid = k.id", "SELECT r.title, count(*) FROM accounts, regions r GROUP BY 1",
    "SELECT k.c, sum(a.balance) FROM accounts a LEFT JOIN kinds k ON a.aid = k.id GROUP BY k.c", "SELECT day - '2026-01-01', count(*) FROM days GROUP BY 1",
    "SELECT max(at), min(note) FROM events", "SELECT max(c), min(c) FROM kinds", "SELECT sum(seats) FROM tenants", "SELECT c, avg(n) FROM kinds GROUP BY c",
])
def test_groups(sides, query):
    in_parts(sides, query)


@pytest.mark.parametrize("query", [
    "SELECT aid, count(*) FROM accounts GROUP BY aid HAVING sum(bid) > 2", "SELECT aid, bid, array_agg(filler) FROM accounts GROUP BY aid, bid",
    "SELECT name, string_agg(note, ',' ORDER BY at) FROM events GROUP BY name", "SELECT id::numeric, max(f) FROM kinds GROUP BY id::numeric",
    "SELECT a.aid, count(DISTINCT k.c) FROM accounts a JOIN kinds k ON k.id = a.aid GROUP BY a.aid",
    "SELECT k.id, count(DISTINCT a.bid) FROM accounts a JOIN kinds k ON k.id = a.aid GROUP BY k.id", "SELECT count(DISTINCT name), name FROM events GROUP BY 2",
    "SELECT DISTINCT name, note FROM events", "SELECT name, row_number() OVER (PARTITION BY name ORDER BY at) FROM events", "SELECT aid FROM accounts UNION SELECT id FROM kinds",
    "SELECT id, bid FROM kinds, accounts WHERE id = aid INTERSECT SELECT aid, bid FROM accounts", "SELECT aid FROM accounts EXCEPT ALL SELECT id FROM kinds",
    "SELECT coalesce(aid, id), bid, c FROM accounts FULL JOIN kinds ON aid = id", "SELECT aid, (SELECT count(*) FROM kinds WHERE id = aid) FROM accounts",
    "SELECT * FROM accounts a, LATERAL (SELECT max(d) FROM kinds k WHERE k.id = a.aid) m", "SELECT aid FROM accounts a WHERE EXISTS (SELECT FROM kinds WHERE id = a.aid)",
    "WITH k AS (SELECT id, c FROM kinds WHERE ok) SELECT a.bid, k.c FROM accounts a JOIN k ON k.id = a.aid",
    "WITH RECURSIVE t AS (SELECT aid, 1 AS n FROM accounts WHERE bid = 1 UNION ALL SELECT a.aid, n + 1 FROM t JOIN accounts a USING (aid) WHERE n < 3) SELECT * FROM t",
])
def test_what_has_the_key_is_left_to_each_shard(sides, query):
    found = strategies(sides.ours, query)
    assert found == ["each shard"], plan(sides.ours, query)
    sides.both(query)


# -- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("query, sent", [
    ("SELECT * FROM accounts ORDER BY balance DESC, aid LIMIT 5", "LIMIT '5'"), ("SELECT aid FROM accounts ORDER BY balance LIMIT 4 OFFSET 10", "LIMIT '14'"),
    ("SELECT DISTINCT bid FROM accounts ORDER BY bid LIMIT 2", "DISTINCT"), ("SELECT bid % 2 FROM accounts ORDER BY 1 FETCH FIRST 2 ROWS WITH TIES", "WITH TIES"),
    ("SELECT DISTINCT ON (bid) bid, aid FROM accounts ORDER BY bid, balance DESC", "DISTINCT ON (bid)"), ("SELECT DISTINCT bid, bid + 1 FROM accounts", "DISTINCT"),
    ("SELECT filler FROM accounts ORDER BY aid % 7, aid DESC LIMIT 6", "LIMIT '6'"), ("SELECT unnest(ARRAY[aid, bid]) AS x FROM accounts ORDER BY 1 LIMIT 9", "LIMIT '9'"),
    ("SELECT aid FROM accounts ORDER BY aid LIMIT 9223372036854775807 OFFSET 58", "LIMIT"), ("SELECT aid FROM accounts ORDER BY aid LIMIT NULL OFFSET 57", "LIMIT"),
    ("SELECT aid FROM accounts ORDER BY aid LIMIT 0", "LIMIT '0'"), ("SELECT bid, count(*) FROM accounts GROUP BY aid, bid ORDER BY aid LIMIT 3", "LIMIT '3'"),
    ("SELECT a.aid, k.c FROM accounts a JOIN kinds k ON k.id = a.aid ORDER BY k.d DESC LIMIT 4", "JOIN kinds"), ("SELECT 1, 'x' FROM accounts LIMIT 3", "LIMIT '3'"),
    ("SELECT day FROM days ORDER BY day LIMIT 3", "LIMIT '3'"), ("SELECT aid, $$x$$::text FROM accounts WHERE bid = 2 ORDER BY aid LIMIT 2", "bid = 2"),
])
def test_order_and_limit(sides, query, sent):
    in_parts(sides, query, ordered="ORDER" in query)
    assert sent in remote_sql(sides.ours, query)


def test_limits_are_parameters_too(sides):
    for side in (sides.ours, sides.plain):
        side.execute("PREPARE page (bigint, bigint) AS SELECT aid FROM accounts ORDER BY aid LIMIT $1 OFFSET $2")
        side.execute("SET plan_cache_mode = force_generic_plan")
    for page in ("3, 0", "3, 57", "NULL, 58", "5, NULL", "0, 3", "9223372036854775807, 9223372036854775807"):
        sides.both(f"EXECUTE page ({page})", ordered=True)
    assert sides.both("EXECUTE page (-1, 0)") == ("2201W",)
    assert sides.both("EXECUTE page (1, -1)") == ("2201X",)
    for side in (sides.ours, sides.plain):
        side.execute("DEALLOCATE page")


# -- subqueries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    "SELECT count(*) FROM accounts WHERE balance > (SELECT avg(balance) FROM accounts)", "SELECT count(*) FROM accounts WHERE EXISTS (SELECT max(n) FROM kinds HAVING max(n) > 3)",
    "SELECT max(n) FROM (SELECT bid, count(*) AS n FROM accounts GROUP BY bid) s", "SELECT (SELECT max(aid) FROM accounts), (SELECT min(id) FROM kinds)",
    "WITH s AS MATERIALIZED (SELECT bid, sum(balance) AS t FROM accounts GROUP BY bid) SELECT * FROM s WHERE t = (SELECT max(t) FROM s)",
    "SELECT s.bid, t.c FROM (SELECT bid, count(*) AS n FROM accounts GROUP BY bid) s JOIN (SELECT c, count(*) AS n FROM kinds GROUP BY c) t ON s.bid < t.n",
    "SELECT max(t) FROM (SELECT sum(balance) AS t FROM accounts GROUP BY aid % 4 UNION ALL SELECT count(*) FROM kinds) u",
    "SELECT ARRAY(SELECT DISTINCT bid FROM accounts ORDER BY 1)", "SELECT count(*) FROM kinds WHERE d = ANY (ARRAY(SELECT day FROM days ORDER BY day DESC LIMIT 80))",
])
def test_subqueries_are_taken_apart_too(sides, query):
    in_parts(sides, query)


def test_values_of_subqueries_are_sent(sides):
    assert "$1" in plan(sides.ours, "SELECT count(*) FROM accounts WHERE balance > (SELECT avg(balance) FROM accounts)")
    shards = plan(sides.ours, "SELECT count(*), max(filler) FROM accounts WHERE aid = (SELECT min(id) FROM kinds)")
    assert "one shard" in shards
    in_parts(sides, "SELECT count(*), max(filler) FROM accounts WHERE aid = (SELECT min(id) FROM kinds)")


# -- what is no part -----------------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    # Rows of one shard are not all that belong together.
    "SELECT count(*) FROM accounts a JOIN kinds k ON a.bid = k.id", "SELECT r.title, a.aid FROM regions r LEFT JOIN accounts a ON r.size = a.aid",
    "SELECT * FROM accounts FULL JOIN regions ON size = bid", "SELECT aid FROM accounts a WHERE EXISTS (SELECT FROM kinds WHERE id = a.bid)",
    "SELECT aid, bid FROM accounts WHERE bid NOT IN (SELECT id FROM kinds)", "SELECT region FROM regions UNION ALL SELECT name FROM events",
    "SELECT region FROM regions EXCEPT SELECT name FROM events", "SELECT aid, bid FROM accounts UNION SELECT bid, aid FROM accounts",
    "SELECT bid FROM accounts EXCEPT SELECT id FROM kinds", "SELECT bid, rank() OVER (ORDER BY bid) FROM accounts", "SELECT aid, count(*) OVER () FROM accounts",
    "SELECT * FROM (SELECT aid FROM accounts ORDER BY aid LIMIT 10) s WHERE aid > 5", "SELECT * FROM (SELECT bid, count(*) OVER () FROM accounts) s WHERE bid = 1",
    "SELECT a.aid FROM accounts a LEFT JOIN kinds k ON a.aid = 5", "SELECT count(*) FROM accounts a LEFT JOIN kinds k ON a.aid = 5 AND k.id = 5",
    "SELECT count(k.id), count(*) FROM accounts a LEFT JOIN kinds k ON a.aid = k.id AND k.id = 5", "SELECT count(*) FROM kinds k RIGHT JOIN accounts a ON k.id = a.aid AND a.aid = 3",
    "SELECT count(*) FROM accounts a LEFT JOIN kinds k ON k.id = a.aid WHERE k.id = 5 OR a.bid = 1", "SELECT count(*) FROM accounts a LEFT JOIN kinds k ON k.id = 7",
    "SELECT count(*) FROM (SELECT aid FROM accounts WHERE aid = 1 UNION ALL SELECT id FROM kinds WHERE id = 2) s", "SELECT count(*) FROM accounts, settings",
    "SELECT k.id, count(*) FROM accounts a LEFT JOIN kinds k ON k.id = a.aid GROUP BY k.id", "SELECT DISTINCT k.id FROM accounts a LEFT JOIN kinds k ON k.id = a.aid",
    "SELECT count(*) FROM accounts a JOIN counted c ON a.aid = c.id JOIN kinds k ON k.id = a.bid", "SELECT day, count(*) FROM days JOIN kinds ON d = day GROUP BY day",
    "SELECT (SELECT count(*) FROM kinds WHERE id > a.aid) FROM accounts a", "SELECT count(*) FROM (SELECT aid FROM accounts UNION ALL SELECT size FROM regions) s",
    "WITH RECURSIVE t AS (SELECT aid FROM accounts WHERE aid = 1 UNION SELECT a.aid FROM t JOIN accounts a ON a.aid = t.aid + 1) SELECT count(*) FROM t",
    "WITH RECURSIVE t AS (SELECT aid, bid FROM accounts WHERE bid = 1 UNION ALL SELECT a.aid, a.bid FROM t JOIN accounts a ON a.aid = t.bid AND a.bid > 1) SELECT * FROM t",
    "SELECT n.name, count(*) FROM events n GROUP BY n.name COLLATE \"C\"", "SELECT upper(name), count(*) FROM events GROUP BY upper(name)",
    "SELECT a.aid FROM accounts a, LATERAL (SELECT id FROM kinds k WHERE k.id > a.aid LIMIT 1) s", "SELECT r.region, (SELECT count(*) FROM accounts WHERE bid = r.size) FROM regions r",
    "SELECT bid, (SELECT sum(k.n) FROM kinds k WHERE k.id = max(a.aid)) FROM accounts a GROUP BY bid", "SELECT a.bid, s.c FROM accounts a JOIN (SELECT id, c FROM kinds ORDER BY n LIMIT 9) s ON id = aid",
    "SELECT count(*) FROM accounts a WHERE a.aid IN (SELECT k.id FROM kinds k WHERE k.id <> ALL (SELECT bid FROM accounts))",
    "SELECT sum(x) FROM (SELECT aid::float8 AS x FROM accounts UNION SELECT id FROM kinds) s", "SELECT max(aid) FROM accounts WHERE aid = 3 OR bid = 2",
    "SELECT (a).bid, count(*) FROM (SELECT a FROM accounts a) s GROUP BY 1", "SELECT a, count(*) FROM accounts a WHERE aid < 4 GROUP BY a",
])
def test_traps(sides, query):
    sides.both(query)


def test_random_values_are_not_sent(sides):
    """Each row has its own; nothing is grouped or limited before."""
    for query in ("SELECT count(*) FROM accounts WHERE random() >= 0", "SELECT random() < 2, count(*) FROM accounts GROUP BY 1",
                  "SELECT aid FROM accounts WHERE random() >= 0 ORDER BY aid LIMIT 3"):
        assert "random" not in "".join(line for line in plan(sides.ours, query).splitlines() if "Remote SQL" in line)
        sides.both(query)


def test_functions_of_users_stay_here(sides):
    for side in (sides.ours, sides.plain):
        side.execute("CREATE OR REPLACE FUNCTION double(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN i * 2; END'")
    for query in ("SELECT double(bid), count(*) FROM accounts GROUP BY 1", "SELECT bid, double(count(*)::int) FROM accounts GROUP BY 1",
                  "SELECT sum(double(bid)) FROM accounts", "SELECT double(aid) FROM accounts ORDER BY aid LIMIT 2", "SELECT max(aid) FROM accounts WHERE double(bid) = 4",
                  "SELECT a.bid, count(*) FROM accounts a JOIN kinds k ON k.id = a.aid WHERE double(a.aid) > 8 GROUP BY 1"):
        assert "double" not in "".join(line for line in plan(sides.ours, query).splitlines() if "Remote SQL" in line)
        sides.both(query)


# -- joins that are a part of a query ---------------------------------------------------------------


def test_joins_by_key_are_done_by_shards(sides):
    query = ("SELECT a.bid, k.c, e.note FROM accounts a JOIN kinds k ON k.id = a.aid JOIN days e ON e.line = a.bid WHERE k.ok")
    assert "parts" in strategies(sides.ours, query), plan(sides.ours, query)
    assert "FROM accounts a, kinds k" in plan(sides.ours, query)
    sides.both(query)
    sides.both(f"{query} AND a.aid = 4")


@pytest.mark.parametrize("query", [
    "SELECT count(*) FROM accounts a JOIN kinds k ON k.id = a.aid LEFT JOIN days e ON e.line = a.bid", "SELECT count(*) FROM days e LEFT JOIN (accounts a JOIN kinds k ON k.id = a.aid) ON e.line = a.bid",
    "SELECT count(*) FROM accounts a JOIN kinds k ON k.id = a.aid WHERE a.bid IN (SELECT line FROM days)", "SELECT count(*) FROM accounts a JOIN kinds k ON k.id = a.aid JOIN regions r ON r.size = a.bid JOIN days d ON d.line = a.bid",
    "SELECT count(*) FROM days d, LATERAL (SELECT k.c FROM accounts a JOIN kinds k ON k.id = a.aid WHERE a.bid = d.line OFFSET 0) s",
    "SELECT count(*) FROM days d WHERE (SELECT count(*) FROM accounts a JOIN kinds k ON k.id = a.aid JOIN tenants t ON t.seats > a.aid WHERE a.bid = d.line) > 2",
])
def test_joins_beside_others(sides, query):
    sides.both(query)


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("query, sqlstate", [
    ("SELECT sum(aid / (bid - 3)) FROM accounts", "22012"), ("SELECT bid, sum(9223372036854775807 / bid) FROM accounts WHERE bid > 0 GROUP BY bid", None),
    ("SELECT sum(x::int) FROM (SELECT 2147483647::int8 * 4294967297 * aid AS x FROM accounts) s", "22003"), ("SELECT aid FROM accounts ORDER BY aid LIMIT -1", "2201W"),
    ("SELECT max(filler::int) FROM accounts", "22P02"), ("SELECT count(*) FROM accounts WHERE balance > (SELECT balance FROM accounts)", "21000"),
])
def test_errors_are_those_of_one_server(sides, query, sqlstate):
    answer = sides.both(query)
    assert sqlstate is None or answer == (sqlstate,)


def test_the_stand_in_is_not_for_users(sides):
    with pytest.raises(psycopg.Error) as error:
        sides.ours.execute("SELECT * FROM a67_internal._remote('SELECT 1', 1) AS r (x int)")
    assert error.value.sqlstate == "0A000"


def test_permissions_on_what_is_hidden(sides):
    """Tables that only the shards' part reads are checked like all others."""
    sides.ours.execute(f"DROP ROLE IF EXISTS reader; CREATE ROLE reader; GRANT USAGE ON SCHEMA {SCHEMA} TO reader; "
                       f"GRANT SELECT (bid) ON accounts TO reader; GRANT SELECT ON kinds TO reader; "
                       f"CREATE OR REPLACE VIEW {SCHEMA}.sums AS SELECT bid, sum(balance) AS total FROM accounts GROUP BY bid")
    sides.ours.execute("SET ROLE reader")
    try:
        assert sides.ours.execute("SELECT count(bid) FROM accounts").fetchone() == (60,)
        assert sides.ours.execute("SELECT stddev(id), stddev(f), corr(f, f) FROM kinds").fetchone()[0] is not None
        for query in ("SELECT sum(balance) FROM accounts", "SELECT bid, count(*) FROM accounts WHERE aid > 3 GROUP BY bid", "SELECT max(total) FROM sums",
                      "SELECT count(*) FROM kinds WHERE n > (SELECT max(balance) FROM accounts)", "SELECT max(size) FROM regions"):
            assert sides.refused(query, "42501").message_primary.startswith("permission denied for ")
        sides.ours.execute("RESET ROLE")
        sides.ours.execute("GRANT SELECT ON sums TO reader")
        sides.ours.execute("SET ROLE reader")
        assert len(sides.ours.execute("SELECT * FROM sums WHERE total > 0").fetchall()) == 5
    finally:
        sides.ours.execute("RESET ROLE")
        sides.ours.execute(f"DROP VIEW {SCHEMA}.sums; DROP OWNED BY reader; DROP ROLE reader")


def test_cached_plans_follow_the_table(sides):
    """A plan whose tables are only in the shards' SQL is made anew when they change."""
    sides.ours.execute("PREPARE wide AS SELECT bid, count(*) FROM accounts GROUP BY bid")
    before = sorted(sides.ours.execute("EXECUTE wide").fetchall())
    sides.ours.execute("ALTER FOREIGN TABLE accounts ALTER COLUMN filler SET NOT NULL")
    assert sorted(sides.ours.execute("EXECUTE wide").fetchall()) == before
    sides.ours.execute("ALTER FOREIGN TABLE accounts RENAME COLUMN bid TO branch")
    with pytest.raises(psycopg.Error) as error:
        sides.ours.execute("EXECUTE wide")
    sides.ours.execute("ALTER FOREIGN TABLE accounts RENAME COLUMN branch TO bid")
    assert error.value.sqlstate in ("42703", "0A000")
    sides.ours.execute("ALTER FOREIGN TABLE accounts ALTER COLUMN filler DROP NOT NULL; DEALLOCATE wide")


def test_branches_send_no_row_twice(sides):
    for query in ("SELECT bid FROM accounts UNION SELECT length(note) FROM events", "SELECT bid FROM accounts EXCEPT SELECT seats FROM tenants",
                  "SELECT bid % 2 FROM accounts INTERSECT (SELECT bid FROM accounts UNION ALL SELECT size FROM regions)"):
        assert "SELECT DISTINCT" in plan(sides.ours, query)
        in_parts(sides, query)
    for query in ("SELECT bid FROM accounts EXCEPT ALL SELECT seats FROM tenants", "SELECT bid FROM accounts INTERSECT ALL SELECT length(note) - 5 FROM events",
                  "(SELECT bid FROM accounts EXCEPT ALL SELECT bid FROM accounts WHERE aid < 9) UNION ALL SELECT size FROM regions",
                  "SELECT bid FROM accounts UNION SELECT 77", "SELECT bid, aid FROM accounts UNION (SELECT bid, 1 FROM accounts ORDER BY aid LIMIT 3)"):
        sides.both(query)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_prepared(sides, mode):
    for side in (sides.ours, sides.plain):
        side.execute(f"SET plan_cache_mode = {mode}")
        side.execute("PREPARE parts (int, text) AS SELECT bid, count(*), $2 FROM accounts WHERE aid > $1 AND filler <> $2 GROUP BY bid")
        side.execute("PREPARE keys (int[]) AS SELECT count(*), sum(balance) FROM accounts WHERE aid = ANY ($1)")
    for arguments in ("1, 'x'", "50, 'row 55'", "NULL, 'x'", "0, NULL"):
        sides.both(f"EXECUTE parts ({arguments})")
    for keys in ("'{1,2,3}'", "'{7}'", "'{}'", "NULL", "'{NULL, 4}'"):
        sides.both(f"EXECUTE keys ({keys})")
    assert "3" not in plan(sides.ours, "EXECUTE keys ('{1}')").split("Shards:")[1].split("\n")[0] or mode == "force_generic_plan"
    for side in (sides.ours, sides.plain):
        side.execute("DEALLOCATE parts; DEALLOCATE keys")


def test_inside_of_other_statements(sides):
    """Functions, cursors, EXPLAIN, CREATE TABLE AS, and INSERT into an ordinary table."""
    sides.ours.execute("CREATE TEMP TABLE kept AS SELECT bid, sum(balance) AS t FROM accounts GROUP BY bid")
    assert sides.ours.execute("SELECT count(*) FROM kept").fetchone() == (5,)
    sides.ours.execute("INSERT INTO kept SELECT bid, max(aid) FROM accounts GROUP BY bid")
    assert sides.ours.execute("UPDATE kept SET t = (SELECT avg(balance) FROM accounts)").rowcount == 10
    assert sides.ours.execute("DELETE FROM kept USING (SELECT bid, count(*) AS n FROM accounts GROUP BY bid) s WHERE s.bid = kept.bid").rowcount == 10
    with sides.ours.transaction():
        sides.ours.execute("DECLARE c SCROLL CURSOR FOR SELECT bid, count(*) FROM accounts GROUP BY bid ORDER BY bid")
        assert sides.ours.execute("FETCH 2 FROM c").fetchall() == [(0, 12), (1, 12)]
        assert sides.ours.execute("FETCH PRIOR FROM c").fetchall() == [(0, 12)]
    text = "\n".join(row[0] for row in sides.ours.execute("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT bid, count(*) FROM accounts GROUP BY bid"))
    assert "Strategy: parts" in text and "s4" in text
