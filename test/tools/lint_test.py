"""Tests of lint.py and tap_check.py: every rule finds a snippet made to break it, and leaves a good one alone.

Run by `make lint` before the linter itself, from its own directory.
"""

import tempfile
import unittest
from pathlib import Path

import lint
import tap_check

OPENING = "/*\n * name.c\n *\t\tWhat it owns.\n */\n"
CONTROL = {"Makefile": "A67_VERSION := 1.2.3\n", "a67.control": "default_version = '1.2.3'\n"}


def found(rule, files):
    """The findings of one rule in a tree of these files, as `path:line`."""
    with tempfile.TemporaryDirectory() as top:
        for name, text in files.items():
            path = Path(top, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return [f"{path}:{line}" for path, line, _ in rule(lint.Tree(top))]


def function(lines, parameters="void"):
    return "static int\nlong_one(" + parameters + ")\n{\n" + "\treturn 0;\n" * lines + "}\n"


class Layers(unittest.TestCase):
    HEADERS = {
        "src/core/ring.h": "", "src/core/http/conn.h": "", "src/platform/shmem.h": "", "src/crypto/jwt.h": "",
        "src/registry/live.h": "", "bgworker/worker.h": "", "agent/state.h": "",
    }  # fmt: skip

    def check(self, path, include, bad):
        files = {**self.HEADERS, path: f"#include {include}\n"}
        self.assertEqual(found(lint.layers, files), [f"{path}:1"] if bad else [], f"{include} in {path}")

    def test_upward(self):
        self.check("src/core/a.c", '"platform/shmem.h"', True)
        self.check("src/platform/a.c", '"crypto/jwt.h"', True)
        self.check("src/crypto/a.c", '"registry/live.h"', True)
        self.check("src/registry/a.c", '"worker.h"', True)
        self.check("src/platform/a.c", '"../../bgworker/worker.h"', True)

    def test_downward(self):
        self.check("src/platform/a.c", '"core/ring.h"', False)
        self.check("src/registry/a.c", '"platform/shmem.h"', False)
        self.check("bgworker/a.c", '"crypto/jwt.h"', False)
        self.check("src/init.c", '"worker.h"', False)
        self.check("src/core/http/a.c", '"../ring.h"', False)
        self.check("src/core/http/a.c", '"conn.h"', False)

    def test_core_is_libc_only(self):
        self.check("src/core/a.c", '"postgres.h"', True)
        self.check("src/core/a.c", "<postgres.h>", True)
        self.check("src/core/a.c", "<jansson.h>", True)
        self.check("src/core/a.c", "<openssl/ssl.h>", True)
        self.check("src/core/http/a.c", "<openssl/ssl.h>", False)
        self.check("src/core/a.c", "<stdint.h>", False)
        self.check("src/core/a.c", "<sys/epoll.h>", False)

    def test_agent(self):
        self.check("agent/a.c", '"postgres.h"', True)
        self.check("agent/a.c", "<postgres.h>", True)
        self.check("agent/a.c", '"crypto/jwt.h"', True)
        self.check("agent/a.c", '"worker.h"', True)
        self.check("agent/a.c", '"state.h"', False)
        self.check("agent/a.c", '"core/ring.h"', False)
        self.check("agent/a.c", "<archive.h>", False)

    def test_postgres_headers_are_free_elsewhere(self):
        self.check("src/registry/a.c", '"storage/lwlock.h"', False)

    def test_comment_is_no_include(self):
        self.check("src/core/a.c", '<stdint.h>\n/*\n#include "postgres.h"\n*/', False)


class Sources(unittest.TestCase):
    def test_banned_calls(self):
        for name in lint.BANNED:
            with self.subTest(name):
                self.assertEqual(found(lint.banned_calls, {"src/a.c": f"\n\t{name} (x);\n"}), ["src/a.c:2"])
        self.assertEqual(found(lint.banned_calls, {"agent/a.c": "strcpy(a, b);\n"}), ["agent/a.c:1"])

    def test_banned_words_elsewhere(self):
        good = '/* strcpy(a, b) */\nputs("system(x)");\nmy_sleep(1);\nclock->sleep(1);\nsnprintf(a, 1, "x");\n'
        self.assertEqual(found(lint.banned_calls, {"src/a.c": good}), [])

    def test_function_length(self):
        self.assertEqual(found(lint.function_length, {"src/a.c": function(61)}), ["src/a.c:3"])
        self.assertEqual(found(lint.function_length, {"src/a.c": function(60)}), [])

    def test_tables_may_be_long(self):
        table = "static const int rows[] =\n{\n" + "\t1,\n" * 100 + "};\n"
        self.assertEqual(found(lint.function_length, {"src/a.c": table}), [])

    def test_brace_in_string_does_not_end_a_function(self):
        text = 'int\nf(void)\n{\n\tputs("}");\n' + "\tg();\n" * 60 + "}\n"
        self.assertEqual(found(lint.function_length, {"src/a.c": text}), ["src/a.c:3"])

    def test_parameters(self):
        self.assertEqual(found(lint.parameters, {"src/a.c": function(1, "int a, int b, int c, int d, int e, int f")}), ["src/a.c:3"])
        self.assertEqual(found(lint.parameters, {"src/a.c": function(1, "int a, int b, int c, int d, int (*e)(int, int)")}), [])
        six = function(1, "int a, int b, int c, int d, int e, int f")
        self.assertEqual(found(lint.parameters, {"src/a.c": six + "\n\tSome_hook = long_one;\n"}), [])
        self.assertEqual(found(lint.parameters, {"src/a.c": six + "\n\tsome_hook = g;\n"}), ["src/a.c:3"])
        self.assertEqual(found(lint.parameters, {"src/a.c": six + "\n\troutine->Do = long_one;\n"}), [])
        self.assertEqual(found(lint.parameters, {"src/a.c": six, "src/b.c": "\t.PlanCustomPath = long_one,\n"}), [])

    def test_file_length(self):
        self.assertEqual(found(lint.file_length, {"src/a.c": "\n" * 601}), ["src/a.c:601"])
        self.assertEqual(found(lint.file_length, {"src/a.h": "\n" * 151}), ["src/a.h:151"])
        self.assertEqual(found(lint.file_length, {"sql/api/a.sql": "\n" * 601}), ["sql/api/a.sql:601"])
        self.assertEqual(found(lint.file_length, {"src/a.c": "\n" * 600, "test/release/a.sql": "\n" * 900}), [])

    def test_opening(self):
        self.assertEqual(found(lint.opening, {"src/a.c": "#include <stdio.h>\n"}), ["src/a.c:1"])
        self.assertEqual(found(lint.opening, {"src/a.c": "/* short */\nint x;\n"}), ["src/a.c:1"])
        self.assertEqual(found(lint.opening, {"src/a.h": "/*\n" + " * x\n" * 30 + " */\n"}), ["src/a.h:1"])
        self.assertEqual(found(lint.opening, {"sql/api/a.sql": "SELECT 1;\n"}), ["sql/api/a.sql:1"])
        self.assertEqual(found(lint.opening, {"src/a.c": OPENING, "sql/api/a.sql": "-- What it holds.\n"}), [])

    def test_marks(self):
        for mark in ("TO" "DO", "FIX" "ME", "XX" "X", "HA" "CK"):
            self.assertEqual(found(lint.marks, {"src/a.c": f"/* {mark}: later */\n"}), ["src/a.c:1"])
        self.assertEqual(found(lint.marks, {"test/a.sh": "mktemp /tmp/a-XXXX" "XX\n"}), [])

    def test_machine_paths(self):
        self.assertEqual(found(lint.machine_paths, {"docs/a.md": "see /wo" "rk/main/x\n"}), ["docs/a.md:1"])
        self.assertEqual(found(lint.machine_paths, {"test/a.py": "x = '/home/" "anna/x'\n"}), [])
        self.assertEqual(found(lint.machine_paths, {"docs/a.md": "in /home/" "anna/x\n"}), ["docs/a.md:1"])
        self.assertEqual(found(lint.machine_paths, {"docs/a.md": "$run/wo" "rk/x and /tmp/x\n"}), [])

    def test_sleeping_tests(self):
        self.assertEqual(found(lint.sleeping_tests, {"test/e2e/test_a.py": "time.sl" "eep(1)\n"}), ["test/e2e/test_a.py:1"])
        self.assertEqual(found(lint.sleeping_tests, {"test/specs/a.spec": "SELECT pg_sl" "eep(1)\n"}), ["test/specs/a.spec:1"])
        self.assertEqual(found(lint.sleeping_tests, {lint.WAITING: "time.sl" "eep(1)\n"}), [])


class Project(unittest.TestCase):
    def test_settings(self):
        code = 'DefineCustomIntVariable("a67.port",\n"a67.host is text");\n'
        self.assertEqual(found(lint.settings, {"src/a.c": code}), ["src/a.c:1"])
        self.assertEqual(found(lint.settings, {"src/a.c": code, "docs/settings.md": "| `a67.port` | x |\n"}), [])
        both = "| `a67.port` | x |\n| `a67.gone` | y |\n"
        self.assertEqual(found(lint.settings, {"src/a.c": code, "docs/settings.md": both}), ["docs/settings.md:2"])

    def test_routes(self):
        code = '\t{GET, V1 "a", KIND(SQL), CLOSED, "a_list", 0},\n\t{POST, V1 "a/x", KIND(SQL), CLOSED, "a_x", 0},\n'
        code += '\t{GET, "/rpc/{function}", KIND(RPC), OPEN, NULL, 0},\n'
        code += '\t{POST, V1 "a/y", KIND(SQL), CLOSED, "a_y", 0},\n'
        table = "| `GET /api/v1/a` | `a_list` | – | 200 |\n| `POST /api/v1/a/x`, `…/y` | `a_x`, `a_y` | user | 200 |\n"
        table += "| `GET /rpc/FUNCTION` | a67.FUNCTION | – | 200 |\n"
        source, docs = "bgworker/listener/routes.c", "docs/api.md"
        self.assertEqual(found(lint.routes, {source: code, docs: table}), [])
        self.assertEqual(found(lint.routes, {source: code, docs: table.replace(", `…/y`", "")}), [source + ":4"])
        self.assertEqual(found(lint.routes, {source: code, docs: table.replace("`a_list`", "`b_list`")}), [docs + ":1"])
        gone = table + "| `DELETE /api/v1/a` | `a_remove` | user | 204 |\n"
        self.assertEqual(found(lint.routes, {source: code, docs: gone}), [docs + ":4"])

    def test_event_types(self):
        sql = "\nPERFORM a67_internal._event(f(a), 'node.gone', b);\nPERFORM _vault_event('vault.lost', '{}');\n"
        message = {"bgworker/listener/message.c": 'x = "node.gone", "vault.lost";', "docs/websocket.md": "`node.gone`, `vault.lost`"}
        self.assertEqual(found(lint.event_types, {"sql/api/a.sql": sql}), ["sql/api/a.sql:2", "sql/api/a.sql:3"])
        self.assertEqual(found(lint.event_types, {"sql/api/a.sql": sql, **message}), [])
        message["docs/websocket.md"] = "`vault.lost`"
        self.assertEqual(found(lint.event_types, {"sql/api/a.sql": sql, **message}), ["sql/api/a.sql:2"])

    def test_error_codes(self):
        self.assertEqual(found(lint.error_codes, {"src/errors.h": "MAKE_SQLSTATE('6','7','0','0','1')"}), ["src/errors.h:1"])
        self.assertEqual(found(lint.error_codes, {"src/errors.h": "MAKE_SQLSTATE('P', 'T', '4', '0', '9')"}), ["src/errors.h:1"])
        self.assertEqual(found(lint.error_codes, {"sql/api/a.sql": "\nUSING ERRCODE = '67003'"}), ["sql/api/a.sql:2"])
        self.assertEqual(found(lint.error_codes, {"sql/api/a.sql": "ERRCODE = '22023'"}), [])
        self.assertEqual(found(lint.error_codes, {"sql/api/a.sql": "ERRCODE = '67003'", "docs/errors.md": "67003"}), [])

    def test_version(self):
        self.assertEqual(found(lint.version, CONTROL), [])
        self.assertEqual(found(lint.version, {**CONTROL, "a67.control": "default_version = '1.2.4'\n"}), ["a67.control:1"])
        self.assertEqual(found(lint.version, {}), ["a67.control:1"])

    def test_sql_modules(self):
        makefile = "SQL_SCHEMA := $(addprefix sql/schema/, \\\n\ta.sql \\\n)\nSQL_API := $(addprefix sql/api/, \\\n)\n"
        self.assertEqual(found(lint.sql_modules, {"Makefile": makefile, "sql/schema/a.sql": ""}), [])
        self.assertEqual(found(lint.sql_modules, {"Makefile": makefile}), ["Makefile:1"])
        files = {"Makefile": makefile, "sql/schema/a.sql": "", "sql/api/b.sql": ""}
        self.assertEqual(found(lint.sql_modules, files), ["sql/api/b.sql:1"])

    def test_definer(self):
        bad = "\nCREATE FUNCTION f(a int) RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1; $$;\n"
        self.assertEqual(found(lint.definer, {"sql/api/a.sql": bad}), ["sql/api/a.sql:2"])
        good = bad.replace("DEFINER", "DEFINER SET search_path = pg_catalog")
        self.assertEqual(found(lint.definer, {"sql/api/a.sql": good + "-- SECURITY DEFINER\n"}), [])

    def test_api_repeats(self):
        self.assertEqual(found(lint.api_repeats, {"sql/api/a.sql": "-- x\nCREATE TABLE a (b int);\n"}), ["sql/api/a.sql:2"])
        self.assertEqual(found(lint.api_repeats, {"sql/api/a.sql": "SELECT 1;\nCREATE FUNCTION f();\n"}), ["sql/api/a.sql:2"])
        good = "CREATE OR REPLACE FUNCTION f() AS $x$\nCREATE TABLE a (b int);\n$x$;\n"
        self.assertEqual(found(lint.api_repeats, {"sql/api/a.sql": good, "sql/schema/a.sql": "CREATE TABLE a ();\n"}), [])

    def test_every_rule_is_tested(self):
        tests = {name for case in (Sources, Project) for name in dir(case)}
        for rule in lint.RULES:
            self.assertTrue(rule is lint.layers or f"test_{rule.__name__}" in tests, rule.__name__)


class TapCheck(unittest.TestCase):
    SOURCE = "SELECT plan(2);\n"

    def bad(self, output, source=SOURCE, kind="sql"):
        self.assertTrue(tap_check.problems(source, output, kind), output)

    def test_whole(self):
        self.assertEqual(tap_check.problems(self.SOURCE, "SELECT plan(2);\n 1..2\n ok 1 - a\n ok 2 - b\n"), [])

    def test_two_plans_in_one_file(self):
        self.assertEqual(tap_check.problems(self.SOURCE, "1..1\nok 1\n1..2\nok 1\nok 2\n"), [])

    def test_plan_at_the_end(self):
        self.assertEqual(tap_check.problems("SELECT no_plan();", "ok 1\nok 2\n1..2\n"), [])

    def test_broken(self):
        self.bad("1..2\nok 1\n")
        self.bad("1..2\nok 1\nnot ok 2\n")
        self.bad("1..2\nok 1\n not ok 2 - x\n")
        self.bad("1..1\nok 1\nok 2\n")
        self.bad("SELECT plan(2);\nERROR:  function plan(integer) does not exist\n")
        self.bad("1..2\nok 1\nok 2\n# Looks like you failed 1 test of 2\n")
        self.bad("")
        self.bad("1..2\nok 1\nok 2\nserver closed the connection unexpectedly\n")
        self.bad("step a: SELECT 1;\nFATAL:  terminating connection due to administrator command\n", kind="iso")

    def test_plain_outputs(self):
        self.assertEqual(tap_check.problems("SELECT 1;", "SELECT 1;\n 1\n"), [])
        self.assertEqual(tap_check.problems("", "step a: SELECT 1;\n", "iso"), [])


if __name__ == "__main__":
    unittest.main(verbosity=0)
