"""COPY of virtual tables: lines go to their shards as they came, and errors say what PostgreSQL says, with the input's line number.

What a COPY stores or refuses is compared with the same COPY on a plain database (virtual_pair).
"""

import os

import psycopg
import pytest
from cloud import process
from cloud.wait import wait_until
from virtual_pair import Pair, Sides


@pytest.fixture(scope="module")
def pair():
    with Pair() as made:
        yield made


@pytest.fixture
def sides(pair):
    made = Sides(pair)
    yield made
    made.close()
    pair.clear()


def copy_in(side, statement, data):
    """What a COPY answers: its status, or SQLSTATE, message and the lines of its context that are COPY's own."""
    cursor = side.cursor()
    try:
        with cursor.copy(statement) as copy:
            for chunk in [data] if isinstance(data, (str, bytes)) else data:
                copy.write(chunk)
        return cursor.statusmessage
    except psycopg.Error as error:
        context = [line for line in (error.diag.context or "").split("\n") if line.startswith("COPY")]
        return error.sqlstate, error.diag.message_primary, context


def copy_out(side, statement):
    with side.cursor().copy(statement) as copy:
        return b"".join(bytes(chunk) for chunk in copy)


def both_in(sides, statement, data):
    outcomes = [copy_in(side, statement, data) for side in (sides.ours, sides.plain)]
    assert outcomes[0] == outcomes[1], f"{statement}\nours:  {outcomes[0]}\nplain: {outcomes[1]}"
    return outcomes[0]


def both_out(sides, statement):
    """What COPY TO gives, lines in any order, must be the same."""
    ours, plain = (copy_out(side, statement) for side in (sides.ours, sides.plain))
    assert sorted(ours.splitlines()) == sorted(plain.splitlines()), statement
    return ours


# -- formats and options -------------------------------------------------------------------------

LINES = "1\t1\t1.50\tplain\n2\t\\N\t-2\ttab\\tand\\nline \\\\ back\n3\t3\t0\t\n4\t4\t4\tübung \\N\n"
CSV = '1,1,1.50,plain\n2,,-2,"quoted, ""and\nthree\r\nlines"\n3,3,0,""\n4,4,4,übung\n'


@pytest.mark.parametrize("options, data", [
    ("", LINES),
    ("", LINES.rstrip("\n")),
    ("", LINES + "\\.\n"),
    ("", LINES.replace("\n", "\r\n").replace("\\\r\n", "\\n")),
    ("(DELIMITER '|', NULL 'none')", "1|1|1|a\\|b\n2|none|2|\\none\n3|3|3|none\n"),
    ("(DELIMITER ',')", "1,1,1,a\\,b\n"),
    ("(FORMAT csv)", CSV),
    ("(FORMAT csv, HEADER)", "any,thing,goes,here\n" + CSV),
    ("(FORMAT csv, HEADER match)", "aid,bid,balance,filler\n" + CSV),
    ("(HEADER match)", "aid\tbid\tbalance\tfiller\n" + LINES),
    ("(FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL 'nil')", "1;nil;1;'a;\\'b'\n2;2;2;'nil'\n"),
    ("(FORMAT csv, FORCE_NOT_NULL (filler), FORCE_NULL (bid, aid))", '"1","",1,\n2,"2",2,x\n'),
    ("(ENCODING latin1)", LINES.encode("latin-1")),
    ("WHERE aid % 2 = 0 AND filler IS NOT NULL", LINES),
    ("(FORMAT csv) WHERE balance > 0", CSV),
    ("WHERE (accounts).bid = 3", LINES),
    ("", ""),
    ("(FORMAT csv, HEADER)", "aid\n"),
])
def test_formats(sides, options, data):
    assert both_in(sides, f"COPY accounts FROM STDIN {options}", data).startswith("COPY ")
    sides.same_rows("accounts")


def test_columns_and_defaults(sides):
    both_in(sides, "COPY accounts (filler, aid) FROM STDIN", "one\t1\n\\N\t2\n")
    both_in(sides, "COPY counted (note) FROM STDIN (FORMAT csv)", '"a ""quote"", and comma"\nplain\n')
    both_in(sides, "COPY counted (twice) FROM STDIN (DELIMITER '|', NULL 'none')", "5\nnone\n")
    both_in(sides, "COPY counted (note) FROM STDIN", "\nx\n")
    both_in(sides, "COPY counted (twice) FROM STDIN (FORMAT csv, NULL 'none', QUOTE '|')", "5\nnone\n")
    both_in(sides, "COPY counted (twice, note) FROM STDIN WHERE twice > 6", "6\tno\n7\tyes\n")
    sides.same_rows("accounts")
    sides.both("SELECT id, note, twice FROM counted")
    assert sides.ours.execute("SELECT count(*) FROM counted WHERE made IS NULL").fetchone() == (0,)


def test_values_of_every_kind(sides):
    sides.plain.execute("""INSERT INTO kinds SELECT i, (enum_range(NULL::colour))[1 + i % 3], timestamptz '2026-03-29' + i * interval '37 min',
        i / 3.0, decode(md5(i::text), 'hex'), ARRAY['a' || i, NULL, E'x\\ty\\n"\\\\'], jsonb_build_object('i', i, 't', E'a\\nb'),
        md5(i::text)::uuid, date '2026-01-01' + i, i % 2 = 0, 'c' || i % 9, i * interval '1 day 3 hours', i / 7.0, int4range(i, i * 2)
        FROM generate_series(1, 300) i""")
    for options in ("", "(FORMAT csv)", "(FORMAT binary)", "(FORMAT csv, FORCE_QUOTE *, NULL 'x')"):
        data = copy_out(sides.plain, f"COPY kinds TO STDOUT {options}")
        assert copy_in(sides.ours, f"COPY kinds FROM STDIN {options.replace(', FORCE_QUOTE *', '')}", data) == "COPY 300"
        sides.same_rows("kinds")
        both_out(sides, "COPY kinds TO STDOUT (FORMAT csv, HEADER)")
        sides.pair.shards.execute("TRUNCATE kinds")


def test_settings_of_the_session_count(sides):
    for setting in ("DateStyle = 'SQL, DMY'", "TimeZone = 'America/Caracas'", "IntervalStyle = 'sql_standard'", "extra_float_digits = -3",
                    "bytea_output = 'escape'"):
        sides.both(f"SET {setting}")
    line = "1\tred\t03/04/2026 05:06\t0.30000000000000004\tab\\\\000c\t{}\t{}\t\\N\t03/04/2026\tt\ta\t1-2 3 4:05:06\t1\t[1,2)\n"
    both_in(sides, "COPY kinds FROM STDIN", line)
    both_out(sides, "COPY kinds TO STDOUT")
    both_in(sides, "COPY kinds FROM STDIN", line.replace("1\tred", "2\tred").replace("03/04/2026", "03/14/2026"))
    sides.same_rows("kinds")
    data = copy_out(sides.plain, "COPY kinds TO STDOUT (FORMAT binary)")
    sides.pair.shards.execute("TRUNCATE kinds")
    copy_in(sides.ours, "COPY kinds FROM STDIN (FORMAT binary)", data)
    sides.both("SET extra_float_digits = 1")
    sides.same_rows("kinds")


def test_every_strategy(sides):
    both_in(sides, "COPY regions FROM STDIN", "n\tNorth\t1\ns\tSouth\t2\n")
    assert sides.pair.counts("regions") == [2, 2, 2, 2]
    both_in(sides, "COPY settings FROM STDIN", "a\tb\n")
    assert sides.pair.counts("settings") == [0, 1, 0, 0]
    both_in(sides, "COPY days FROM STDIN", "2025-05-05\t1\tx\n2026-05-05\t1\tx\n")
    assert sides.pair.counts("days") == [1, 0, 1, 0]
    both_in(sides, "COPY tenants FROM STDIN", "globex\t1\ninitech\t2\n")
    assert sides.pair.counts("tenants") == [0, 1, 0, 1]
    both_in(sides, "COPY events FROM STDIN", "".join(f"name {i % 50}\t2026-01-01 00:{i // 60:02}:{i % 60:02}\tx\n" for i in range(1000)))
    sides.same_rows("events")


def test_files(sides, tmp_path):
    path = tmp_path / "accounts.csv"
    path.write_text("aid,filler\n" + "".join(f"{i},row {i}\n" for i in range(500)), encoding="utf-8")
    path.chmod(0o644)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == path.owner() and folder != folder.parent:
            folder.chmod(0o755)
    sides.both(f"COPY accounts (aid, filler) FROM '{path}' (FORMAT csv, HEADER match)")
    sides.both(f"COPY accounts (aid, filler) FROM PROGRAM 'tail -n +2 {path} | sed s/^/1/' (FORMAT csv)")
    sides.same_rows("accounts")
    sides.both(f"COPY accounts FROM '{path}.missing'")


def test_copy_out(sides):
    sides.both("INSERT INTO accounts SELECT i, i % 7, i / 4.0, E'row\\t' || i FROM generate_series(1, 3000) i")
    for statement in ("COPY accounts TO STDOUT", "COPY accounts (filler, aid) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE (filler))",
                      "COPY (SELECT bid, count(*), sum(balance) FROM accounts GROUP BY bid) TO STDOUT",
                      "COPY (DELETE FROM accounts WHERE aid < 10 RETURNING aid) TO STDOUT",
                      "COPY (INSERT INTO accounts VALUES (1), (2) RETURNING aid) TO STDOUT"):
        both_out(sides, statement)
    ours, plain = (copy_out(side, "COPY (SELECT * FROM accounts ORDER BY aid) TO STDOUT (FORMAT binary)") for side in (sides.ours, sides.plain))
    assert ours == plain


# -- errors --------------------------------------------------------------------------------------


def lines(count, **others):
    """Lines with keys 1 … count; others: l17="…" puts a line of its own in a place."""
    return "".join(others.get(f"l{i}", f"{i}\t1\t1\tx") + "\n" for i in range(1, count + 1))


@pytest.mark.parametrize("data", [
    lines(40, l17="17\tx\t1\tx"), lines(40, l33="33\t1\t1.x\tx"), lines(3000, l2900="2900\t1\tNaNa\tx"), lines(5, l3="x\t1\t1\tx"),
    lines(5, l4="99999999999\t1\t1\tx"), lines(5, l2="2\t1\t1"), lines(5, l2="2\t1\t1\tx\ty"), lines(5, l2=""), lines(5, l5="5\t13\t1\tx"),
    lines(5, l5="\\N\t1\t1\tx"), lines(5) + "6\t1\t1\tx\r\n", b"1\t1\t1\t\xff\n", lines(5, l3="\\.\n7\t1\t1"),
])
def test_errors_name_the_line(sides, data):
    outcome = both_in(sides, "COPY accounts FROM STDIN", data)
    if isinstance(outcome, tuple):
        assert sum(sides.pair.counts("accounts")) == 0
    both_in(sides, "COPY accounts FROM STDIN", "1000\t1\t1\tx\n")


@pytest.mark.parametrize("options, data", [
    ("(FORMAT csv, HEADER)", 'a,b,c,d\n1,1,1,"x\ny\nz"\n2,2,2,"x\ny"\n3,3,3,z\n4,x,4,z\n5,5,5,"x\n"\n'),
    ("(FORMAT csv)", '1,1,1,"x\r\ny"\n2,13,2,x\n'),
    ("(FORMAT csv)", "1,1,1,x\n2,2,2,\"open\n"),
    ("(FORMAT csv, HEADER match)", "aid,bid,filler,balance\n"),
    ("WHERE aid > 5", lines(20, l18="18\t13\t1\tx")),
    ("WHERE aid > 5", lines(20, l3="3\tx\t1\tx")),
    ("WHERE nothing > 5", ""), ("WHERE random()", ""), ("WHERE xmax = 0", lines(1)),
    ("(FORMAT binary)", b"PGCOPY"), ("(FORMAT binary)", b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\x01"),
    ("(DELIMITER 'xx')", ""), ("(QUOTE '.')", ""), ("(FORMAT csv, FORCE_NULL (nothing))", ""), ("(FORMAT nothing)", ""),
])
def test_more_errors_name_the_line(sides, options, data):
    assert isinstance(both_in(sides, f"COPY accounts FROM STDIN {options}", data), tuple)
    assert sum(sides.pair.counts("accounts")) == 0


def test_columns_that_are_refused(sides):
    for columns in ("(aid, nothing)", "(aid, aid)", "(ctid)"):
        both_in(sides, f"COPY accounts {columns} FROM STDIN", "")
        with pytest.raises(psycopg.Error) as ours, sides.ours.cursor().copy(f"COPY accounts {columns} TO STDOUT"):
            pass
        with pytest.raises(psycopg.Error) as plain, sides.plain.cursor().copy(f"COPY accounts {columns} TO STDOUT"):
            pass
        assert ours.value.sqlstate == plain.value.sqlstate


def test_duplicates_name_the_line(sides):
    sides.both("INSERT INTO accounts VALUES (1500)")
    outcome = both_in(sides, "COPY accounts FROM STDIN", lines(2000))
    assert outcome[0] == "23505" and outcome[2] == ["COPY accounts, line 1500"]
    sides.both("INSERT INTO regions VALUES ('r3')")
    both_in(sides, "COPY regions FROM STDIN", "r1\nr2\nr3\n".replace("\n", "\tx\t1\n"))
    assert sides.pair.counts("regions") == [1, 1, 1, 1]


def test_errors_of_our_own(sides):
    state, message, context = copy_in(sides.ours, "COPY days FROM STDIN", "2026-01-01\t1\tx\n2030-01-01\t1\tx\n")
    assert (state, context) == ("23514", ['COPY days, line 2: "2030-01-01\t1\tx"'])
    assert copy_in(sides.ours, "COPY accounts (bid) FROM STDIN", "1\n")[0] == "23502"
    assert copy_in(sides.ours, "COPY accounts FROM STDIN (FREEZE)", "1\t1\t1\tx\n") == "COPY 1"
    assert sides.pair.counts("days") == [0, 0, 0, 0]


def test_privileges(sides, tmp_path):
    sides.ours.execute("CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA shop TO clerk; GRANT INSERT (aid), SELECT (aid) ON accounts TO clerk")
    try:
        with sides.pair.ours("clerk") as clerk:
            assert copy_in(clerk, "COPY accounts (aid) FROM STDIN", "1\n") == "COPY 1"
            assert copy_out(clerk, "COPY accounts (aid) TO STDOUT") == b"1\n"
            assert copy_in(clerk, "COPY accounts FROM STDIN", "")[0] == "42501"
            for statement in (f"COPY accounts (aid) FROM '{tmp_path}/x'", "COPY accounts (aid) FROM PROGRAM 'true'",
                              f"COPY accounts (aid) TO '{tmp_path}/x'", "COPY accounts TO STDOUT", "COPY regions TO STDOUT"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    clerk.execute(statement)
    finally:
        sides.ours.execute("REVOKE ALL ON accounts FROM clerk; REVOKE USAGE ON SCHEMA shop FROM clerk; DROP ROLE clerk")


# -- transactions and failures -------------------------------------------------------------------


def test_transactions(sides):
    for side in (sides.ours, sides.plain):
        side.execute("BEGIN")
        assert copy_in(side, "COPY accounts FROM STDIN", lines(100)) == "COPY 100"
        side.execute("SAVEPOINT a")
        assert copy_in(side, "COPY accounts FROM STDIN", lines(100))[0] == "23505"
        side.execute("ROLLBACK TO a")
        assert copy_in(side, "COPY accounts FROM STDIN", "500\t1\t1\tx\n") == "COPY 1"
        assert side.execute("SELECT count(*) FROM accounts").fetchone() == (101,)
        side.execute("COMMIT")
        side.execute("BEGIN; DELETE FROM accounts")
        assert copy_in(side, "COPY accounts FROM STDIN", lines(10)) == "COPY 10"
        side.execute("ROLLBACK; BEGIN READ ONLY")
        assert copy_in(side, "COPY accounts FROM STDIN", "")[0] == "25006"
        side.execute("ROLLBACK")
    sides.same_rows("accounts")
    assert sum(sides.pair.counts("accounts")) == 101


def test_client_gives_up(sides):
    with pytest.raises(psycopg.errors.QueryCanceled), sides.ours.cursor().copy("COPY accounts FROM STDIN") as copy:
        copy.write(lines(5000))
        raise ValueError("no more")
    assert sum(sides.pair.counts("accounts")) == 0
    assert copy_in(sides.ours, "COPY accounts FROM STDIN", lines(10)) == "COPY 10"


def idle_shards(pair):
    """Sessions of shards that do something, or have a transaction open."""
    with pair.shards.connect("s1") as connection:
        return connection.execute("SELECT array_agg(query) FROM pg_stat_activity WHERE datname LIKE 's_' AND pid <> pg_backend_pid() "
                                  "AND state <> 'idle'").fetchone()[0]


def test_client_is_gone(sides):
    with sides.pair.ours() as connection:
        backend = process.look(connection.info.backend_pid)
        connection.pgconn.exec_(b"COPY accounts FROM STDIN")
        connection.pgconn.put_copy_data(lines(5000).encode())
        connection.pgconn.flush()
        os.close(os.dup(connection.fileno()))
        connection.close()
    wait_until("backend ends", backend.alive, 10, until=lambda alive: not alive)
    wait_until("shards are idle", lambda: idle_shards(sides.pair), 10, until=lambda busy: busy is None)
    assert sum(sides.pair.counts("accounts")) == 0


def test_cancel(sides):
    with sides.ours.cursor() as cursor, pytest.raises(psycopg.errors.QueryCanceled), cursor.copy("COPY accounts FROM STDIN") as copy:
        copy.write(lines(5000))
        with sides.pair.ours() as other:
            other.execute("SELECT pg_cancel_backend(%s)", (sides.ours.info.backend_pid,))
        for _ in range(1000):
            copy.write(lines(1000))
    wait_until("shards are idle", lambda: idle_shards(sides.pair), 10, until=lambda busy: busy is None)
    assert sum(sides.pair.counts("accounts")) == 0
    sides.both("INSERT INTO accounts VALUES (1)")


def test_shard_backend_is_killed(sides):
    def killing():
        yield lines(30000)
        with sides.pair.shards.connect("s2") as connection:
            found = wait_until("COPY on the shard", lambda: connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = 's2' AND state = 'active' AND query LIKE '%COPY accounts%'").fetchall(), 10)
            for (pid,) in found:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        yield "".join(f"{i}\t1\t1\tx\n" for i in range(30001, 100000))

    state, message, _ = copy_in(sides.ours, "COPY accounts FROM STDIN", killing())
    assert state[:2] in ("08", "57"), message
    wait_until("shards are idle", lambda: idle_shards(sides.pair), 10, until=lambda busy: busy is None)
    assert sum(sides.pair.counts("accounts")) == 0
    assert copy_in(sides.ours, "COPY accounts FROM STDIN", lines(100)) == "COPY 100"


def test_memory_is_bounded(sides):
    """Rows of 20 MB altogether: the server's process does not grow by as much."""

    def resident():
        with open(f"/proc/{sides.ours.info.backend_pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    def checked():
        for i in range(200):
            yield "".join(f"{i * 1000 + j}\t1\t1\t{'x' * 90}\n" for j in range(1000))

    assert copy_in(sides.ours, "COPY accounts FROM STDIN", lines(10, l1="1000000\t1\t1\tx")) == "COPY 10"
    before = resident()
    sides.ours.execute("DELETE FROM accounts")
    assert copy_in(sides.ours, "COPY accounts FROM STDIN", checked()) == "COPY 200000"
    assert resident() - before < 10 * 1024
    with sides.ours.cursor().copy("COPY accounts TO STDOUT") as out:
        assert sum(len(chunk) for chunk in out) > 20_000_000
    assert resident() - before < 12 * 1024


def test_truncate(sides):
    sides.both("INSERT INTO accounts SELECT generate_series(1, 100)")
    sides.both("INSERT INTO regions VALUES ('n')")
    sides.both("BEGIN")
    sides.both("TRUNCATE accounts, regions")
    sides.both("SELECT count(*) FROM accounts")
    sides.both("ROLLBACK")
    sides.same_rows("accounts")
    sides.both("TRUNCATE accounts, regions")
    assert sides.pair.counts("accounts") + sides.pair.counts("regions") == [0] * 8
