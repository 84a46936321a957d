"""The virtual database answers as one plain database does: curated statements, TPC-H and pgbench's TPC-B.

test/differential has the cases and what compares them. A refusal is an error here, but where the plain database has one too.
"""

import os
import subprocess

import pytest

from cloud.server import DATABASE, SUPERUSER, server_program
from differential import tpch
from differential.compare import Side, differences, read_cases, summary
from differential.world import SCHEMA, World, copy_rows, query_files

TPCH_SCALE = 0.002


@pytest.fixture(scope="module")
def world():
    with World() as made:
        yield made


@pytest.fixture
def sides(world):
    ours, plain = Side(world.ours), Side(world.plain)
    yield ours, plain
    ours.close()
    plain.close()


def compare_all(found, sides):
    """Differences of all cases. What the flag `foreign` is on must not work: docs/database.md lists it."""
    problems = []
    for case in found:
        lines, _ = differences(case, *sides)
        if "foreign" in case.flags:
            lines = [] if lines else [f"{case.name}: works now"]
        problems += lines
    return problems


@pytest.mark.parametrize("path", query_files(), ids=lambda path: path.stem)
def test_curated(sides, path):
    problems = compare_all(read_cases(path), sides)
    assert not problems, summary(problems)


def test_curated_set_is_large():
    assert sum(len(case.statements) for path in query_files() for case in read_cases(path)) >= 400


def test_tpch():
    with World(tables=tpch.TABLES) as world, world.ours() as ours, world.plain() as plain:
        for name, (_, _, definition) in tpch.TABLES.items():
            plain.execute(f"CREATE TABLE {name} ({definition})")
        for statement in tpch.statements(TPCH_SCALE):
            plain.execute(statement)
        plain.execute("ANALYZE")
        for name, (strategy, key, definition) in tpch.TABLES.items():
            world.create(ours, name, definition, strategy, key)
            copy_rows(plain, ours, name)
            ours.execute(f"ANALYZE {name}")
        both = Side(world.ours), Side(world.plain)
        found = read_cases(tpch.QUERIES)
        assert len(found) == 22
        problems = compare_all(found, both)
        assert not problems, summary(problems)


TPCB = {
    "pgbench_branches": ("bid", "bid integer PRIMARY KEY, bbalance integer, filler char(88)"),
    "pgbench_tellers": ("tid", "tid integer PRIMARY KEY, bid integer, tbalance integer, filler char(84)"),
    "pgbench_accounts": ("aid", "aid integer PRIMARY KEY, bid integer, abalance integer, filler char(84)"),
    "pgbench_history": ("tid", "tid integer NOT NULL, bid integer, aid integer, delta integer, mtime timestamp, filler char(22)"),
}
BRANCHES = 3


def pgbench(world, *arguments):
    server = world.cluster
    done = subprocess.run(
        [str(server_program("pgbench")), "-h", str(server.socket), "-U", SUPERUSER, *arguments, DATABASE], capture_output=True,
        text=True, timeout=120, check=False, env={"PGOPTIONS": f"-c search_path={SCHEMA}", "PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_tpcb(world, protocol):
    """pgbench's own transactions over virtual tables: sums of balances agree with the history, whatever was concurrent."""
    with world.ours() as ours:
        for name, (key, definition) in TPCB.items():
            ours.execute("SELECT a67.database_ddl(%s, %s)", (SCHEMA, f"DROP TABLE IF EXISTS {name}"))
            world.create(ours, name, definition, "hash", key)
        pgbench(world, "-i", "-I", "g", "-s", str(BRANCHES))
        output = pgbench(world, "-n", "-M", protocol, "-c", "4", "-j", "2", "-t", "50")
        assert "number of transactions actually processed: 200/200" in output
        [(accounts, tellers, branches, history, count)] = ours.execute(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
            "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history), "
            "(SELECT count(*) FROM pgbench_history)").fetchall()
        assert accounts == tellers == branches == history
        assert count == 200
