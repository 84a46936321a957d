"""a67-agent and sealed environments: what reaches the app, what stays closed, replacement and kills."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from agent_alone import AgentAlone, desired, new_id
from cloud import deterministic_tar, wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_controller import ask_app, box_seal, compact, raw_public
from secret_app import APP


@pytest.fixture
def alone():
    agent = AgentAlone()
    agent.package = agent.controller.package(deterministic_tar({"app.py": APP}))
    yield agent
    agent.destroy()


def order(alone, generation=1, /, **changes):
    return desired(alone.package, generation, **{"env": {"GREETING": "hi"}, "secrets": {"PASSWORD": "old-canary"},
                                                 **changes})


def put(alone, replica, generation=1, /, **changes):
    return alone.commands.put(replica, order(alone, generation, **changes))


def deploy(alone, **changes):
    replica = new_id()
    answer = put(alone, replica, 1, **changes)
    assert answer.status == 202, answer.text
    alone.controller.wait_state(replica, "running")
    return replica


def look(alone, replica):
    port = wait_until("its port", lambda: (alone.controller.replica(replica) or {}).get("port"))
    return json.loads(ask_app(port)[1])


def wait_generation(alone, replica, generation, state="running"):
    return wait_until(f"generation {generation} is {state}", lambda: alone.controller.replica(replica),
                      until=lambda one: one is not None and (one["generation"], one["state"]) == (generation, state))


def files_below(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()]


def test_env_and_secrets_reach_the_app(alone):
    alone.start()
    replica = deploy(alone)
    seen = look(alone, replica)
    assert seen["env"]["GREETING"] == "hi" and seen["env"]["PASSWORD"] == "old-canary"
    place = Path(seen["env"]["A67_SECRETS_DIR"])
    assert seen["files"] == {"PASSWORD": "old-canary"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "PASSWORD").stat().st_mode) == 0o600


def test_nothing_in_the_clear_on_disk_in_answers_or_the_log(alone):
    alone.start()
    replica = deploy(alone)
    answer = put(alone, replica)
    assert answer.status == 202
    said = answer.text + json.dumps(alone.commands.list()) + json.dumps(alone.controller.beats) + alone.text()
    assert "canary" not in said and "GREETING" not in said
    for path in files_below(alone.state):
        assert b"old-canary" not in path.read_bytes(), path


def test_app_without_secrets_has_no_place_for_them(alone):
    alone.start()
    replica = new_id()
    assert alone.commands.send("PUT", f"/v1/replicas/{replica}",
                               desired(alone.package, env=None)).status == 202
    alone.controller.wait_state(replica, "running")
    assert "A67_SECRETS_DIR" not in look(alone, replica)["env"]


def test_repeated_put_with_other_sealed_bytes_changes_nothing(alone):
    """The answer was lost, the controller sealed the same once more: nobody notices."""
    alone.start()
    replica = deploy(alone)
    pid = look(alone, replica)["pid"]
    assert put(alone, replica).status == 202
    refused = put(alone, replica, secrets={"PASSWORD": "new-canary"})
    assert refused.status == 409 and "other content" in refused.json()["message"]
    assert put(alone, replica, 2).status == 202
    wait_generation(alone, replica, 2)
    assert look(alone, replica)["pid"] == pid and look(alone, replica)["signals"] == 0


def test_new_secret_restarts_by_default(alone):
    alone.start()
    replica = deploy(alone)
    before = look(alone, replica)
    assert put(alone, replica, 2, secrets={"PASSWORD": "new-canary"}).status == 202
    wait_generation(alone, replica, 2)
    after = look(alone, replica)
    assert after["pid"] != before["pid"]
    assert after["env"]["PASSWORD"] == "new-canary" and after["files"] == {"PASSWORD": "new-canary"}


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_new_secret_by_signal_keeps_the_process(alone, name):
    alone.start()
    replica = deploy(alone, on_secret_change=name)
    before = look(alone, replica)
    assert put(alone, replica, 2, on_secret_change=name, secrets={"PASSWORD": "new-canary"}).status == 202
    wait_generation(alone, replica, 2)
    after = wait_until("the signal", lambda: look(alone, replica), until=lambda seen: seen["signals"] == 1)
    assert after["pid"] == before["pid"]
    assert after["read"] == after["files"] == {"PASSWORD": "new-canary"}
    assert after["env"]["PASSWORD"] == "old-canary"
    # The process that follows it gets the new value in its environment too.
    alone.processes(replica)[0].kill()
    wait_until("restart", lambda: alone.controller.replica(replica),
               until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    assert look(alone, replica)["env"]["PASSWORD"] == "new-canary"


def test_none_replaces_the_files_and_says_nothing(alone):
    alone.start()
    replica = deploy(alone, on_secret_change="none")
    pid = look(alone, replica)["pid"]
    assert put(alone, replica, 2, on_secret_change="none", secrets={"PASSWORD": "new-canary"}).status == 202
    after = wait_until("the file", lambda: look(alone, replica),
                       until=lambda seen: seen["files"] == {"PASSWORD": "new-canary"})
    assert after["pid"] == pid and after["signals"] == 0


def test_other_change_restarts_although_secrets_come_by_signal(alone):
    alone.start()
    replica = deploy(alone, on_secret_change="SIGHUP")
    pid = look(alone, replica)["pid"]
    assert put(alone, replica, 2, on_secret_change="SIGHUP", release=2,
               secrets={"PASSWORD": "new-canary"}).status == 202
    wait_generation(alone, replica, 2)
    assert look(alone, replica)["pid"] != pid


def test_signal_waits_until_the_app_can_take_it(alone):
    """A process that has only started would die of the signal."""
    alone.start()
    replica = new_id()
    gate = alone.folder / "gate"
    os.mkfifo(gate)
    slow = {"on_secret_change": "SIGHUP", "env": {"GATE": str(gate)}}
    assert put(alone, replica, 1, **slow).status == 202
    pid = wait_until("a process", lambda: alone.pids(replica))[0]
    assert put(alone, replica, 2, secrets={"PASSWORD": "new-canary"}, **slow).status == 202
    wait_generation(alone, replica, 2, "starting")
    gate.write_text("go")
    wait_generation(alone, replica, 2)
    after = wait_until("the signal", lambda: look(alone, replica), until=lambda seen: seen["signals"] == 1)
    assert after["read"] == {"PASSWORD": "new-canary"} and alone.pids(replica) == [pid]
    assert alone.controller.replica(replica)["restarts"] == 0


def test_app_that_dies_of_the_signal_starts_again_with_the_new_secret(alone):
    alone.start()
    deaf = {"on_secret_change": "SIGUSR1", "env": {"DEAF": "1"}}
    replica = deploy(alone, **deaf)
    assert put(alone, replica, 2, secrets={"PASSWORD": "new-canary"}, **deaf).status == 202
    wait_until("restart", lambda: alone.controller.replica(replica),
               until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    assert look(alone, replica)["env"]["PASSWORD"] == "new-canary"


# -- what does not open ----------------------------------------------------------------------------


def foreign(alone, replica):
    return box_seal(compact({"replica": replica, "env": {}, "secrets": {"PASSWORD": "old-canary"}}),
                    raw_public(Ed25519PrivateKey.generate()))


def truncated(alone, replica):
    return alone.controller.seal(replica, {}, {"PASSWORD": "old-canary"})[:-8]


def flipped(alone, replica):
    box = bytearray(base64.b64decode(alone.controller.seal(replica, {}, {"PASSWORD": "old-canary"})))
    box[-1] ^= 1
    return base64.b64encode(bytes(box)).decode()


def of_another(alone, replica):
    return alone.controller.seal(new_id(), {}, {"PASSWORD": "old-canary"})


def in_the_clear(alone, replica):
    return base64.b64encode(compact({"replica": replica, "env": {}, "secrets": {"PASSWORD": "old-canary"}})).decode()


@pytest.mark.parametrize("forge", [foreign, truncated, flipped, of_another, in_the_clear])
def test_what_does_not_open_fails_the_replica(alone, forge):
    alone.start()
    replica = new_id()
    assert put(alone, replica, 1, sealed_env=forge(alone, replica)).status == 202
    failed = alone.controller.wait_state(replica, "failed")
    assert "sealed_env" in failed["error"] and "canary" not in failed["error"] + alone.text()
    assert alone.processes(replica) == []
    # The next good order starts it.
    assert put(alone, replica, 2).status == 202
    alone.controller.wait_state(replica, "running")


def test_forged_renewal_leaves_the_app_as_it_was(alone):
    alone.start()
    replica = deploy(alone, on_secret_change="SIGHUP")
    pids = alone.pids(replica)
    assert put(alone, replica, 2, on_secret_change="SIGHUP", env_version="v2",
               sealed_env=of_another(alone, replica)).status == 202
    wait_until("the error", lambda: alone.controller.replica(replica), until=lambda one: one["error"] is not None)
    seen = look(alone, replica)
    assert alone.pids(replica) == pids and seen["signals"] == 0 and seen["files"] == {"PASSWORD": "old-canary"}
    assert put(alone, replica, 3, on_secret_change="SIGHUP", secrets={"PASSWORD": "new-canary"}).status == 202
    wait_until("the signal", lambda: look(alone, replica), until=lambda now: now["signals"] == 1)
    assert alone.controller.wait_beat()["replicas"][0]["error"] is None


# -- kills -----------------------------------------------------------------------------------------


def test_killed_agent_starts_the_app_again_from_the_sealed_state(alone):
    alone.start()
    replica = deploy(alone)
    alone.kill()
    for one in alone.processes(replica):
        one.kill()
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    seen = look(alone, replica)
    assert seen["env"]["PASSWORD"] == "old-canary" and seen["files"] == {"PASSWORD": "old-canary"}


def test_killed_agent_adopts_and_renews_by_signal(alone):
    alone.start()
    replica = deploy(alone, on_secret_change="SIGHUP")
    pids = alone.pids(replica)
    alone.kill()
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert put(alone, replica, 2, on_secret_change="SIGHUP", secrets={"PASSWORD": "new-canary"}).status == 202
    after = wait_until("the signal", lambda: look(alone, replica), until=lambda seen: seen["signals"] == 1)
    assert alone.pids(replica) == pids and after["read"] == {"PASSWORD": "new-canary"}


def test_agent_killed_before_the_signal_sends_it_later(alone):
    """As if it had died between storing the new secrets and telling the process."""
    alone.start()
    replica = deploy(alone, on_secret_change="SIGHUP")
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record["desired"]["sealed_env"] = alone.controller.seal(replica, {}, {"PASSWORD": "new-canary"})
    record["desired"]["env_version"] = "v2"
    record.update(generation=2, renewal=True)
    path.write_text(json.dumps(record))
    alone.run_again()
    after = wait_until("the signal", lambda: look(alone, replica), until=lambda seen: seen["signals"] >= 1)
    assert after["read"] == {"PASSWORD": "new-canary"}
    wait_until("it is noted", lambda: json.loads(path.read_text())["renewal"], until=lambda left: left is False)


def test_agent_killed_while_it_replaces_finishes(alone):
    alone.start()
    replica = deploy(alone, stop_grace_ms=3000)
    assert put(alone, replica, 2, secrets={"PASSWORD": "new-canary"}).status == 202
    alone.kill()
    alone.run_again()
    wait_generation(alone, replica, 2)
    assert look(alone, replica)["env"]["PASSWORD"] == "new-canary" and len(alone.processes(replica)) == 1


# -- where the files lie ---------------------------------------------------------------------------


def test_files_go_with_the_process(alone):
    alone.start()
    replica = deploy(alone)
    place = Path(look(alone, replica)["env"]["A67_SECRETS_DIR"])
    assert alone.commands.delete(replica, 1).status == 202
    wait_until("gone", lambda: alone.commands.delete(replica, 1).status, until=lambda status: status == 204)
    assert not place.exists() and not place.parent.exists()


def test_left_files_are_swept_by_the_next_agent(alone):
    alone.start()
    kept, lost = deploy(alone), deploy(alone)
    place = Path(look(alone, lost)["env"]["A67_SECRETS_DIR"])
    alone.kill()
    for one in alone.processes(lost):
        one.kill()
    (alone.state / "replicas" / f"{lost}.json").unlink()
    alone.run_again()
    assert not place.exists()
    alone.controller.wait_state(kept, "running")
    assert look(alone, kept)["files"] == {"PASSWORD": "old-canary"}


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no shared memory here")
def test_place_of_somebody_else_is_not_used(alone):
    alone.start()
    squat = Path("/dev/shm") / f"a67-{alone.controller.node_id}"
    squat.mkdir()
    squat.chmod(0o777)
    try:
        replica = deploy(alone)
        place = Path(look(alone, replica)["env"]["A67_SECRETS_DIR"])
        assert place.parent.parent != Path("/dev/shm") and list(squat.iterdir()) == []
        assert look(alone, replica)["files"] == {"PASSWORD": "old-canary"}
    finally:
        squat.rmdir()


# -- the agent itself ------------------------------------------------------------------------------


def test_agent_leaves_no_core_and_its_apps_may(alone):
    """What is not dumpable belongs to root in /proc, whoever runs it."""
    alone.start()
    replica = deploy(alone)
    if os.geteuid() == 0:
        pytest.skip("root sees no difference")
    assert os.stat(f"/proc/{alone.popen.pid}/environ").st_uid == 0
    assert os.stat(f"/proc/{alone.pids(replica)[0][0]}/environ").st_uid == os.geteuid()
