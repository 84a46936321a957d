"""The REST paths /api/v1 of the listener, plainly and behind HAProxy; and HAProxy's other frontend, which
turns those paths into PostgREST's calls (here PostgREST itself when it is on PATH, else the listener,
which takes the same calls).
"""

import gzip
import hashlib
import json
import os

import pytest

from cloud import package_of, process, random_package, wait_until
from cloud.api import CONFIG, PASSWORD, haproxy, postgrest, program
from cloud.client import Client
from cloud.openapi import problems


@pytest.fixture
def rest(api):
    if api.is_postgrest:
        pytest.skip("PostgREST has no REST paths of its own")
    return api


@pytest.fixture
def ann(rest):
    return rest.person("ann")


def new_node(rest, ann, name="oak"):
    token = ann.client.post("/api/v1/nodes/join-tokens", {"name": name})
    assert token.status == 201, token.text
    body = {"join_token": token.json()["token"], "endpoint": "http://127.0.0.1:1", "name": name,
            "public_key": os.urandom(32).hex()[:43], "capabilities": {"cpu_cores": 2, "memory_gb": 1, "disk_gb": 10}}
    answer = rest.anonymous.post("/api/v1/nodes/register", body)
    assert answer.status == 201, answer.text
    return answer.json()


def new_deployment(ann, name="app"):
    digest = ann.client.put("/api/v1/packages", package_of()).json()["digest"]
    answer = ann.client.post("/api/v1/deployments", {"name": name, "package": digest, "entrypoint": ["./x"], "replicas": 0})
    assert (answer.status, answer.json()["status"]) == (202, "pending"), answer.text
    return answer.json()["deployment_id"]


def test_account(rest):
    email = f"rest-{os.urandom(8).hex()}@example.org"
    answer = rest.anonymous.post("/api/v1/auth/register", {"email": email, "password": PASSWORD})
    assert answer.status == 201 and set(answer.json()) >= {"user_id", "access_token", "refresh_token"}
    answer = rest.anonymous.post("/api/v1/auth/login", {"email": email, "password": PASSWORD})
    assert answer.status == 200
    tokens = answer.json()
    user = rest.anonymous.as_user(tokens["access_token"])
    assert user.get("/api/v1/auth/me").json()["email"] == email
    answer = rest.anonymous.as_user(tokens["refresh_token"]).post("/api/v1/auth/refresh")
    assert answer.status == 200, answer.text
    fresh = rest.anonymous.as_user(answer.json()["access_token"])
    assert rest.anonymous.as_user(tokens["refresh_token"]).post("/api/v1/auth/refresh").status == 401
    assert fresh.get("/api/v1/auth/me").status == 401
    assert rest.anonymous.get("/api/v1/auth/me").status == 401
    assert rest.anonymous.post("/api/v1/auth/refresh").status == 401
    assert user.post("/api/v1/auth/refresh").status == 401


def test_logout(rest, ann):
    assert ann.client.post("/api/v1/auth/logout").status == 204
    assert ann.client.get("/api/v1/auth/me").status == 401


def test_password_and_second_factor(ann):
    assert ann.client.post("/api/v1/auth/mfa/enroll", {"password": PASSWORD}).status == 200
    assert ann.client.post("/api/v1/auth/mfa/confirm", {"code": "12345"}).status == 401
    assert ann.client.post("/api/v1/auth/mfa/disable", {"password": PASSWORD, "code": "123456"}).status == 400
    answer = ann.client.post("/api/v1/auth/password", {"old_password": PASSWORD, "new_password": PASSWORD[::-1]})
    assert answer.status == 200


def test_nodes(rest, ann):
    found = [new_node(rest, ann, name) for name in ("oak", "elm")]
    names = [one["name"] for one in ann.client.get("/api/v1/nodes").json()]
    assert names == ["elm", "oak"]
    assert [one["name"] for one in ann.client.get("/api/v1/nodes?limit=1&offset=1").json()] == ["oak"]
    assert ann.client.get("/api/v1/nodes?status=failed&provider=render").json() == []
    for node in ("oak", found[0]["node_id"], found[0]["node_id"].upper()):
        assert ann.client.get(f"/api/v1/nodes/{node}").json()["id"] == found[0]["node_id"]
    assert ann.client.request("DELETE", "/api/v1/nodes/oak").status == 204
    assert ann.client.get("/api/v1/nodes/fir").status == 404


@pytest.mark.parametrize("query", ["limit=many", "limit=0", "limt=1", "status", "limit=1&limit=2", "limit=%zz", "status=%00"])
def test_bad_queries(ann, query):
    answer = ann.client.get(f"/api/v1/nodes?{query}")
    assert answer.status == 400 if query != "status" else answer.status in (200, 400), answer.text


def test_node_of_another_user(rest, ann):
    node = new_node(rest, ann)
    bob = rest.person("bob").client
    assert bob.get(f"/api/v1/nodes/{node['node_id']}").status == 404
    assert bob.request("DELETE", f"/api/v1/nodes/{node['node_id']}").status == 404
    assert bob.get("/api/v1/nodes").json() == []
    assert rest.anonymous.get("/api/v1/nodes").status == 401


def test_packages(rest, ann):
    content = random_package(3_000_000)
    answer = ann.client.put("/api/v1/packages", content)
    digest = hashlib.sha256(content).hexdigest()
    assert (answer.status, answer.json()) == (201, {"digest": digest})
    answer = ann.client.get(f"/api/v1/packages/{digest}")
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["content-type"] == "application/gzip"
    assert rest.person("bob").client.get(f"/api/v1/packages/{digest}").status == 404
    assert ann.client.put("/api/v1/packages", b"no archive").status == 400


def test_deployments(ann):
    found = new_deployment(ann)
    assert [one["id"] for one in ann.client.get("/api/v1/deployments").json()] == [found]
    whole = ann.client.get("/api/v1/deployments/app").json()
    assert (whole["id"], len(whole["releases"]), whole["replicas"]) == (found, 1, [])
    assert ann.client.post("/api/v1/deployments/app/scale", {"replicas": -1}).status == 400
    assert ann.client.post("/api/v1/deployments/app/scale", {"replicas": 0, "deployment": "app"}).status == 400
    assert ann.client.post("/api/v1/deployments/app/scale", {"replicas": 0}).status == 202
    assert ann.client.post("/api/v1/deployments/app/stop").status == 202
    assert ann.client.post(f"/api/v1/deployments/{found}/start", {}).status == 202
    assert ann.client.post("/api/v1/deployments/other/start").status == 404
    assert ann.client.request("DELETE", "/api/v1/deployments/app").status == 202


def test_manifest_names_the_field(ann):
    answer = ann.client.post("/api/v1/deployments", {"name": "Bad Name", "entrypoint": ["x"], "package": "0" * 64})
    assert answer.status == 400 and "name" in answer.json()["details"]


def test_events_and_alerts(rest, ann):
    found = new_deployment(ann)
    # Events show when no transaction that began before theirs is still open.
    events = wait_until("the event is listed", lambda: ann.client.get("/api/v1/events").json(),
                        until=lambda listed: found in {one["subject_id"] for one in listed})
    later = ann.client.get(f"/api/v1/events?since={events[-1]['id']}").json()
    assert not {one["id"] for one in later} & {one["id"] for one in events}
    assert ann.client.get("/api/v1/alerts").json() == []
    assert ann.client.get("/api/v1/alerts?include_resolved=true&limit=5").json() == []
    assert rest.anonymous.get("/api/v1/events").status == 401


def test_paths_and_methods(rest, ann):
    for path in ("/", "/api", "/api/v1", "/api/v1/", "/api/v2/nodes", "/api/v1/nodes/", "/api/v1/nodes/a/b", "/API/V1/nodes",
                 "/api/v1/../v1/nodes", "//api/v1/nodes"):
        assert ann.client.get(path).status == 404, path
    answer = ann.client.request("PATCH", "/api/v1/nodes")
    assert answer.status == 405 and "GET" in answer.headers["allow"]


def test_request_id_comes_back(rest):
    assert rest.anonymous.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = rest.anonymous.get("/healthz", headers={"X-Request-Id": "not mine!"}).headers["x-request-id"]
    assert made and made != "not mine!"


def test_large_json_is_compressed_when_asked_for(ann):
    body = {"names": [f"n{i}" for i in range(20)]}
    plain = ann.client.post("/rpc/ring_points", body)
    packed = ann.client.post("/rpc/ring_points", body, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert len(packed.body) < len(plain.body) / 2
    assert gzip.decompress(packed.body) == plain.body


def test_description_has_the_paths(rest):
    answer = rest.anonymous.get("/openapi.json")
    assert answer.status == 200 and problems(answer.json()) == []
    paths = answer.json()["paths"]
    assert {"/api/v1/nodes", "/api/v1/nodes/{node}", "/api/v1/packages", "/api/v1/deployments", "/api/v1/auth/login"} <= set(paths)
    get = paths["/api/v1/nodes/{node}"]["get"]
    assert [(one["name"], one["in"]) for one in get["parameters"]] == [("node", "path")]
    assert "security" in get and "security" not in paths["/api/v1/auth/login"]["post"]


# -- HAProxy -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rewritten(api_cluster):
    """HAProxy's frontend for PostgREST: (client without a token, its access log)."""
    if program("haproxy") is None:
        pytest.skip("there is no haproxy on PATH")
    daemons = []
    try:
        if program("postgrest") is None:
            address = api_cluster.listener_url()
        else:
            daemon, address = postgrest(api_cluster, api_cluster.value("SELECT a67_internal._jwks()::text"))
            daemons.append(daemon)
            daemon.wait_answering(address)
        daemon, urls = haproxy(process.make_directory(api_cluster.folder / "rewritten"),
                               A67_POSTGREST=address.removeprefix("http://"))
        daemons.append(daemon)
        yield Client(daemon.wait_answering(urls["A67_POSTGREST_BIND"]))
    finally:
        for daemon in daemons:
            daemon.stop()


def test_configuration_is_valid():
    if program("haproxy") is None:
        pytest.skip("there is no haproxy on PATH")
    text = process.run([program("haproxy"), "-c", "-f", CONFIG / "haproxy.cfg"])
    assert "valid" in text and "WARNING" not in text, text


def test_rewritten_paths(rewritten):
    email = f"mapped-{os.urandom(8).hex()}@example.org"
    answer = rewritten.post("/api/v1/auth/register", {"email": email, "password": PASSWORD})
    assert answer.status == 201, answer.text
    answer = rewritten.post("/api/v1/auth/login", {"email": email, "password": PASSWORD})
    assert answer.status == 200, answer.text
    user = rewritten.as_user(answer.json()["access_token"])
    assert user.get("/api/v1/auth/me").json()["email"] == email
    token = user.post("/api/v1/nodes/join-tokens", {"name": "oak"}).json()["token"]
    body = {"join_token": token, "endpoint": "http://127.0.0.1:1", "public_key": os.urandom(32).hex()[:43],
            "capabilities": {"cpu_cores": 2, "memory_gb": 1, "disk_gb": 10}}
    node = rewritten.post("/api/v1/nodes/register", body).json()
    beat = {"boot_id": "0" * 16, "state_version": 0, "metrics": {}, "replicas": []}
    assert rewritten.as_user(node["node_token"]).post("/api/v1/nodes/heartbeat", beat).status == 204
    assert [one["name"] for one in user.get("/api/v1/nodes?limit=5").json()] == ["oak"]
    assert user.get("/api/v1/nodes/oak").json()["id"] == node["node_id"]
    assert user.get("/api/v1/nodes/elm").status == 404
    assert user.get("/api/v1/deployments").json() == user.get("/api/v1/alerts").json() == []
    assert user.get("/api/v1/events?limit=1").status == 200
    made = user.post("/api/v1/credentials", {"provider": "render", "access_token": "x"})
    assert made.status == 201, made.text
    assert user.get("/api/v1/credentials").json() == [user.get(f"/api/v1/credentials/{made.json()['id']}").json()]
    item = {"name": "a b", "salt": "A" * 22 + "==", "iv": "A" * 16, "tag": "A" * 22 + "==", "ciphertext": ""}
    assert user.rpc("vault_item_put", **item).status == 201
    assert [one["name"] for one in user.get("/api/v1/vault?limit=5").json()] == ["a b"]
    assert user.get("/api/v1/vault/a%20b").json()["iv"] == item["iv"]
    assert user.post("/api/v1/auth/mfa/enroll", {"password": PASSWORD}).status == 200
    change = {"old_password": PASSWORD, "new_password": PASSWORD[::-1]}
    assert user.post("/api/v1/auth/password", change).status == 200
    assert user.post("/api/v1/auth/logout", {}).status == 204
    assert user.get("/api/v1/auth/me").status == 401
    assert problems(rewritten.get("/openapi.json").json()) == []


def test_paths_that_cannot_be_rewritten_say_so(rewritten):
    for method, path in (("POST", "/api/v1/deployments"), ("DELETE", "/api/v1/nodes/oak"),
                         ("POST", "/api/v1/deployments/app/scale"), ("DELETE", "/api/v1/credentials/x"), ("PUT", "/api/v1/vault/x"),
                         ("GET", "/api/v1/anything/else")):
        answer = rewritten.request(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.json()["code"]) == (501, "HTTP501"), path
    assert rewritten.rpc("version").status == 200


def test_client_address_is_believed_from_the_proxy_alone(api, api_cluster):
    """What the audit trail notes: HAProxy's own word, not what the client writes into the header."""
    if api.door != "haproxy":
        pytest.skip("about HAProxy")
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": f"forged-{os.urandom(4).hex()}"}
    api.anonymous.post("/rpc/auth_login", {"email": "x@example.org", "password": "wrong horse"}, headers=forged)
    row = api_cluster.row("SELECT address, outcome FROM a67.audit WHERE request_id = %s", forged["X-Request-Id"])
    assert row == {"address": "127.0.0.1", "outcome": "refused"}


def test_first_hop_behind_a_trusted_proxy_is_the_client(api, api_cluster):
    """The listener trusts 127.0.0.1 here: the last address that is not a proxy's counts."""
    if api.door != "listener":
        pytest.skip("about the listener")
    headers = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "X-Request-Id": f"hop-{os.urandom(4).hex()}"}
    api.anonymous.post("/rpc/auth_login", {"email": "x@example.org", "password": "wrong horse"}, headers=headers)
    assert api_cluster.value("SELECT address FROM a67.audit WHERE request_id = %s", headers["X-Request-Id"]) == "203.0.113.9"


def test_refusals_are_on_record(api, api_cluster):
    """A call that the role may not make is noted although its transaction was rolled back."""
    if api.is_postgrest:
        pytest.skip("PostgREST notes nothing of what it rolls back")
    ann = api.person("ann")
    mark = {"X-Request-Id": f"denied-{os.urandom(4).hex()}"}
    assert ann.client.post("/rpc/user_create", {"email": "new@example.org"}, headers=mark).status == 403
    rows = api_cluster.rows("SELECT actor_id::text, outcome, subject FROM a67.audit WHERE request_id = %s", mark["X-Request-Id"])
    assert [(row["actor_id"], row["outcome"]) for row in rows] == [(ann.user_id, "refused")]
    assert json.dumps(rows).count("new@example.org") == 0
