"""The demo's virtual database: five small databases that are queried as one."""

import json

from account import ask, refused
from cloud.server import SUPERUSER

SHARDS = [f"free{number}" for number in range(1, 6)]
TABLE = """
CREATE TABLE reading (
    device integer, at timestamptz, celsius numeric(4,1) NOT NULL,
    PRIMARY KEY (device, at))"""


def make_database(show):
    """Databases of the demo's own server stand for the free ones of five providers."""
    show.step(f"{len(SHARDS)} small databases become one: tables spread over them by a key, queried in plain SQL")
    for name in SHARDS:
        show.cluster.execute(f"CREATE DATABASE {name}")
    shards = [{"name": name, "connection": f"host={show.cluster.socket} user={SUPERUSER} dbname={name}"} for name in SHARDS]
    show.say("SELECT a67.database_create('weather', '[{\"name\": \"free1\", \"connection\": \"host=… dbname=free1\"}, …]')")
    show.cluster.execute("SELECT a67.database_create('weather', %s::jsonb)", json.dumps(shards))
    show.say("SELECT a67.table_create('weather', '")
    show.account.more(f"{TABLE.strip()}', key => 'device')")
    show.cluster.execute("SELECT a67.table_create('weather', %s, key => 'device')", TABLE)
    ask(show, """
INSERT INTO weather.reading
SELECT d, timestamptz '2026-01-01' + h * interval '1 hour', 10 + (d * 7 + h * 3) % 200 / 10.0
FROM generate_series(1, 100) d, generate_series(1, 48) h""")
    ask(show, "SELECT count(*), round(avg(celsius), 3) AS mean FROM weather.reading")
    ask(show, "EXPLAIN (COSTS OFF, VERBOSE) SELECT max(celsius) FROM weather.reading WHERE device = 7")
    total = show.cluster.value("SELECT sum(n) FROM (SELECT a67.shard_of('weather.reading', device::text), count(*) AS n "
                               "FROM weather.reading GROUP BY 1) x")
    if total != 100 * 48:
        raise AssertionError(f"the virtual table holds {total} rows instead of {100 * 48}")
    refused(show, "SELECT a67.database_ddl('weather', 'CREATE TABLE alarm (id integer UNIQUE, device integer PRIMARY KEY)')")
