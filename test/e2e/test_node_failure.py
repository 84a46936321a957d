"""A node dies, is found dead, its replica moves; it comes back and gives up the copy it has."""

import os
import signal

from cloud import wait_until


def open_alerts(cloud):
    return cloud.cluster.rows("SELECT * FROM a67.alert WHERE resolved_at IS NULL")


def test_replica_moves_when_its_node_dies(make_cloud):
    cloud = make_cloud("oak", "elm", "ash", "fir")
    cloud.deploy("hello", replicas=3)
    lost = cloud.endpoints("hello")[0]
    seen = []

    def status():
        now = cloud.node(lost["node"])["status"]
        if now not in seen:
            seen.append(now)
        return now

    cloud.agents[lost["node"]].kill_node()
    wait_until("the dead node is failed", status, timeout=40, until=lambda now: now == "failed")
    assert "suspect" in seen, seen
    answers = wait_until(
        "three other endpoints answer", lambda: cloud.answers("hello"), timeout=40,
        until=lambda found: len(found) == 3 and lost["url"] not in found
        and all(" from " in text for text in found.values()))
    assert not [text for text in answers.values() if f"from {lost['node']}," in text]
    cloud.wait_deployment("hello", "running")
    wait_until("an alert names the dead node", lambda: [
        row["message"] for row in open_alerts(cloud) if lost["node"] in row["message"]])


def test_node_that_returns_gives_up_its_surplus_copy(make_cloud):
    """The agent is gone but its apps live on: after its return exactly the wanted copies run."""
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    lost = cloud.endpoints("hello")[0]["node"]
    agent = cloud.agents[lost]
    agent.kill()
    cloud.wait_nodes("failed", lost)
    cloud.wait_serving("hello", 2)
    wait_until("two live nodes serve", lambda: {row["node"] for row in cloud.endpoints("hello")},
               until=lambda nodes: len(nodes) == 2 and lost not in nodes)
    assert sum(len(apps) for apps in cloud.apps().values()) == 3, cloud.apps()
    agent.restart()
    cloud.wait_nodes("ready", lost)
    wait_until("the surplus copy ends", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 2)
    cloud.wait_serving("hello", 2)
    wait_until("every alert is resolved", lambda: open_alerts(cloud), until=lambda rows: not rows)
    cloud.wait_deployment("hello", "running")


def test_frozen_node_is_replaced_and_thaws(make_cloud):
    """Its sockets still accept, nobody answers: silence is told from refusal by time-outs alone."""
    cloud = make_cloud("oak", "elm", "ash")
    cloud.deploy("hello", replicas=2)
    lost = cloud.endpoints("hello")[0]["node"]
    frozen = cloud.agents[lost].members()
    for one in frozen:
        one.kill(signal.SIGSTOP)
    cloud.wait_nodes("failed", lost)
    answers = cloud.wait_serving("hello", 2)
    assert not [text for text in answers.values() if f"from {lost}," in text]
    for one in frozen:
        one.kill(signal.SIGCONT)
    cloud.wait_nodes("ready", lost)
    wait_until("the surplus copy ends", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 2)
    cloud.wait_serving("hello", 2)


def test_removed_node_hands_its_replica_on(make_cloud):
    cloud = make_cloud("oak", "elm")
    cloud.deploy("hello", replicas=1)
    (endpoint,) = cloud.endpoints("hello")
    cloud.cluster.execute("SELECT a67.node_deregister(%s)", endpoint["node"])
    wait_until("the other node serves", lambda: cloud.endpoints("hello"), timeout=40,
               until=lambda rows: [row["node"] != endpoint["node"] for row in rows] == [True])
    cloud.wait_serving("hello", 1)
    assert cloud.agents[endpoint["node"]].exit_status(timeout=30) == 0
    wait_until("one process runs, no more", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 1)


def test_all_nodes_die_and_return(make_cloud):
    """Nothing is left to move to; what was promised is kept when machines come back."""
    cloud = make_cloud("oak", "elm")
    cloud.deploy("hello", replicas=2)
    for agent in cloud.agents.values():
        agent.kill_node()
    cloud.wait_nodes("failed", "oak", "elm")
    assert cloud.answers("hello") == {} or all(
        text.startswith("no answer") for text in cloud.answers("hello").values())
    for agent in cloud.agents.values():
        agent.restart()
    cloud.wait_nodes("ready", "oak", "elm")
    cloud.wait_serving("hello", 2, timeout=60)
    wait_until("two processes run, no more", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 2)


def test_graceful_stop_keeps_the_apps(make_cloud):
    """An agent that says goodbye is not dead: its apps run on and are its own again later."""
    cloud = make_cloud("oak", "elm")
    cloud.deploy("hello", replicas=1)
    (endpoint,) = cloud.endpoints("hello")
    before = cloud.agents[endpoint["node"]].apps()
    assert cloud.agents[endpoint["node"]].stop() == 0
    assert cloud.agents[endpoint["node"]].apps() == before
    wait_until("the node is known to be gone", lambda: cloud.node(endpoint["node"])["status"],
               timeout=40, until=lambda now: now in ("offline", "suspect", "failed"))
    cloud.agents[endpoint["node"]].restart()
    cloud.wait_nodes("ready", endpoint["node"])
    wait_until("one process runs, no more", cloud.apps, timeout=40,
               until=lambda apps: sum(len(one) for one in apps.values()) == 1)
    cloud.wait_serving("hello", 1)


def test_replica_that_dies_alone_is_started_again(make_cloud):
    cloud = make_cloud("oak")
    cloud.deploy("hello")
    ((replica, (pid,)),) = cloud.agents["oak"].apps().items()
    os.kill(pid, signal.SIGKILL)
    wait_until("another process serves", cloud.agents["oak"].apps,
               until=lambda apps: any(pids != [pid] and pids for pids in apps.values()))
    cloud.wait_serving("hello", 1)
    assert sum(len(apps) for apps in cloud.apps().values()) == 1
