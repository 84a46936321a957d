"""Runs statements on both sides and compares what comes back.

A case is a list of statements that run in one transaction each side, which is rolled back. Of every statement the columns (names
and types), the rows, the count of changed rows and the SQLSTATE are compared: of errors the class, because which of several
errors comes first is not defined. Rows are a bag unless the statement says what their order is.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import pq

REFUSED = "0A000"
# Digits of floats that count: sums in another order differ in the last ones.
DIGITS = 9


@dataclass
class Case:
    """Statements of one block of a file; flags are words of its comment after `--:`."""

    name: str
    statements: list
    flags: set = field(default_factory=set)


@dataclass
class Outcome:
    """What one statement did on one side."""

    columns: list
    rows: list
    status: str
    sqlstate: str = ""
    message: str = ""

    def same_as(self, other, ordered):
        """An error is the same as one of its class; where the plain database has an error, a refusal is as good. What the plain
        one itself refuses (some full joins) it cannot judge."""
        if other.sqlstate == REFUSED:
            return True
        if self.sqlstate or other.sqlstate:
            return bool(self.sqlstate and other.sqlstate) and self.sqlstate[:2] in (other.sqlstate[:2], REFUSED[:2])
        ours, theirs = self.rows, other.rows
        if not ordered:
            ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
        return self.columns == other.columns and self.status == other.status and ours == theirs


def read_cases(path):
    """Blocks of a file, separated by empty lines. Statements end with a semicolon at the end of a line."""
    cases = []
    for number, block in enumerate(re.split(r"\n\s*\n", Path(path).read_text(encoding="utf-8").strip()), 1):
        flags = set(" ".join(re.findall(r"^--:(.*)$", block, re.M)).split())
        text = re.sub(r"^--.*$", "", block, flags=re.M)
        statements = [one.strip() for one in re.split(r";\s*$", text, flags=re.M) if one.strip()]
        if statements:
            cases.append(Case(f"{Path(path).stem}:{number}", statements, flags))
    return cases


FLOATS = {700, 701}


def _value(text, oid):
    """A value as PostgreSQL writes it; of floats the digits that count."""
    if text is None:
        return None
    text = text.decode()
    if oid in FLOATS:
        number = float(text)
        return f"{number:.{DIGITS}g}" if math.isfinite(number) and number else text.lstrip("-") if number == 0 else text
    return text


class Side:
    """One of the two databases: a connection that every statement runs on."""

    def __init__(self, connect):
        self.connection = connect()
        self.names = {}

    def close(self):
        self.connection.close()

    def type_name(self, oid):
        """Types by name: those that users made have other oids on the other side."""
        if oid not in self.names:
            self.names[oid] = self.connection.execute("SELECT format_type(%s, NULL)", (oid,)).fetchone()[0]
        return self.names[oid]

    def begin(self):
        self.connection.execute("BEGIN")

    def rollback(self):
        self.connection.execute("ROLLBACK")

    def run(self, statement):
        """The outcome of a statement, sent as psql sends it."""
        result = self.connection.pgconn.exec_(statement.encode())
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) or b"08006"
            return Outcome([], [], "", sqlstate.decode(), result.error_message.decode().strip())
        oids = [result.ftype(column) for column in range(result.nfields)]
        rows = [tuple(_value(result.get_value(row, column), oid) for column, oid in enumerate(oids)) for row in range(result.ntuples)]
        columns = [(result.fname(column).decode(), self.type_name(oid)) for column, oid in enumerate(oids)]
        return Outcome(columns, rows, result.command_status.decode())


def is_ordered(statement, flags=()):
    """Whether a statement claims a total order: cases with the flag `ordered`."""
    return "ordered" in flags and re.match(r"\s*(select|with|values|table|fetch|execute)\b", statement, re.I) is not None


def differences(case, ours, plain):
    """Lines that tell how a case differs; none when all is equal. The second value says whether a67 refused it."""
    found, refused = [], False
    ours.begin()
    plain.begin()
    try:
        for statement in case.statements:
            one, other = ours.run(statement), plain.run(statement)
            if one.sqlstate == REFUSED and not other.sqlstate:
                refused = True
                found.append(f"{case.name}: refused: {one.message}\n    {statement}")
                break
            if not one.same_as(other, is_ordered(statement, case.flags)):
                found.append(_describe(case, statement, one, other))
                break
            if one.sqlstate and "goes-on" not in case.flags:
                break
    finally:
        ours.rollback()
        plain.rollback()
    return found, refused


def _describe(case, statement, one, other):
    def side(outcome):
        if outcome.sqlstate:
            return f"error {outcome.sqlstate}: {outcome.message}"
        return f"{outcome.status} {outcome.columns} {sorted(outcome.rows, key=repr)[:8]}"

    missing = [row for row in other.rows if row not in one.rows][:5]
    extra = [row for row in one.rows if row not in other.rows][:5]
    return (f"{case.name}\n    {statement}\n  a67:   {side(one)}\n  plain: {side(other)}\n  missing {missing}\n  extra {extra}")


def summary(problems):
    """What a failed test says."""
    return f"{len(problems)} differences\n" + "\n\n".join(problems[:20])
