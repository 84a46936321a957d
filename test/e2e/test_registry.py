"""The registry from outside: what agents say of themselves, finding and changing nodes, join tokens, quotas of
providers and the requests that keep nodes awake."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cloud import wait_until

CAPABILITIES = {"cpu_cores": 1, "memory_gb": 1, "disk_gb": 1}
HOOK_SECRET = "a-secret-of-the-restart-hook"


def operator(cloud):
    """A client with an administrator's token."""
    token = cloud.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '1 hour')")
    return cloud.cluster.client().as_user(token)


def register(cloud, token, key="K", **more):
    return cloud.cluster.client().post("/api/v1/nodes/register", {
        "join_token": token, "endpoint": "http://127.0.0.1:9", "public_key": key * 43,
        "capabilities": CAPABILITIES, **more})


def refused(answer, status, field=None):
    assert answer.status == status, answer.text
    assert set(answer.json()) == {"code", "message", "details", "hint"}
    if field is not None:
        assert answer.json()["details"] == f"Field: {field}."
    return answer.json()


@contextmanager
def sleeper():
    """A node that only answers: its URL, and the list of paths that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_agent_tells_labels_services_and_tier(make_cloud):
    cloud = make_cloud()
    cloud.start_agent("oak", None, "--service", "storage", "--service", "compute", "--tier", "hobby",
                      "--label", "gpu=no", "--label", "note=a = b, ü", "--region", "fra")
    cloud.wait_nodes("ready", "oak")
    row = cloud.node("oak")
    assert row["services"] == ["compute", "storage"]
    assert row["labels"] == {"gpu": "no", "note": "a = b, ü"}
    assert (row["tier"], row["region"], row["provider"]) == ("hobby", "fra", "generic")
    http = operator(cloud)
    found = http.post("/api/v1/nodes/find", {"labels": {"gpu": "no"}, "services": ["storage"], "status": ["ready", "busy"],
                                             "free": {"cpu": 0.01, "memory_bytes": 1}})
    assert [one["name"] for one in found.json()] == ["oak"], found.text
    assert found.json()[0]["labels"]["note"] == "a = b, ü"
    assert http.post("/api/v1/nodes/find", {"labels": {"gpu": "yes"}}).json() == []
    assert [one["name"] for one in http.get("/api/v1/nodes?service=storage").json()] == ["oak"]
    assert http.get("/api/v1/nodes?service=cache").json() == []


def test_agent_says_nothing_and_the_token_decides(make_cloud):
    cloud = make_cloud()
    token = cloud.join_token(region="eu-west-1", provider="render")
    cloud.start_agent("oak", token)
    cloud.wait_nodes("ready", "oak")
    row = cloud.node("oak")
    assert (row["region"], row["provider"]) == ("eu-west-1", "render")
    assert (row["services"], row["labels"], row["tier"]) == (["compute"], {}, None)


def test_agent_with_another_region_than_its_token_is_refused(make_cloud):
    cloud = make_cloud()
    agent = cloud.start_agent("oak", cloud.join_token(region="eu-west-1"), "--region", "us-east-1")
    assert agent.exit_status() == 111
    assert "another provider, region or name" in agent.report()
    assert cloud.cluster.value("SELECT count(*) FROM a67_internal.node") == 0


@pytest.mark.parametrize("options", [("--service", "gpu"), ("--label", "No=x"), ("--label", "plain"), ("--tier", "")])
def test_agent_refuses_what_makes_no_sense(make_cloud, options):
    cloud = make_cloud()
    agent = cloud.start_agent("oak", None, *options)
    assert agent.exit_status() == 100
    assert options[0] in agent.report()


def test_another_key_is_told_whose_the_name_is(shared):
    first = register(shared, shared.join_token(), "K", name="taken-one").json()
    try:
        for key, more in (("L", {"name": "taken-one"}), ("K", {"name": "other"}), ("M", {"node_id": first["node_id"]})):
            answer = refused(register(shared, shared.join_token(), key, **more), 409)
            assert (answer["code"], answer["details"]) == ("23505", first["node_id"]), answer
    finally:
        shared.cluster.execute("SELECT a67.node_deregister('taken-one')")


def test_a_node_may_choose_its_id(shared):
    wanted = "00000000-0000-4000-8000-0000000000aa"
    token = shared.join_token()
    answer = register(shared, token, "N", node_id=wanted, name="chosen")
    try:
        assert (answer.status, answer.json()["node_id"]) == (201, wanted)
        assert register(shared, token, "N", node_id=wanted).json()["node_id"] == wanted
        refused(register(shared, shared.join_token(), "P", node_id="no-uuid"), 400)
    finally:
        shared.cluster.execute("SELECT a67.node_deregister('chosen')")


def test_wrong_facts_name_the_field(shared):
    for field, value in (("services", ["gpu"]), ("services", []), ("labels", {"a": 1}), ("labels", {"UP": "x"}), ("labels", ["a"]),
                         ("tier", "no blanks"), ("region", "A"), ("provider", ""), ("endpoint", "http://h:0"), ("surprise", 1)):
        answer = refused(register(shared, shared.join_token(), "Q", name="wrong", **{field: value}), 400)
        assert field in answer["details"] + answer["message"], (field, value, answer)
    assert "wrong" not in shared.statuses()


def test_node_is_changed_over_http(shared):
    register(shared, shared.join_token(), "R", name="changed")
    http = operator(shared)
    try:
        answer = http.request("PATCH", "/api/v1/nodes/changed", {"labels": {"gpu": "yes"}, "tier": "paid"})
        assert (answer.status, answer.json()["labels"], answer.json()["tier"]) == (200, {"gpu": "yes"}, "paid")
        assert http.get("/api/v1/nodes/changed").json() == answer.json()
        refused(http.request("PATCH", "/api/v1/nodes/changed", {"status": "ready"}), 400, "status")
        refused(http.request("PATCH", "/api/v1/nodes/changed", ["tier"]), 400, "changes")
        refused(http.request("PATCH", "/api/v1/nodes/nope", {"tier": "x"}), 404)
        refused(http.request("PATCH", "/api/v1/nodes/changed", {"name": "oak"}), 409)
        refused(shared.cluster.client().request("PATCH", "/api/v1/nodes/changed", {"tier": "x"}), 401)
        refused(http.post("/api/v1/nodes/find", {"free": {"gpus": 1}}), 400, "free.gpus")
        refused(http.post("/api/v1/nodes/find", {"status": "online"}), 400, "status")
    finally:
        assert http.request("DELETE", "/api/v1/nodes/changed").status == 204
    refused(http.request("DELETE", "/api/v1/nodes/changed"), 404)


def test_token_is_listed_and_revoked(shared):
    http = operator(shared)
    made = http.post("/api/v1/nodes/join-tokens", {"ttl": "1 hour", "region": "fra"}).json()
    listed = http.get("/api/v1/nodes/join-tokens")
    assert made["token"].split(".")[1] not in listed.text
    mine = [one for one in listed.json() if one["join_token_id"] == made["join_token_id"]]
    assert [(one["region"], one["used_at"]) for one in mine] == [("fra", None)]
    path = f"/api/v1/nodes/join-tokens/{made['join_token_id']}"
    assert http.request("DELETE", path).status == 204
    refused(http.request("DELETE", path), 404)
    refused(http.request("DELETE", "/api/v1/nodes/join-tokens/x"), 400)
    refused(register(shared, made["token"], "S", region="fra"), 401)


def test_providers_and_regions_over_http(make_cloud):
    cloud = make_cloud()
    http = operator(cloud)
    # A new installation has them.
    names = wait_until("the catalogue is there", lambda: [one["name"] for one in http.get("/api/v1/providers").json()], 10, until=bool)
    assert {"render", "railway", "flyio", "vercel", "netlify", "supabase", "generic"} <= set(names)
    answer = http.put("/api/v1/providers/acme", {"monthly_hours": 10, "restart_url": "https://hooks.example.org/x",
                                                 "restart_secret": HOOK_SECRET})
    assert (answer.status, answer.json()["monthly_hours"], answer.json()["restart_hook"]) == (200, 10, True)
    everything = answer.text + http.get("/api/v1/providers").text
    assert HOOK_SECRET not in everything and "hooks.example.org" not in everything
    assert HOOK_SECRET not in cloud.cluster.value("SELECT p::text FROM a67_internal.provider p WHERE name = 'acme'")
    refused(http.put("/api/v1/providers/acme", {"restart_url": "file:///etc/passwd"}), 400, "restart_url")
    refused(http.put("/api/v1/providers/acme", {"colour": 1}), 400, "colour")
    assert http.request("DELETE", "/api/v1/providers/acme").status == 204
    refused(http.request("DELETE", "/api/v1/providers/acme"), 404)
    assert http.put("/api/v1/regions/moon-1", {"latitude": 1.5, "longitude": 2}).status == 204
    assert {"name": "moon-1", "latitude": 1.5, "longitude": 2} in http.get("/api/v1/regions").json()
    refused(http.put("/api/v1/regions/moon-1", {"latitude": 91, "longitude": 2}), 400, "latitude")
    assert http.request("DELETE", "/api/v1/regions/moon-1").status == 204
    person = cloud.cluster.value("SELECT a67.token_create(a67.user_create('ann@example.com'), '1 hour')")
    ann = cloud.cluster.client().as_user(person)
    assert ann.get("/api/v1/providers").status == ann.get("/api/v1/regions").status == 200
    refused(ann.put("/api/v1/providers/acme", {}), 403)
    refused(ann.request("DELETE", "/api/v1/regions/fra"), 403)


def monitor_anew(cloud):
    """Ends the monitor: the next one looks at quotas at once, and once a minute from then on."""
    cloud.cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'a67 monitor'")


def test_quota_that_is_nearly_used_up(make_cloud):
    cloud = make_cloud()
    # 1.8 s: a node that beats twice a second has used it after a few seconds.
    cloud.cluster.execute("SELECT a67.provider_set('acme', '{\"monthly_hours\": 0.0005}')")
    cloud.start_agent("oak", None, "--provider", "acme")
    cloud.start_agent("elm", None, "--provider", "acme", "--tier", "paid")
    cloud.wait_nodes("ready", "oak", "elm")
    wait_until("both have been up for a while", lambda: cloud.cluster.value(
        "SELECT min(o.up_seconds) FROM a67_internal.node_observed o"), 30, until=lambda up: up > 1.8)
    monitor_anew(cloud)
    wait_until("the node is avoided", lambda: cloud.node("oak")["near_quota"], 30, until=bool)
    assert not cloud.node("elm")["near_quota"]
    node_id = str(cloud.node("oak")["node_id"])
    event = cloud.cluster.row("SELECT payload FROM a67.event WHERE type = 'node.quota.warned' AND subject_id = %s", node_id)
    assert (event["payload"]["node"], event["payload"]["kind"]) == ("oak", "hours")
    assert event["payload"]["percent"] >= 80
    alert = cloud.cluster.row("SELECT * FROM a67.alert WHERE dedup_key = %s", f"node-quota:{node_id}:hours")
    assert (alert["severity"], alert["count"], alert["resolved_at"]) == ("warning", 1, None)
    usage = {one["kind"]: one for one in operator(cloud).get("/api/v1/nodes/oak").json()["usage"]}
    assert usage["hours"]["percent"] >= 90 and usage["bandwidth"]["quota"] is None
    cloud.cluster.execute("SELECT a67.node_deregister('oak')")
    assert cloud.cluster.value("SELECT count(*) FROM a67.alert WHERE dedup_key LIKE 'node-quota:%%' AND resolved_at IS NULL") == 0


def test_node_is_kept_awake(make_cloud):
    """Nothing but a heartbeat is heard of it, so no probe is sent: what arrives is the request that keeps it awake."""
    cloud = make_cloud(settings={"a67.heartbeat_interval": "60s"})
    cloud.cluster.execute("SELECT a67.provider_set('acme', '{\"idle_pause\": \"1 minute\"}')")

    def pinged():
        return cloud.cluster.value("SELECT pinged_at FROM a67_internal.node_observed")

    def later():
        """The pause is nearly over."""
        cloud.cluster.execute("UPDATE a67_internal.node_observed SET pinged_at = clock_timestamp() - interval '49 s'")
        return pinged()

    with sleeper() as (url, asked):
        joined = register(cloud, cloud.join_token(), "T", provider="acme", endpoint=url, name="dozer").json()
        node = cloud.cluster.client().as_user(joined["node_token"])
        beat = node.post("/api/v1/nodes/heartbeat", {"boot_id": "0123456789abcdef", "seq": 1, "state_version": 1, "status": "ok",
                                                     "metrics": {"cpu_percent": 1}, "replicas": []})
        assert beat.status == 204, beat.text
        wait_until("the node is asked", lambda: len(asked), 20, until=lambda count: count == 1)
        assert asked == ["/health"]
        before = later()
        wait_until("it is asked again before it would sleep", lambda: len(asked), 20, until=lambda count: count == 2)
        wait_until("and that is noted", pinged, 10, until=lambda at: at > before)
    # Nobody answers: it is tried again in 6 s, a tenth of the pause, and not in 48 s.
    later()
    wait_until("the failure is noted", lambda: cloud.cluster.value(
        "SELECT extract(epoch FROM clock_timestamp() - pinged_at) FROM a67_internal.node_observed"), 20,
        until=lambda age: 41 < age < 48)
    assert cloud.node("dozer")["status"] in ("ready", "busy")
