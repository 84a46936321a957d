"""a67-agent as root: a user of its own for each app, and what that user cannot reach; real control groups where there are
some. The controller is played. Other tests run without root, and so does the agent in them.
"""

import json
import os
import signal
from pathlib import Path

import pytest
from agent_alone import AgentAlone, desired, new_id, new_nap, sleeping
from cloud import deterministic_tar, process, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WORKER = {"app_type": "worker", "health_check": None}
FIRST, LAST = 1879048192, 1879113727

LOOK = r"""
import glob, json, os, resource, signal
def attempt(what):
    try:
        what()
        return "ok"
    except OSError as e:
        return e.strerror
state = os.environ["STATE"]
paths = {"own package": "here.txt", "own home": os.environ["HOME"] + "/x", "own tmp": os.environ["TMPDIR"] + "/x"}
others = os.environ.get("OTHER")
told = {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
        "nproc": resource.getrlimit(resource.RLIMIT_NPROC),
        "writes": {name: attempt(lambda: open(path, "w").close()) for name, path in paths.items()},
        "lists": {path: attempt(lambda: os.listdir(path)) for path in
                  (state, state + "/apps", state + "/replicas", state + "/logs", state + "/cache", state + "/trash",
                   os.path.dirname(os.environ["HOME"]))},
        "reads": {path: attempt(lambda: open(path).close()) for path in
                  (state + "/node.key", state + "/node.json", state + "/replicas/" + os.environ["A67_REPLICA"] + ".json",
                   state + "/logs/" + os.environ["A67_REPLICA"] + ".log")},
        "makes": attempt(lambda: os.mkdir(os.path.dirname(os.environ["HOME"]) + "/2.part")),
        "other": others and [attempt(lambda: os.listdir(others)), attempt(lambda: open(others + "/1/here.txt").close()),
                             attempt(lambda: open(others + "/home/x", "w").close())],
        "kills": attempt(lambda: os.kill(int(os.environ["VICTIM"]), 0)) if "VICTIM" in os.environ else None,
        "secret": open(os.environ["A67_SECRETS_DIR"] + "/TOKEN").read() if "TOKEN" in os.environ else None,
        "secrets": [attempt(lambda: open(path).close()) for path in glob.glob("/dev/shm/a67-*/*/TOKEN")],
        "rewrites": attempt(lambda: open(os.environ["A67_SECRETS_DIR"] + "/TOKEN", "w").close())
        if "TOKEN" in os.environ else None}
json.dump(told, open(os.environ["HOME"] + "/told.tmp", "w"))
os.rename(os.environ["HOME"] + "/told.tmp", os.environ["HOME"] + "/told.json")
if os.environ.get("MODE") == "hide":  # no marks, no parent, no group, no session of ours
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["sleep", os.environ["NAP"]], {})
        os._exit(0)
    os.wait()
signal.pause()
"""


@pytest.fixture(scope="module")
def alone():
    agent = AgentAlone()
    os.chmod(agent.folder, 0o755)
    agent.start()
    yield agent
    agent.destroy()


def look(alone, agent=None, **changes):
    package = alone.controller.package(deterministic_tar({"look.py": LOOK, "here.txt": "x"}))
    env = {"STATE": str(alone.state), **changes.pop("env", {})}
    replica = alone.deploy(package=package, env=env, **{"entrypoint": ["python3", "look.py"], **WORKER, **changes})
    path = alone.state / "apps" / replica / "home" / "told.json"
    wait_until("the app has told", path.exists)
    return json.loads(path.read_text()), replica


def remove(alone, replica):
    alone.commands.delete(replica, 1)
    wait_until("it is gone", lambda: alone.commands.delete(replica, 1).status, until=lambda status: status == 204)


def test_each_app_is_somebody_else(alone):
    (one, first), (two, second) = look(alone), look(alone)
    for told in (one, two):
        assert FIRST <= told["uid"][0] <= LAST and set(told["uid"]) == set(told["gid"]) and told["groups"] == []
    assert one["uid"] != two["uid"]
    assert f"applications run as users {FIRST} to {LAST}" in alone.text()
    remove(alone, first)
    remove(alone, second)


def test_an_app_has_what_is_its_own_and_nothing_else(alone):
    _, other = look(alone, secrets={"TOKEN": "theirs"})
    told, replica = look(alone, secrets={"TOKEN": "mine"}, env={
        "OTHER": str(alone.state / "apps" / other), "VICTIM": str(alone.controller.replica(other)["pid"])})
    assert set(told["writes"].values()) == {"ok"}
    assert set(told["lists"].values()) == {"Permission denied"} and set(told["reads"].values()) == {"Permission denied"}
    assert told["makes"] == "Permission denied" and set(told["other"]) == {"Permission denied"}
    assert told["kills"] == "Operation not permitted"
    assert told["secret"] == "mine" and told["rewrites"] == "Permission denied"
    assert told["secrets"] == []  # whose names could not even be listed
    remove(alone, replica)
    remove(alone, other)


def test_who_hides_is_found_by_its_user(alone):
    nap = new_nap()
    told, replica = look(alone, env={"MODE": "hide", "NAP": nap})
    hidden = wait_until("the other one runs", lambda: sleeping(nap))
    assert hidden[0].ppid == 1 and process.environment(hidden[0].pid) == {}
    remove(alone, replica)
    assert not hidden[0].alive()


def test_who_hides_is_found_by_the_next_agent(alone):
    nap = new_nap()
    told, replica = look(alone, env={"MODE": "hide", "NAP": nap})
    hidden = wait_until("the other one runs", lambda: sleeping(nap))
    alone.kill()
    for one in alone.processes(replica):
        one.kill()
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert not hidden[0].alive()
    remove(alone, replica)


def test_the_user_stays_until_nothing_is_left(alone):
    told, replica = look(alone)
    pids = alone.pids(replica)
    alone.kill()
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) == pids
    alone.processes(replica)[0].kill()
    wait_until("it was started again", lambda: alone.controller.replica(replica),
               until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    assert alone.processes(replica)[0].uid == told["uid"][0]
    assert (alone.state / "apps" / replica / "1").stat().st_uid == told["uid"][0]
    assert (alone.state / "apps" / replica).stat().st_uid == 0
    remove(alone, replica)
    wait_until("its files are gone", lambda: [path for path in alone.state.rglob("*") if path.lstat().st_uid != 0],
               until=lambda left: not left)


def test_pids_limit_the_user(alone):
    told, replica = look(alone, resources={"cpu": 0.1, "pids": 25})
    assert told["nproc"] == [25, 25]
    remove(alone, replica)
    told, replica = look(alone, resources={"cpu": 0.1})
    assert told["nproc"] != [25, 25]
    remove(alone, replica)


def test_a_range_of_ones_own():
    agent = AgentAlone()
    os.chmod(agent.folder, 0o755)
    try:
        agent.start(A67_USER_RANGE="70000-70001")
        users = {look(agent)[0]["uid"][0] for _ in range(2)}
        assert users == {70000, 70001}
        # Nobody is left for a third: it runs as nobody else, and not as root.
        replica = new_id()
        agent.commands.put(replica, desired(agent.app, 1, **WORKER))
        seen = wait_until("it says why", lambda: agent.controller.replica(replica),
                          until=lambda one: one is not None and one["error"] is not None)
        assert "no user is left" in seen["error"] and agent.processes(replica) == []
    finally:
        agent.destroy()


@pytest.mark.parametrize("wrong", ["0-10", "5", "9000-8000", "x-y"])
def test_a_range_that_is_none(wrong):
    agent = AgentAlone()
    try:
        agent.start("join", agent.controller.url, agent.controller.join_token(), "--user-range", wrong, wait=False)
        assert agent.status() == 100 and wrong in agent.text()
    finally:
        agent.destroy()


def test_control_groups_hold(alone):
    if "control groups: version" not in alone.text():
        pytest.skip("no control groups here")
    told, replica = look(alone, resources={"memory_bytes": 48 << 20, "cpu": 0.5, "pids": 40})
    pid = alone.controller.replica(replica)["pid"]
    groups = [line.split(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
              if f"a67-{alone.controller.node_id}/{replica}" in line]
    assert groups
    made = [path for top in Path("/sys/fs/cgroup").iterdir() if top.is_dir() for path in [top / groups[0].strip("/")]
            if path.is_dir()] or [Path("/sys/fs/cgroup") / groups[0].strip("/")]
    values = {path.name: path.read_text().strip() for group in made for path in group.iterdir()
              if path.name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")}
    assert values.get("pids.max") == "40" and str(48 << 20) in values.values()
    pids = alone.pids(replica)
    alone.kill()
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) == pids
    remove(alone, replica)
    wait_until("the group is gone", lambda: [group for group in made if group.exists()], until=lambda left: not left)


def test_memory_is_limited_as_a_whole(alone):
    if "limits: memory" not in alone.text():
        pytest.skip("no control group limits memory here")
    eat = ("import os, signal\nfor _ in range(4):\n    if os.fork() == 0:\n        x = bytearray(24 << 20)\n"
           "        signal.pause()\nos.wait()\nraise SystemExit('a child was ended')")
    package = alone.controller.package(deterministic_tar({"app.py": eat}))
    replica = new_id()
    alone.commands.put(replica, desired(package, 1, resources={"memory_bytes": 48 << 20, "cpu": 1}, **WORKER))
    seen = wait_until("it was ended", lambda: alone.controller.replica(replica),
                      until=lambda one: one is not None and one["restarts"] > 0, timeout=60)
    assert seen["error"]
    remove(alone, replica)


def test_a_member_of_the_group_that_hides_is_ended(alone):
    if "control groups: version" not in alone.text():
        pytest.skip("no control groups here")
    told, replica = look(alone, env={"MODE": "hide", "NAP": new_nap()}, stop_grace_ms=0)
    os.kill(alone.controller.replica(replica)["pid"], signal.SIGSTOP)
    remove(alone, replica)
    assert [one for one in process.every() if one.uid == told["uid"][0]] == []
