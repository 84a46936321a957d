"""SQL through the API: what answers look like, parameters, statuses, limits, and whose database it is."""

import uuid

import pytest

from cloud.tenant import CANARY, Tenants


@pytest.fixture(scope="module")
def tenants():
    with Tenants(settings={"a67.query_rows": "50", "a67.query_size": "20kB", "a67.request_timeout": "5s"}) as tenants:
        shop = tenants.shop
        shop.data("CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10,2), tags text[], about jsonb,"
                  " made_at timestamptz, exact float8, open boolean)")
        shop.data("INSERT INTO item SELECT g, 'item ' || g, g * 1.5 FROM generate_series(1, 40) g")
        tenants.rival.data("CREATE TABLE secret (id int PRIMARY KEY, value text)")
        tenants.rival.data("INSERT INTO secret VALUES (1, 'rivals only')")
        yield tenants


@pytest.fixture
def shop(tenants):
    return tenants.shop


def error(answer, status, code):
    """The body of an error with this status and SQLSTATE."""
    assert (answer.status, answer.json()["code"]) == (status, code), (answer.status, answer.text)
    assert CANARY not in answer.text
    return answer.json()


def test_answer_has_all_fields(shop):
    answer = shop.ask("SELECT id, name, price FROM item WHERE id = $1", 7)
    body = answer.json()
    assert answer.status == 200
    assert set(body) == {"query", "execution_time_ms", "rows_returned", "shards_queried", "columns", "data", "token"}
    assert body["query"] == "SELECT id, name, price FROM item WHERE id = $1"
    assert body["columns"] == [{"name": "id", "type": "integer"}, {"name": "name", "type": "text"},
                               {"name": "price", "type": "numeric(10,2)"}]
    assert body["data"] == [[7, "item 7", 10.5]]
    assert (body["rows_returned"], body["shards_queried"], body["token"]) == (1, 1, None)
    assert 0 < body["execution_time_ms"] < 5000


def test_shards_are_counted(shop):
    assert shop.ask("SELECT count(*) FROM item").json()["shards_queried"] == 2
    assert shop.ask("SELECT 1").json()["shards_queried"] == 0


def test_values_are_json(shop):
    row = shop.data("SELECT NULL, true, 1::bigint, 1.50::numeric, 'NaN'::float8, 'a\"b\\c\n'::text, '{\"a\": [1]}'::jsonb,"
                    " ARRAY[1,NULL], '2026-01-31 12:00+00'::timestamptz, '\\xff'::bytea, ROW(1,'x'), 'c'::char(3)")[0]
    assert row == [None, True, 1, 1.5, "NaN", 'a"b\\c\n', {"a": [1]}, [1, None], "2026-01-31T12:00:00+00:00", "\\xff",
                   {"f1": 1, "f2": "x"}, "c  "]


@pytest.mark.parametrize("expression, value, wanted", [
    ("$1::int", 5, 5), ("$1::int", "5", 5), ("$1::text", "it's", "it's"), ("$1::text", 1.25, "1.25"), ("$1::bool", False, False),
    ("$1::int", None, None), ("$1::jsonb", "text", "text"), ("$1::jsonb", {"a": None}, {"a": None}), ("$1::json", [1], [1]),
    ("$1::text", {"a": 1}, '{"a": 1}'), ("$1::int[]", [1, None, 3], [1, None, 3]), ("$1::text[]", ['a,"}', "NULL", ""], ['a,"}', "NULL", ""]),
    ("$1::int[]", [[1, 2], [3, 4]], [[1, 2], [3, 4]]), ("$1::jsonb[]", [{"a": 1}, [2]], [{"a": 1}, [2]]), ("$1", "alone", "alone"),
    ("$1::uuid", "7B0F1B8E-0D1E-4C5B-9B7E-2D8E9C6F1A2B", "7b0f1b8e-0d1e-4c5b-9b7e-2d8e9c6f1a2b"),
    ("$1 || '; DROP TABLE item'", "x'); DELETE FROM item; --", "x'); DELETE FROM item; --; DROP TABLE item"),
])
def test_parameters_are_values(shop, expression, value, wanted):
    assert shop.data(f"SELECT {expression}", value) == [[wanted]]


@pytest.mark.parametrize("query, params, field", [
    ("SELECT $1::int", [], "Field: params."), ("SELECT $1::int", [1, 2], "Field: params."), ("SELECT 1", [1], "Field: params."),
    ("SELECT $1::int", ["x"], "Field: params, number 1."), ("SELECT $1::int, $2::date", [1, "never"], "Field: params, number 2."),
])
def test_bad_parameters_are_named(shop, query, params, field):
    answer = shop.ask(query, *params)
    assert answer.status == 400 and field in answer.json()["details"], answer.text


def test_parameters_must_be_an_array(shop):
    for params in ({"a": 1}, "x", 5):
        answer = shop.post("/query", {"query": "SELECT 1", "params": params})
        assert error(answer, 400, "22023")["details"] == "Field: params."
    assert shop.post("/query", {"query": "SELECT 1", "params": None}).status == 200


def test_writes_and_what_they_return(shop):
    inserted = shop.ask("INSERT INTO item (id, name) VALUES ($1, $2), (102, 'b') RETURNING id, name", 101, "a").json()
    assert sorted(inserted["data"]) == [[101, "a"], [102, "b"]]
    assert (inserted["rows_returned"], inserted["rows_affected"]) == (2, 2)
    changed = shop.ask("UPDATE item SET name = 'c' WHERE id IN (101, 102)").json()
    assert (changed["rows_affected"], changed["rows_returned"], changed["data"], changed["columns"]) == (2, 0, [], [])
    assert shop.data("SELECT name FROM item WHERE id = 102") == [["c"]]
    assert shop.ask("DELETE FROM item WHERE id > 100").json()["rows_affected"] == 2


def test_a_failed_statement_leaves_nothing(shop):
    before = shop.data("SELECT count(*), max(id) FROM item")
    # The answer is too long when its rows have been written.
    error(shop.ask("INSERT INTO item (id) SELECT 1000 + g FROM generate_series(1, 60) g RETURNING id"), 400, "54000")
    error(shop.ask("INSERT INTO item (id) VALUES (2001), (2002), (1)"), 409, "23505")
    assert shop.data("SELECT count(*), max(id) FROM item") == before


def test_explain(shop):
    plan = "\n".join(row[0] for row in shop.data("EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM item WHERE id = $1", 3))
    assert "item" in plan and CANARY not in plan and "127." not in plan
    assert shop.ask("EXPLAIN (FORMAT JSON) SELECT 1").json()["columns"] == [{"name": "QUERY PLAN", "type": "json"}]


@pytest.mark.parametrize("query, status, code, place", [
    ("SELEC 1", 400, "42601", "line 1, column 1 (position 1)"),
    ("SELECT *\nFROM item\nWHERE id ==", 400, "42601", "line 3, column 12 (position 31)"),
    ("SELECT 'ü', FROM item", 400, "42601", "line 1, column 13 (position 13)"),
    ("SELECT nmae FROM item", 400, "42703", "line 1, column 8 (position 8)"),
    ("SELECT nope(id) FROM item", 404, "42883", "line 1, column 8 (position 8)"),
    ("SELECT * FROM (SELECT * FROM nowhere_at_all) x", 404, "42P01", "line 1, column 30 (position 30)"),
    ("SELECT 1 FROM item WHERE name = 5", 404, "42883", "line 1, column 31 (position 31)"),
    ("SELECT 'x'::int", 400, "22P02", "line 1, column 8 (position 8)"),
    ("INSERT INTO item (id, id) VALUES (1, 2)", 400, "42701", "position 23"),
    ("EXPLAIN SELEC 1", 400, "42601", "position 9"),
])
def test_errors_point_into_the_text(shop, query, status, code, place):
    assert place in error(shop.ask(query), status, code)["details"]


@pytest.mark.parametrize("name, wanted", [("itme", "item"), ("items", "item"), ("Item", "item"), ("shop.itm", "item")])
def test_unknown_table_is_404_with_a_suggestion(shop, name, wanted):
    query = f'SELECT * FROM "{name}"' if "." not in name else f"SELECT * FROM {name}"
    body = error(shop.ask(query), 404, "42P01")
    assert body["hint"] == f'Perhaps you meant the table "{wanted}".' or name == "Item"


def test_no_suggestion_for_what_is_far_or_not_hers(shop):
    assert error(shop.ask("SELECT * FROM secert"), 404, "42P01")["hint"] is None
    assert error(shop.ask("SELECT * FROM x"), 404, "42P01")["hint"] is None


@pytest.mark.parametrize("body, field", [
    ({"query": ""}, "query"), ({"query": " \n"}, "query"), ({"query": None}, "query"), ({"query": "SELECT 1", "consistency": "weak"}, "consistency"),
    ({"query": "SELECT 1", "token": "abc"}, "token"), ({"query": "SELECT 1", "options": {"speed": 1}}, "speed"),
    ({"query": "SELECT 1", "options": {"allow_partial": "yes"}}, "allow_partial"), ({"query": "SELECT 1", "options": []}, "options"),
    ({"query": "SELECT 1; SELECT 2"}, "query"), ({"query": ";"}, "query"), ({"query": "-- nothing"}, "query"), ({}, "query"),
    ({"query": "SELECT 1", "extra": 1}, "extra"),
])
def test_bad_requests_name_the_field(shop, body, field):
    answer = shop.post("/query", body)
    assert answer.status == 400 and field in answer.text, (answer.status, answer.text)


def test_options_are_the_same_fields(shop):
    for more in ({"consistency": "strong"}, {"consistency": "eventual"}, {"allow_partial": True}, {"token": None},
                 {"options": {"consistency": "eventual", "allow_partial": False}}):
        assert shop.data("SELECT count(*) FROM item", **more) == [[40]]
    assert "partial" not in shop.ask("SELECT count(*) FROM item", allow_partial=True).json()


def test_limits_of_the_answer(shop):
    assert len(shop.data("SELECT generate_series(1, 50)")) == 50
    assert "50 rows" in error(shop.ask("SELECT generate_series(1, 51)"), 400, "54000")["message"]
    assert "20480 bytes" in error(shop.ask("SELECT repeat('x', 20500)"), 400, "54000")["message"]


def test_time_is_limited(shop):
    body = error(shop.ask("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"), 504, "57014")
    assert "cancel" in body["message"]


def test_other_peoples_databases_do_not_exist(tenants):
    bob = tenants.rival.person.client
    ident = tenants.shop.person.client.get("/api/v1/databases/shop").json()["id"]
    for name in ("shop", ident, str(uuid.uuid4()), "nothing", "shop'--", "%00"):
        for answer in (bob.post(f"/api/v1/databases/{name}/query", {"query": "SELECT 1"}),
                       bob.get(f"/api/v1/databases/{name}"), bob.get(f"/api/v1/databases/{name}/schema"),
                       bob.get(f"/api/v1/databases/{name}/roles"), bob.request("DELETE", f"/api/v1/databases/{name}"),
                       bob.post(f"/api/v1/databases/{name}/roles", {"name": "shop_x"})):
            assert answer.status in ((404, 400) if name == "%00" else (404,)), (name, answer.status, answer.text)
    assert [one["name"] for one in bob.get("/api/v1/databases").json()] == ["rival"]
    assert tenants.api.anonymous.post("/api/v1/databases/shop/query", {"query": "SELECT 1"}).status == 401


def test_owner_and_administrator_use_name_or_id(tenants):
    ident = tenants.shop.person.client.get("/api/v1/databases/shop").json()["id"]
    for client in (tenants.shop.person.client, tenants.api.admin):
        for name in ("shop", ident):
            answer = client.post(f"/api/v1/databases/{name}/query", {"query": "SELECT count(*) FROM item"})
            assert (answer.status, answer.json()["data"]) == (200, [[40]])


def test_ddl_goes_to_all_shards(tenants, shop):
    answer = shop.ask("CREATE TABLE passing (id int PRIMARY KEY, n int)").json()
    assert (answer["data"], answer["columns"], answer["shards_queried"]) == ([], [], 2)
    shop.data("ALTER TABLE passing ADD COLUMN more text DEFAULT 'x'")
    assert shop.data("INSERT INTO passing (id) VALUES (1) RETURNING *") == [[1, None, "x"]]
    tables = shop.person.client.get("/api/v1/databases/shop/schema").json()["tables"]
    assert "passing" in [table["name"] for table in tables]
    shop.data("DROP TABLE passing")
    error(shop.ask("SELECT * FROM passing"), 404, "42P01")
    assert error(shop.ask("CREATE TABLE t (id int PRIMARY KEY)", 1), 400, "22023")["details"] == "Field: params."


def test_shard_errors_pass_with_the_shard_named(shop):
    body = error(shop.ask("INSERT INTO item (id) VALUES (1)"), 409, "23505")
    assert "item_pkey" in body["message"] and "(id)=(1)" in body["details"] and "Shard: s" in body["details"]
