"""Who may do what: tokens that are missing, broken, old or of the wrong role, and a second user who
sees nothing of the first, through HTTP and through SQL alike."""

import base64
import json

import psycopg
import pytest

from cloud import manifest, package_of


@pytest.fixture(scope="module")
def http(shared):
    return shared.cluster.client()


@pytest.fixture(scope="module")
def operator(shared):
    return shared.cluster.value('SELECT user_id FROM a67_internal."user" WHERE is_operator')


@pytest.fixture(scope="module")
def bob(shared):
    """A second user: (user id, token)."""
    user = shared.cluster.value("SELECT a67.user_create('bob@example.org')")
    return user, shared.cluster.value("SELECT a67.token_create(%s, '1 hour')", user)


@pytest.fixture(scope="module")
def hello(shared):
    """A deployment of the operator's."""
    found = shared.deploy("owned", replicas=1)
    yield found
    shared.cluster.execute("SELECT a67.deployment_remove('owned')")
    shared.wait_nothing_runs()


def token(shared, subject, role="a67_user", ttl="1 hour"):
    return shared.cluster.value("SELECT a67_internal._token(%s, %s, %s)", subject, role, ttl)


def changed(good, part, change):
    """The token with one part's JSON changed and the rest (also the signature) kept."""
    pieces = good.split(".")
    raw = base64.urlsafe_b64decode(pieces[part] + "=" * (-len(pieces[part]) % 4))
    text = json.dumps({**json.loads(raw), **change}, separators=(",", ":"))
    pieces[part] = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return ".".join(pieces)


def node_claims(shared):
    return shared.cluster.value("SELECT node_id FROM a67.node WHERE name = 'oak'")


def refused(answer, *statuses):
    assert answer.status in statuses, (answer.status, answer.text)
    assert set(answer.json()) == {"code", "message", "details", "hint"}, answer.text
    assert answer.headers.get("x-request-id")


def test_no_token_is_401(http):
    refused(http.post("/api/v1/deployments", {"name": "x"}), 401)
    refused(http.rpc("deployment_stop", deployment="x"), 401)
    refused(http.rpc("join_token_create"), 401)
    refused(http.post("/api/v1/nodes/heartbeat", {}), 401)


def test_broken_tokens_are_401(shared, http, bob):
    user, good = bob
    head, body, signature = good.split(".")
    wrong = [
        "x", "..", "a.b.c", good[:-2], f"{head}.{body}.", f"{head}.{body}", f"{good}.x",
        f"{head}.{body}.{signature[::-1]}", "A" * 5000,
        changed(good, 1, {"role": "a67_admin"}),
        changed(good, 0, {"alg": "none"}),
        changed(good, 0, {"alg": "EdDSA"}),
        changed(good, 0, {"kid": "0000000000000000"}),
        changed(good, 0, {"alg": "none"}).rsplit(".", 1)[0] + ".",
        token(shared, user, ttl="-1 minute"),
        token(shared, user, role="postgres"),
        token(shared, user, role="a67_authenticator"),
    ]
    for bad in wrong:
        refused(http.as_user(bad).rpc("deployment_stop", deployment="x"), 401, 403)
        refused(http.as_user(bad).post("/api/v1/nodes/heartbeat", {}), 401, 403)


def test_authorization_of_another_kind_is_401(http):
    for value in ("Basic Ym9iOmJvYg==", "Bearer", "Bearer ", "bearer", "x y z"):
        answer = http.post("/rpc/deployment_stop", {"deployment": "x"},
                           headers={"Authorization": value})
        refused(answer, 401)


def test_node_token_deploys_nothing(shared, http):
    node = http.as_user(token(shared, node_claims(shared), role="a67_node"))
    refused(node.post("/api/v1/deployments", manifest("x", "0" * 64)), 401, 403)
    refused(node.rpc("deployment_remove", deployment="owned"), 401, 403)
    refused(node.rpc("join_token_create"), 401, 403)
    refused(node.rpc("user_create", email="x@example.org"), 401, 403)


def test_user_token_is_no_node(http, bob):
    user = http.as_user(bob[1])
    beat = {"boot_id": "0" * 16, "seq": 1, "state_version": 0, "status": "ok",
            "metrics": {}, "replicas": []}
    refused(user.post("/api/v1/nodes/heartbeat", beat), 401, 403)
    refused(user.rpc("node_token_renew"), 401, 403)


def test_user_is_no_administrator(http, bob):
    user = http.as_user(bob[1])
    refused(user.rpc("user_create", email="eve@example.org"), 403)
    refused(user.rpc("token_create", user_id=str(bob[0]), ttl="1 hour"), 403)


def test_token_of_a_removed_user_is_refused(shared, http):
    nobody = token(shared, "00000000-0000-4000-8000-000000000000")
    refused(http.as_user(nobody).rpc("join_token_create"), 401, 403)


def test_internal_functions_are_not_reachable(shared, http, bob, operator):
    for caller in (http, http.as_user(bob[1]), http.as_user(token(shared, operator, "a67_admin"))):
        for name in ("_bootstrap", "_token", "a67_internal._token", "pg_sleep", "nothing_like_it"):
            refused(caller.rpc(name), 401, 403, 404)


def test_second_user_cannot_touch_what_is_not_his(http, bob, hello):
    user = http.as_user(bob[1])
    for deployment in ("owned", str(hello)):
        refused(user.rpc("deployment_scale", deployment=deployment, replicas=0), 404)
        refused(user.rpc("deployment_stop", deployment=deployment), 404)
        refused(user.rpc("deployment_remove", deployment=deployment), 404)
    refused(user.rpc("node_deregister", node="oak"), 404)


def test_second_user_may_use_the_same_names(http, bob, hello, shared):
    """Names are the owner's own; without nodes of his own nothing of his runs."""
    user = http.as_user(bob[1])
    answer = user.request("PUT", "/api/v1/packages", _package())
    assert answer.status == 201, answer.text
    digest = answer.json()
    digest = digest["digest"] if isinstance(digest, dict) else digest
    answer = user.post("/api/v1/deployments", manifest("owned", digest))
    assert answer.status in (202, 503), answer.text
    if answer.status == 202:
        assert user.rpc("deployment_remove", deployment="owned").status in (200, 202, 204)
    assert shared.wait_serving("owned", 1)


def _package():
    return package_of()


def test_package_of_another_user_is_not_found(shared, http, bob):
    digest = shared.cluster.value("SELECT a67.package_put(%s)", _package() + b"operator's own")
    refused(http.as_user(bob[1]).get(f"/api/v1/packages/{digest}"), 404)
    refused(http.get(f"/api/v1/packages/{digest}"), 401)
    refused(http.as_user(bob[1]).get("/api/v1/packages/nonsense"), 400, 404)


def test_package_travels_unchanged(http, bob):
    content = _package() + bytes(range(256)) * 2000
    user = http.as_user(bob[1])
    answer = user.request("PUT", "/api/v1/packages", content)
    assert answer.status == 201, answer.text
    digest = answer.json()
    digest = digest["digest"] if isinstance(digest, dict) else digest
    again = user.get(f"/api/v1/packages/{digest}")
    assert (again.status, again.body) == (200, content)
    assert again.headers["content-type"] == "application/gzip"


def as_role(cluster, role, user, query, *parameters):
    """Runs a query as PostgREST would: session user a67_authenticator, role and claims set."""
    claims = json.dumps({"sub": str(user), "role": role})
    with cluster.connect(user="a67_authenticator", autocommit=False) as connection:
        connection.execute("SELECT set_config('role', %s, true),"
                           " set_config('request.jwt.claims', %s, true)", (role, claims))
        return connection.execute(query, parameters or None).fetchall()


VIEWS = ("node", "deployment", "release", "replica", "endpoint", "package", "event", "alert")


@pytest.mark.parametrize("view", VIEWS)
def test_second_user_sees_no_rows(shared, hello, operator, view):
    cluster = shared.cluster
    carol = cluster.value("SELECT a67.user_create(%s)", f"carol-{view}@example.org")
    (theirs,) = as_role(cluster, "a67_user", carol, f"SELECT count(*) FROM a67.{view}")
    assert theirs == (0,)
    (all_rows,) = as_role(cluster, "a67_admin", operator, f"SELECT count(*) FROM a67.{view}")
    if view != "alert":
        assert all_rows > (0,)


@pytest.mark.parametrize("query", [
    "SELECT * FROM a67_internal.signing_key",
    "SELECT token_hash FROM a67_internal.join_token",
    "SELECT a67_internal._token(gen_random_uuid(), 'a67_admin', '1 hour')",
    "SELECT a67_internal._bootstrap()",
    "UPDATE a67_internal.node SET owner_id = owner_id",
    "DELETE FROM a67_internal.deployment",
    "INSERT INTO a67_internal.\"user\" (email) VALUES ('eve@example.org')",
    "SELECT a67_internal._vault_open('\\x00', '')",
    "SELECT a67.user_create('eve@example.org')",
])
@pytest.mark.parametrize("role", ["a67_anon", "a67_user", "a67_node"])
def test_roles_cannot_reach_inside(shared, bob, role, query):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role(shared.cluster, role, bob[0], query)


def test_sql_commands_of_a_second_user_find_nothing(shared, bob, hello):
    for query in ("SELECT a67.deployment_scale('owned', 0)", "SELECT a67.deployment_stop('owned')",
                  "SELECT a67.deployment_remove('owned')", "SELECT a67.node_deregister('oak')"):
        with pytest.raises(psycopg.Error) as caught:
            as_role(shared.cluster, "a67_user", bob[0], query)
        assert caught.value.sqlstate == "PT404", query
