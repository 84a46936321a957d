"""Joining: what a join token admits, what it refuses, and what a node becomes."""

import json


def register(shared, token, **changes):
    """A registration as an agent sends it, straight to the listener."""
    body = {
        "join_token": token, "endpoint": "http://127.0.0.1:9", "provider": "generic",
        "region": "local", "name": "manual", "version": "0.1.0",
        "public_key": "A" * 43,
        "capabilities": {"cpu_cores": 1, "memory_gb": 0.5, "disk_gb": 1,
                         "network_bandwidth_mbps": 100, "max_concurrent_requests": 10},
        **changes,
    }
    return shared.cluster.client().post("/api/v1/nodes/register", body)


def nodes(cloud):
    return cloud.cluster.value("SELECT count(*) FROM a67.node")


def test_nodes_are_ready_and_described(shared):
    row = shared.node("oak")
    assert row["status"] in ("ready", "busy")
    assert row["provider"] == "generic"
    assert row["endpoint"].startswith("https://127.0.0.1:")


def test_a_node_tells_its_runners(shared):
    assert shared.cluster.value("SELECT 'process' = ANY (runners) FROM a67.node WHERE name = 'oak'") is True
    capabilities = {"cpu_cores": 1, "memory_gb": 0.5, "disk_gb": 1}
    for told in (["vm"], [], "container", [1], {"process": True}):
        answer = register(shared, shared.join_token(), name="teller", capabilities={**capabilities, "runners": told})
        assert answer.status == 400 and "capabilities.runners" in answer.text, answer.text
    for told, stored in ((["container", "process"], ["process", "container"]), (None, ["process"])):
        answer = register(shared, shared.join_token(), name="teller", capabilities={**capabilities, "runners": told})
        assert answer.status == 201, answer.text
        one = shared.cluster.value("SELECT a67.node_get('teller')")
        one = json.loads(one) if isinstance(one, str) else one
        assert one["capabilities"]["runners"] == stored
        # Only the node itself can say; anything else is raised here.
        shared.cluster.execute("""DO $$BEGIN
            PERFORM a67.node_update('teller', '{"capabilities": {"runners": ["process"]}}');
            RAISE EXCEPTION 'taken';
        EXCEPTION WHEN invalid_parameter_value THEN NULL; END$$""")
        shared.cluster.execute("SELECT a67.node_deregister('teller')")


def test_token_carries_name_region_and_provider(make_cloud):
    cloud = make_cloud()
    token = cloud.join_token(name="bound", region="eu-1", provider="acme")
    cloud.start_agent("bound", token, "--region", "eu-1", "--provider", "acme")
    cloud.wait_nodes("ready", "bound")
    row = cloud.node("bound")
    assert (row["region"], row["provider"]) == ("eu-1", "acme")


def test_token_is_for_one_node(make_cloud):
    cloud = make_cloud()
    token = cloud.join_token()
    cloud.start_agent("first", token)
    cloud.wait_nodes("ready", "first")
    second = cloud.start_agent("second", token)
    assert second.exit_status() != 0
    assert nodes(cloud) == 1
    assert "token" in second.report()


def test_expired_token_is_refused(shared):
    before = nodes(shared)
    token = shared.join_token()
    shared.cluster.execute("UPDATE a67_internal.join_token SET expires_at = now() - interval '1 s'"
                           " WHERE used_at IS NULL")
    answer = register(shared, token)
    assert answer.status == 401, answer.text
    assert nodes(shared) == before


def test_wrong_tokens_are_refused(shared):
    before = nodes(shared)
    good = shared.join_token()
    secret, key = good.split(".")[1:]
    for token in ("", "x", "a67j.", "a67j.a.b", f"a67j.{secret[:-1]}.{key}",
                  f"a67j.A{secret}.{key}", f"a68j.{secret}.{key}", secret, good * 50):
        answer = register(shared, token)
        assert answer.status in (400, 401), (token, answer.text)
        assert set(answer.json()) == {"code", "message", "details", "hint"}
    assert nodes(shared) == before


def test_agent_with_a_wrong_token_exits_with_a_clear_error(make_cloud):
    cloud = make_cloud()
    good = cloud.join_token()
    key = good.rsplit(".", 1)[1]
    agent = cloud.start_agent("stranger", f"a67j.{'A' * 43}.{key}")
    assert agent.exit_status() != 0
    assert "token" in agent.report()
    assert nodes(cloud) == 0


def test_bad_registrations_name_the_field(shared):
    before = nodes(shared)
    for field, value in (("endpoint", "ftp://x"), ("endpoint", None), ("name", "No Blanks"),
                         ("public_key", "short"), ("capabilities", {"cpu_cores": -1}),
                         ("capabilities", []), ("surprise", 1)):
        answer = register(shared, shared.join_token(), **{field: value})
        assert answer.status == 400, (field, value, answer.text)
        assert field in json.dumps(answer.json()), answer.text
    assert nodes(shared) == before


def test_same_key_twice_answers_the_same_node(make_cloud):
    """An agent that died between the answer and its disk loses nothing."""
    cloud = make_cloud()
    token = cloud.join_token()
    first = register(cloud, token)
    again = register(cloud, token)
    assert (first.status, again.status) == (201, 201), (first.text, again.text)
    assert first.json()["node_id"] == again.json()["node_id"]
    other = register(cloud, cloud.join_token())
    assert other.status == 409, other.text
    assert first.json()["node_id"] in other.text
    assert nodes(cloud) == 1


def test_removed_node_stops_its_apps_and_its_agent(make_cloud):
    cloud = make_cloud("oak")
    cloud.deploy("hello")
    cloud.cluster.execute("SELECT a67.node_deregister('oak')")
    assert cloud.agents["oak"].exit_status(timeout=30) == 0
    cloud.wait_nothing_runs()
