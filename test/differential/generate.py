"""Random statements over the tables of world.py, from a seed: the same seed makes the same statements.

A small grammar with types, so that nearly all statements are valid; nothing in it depends on chance, on the order of rows or on the
order of evaluation (LIMIT comes with an order by all columns; divisions are guarded), so that both sides must answer the same.
"""

import random

from .compare import Case

COLUMNS = {
    "customers": {"customer_id": "int", "name": "text", "region": "text", "born": "date", "credit": "num", "rating": "float", "active": "bool"},
    "orders": {"customer_id": "int", "order_id": "int", "placed": "tz", "total": "num", "status": "text", "note": "text"},
    "items": {"customer_id": "int", "order_id": "int", "line": "int", "sku": "text", "quantity": "int", "price": "num"},
    "products": {"sku": "text", "title": "text", "price": "num"},
    "regions": {"region": "text", "title": "text", "manager": "int"},
    "visits": {"day": "date", "visit_id": "int", "customer_id": "int", "path": "text", "ms": "int"},
    "seats": {"tenant": "text", "seat": "int", "holder": "text"},
    "options": {"name": "text", "value": "text"},
    "numbers": {"n": "int", "i": "int", "d": "num", "t": "text", "bl": "bool", "f": "float", "tz": "tz"},
    "memo": {"memo_id": "int", "customer_id": "int", "body": "text"},
}
KEYS = {"customers": "customer_id", "orders": "customer_id", "items": "customer_id", "products": "sku", "visits": "day", "seats": "tenant",
        "numbers": "n", "regions": "region", "options": "name", "memo": "memo_id"}
WEIGHTS = [6, 6, 4, 3, 3, 3, 2, 1, 3, 1]
LITERALS = {
    "int": lambda r: str(r.choice([r.randint(-5, 320), r.randint(0, 30), r.randint(1, 10)])),
    "num": lambda r: f"{r.randint(0, 990000) / 100}",
    "float": lambda r: f"('{r.randint(-300, 300) / 8}'::float8)",
    "text": lambda r: r.choice(["'r1'", "'r3'", "'paid'", "'sku7'", "'/p3'", "'tenant2'", "'Customer B5'", "'m'", "''", "'note 3'"]),
    "bool": lambda r: r.choice(["true", "false"]),
    "date": lambda r: f"(date '2026-01-01' + {r.randint(-5, 125)})",
    "tz": lambda r: f"(timestamptz '2026-01-01 00:00+00' + interval '{r.randint(0, 260)} days')",
}
AGGREGATES = {
    "int": ["count({})", "sum({})", "min({})", "max({})", "avg({})", "count(DISTINCT {})", "bit_or({})", "stddev({})", "variance({})"],
    "num": ["count({})", "sum({})", "min({})", "max({})", "avg({})", "stddev_pop({})", "sum(DISTINCT {})"],
    "float": ["count({})", "sum({})", "min({})", "max({})"],
    "text": ["count({})", "min({})", "max({})", "count(DISTINCT {})", "string_agg({0}, ',' ORDER BY {0})"],
    "bool": ["count({})", "bool_and({})", "bool_or({})"],
    "date": ["count({})", "min({})", "max({})"],
    "tz": ["count({})", "min({})", "max({})"],
}


class Scope:
    """What names a level of a query can use: (alias, column, type)."""

    def __init__(self, names, outer=None):
        self.names = names
        self.outer = outer

    def of(self, kinds):
        return [f"{alias}.{column}" for alias, column, kind in self.names if kind in kinds]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.aliases = 0

    # -- expressions -----------------------------------------------------------------------------

    def alias(self):
        self.aliases += 1
        return f"a{self.aliases}"

    def column(self, scope, kind):
        """A column of the type, now and then of the query around; a literal where there is none."""
        r = self.random
        if scope.outer and r.random() < 0.15:
            found = scope.outer.of({kind})
            if found:
                return r.choice(found)
        found = scope.of({kind})
        return r.choice(found) if found else LITERALS[kind](r)

    def value(self, scope, kind, depth=2):
        r = self.random
        if depth == 0 or r.random() < 0.45:
            return self.column(scope, kind) if r.random() < 0.75 else LITERALS[kind](r)
        one = two = lambda k=kind: self.value(scope, k, depth - 1)
        choices = {
            "int": lambda: r.choice([f"({one()} + {two()})", f"({one()} - {two()})", f"({one()} / nullif({two()}, 0))", f"({one()} % 7)",
                                     f"length({one('text')})", f"coalesce({one()}, {two()})", f"greatest({one()}, {two()})",
                                     f"extract(month FROM {one('date')})::int", f"abs({one()})"]),
            "num": lambda: r.choice([f"({one()} + {two()})", f"({one()} * 2)", f"round({one()}, 1)", f"{one('int')}::numeric", f"coalesce({one()}, 0)"]),
            "float": lambda: r.choice([f"({one()} * 2)", f"{one('int')}::float8", f"coalesce({one()}, 0)"]),
            "text": lambda: r.choice([f"({one()} || {two()})", f"upper({one()})", f"substring({one()} FROM 1 FOR 3)", f"{one('int')}::text",
                                      f"coalesce({one()}, 'none')", f"nullif({one()}, {two()})", f"{one('date')}::text",
                                      f"CASE WHEN {one('bool')} THEN {one()} ELSE {two()} END"]),
            "bool": lambda: f"({self.condition(scope, depth - 1)})",
            "date": lambda: r.choice([f"({one()} + {r.randint(0, 40)})", f"{one('tz')}::date", f"date_trunc('month', {one()})::date"]),
            "tz": lambda: r.choice([f"({one()} + interval '1 day')", f"date_trunc('day', {one()})", f"{one('date')}::timestamptz"]),
        }
        return choices[kind]()

    def condition(self, scope, depth=2):
        r = self.random
        kind = r.choice(["int", "int", "text", "num", "date", "bool", "tz"])
        column = self.column(scope, kind)
        pick = r.random()
        if depth and pick < 0.30:
            joined = f" {r.choice(['AND', 'AND', 'OR'])} ".join(self.condition(scope, depth - 1) for _ in range(r.randint(2, 3)))
            return f"({joined})"
        if depth and pick < 0.36:
            return f"NOT ({self.condition(scope, depth - 1)})"
        if pick < 0.60:
            return f"{column} {r.choice(['=', '=', '<>', '<', '<=', '>', '>='])} {self.value(scope, kind, 1)}"
        if pick < 0.68:
            return f"{column} IS {r.choice(['', 'NOT '])}NULL"
        if pick < 0.76:
            return f"{column} {r.choice(['', 'NOT '])}IN ({', '.join(LITERALS[kind](r) for _ in range(r.randint(1, 4)))})"
        if pick < 0.82:
            return f"{column} BETWEEN {LITERALS[kind](r)} AND {LITERALS[kind](r)}" if kind != "bool" else column
        if pick < 0.86:
            return f"{self.column(scope, 'text')} LIKE '%{r.choice('aeor123')}%'"
        if pick < 0.89:
            return f"{column} IS NOT DISTINCT FROM {self.value(scope, kind, 1)}"
        return self.key_condition(scope)

    def key_condition(self, scope):
        """A condition on a shard key, so that pruning and routing are met often."""
        r = self.random
        keys = [(f"{alias}.{column}", kind) for alias, column, kind in scope.names if column in KEYS.values()]
        if not keys:
            return "true"
        key, kind = r.choice(keys)
        return r.choice([f"{key} = {LITERALS[kind](r)}", f"{key} = ANY (ARRAY[{LITERALS[kind](r)}, {LITERALS[kind](r)}])"])

    def where(self, scope, deep):
        parts = [self.condition(scope) for _ in range(self.random.choices([0, 1, 2], [5, 4, 1])[0])]
        if self.random.random() < 0.15:
            parts.append(self.key_condition(scope))
        if deep and self.random.random() < 0.25:
            parts.append(self.sublink(scope))
        return " WHERE " + " AND ".join(parts) if parts else ""

    def sublink(self, scope):
        """EXISTS or IN, correlated or not."""
        r = self.random
        source, inner = self.table()
        inner = Scope(inner.names, scope)
        conditions = [self.condition(inner, 1)]
        pairs = [(f"{one}.{column}", f"{two}.{column}") for one, column, kind in inner.names for two, other, _ in scope.names
                 if other == column]
        if pairs and r.random() < 0.7:
            conditions.append("{} = {}".format(*r.choice(pairs)))
        where = " AND ".join(conditions)
        if r.random() < 0.6:
            return f"{r.choice(['', 'NOT '])}EXISTS (SELECT 1 FROM {source} WHERE {where})"
        kind = r.choice(["int", "text"])
        return f"{self.column(scope, kind)} IN (SELECT {self.column(Scope(inner.names), kind)} FROM {source} WHERE {where})"

    # -- sources ---------------------------------------------------------------------------------

    def table(self):
        name = self.random.choices(list(COLUMNS), WEIGHTS)[0]
        alias = self.alias()
        return f"{name} {alias}", Scope([(alias, column, kind) for column, kind in COLUMNS[name].items()])

    def item(self, depth):
        """A table, or a subquery."""
        if depth == 0 or self.random.random() < 0.75:
            return self.table()
        alias = self.alias()
        text, kinds = self.select(depth - 1)
        return f"({text}) {alias}", Scope([(alias, f"c{number}", kind) for number, kind in enumerate(kinds)])

    def source(self, depth):
        """FROM's text and scope: one to three items, joined by equal columns where there are some."""
        r = self.random
        text, scope = self.item(depth)
        for _ in range(r.choices([0, 1, 2], [5, 4, 1])[0]):
            more, other = self.item(depth)
            pairs = [(f"{a}.{c}", f"{b}.{d}") for a, c, k in scope.names for b, d, m in other.names
                     if k == m and (c == d or k == "int" and r.random() < 0.03) and k != "bool"]
            if pairs:
                chosen = r.sample(pairs, 1) if r.random() < 0.8 else pairs[:2]
                on = " AND ".join(f"{a} = {b}" for a, b in chosen)
            else:
                on = f"{self.column(scope, 'int')} = {self.column(other, 'int')}"
            both = Scope(scope.names + other.names)
            if r.random() < 0.2:
                on += f" AND {self.condition(both, 1)}"
            kind = r.choices(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"], [6, 3, 1, 1 if on.count(" AND ") == 0 else 0])[0]
            text, scope = f"{text} {kind} {more} ON {on}", both
        return text, scope

    # -- queries ---------------------------------------------------------------------------------

    def select(self, depth):
        """A query and the types of its columns c0, c1 …"""
        r = self.random
        make = r.choices([self.plain, self.grouped, self.aggregate, self.window, self.union], [6, 4, 2, 1, 1 if depth else 0])[0]
        return make(depth)

    def _finish(self, text, kinds):
        if self.random.random() < 0.3:
            order = ", ".join(str(number + 1) + self.random.choice(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
                              for number in range(len(kinds)))
            text += f" ORDER BY {order} LIMIT {self.random.randint(0, 30)}"
            if self.random.random() < 0.4:
                text += f" OFFSET {self.random.randint(0, 20)}"
        return text, kinds

    def _outputs(self, scope, count):
        kinds = [self.random.choice(["int", "int", "text", "num", "date", "bool", "tz"]) for _ in range(count)]
        return kinds, [f"{self.value(scope, kind)} AS c{number}" for number, kind in enumerate(kinds)]

    def plain(self, depth):
        source, scope = self.source(depth)
        kinds, outputs = self._outputs(scope, self.random.randint(1, 4))
        distinct = "DISTINCT " if self.random.random() < 0.2 else ""
        return self._finish(f"SELECT {distinct}{', '.join(outputs)} FROM {source}{self.where(scope, depth)}", kinds)

    def _aggregates(self, scope, first):
        r = self.random
        found = []
        for number in range(r.randint(1, 3)):
            kind = r.choice(list(AGGREGATES))
            text = r.choice(AGGREGATES[kind]).format(self.column(scope, kind))
            if r.random() < 0.15:
                text += f" FILTER (WHERE {self.condition(scope, 1)})"
            # Types of aggregates vary: as text nothing else needs to know them.
            cast = "" if first == 0 else "::text"
            found.append(f"({text}){cast} AS c{first + number}" if "sum" not in text and "avg" not in text or "float" != kind
                         else f"round(({text})::numeric, 4) AS c{first + number}")
        return found

    def aggregate(self, depth):
        source, scope = self.source(depth)
        found = self._aggregates(scope, 1)
        return (f"SELECT count(*)::int AS c0, {', '.join(found)} FROM {source}{self.where(scope, depth)}", ["int"])

    def grouped(self, depth):
        r = self.random
        source, scope = self.source(depth)
        kinds, outputs = self._outputs(scope, r.randint(1, 2))
        if r.random() < 0.4:
            keys = [(f"{a}.{c}", k) for a, c, k in scope.names if c in KEYS.values()]
            if keys:
                key, kinds[0] = r.choice(keys)
                outputs[0] = f"{key} AS c0"
        found = self._aggregates(scope, len(kinds))
        having = r.choice(["", "", "", " HAVING count(*) > 2", " HAVING count(*) BETWEEN 2 AND 40"])
        groups = ", ".join(str(number + 1) for number in range(len(kinds)))
        return (f"SELECT {', '.join(outputs + found)} FROM {source}{self.where(scope, depth)} GROUP BY {groups}{having}", kinds)

    def window(self, depth):
        source, scope = self.source(depth)
        kinds, outputs = self._outputs(scope, 2)
        by = self.column(scope, "int")
        function = self.random.choice([f"sum({self.column(scope, 'int')})", "count(*)", f"max({self.column(scope, 'text')})", "rank()"])
        outputs.append(f"{function} OVER (PARTITION BY {self.column(scope, self.random.choice(['int', 'text']))} ORDER BY {by}) AS c2")
        return f"SELECT {', '.join(outputs)} FROM {source}{self.where(scope, 0)}", kinds

    def union(self, depth):
        r = self.random
        kinds = [r.choice(["int", "text", "num", "date"]) for _ in range(r.randint(1, 2))]
        parts = []
        for _ in range(2):
            source, scope = self.source(0)
            outputs = ", ".join(f"{self.value(scope, kind)} AS c{number}" for number, kind in enumerate(kinds))
            parts.append(f"SELECT {outputs} FROM {source}{self.where(scope, 0)}")
        operator = r.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL"])
        return self._finish(f" {operator} ".join(parts), kinds)

    # -- writes ----------------------------------------------------------------------------------

    def write(self):
        """A write to one of three tables, and what is in it then."""
        r = self.random
        name = r.choice(["customers", "orders", "numbers"])
        alias = self.alias()
        scope = Scope([(alias, column, kind) for column, kind in COLUMNS[name].items()])
        target = {"customers": ("credit", "num"), "orders": ("note", "text"), "numbers": ("i", "int")}[name]
        where = f" WHERE {self.condition(scope)}" + (f" AND {self.sublink(scope)}" if r.random() < 0.3 else "")
        if r.random() < 0.6:
            returning = r.choice(["", f" RETURNING {alias}.{KEYS[name]}, {alias}.{target[0]}"])
            value = self.value(scope, target[1]) if target[1] != "num" else f"least(round({self.value(scope, 'num')}, 2), 1000)"
            value = f"({value}) % 1000" if target[1] == "int" else value
            text = f"UPDATE {name} {alias} SET {target[0]} = {value}{where}{returning}"
        else:
            text = f"DELETE FROM {name} {alias}{where}{r.choice(['', f' RETURNING {alias}.*'])}"
        return [text, f"SELECT * FROM {name}"]


def cases(seed, count):
    """`count` cases that follow from the seed."""
    for number in range(count):
        generator = Generator(f"{seed}:{number}")
        if generator.random.random() < 0.12:
            statements = generator.write()
        else:
            statements = [generator.select(2)[0]]
        yield Case(f"random {seed}:{number}", statements)
