"""What tests of definitions share: a virtual database `shop` over the schema `store` of four shards."""

import psycopg
import pytest

from cloud import Cluster
from cloud.shards import Shards

COLUMNS = """SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' !' ELSE '' END, ', '
    ORDER BY attnum) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"""


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        yield made


@pytest.fixture(scope="module")
def shards():
    with Shards(4) as made:
        yield made


@pytest.fixture
def shop(cluster, shards):
    """A fresh virtual database `shop` over fresh schemas of the four shards."""
    shards.execute("DROP SCHEMA IF EXISTS store CASCADE")
    shards.create_database(cluster, "shop", {"strategy": "hash", "schema": "store"})
    yield cluster
    cluster.execute("SELECT a67.database_drop('shop')")


def ddl(cluster, sql):
    return [row["database_ddl"] for row in cluster.rows("SELECT a67.database_ddl('shop', %s)", sql)]


def create(cluster, definition, **options):
    names = "".join(f", {name} => %s" for name in options)
    cluster.execute(f"SELECT a67.table_create('shop', %s{names})", definition, *options.values())


def refused(cluster, sql, state, words, call=ddl, **options):
    """Runs it and returns the error, of that state and with those words in it."""
    with pytest.raises(psycopg.Error) as caught:
        call(cluster, sql, **options)
    error = caught.value
    diag = error.diag
    assert error.sqlstate == state, error
    assert words in f"{diag.message_primary} {diag.message_detail} {diag.message_hint}", error
    return error


def on_shards(shards, query, *parameters):
    """The first column of the first row of each shard's answer."""
    answers = []
    for name in shards.names:
        with shards.connect(name) as connection:
            connection.execute("SET search_path = store")
            row = connection.execute(query, parameters or None).fetchone()
            answers.append(row and row[0])
    return answers


def one(answers):
    """What all shards answered."""
    assert len(set(answers)) == 1, answers
    return answers[0]


def columns(cluster, shards, table):
    """Columns of a table: the same here and on all shards."""
    here = cluster.value(COLUMNS.replace("format_type(atttypid, atttypmod)", "replace(format_type(atttypid, atttypmod), 'shop.', '')"),
                         f"shop.{table}")
    assert one(on_shards(shards, COLUMNS, table)) == here
    return here
