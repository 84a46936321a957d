"""Writes docs/manifest.schema.json from the schema in sql/api/manifest_schema.sql, which is its only source; with --check it
only tells whether the file is stale. Run by `make manifest-schema`, and with --check by `make lint`.
"""

import json
import re
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
SOURCE = REPO / "sql" / "api" / "manifest_schema.sql"
TARGET = REPO / "docs" / "manifest.schema.json"


def schema_text():
    """The schema as JSON in the order of its source."""
    quoted = re.search(r"\$schema\$(.*?)\$schema\$", SOURCE.read_text(), re.S)
    if quoted is None:
        sys.exit(f"{SOURCE}: no schema between $schema$")
    return json.dumps(json.loads(quoted[1]), indent=2, ensure_ascii=False) + "\n"


def main():
    wanted = schema_text()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(wanted)
    elif not TARGET.exists() or TARGET.read_text() != wanted:
        sys.exit("docs/manifest.schema.json is stale: run \"make manifest-schema\"")


if __name__ == "__main__":
    main()
