"""Cron apps on a node: one run, its exit code and duration, its time limit, and no second run, whatever is killed."""

import json
import signal

import pytest
from agent_alone import desired, new_id, zombies_of
from agent_fault import preload
from cloud import wait_until


def cron(script, **changes):
    """What a run of this shell script is deployed with."""
    return {"app_type": "cron", "entrypoint": ["sh", "-c", script], "health_check": None, "resources": None, **changes}


WAITING = 'while [ ! -e "$HOME/go" ]; do sleep 0.1; done; '


def let_go(agent, replica):
    """Ends the waiting of a run that was WAITING."""
    (agent.state / "apps" / replica / "home" / "go").touch()


def run(agent, script, state="finished", **changes):
    """Has the script run; returns the replica as it is reported in the state."""
    return agent.controller.replica(agent.deploy(state=state, **cron(script, **changes)))


@pytest.mark.parametrize("script, code", [
    ("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)])
def test_run_ends_with_its_exit_code(shared_agent, script, code):
    one = run(shared_agent, f"echo out; echo err >&2; {script}")
    assert one["exit_code"] == code and one["restarts"] == 0 and one["pid"] is None
    assert 0 <= one["duration_ms"] < 5000 and one["started_at"] <= one["since"]
    assert "out\n" in one["log_tail"] and "err\n" in one["log_tail"]
    assert (one["error"] is None) == (code == 0)


def test_duration_is_measured(shared_agent):
    one = run(shared_agent, "sleep 0.7")
    assert 700 <= one["duration_ms"] < 5000


def test_run_that_lasts_is_running_meanwhile(shared_agent):
    replica = shared_agent.deploy(**cron(WAITING + "exit 7"))
    one = shared_agent.controller.replica(replica)
    assert one["exit_code"] is None and one["duration_ms"] is None and one["started_at"]
    let_go(shared_agent, replica)
    assert shared_agent.controller.wait_state(replica, "finished")["exit_code"] == 7


def test_other_apps_have_no_result(shared_agent):
    replica = shared_agent.deploy()
    assert not {"exit_code", "duration_ms", "started_at"} & set(shared_agent.controller.replica(replica))


def test_run_leaves_nothing_running(shared_agent):
    one = run(shared_agent, "sleep 1000 & setsid sleep 1000 & echo started")
    assert one["exit_code"] == 0
    wait_until("all of it is gone", lambda: shared_agent.processes(one["id"]), until=lambda left: not left)


def test_run_has_the_environment_of_any_app(shared_agent):
    one = run(shared_agent, 'test "$GREETING" = hi && test -n "$A67_DEPLOYMENT" && test ! -e /proc/self/fd/3')
    assert one["exit_code"] == 0


def test_finished_run_is_not_repeated(shared_agent):
    """Neither by a repeated order, nor by a higher generation, other content or new secrets."""
    replica = new_id()
    script = cron('echo ran')
    shared_agent.deploy(replica, state="finished", **script)
    before = shared_agent.controller.replica(replica)
    for generation, changes in [(1, {}), (2, {}), (3, {"env": {"OTHER": "content"}}),
                                (4, {"secrets": {"KEY": "new"}})]:
        answer = shared_agent.commands.put(replica, desired(shared_agent.app, generation, **{**script, **changes}))
        assert answer.status == 202 or generation == 1, answer.text
    shared_agent.controller.wait_beat(2)
    after = shared_agent.controller.replica(replica)
    assert (after["state"], after["generation"], after["started_at"]) == ("finished", 4, before["started_at"])
    assert shared_agent.commands.logs(replica).text.count("ran\n") == 1


def test_new_secrets_do_not_disturb_a_run(shared_agent):
    replica = new_id()
    script = cron(WAITING + "echo $KEY")
    shared_agent.deploy(replica, state="running", secrets={"KEY": "one"}, **script)
    pid = shared_agent.controller.replica(replica)["pid"]
    answer = shared_agent.commands.put(replica, desired(shared_agent.app, 2, secrets={"KEY": "two"}, **script))
    assert answer.status == 202 and answer.json()["pid"] == pid
    let_go(shared_agent, replica)
    one = shared_agent.controller.wait_state(replica, "finished")
    assert "one\n" in one["log_tail"] and one["exit_code"] == 0 and one["generation"] == 2


def test_finished_run_is_deleted_like_any_replica(shared_agent):
    one = run(shared_agent, "true")
    assert shared_agent.commands.delete(one["id"], 1).status in (202, 204)
    wait_until("gone", lambda: shared_agent.commands.delete(one["id"], 1).status, until=lambda status: status == 204)
    assert not (shared_agent.state / "apps" / one["id"]).exists()


def test_run_that_takes_too_long_fails(shared_agent):
    one = run(shared_agent, "trap '' TERM; echo begun; sleep 1000", state="failed", run_timeout_ms=400,
              stop_grace_ms=200)
    assert one["error"] == "not done after 400 ms" and "begun\n" in one["log_tail"]
    assert one["exit_code"] == 137 and one["restarts"] == 0
    assert shared_agent.processes(one["id"]) == []


def test_time_limit_ends_a_run_gracefully(shared_agent):
    one = run(shared_agent, "trap 'exit 9' TERM; while :; do sleep 0.05; done", state="failed", run_timeout_ms=300)
    assert (one["error"], one["exit_code"]) == ("not done after 300 ms", 9)


@pytest.mark.parametrize("entrypoint, words", [
    (["no-such-program"], "was not found in PATH"), (["./app.py"], "is not an executable file"),
    (["./broken"], "Exec format error")])
def test_run_that_cannot_start_fails(shared_agent, entrypoint, words):
    package = shared_agent.controller.package(broken_package())
    replica = new_id()
    order = {**cron(""), "entrypoint": entrypoint}
    assert shared_agent.commands.put(replica, desired(package, 1, **order)).status == 202
    one = shared_agent.controller.wait_state(replica, "failed")
    assert words in one["error"] and one["exit_code"] is None and one["restarts"] == 0


def broken_package():
    """An executable that is none."""
    import gzip
    import io
    import tarfile
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, mode in (("broken", 0o755), ("app.py", 0o644)):
            info = tarfile.TarInfo(name)
            info.mode, info.size = mode, 4
            archive.addfile(info, io.BytesIO(b"\x7fELF"))
    return gzip.compress(raw.getvalue(), mtime=0)


def test_stopped_run_is_gone(shared_agent):
    replica = shared_agent.deploy(**cron("sleep 1000"))
    assert shared_agent.commands.delete(replica, 1).status == 202
    wait_until("gone", lambda: shared_agent.commands.delete(replica, 1).status, until=lambda status: status == 204)
    assert shared_agent.processes(replica) == []


# -- when the agent is killed ------------------------------------------------------------------------


def test_run_ends_while_no_agent_lives(alone):
    alone.start()
    replica = alone.deploy(**cron(WAITING + "echo the end; exit 5"))
    alone.kill()
    let_go(alone, replica)
    wait_until("it has ended", lambda: alone.processes(replica), until=lambda left: not left)
    alone.run_again()
    one = alone.controller.wait_state(replica, "finished")
    assert one["exit_code"] == 5 and 1000 <= one["duration_ms"] < 60000 and "the end\n" in one["log_tail"]


def test_run_is_adopted(alone):
    alone.start()
    replica = alone.deploy(**cron(WAITING + "exit 6"))
    pid = alone.controller.replica(replica)["pid"]
    alone.kill()
    alone.run_again()
    assert alone.commands.list()[0]["pid"] == pid
    let_go(alone, replica)
    assert alone.controller.wait_state(replica, "finished")["exit_code"] == 6
    assert zombies_of(alone.popen.pid) == []


def test_time_limit_counts_from_the_start_of_the_run(alone):
    """Agents that are killed again and again give it no more time."""
    alone.start()
    replica = alone.deploy(**cron("sleep 1000", run_timeout_ms=2500))
    for _ in range(4):
        alone.kill()
        alone.run_again()
    one = alone.controller.wait_state(replica, "failed")
    assert one["error"] == "not done after 2500 ms" and 2300 <= one["duration_ms"] < 6000


def test_killed_run_is_told_as_killed(alone):
    """All of it at once, as the kernel does when memory is short: nobody is left to write the end down."""
    alone.start()
    replica = alone.deploy(**cron("sleep 1000"))
    for one in alone.processes(replica):
        one.kill(signal.SIGKILL)
    assert alone.controller.wait_state(replica, "finished")["exit_code"] == 137


def test_run_killed_with_its_agent_is_not_repeated(alone):
    alone.start()
    replica = alone.deploy(**cron("echo ran; sleep 1000"))
    alone.kill()
    for one in alone.processes(replica):
        one.kill(signal.SIGKILL)
    alone.run_again()
    one = alone.controller.wait_state(replica, "failed")
    assert one["error"] == "the run was interrupted" and one["exit_code"] is None
    assert alone.commands.logs(replica).text.count("ran\n") == 1


def test_run_whose_waiter_died_before_it_began_is_tried_again(shared_agent):
    """Killed in its very first moment: nothing has run, so it is no second run."""
    marker = shared_agent.folder / "die"
    marker.touch()
    one = run(shared_agent, "unset LD_PRELOAD; echo ran; exit 3", env={**preload(), "FAULT_BEGIN": str(marker)})
    assert not marker.exists() and one["restarts"] == 1 and one["exit_code"] == 3
    text = shared_agent.commands.logs(one["id"]).text
    assert text.count("ran\n") == 1 and "process was killed by signal 9" in text


@pytest.mark.parametrize("begun", [False, True])
def test_announced_run_begins_once(alone, begun):
    """As if the agent had died around the start: the record tells whether the run has begun."""
    alone.start()
    replica = alone.deploy(state="finished", **cron("echo ran"))
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record.update(process=None, intent=True, state="starting", run={"begun": False})
    path.write_text(json.dumps(record))
    note = alone.state / "apps" / replica / "run.1"
    note.write_bytes((b"begun".ljust(30) if begun else b" " * 30) + b".\n" + b" " * 30 + b".\n")
    alone.run_again()
    alone.controller.wait_state(replica, "failed" if begun else "finished")
    assert alone.commands.logs(replica).text.count("ran\n") == (1 if begun else 2)


def test_reboot_interrupts_a_run(alone):
    alone.start()
    replica = alone.deploy(**cron("echo ran; sleep 1000"))
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record["boot"] = "another-boot"
    path.write_text(json.dumps(record))
    alone.run_again()
    assert alone.controller.wait_state(replica, "failed")["error"] == "the run was interrupted"
    assert alone.processes(replica) == []
