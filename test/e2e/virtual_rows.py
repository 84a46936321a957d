"""Rows for the tables of virtual_pair, the same on both sides, and what EXPLAIN says of a statement."""

import re

ROWS = {
    "accounts": "SELECT i, i % 5, i * 1.5, 'row ' || i FROM generate_series(1, 60) i",
    "kinds": "SELECT i, (ARRAY['red', 'green', 'blue'])[i % 3 + 1]::colour, '2026-03-01 12:00+00'::timestamptz + i * interval '7 hours', "
             "i / 7.0, decode(lpad(to_hex(i), 4, '0'), 'hex'), ARRAY['a', i::text], jsonb_build_object('k', i), NULL, '2026-01-01'::date + i, "
             "i % 2 = 0, 'c' || i, make_interval(hours => i), i / 8.0, int4range(i, i + 5) FROM generate_series(1, 30) i",
    "events": "SELECT 'name ' || i % 6, '2026-01-01 00:00+00'::timestamptz + i * interval '1 hour', 'note ' || i FROM generate_series(1, 40) i",
    "regions": "VALUES ('north', 'The North', 1), ('south', 'The South', 2), ('east', NULL, 3)",
    "settings": "VALUES ('colour', 'green'), ('size', '12')",
    "days": "SELECT '2025-11-01'::date + i, i, 'day ' || i FROM generate_series(1, 120) i",
    "tenants": "VALUES ('acme', 3), ('globex', 20), ('initech', 7)",
}


def fill(sides, tables=ROWS):
    for table in tables:
        for side in (sides.ours, sides.plain):
            side.execute(f"INSERT INTO {table} {ROWS[table]}")


def plan(connection, query, parameters=None):
    return "\n".join(row[0] for row in connection.execute(f"EXPLAIN (VERBOSE, COSTS OFF) {query}", parameters))


def strategies(connection, query):
    return re.findall(r"Strategy: (.*)", plan(connection, query))


def remote_sql(connection, query):
    return re.search(r"Remote SQL: (.*)", plan(connection, query)).group(1)
