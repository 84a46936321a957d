"""The peers that the virtual database is measured against, set up over the same shard servers.

direct: one plain database with all rows, asked over a direct connection. postgres_fdw: a hash-partitioned table of foreign
tables, asynchronous, with partition-wise joins and aggregates. plproxy: functions that run on the shard of the key, or on all.
Every peer has tables of its own name on the shards, spread by its own hash; all hold the same rows.
"""

import io

from cloud.server import SUPERUSER
from cloud.shards import PLAIN

# name: columns, the column rows are spread by, primary key
TABLES = {
    "accounts": ("aid bigint NOT NULL, bid integer NOT NULL, abalance integer NOT NULL, device integer NOT NULL, filler text NOT NULL",
                 "aid", "aid"),
    "customers": ("customer_id bigint NOT NULL, region integer NOT NULL, name text NOT NULL", "customer_id", "customer_id"),
    "orders": ("customer_id bigint NOT NULL, order_id integer NOT NULL, total bigint NOT NULL", "customer_id",
               "customer_id, order_id"),
}

PLPROXY = """
CREATE EXTENSION plproxy;
CREATE SERVER shards FOREIGN DATA WRAPPER plproxy OPTIONS ({partitions});
CREATE USER MAPPING FOR PUBLIC SERVER shards;
CREATE SCHEMA pp;
CREATE FUNCTION pp.account(k bigint) RETURNS integer LANGUAGE plproxy AS $$
    CLUSTER 'shards'; RUN ON hashint8(k);
    SELECT abalance FROM pp_accounts WHERE aid = k;
$$;
CREATE FUNCTION pp.by_branch(OUT bid integer, OUT n bigint, OUT s bigint) RETURNS SETOF record LANGUAGE plproxy AS $$
    CLUSTER 'shards'; RUN ON ALL;
    SELECT bid, count(*) AS n, sum(abalance)::bigint AS s FROM pp_accounts GROUP BY bid;
$$;
CREATE FUNCTION pp.top(OUT abalance integer, OUT aid bigint) RETURNS SETOF record LANGUAGE plproxy AS $$
    CLUSTER 'shards'; RUN ON ALL;
    SELECT abalance, aid FROM pp_accounts ORDER BY abalance DESC, aid LIMIT 20;
$$;
CREATE FUNCTION pp.customer(k bigint, OUT n bigint, OUT s bigint) RETURNS record LANGUAGE plproxy AS $$
    CLUSTER 'shards'; RUN ON hashint8(k);
    SELECT count(*) AS n, sum(o.total)::bigint AS s FROM pp_customers c JOIN pp_orders o USING (customer_id) WHERE customer_id = k;
$$;
CREATE FUNCTION pp.add(k bigint, v integer) RETURNS integer LANGUAGE plproxy AS $$
    CLUSTER 'shards'; RUN ON hashint8(k); TARGET pp_add;
$$;
CREATE FUNCTION pp.change(k bigint, v integer) RETURNS integer LANGUAGE plproxy AS $$
    CLUSTER 'shards'; RUN ON hashint8(k); TARGET pp_change;
$$;
"""

# PL/Proxy itself sends nothing but SELECT: writes are functions on the shards.
PLPROXY_SHARD = """
CREATE FUNCTION pp_add(k bigint, v integer) RETURNS integer LANGUAGE sql AS $$
    INSERT INTO pp_accounts VALUES (k, 1, v, 1, '') RETURNING 1
$$;
CREATE FUNCTION pp_change(k bigint, v integer) RETURNS integer LANGUAGE sql AS $$
    UPDATE pp_accounts SET abalance = abalance + v WHERE aid = k RETURNING 1
$$;
"""


def make_plain(shards, rows):
    """All rows in one database, for `direct`, and the source of what the others hold."""
    with shards.connect(PLAIN) as plain:
        for table, (columns, _, primary) in TABLES.items():
            plain.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({primary}))")
        plain.execute("INSERT INTO accounts SELECT i, i % 100, (i * 7919::bigint) % 1000003, (i * 31::bigint) % 50000, repeat('x', 40) "
                      f"FROM generate_series(1, {rows}) i")
        plain.execute(f"INSERT INTO customers SELECT i, i % 50, 'customer ' || i FROM generate_series(1, {rows // 10}) i")
        plain.execute("INSERT INTO orders SELECT c, o, (c * 13 + o) % 1000 "
                      f"FROM generate_series(1, {rows // 10}) c, generate_series(1, 10) o")
        plain.execute("VACUUM ANALYZE")


def _move(source, query, target, table):
    """Rows of a query into a table of another database."""
    with source.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as out, \
            target.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as into:
        for chunk in out:
            into.write(chunk)


def _fill(shards, prefix, condition):
    """The peer's tables on all shards, each with the rows that `condition` (of column and shard number) puts there."""
    count = len(shards.names)
    for number, name in enumerate(shards.names):
        with shards.connect(PLAIN) as plain, shards.connect(name) as shard:
            for table, (columns, key, primary) in TABLES.items():
                shard.execute(f"CREATE TABLE {prefix}{table} ({columns}, PRIMARY KEY ({primary}))")
                _move(plain, f"SELECT * FROM {table} WHERE {condition(key, count, number)}", shard, f"{prefix}{table}")
            shard.execute("VACUUM ANALYZE")


def make_plproxy(shards, cluster):
    _fill(shards, "pp_", lambda key, count, number: f"hashint8({key}) & {count - 1} = {number}")
    shards.execute(PLPROXY_SHARD)
    partitions = ", ".join(f"p{number} $${shards.connection(name)}$$" for number, name in enumerate(shards.names))
    cluster.execute(PLPROXY.format(partitions=partitions))


def make_postgres_fdw(shards, cluster):
    with shards.connect(PLAIN) as plain:
        plain.execute("CREATE TABLE spread (k bigint) PARTITION BY HASH (k)")
    _fill(shards, "fdw_", lambda key, count, number: f"satisfies_hash_partition('spread'::regclass, {count}, {number}, {key})")
    with cluster.connect() as connection:
        connection.execute("CREATE EXTENSION postgres_fdw")
        connection.execute("CREATE SCHEMA fdw")
        for name in shards.names:
            connection.execute(
                f"CREATE SERVER fdw_{name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{shards.server(name).socket}', "
                f"port '5432', dbname '{name}', async_capable 'true', use_remote_estimate 'true', batch_size '1000', fetch_size '10000')")
            connection.execute(f"CREATE USER MAPPING FOR PUBLIC SERVER fdw_{name} OPTIONS (user '{SUPERUSER}', password_required 'false')")
        for table, (columns, key, _) in TABLES.items():
            connection.execute(f"CREATE TABLE fdw.{table} ({columns}) PARTITION BY HASH ({key})")
            for number, name in enumerate(shards.names):
                connection.execute(
                    f"CREATE FOREIGN TABLE fdw.{table}_{name} PARTITION OF fdw.{table} "
                    f"FOR VALUES WITH (MODULUS {len(shards.names)}, REMAINDER {number}) SERVER fdw_{name} "
                    f"OPTIONS (schema_name 'public', table_name 'fdw_{table}')")
        connection.execute("ANALYZE fdw.accounts, fdw.customers, fdw.orders")


def make_a67(shards, cluster):
    shards.create_database(cluster, "cloud")
    with cluster.connect() as connection:
        connection.execute("SET statement_timeout = 0")
        for table, (columns, key, primary) in TABLES.items():
            connection.execute("SELECT a67.table_create('cloud', %s, 'hash', %s)",
                               (f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({primary}))", key))
        for table in TABLES:
            with shards.connect(PLAIN) as plain:
                _move(plain, f"SELECT * FROM {table}", connection, f"cloud.{table}")
        connection.execute("ANALYZE cloud.accounts, cloud.customers, cloud.orders")
    shards.execute("VACUUM ANALYZE")


def rows_as_text(shards):
    """The accounts as COPY's text, for loads."""
    out = io.BytesIO()
    with shards.connect(PLAIN) as plain, plain.cursor().copy("COPY accounts TO STDOUT") as copy:
        for chunk in copy:
            out.write(chunk)
    return out.getvalue()
