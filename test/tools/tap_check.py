"""Says whether outputs of regression tests are whole and free of failures.

pg_regress compares text only: a psql that died agrees with an expectation that was recorded when it died too, and
an accepted "not ok" agrees for ever. A pgTAP output must therefore hold its full plan. Used by test/tools/regress
on results and expectations, and by test/tools/ack before it accepts anything.

Usage: tap_check.py --kind sql|iso SOURCE OUTPUT...
"""

import re
import sys

PLAN = re.compile(r"^\s*1\.\.(\d+)\s*$")
RESULT = re.compile(r"^\s*(not )?ok (\d+)\b")
COMPLAINT = re.compile(r"^\s*# (Looks like you|No plan found|No tests run)")
# psql repeats its input, so these are looked for only at the start of a line of output.
LOST = re.compile(
    r"^(server closed the connection unexpectedly|connection to server was lost|"
    r"psql:.*(error: connection|could not connect)|FATAL:  (terminating connection|the database system is)|"
    r"WARNING:  terminating connection because of crash)"
)
USES_TAP = re.compile(r"\b(no_plan|plan)\s*\(", re.IGNORECASE)


def problems(source, output, kind="sql"):
    """What is wrong with one output, as a list of sentences."""
    found = []
    planned, passed, plans = 0, 0, 0
    if not output.strip():
        return ["it is empty"]
    for number, line in enumerate(output.splitlines(), 1):
        if LOST.match(line):
            found.append(f"line {number}: the connection was lost: {line.strip()}")
        if kind != "sql":
            continue
        plan, result = PLAN.match(line), RESULT.match(line)
        if plan:
            plans += 1
            planned += int(plan[1])
        elif result and result[1]:
            found.append(f"line {number}: {line.strip()}")
        elif result:
            passed += 1
        elif COMPLAINT.match(line):
            found.append(f"line {number}: {line.strip()}")
    if kind == "sql" and (plans or USES_TAP.search(source)):
        if not plans:
            found.append("it has no plan (1..N), though the test calls plan()")
        if passed != planned:
            found.append(f"{planned} assertions planned, {passed} passed")
    return found


def main(args):
    if len(args) < 4 or args[0] != "--kind" or args[1] not in ("sql", "iso"):
        print(__doc__, file=sys.stderr)
        return 2
    with open(args[2], encoding="utf-8", errors="replace") as f:
        source = f.read()
    bad = False
    for path in args[3:]:
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                found = problems(source, f.read(), args[1])
        except OSError as error:
            found = [f"it cannot be read: {error.strerror}"]
        for problem in found:
            bad = True
            print(f"{path}: {problem}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
