"""Line coverage of a folder of sources, from the counters that a run of the unit tests left behind.

Sources are compiled once a program that uses them: a line counts as covered when any of them ran it.

Usage: coverage.py BUILD-DIRECTORY SOURCE-FOLDER [LEAST-PERCENT]
"""

import gzip
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path


def measure(build, folder):
    """{source: {line: times}} for the sources in folder."""
    top = Path.cwd()
    lines = defaultdict(lambda: defaultdict(int))
    notes = sorted(Path(build).rglob("*.gcda"))
    with tempfile.TemporaryDirectory() as scratch:
        for note in notes:
            subprocess.run(
                ["gcov", "--json-format", "--object-directory", str(note.resolve().parent), str(note.resolve())],
                cwd=scratch, check=True, capture_output=True,
            )  # fmt: skip
            for report in Path(scratch).glob("*.gcov.json.gz"):
                with gzip.open(report) as f:
                    data = json.load(f)
                report.unlink()
                for file in data["files"]:
                    path = (Path(data["current_working_directory"]) / file["file"]).resolve()
                    if path.is_relative_to(top / folder):
                        for line in file["lines"]:
                            lines[str(path.relative_to(top))][line["line_number"]] += line["count"]
    return lines


def main(args):
    if len(args) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    least = float(args[2]) if len(args) == 3 else 0.0
    lines = measure(args[0], args[1])
    covered = total = 0
    for path, counts in sorted(lines.items()):
        ran = sum(1 for count in counts.values() if count)
        covered, total = covered + ran, total + len(counts)
        print(f"{100 * ran / len(counts):6.1f} %  {ran:5d} of {len(counts):5d}  {path}")
    if not total:
        print(f"coverage: no counters for {args[1]} in {args[0]}", file=sys.stderr)
        return 1
    percent = 100 * covered / total
    print(f"coverage: {percent:.1f} % of {total} lines in {args[1]}")
    return 0 if percent >= least else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
