"""Definitions that change: tables altered while they have rows, names, types, views; tables that were on the shards before."""

import json
import threading
import uuid

import psycopg
import pytest
from shop import cluster, columns, create, ddl, on_shards, one, refused, shards, shop  # noqa: F401 (fixtures)

from cloud.wait import wait_until


@pytest.fixture
def item(shop):
    """A table with twenty rows."""
    ddl(shop, "CREATE TABLE item (id int PRIMARY KEY, name varchar(20) DEFAULT 'x', n int CHECK (n >= 0))")
    shop.execute("INSERT INTO shop.item SELECT i, 'item ' || i, i FROM generate_series(1, 20) i")
    return shop


def import_table(cluster, name, **options):
    names = "".join(f", {option} => %s" for option in options)
    cluster.execute(f"SELECT a67.table_import('shop', %s{names})", name, *options.values())


# -- alter table -----------------------------------------------------------------------------------


def test_columns_come_change_and_go(item, shards):
    assert ddl(item, """
        ALTER TABLE item ADD COLUMN price numeric(8, 2) NOT NULL DEFAULT 1.50, ADD tags text[], ALTER COLUMN name TYPE text, ALTER id TYPE bigint;
        ALTER TABLE ONLY shop.item ALTER n SET DEFAULT 7, ALTER n SET NOT NULL, ALTER COLUMN name DROP DEFAULT, DROP COLUMN IF EXISTS nothing;
        ALTER TABLE IF EXISTS item ADD COLUMN IF NOT EXISTS price int, ADD double int GENERATED ALWAYS AS (n * 2) STORED;
        ALTER TABLE IF EXISTS nothing ADD x int;
        ALTER TABLE item RENAME COLUMN n TO amount; ALTER TABLE item RENAME COLUMN id TO item_id; ALTER TABLE item RENAME TO thing;
        ALTER TABLE thing DROP COLUMN tags""") == ["ALTER TABLE"] * 8
    assert columns(item, shards, "thing") == "item_id bigint !, name text, amount integer !, price numeric(8,2) !, double integer"
    assert item.row("SELECT count(*), sum(price) AS price, sum(double) AS double FROM shop.thing") == {"count": 20, "price": 30, "double": 420}
    assert item.row("INSERT INTO shop.thing (item_id) VALUES (77) RETURNING *") == {
        "item_id": 77, "name": None, "amount": 7, "price": 1.5, "double": 14}
    assert item.value("SELECT name FROM shop.thing WHERE item_id = 5") == "item 5"
    assert item.value("SELECT a67.database_schema('shop')")["tables"][0]["key"] == "item_id"


def test_a_new_column_gives_old_rows_what_postgresql_would(item, shards):
    ddl(item, """CREATE DOMAIN stamp AS timestamptz DEFAULT now();
        ALTER TABLE item ADD at timestamptz NOT NULL DEFAULT now() - interval '1 day', ADD made stamp, ADD u uuid DEFAULT gen_random_uuid()""")
    assert item.row("SELECT count(DISTINCT at) AS at, count(DISTINCT made) AS made, count(DISTINCT u) AS u FROM shop.item") == {
        "at": 1, "made": 1, "u": 20}
    assert one(on_shards(shards, "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'item'::regclass AND adnum = 4")
               ) == "(now() - '1 day'::interval)"
    assert one(on_shards(shards, "SELECT count(*) FROM pg_attrdef WHERE adrelid = 'item'::regclass AND adnum = 5")) == 0
    ddl(item, """ALTER TABLE item ADD no bigserial, ADD line int GENERATED ALWAYS AS IDENTITY, ADD twice int GENERATED ALWAYS AS (n * 2) STORED;
        CREATE SEQUENCE s START 100; ALTER TABLE item ADD part smallint DEFAULT nextval('s')""")
    numbers = item.row("SELECT array_agg(no ORDER BY no)::int[] AS no, array_agg(line ORDER BY line) AS line, array_agg(part ORDER BY part)::int[] AS part FROM shop.item")
    assert numbers == {"no": list(range(1, 21)), "line": list(range(1, 21)), "part": list(range(100, 120))}
    assert item.row("INSERT INTO shop.item (id) VALUES (21) RETURNING no, line, part") == {"no": 21, "line": 21, "part": 120}
    assert one(on_shards(shards, "SELECT count(*) FROM pg_attrdef WHERE adrelid = 'item'::regclass")) == 4
    ddl(item, "ALTER TABLE item ADD label text NOT NULL DEFAULT 'L' || nextval('s')")
    assert item.value("SELECT count(DISTINCT label) FROM shop.item WHERE label ~ '^L1[0-9]+$'") == 21
    create(item, "CREATE TABLE region (region text)", strategy="reference")
    item.execute("INSERT INTO shop.region VALUES ('north'), ('south')")
    ddl(item, "ALTER TABLE region ADD at timestamptz DEFAULT now(), ADD u uuid NOT NULL DEFAULT gen_random_uuid(), ADD no serial")
    assert item.row("SELECT count(DISTINCT u) AS u, sum(no) AS no FROM shop.region") == {"u": 2, "no": 3}
    assert one(on_shards(shards, "SELECT md5(string_agg(t::text, ',' ORDER BY region)) FROM region t"))
    refused(item, "ALTER TABLE item ADD one bigserial, ADD UNIQUE (id, one), ADD CHECK (one > 1000)", "23514", "violated by some row")


def test_sequences_are_the_controllers(item, shards):
    ddl(item, """CREATE SEQUENCE serial_no START 1000; TRUNCATE item;
        ALTER TABLE item ALTER id SET DEFAULT nextval('serial_no'), ADD line bigserial, ADD part int GENERATED ALWAYS AS IDENTITY;
        CREATE TABLE other (id int DEFAULT nextval('shop.serial_no'::regclass) CHECK (id > 0) PRIMARY KEY)""")
    for _ in range(8):
        item.execute("INSERT INTO shop.item DEFAULT VALUES")
        item.execute("INSERT INTO shop.other DEFAULT VALUES")
    assert item.value("SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM shop.item UNION SELECT id FROM shop.other) u"
                      ) == list(range(1000, 1016))
    assert item.value("SELECT array_agg((line, part)::text ORDER BY line) FROM shop.item") == [f"({n},{n})" for n in range(1, 9)]
    assert one(on_shards(shards, "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'store'::regnamespace")) == 0
    ddl(item, "ALTER SEQUENCE serial_no RESTART 5; ALTER TABLE item ALTER part DROP IDENTITY, ALTER id DROP DEFAULT; TRUNCATE item RESTART IDENTITY")
    assert item.row("INSERT INTO shop.item (id, part) VALUES (nextval('shop.serial_no'), 0) RETURNING id, line") == {"id": 5, "line": 1}
    refused(item, "DROP SEQUENCE serial_no", "2BP01", "objects depend on it")


def test_constraints_and_indexes(item, shards):
    ddl(item, """CREATE INDEX ON item (lower(name)) WHERE n > 3; CREATE UNIQUE INDEX item_u ON shop.item (name, id);
        CREATE INDEX IF NOT EXISTS item_u ON item (n); CREATE TABLE IF NOT EXISTS item (y int);
        ALTER TABLE item ADD CONSTRAINT small CHECK (n < 1000) NOT VALID, ADD UNIQUE (id, n), DROP CONSTRAINT item_n_check;
        ALTER TABLE item VALIDATE CONSTRAINT small; ALTER TABLE item RENAME CONSTRAINT small TO few; ALTER INDEX item_u RENAME TO item_v""")
    indexes = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relkind = 'i' AND relnamespace = 'store'::regnamespace"
    assert one(on_shards(shards, indexes)) == "item_id_n_key,item_lower_idx,item_pkey,item_v"
    ddl(item, "DROP INDEX item_v, shop.item_lower_idx; DROP INDEX IF EXISTS item_v; ALTER TABLE item DROP CONSTRAINT item_id_n_key")
    assert one(on_shards(shards, indexes)) == "item_pkey"
    item.execute("INSERT INTO shop.item (id, n) VALUES (99, -1)")
    with pytest.raises(psycopg.errors.CheckViolation, match="few"):
        item.execute("INSERT INTO shop.item (id, n) VALUES (100, 1000)")

    create(item, "CREATE TABLE part (id int REFERENCES item, part int, up int, PRIMARY KEY (part, id), FOREIGN KEY (up, id) REFERENCES part)",
           key="id")
    ddl(item, "CREATE TABLE extra (id int PRIMARY KEY); ALTER TABLE extra ADD FOREIGN KEY (id) REFERENCES item ON DELETE CASCADE")
    item.execute("INSERT INTO shop.part VALUES (1, 1, NULL), (1, 2, 1)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        item.execute("INSERT INTO shop.part VALUES (2, 1, 7)")
    refused(item, "ALTER TABLE part ADD FOREIGN KEY (part) REFERENCES item", "0A000", "must include the shard keys")
    refused(item, "ALTER TABLE part ADD FOREIGN KEY (part, id) REFERENCES part (id, part)", "0A000", "must include the shard keys")
    refused(item, "DROP TABLE item", "2BP01", "cannot drop")
    ddl(item, "DROP TABLE item CASCADE")
    assert item.value("SELECT count(*) FROM shop.part") == 2


def test_types(item, shards):
    ddl(item, """CREATE TYPE colour AS ENUM ('red'); ALTER TYPE colour ADD VALUE 'blue' BEFORE 'red'; ALTER TYPE shop.colour RENAME VALUE 'red' TO 'pink';
        CREATE DOMAIN low AS int DEFAULT 1 CONSTRAINT low_check CHECK (VALUE < 10); CREATE TABLE paint (colour colour PRIMARY KEY, low low, more colour[]);
        ALTER DOMAIN low ADD CONSTRAINT even CHECK (VALUE % 2 = 0) NOT VALID; ALTER DOMAIN low DROP CONSTRAINT low_check; ALTER DOMAIN low SET DEFAULT 2;
        ALTER TYPE colour RENAME TO tint; ALTER DOMAIN low RENAME TO deep; COMMENT ON TYPE tint IS 'of paint'""")
    item.execute("INSERT INTO shop.paint (colour, more) VALUES ('pink', '{blue,pink}'), ('blue', NULL)")
    assert item.value("SELECT array_agg(colour::text ORDER BY colour) FROM shop.paint") == ["blue", "pink"]
    assert item.value("SELECT array_agg(low::int) FROM shop.paint") == [2, 2]
    assert one(on_shards(shards, "SELECT count(*) FROM pg_constraint WHERE conname IN ('low_check', 'even')")) == 1
    with pytest.raises(psycopg.errors.CheckViolation):
        item.execute("INSERT INTO shop.paint (colour, low) VALUES ('pink', 3)")
    refused(item, "ALTER TYPE tint RENAME VALUE 'pink' TO 'red'", "0A000", 'shard key of table "paint"')
    refused(item, "DROP TYPE tint CASCADE", "2BP01", 'shard key of table "paint"')
    refused(item, "DROP DOMAIN deep", "2BP01", "depend")
    ddl(item, "DROP DOMAIN deep CASCADE")
    assert columns(item, shards, "paint") == "colour tint !, more tint[]"
    ddl(item, "DROP TABLE paint; DROP TYPE tint; DROP TYPE IF EXISTS tint")
    refused(item, "DROP TYPE tint", "42704", "does not exist")


def test_views_follow_postgresqls_rules(item):
    ddl(item, """CREATE VIEW big AS SELECT id, n FROM item WHERE n > 15; CREATE OR REPLACE VIEW shop.bigger AS SELECT count(*) AS found FROM big;
        COMMENT ON VIEW big IS 'not small'; ALTER VIEW bigger RENAME TO biggest; ALTER VIEW biggest RENAME COLUMN found TO many""")
    assert item.value("SELECT many FROM shop.biggest") == 5
    refused(item, "ALTER TABLE item DROP COLUMN n", "2BP01", "depend")
    refused(item, "ALTER TABLE item ALTER n TYPE bigint", "0A000", "used by a view")
    refused(item, "DROP TABLE item", "2BP01", "depend")
    ddl(item, "ALTER TABLE item RENAME n TO amount")
    assert item.value("SELECT many FROM shop.biggest") == 5
    views = item.value("SELECT a67.database_schema('shop')")["views"]
    assert [(view["name"], view.get("comment")) for view in views] == [("big", "not small"), ("biggest", None)]
    ddl(item, "DROP VIEW biggest; ALTER TABLE item DROP COLUMN amount CASCADE")
    assert item.value("SELECT to_regclass('shop.big')") is None


# -- others at the same time, and failures -----------------------------------------------------------


def test_statements_prepared_before_go_on(item):
    with item.connect() as connection:
        for n in range(8):
            assert connection.execute("SELECT id, n FROM shop.item WHERE id = %s", (n + 1,), prepare=True).fetchone() == (n + 1, n + 1)
        ddl(item, "ALTER TABLE item ALTER n TYPE bigint, ADD extra int; ALTER TABLE item RENAME name TO title; ALTER TABLE item RENAME id TO no")
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT id, n FROM shop.item WHERE id = %s", (1,), prepare=True)
        for n in range(8):
            assert connection.execute("SELECT title::text FROM shop.item WHERE no = %s", (n + 1,), prepare=True).fetchone() == (f"item {n + 1}",)
        ddl(item, "ALTER TABLE item ALTER title TYPE varchar(30)")
        assert connection.execute("SELECT title::text FROM shop.item WHERE no = %s", (3,), prepare=True).fetchone() == ("item 3",)


@pytest.mark.parametrize("sql", ["ALTER TABLE item ADD late int DEFAULT 5", "DROP INDEX item_n", "CREATE INDEX ON item (name)",
                                 "CREATE TABLE follower (id int PRIMARY KEY REFERENCES item)"])
def test_definitions_wait_for_writers(item, sql):
    """They wait here, where the server sees who waits for whom, not on shards."""
    ddl(item, "CREATE INDEX item_n ON item (n)")
    done = threading.Event()

    def define():
        ddl(item, sql)
        done.set()

    with item.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO shop.item (id) VALUES (100), (101), (102)")
        defining = threading.Thread(target=define)
        defining.start()
        wait_until("the definition waits", lambda: item.value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop.item'::regclass") == 1)
        assert not done.is_set()
        writer.execute("UPDATE shop.item SET n = 7")
        writer.commit()
    defining.join(20)
    assert done.is_set()
    assert item.row("SELECT count(*), sum(n) AS n FROM shop.item") == {"count": 23, "n": 161}


def test_two_who_define_the_same(shop, shards):
    """One of them does it, the other is told; nobody waits for somebody who waits."""
    outcomes = []

    def define():
        try:
            ddl(shop, "CREATE TABLE same (id int PRIMARY KEY); CREATE INDEX same_i ON same (id)")
            outcomes.append("made")
        except psycopg.Error as error:
            outcomes.append(error.sqlstate)

    threads = [threading.Thread(target=define) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["42P07", "42P07", "42P07", "made"]
    assert one(on_shards(shards, "SELECT count(*) FROM pg_class WHERE relnamespace = 'store'::regnamespace")) == 3


def test_a_shard_that_is_lost_on_the_way(item, shards):
    """Its connection dies between two statements of one definition: no shard has any of it."""
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 's3' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    with item.connect(autocommit=False) as connection:
        connection.execute("SELECT a67.database_ddl('shop', 'CREATE TABLE lost (id int PRIMARY KEY)')")
        assert shards.servers[0].value(kill) >= 1
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT a67.database_ddl('shop', 'ALTER TABLE lost ADD x int')")
        connection.rollback()
    with item.connect(autocommit=False) as connection:
        connection.execute("SELECT a67.database_ddl('shop', 'CREATE TABLE lost (id int PRIMARY KEY)')")
        assert shards.servers[0].value(kill) >= 1
        with pytest.raises(psycopg.Error):
            connection.commit()
    assert item.value("SELECT to_regclass('shop.lost')") is None
    assert on_shards(shards, "SELECT to_regclass('lost')")[2] is None


def test_a_shard_that_is_down(item, shards):
    """Definitions are never partial, even where answers may be."""
    server = shards.servers[0]
    server.execute("ALTER DATABASE s2 ALLOW_CONNECTIONS false")
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 's2'")
    try:
        with item.connect() as connection:
            connection.execute("SET a67.allow_partial = on")
            for sql in ["CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE item ADD x int", "DROP TABLE item", "CREATE INDEX ON item (n)",
                        "DROP INDEX nothing", "TRUNCATE item"]:
                with pytest.raises(psycopg.Error) as caught:
                    connection.execute("SELECT a67.database_ddl('shop', %s)", (sql,))
                assert caught.value.sqlstate in ("08001", "08006", "08004", "55000", "PT503", "57P03"), (sql, caught.value)
            with pytest.raises(psycopg.Error, match="s2"):
                connection.execute("SELECT a67.table_import('shop', 'nothing')")
    finally:
        server.execute("ALTER DATABASE s2 ALLOW_CONNECTIONS true")
    wait_until("the shard is well again", lambda: item.value("SELECT count(*) FROM shop.item") == 20, timeout=60)
    assert columns(item, shards, "item") == "id integer !, name character varying(20), n integer"


def test_a_table_that_somebody_dropped_on_a_shard_can_be_dropped(item, shards):
    shards.execute("DROP TABLE store.item", ["s2"])
    ddl(item, "DROP TABLE item")
    assert one(on_shards(shards, "SELECT to_regclass('item')")) is None


def test_other_peoples_databases_do_not_exist(item):
    with item.connect() as connection:
        connection.execute("SELECT set_config('request.jwt.claims', %s, false)", (json.dumps({"sub": str(uuid.uuid4()), "role": "a67_user"}),))
        connection.execute("SET ROLE a67_user")
        for call in ["database_ddl('shop', 'DROP TABLE item')", "table_create('shop', 'CREATE TABLE t (a int PRIMARY KEY)')",
                     "table_import('shop', 'item')", "database_schema('shop')", "database_key_assign('shop', 'm', 'k', 's1')",
                     "database_range_assign('shop', 'm', 's1')"]:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(f"SELECT a67.{call}")
            assert caught.value.sqlstate in ("PT404", "PT401"), caught.value


HOSTILE = [
    "CREATE TABLE t (id int PRIMARY KEY, x text DEFAULT pg_read_file('/etc/passwd'))",
    "ALTER TABLE item ALTER name SET DEFAULT current_setting('a67.master_key_file')",
    "ALTER TABLE item ADD x text DEFAULT query_to_xml('TABLE pg_authid', true, true, '')::text",
    "CREATE DOMAIN d AS text CHECK (VALUE <> pg_read_file('/etc/passwd'))",
    "CREATE VIEW v AS SELECT pg_read_file('/etc/passwd') AS x FROM item",
    "CREATE TABLE t (id int PRIMARY KEY, x regclass)",
]


def test_who_is_no_operator_plants_nothing(item):
    """What definitions hold runs with the rights of whoever uses the table."""
    with item.connect() as connection:
        connection.execute("SELECT set_config('request.jwt.claims', %s, false)", (json.dumps({"role": "a67_admin"}),))
        for sql in HOSTILE:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT a67.database_ddl('shop', %s)", (sql,))
        connection.execute("""SELECT a67.database_ddl('shop', 'CREATE TABLE t (id int PRIMARY KEY, at timestamptz DEFAULT now(), no bigserial,
            u uuid DEFAULT gen_random_uuid(), n int GENERATED ALWAYS AS (id + 1) STORED); CREATE VIEW v AS SELECT upper(name) AS name FROM item')""")


# -- import ----------------------------------------------------------------------------------------


def test_import_of_rows_that_are_where_their_keys_say(shop, shards):
    shards.execute("""CREATE TYPE store.mood AS ENUM ('fine', 'so-so');
        CREATE TABLE store.old (id int PRIMARY KEY, mood store.mood DEFAULT 'fine', moods store.mood[], t text COLLATE "C" DEFAULT 'x',
            twice int GENERATED ALWAYS AS (id * 2) STORED, line int GENERATED ALWAYS AS IDENTITY, no bigserial, v varchar(5) NOT NULL)""")
    ring = "SELECT (a67.ring_lookup(%s, %s))[1]"
    for n in range(1, 21):
        shards.execute(f"INSERT INTO store.old (id, v, no) VALUES ({n}, 'v{n}', {n * 10})", [shop.value(ring, str(n), shards.names)])
    import_table(shop, "old")
    assert columns(shop, shards, "old") == ("id integer !, mood mood, moods mood[], t text, twice integer, line integer !, "
                                            "no bigint !, v character varying(5) !")
    assert shop.row("SELECT count(*), sum(twice) AS twice FROM shop.old") == {"count": 20, "twice": 420}
    assert shop.row("INSERT INTO shop.old (id, v) VALUES (21, 'new') RETURNING mood, t, twice, no") == {
        "mood": "fine", "t": "x", "twice": 42, "no": 201}
    assert shop.value("SELECT count(*) FROM shop.old WHERE id = 21") == 1
    refused(shop, "old", "42P07", "already exists", import_table)


def test_import_takes_directories_and_copies_as_they_are(shop, shards):
    shards.execute("CREATE TABLE store.tenant (name text PRIMARY KEY); CREATE TABLE store.region (name text, n int); CREATE TABLE store.day (day date NOT NULL)")
    for n, name in enumerate(shards.names):
        shards.execute(f"INSERT INTO store.tenant VALUES ('t{n}'), ('u{n}')", [name])
        shards.execute(f"INSERT INTO store.day VALUES ('202{n}-06-01')", [name])
    shards.execute("INSERT INTO store.region VALUES ('a', 1), ('b', 2), ('b', NULL)")
    shards.execute("CREATE TABLE store.alone (x int); INSERT INTO store.alone VALUES (1)", ["s4"])
    import_table(shop, "tenant", strategy="directory")
    import_table(shop, "region", strategy="reference")
    import_table(shop, "alone", strategy="local", shard="s4")
    ranges = json.dumps([{"from": f"202{n}-01-01", "to": f"202{n + 1}-01-01", "shard": name} for n, name in enumerate(shards.names)])
    import_table(shop, "day", strategy="range", key="day", ranges=ranges)
    assert shop.value("SELECT a67.shard_of('shop.tenant', 'u2')") == "s3"
    assert [shop.value(f"SELECT count(*) FROM shop.{name}") for name in ["tenant", "region", "alone", "day"]] == [8, 3, 1, 4]


def test_import_refuses_what_would_be_wrong(shop, shards):
    shards.execute("""CREATE TABLE store.stray (id int PRIMARY KEY); CREATE TABLE store.uni (id int PRIMARY KEY, u int UNIQUE);
        CREATE TABLE store.loose (id int); CREATE TABLE store.copy (id int); CREATE VIEW store.look AS SELECT 1 AS id;
        CREATE TABLE store.parent (id int PRIMARY KEY) PARTITION BY HASH (id); CREATE TABLE store.order_of (a int PRIMARY KEY, b int);
        CREATE TABLE store.thing (id int PRIMARY KEY, p point, m money DEFAULT 1)""")
    shards.execute("INSERT INTO store.stray SELECT generate_series(1, 10)", ["s1"])
    shards.execute("INSERT INTO store.copy VALUES (2); CREATE TABLE store.lone (id int PRIMARY KEY)", ["s2"])
    shards.execute("DROP TABLE store.order_of; CREATE TABLE store.order_of (b int, a int PRIMARY KEY)", ["s3"])
    shards.execute("ALTER TABLE store.thing ALTER p SET NOT NULL", ["s4"])
    error = refused(shop, "stray", "55000", "not where their keys say", import_table)
    assert error.diag.message_detail.startswith("Rows that belong on another shard: s1: ") and error.diag.message_detail.endswith(" of 10.")
    refused(shop, "uni", "0A000", '"uni_u_key"', import_table)
    refused(shop, "loose", "42P16", "no shard key", import_table)
    refused(shop, "loose", "42P16", "must be NOT NULL", import_table, key="id")
    refused(shop, "loose", "42703", "Field: key.", import_table, key="nothing")
    refused(shop, "copy", "55000", "s1: 0 rows, s2: 1 rows", import_table, strategy="reference")
    refused(shop, "look", "0A000", "ordinary tables", import_table)
    refused(shop, "parent", "0A000", "ordinary tables", import_table)
    refused(shop, "lone", "42P01", 'on shard "s1"', import_table)
    refused(shop, "lone", "42P01", 'on shard "s4"', import_table, strategy="local", shard="s4")
    refused(shop, "order_of", "42P16", '"s1" and "s3"', import_table)
    refused(shop, "thing", "42P16", 'Column "p" has another not null', import_table)
    refused(shop, "nothing", "42P01", "does not exist", import_table)
    refused(shop, "", "22023", "Field: name.", import_table)
    refused(shop, 'x"; DROP TABLE store.uni; --', "42P01", "does not exist", import_table)
    assert shop.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'shop'::regnamespace") == 0
