"""Health checks on a node: by path, by connection, by command; what a bad one leads to, and what it costs."""

import pytest
from agent_alone import APP, AgentAlone, desired, new_id, zombies_of
from cloud import deterministic_tar, process, wait_until
from fake_controller import ask_app

# Healthy while the file "well" is in its home; "slow" makes a check hang together with a child of its own.
CHECK = r"""#!/bin/sh
echo "$A67_REPLICA $PORT $GREETING" >>"$HOME/asked"
test -e app.py || exit 40
if [ -e "$HOME/slow" ]; then
    setsid sleep 999 & sleep 999 & sleep 999
fi
if [ -e "$HOME/loud" ]; then
    head -c 300000 /dev/zero | tr '\0' 'x'
    echo
fi
if [ -e "$HOME/well" ]; then
    exit 0
fi
echo "first line"; echo "the disk is sad" >&2; exit 4
"""


@pytest.fixture(scope="module")
def shared():
    """One joined agent for tests that leave it whole."""
    agent = AgentAlone()
    agent.start()
    agent.app = agent.controller.package(deterministic_tar(
        {"app.py": APP, "check.sh": CHECK, "hold.sh": "#!/bin/sh\nwhile :; do sleep 1; done\n"}))
    yield agent
    agent.destroy()


def command(*argv, **changes):
    check = {"command": list(argv) or ["sh", "check.sh"], "interval_ms": 100, "timeout_ms": 1000, "retries": 2}
    return {"app_type": "worker", "entrypoint": ["sh", "hold.sh"], "health_check": {**check, **changes}}


def home(agent, replica):
    return agent.state / "apps" / replica / "home"


def put(agent, **changes):
    """Deploys without waiting for a state."""
    replica = new_id()
    answer = agent.commands.put(replica, desired(agent.app, 1, **changes))
    assert answer.status == 202, answer.text
    return replica


def make_well(agent, replica):
    wait_until("its home", lambda: home(agent, replica).exists())
    (home(agent, replica) / "well").touch()


def checks(agent, replica):
    """Processes of health checks."""
    return [one for one in agent.processes(replica) if "A67_CHECK" in process.environment(one.pid)]


# -- by command ------------------------------------------------------------------------------------


def test_command_decides(shared):
    replica = put(shared, **command())
    one = wait_until("a complaint", lambda: shared.controller.replica(replica),
                     until=lambda one: one is not None and one["error"] is not None)
    assert one["state"] == "starting"
    assert one["error"] == "health check command exited with status 4: the disk is sad"
    make_well(shared, replica)
    shared.controller.wait_state(replica, "running")
    port = shared.controller.replica(replica)["port"]
    # In the directory and the environment of the app.
    assert f"{replica} {port} hi\n" in (home(shared, replica) / "asked").read_text()


def test_command_is_repeated_and_makes_an_app_unhealthy(shared):
    replica = put(shared, **command())
    make_well(shared, replica)
    shared.controller.wait_state(replica, "running")
    before = shared.pids(replica)
    asked = len((home(shared, replica) / "asked").read_text())
    wait_until("more checks", lambda: len((home(shared, replica) / "asked").read_text()),
               until=lambda now: now > 3 * asked)
    (home(shared, replica) / "well").unlink()
    one = wait_until("a restart", lambda: shared.controller.replica(replica), until=lambda one: one["restarts"] == 1)
    assert before != shared.pids(replica) and one["pid"]
    make_well(shared, replica)
    shared.controller.wait_state(replica, "running")


def test_one_bad_check_is_forgiven(shared):
    replica = put(shared, **command(retries=50))
    make_well(shared, replica)
    shared.controller.wait_state(replica, "running")
    pids = [one.pid for one in shared.processes(replica) if one not in checks(shared, replica)]
    (home(shared, replica) / "well").unlink()
    asked = (home(shared, replica) / "asked").stat().st_size
    wait_until("some bad checks", lambda: (home(shared, replica) / "asked").stat().st_size,
               until=lambda now: now > asked + 200)
    make_well(shared, replica)
    one = shared.controller.replica(replica)
    assert (one["state"], one["restarts"]) == ("running", 0) and one["pid"] in pids


def test_slow_command_is_killed_as_a_tree(shared):
    replica = put(shared, **command(timeout_ms=2000, retries=99))
    make_well(shared, replica)
    shared.controller.wait_state(replica, "running")
    (home(shared, replica) / "slow").touch()
    wait_until("a check hangs", lambda: len(checks(shared, replica)), until=lambda n: n >= 3)
    hanging = checks(shared, replica)
    (home(shared, replica) / "slow").unlink()
    wait_until("its tree is gone", lambda: [one for one in hanging if one.alive()], until=lambda left: not left)
    wait_until("no zombies", lambda: zombies_of(shared.popen.pid), until=lambda left: not left)
    assert shared.controller.replica(replica)["restarts"] == 0


def test_slow_command_is_a_bad_check(shared):
    replica = put(shared, **command("sleep", "999", timeout_ms=100))
    one = wait_until("a complaint", lambda: shared.controller.replica(replica),
                     until=lambda one: one is not None and one["error"] is not None)
    assert one["error"] == "health check command took too long"


def test_loud_command_is_read_to_its_end(shared):
    replica = put(shared, **command())
    wait_until("its home", lambda: home(shared, replica).exists())
    (home(shared, replica) / "loud").touch()
    make_well(shared, replica)
    shared.controller.wait_state(replica, "running")


@pytest.mark.parametrize("argv, words", [
    (["no-such-program"], "was not found in PATH"), (["sh", "-c", "kill -9 $$"], "was killed by signal 9"),
    (["./app.py"], "is not an executable file")])
def test_command_that_cannot_work_is_a_bad_check(shared, argv, words):
    replica = put(shared, **command(*argv))
    one = wait_until("a complaint", lambda: shared.controller.replica(replica),
                     until=lambda one: one is not None and one["error"] is not None)
    assert one["state"] == "starting" and words in one["error"]


def test_few_commands_run_at_once(shared):
    replicas = [put(shared, **command("sleep", "1", timeout_ms=9000)) for _ in range(8)]
    most = []

    def all_run():
        checked = {process.environment(one.pid).get("A67_REPLICA") for one in shared.processes()
                   if "A67_CHECK" in process.environment(one.pid)}
        most.append(len(checked & set(replicas)))
        return [one["state"] for one in shared.commands.list() if one["id"] in replicas]

    wait_until("all are healthy", all_run, until=lambda states: states == ["running"] * 8, interval=0.01)
    assert 1 <= max(most) <= 4


def test_check_ends_with_its_app(shared):
    replica = put(shared, **command("sleep", "999", timeout_ms=60000))
    wait_until("a check", lambda: checks(shared, replica))
    assert shared.commands.delete(replica, 1).status in (202, 204)
    wait_until("nothing is left", lambda: shared.processes(replica), until=lambda left: not left)


def test_check_of_a_killed_agent_is_ended(alone):
    alone.start()
    replica = put(alone, app_type="worker", entrypoint=["sleep", "999"],
                  health_check={"command": ["sleep", "999"], "timeout_ms": 60000})
    wait_until("a check", lambda: checks(alone, replica))
    stray = checks(alone, replica)
    alone.kill()
    alone.run_again()
    assert not [one for one in stray if one.alive()]
    apps = [one for one in alone.processes(replica) if "A67_CHECK" not in process.environment(one.pid)]
    assert len(apps) == 1


# -- by path, by connection, by nothing -----------------------------------------------------------


def test_connection_is_enough_when_it_is_asked_for(shared):
    replica = put(shared, env={"MODE": ""}, health_check={"tcp": True, "interval_ms": 100, "retries": 2})
    port = shared.controller.wait_state(replica, "running")["port"]
    ask_app(port, "/sicken")
    shared.controller.wait_beat(3)
    one = shared.controller.replica(replica)
    assert ask_app(port)[0] == 503 and (one["state"], one["restarts"]) == ("running", 0)


def test_closed_port_makes_an_app_unhealthy(shared):
    replica = put(shared, entrypoint=["sh", "hold.sh"],
                  health_check={"tcp": True, "interval_ms": 100, "retries": 2})
    one = wait_until("a complaint", lambda: shared.controller.replica(replica),
                     until=lambda one: one is not None and one["error"] is not None)
    assert one["state"] == "starting" and "could not connect" in one["error"]


def test_worker_may_answer_health_checks(shared):
    replica = put(shared, app_type="worker", health_check={"path": "/", "interval_ms": 100, "retries": 1})
    port = shared.controller.wait_state(replica, "running")["port"]
    ask_app(port, "/sicken")
    one = wait_until("a restart", lambda: shared.controller.replica(replica), until=lambda one: one["restarts"] == 1)
    assert one["log_tail"] is None or "hello from" in one["log_tail"]


def test_last_output_comes_with_a_failure(shared):
    """While the restart waits, not only when the app is given up."""
    replica = put(shared, app_type="worker", entrypoint=["sh", "-c", "echo last words; exit 3"], health_check=None)
    one = wait_until("its end", lambda: shared.controller.replica(replica),
                     until=lambda one: one is not None and one["state"] == "unhealthy")
    assert one["error"] == "process exited with status 3" and "last words\n" in one["log_tail"]
    assert shared.commands.delete(replica, 1).status in (202, 204)
