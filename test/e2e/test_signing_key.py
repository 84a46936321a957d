"""New signing keys: tokens made before go on counting, and agents follow the controller to its next key."""

import json

import psycopg
import pytest

from cloud import process, wait_until

CONTROLLER_KEY = "SELECT a67_internal._base64url((a67_internal._current_key('ed25519')).public_key)"
TAKE_OVER = "UPDATE a67_internal.signing_key SET retired_at = now() WHERE kind = 'ed25519' AND retired_at > now()"


def saved(agent):
    return json.loads((agent.state / "node.json").read_text())


def renew_soon(cloud, name):
    """Restarts the agent with a token that it will soon want to renew; waits until it has."""
    agent = cloud.agents[name]
    agent.stop()
    node = saved(agent)
    node["node_token"] = cloud.cluster.value(
        "SELECT a67_internal._token(%s::uuid, 'a67_node', '4 s')", node["node_id"])
    path = agent.state / "node.json"
    path.write_text(json.dumps(node))
    path.chmod(0o600)
    process.own(path)
    agent.restart()
    wait_until("token renewed", lambda: saved(agent)["node_token"], timeout=30,
               until=lambda token: token != node["node_token"])


def test_agents_follow_the_controller(make_cloud):
    cloud = make_cloud("oak")
    cluster, oak = cloud.cluster, cloud.agents["oak"]
    first = cluster.value(CONTROLLER_KEY)
    early_token = cloud.join_token()
    cluster.value("SELECT a67.signing_key_rotate('ed25519')")
    assert cluster.value(CONTROLLER_KEY) == first, "the old key signs until everybody was told"
    with pytest.raises(psycopg.Error) as error:
        cluster.value("SELECT a67.signing_key_rotate('ed25519')")
    assert error.value.sqlstate == "PT409"
    cloud.deploy("before", replicas=1)

    renew_soon(cloud, "oak")
    assert saved(oak)["controller_key"] == first
    second = saved(oak)["next_key"]
    cloud.deploy("between", replicas=1)
    cluster.execute(TAKE_OVER)
    assert cluster.value(CONTROLLER_KEY) == second
    cloud.deploy("after", replicas=1)
    wait_until("the old key is forgotten", lambda: saved(oak), until=lambda node: "next_key" not in node)
    assert saved(oak)["controller_key"] == second

    # A join token that was made long before leads to the key of now.
    cloud.start_agent("elm", early_token)
    cloud.wait_nodes("ready", "elm")
    wait_until("the private half is erased", lambda: cluster.value(
        "SELECT count(*) FROM a67_internal.signing_key WHERE kind = 'ed25519' AND sealed IS NOT NULL"),
        until=lambda left: left == 1)
    cloud.deploy("everywhere", replicas=2)

    # An agent that is started again with its old join token is still of this controller.
    oak.stop()
    oak.restart()
    cluster.value("SELECT a67.signing_key_rotate('ed25519')")
    renew_soon(cloud, "oak")
    renew_soon(cloud, "elm")
    cluster.execute(TAKE_OVER)
    cloud.deploy("third", replicas=2)


def test_stranger_cannot_name_the_next_key(make_cloud):
    """What a renewal says about keys counts only when the known key has signed it."""
    cloud = make_cloud("oak")
    cluster, oak = cloud.cluster, cloud.agents["oak"]
    known = saved(oak)["controller_key"]
    cluster.execute("UPDATE a67_internal.signing_key SET handover = a67_internal._jwt_sign(jsonb_build_object("
                    "'sub', 'controller-key', 'next', a67_internal._base64url(fresh.public_key)), 'EdDSA', "
                    "fresh.kid, fresh.sealed) FROM a67_internal._key_create('ed25519') fresh "
                    "WHERE signing_key.kind = 'ed25519' AND signing_key.kid <> fresh.kid")
    renew_soon(cloud, "oak")
    assert saved(oak)["controller_key"] == known
    assert "next_key" not in saved(oak)


def test_tokens_outlive_a_rotation(make_cloud):
    cloud = make_cloud("oak")
    cluster = cloud.cluster
    operator = "SELECT a67.token_create(a67_internal._operator_id())"
    before = cluster.client(cluster.value(operator))
    for _ in range(6):
        cluster.value("SELECT a67.signing_key_rotate()")
        assert before.get("/api/v1/nodes").status == 200
        assert cluster.client(cluster.value(operator)).get("/api/v1/nodes").status == 200
    with pytest.raises(psycopg.Error) as error:
        cluster.value("SELECT a67.signing_key_rotate()")
    assert error.value.sqlstate == "53000"
    beats = cluster.value("SELECT last_heartbeat_at FROM a67_internal.node_observed")
    wait_until("its node goes on", lambda: cluster.value(
        "SELECT last_heartbeat_at FROM a67_internal.node_observed"), until=lambda at: at > beats)
    cluster.execute("UPDATE a67_internal.signing_key SET retired_at = now() WHERE retired_at > now() AND kind = 'hs256'")
    cluster.execute("SELECT a67_internal._wake('vault')")
    wait_until("keys whose time is over are erased",
               lambda: cluster.value("SELECT count(*) FROM a67_internal.signing_key WHERE kind = 'hs256'"),
               until=lambda left: left == 1)
    cluster.execute("SELECT a67_internal._bootstrap()")
    assert before.get("/api/v1/nodes").status == 401


@pytest.mark.parametrize("kind", ["rsa", "", None])
def test_unknown_kind_is_refused(api_cluster, kind):
    with pytest.raises(psycopg.Error) as error:
        api_cluster.value("SELECT a67.signing_key_rotate(%s::text)", kind)
    assert error.value.sqlstate == "22023"
