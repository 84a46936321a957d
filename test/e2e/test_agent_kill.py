"""a67-agent killed at any moment: no application is doubled, lost or left behind."""

import json

import pytest
from cloud import wait_until
from fake_controller import ask_app


def test_killed_agent_adopts_its_apps(alone):
    alone.start()
    replica = alone.deploy()
    before, pids = alone.controller.replica(replica), alone.pids(replica)
    alone.kill()
    assert ask_app(before["port"])[1] == "ok"
    alone.run_again()
    after = alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) == pids
    assert (after["pid"], after["port"], after["restarts"]) == (before["pid"], before["port"], 0)


def test_adopted_app_is_watched_and_stopped_like_any_other(alone):
    alone.start()
    replica = alone.deploy()
    alone.kill()
    alone.run_again()
    alone.processes(replica)[0].kill()
    wait_until("restart", lambda: alone.controller.replica(replica),
               until=lambda one: one is not None and one["restarts"] == 1 and one["state"] == "running")
    alone.kill()
    alone.run_again()
    assert alone.commands.delete(replica, 1).status == 202
    wait_until("gone", lambda: alone.commands.delete(replica, 1).status, until=lambda status: status == 204)
    assert alone.processes(replica) == []


def test_app_that_died_meanwhile_is_started_again(alone):
    alone.start()
    replica = alone.deploy()
    alone.kill()
    alone.processes(replica)[0].kill()
    alone.run_again()
    wait_until("it runs", lambda: alone.controller.replica(replica),
               until=lambda one: one is not None and one["state"] == "running" and one["restarts"] == 1)


def test_pid_of_somebody_else_is_not_adopted(alone):
    alone.start()
    replica = alone.deploy()
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record["process"]["start"] += 1
    path.write_text(json.dumps(record))
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert len(alone.processes(replica)) == 1


def test_unfinished_intent_finds_its_process(alone):
    """As if the agent had died between the spawn and writing the pid down."""
    alone.start()
    replica = alone.deploy()
    pids = alone.pids(replica)
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record.update(process=None, intent=True, state="starting")
    path.write_text(json.dumps(record))
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) == pids


def test_intent_without_a_process_starts_one(alone):
    alone.start()
    replica = alone.deploy()
    alone.kill()
    for one in alone.processes(replica):
        one.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record.update(process=None, intent=True, state="starting")
    path.write_text(json.dumps(record))
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert len(alone.processes(replica)) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\x00" * 100, b'{"format":1}', b"x" * 300000],
                         ids=["empty", "cut", "array", "no fields", "zeros", "few fields", "huge"])
def test_damaged_state_file_is_put_aside(alone, damage):
    alone.start()
    lost, kept = alone.deploy(), alone.deploy()
    alone.kill()
    path = alone.state / "replicas" / f"{lost}.json"
    path.write_bytes(damage)
    alone.run_again()
    assert path.with_name(path.name + ".corrupt").read_bytes() == damage
    alone.controller.wait_state(kept, "running")
    # What nobody can account for any more does not go on running.
    assert alone.processes(lost) == [] and len(alone.processes(kept)) == 1
    assert alone.deploy(lost) == lost


def test_damaged_registration_is_put_aside_and_joining_again_heals(alone):
    alone.start()
    replica = alone.deploy()
    pids = alone.pids(replica)
    alone.kill()
    (alone.state / "node.json").write_text("{")
    alone.start("run", wait=False)
    assert alone.status() == 111
    assert "not registered" in alone.text()
    alone.start()
    alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) == pids
    keys = {one["public_key"] for one in alone.controller.registrations}
    assert len(alone.controller.registrations) == 2 and len(keys) == 1


def test_agent_killed_while_stopping_an_app_goes_on_stopping_it(alone):
    alone.start()
    replica = alone.deploy(env={"MODE": "stubborn"}, stop_grace_ms=1000)
    assert alone.commands.delete(replica, 1).status == 202
    alone.kill()
    assert len(alone.processes(replica)) == 1
    alone.run_again()
    wait_until("gone", lambda: alone.processes(replica), until=lambda left: not left)
    wait_until("told", lambda: alone.commands.delete(replica, 1).status, until=lambda status: status == 204)
