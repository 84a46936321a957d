"""Definitions: what is defined once is the same on every shard and here, or nowhere."""

import threading

import psycopg
import pytest
from shop import COLUMNS, cluster, columns, create, ddl, on_shards, one, refused, shards, shop  # noqa: F401 (fixtures)

from cloud.wait import wait_until


# -- create table ----------------------------------------------------------------------------------


def test_a_table_with_all_that_belongs_to_it(shop, shards):
    assert ddl(shop, """
        CREATE TYPE mood AS ENUM ('fine', 'so-so');
        CREATE DOMAIN shop.amount AS numeric(10, 2) CHECK (VALUE >= 0);
        CREATE TABLE customer (customer_id bigserial PRIMARY KEY, name text NOT NULL, mood shop.mood DEFAULT 'fine'::shop.mood,
            at timestamptz DEFAULT now(), CONSTRAINT named CHECK (name <> ''));
        CREATE TABLE "Order" (customer_id bigint REFERENCES shop.customer ON DELETE CASCADE, no int GENERATED ALWAYS AS IDENTITY (START 100),
            total amount DEFAULT 0.00, tax numeric GENERATED ALWAYS AS (total * 0.2) STORED, PRIMARY KEY (customer_id)) WITH (fillfactor = 90);
        """) == ["CREATE TYPE", "CREATE DOMAIN", "CREATE TABLE", "CREATE TABLE"]
    assert columns(shop, shards, "customer") == "customer_id bigint !, name text !, mood mood, at timestamp with time zone"
    assert columns(shop, shards, '"Order"') == "customer_id bigint !, no integer !, total amount, tax numeric"
    assert one(on_shards(shards, "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'store'::regnamespace")) == 0
    assert one(on_shards(shards, "SELECT reloptions::text FROM pg_class WHERE oid = to_regclass('\"Order\"')")) == "{fillfactor=90}"
    assert one(on_shards(shards, "SELECT count(*) FROM pg_constraint WHERE connamespace = 'store'::regnamespace")) == 5

    for n in range(20):
        shop.execute("INSERT INTO shop.customer (name) VALUES (%s)", f"customer {n}")
    assert shop.value("SELECT count(DISTINCT customer_id) FROM shop.customer WHERE mood = 'fine'") == 20
    assert sum(on_shards(shards, "SELECT count(*) FROM customer")) == 20
    assert shop.row("INSERT INTO shop.\"Order\" (customer_id, total) VALUES (7, 10) RETURNING no, tax") == {"no": 100, "tax": 2}
    with pytest.raises(psycopg.errors.CheckViolation):
        shop.execute("INSERT INTO shop.customer (name) VALUES ('')")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shop.execute("INSERT INTO shop.\"Order\" (customer_id) VALUES (77)")
    with pytest.raises(psycopg.errors.GeneratedAlways):
        shop.execute("INSERT INTO shop.\"Order\" (customer_id, no) VALUES (8, 1)")


def test_the_key_is_the_named_one_or_the_databases_or_the_primary_key(cluster, shards):
    shards.execute("DROP SCHEMA IF EXISTS store CASCADE")
    shards.create_database(cluster, "shop", {"strategy": "hash", "key": "tenant", "schema": "store"})
    try:
        ddl(cluster, "CREATE TABLE a (tenant int, id int); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int, PRIMARY KEY (id))")
        create(cluster, "CREATE TABLE d (tenant int, id int)", key="id")
        refused(cluster, "CREATE TABLE e (x int, y int, PRIMARY KEY (x, y))", "42P16", "has no shard key")
        found = cluster.value("SELECT a67.database_schema('shop')")["tables"]
        assert {table["name"]: table["key"] for table in found} == {"a": "tenant", "b": "id", "c": "id", "d": "id"}
        assert one(on_shards(shards, COLUMNS, "a")) == "tenant integer !, id integer", "the key is NOT NULL"
    finally:
        cluster.execute("SELECT a67.database_drop('shop')")


def test_like(shop, shards):
    ddl(shop, """CREATE TABLE base (id bigserial PRIMARY KEY, n int DEFAULT 5 CHECK (n > 0), line int GENERATED ALWAYS AS IDENTITY,
            twice int GENERATED ALWAYS AS (n * 2) STORED, t varchar(7) COLLATE "C" NOT NULL, gone int);
        ALTER TABLE base DROP gone; CREATE INDEX ON base (n);
        CREATE TABLE bare (more int, LIKE shop.base, PRIMARY KEY (id)); CREATE TABLE whole (more int, LIKE base INCLUDING ALL)""")
    assert columns(shop, shards, "bare") == ("more integer, id bigint !, n integer, line integer !, twice integer, "
                                             "t character varying(7) !")
    assert columns(shop, shards, "whole") == columns(shop, shards, "bare")
    assert shop.row("INSERT INTO shop.whole (t) VALUES ('x') RETURNING id, n, line, twice") == {"id": 1, "n": 5, "line": 1, "twice": 10}
    assert shop.row("INSERT INTO shop.bare (id, line, t) VALUES (7, 0, 'x') RETURNING n, twice") == {"n": None, "twice": None}
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass"
    assert one(on_shards(shards, indexes, "whole")) == 2 and one(on_shards(shards, indexes, "bare")) == 1
    refused(shop, "CREATE TABLE t (LIKE base INCLUDING ALL)", "0A000", "the same shard key", create, key="n")
    refused(shop, "CREATE TABLE t (LIKE base)", "42P16", "no shard key")
    refused(shop, "CREATE TABLE t (LIKE nowhere)", "42P01", "does not exist")


def test_all_or_none(shop, shards):
    shards.execute("CREATE TABLE store.taken (x int)", ["s3"])
    refused(shop, "CREATE TABLE fine (id int PRIMARY KEY); CREATE TABLE taken (id int PRIMARY KEY)", "42P07", "already exists")
    assert on_shards(shards, "SELECT to_regclass('fine')") == [None] * 4
    assert shop.value("SELECT to_regclass('shop.fine')") is None
    with shop.connect(autocommit=False) as connection:
        connection.execute("SELECT a67.database_ddl('shop', 'CREATE TABLE fine (id int PRIMARY KEY)')")
        connection.execute("INSERT INTO shop.fine SELECT generate_series(1, 10)")
        assert connection.execute("SELECT count(*) FROM shop.fine").fetchone() == (10,)
        connection.execute("SAVEPOINT s")
        connection.execute("SELECT a67.database_ddl('shop', 'CREATE TABLE later (id int PRIMARY KEY)')")
        connection.execute("ROLLBACK TO s")
        connection.commit()
    assert one(on_shards(shards, "SELECT to_regclass('fine')::text")) == "fine"
    assert one(on_shards(shards, "SELECT to_regclass('later')")) is None
    with shop.connect(autocommit=False) as connection:
        connection.execute("SELECT a67.database_ddl('shop', 'DROP TABLE fine')")
        connection.rollback()
    assert shop.value("SELECT count(*) FROM shop.fine") == 10


REFUSED = [
    ("CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE)", "0A000", 'Add column "a"'),
    ("CREATE TABLE t (a int PRIMARY KEY, b int, EXCLUDE USING btree (b WITH =))", "0A000", "exclusion constraint"),
    ("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES base)", "0A000", "must include the shard keys"),
    ("CREATE TABLE t (a text PRIMARY KEY REFERENCES base)", "0A000", "same strategy"),
    ("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t)", "0A000", "must include the shard keys"),
    ("CREATE TABLE t (a int PRIMARY KEY REFERENCES nowhere)", "42P01", '"nowhere" does not exist'),
    ("CREATE TABLE t (a int PRIMARY KEY REFERENCES base ON UPDATE SET DEFAULT)", "0A000", "to its default"),
    ("CREATE TABLE t (a json PRIMARY KEY)", "0A000", "cannot be a shard key"),
    ("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a) STORED PRIMARY KEY)", "0A000", "computed from other columns"),
    ("CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b = current_user))", "0A000", "depends on the session"),
    ("CREATE TABLE t (a int PRIMARY KEY, b float8 CHECK (b > random()))", "0A000", "depends on the session"),
    ("CREATE TABLE t (a int PRIMARY KEY, b public.thing)", "3F000", 'schema "public"'),
    ("CREATE TABLE public.t (a int PRIMARY KEY)", "3F000", 'schema "public"'),
    ("CREATE TABLE t (a int PRIMARY KEY, b nothing)", "42704", "does not exist"),
    ("CREATE TABLE t (a int PRIMARY KEY, a text)", "42701", "more than once"),
    ("CREATE TEMP TABLE t (a int PRIMARY KEY)", "0A000", "temporary"),
    ("CREATE TABLE t (a int PRIMARY KEY) PARTITION BY HASH (a)", "0A000", "partitioned"),
    ("CREATE TABLE t () INHERITS (base)", "0A000", "inherit"),
    ("CREATE TABLE t AS SELECT 1 AS a", "0A000", "INSERT … SELECT"),
    ("CREATE FOREIGN TABLE t (a int) SERVER a67_shop", "0A000", "Use CREATE TABLE"),
    ("CREATE MATERIALIZED VIEW t AS SELECT 1", "0A000", "not supported"),
    ("CREATE SCHEMA other", "0A000", "one schema"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "0A000", "not supported"),
    ("GRANT SELECT ON base TO PUBLIC", "0A000", "database_role_create"),
    ("SELECT 1", "0A000", "database_query"),
    ("COMMIT", "0A000", "one transaction already"),
    ("CREATE INDEX CONCURRENTLY ON base (b)", "0A000", "leave CONCURRENTLY out"),
    ("CREATE UNIQUE INDEX ON base (b)", "0A000", "must include the shard key"),
    ("CREATE UNIQUE INDEX ON base (lower(a::text))", "0A000", "must include the shard key"),
    ("CREATE INDEX ON nowhere (b)", "42P01", "does not exist"),
    ("CREATE VIEW v AS SELECT * FROM pg_authid", "0A000", "own tables"),
    ("CREATE VIEW v AS SELECT (SELECT max(passwd) FROM pg_shadow)", "0A000", "own tables"),
    ("CREATE VIEW v AS WITH s AS (SELECT * FROM a67_internal.database_shard) SELECT * FROM s", "42501", "permission denied"),
    ("CREATE DOMAIN d AS int DEFAULT nextval('x')", "0A000", "sequence"),
    ("ALTER TABLE base DROP COLUMN a", "0A000", "cannot be dropped"),
    ("ALTER TABLE base ALTER a DROP NOT NULL", "0A000", "must be NOT NULL"),
    ("ALTER TABLE base ALTER a TYPE smallint", "0A000", "cannot be changed so"),
    ("ALTER TABLE base ALTER a TYPE bigint USING a + 1", "0A000", "cannot be changed so"),
    ("ALTER TABLE base ALTER b TYPE text USING current_user", "0A000", "depends on the session"),
    ("ALTER TABLE base ADD UNIQUE (b)", "0A000", "must include the shard key"),
    ("ALTER TABLE base SET SCHEMA public", "0A000", "not supported"),
    ("ALTER TABLE base OWNER TO postgres", "0A000", "not supported"),
    ("ALTER TABLE base ENABLE ROW LEVEL SECURITY", "0A000", "not supported"),
    ("ALTER TABLE base ALTER nothing TYPE text", "42703", "does not exist"),
    ("ALTER TABLE base ADD b int", "42701", "already exists"),
    ("ALTER TABLE base RENAME nothing TO b2", "42703", "does not exist"),
    ("ALTER TABLE nowhere ADD b int", "42P01", "does not exist"),
    ("ALTER INDEX nowhere RENAME TO somewhere", "42704", "does not exist"),
    ("DROP TABLE nowhere", "42P01", "does not exist"),
    ("DROP INDEX nowhere", "42704", "does not exist"),
    ("DROP INDEX CONCURRENTLY nowhere", "0A000", "leave CONCURRENTLY out"),
    ("DROP SCHEMA shop", "0A000", "not supported"),
    ("TRUNCATE nowhere", "42P01", "does not exist"),
    ("", "22023", "no statement"),
    ("SELEC", "42601", "syntax error"),
]


def test_what_is_refused_leaves_nothing_behind(shop, shards):
    ddl(shop, "CREATE TABLE base (a int PRIMARY KEY, b text)")
    for sql, state, words in REFUSED:
        refused(shop, sql, state, words)
    assert shop.value("SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = 'shop'::regnamespace") == ["base"]
    assert one(on_shards(shards, "SELECT count(*) FROM pg_class WHERE relnamespace = 'store'::regnamespace")) == 2
    error = refused(shop, "CREATE TABLE good (a int PRIMARY KEY); CREATE TABLE é (a nothing PRIMARY KEY)", "42704", "does not exist")
    assert error.diag.internal_query.startswith("CREATE TABLE good") and error.diag.statement_position is None
    assert error.diag.internal_query[int(error.diag.internal_position) - 1:].startswith("nothing"), "the place is that in the text"


# -- strategies ------------------------------------------------------------------------------------


def test_strategies_that_copy_or_keep_in_one_place(shop, shards):
    create(shop, "CREATE TABLE region (region text PRIMARY KEY)", strategy="reference")
    create(shop, "CREATE TABLE setting (name text PRIMARY KEY, region text REFERENCES region)", strategy="local", shard="s3")
    ddl(shop, "CREATE TABLE account (id int PRIMARY KEY, region text REFERENCES region)")
    assert on_shards(shards, "SELECT to_regclass('setting')::text") == [None, None, "setting", None]
    ddl(shop, "ALTER TABLE setting ADD COLUMN value text; CREATE INDEX setting_value ON setting (value)")
    assert on_shards(shards, "SELECT to_regclass('setting_value')::text") == [None, None, "setting_value", None]
    refused(shop, "CREATE TABLE other (region text PRIMARY KEY REFERENCES region ON UPDATE CASCADE)", "0A000", "cannot follow a reference table")
    refused(shop, "CREATE TABLE other (id int PRIMARY KEY, s text REFERENCES setting)", "0A000", "different shards")
    refused(shop, "CREATE TABLE other (n text REFERENCES setting)", "0A000", "different shards", create, strategy="local", shard="s1")
    refused(shop, "CREATE TABLE other (n text, id int REFERENCES account)", "0A000", "different shards", create, strategy="reference")
    create(shop, "CREATE TABLE other (n text REFERENCES setting)", strategy="local", shard="s3")
    shop.execute("INSERT INTO shop.region VALUES ('north')")
    assert on_shards(shards, "SELECT count(*) FROM region") == [1] * 4
    ddl(shop, "ALTER INDEX setting_value RENAME TO setting_worth; DROP INDEX setting_worth; DROP TABLE setting, other, account")
    assert one(on_shards(shards, "SELECT string_agg(relname, ',') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'store'::regnamespace")) == "region"


def test_ranges(shop):
    ranges = '[{"to": "2024-01-01", "shard": "s1"}, {"from": "2024-01-01", "to": "2025-01-01", "shard": "s2"}]'
    create(shop, "CREATE TABLE log (day date, line int, PRIMARY KEY (day, line))", strategy="range", key="day", ranges=ranges)
    create(shop, "CREATE TABLE note (day date)", strategy="range", key="day")
    with pytest.raises(psycopg.Error):
        shop.execute("INSERT INTO shop.log VALUES ('2025-06-01', 1)")
    shop.execute("SELECT a67.database_range_assign('shop', 'day', 's4', '2025-01-01', NULL)")
    shop.execute("INSERT INTO shop.log VALUES ('2023-06-01', 1), ('2024-06-01', 1), ('2025-06-01', 1)")
    assert shop.value("SELECT a67.shard_of('shop.note', '2025-06-01')") == "s4"
    assert shop.value("SELECT a67.database_schema('shop')")["mappings"] == [{"name": "day", "ranges": [
        {"from": None, "to": "2024-01-01", "shard": "s1"}, {"from": "2024-01-01", "to": "2025-01-01", "shard": "s2"},
        {"from": "2025-01-01", "to": None, "shard": "s4"}]}]
    table = "CREATE TABLE t (day date)"
    for options, words in [
            ({"ranges": ranges}, "has ranges already"), ({"mapping": "m", "ranges": "[]"}, "array of 1 to"),
            ({"mapping": "m", "ranges": '[{"to": "2024-01-01", "shard": "s9"}]'}, 'no shard "s9"'),
            ({"mapping": "m", "ranges": '[{"to": "2024-01-01", "shard": "s1", "x": 1}]'}, "ranges[0].x"),
            ({"mapping": "m", "ranges": '[{"from": "2024-01-01", "to": "2023-01-01", "shard": "s1"}]'}, "greater than its beginning"),
            ({"mapping": "m", "ranges": '[{"to": "2024-01-01", "shard": "s1"}, {"to": "2020-01-01", "shard": "s2"}]'}, "not overlap"),
            ({"mapping": "M!"}, "name of a mapping"), ({"shard": "s1"}, "is on all shards")]:
        refused(shop, table, "22023", words, create, strategy="range", key="day", **options)
    refused(shop, "CREATE TABLE t (day int)", "22023", "keys of another kind", create, strategy="range", key="day")
    refused(shop, table, "22023", "another strategy", create, strategy="directory", key="day")
    refused(shop, table, "22023", "has no ranges", create, strategy="hash", key="day", ranges=ranges)
    refused(shop, table, "22023", "has no mapping", create, strategy="hash", key="day", mapping="m")
    refused(shop, table, "22023", "has no key", create, strategy="local", key="day")
    refused(shop, table, "22023", "invalid strategy", create, strategy="magic")
    refused(shop, table, "42703", "Field: key.", create, key="night")
    refused(shop, "DROP TABLE log", "22023", "must be CREATE TABLE", create)
    refused(shop, f"{table}; {table}", "22023", "one statement", create)
    for bounds in [("s4", "2030-01-01", None), ("s1", None, None)]:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="ranges"):
            shop.execute("SELECT a67.database_range_assign('shop', 'day', %s, %s, %s)", *bounds)
    ddl(shop, "DROP TABLE log, note")
    assert shop.value("SELECT count(*) FROM a67_internal.shard_range") == 0, "a mapping without tables is forgotten"


def test_a_directory(shop, shards):
    create(shop, "CREATE TABLE tenant (tenant text PRIMARY KEY, plan text)", strategy="directory")

    def assign(key, shard, mapping="tenant"):
        shop.execute("SELECT a67.database_key_assign('shop', %s, %s, %s)", mapping, key, shard)

    with pytest.raises(psycopg.Error, match="no shard"):
        shop.execute("INSERT INTO shop.tenant VALUES ('acme')")
    assign("acme", "s2")
    assign("acme", "s2")
    assign("acme", "s3")
    shop.execute("INSERT INTO shop.tenant VALUES ('acme')")
    assert on_shards(shards, "SELECT count(*) FROM tenant") == [0, 0, 1, 0]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="has rows with this key"):
        assign("acme", "s1")
    shop.execute("DELETE FROM shop.tenant")
    assign("acme", "s1")
    shop.execute("INSERT INTO shop.tenant VALUES ('acme')")
    assert on_shards(shards, "SELECT count(*) FROM tenant") == [1, 0, 0, 0]
    for arguments in [(None, "s1"), ("x", "s9"), ("x", None), ("x", "s1", "nothing")]:
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            assign(*arguments)
    assert shop.value("SELECT a67.database_schema('shop')")["mappings"] == [{"name": "tenant", "keys": {"s1": 1}}]


def test_a_key_does_not_leave_under_a_writer(shop):
    """Who writes rows of a key and who gives the key to another shard wait for each other."""
    create(shop, "CREATE TABLE tenant (tenant text PRIMARY KEY)", strategy="directory")
    shop.execute("SELECT a67.database_key_assign('shop', 'tenant', 'acme', 's1')")
    failed = []

    def leave():
        try:
            shop.execute("SELECT a67.database_key_assign('shop', 'tenant', 'acme', 's2')")
        except psycopg.Error as error:
            failed.append(error.sqlstate)

    with shop.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO shop.tenant VALUES ('acme')")
        leaving = threading.Thread(target=leave)
        leaving.start()
        wait_until("the key waits for the writer", lambda: shop.value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop.tenant'::regclass") == 1)
        writer.commit()
    leaving.join(20)
    assert failed == ["55000"]
    assert shop.value("SELECT a67.shard_of('shop.tenant', 'acme')") == "s1"
