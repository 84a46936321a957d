"""The two sides of differential tests: virtual database `shop` on four shards, and schema `shop` in one plain database.

Tables of every strategy, with columns of many types and with nulls; the rows are made by SQL from fixed arithmetic, first in
the plain database and then copied through the virtual tables, so that loading is a test too. Beside them, on both sides, what
is no virtual table: a local table, views and functions.
"""

import json
from pathlib import Path

import psycopg

from cloud.server import DATABASE, SUPERUSER, Cluster
from cloud.shards import PLAIN, Shards

SCHEMA = "shop"

TYPES = """
CREATE TYPE tier AS ENUM ('free', 'basic', 'pro', 'enterprise');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
"""

# name: strategy, key, definition, query that makes the rows
TABLES = {
    "customers": ("hash", "customer_id", """
        customer_id integer PRIMARY KEY, name text NOT NULL, region text, tier tier, born date, rating double precision,
        credit numeric(10,2), tags text[], profile jsonb, active boolean NOT NULL DEFAULT true, email email""", """
        SELECT i, 'Customer ' || chr(65 + i % 26) || i % 17, CASE WHEN i % 11 > 0 THEN 'r' || i % 5 END,
            (enum_range(NULL::tier))[1 + i % 4], CASE WHEN i % 13 > 0 THEN date '1950-01-01' + (i * 97) % 20000 END,
            CASE WHEN i % 7 > 0 THEN (i * 37 % 100) / 8.0 END, CASE WHEN i % 9 > 0 THEN (i * 7919 % 100000) / 100.0 END,
            CASE WHEN i % 6 > 0 THEN ARRAY['t' || i % 3, 't' || i % 4] END,
            CASE WHEN i % 8 > 0 THEN jsonb_build_object('age', i % 80, 'langs', jsonb_build_array('c', 'l' || i % 3)) END,
            i % 10 > 0, CASE WHEN i % 5 > 0 THEN 'u' || i || '@example.org' END
        FROM generate_series(1, 300) i"""),
    "orders": ("hash", "customer_id", """
        customer_id integer NOT NULL, order_id integer NOT NULL, placed timestamptz NOT NULL, total numeric(12,2), status text NOT NULL,
        note text, PRIMARY KEY (customer_id, order_id)""", """
        SELECT 1 + (i * 7) % 330, i, timestamptz '2026-01-01 00:00+00' + i * interval '7 hours 13 minutes',
            CASE WHEN i % 12 > 0 THEN (i * 104729 % 1000000) / 100.0 END, (ARRAY['new','paid','sent','done'])[1 + i % 4],
            CASE WHEN i % 3 = 0 THEN 'note ' || i % 10 END
        FROM generate_series(1, 900) i"""),
    "items": ("hash", "customer_id", """
        customer_id integer NOT NULL, order_id integer NOT NULL, line integer NOT NULL, sku text NOT NULL, quantity integer NOT NULL,
        price numeric(10,2) NOT NULL, PRIMARY KEY (customer_id, order_id, line)""", """
        SELECT o.customer_id, o.order_id, l, 'sku' || (o.order_id * 3 + l) % 45, 1 + (o.order_id + l) % 9, (o.order_id * 31 + l * 17) % 5000 / 100.0
        FROM orders o, generate_series(1, 3) l WHERE (o.order_id + l) % 4 > 0"""),
    "products": ("hash", "sku", """
        sku text PRIMARY KEY, title text NOT NULL, price numeric(10,2), weight real, period daterange, attrs jsonb""", """
        SELECT 'sku' || i, 'Product ' || i % 12, CASE WHEN i % 8 > 0 THEN i * 1.25 END, CASE WHEN i % 5 > 0 THEN i / 4.0 END,
            CASE WHEN i % 4 > 0 THEN daterange(date '2026-01-01' + i, date '2026-02-01' + i * 2) END,
            CASE WHEN i % 3 > 0 THEN jsonb_build_object('color', (ARRAY['red','green','blue'])[1 + i % 3], 'size', i % 7) END
        FROM generate_series(0, 49) i"""),
    "regions": ("reference", None, "region text PRIMARY KEY, title text NOT NULL, manager integer", """
        SELECT 'r' || i, 'Region ' || i, CASE WHEN i <> 2 THEN i * 10 END FROM generate_series(0, 5) i"""),
    "visits": ("range", "day", """
        day date NOT NULL, visit_id bigint NOT NULL, customer_id integer, path text NOT NULL, ms integer, PRIMARY KEY (day, visit_id)""", """
        SELECT date '2026-01-01' + i % 120, i, CASE WHEN i % 9 > 0 THEN 1 + i % 310 END, '/p' || i % 13, CASE WHEN i % 10 > 0 THEN i * 53 % 2000 END
        FROM generate_series(1, 800) i"""),
    "seats": ("directory", "tenant", "tenant text NOT NULL, seat integer NOT NULL, holder text, since timestamp, PRIMARY KEY (tenant, seat)", """
        SELECT 'tenant' || i % 6, i, CASE WHEN i % 4 > 0 THEN 'holder ' || i % 20 END, timestamp '2026-03-01' + i * interval '11 hours'
        FROM generate_series(1, 90) i"""),
    "options": ("local", None, "name text PRIMARY KEY, value text", """
        SELECT 'option' || i, CASE WHEN i % 3 > 0 THEN 'v' || i END FROM generate_series(1, 12) i"""),
    "numbers": ("hash", "n", """
        n bigint PRIMARY KEY, i integer, s smallint, f double precision, d numeric, t text, c char(6), ts timestamp, tz timestamptz, b bytea,
        u uuid, iv interval, bl boolean, ip inet, tm time""", """
        SELECT i - 100, CASE WHEN i % 5 > 0 THEN i % 23 END, (i % 30)::smallint, CASE WHEN i % 6 > 0 THEN (i - 80) * 0.37 END,
            CASE WHEN i % 7 > 0 THEN (i * 1013 % 997)::numeric / (1 + i % 3) END, CASE WHEN i % 4 > 0 THEN md5(i::text) END, 'c' || i % 9,
            timestamp '2026-03-28 22:00' + i * interval '37 minutes', CASE WHEN i % 8 > 0 THEN timestamptz '2026-03-28 22:00+00' + i * interval '37 minutes' END,
            decode(md5(i::text), 'hex'), md5((i % 40)::text)::uuid, CASE WHEN i % 9 > 0 THEN i * interval '1 day 3 hours' END,
            CASE WHEN i % 3 > 0 THEN i % 2 = 0 END, ('10.0.' || i % 4 || '.' || i % 250)::inet, time '08:00' + i * interval '3 minutes'
        FROM generate_series(1, 250) i"""),
}
RANGES = [{"to": "2026-01-20", "shard": "s1"}, {"from": "2026-01-20", "to": "2026-02-15", "shard": "s2"},
          {"from": "2026-02-15", "to": "2026-04-01", "shard": "s3"}, {"from": "2026-04-01", "shard": "s4"}]
KEYS = {f"tenant{number}": f"s{1 + number % 3}" for number in range(8)}
HOME = "s2"

# On both sides, beside the tables: what is no virtual table.
LOCAL = """
CREATE TABLE memo (memo_id integer PRIMARY KEY, customer_id integer, body text);
INSERT INTO memo SELECT i, CASE WHEN i % 6 > 0 THEN i * 5 END, 'memo ' || i FROM generate_series(1, 40) i;
CREATE VIEW big_order AS SELECT customer_id, order_id, total FROM orders WHERE total > 5000;
CREATE VIEW customer_total AS SELECT customer_id, count(*) AS n, sum(total) AS total FROM orders GROUP BY customer_id;
CREATE VIEW region_total AS
    SELECT c.region, count(DISTINCT c.customer_id) AS customers, sum(o.total) AS total
    FROM customers c LEFT JOIN orders o USING (customer_id) GROUP BY c.region;
CREATE FUNCTION add_tax(amount numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT round(amount * 1.19, 2)';
CREATE FUNCTION order_count(who integer) RETURNS bigint LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN (SELECT count(*) FROM orders o WHERE o.customer_id = who); END';
CREATE FUNCTION orders_of(who integer) RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM orders o WHERE o.customer_id = who';
CREATE FUNCTION loop_totals() RETURNS TABLE (region text, n bigint) LANGUAGE plpgsql STABLE AS
    'DECLARE r record; BEGIN FOR r IN SELECT * FROM regions ORDER BY 1 LOOP region := r.region;
     SELECT count(*) INTO n FROM customers c WHERE c.region = r.region; RETURN NEXT; END LOOP; END';
"""

SETTINGS = {"TimeZone": "UTC", "statement_timeout": "60s"}


class World:
    """Use as a context manager."""

    def __init__(self, tables=None):
        """tables other than those above are made by the caller, with create() and copy_rows()."""
        self.cluster = Cluster()
        self.shards = Shards(4)
        self.tables = TABLES if tables is None else tables

    def __enter__(self):
        try:
            self.cluster.create()
            self.shards.__enter__()
            self.shards.create_database(self.cluster, SCHEMA)
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.shards.__exit__()
        self.cluster.destroy()

    def ours(self):
        return self._open(str(self.cluster.socket), DATABASE)

    def plain(self):
        return self._open(str(self.shards.server(PLAIN).socket), PLAIN)

    def _open(self, host, database):
        options = " ".join(f"-c {name}={value}" for name, value in {**SETTINGS, "search_path": SCHEMA}.items())
        return psycopg.connect(host=host, port=5432, user=SUPERUSER, dbname=database, autocommit=True, options=options)

    def _make(self):
        with self.ours() as ours, self.plain() as plain:
            plain.execute(f"CREATE SCHEMA {SCHEMA}")
            if self.tables is not TABLES:
                return
            for statement in TYPES.strip().split("\n"):
                plain.execute(statement)
                ours.execute("SELECT a67.database_ddl(%s, %s)", (SCHEMA, statement))
            for name, (strategy, key, definition, rows) in TABLES.items():
                plain.execute(f"CREATE TABLE {name} ({definition})")
                plain.execute(f"INSERT INTO {name} {rows}")
                self.create(ours, name, definition, strategy, key)
                copy_rows(plain, ours, name)
            plain.execute(LOCAL)
            ours.execute(LOCAL)

    def create(self, ours, name, definition, strategy, key):
        """A virtual table, and where its rows go."""
        ours.execute("SELECT a67.table_create(%s, %s, %s, %s, ranges => %s::jsonb, shard => %s)",
                     (SCHEMA, f"CREATE TABLE {name} ({definition})", strategy, key,
                      json.dumps(RANGES) if strategy == "range" else None, HOME if strategy == "local" else None))
        if strategy == "directory":
            for one, shard in KEYS.items():
                ours.execute("SELECT a67.database_key_assign(%s, %s, %s, %s)", (SCHEMA, key, one, shard))


def copy_rows(source, target, table):
    """All rows of a table into the one of the same name."""
    with source.cursor().copy(f"COPY {table} TO STDOUT") as out, target.cursor().copy(f"COPY {table} FROM STDIN") as into:
        for chunk in out:
            into.write(chunk)


def query_files():
    return sorted((Path(__file__).parent / "queries").glob("*.sql"))
