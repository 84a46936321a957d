"""The monitor and its doubts: it fails what is dead, once, and never what is alive because it was itself away.

Node status changes are read from events, so that a status that lasted a moment only is seen too.
"""

import hashlib
import hmac
import json
import signal
import time

import pytest

from cloud import process, wait_until
from cloud.receiver import Receiver

# A node is silent after 1.2 intervals and 1.5 s.
PATIENCE = 2.1


def changes(cloud, since=0):
    """(node, status) of every change of a node's status, in order."""
    rows = cloud.cluster.rows("""
        SELECT payload ->> 'node' AS node, payload ->> 'to' AS status FROM a67.event
        WHERE type = 'node.status.changed' AND event_id > %s ORDER BY event_id""", since)
    return [(row["node"], row["status"]) for row in rows]


def latest_event(cloud):
    return cloud.cluster.value("SELECT coalesce(max(event_id), 0) FROM a67.event")


def doubts(cloud):
    return [row["message"] for row in cloud.cluster.rows(
        "SELECT message FROM a67.alert WHERE dedup_key = 'monitor-doubt' AND resolved_at IS NULL")]


def signal_all(processes, number):
    for one in processes:
        one.kill(number)


def pass_time(seconds):
    """What is tested here is that time itself does no harm."""
    start = time.monotonic()
    wait_until("time passes", lambda: time.monotonic() - start, timeout=seconds + 5,
               until=lambda gone: gone >= seconds)


def freeze(processes, seconds):
    """Stops processes for that long."""
    try:
        signal_all(processes, signal.SIGSTOP)
        pass_time(seconds)
    finally:
        signal_all(processes, signal.SIGCONT)


def family(cloud):
    return [cloud.cluster.postmaster, *process.children(cloud.cluster.postmaster.pid)]


# -- self-doubt -------------------------------------------------------------------------------------


def test_many_silent_at_once_are_not_failed_until_the_grace_is_over(make_cloud):
    cloud = make_cloud("n1", "n2", "n3", "n4", "n5", "n6", settings={"a67.grace_period": "6s"})
    cloud.deploy("hello", replicas=2)
    frozen = [one for name in ("n1", "n2", "n3", "n4") for one in cloud.agents[name].members()]
    since = latest_event(cloud)
    signal_all(frozen, signal.SIGSTOP)
    try:
        wait_until("the monitor doubts itself", lambda: doubts(cloud),
                   until=lambda found: any("nodes fell silent at once" in one for one in found))
        cloud.wait_nodes("suspect", "n1", "n2", "n3", "n4")
        assert "failed" not in [status for _, status in changes(cloud, since)]
        assert not cloud.cluster.rows("SELECT 1 FROM a67.replica WHERE state = 'lost'")
        cloud.wait_nodes("failed", "n1", "n2", "n3", "n4")
        # The alert came first, and the grace lay between.
        grace = cloud.cluster.value("""
            SELECT extract(epoch FROM min(f.at) - min(d.at)) FROM a67.event f, a67.event d
            WHERE f.type = 'node.status.changed' AND f.payload ->> 'to' = 'failed' AND f.event_id > %s
              AND d.type = 'alert.raised' AND d.payload ->> 'message' LIKE '%%silent at once%%'""", since)
        assert grace >= 5.9, grace
        wait_until("the doubt is over", lambda: not doubts(cloud))
        cloud.wait_serving("hello", 2)
    finally:
        signal_all(frozen, signal.SIGCONT)
    cloud.wait_nodes("ready", "n1", "n2", "n3", "n4", "n5", "n6")
    wait_until("two processes run, no more", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 2)
    cloud.wait_serving("hello", 2)


def test_all_silent_for_a_moment_keep_their_replicas(make_cloud):
    """As when the controller's own line is cut: everything goes on when it is back."""
    cloud = make_cloud("n1", "n2", "n3", "n4", settings={"a67.grace_period": "1min"})
    cloud.deploy("hello", replicas=3)
    before = cloud.apps()
    agents = [agent.leader for agent in cloud.agents.values()]
    since = latest_event(cloud)
    signal_all(agents, signal.SIGSTOP)
    try:
        wait_until("the monitor doubts itself", lambda: doubts(cloud))
        wait_until("three probes of each failed", lambda: cloud.cluster.value(
            "SELECT min(failures) FROM a67_internal.node_observed"), timeout=40, until=lambda count: count >= 3)
        assert "failed" not in [status for _, status in changes(cloud, since)]
    finally:
        signal_all(agents, signal.SIGCONT)
    cloud.wait_nodes("ready", "n1", "n2", "n3", "n4")
    wait_until("the doubt ends before its time", lambda: not doubts(cloud))
    assert "failed" not in [status for _, status in changes(cloud, since)]
    assert cloud.apps() == before
    cloud.wait_serving("hello", 3)


# -- the monitor was away ---------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["monitor", "workers", "server"])
def test_nothing_fails_because_the_controller_stood_still(make_cloud, who):
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    before = cloud.apps()
    names = {"monitor": ("monitor",), "workers": ("monitor", "telemetry", "listener")}
    stopped = [cloud.cluster.worker(name) for name in names[who]] if who in names else family(cloud)
    since = latest_event(cloud)
    freeze(stopped, 3 * PATIENCE)
    wait_until("the monitor knows that it was away", lambda: cloud.cluster.rows(
        "SELECT 1 FROM a67.event WHERE event_id > %s AND type = 'alert.raised' AND payload ->> 'message' LIKE 'the monitor was away%%'",
        since))
    wait_until("the doubt is over", lambda: not doubts(cloud))
    cloud.wait_nodes("ready", "oak", "elm", "ash")
    assert "failed" not in [status for _, status in changes(cloud, since)]
    assert cloud.apps() == before
    cloud.wait_serving("hello", 2)


def test_a_dead_node_is_found_after_the_monitor_was_away(make_cloud):
    """Doubt delays, it does not forget."""
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    lost = cloud.endpoints("hello")[0]["node"]
    monitor = cloud.cluster.worker("monitor")
    monitor.kill(signal.SIGSTOP)
    try:
        cloud.agents[lost].kill_node()
        pass_time(2 * PATIENCE)
    finally:
        monitor.kill(signal.SIGCONT)
    cloud.wait_nodes("failed", lost)
    answers = cloud.wait_serving("hello", 2)
    assert not [text for text in answers.values() if f"from {lost}," in text]


def test_server_that_was_down_fails_nobody(make_cloud):
    cloud = make_cloud("oak", "elm", "ash", "fir")
    cloud.deploy("hello", replicas=3)
    before = cloud.apps()
    since = latest_event(cloud)
    cloud.cluster.stop()
    pass_time(3 * PATIENCE)
    cloud.cluster.start()
    cloud.cluster.wait_listening()
    cloud.cluster.wait_ticks("monitor", 20, timeout=40)
    wait_until("the doubt is over", lambda: not doubts(cloud), timeout=40)
    assert "failed" not in [status for _, status in changes(cloud, since)]
    assert cloud.apps() == before
    cloud.wait_nodes("ready", "oak", "elm", "ash", "fir", timeout=90)
    cloud.wait_serving("hello", 3)


# -- partition and return ---------------------------------------------------------------------------


def test_partitioned_node_returns_and_nothing_runs_twice(make_cloud):
    """The agent stands still, its app serves on: replaced elsewhere, and stopped when the agent is back."""
    cloud = make_cloud("oak", "elm", "ash", "fir")
    cloud.deploy("hello", replicas=3)
    lost = cloud.endpoints("hello")[0]["node"]
    agent = cloud.agents[lost]
    app = agent.apps()
    agent.leader.kill(signal.SIGSTOP)
    try:
        cloud.wait_nodes("failed", lost)
        answers = cloud.wait_serving("hello", 3)
        assert not [text for text in answers.values() if f"from {lost}," in text]
        assert agent.apps() == app, "the app of the partitioned node runs on"
        assert lost not in [row["node"] for row in cloud.cluster.rows("SELECT node FROM a67.discovery")]
        assert lost not in [row["node"] for row in cloud.cluster.rows("SELECT node FROM a67.node_ring_share")]
    finally:
        agent.leader.kill(signal.SIGCONT)
    cloud.wait_nodes("ready", lost)
    wait_until("the surplus copy ends", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 3 and not apps[lost])
    cloud.wait_serving("hello", 3)
    wait_until("nothing of it is left", lambda: cloud.cluster.value("SELECT count(*) FROM a67.replica"),
               until=lambda count: count == 3)
    assert sum(len(pids) for pids in cloud.processes("hello").values()) == 3


# -- the provider's restart hook --------------------------------------------------------------------


def test_provider_is_asked_once_to_restart_a_failed_node(make_cloud):
    cloud = make_cloud("oak", "elm", settings={"a67.outbound_private": "on"})
    with Receiver() as hook:
        cloud.cluster.execute("SELECT a67.provider_set('hooked', %s::jsonb)", json.dumps(
            {"title": "Hooked", "restart_url": hook.url + "/restart", "restart_secret": "a secret of the hook"}))
        cloud.start_agent("ash", None, "--provider", "hooked")
        cloud.wait_nodes("ready", "ash")
        cloud.agents["ash"].kill_node()
        cloud.wait_nodes("failed", "ash")
        wait_until("the hook is called", lambda: hook.received)
        ((path, headers, body),) = hook.received
        message = json.loads(body)
        assert path == "/restart"
        assert (message["type"], message["node"], message["provider"], message["attempt"]) == ("node.restart", "ash", "hooked", 1)
        signed = dict(part.split("=", 1) for part in headers["x-a67-signature"].split(","))
        expected = hmac.new(b"a secret of the hook", signed["t"].encode() + b"." + body, hashlib.sha256)
        assert hmac.compare_digest(signed["v1"], expected.hexdigest())
        cloud.cluster.wait_ticks("monitor", 10)
        # It comes back, and fails again: the provider is not asked in a loop.
        cloud.agents["ash"].restart()
        cloud.wait_nodes("ready", "ash")
        cloud.agents["ash"].kill_node()
        cloud.wait_nodes("failed", "ash")
        cloud.cluster.wait_ticks("monitor", 10)
        assert len(hook.received) == 1
        assert cloud.cluster.value("SELECT count(*) FROM a67.event WHERE type = 'node.restart'") == 1
    assert "a secret of the hook" not in cloud.cluster.log.read_text()


def test_a_hook_that_cannot_be_reached_keeps_nobody_from_working(make_cloud):
    """Also when outbound requests to this machine are not allowed, which is the default."""
    cloud = make_cloud("oak", "elm")
    cloud.cluster.execute("""SELECT a67.provider_set('hooked', '{"title": "H", "restart_url": "https://127.0.0.1:9/"}')""")
    cloud.start_agent("ash", None, "--provider", "hooked")
    cloud.wait_nodes("ready", "ash")
    cloud.deploy("hello", replicas=3)
    cloud.agents["ash"].kill_node()
    cloud.wait_nodes("failed", "ash")
    cloud.wait_serving("hello", 3)
    cloud.agents["ash"].restart()
    cloud.wait_nodes("ready", "ash")
    cloud.wait_deployment("hello", "running")
