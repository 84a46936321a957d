"""Scans of virtual tables: what travels, in which form, how often, and what is said when a shard's table is another one.

local(x) is a function that shards do not have: a query that calls it is left to PostgreSQL's executor over scans. Statements run
on a virtual database and on a plain one, which must answer alike (virtual_pair).
"""

import psycopg
import pytest
from cloud.shards import Shards
from virtual_pair import Pair, Sides

FUNCTION = "CREATE FUNCTION local({0}) RETURNS {0} LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'"
# Types beside those of virtual_pair's kinds, each with values that are easily spoilt on the way.
TYPES = {
    "smallint": ["-32768", "32767"], "bigint": ["-9223372036854775808"], "oid": ["4294967295"], "real": ["1e-45", "-Infinity", "NaN"],
    "double precision": ["5e-324", "1.7976931348623157e308", "-0"], "numeric": ["1e-200", "-Infinity", "12345678901234567890.10"],
    "money": ["-12.34"], '"char"': ["x"], "name": ["häßlich"], "varchar(3)": ["äöü"], "char(5)": ["ab"], "text": ["", "a'b\\c\n☃"],
    "json": ['{"a":  1, "a": 2}'], "jsonb": ['{"ü": [1.10, null]}'], "xml": ["<a>ü</a>"], "time": ["24:00:00"],
    "timetz": ["12:00:00.000001+05:30"], "timestamp": ["294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC"], "date": ["5874897-12-31"],
    "interval": ["-178000000 years", "1 mon -1 day 00:00:00.000001"], "bit(3)": ["101"], "varbit": [""], "inet": ["::1/64"], "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"], "macaddr8": ["08:00:2b:01:02:03:04:05"], "point": ["(1e-300,2)"], "box": ["(1,1),(0,0)"],
    "polygon": ["((0,0),(1,1),(2,0))"], "circle": ["<(0,0),1.5>"], "tsvector": ["'ä':1A 'b':2"], "tsquery": ["'ä' & 'b'"],
    "int8range": ["[1,)", "empty"], "tstzrange": ['["2026-01-01 00:00:00+00",infinity]'], "nummultirange": ["{[1,2),[3,4]}"], "pg_lsn": ["FFFFFFFF/1"],
    "xid8": ["18446744073709551615"], "jsonpath": ["$.\"ü\"[*]"], "int[]": ["{}", "{{1,2},{NULL,4}}", "[-1:0]={7,8}"],
    "text[]": ['{ü,"",NULL,"a,b\\\\"}'], "jsonb[]": ['{"{\\"a\\": 1}"}'], "name[]": ["{ä,b}"], "timestamptz[]": ["{-infinity}"],
    "public.mood[]": ["{happy,NULL}"], "public.mood": ["very sad"], "public.positive": ["7"], "public.pair": ['(1,"ü ""x""")'],
    "public.pair[]": ['{"(1,a)"}'], "public.positive[]": ["{1,2}"],
}
OBJECTS = """CREATE TYPE public.mood AS ENUM ('very sad', 'happy'); CREATE DOMAIN public.positive AS int CHECK (VALUE > 0);
    CREATE TYPE public.pair AS (a int, b text)"""


@pytest.fixture(scope="module")
def pair():
    with Pair() as made:
        columns = ", ".join(f"c{i} {name}" for i, name in enumerate(TYPES))
        with made.ours() as ours, made.plain() as plain:
            for side in (ours, plain):
                for kind in ("anyelement", "text"):
                    side.execute(FUNCTION.format(kind))
                side.execute("CREATE TABLE public.few (k int, word text)")
                side.execute("INSERT INTO public.few VALUES (1, 'one'), (5, 'five'), (5, 'cinq'), (999, 'none'), (NULL, 'null')")
                side.execute("ANALYZE public.few")
            for side in (ours, plain):
                side.execute(OBJECTS)
            made.shards.execute(OBJECTS)
            made.shards.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
            plain.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
            ours.execute(f"CREATE FOREIGN TABLE wide (id int NOT NULL, {columns}) SERVER a67_shop OPTIONS (strategy 'hash', key 'id')")
            made.shards.execute("CREATE TABLE bent (id int PRIMARY KEY, n bigint, t text)")
            ours.execute("CREATE FOREIGN TABLE bent (id int NOT NULL, n bigint, t text) SERVER a67_shop OPTIONS (strategy 'hash', key 'id')")
        yield made


@pytest.fixture
def bare(pair):
    made = Sides(pair)
    yield made
    made.close()


@pytest.fixture
def sides(pair):
    made = Sides(pair)
    made.both("INSERT INTO accounts SELECT i, i % 7, i * 1.5, 'row ' || i FROM generate_series(1, 400) i")
    made.both("INSERT INTO regions VALUES ('north', 'The North', 1), ('south', NULL, 2)")
    made.both("INSERT INTO days SELECT date '2025-12-01' + i, i, 'x' FROM generate_series(1, 60) i")
    made.both("INSERT INTO tenants VALUES ('acme', 1), ('globex', 2), ('initech', 3)")
    made.ours.execute("ANALYZE accounts")
    yield made
    made.close()
    pair.clear()
    pair.shards.execute("TRUNCATE bent")


def plan(side, query, *options):
    rows = side.execute(f"EXPLAIN ({', '.join(['VERBOSE', *options])}) {query}").fetchall()
    return "\n".join(row[0] for row in rows)


# -- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number, name", list(enumerate(TYPES)), ids=lambda value: str(value))
def test_every_type_comes_back_as_it_was(bare, number, name):
    first = number * 10
    for row, value in enumerate([*TYPES[name], None]):
        bare.both(f"INSERT INTO wide (id, c{number}) VALUES ({first + row}, %s)", (value,))
    own = f"id BETWEEN {first} AND {first + 9} AND local(id) >= 0"
    bare.both(f"SELECT id, c{number}, c{number}::text FROM wide WHERE {own}")
    bare.both(f"UPDATE wide SET c{number} = c{number} WHERE {own} RETURNING id, c{number}")
    bare.both(f"SELECT w.id, c{number} FROM public.few, wide w WHERE w.id = few.k - 1 + {first} AND local(w.id) = {first}")


@pytest.mark.parametrize("setting", ["client_encoding = 'LATIN1'", "DateStyle = 'SQL, DMY'", "DateStyle = 'German'", "IntervalStyle = 'sql_standard'",
                                     "extra_float_digits = 0", "bytea_output = 'escape'", "TimeZone = 'Asia/Kolkata'", "lc_monetary = 'C'"])
def test_settings_change_no_value(sides, setting):
    for side in (sides.ours, sides.plain):
        side.execute(f"SET {setting}")
    sides.both("INSERT INTO kinds (id, c, ts, f, b, a, j, d, iv, n) VALUES (1, 'red', '2026-03-29 01:30+02', 1e-300::float8 / 3, '\\x00ff5c', "
               "'{ä,\"b c\"}', '{\"ü\": 1}', '2026-02-03', '-1 mon 2 days -03:04:05', 12345.678), (2" + ", NULL" * 9 + ")")
    returning = "" if "encoding" in setting else "RETURNING *"
    sides.both(f"UPDATE kinds SET ts = local(ts), f = local(f), a = local(a), iv = local(iv), d = local(d) WHERE local(id) = 1 {returning}")
    for side in (sides.ours, sides.plain):
        side.execute("RESET ALL")
        side.execute("SET TimeZone = 'UTC'")
    sides.both("SELECT * FROM kinds WHERE local(id) > 0")
    sides.both("SELECT *, kinds::text FROM kinds")


def test_parameters_of_every_kind(sides):
    sides.both("INSERT INTO kinds (id, c, f, b, a, j, u, d, r) VALUES (7, 'green', 0.1, '\\x0102', '{ü,NULL}', '{\"k\": 1}', "
               "'00000000-0000-0000-0000-00000000000a', '2026-02-28', '[1,5)')")
    for mode in ("force_generic_plan", "force_custom_plan"):
        for side in (sides.ours, sides.plain):
            side.execute(f"SET plan_cache_mode = {mode}")
        for condition, value in {"c = %s::colour": "green", "f = %s": 0.1, "b = %s": b"\x01\x02", "a = %s": ["ü", None], "j = %s::jsonb": '{"k": 1}',
                                 "u = %s::uuid": "00000000-0000-0000-0000-00000000000a", "d = %s::date": "2026-02-28", "r = %s::int4range": "[1,5)",
                                 "id = ANY(%s)": [7, 8], "c = ANY(%s::colour[])": ["red", "green"], "a[1] = %s": "ü"}.items():
            rows = sides.both(f"SELECT id FROM kinds WHERE local(true) AND {condition}", (value,), prepare=True)
            assert rows == [("7",)], condition


# -- which rows, which columns, which shards ------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    "SELECT count(*) FROM accounts WHERE local(bid) = 3",
    "SELECT 1 FROM accounts WHERE aid < 4 AND local(true)",
    "SELECT a FROM accounts a WHERE local(aid) = 3",
    "SELECT * FROM accounts WHERE local(aid) = 3 OR bid IS NULL",
    "SELECT aid FROM accounts WHERE CASE local(bid) WHEN 1 THEN aid < 50 ELSE aid = 7 END",
    "SELECT * FROM accounts a JOIN public.few ON k = aid",
    "SELECT * FROM public.few LEFT JOIN accounts ON aid = k AND local(bid) > 0",
    "SELECT * FROM public.few LEFT JOIN accounts ON aid = k AND balance > word::text::int WHERE word ~ '^[0-9]'",
    "SELECT word, (SELECT filler FROM accounts WHERE aid = k) FROM public.few",
    "SELECT word, (SELECT sum(balance) FROM accounts WHERE bid = k) FROM public.few",
    "SELECT * FROM public.few WHERE EXISTS (SELECT 1 FROM accounts WHERE aid = k)",
    "SELECT * FROM public.few WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE aid = k AND local(bid) = 1)",
    "SELECT * FROM public.few WHERE k NOT IN (SELECT local(aid) FROM accounts)",
    "SELECT * FROM accounts WHERE aid IN (SELECT k FROM public.few)",
    "SELECT * FROM accounts WHERE aid = (SELECT max(k) FROM public.few WHERE k < 100)",
    "SELECT * FROM accounts WHERE aid = ANY (ARRAY(SELECT k FROM public.few))",
    "SELECT * FROM public.few, LATERAL (SELECT * FROM accounts WHERE aid = k * 2 OFFSET 0) x",
    "SELECT * FROM public.few, LATERAL (SELECT local(count(*)) FROM accounts WHERE aid BETWEEN k AND k + 2) x",
    "SELECT * FROM public.few JOIN accounts ON (aid, bid) = (k, local(5))",
    "SELECT a.aid, b.aid FROM accounts a, accounts b WHERE a.aid = b.bid AND local(b.aid) < 30",
    "SELECT * FROM regions JOIN public.few ON size = k",
    "SELECT d.* FROM days d WHERE local(day) > '2025-12-20' AND day BETWEEN '2025-12-25' AND '2026-01-03'",
    "SELECT * FROM tenants WHERE tenant IN ('acme', 'nobody') AND local(seats) > 0",
    "SELECT * FROM tenants, public.few WHERE tenant = word",
    "SELECT tableoid::regclass::text FROM accounts WHERE local(aid) = 3",
])
def test_queries_over_scans(sides, query):
    for join in ("on", "off"):
        sides.ours.execute(f"SET enable_hashjoin = {join}")
        sides.ours.execute(f"SET enable_mergejoin = {join}")
        sides.both(query)
    for setting in ("enable_nestloop", "enable_material"):
        sides.ours.execute(f"SET {setting} = off")
        sides.both(query)


def test_only_what_is_needed_travels(sides):
    text = plan(sides.ours, "SELECT filler FROM accounts WHERE local(bid) = 3 AND aid < 100")
    assert "SELECT bid, filler FROM accounts WHERE (aid < 100)" in text and "Filter: (local(" in text
    text = plan(sides.ours, "SELECT 1 FROM tenants WHERE tenant = 'acme' AND local(seats) = 1")
    assert "Shards: s1\n" in text + "\n"
    text = plan(sides.ours, "SELECT * FROM regions WHERE local(size) = 1")
    assert "Shards: any one" in text
    text = plan(sides.ours, "SELECT * FROM accounts WHERE local(bid) = 1", "ANALYZE")
    assert text.count("Shard s") == 4 and "rows=" in text and "bytes=" in text


def test_few_rows_are_looked_up_by_key(sides):
    sides.both("INSERT INTO accounts SELECT i, 1 FROM generate_series(1000, 20000) i")
    sides.ours.execute("ANALYZE accounts")
    query = "SELECT * FROM public.few JOIN accounts ON aid = k WHERE local(bid) IS NOT NULL"
    text = plan(sides.ours, query, "ANALYZE")
    assert "$1" in text and "the one of the key" in text
    # Equal keys are looked up once, and a null finds nothing and asks nobody.
    assert "Remote Runs: 3" in text and "Foreign Scan" in text
    sides.both(query)


def test_what_does_not_change_is_asked_for_twice_at_most(sides):
    query = "SELECT count(*) FROM public.few f, accounts a WHERE a.bid IN (SELECT local(size) FROM regions WHERE f.k > 3) AND local(a.aid) > 0"
    text = plan(sides.ours, query, "ANALYZE")
    runs = [int(line.split(":")[1]) for line in text.splitlines() if "Remote Runs" in line]
    assert all(count <= 2 for count in runs), text
    sides.both(query)


def test_limits(sides):
    text = plan(sides.ours, "SELECT local(aid) FROM accounts WHERE bid = 3 LIMIT 5 OFFSET 2")
    assert "LIMIT '7'::bigint" in text or "LIMIT 7" in text
    assert len(sides.ours.execute("SELECT local(aid) FROM accounts WHERE bid = 3 LIMIT 5 OFFSET 2").fetchall()) == 5
    assert len(sides.ours.execute("SELECT local(aid) FROM accounts WHERE local(bid) = 3 LIMIT 5").fetchall()) == 5
    sides.both("SELECT local(aid) FROM accounts WHERE bid = 3 ORDER BY 1 LIMIT 5", ordered=True)
    sides.both("SELECT local(bid), count(*) FROM accounts GROUP BY 1 ORDER BY 1 LIMIT 2", ordered=True)
    sides.ours.execute("BEGIN")
    assert len(sides.ours.execute("SELECT local(aid) FROM accounts LIMIT 1").fetchall()) == 1
    sides.both("SELECT count(*) FROM accounts")
    sides.ours.execute("COMMIT")


def test_statistics(sides):
    assert sides.ours.execute("SELECT reltuples FROM pg_class WHERE oid = 'accounts'::regclass").fetchone() == (400,)
    sides.ours.execute("SET default_statistics_target = 1")
    sides.both("INSERT INTO accounts SELECT i, i % 7 FROM generate_series(1000, 21000) i")
    sides.pair.shards.execute("ANALYZE accounts")
    sides.ours.execute("ANALYZE accounts")
    rows = sides.ours.execute("SELECT reltuples FROM pg_class WHERE oid = 'accounts'::regclass").fetchone()[0]
    assert 12000 < rows < 32000
    assert sides.ours.execute("SELECT n_distinct FROM pg_stats WHERE tablename = 'accounts' AND attname = 'bid'").fetchone()[0] == 7
    sides.ours.execute("ANALYZE regions")
    assert sides.ours.execute("SELECT reltuples FROM pg_class WHERE oid = 'regions'::regclass").fetchone() == (2,)


# -- rows that are still to come ---------------------------------------------------------------------------------


def test_cursors_share_connections(sides):
    for side in (sides.ours, sides.plain):
        side.execute("INSERT INTO accounts SELECT i, i % 7, 1, repeat('x', 300) FROM generate_series(1000, 12000) i")
        side.execute("BEGIN")
        side.execute("DECLARE one CURSOR FOR SELECT local(aid) FROM accounts WHERE aid < 11000")
        side.execute("DECLARE two CURSOR FOR SELECT aid, filler FROM accounts WHERE local(bid) = 2")
    got = {"one": [], "two": []}
    for step in range(4):
        for name, rows in got.items():
            rows += sides.ours.execute(f"FETCH {700 if step < 3 else 'ALL'} FROM {name}").fetchall()
        sides.both("UPDATE accounts SET balance = local(balance) + 1 WHERE aid = 3 RETURNING balance")
    assert sorted(got["one"]) == sorted(sides.plain.execute("FETCH ALL FROM one").fetchall())
    assert sorted(got["two"]) == sorted(sides.plain.execute("FETCH ALL FROM two").fetchall())
    sides.both("COMMIT")


def test_scrollable_and_holdable_cursors(sides):
    for side in (sides.ours, sides.plain):
        side.execute("BEGIN")
        side.execute("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT local(aid) FROM accounts WHERE aid < 20 ORDER BY aid")
        side.execute("FETCH 5 FROM c")
    sides.both("FETCH BACKWARD 2 FROM c", ordered=True)
    sides.both("COMMIT")
    sides.both("FETCH ABSOLUTE 7 FROM c", ordered=True)
    sides.both("CLOSE c")


def test_functions_that_query_while_rows_come(sides):
    for side in (sides.ours, sides.plain):
        side.execute("""CREATE FUNCTION neighbour(int) RETURNS text LANGUAGE plpgsql STABLE AS
            $$ BEGIN RETURN (SELECT filler FROM accounts WHERE aid = $1 + 1); END $$""")
    sides.both("SELECT aid, neighbour(aid) FROM accounts WHERE local(bid) = 3")
    sides.both("DO $$ DECLARE r record; BEGIN FOR r IN SELECT aid FROM accounts WHERE local(bid) = 2 LOOP "
               "UPDATE accounts SET filler = 'loop' WHERE aid = r.aid; END LOOP; END $$")
    sides.same_rows("accounts")
    for side in (sides.ours, sides.plain):
        side.execute("DROP FUNCTION neighbour")


def test_locks(sides):
    with sides.pair.ours() as other:
        sides.ours.execute("BEGIN")
        assert "FOR UPDATE" in plan(sides.ours, "SELECT aid FROM accounts WHERE local(aid) = 5 AND aid < 9 FOR UPDATE")
        sides.both("SELECT aid FROM accounts WHERE local(aid) = 5 AND aid < 9 FOR UPDATE")
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("UPDATE accounts SET balance = 0 WHERE aid = 5")
        assert other.execute("SELECT aid FROM accounts WHERE local(aid) = 5 AND aid < 9 FOR UPDATE SKIP LOCKED").fetchall() == []
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT aid FROM accounts WHERE local(aid) = 5 AND aid < 9 FOR SHARE NOWAIT")
        sides.ours.execute("ROLLBACK")
        other.execute("UPDATE accounts SET balance = 0 WHERE aid = 5")


# -- what cannot be -------------------------------------------------------------------------------------------------


def test_system_columns(sides):
    assert sides.ours.execute("SELECT count(DISTINCT ctid) > 0 FROM accounts WHERE local(true)").fetchone() == (True,)
    for column in ("xmin", "xmax", "cmin", "cmax"):
        diag = sides.refused(f"SELECT {column} FROM accounts WHERE local(aid) = 3", "0A000")
        assert "ctid" in diag.message_primary


@pytest.mark.parametrize("change, sqlstate", [
    ("ALTER COLUMN n TYPE int USING n::int", "HV021"), ("ALTER COLUMN n TYPE text", "HV021"), ("ALTER COLUMN t TYPE bytea USING t::bytea", "HV021"),
    ("DROP COLUMN n", "42703"), ("RENAME TO straight", "42P01"),
])
def test_a_table_altered_on_a_shard_alone(sides, change, sqlstate):
    sides.ours.execute("INSERT INTO bent SELECT i, i, 'x' FROM generate_series(1, 40) i")
    sides.pair.shards.execute(f"ALTER TABLE bent {change}", ["s3"])
    try:
        diag = sides.refused("SELECT n, t FROM bent WHERE local(id) > 0", sqlstate)
        assert "s3" in (diag.context or "") + (diag.message_primary or "")
        sides.both("SELECT count(*) FROM accounts WHERE local(aid) > 0")
    finally:
        sides.pair.shards.execute("DROP TABLE IF EXISTS bent, straight; CREATE TABLE bent (id int PRIMARY KEY, n bigint, t text)", ["s3"])


def test_wider_text_is_still_text(sides):
    sides.pair.shards.execute("ALTER TABLE bent ALTER COLUMN t TYPE varchar(20)", ["s1"])
    sides.ours.execute("INSERT INTO bent SELECT i, i, 'x' FROM generate_series(1, 40) i")
    assert sides.ours.execute("SELECT count(t), max(t) FROM bent WHERE local(id) > 0").fetchone() == (40, "x")


def test_rows_hidden_by_policy_of_views_are_not_leaked(sides):
    sides.ours.execute("CREATE VIEW public.guarded WITH (security_barrier) AS SELECT * FROM accounts WHERE local(bid) = 3")
    text = plan(sides.ours, "SELECT * FROM public.guarded WHERE 1 / (balance - 3) > 0")
    assert "/" not in text.split("Remote SQL")[1]
    assert len(sides.ours.execute("SELECT * FROM public.guarded WHERE 1 / (balance - 3) < 100").fetchall()) > 0
    sides.ours.execute("DROP VIEW public.guarded")


def test_options_of_the_wrapper(sides):
    for statement, sqlstate in [("ALTER SERVER a67_shop OPTIONS (ADD host 'x')", "HV00D"), ("ALTER FOREIGN TABLE bent OPTIONS (ADD schema_name 'x')", "HV00D"),
                                ("ALTER FOREIGN TABLE bent OPTIONS (SET strategy 'modulo')", "HV024")]:
        assert "option" in str(sides.refused(statement, sqlstate).message_hint or "") or sqlstate == "HV024"


def test_copies_are_read_from_another_shard_when_one_is_down(make_cluster):
    cluster = make_cluster()
    with Shards(3, apart=True) as shards:
        shards.create_database(cluster, "twin")
        shards.execute("CREATE TABLE regions (region text PRIMARY KEY); INSERT INTO regions VALUES ('a'), ('b')")
        cluster.execute("CREATE FOREIGN TABLE twin.regions (region text NOT NULL) SERVER a67_twin OPTIONS (strategy 'reference')")
        with cluster.connect() as warm:
            assert warm.execute("SELECT count(*) FROM twin.regions").fetchone() == (2,)
            shards.servers[1].kill9()
            for _ in range(4):
                assert warm.execute("SELECT count(*) FROM twin.regions").fetchone() == (2,)
        for _ in range(6):
            with cluster.connect() as fresh:
                assert fresh.execute("SELECT region FROM twin.regions ORDER BY 1").fetchall() == [("a",), ("b",)]
