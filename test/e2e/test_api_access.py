"""Who may do what, through every door of the API: strangers, a user, another user, a node, an
administrator. What each function is open to comes from the API's own description; what belongs to whom
is tried out on objects of one user.
"""

import hashlib
import os
import uuid
from types import SimpleNamespace

import pytest

from cloud import random_package, wait_until

CAPABILITIES = {"cpu_cores": 2, "memory_gb": 1, "disk_gb": 10}
SAMPLES = {"integer": 1, "number": 1.5, "boolean": True, "string": "x", "array": []}


def sample(schema):
    """A value of an argument's type."""
    if schema.get("format") == "uuid":
        return str(uuid.uuid4())
    return SAMPLES.get(schema.get("type"), {})


def calls(api, closed):
    """[(function, arguments)]: every function that does (not) need a token, with what it requires."""
    paths = api.rpc("openapi").json()["paths"]
    found = []
    for path, item in paths.items():
        operation = item.get("post", {})
        if path.startswith("/rpc/") and ("security" in operation) == closed:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            found.append((path.removeprefix("/rpc/"), {name: sample(schema["properties"][name])
                                                       for name in schema.get("required", ())}))
    return found


def store(person):
    """Stores a package of hers; returns its digest."""
    content = random_package(500)
    answer = person.rpc("package_put", content=f"\\x{content.hex()}")
    assert answer.json() == {"digest": hashlib.sha256(content).hexdigest()}, answer.text
    return answer.json()["digest"]


@pytest.fixture(scope="module")
def world(api):
    """Ann with a node, a package and a deployment; Bob without anything."""
    ann, bob = api.person("ann"), api.person("bob")
    token = ann.rpc("join_token_create", name="ann-node").json()["token"]
    answer = api.rpc("node_register", join_token=token, endpoint="http://127.0.0.1:1",
                     public_key=os.urandom(32).hex()[:43], capabilities=CAPABILITIES, name="ann-node")
    assert answer.status == 201, answer.text
    digest = store(ann)
    manifest = {"name": "ann-app", "package": digest, "entrypoint": ["./x"], "replicas": 0}
    deployment = ann.rpc("deployment_create", manifest=manifest)
    assert (deployment.status, deployment.json()["status"]) == (202, "pending"), deployment.text
    return SimpleNamespace(ann=ann, bob=bob, digest=digest, node=answer.json()["node_id"],
                           node_client=api.anonymous.as_user(answer.json()["node_token"]),
                           deployment=deployment.json()["deployment_id"])


def attempts(world, named=True):
    """Calls on Ann's objects that change nothing; by name too when the caller may share the names."""
    for node in (world.node, "ann-node") if named else (world.node,):
        yield "node_get", {"node": node}
    for deployment in (world.deployment, "ann-app") if named else (world.deployment,):
        yield "deployment_get", {"deployment": deployment}
        yield "deployment_scale", {"deployment": deployment, "replicas": 0}
        yield "deployment_stop", {"deployment": deployment}
        yield "deployment_start", {"deployment": deployment}
    yield "package_get", {"digest": world.digest}


def test_strangers_reach_nothing_closed(api):
    found = calls(api, closed=True)
    assert len(found) > 25
    statuses = {name: api.rpc(name, **arguments).status for name, arguments in found}
    assert {name: status for name, status in statuses.items() if status != 401} == {}


def test_what_is_open_is_listed(api):
    """A function that strangers may call is a decision, made here."""
    assert {name for name, _ in calls(api, closed=False)} == {
        "version", "openapi", "request_check", "auth_register", "auth_login", "auth_refresh", "node_register"}


def test_nodes_reach_what_is_theirs_alone(api, world):
    for name, arguments in calls(api, closed=True):
        if name not in ("node_heartbeat", "node_token_renew", "package_get", "log_put"):
            assert world.node_client.rpc(name, **arguments).status == 403, name
    beat = {"boot_id": "0" * 16, "state_version": 0, "metrics": {}, "replicas": []}
    assert world.node_client.rpc("node_heartbeat", **beat).status == 204
    assert world.node_client.rpc("node_token_renew").json()["node_token"]
    assert world.node_client.rpc("package_get", digest=world.digest).status == 200
    assert world.node_client.rpc("package_get", digest="0" * 64).status == 404
    assert world.node_client.rpc("log_put", chunks=[]).status == 200
    assert world.ann.rpc("node_heartbeat", **beat).status == 403
    assert world.ann.rpc("log_put", chunks=[]).status == 403


def test_users_are_no_administrators(api, world):
    ann = world.ann
    assert ann.rpc("user_create", email="new@example.org").status == 403
    assert ann.rpc("token_create", user_id=world.bob.user_id).status == 403
    assert ann.rpc("signing_key_rotate").status == 403


def test_administrator_makes_users_and_tokens(api):
    answer = api.admin.rpc("user_create", email=f"made-{uuid.uuid4().hex[:12]}@example.org")
    assert answer.status == 200, answer.text
    token = api.admin.rpc("token_create", user_id=answer.json(), ttl="5 minutes")
    assert api.anonymous.as_user(token.json()).rpc("auth_me").json()["user_id"] == answer.json()
    for ttl in ("0 seconds", "8 days", "-1 hour", "nonsense"):
        assert api.admin.rpc("token_create", user_id=answer.json(), ttl=ttl).status == 400, ttl
    assert api.admin.rpc("token_create", user_id=str(uuid.uuid4())).status == 404
    assert api.admin.rpc("user_create", email="x@example.org", role="postgres").status == 400


def test_owner_does_everything(world):
    for name, arguments in attempts(world):
        answer = world.ann.rpc(name, **arguments)
        assert answer.status in (200, 202), (name, arguments, answer.text)


def test_for_another_user_it_does_not_exist(world):
    for name, arguments in (*attempts(world), ("node_deregister", {"node": world.node}),
                            ("deployment_remove", {"deployment": world.deployment})):
        answer = world.bob.rpc(name, **arguments)
        assert (answer.status, answer.json()["code"]) == (404, "PT404"), (name, arguments, answer.text)


def test_what_is_missing_reads_the_same_as_what_is_not_yours(world):
    theirs = world.bob.rpc("deployment_get", deployment=world.deployment).json()
    nobodys = world.bob.rpc("deployment_get", deployment=str(uuid.UUID(int=0))).json()
    assert theirs["message"].replace(world.deployment, "X") == nobodys["message"].replace(str(uuid.UUID(int=0)), "X")


def test_lists_hold_what_is_the_callers(world):
    lists = ("node_list", "deployment_list", "event_list", "alert_list")
    assert [world.bob.rpc(name).json() for name in lists] == [[], [], [], []]
    assert [one["id"] for one in world.ann.rpc("node_list").json()] == [world.node]
    assert [one["id"] for one in world.ann.rpc("deployment_list").json()] == [world.deployment]
    # Events show when no transaction that began before theirs is still open.
    wait_until("the event is listed", lambda: world.ann.rpc("event_list").json(),
               until=lambda listed: world.deployment in {one["subject_id"] for one in listed})


def test_names_are_the_owners_own(api, world):
    carol = api.person("carol")
    digest = store(carol)
    manifest = {"name": "ann-app", "package": digest, "entrypoint": ["./x"], "replicas": 0}
    theirs = {**manifest, "package": world.digest}
    assert carol.rpc("deployment_create", manifest=theirs).status == 400
    assert carol.rpc("deployment_create", manifest=manifest).status == 202
    assert carol.rpc("deployment_create", manifest=manifest).status == 409
    assert carol.rpc("deployment_get", deployment="ann-app").json()["id"] != world.deployment


def test_administrator_does_everything_by_id(api, world):
    for name, arguments in attempts(world, named=False):
        answer = api.admin.rpc(name, **arguments)
        assert answer.status in (200, 202), (name, arguments, answer.text)
