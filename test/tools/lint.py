"""The project's own rules of style, those that compilers and clang's tools cannot know.

Prints one line a finding, `path:line: rule: message`, and exits 1 if there is any. Each rule is a function that
takes the Tree and yields findings; RULES lists them, lint_test.py shows that each one bites.

Usage: lint.py [DIRECTORY], the repository when none is given
"""

import os
import re
import sys

FUNCTION_LINES = 60
FILE_LINES = 600
HEADER_LINES = 150
PARAMETERS = 5
OPENING_LINES = range(3, 21)  # 3 to 15 lines of text, and what the comment's frame adds

# A module may include its own headers and those of a lower rank; equals do not know each other.
RANKS = {
    "core": 0, "platform": 1, "crypto": 2, "registry": 2, "net": 3, "router": 4, "storage": 4,
    "bgworker": 5, "init": 6,
}  # fmt: skip
LIBC = set(
    "assert ctype dirent dlfcn endian errno fcntl fenv float fnmatch getopt glob grp ifaddrs inttypes langinfo "
    "libgen limits locale math netdb poll pwd sched search semaphore setjmp signal spawn stdalign stdarg stdatomic "
    "stdbool stddef stdint stdio stdlib stdnoreturn string strings syslog termios time unistd utime wchar wctype".split()
)
LIBC_FOLDERS = ("sys/", "netinet/", "arpa/", "net/", "linux/")
HTTP_LIBRARIES = ("openssl/", "wslay/")

BANNED = "strcpy strcat sprintf vsprintf atoi atol atof strtok system sleep usleep pg_usleep gets".split()
# The one place where tests wait: for a condition, with a cap.
WAITING = "test/cloud/wait.py"
# These speak of the marks that they look for.
ABOUT_MARKS = ("test/tools/lint.py", "test/tools/lint_test.py")

SKIPPED = {".git", ".demo", "build", "expected", "node_modules", "__pycache__", "dist", ".pytest_cache"}
SOURCES = (".c", ".h", ".sql", ".py", ".sh", ".spec", ".ts", ".tsx", ".css", ".md", ".conf", ".map", ".yml", ".control")


class Tree:
    """The files of a repository, read once: {path from its top: text}."""

    def __init__(self, top):
        self.files = {}
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(set(folders) - SKIPPED)
            for name in sorted(names):
                path = os.path.join(folder, name)
                short = os.path.relpath(path, top)
                plain = name.endswith(SOURCES) or "." not in name
                if plain and not os.path.islink(path) and not short.startswith("test/fuzz/corpus"):
                    with open(path, encoding="utf-8", errors="replace") as f:
                        self.files[short] = f.read()

    def pick(self, folders, suffixes):
        """(path, text) of the files below folders ('' is everywhere) that end in one of suffixes."""
        for path, text in self.files.items():
            if path.endswith(suffixes) and (not folders or path.split("/")[0] in folders):
                yield path, text

    def c_files(self):
        return self.pick(("src", "bgworker", "agent"), (".c", ".h"))


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def blank_c(text, strings=True):
    """C source with its comments (and the contents of its strings) turned into spaces; lines stay in place."""

    def spaces(match):
        found = match[0]
        if found[0] == "/":
            return re.sub(r"[^\n]", " ", found)
        return found[0] + " " * (len(found) - 2) + found[-1] if strings else found

    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", spaces, text, flags=re.S)


def blank_sql(text):
    """SQL with its comments turned into spaces."""
    return re.sub(r"--[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def module_of(path):
    """The layer that a file belongs to, or None."""
    parts = path.split("/")
    if parts[0] in ("bgworker", "agent"):
        return parts[0]
    if parts[0] == "src":
        if len(parts) == 2:
            return "init" if parts[1] == "init.c" else "platform"
        return parts[1]
    return None


def resolve(tree, path, name):
    """The file of ours that `#include "name"` means in path, or None."""
    for folder in (os.path.dirname(path), "src", "bgworker", "agent"):
        candidate = os.path.normpath(os.path.join(folder, name))
        if candidate in tree.files:
            return candidate
    return None


def bad_include(tree, path, quote, name):
    """Why path may not include name, or None."""
    module = module_of(path)
    target = resolve(tree, path, name) if quote == '"' else None
    if quote == "<":
        if module != "core":
            return "the agent knows nothing of PostgreSQL" if module == "agent" and "postgres" in name else None
        allowed = name.removesuffix(".h") in LIBC or name.startswith(LIBC_FOLDERS)
        if path.startswith("src/core/http/"):
            allowed = allowed or name.startswith(HTTP_LIBRARIES)
        return None if allowed else "core includes libc only"
    if module in ("core", "agent"):
        if target is None:
            return f"{module} includes no header from outside (or it does not exist)"
        if module_of(target) not in ("core", module):
            return f"{module} does not include {module_of(target)}"
        return None
    if target is None or module_of(target) == module:
        return None
    mine, other = RANKS.get(module), RANKS.get(module_of(target))
    if mine is None or other is None:
        return f"{module} and {module_of(target)} have no common rank"
    return None if other < mine else f"{module} does not include {module_of(target)}: that points up"


def layers(tree):
    for path, text in tree.c_files():
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', blank_c(text, strings=False), re.M):
            why = bad_include(tree, path, match[1], match[2])
            if why:
                yield path, line_of(text, match.start()), f"includes {match[2]}: {why}"


def banned_calls(tree):
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for path, text in tree.pick(("src", "bgworker", "agent", "test"), (".c", ".h")):
        for match in pattern.finditer(blank_c(text)):
            yield path, line_of(text, match.start()), f"calls {match[1]}()"


def functions(text):
    """(name, number of parameters, first line, lines of the body) of each function defined in C source."""
    code = blank_c(text)
    # pgindent's look: a body's braces, and only they, stand alone in the first column.
    for match in re.finditer(r"^\{\n(.*?)^\}", code, re.M | re.S):
        head = code[: match.start()].rstrip()
        if not head.endswith(")"):
            continue
        depth, at = 0, len(head)
        while at > 0:
            at -= 1
            depth += {")": 1, "(": -1}.get(head[at], 0)
            if depth == 0:
                break
        inside = head[at + 1 : -1]
        name = re.search(r"(\w+)\s*$", head[:at])
        depth, commas = 0, 0
        for char in inside:
            depth += {"(": 1, ")": -1}.get(char, 0)
            commas += char == "," and depth == 0
        count = 0 if inside.strip() in ("", "void") else commas + 1
        yield name[1] if name else "?", count, line_of(code, match.start()), match[1].count("\n")


def function_length(tree):
    for path, text in tree.pick(("src", "bgworker", "agent", "test"), (".c",)):
        for name, _, line, length in functions(text):
            if length > FUNCTION_LINES:
                yield path, line, f"{name}() has {length} lines, {FUNCTION_LINES} are allowed"


def parameters(tree):
    files = list(tree.pick(("src", "bgworker", "agent"), (".c",)))
    # What is assigned to a hook of the server or a routine of a wrapper has the signature that the server wants.
    hooks = {name for _, text in files for name in re.findall(r"(?:\w+_hook|routine->\w+|\*sample|\.PlanCustomPath) = (\w+)[;,]", text)}
    for path, text in files:
        for name, count, line, _ in functions(text):
            if count > PARAMETERS and name not in hooks:
                yield path, line, f"{name}() has {count} parameters, {PARAMETERS} are allowed: use a struct"


def file_length(tree):
    for path, text in tree.pick((), (".c", ".h", ".sql", ".py", ".ts", ".tsx")):
        limit = HEADER_LINES if path.endswith(".h") else FILE_LINES
        lines = text.count("\n")
        # A frozen release is what it was.
        if lines > limit and not path.startswith("test/release/"):
            yield path, lines, f"has {lines} lines, {limit} are allowed"


def opening(tree):
    """Each source says first what it owns or decides."""
    for path, text in tree.c_files():
        match = re.match(r"/\*.*?\*/", text, re.S)
        lines = match[0].count("\n") + 1 if match else 0
        if lines not in OPENING_LINES:
            yield path, 1, f"opens with a comment of {lines} lines, 3 to 15 are wanted"
    for path, text in tree.pick(("sql",), (".sql",)):
        if not text.startswith("--"):
            yield path, 1, "does not open with a comment"


def settings(tree):
    """Every setting of the library is explained in docs/settings.md, and nothing else is."""
    declared, documented = {}, tree.files.get("docs/settings.md", "")
    for path, text in tree.c_files():
        if "DefineCustom" in text:
            for match in re.finditer(r'"(a67\.[a-z0-9_]+)"', blank_c(text, strings=False)):
                declared.setdefault(match[1], (path, line_of(text, match.start())))
    for name, (path, line) in declared.items():
        if f"`{name}`" not in documented:
            yield path, line, f"{name} is not in docs/settings.md"
    for match in re.finditer(r"^(?:\| *|#+ *|- *)`(a67\.[a-z0-9_]+)`", documented, re.M):
        if match[1] not in declared:
            yield "docs/settings.md", line_of(documented, match.start()), f"{match[1]} does not exist"


def documented_routes(text):
    """{(method, path): (line, second cell)} of the table of requests; a path that begins with … changes the last part."""
    found = {}
    for match in re.finditer(r"^\| (`[A-Z]+ /[^|]*) \| ([^|]*) \|", text, re.M):
        method, path = "", ""
        for name in re.findall(r"`([^`]*)`", match[1]):
            if " " in name:
                method, name = name.split(" ", 1)
            path = name if name.startswith("/") else path.rpartition("/")[0] + name.lstrip("…")
            found[method, path.replace("/FUNCTION", "/{function}")] = line_of(text, match.start()), match[2]
    return found


def routes(tree):
    """Every route of the listener is in docs/api.md with its function, and no other is."""
    source = blank_c(tree.files.get("bgworker/listener/routes.c", ""), strings=False)
    documented = documented_routes(tree.files.get("docs/api.md", ""))
    for match in re.finditer(r'^\s*\{([A-Z]+),\s*(V1 )?"([^"]*)",(?:[^"\n]*,\s*"(\w+)")?', source, re.M):
        method, path, function = match[1], ("/api/v1/" if match[2] else "") + match[3], match[4]
        line, cell = documented.pop((method, path), (0, None))
        if cell is None:
            yield "bgworker/listener/routes.c", line_of(source, match.start(1)), f"{method} {path} is not in docs/api.md"
        elif function and f"`{function}`" not in cell:
            yield "docs/api.md", line, f"{method} {path} is answered by {function}"
    for (method, path), (line, _) in documented.items():
        yield "docs/api.md", line, f"{method} {path} is no route"


def event_types(tree):
    """Every type of event that SQL sends is known to the WebSocket and explained in docs/websocket.md."""
    known = tree.files.get("bgworker/listener/message.c", "")
    documented = tree.files.get("docs/websocket.md", "")
    for path, text in tree.pick(("sql",), (".sql",)):
        for match in re.finditer(r"\b_\w*event\((?:[^'()]*\([^'()]*\))?[^'()]*'(\w+(?:\.\w+)+)'", blank_sql(text)):
            if f'"{match[1]}"' not in known or f"`{match[1]}`" not in documented:
                yield path, line_of(text, match.start(1)), f"{match[1]} is not in message.c or docs/websocket.md"


def error_codes(tree):
    """Every code that is not PostgreSQL's own (class 67, and PTnnn for the HTTP side) is in docs/errors.md."""
    documented = tree.files.get("docs/errors.md", "")
    for path, text in tree.pick(("src", "bgworker", "sql"), (".c", ".h", ".sql")):
        codes = [("".join(re.findall(r"'(\w)'", m[0])), m.start()) for m in re.finditer(r"MAKE_SQLSTATE\([^)]*\)", text)]
        codes += [(m[1], m.start(1)) for m in re.finditer(r"ERRCODE\s*=\s*'(\w{5})'", text, re.I)]
        for code, at in codes:
            if re.fullmatch(r"67\w{3}|PT\d{3}", code) and code not in documented:
                yield path, line_of(text, at), f"error code {code} is not in docs/errors.md"


def version(tree):
    """One version: the Makefile's."""
    found = re.search(r"^A67_VERSION\s*:?=\s*(\S+)", tree.files.get("Makefile", ""), re.M)
    control = re.search(r"^default_version\s*=\s*'([^']*)'", tree.files.get("a67.control", ""), re.M)
    if not found or not control or found[1] != control[1]:
        yield "a67.control", 1, f"default_version {control and control[1]} is not the Makefile's {found and found[1]}"


def sql_modules(tree):
    """Every module is in the Makefile's list: one that is forgotten would silently be missing."""
    makefile = tree.files.get("Makefile", "")
    for kind, variable in (("schema", "SQL_SCHEMA"), ("api", "SQL_API")):
        body = re.search(rf"^{variable} := \$\(addprefix sql/{kind}/,(.*?)\)", makefile, re.M | re.S)
        listed = re.findall(r"[\w-]+\.sql", body[1]) if body else []
        there = [p.split("/")[-1] for p, _ in tree.pick(("sql",), (".sql",)) if p.startswith(f"sql/{kind}/")]
        for name in sorted(set(there) - set(listed)):
            yield f"sql/{kind}/{name}", 1, f"is not in the Makefile's {variable}"
        for name in sorted(set(listed) - set(there)):
            yield "Makefile", 1, f"{variable} names sql/{kind}/{name}, which does not exist"


def definer(tree):
    """A function with its owner's rights finds names where its owner expects them."""
    for path, text in tree.pick(("sql",), (".sql",)):
        for match in re.finditer(r"CREATE (?:OR REPLACE )?FUNCTION\s+(\S+?)\(.*?;", blank_sql(text), re.S):
            head = re.split(r"\bAS\s+\$|\bAS\s+'|\bBEGIN ATOMIC\b", match[0])
            rest = " ".join(part for part in head)
            if "SECURITY DEFINER" in head[0] and not re.search(r"SET\s+search_path\s*(?:=|TO)", rest):
                yield path, line_of(text, match.start()), f"{match[1]} is SECURITY DEFINER without SET search_path"


def api_repeats(tree):
    """Modules in sql/api run again at every upgrade."""
    for path, text in tree.pick(("sql",), (".sql",)):
        if path.startswith("sql/api/"):
            code = re.sub(r"\$(\w*)\$.*?\$\1\$", lambda m: re.sub(r"[^\n]", " ", m[0]), blank_sql(text), flags=re.S)
            for match in re.finditer(r"^\s*CREATE\s+(?!OR\s+REPLACE\b)(\w+(?:\s+\w+)?)", code, re.M | re.I):
                before = code[: match.start()].rstrip()
                if before.endswith(";") or not before:
                    yield path, line_of(text, match.start(1)), f"CREATE {match[1]} cannot run twice: use OR REPLACE"


def marks(tree):
    pattern = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    for path, text in tree.files.items():
        if path not in ABOUT_MARKS:
            for match in pattern.finditer(text):
                yield path, line_of(text, match.start()), f"{match[1]} left behind"


def machine_paths(tree):
    pattern = re.compile(r"""(?<![\w.}"')])(/wo""" r"""rk/[\w.]+|/home/\w+/|/tmp/a67/\w+)""")
    for path, text in tree.files.items():
        if path not in ABOUT_MARKS:
            for match in pattern.finditer(text):
                yield path, line_of(text, match.start()), f"names a path of one machine: {match[1]}"


def sleeping_tests(tree):
    pattern = re.compile(r"\b(time\.sleep|asyncio\.sleep|pg_sleep(?:_for|_until)?)\s*\(")
    for path, text in tree.pick(("test",), (".py", ".sql", ".spec")):
        if path != WAITING and path not in ABOUT_MARKS:
            for match in pattern.finditer(text):
                yield path, line_of(text, match.start()), f"sleeps ({match[1]}): wait for a condition instead"


RULES = [
    layers, banned_calls, function_length, parameters, file_length, opening, settings, routes, event_types,
    error_codes, version, sql_modules, definer, api_repeats, marks, machine_paths, sleeping_tests,
]  # fmt: skip


def findings(tree, rules=None):
    """All findings as (path, line, rule, message), in the order of the tree."""
    found = [(path, line, rule.__name__, text) for rule in rules or RULES for path, line, text in rule(tree)]
    return sorted(found)


def main(args):
    top = args[0] if args else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    tree = Tree(top)
    found = findings(tree)
    for path, line, rule, text in found:
        print(f"{path}:{line}: {rule}: {text}")
    print(f"lint.py: {len(found)} findings in {len(tree.files)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
