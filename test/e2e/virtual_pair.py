"""A virtual database over four shards beside one plain database with the same tables: what writes are compared on.

Pair.both runs a statement on both sides and asserts that they answer alike: rows, count of rows, or SQLSTATE.
"""

import psycopg
from cloud import Cluster
from cloud.server import DATABASE, SUPERUSER
from cloud.shards import PLAIN, Shards

SCHEMA = "shop"
TYPES = "CREATE TYPE colour AS ENUM ('red', 'green', 'blue')"
# name: columns, options of the virtual table; defaults that the virtual table alone has follow in VIRTUAL_DEFAULTS
TABLES = {
    "accounts": ("aid int NOT NULL PRIMARY KEY, bid int CHECK (bid <> 13), balance numeric DEFAULT 0, filler text", "strategy 'hash', key 'aid'"),
    "kinds": ("id bigint NOT NULL PRIMARY KEY, c colour, ts timestamptz, f float8, b bytea, a text[], j jsonb, u uuid, d date, ok bool, "
              "ch char(5), iv interval, n numeric(12,3), r int4range", "strategy 'hash', key 'id'"),
    "events": ("name text NOT NULL, at timestamptz NOT NULL, note text, PRIMARY KEY (name, at)", "strategy 'hash', key 'name'"),
    "regions": ("region text NOT NULL PRIMARY KEY, title text, size int", "strategy 'reference'"),
    "settings": ("name text NOT NULL PRIMARY KEY, value text", "strategy 'local', shard 's2'"),
    "days": ("day date NOT NULL, line int NOT NULL, note text, PRIMARY KEY (day, line)", "strategy 'range', key 'day', mapping 'days'"),
    "tenants": ("tenant text NOT NULL PRIMARY KEY, seats int", "strategy 'directory', key 'tenant', mapping 'tenants'"),
}
# Of an id that the key comes from, and of what only this server knows.
SERIAL = "counted", "id int NOT NULL DEFAULT nextval('shop.counted_id_seq') PRIMARY KEY, note text DEFAULT 'none', made timestamptz DEFAULT now(), twice int"


class Pair:
    """Use as a context manager."""

    def __init__(self, settings=None):
        self.cluster = Cluster(settings=settings)
        self.shards = Shards(4)
        self.sides = []

    def __enter__(self):
        try:
            self.cluster.create()
            self.shards.__enter__()
            self.shards.create_database(self.cluster, SCHEMA)
            self._create_tables()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for side in self.sides:
            side.close()
        self.shards.__exit__()
        self.cluster.destroy()

    def _create_tables(self):
        with self.ours() as ours, self.plain() as plain:
            plain.execute(f"CREATE SCHEMA {SCHEMA}")
            for side in (ours, plain):
                side.execute(f"CREATE SEQUENCE {SCHEMA}.counted_id_seq")
                side.execute(TYPES)
            self.shards.execute(TYPES)
            for name, (columns, options) in {**TABLES, SERIAL[0]: (SERIAL[1], "strategy 'hash', key 'id'")}.items():
                plain.execute(f"CREATE TABLE {name} ({columns})")
                remote = columns.replace("DEFAULT nextval('shop.counted_id_seq')", "")
                self.shards.execute(f"CREATE TABLE {name} ({remote})")
                local = columns.split(", PRIMARY KEY")[0].replace("PRIMARY KEY", "").replace("CHECK (bid <> 13)", "")
                ours.execute(f"CREATE FOREIGN TABLE {name} ({local}) SERVER a67_{SCHEMA} OPTIONS ({options})")
            self._place("shard_range", "days", [("s1", None, "2026-01-01"), ("s3", "2026-01-01", "2027-01-01")])
            self._place("shard_directory", "tenants", [("s1", "acme"), ("s2", "globex"), ("s4", "initech")])

    def _place(self, table, mapping, places):
        columns = "lower_bound, upper_bound" if table == "shard_range" else "key"
        for shard, *values in places:
            self.cluster.execute(
                f"INSERT INTO a67_internal.{table} (database_id, mapping, shard_id, {columns}) "
                f"SELECT database_id, %s, shard_id, {', '.join(['%s'] * len(values))} FROM a67_internal.database_shard "
                "WHERE name = %s", mapping, *values, shard)

    # -- connections ---------------------------------------------------------------------------

    def ours(self, user=SUPERUSER):
        return psycopg.connect(host=str(self.cluster.socket), port=5432, user=user, dbname=DATABASE, autocommit=True,
                               options=f"-c search_path={SCHEMA} -c timezone=UTC")

    def plain(self):
        return psycopg.connect(host=str(self.shards.server(PLAIN).socket), port=5432, user=SUPERUSER, dbname=PLAIN, autocommit=True,
                               options=f"-c search_path={SCHEMA} -c timezone=UTC")

    def clear(self):
        """No row is left anywhere. Small tables are emptied faster by DELETE."""
        if not self.sides:
            self.sides = [self.plain(), *(self.shards.connect(name) for name in self.shards.names)]
        for side in self.sides:
            side.execute("; ".join(f"DELETE FROM {name}" for name in [*TABLES, SERIAL[0]]))

    def counts(self, table):
        """Rows of each shard."""
        found = []
        for name in self.shards.names:
            with self.shards.connect(name) as connection:
                found.append(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        return found


class Sides:
    """One connection to each side, for one test."""

    def __init__(self, pair):
        self.pair = pair
        self.ours, self.plain = pair.ours(), pair.plain()

    def close(self):
        self.ours.close()
        self.plain.close()

    def both(self, query, parameters=None, ordered=False, **more):
        """Runs it on both sides, which must agree; returns the rows,
        values as text."""
        outcomes = [_outcome(side, query, parameters, ordered, more) for side in (self.ours, self.plain)]
        assert outcomes[0] == outcomes[1], f"{query}\nours:  {outcomes[0]}\nplain: {outcomes[1]}"
        return outcomes[0][1] if outcomes[0][0] == "done" else outcomes[0][1:]

    def refused(self, query, sqlstate, parameters=None):
        """Ours alone refuses it; returns the error's diagnostics."""
        try:
            self.ours.execute(query, parameters)
        except psycopg.Error as error:
            assert error.sqlstate == sqlstate, f"{query}: {error.sqlstate} {error}"
            return error.diag
        raise AssertionError(f"not refused: {query}")

    def same_rows(self, table):
        self.both(f"SELECT * FROM {table}")


def _outcome(side, query, parameters, ordered, more):
    try:
        cursor = side.execute(query, parameters, **more)
    except psycopg.Error as error:
        return "error", error.sqlstate
    result = cursor.pgresult
    rows = [tuple(_text(result.get_value(row, column)) for column in range(result.nfields)) for row in range(result.ntuples)]
    return "done", rows if ordered else sorted(rows, key=repr), cursor.statusmessage


def _text(value):
    return None if value is None else value.decode()
