"""An agent may end at any moment: its apps live on and are adopted again, same pid, by the next."""

import os
import signal

import pytest

from cloud import process, wait_until
from cloud.agent import agent_program
from cloud.process import look


def adopted(cloud, name, apps):
    """Waits until the controller has heard of these very processes from the node's new agent."""
    wanted = {(replica, pids[0]) for replica, pids in apps.items()}
    wait_until(f"{name} reports the same processes", lambda: {
        (str(row["replica_id"]), row["pid"]) for row in cloud.replicas("hello")
        if row["node"] == name and row["state"] == "running"}, until=lambda now: now == wanted)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_apps_outlive_their_agent(make_cloud, end):
    cloud = make_cloud("oak", "elm")
    cloud.deploy("hello", replicas=2)
    agent = cloud.agents["oak"]
    before = agent.apps()
    started = {pids[0]: look(pids[0]).start for pids in before.values()}
    boot = cloud.cluster.value("SELECT boot_id FROM a67_internal.node_observed"
                               " JOIN a67_internal.node USING (node_id) WHERE name = 'oak'")
    getattr(agent, end)()
    assert agent.apps() == before
    agent.restart()
    wait_until("the new agent is heard", lambda: cloud.cluster.value(
        "SELECT boot_id FROM a67_internal.node_observed"
        " JOIN a67_internal.node USING (node_id) WHERE name = 'oak'"),
        until=lambda now: now != boot)
    cloud.wait_nodes("ready", "oak", "elm")
    adopted(cloud, "oak", before)
    assert agent.apps() == before
    assert {pid: look(pid).start for pid in started} == started
    cloud.wait_serving("hello", 2)


def test_app_that_died_meanwhile_is_started_again(make_cloud):
    cloud = make_cloud("oak")
    cloud.deploy("hello")
    agent = cloud.agents["oak"]
    ((_, (pid,)),) = agent.apps().items()
    agent.kill()
    os.kill(pid, signal.SIGKILL)
    agent.restart()
    wait_until("another process serves", agent.apps,
               until=lambda apps: len(apps) == 1 and pid not in sum(apps.values(), []))
    cloud.wait_serving("hello", 1)


def test_adopted_app_can_still_be_stopped(make_cloud):
    cloud = make_cloud("oak")
    cloud.deploy("hello")
    cloud.agents["oak"].kill()
    cloud.agents["oak"].restart()
    cloud.wait_nodes("ready", "oak")
    cloud.cluster.execute("SELECT a67.deployment_stop('hello')")
    cloud.wait_nothing_runs()


def test_agent_without_a_state_cannot_run(make_cloud):
    cloud = make_cloud("oak")
    agent = cloud.agents["oak"]
    agent.kill_node()
    for path in sorted(agent.state.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    agent.restart()
    assert agent.exit_status() != 0


def test_second_agent_on_the_same_state_is_refused(make_cloud):
    cloud = make_cloud("oak")
    with pytest.raises(RuntimeError):
        process.run([agent_program(), "run"], timeout=10,
                    A67_STATE_DIR=str(cloud.agents["oak"].state))
    assert cloud.agents["oak"].alive()
