"""The calling convention POST /rpc/FUNCTION, as PostgREST has it, through every door; and the API's own
description. Where a door may differ from PostgREST, the test says so.
"""

import pytest

from cloud.api import program
from cloud.openapi import problems

NOT_FOUND_BY_ARGUMENTS = (400, 404)  # PostgREST looks for a function with these arguments: 404


@pytest.fixture(scope="module")
def ann(api):
    return api.person("ann")


def error(answer, *statuses):
    assert answer.status in statuses, (answer.status, answer.text)
    assert set(answer.json()) == {"code", "message", "details", "hint"}, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


@pytest.mark.parametrize("door", ["haproxy", "postgrest"])
def test_door_is_there(door):
    """Skipped where the API tests had to leave a door out."""
    if program(door) is None:
        pytest.skip(f"there is no {door} on PATH: not tested through it")


def test_scalar(ann):
    answer = ann.rpc("murmur3", key="hello", seed=0)
    assert (answer.status, answer.json()) == (200, 613153351)
    assert answer.headers["content-type"].startswith("application/json")


def test_defaults_and_nulls(ann):
    assert ann.rpc("murmur3", key="hello").json() == 613153351
    assert ann.rpc("murmur3", key=None).json() is None


def test_array(ann):
    owners = ann.rpc("ring_lookup", key="k", names=["a", "b", "c"], n=2).json()
    assert len(owners) == 2 and set(owners) < {"a", "b", "c"}
    weighted = ann.rpc("ring_lookup", key="k", names=["a", "b", "c"], weights=[1, 2, 0.5], n=3).json()
    assert set(weighted) == {"a", "b", "c"}


def test_rows(ann):
    rows = ann.rpc("ring_shares", names=["a", "b"]).json()
    assert [set(row) for row in rows] == [{"name", "points", "share"}] * 2
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    same = {"old_names": ["a"], "old_weights": None, "new_names": ["a"], "new_weights": None}
    assert ann.rpc("ring_diff", **same).json() == []
    error(ann.rpc("ring_shares", names=[]), 400)


def test_object_and_text(api, ann):
    assert isinstance(ann.rpc("auth_me").json(), dict)
    assert isinstance(api.rpc("version").json(), str)


def test_void(ann):
    answer = ann.rpc("request_check")
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("arguments, name", [
    ({"key": "k", "sead": 1}, "sead"),
    ({"seed": 1}, "key"),
    ({}, "key"),
    ({"Key": "k"}, "Key"),
])
def test_unknown_and_missing_arguments(api, ann, arguments, name):
    found = error(ann.rpc("murmur3", **arguments), *NOT_FOUND_BY_ARGUMENTS)
    assert api.is_postgrest or f'"{name}"' in found["message"]


@pytest.mark.parametrize("arguments", [
    {"key": "k", "seed": "many"}, {"key": "k", "seed": 2 ** 31}, {"key": "k", "seed": {}}, {"key": "k", "seed": [1]}])
def test_values_of_the_wrong_type(ann, arguments):
    assert error(ann.rpc("murmur3", **arguments), 400)["code"].startswith("22")


@pytest.mark.parametrize("body", [b"[1]", b'"x"', b"{", b'{"key": "k"', b"{'key': 'k'}", b"key=k", b'{"key": "\xff"}'])
def test_bodies_that_are_no_arguments(ann, body):
    answer = ann.client.post("/rpc/murmur3", body, headers={"Content-Type": "application/json"})
    error(answer, *NOT_FOUND_BY_ARGUMENTS)


@pytest.mark.parametrize("function", [
    "nothing_like_it", "pg_sleep", "_bootstrap", "_jwks", "a67_internal._jwks", "version;", "Version", "%00", "a67.version"])
def test_functions_that_are_not_there(api, ann, function):
    for client in (ann.client, api.admin, api.anonymous):
        error(client.rpc(function), 400, 404)


def test_errors_of_functions(ann):
    assert error(ann.rpc("deployment_get", deployment="nothing"), 404) == {
        "code": "PT404", "message": 'deployment "nothing" does not exist', "details": None, "hint": None}
    found = error(ann.rpc("node_list", limit=0), 400)
    assert (found["code"], found["details"]) == ("22023", "Field: limit.")
    error(ann.rpc("deployment_create", manifest={"name": "x"}), 400)
    error(ann.rpc("ring_lookup", key="k", names=["a", "a"]), 400)


def test_large_answers_are_whole(ann):
    rows = ann.rpc("ring_points", names=[f"node-{i}" for i in range(40)]).json()
    assert len(rows) == 40 * 150 and rows == sorted(rows, key=lambda row: row["hash"])


def test_pages(ann):
    for size in (0, -1, 1001, None):
        assert ann.rpc("event_list", limit=size).status == 400, size
    assert ann.rpc("event_list", limit=1000).status == 200
    assert ann.rpc("node_list", limit=1, offset=5).json() == []


ODD = [None, "", " ", "x" * 3000, "\0", "\ud800", "'; DROP TABLE x; --", "%s%n", "../../etc/passwd", "NaN", "infinity", -1, 0, 2 ** 31,
       2 ** 63, 1e308, True, [], [None], [[1, 2], [3]], ["a"] * 2000, {}, {"a": {"b": [{}]}}, {"__proto__": None}, "{1,2}"]


def test_odd_values_are_the_callers_fault(api):
    """Every argument of every function with values that it hardly expects: no answer may be a server error."""
    if api.door == "haproxy":
        pytest.skip("the same listener")
    wrong = []
    for path, item in api.rpc("openapi").json()["paths"].items():
        function = path.removeprefix("/rpc/")
        if not path.startswith("/rpc/") or function in ("auth_logout", "signing_key_rotate", "vault_rotate"):
            continue
        schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        usual = {name: {"integer": 1, "number": 1, "array": ["a"], "string": "x"}.get(one.get("type"), {})
                 for name, one in schema["properties"].items() if name in schema.get("required", ())}
        for client in (api.admin, api.anonymous) if function.startswith("auth_") else (api.admin,):
            for name in schema["properties"]:
                for value in ODD:
                    answer = client.rpc(function, **{**usual, name: value})
                    if answer.status >= 500 and answer.json()["code"][:2] not in ("53", "54"):
                        wrong.append((function, name, str(value)[:30], answer.status, answer.text))
    assert wrong == []


def test_description_is_valid(api):
    for client in (api.anonymous, api.admin):
        document = client.rpc("openapi").json()
        assert problems(document) == []
        assert document["info"]["version"] == api.rpc("version").json()


def test_description_is_complete(api):
    paths = api.rpc("openapi").json()["paths"]
    for function in ("auth_login", "node_list", "deployment_create", "murmur3"):
        assert paths[f"/rpc/{function}"]["post"]["summary"], function
    login = paths["/rpc/auth_login"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (set(login["properties"]), login["required"]) == ({"email", "password", "password_hash", "otp"}, ["email"])
    assert not [path for path in paths if "/_" in path]
    assert "security" not in paths["/rpc/auth_login"]["post"]
    assert paths["/rpc/auth_me"]["post"]["security"] == [{"bearer": []}]


def test_described_defaults_and_types(api):
    lookup = api.rpc("openapi").json()["paths"]["/rpc/ring_lookup"]["post"]
    schema = lookup["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["names"] == {"type": "array", "items": {"type": "string"}}
    assert schema["required"] == ["key", "names"]


@pytest.mark.parametrize("routes", [{}, "x", None, 1, [{}] * 501])
def test_routes_to_describe_are_few(api, routes):
    error(api.rpc("openapi", routes=routes), 400)
    assert api.rpc("openapi", routes=[{}] * 500).status == 200


BROKEN = [
    (lambda d: d.update(openapi="3.0.3"), "openapi is"),
    (lambda d: d["info"].pop("title"), "no title"),
    (lambda d: d["paths"].update(x={}), "is no path"),
    (lambda d: d["paths"]["/rpc/version"]["post"].pop("responses"), "no responses"),
    (lambda d: d["paths"]["/rpc/version"]["post"].update(respones={}), "'respones' is unknown"),
    (lambda d: d["paths"]["/rpc/version"]["post"].pop("operationId"), "operationId"),
    (lambda d: d["paths"].update({"/x/{id}": {"get": d["paths"]["/rpc/version"]["post"]}}), "in the path"),
    (lambda d: d["components"].pop("responses"), "leads nowhere"),
    (lambda d: d["components"].pop("securitySchemes"), "is not described"),
    (lambda d: d["paths"]["/rpc/murmur3"]["post"]["requestBody"]["content"]["application/json"]["schema"]
     .update(required=["nothing"]), "names no property"),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_checker_finds_what_is_broken(api, number):
    document = api.rpc("openapi").json()
    damage, words = BROKEN[number]
    damage(document)
    assert any(words in one for one in problems(document))
