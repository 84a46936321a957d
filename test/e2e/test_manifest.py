"""Manifests that cannot be: every field is checked, the answer names it, nothing is left behind."""

import pytest

from cloud import manifest

DIGEST = "0" * 64

WRONG = [
    ("name", None), ("name", ""), ("name", "Hello"), ("name", "-x"), ("name", "x" * 64),
    ("name", 7), ("name", "a/b"), ("name", "a\nb"),
    ("app_type", "frontend"), ("app_type", 1), ("schedule", "@daily"), ("volumes", []),
    ("runtime", "docker"), ("runtime", ["executable"]),
    ("entrypoint", None), ("entrypoint", []), ("entrypoint", "python3 hello.py"),
    ("entrypoint", [1]), ("entrypoint", [""]), ("entrypoint", ["x"] * 65),
    ("entrypoint", {"0": "x"}),
    ("package", None), ("package", ""), ("package", "0" * 63), ("package", "G" * 64),
    ("package", DIGEST),
    ("replicas", -1), ("replicas", 1001), ("replicas", 1.5), ("replicas", "3"), ("replicas", True),
    ("replicas", [1]), ("replicas", 10 ** 30),
    ("env", []), ("env", {"A": 1}), ("env", {"1A": "x"}), ("env", {"PORT": "1"}),
    ("env", {"A67_NODE": "x"}), ("env", {"A": "x" * 4097}),
    ("env", {f"A{i}": "" for i in range(65)}), ("env", {f"A{i}": "x" * 4096 for i in range(17)}),
    ("secrets", []), ("secrets", {"A": 1}), ("secrets", {"1A": "x"}), ("secrets", {"PORT": "x"}),
    ("secrets", {"A67_X": "x"}), ("secrets", {"A": "Not A Name"}), ("secrets", {"A": "not-there"}),
    ("secrets", {f"A{i}": "x" for i in range(65)}),
    ("on_secret_change", "SIGKILL"), ("on_secret_change", 1),
    ("health_check", []), ("health_check", {}), ("health_check", {"path": "x"}),
    ("health_check", {"path": "/", "interval": "soon"}),
    ("health_check", {"path": "/", "interval": 0}),
    ("health_check", {"path": "/", "timeout": "-1s"}),
    ("health_check", {"path": "/", "retries": 0}),
    ("health_check", {"path": "/", "retries": "x"}), ("health_check", {"path": "/\r\nX: y"}),
    ("health_check", {"path": "/", "colour": 1}),
    ("resources", []), ("resources", {"memory": "much"}), ("resources", {"memory": 0}),
    ("resources", {"cpu": -1}), ("resources", {"cpu": "fast"}), ("resources", {"gpu": 1}),
    ("stop_grace", "1h"), ("stop_grace", -1),
    ("surprise", 1),
]


@pytest.fixture(scope="module")
def operator(shared):
    """The listener, as the operator, and a package of his."""
    token = shared.cluster.value(
        "SELECT a67.token_create((SELECT user_id FROM a67_internal.\"user\" WHERE is_operator))")
    return shared.cluster.client(token), shared.put_package()


@pytest.fixture(autouse=True)
def nothing_is_left(shared):
    yield
    assert shared.cluster.rows("SELECT name FROM a67.deployment WHERE name LIKE 'wrong%'") == []


@pytest.mark.parametrize("field, value", WRONG, ids=lambda value: str(value)[:24])
def test_wrong_field_is_named(operator, field, value):
    client, package = operator
    answer = client.post("/api/v1/deployments", manifest("wrong", package, **{field: value}))
    assert answer.status == 400, (answer.status, answer.text)
    body = answer.json()
    assert body["code"] == "22023"
    assert field in f"{body['message']} {body['details']}", body


def test_all_faults_are_told_at_once(operator):
    client, package = operator
    answer = client.post("/api/v1/deployments", manifest(
        "wrong", package, replicas=-1, app_type="x", entrypoint=[], surprise=1))
    assert answer.status == 400
    for field in ("replicas", "app_type", "entrypoint", "surprise"):
        assert f"/{field}" in answer.json()["details"], answer.text


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b"17"])
def test_body_that_is_no_object(operator, body):
    client, _ = operator
    answer = client.post("/api/v1/deployments", body, headers={"Content-Type": "application/json"})
    assert answer.status == 400, (answer.status, answer.text)


@pytest.mark.parametrize("resources", [{"memory": "900TB"}, {"cpu": 999}])
def test_app_that_fits_nowhere_is_refused(operator, resources):
    client, package = operator
    answer = client.post("/api/v1/deployments", manifest("wrong", package, resources=resources))
    assert answer.status == 503, answer.text
    assert "insufficient capacity" in answer.json()["message"]
    assert answer.json()["details"]


def test_good_manifest_is_accepted_and_its_name_taken(shared, operator):
    client, package = operator
    whole = manifest("taken", package, replicas=0)
    first = client.post("/api/v1/deployments", whole)
    assert first.status == 202, first.text
    assert first.json()["status"] == "pending" and first.json()["deployment_id"]
    second = client.post("/api/v1/deployments", whole)
    assert second.status == 409 and "taken" in second.text, second.text
    assert client.rpc("deployment_remove", deployment="taken").status == 202
