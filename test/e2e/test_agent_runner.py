"""a67-agent's process runner: what a process gets, whom it takes along when it ends. The controller is played."""

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile

import pytest
from agent_alone import AgentAlone, desired, new_id, new_nap, private_mounts, sleeping
from cloud import deterministic_tar, wait_until
from fake_controller import ask_app

# Tells what it is and how it may, then waits; starts others as MODE says.
TELL = r"""
import json, os, resource, signal, subprocess, sys
# Python itself ignores SIGPIPE and SIGXFSZ; signals 32 and 33 belong to the C library, and nobody can set them back.
IGNORED = 1 << 12 | 1 << 24 | 3 << 31
print("unbuffered")
mode = os.environ.get("MODE", "")
if mode == "orphan":       # a daemon as of old: two forks, a session of its own
    subprocess.run(["sh", "-c", "setsid sleep $NAP & exit"])
if mode == "nameless":     # no marks, but a parent that has them
    subprocess.Popen(["sleep", os.environ["NAP"]], env={}, start_new_session=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
with open(os.environ["HOME"] + "/told.tmp", "w") as out:
    json.dump({"cwd": os.getcwd(), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
               "argv": sys.argv, "env": dict(os.environ), "pgrp": os.getpgrp(), "pid": os.getpid(),
               "umask": os.umask(0), "new_privs": int(status["NoNewPrivs"]), "caps": status["CapEff"].strip(),
               "oom": int(open("/proc/self/oom_score_adj").read()),
               "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16) & ~IGNORED,
               "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-2],
               "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))
                          for name in ("CORE", "NOFILE", "DATA", "NPROC")}}, out)
os.rename(os.environ["HOME"] + "/told.tmp", os.environ["HOME"] + "/told.json")
signal.pause()
"""

# A shell in front, as in many an image: it ends at once, its child takes the time it was given.
WRAPPED = {"start.sh": "python3 slow.py\n", "slow.py": """
import os, signal, sys, time
def end(number, frame):
    open(os.environ["HOME"] + "/asked", "a").write("x")
    signal.setitimer(signal.ITIMER_REAL, 0.3)
def done(number, frame):
    open(os.environ["HOME"] + "/finished", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGALRM, done)
open(os.environ["HOME"] + "/up", "w").close()
while True:
    signal.pause()
"""}

WORKER = {"app_type": "worker", "health_check": None}


@pytest.fixture(scope="module")
def alone():
    """Started with a file open that is nobody's business."""
    agent = AgentAlone()
    agent.start("join", agent.controller.url, agent.controller.join_token(),
                prefix=("sh", "-c", 'exec "$@" 3</dev/null 9</dev/null', "sh"))
    yield agent
    agent.destroy()


def home(alone, replica):
    return alone.state / "apps" / replica / "home"


def tell(alone, **changes):
    """Deploys the teller; what it told, and its replica."""
    package = alone.controller.package(deterministic_tar({"tell.py": TELL}))
    replica = alone.deploy(package=package, **{"entrypoint": ["python3", "tell.py", "a b", ""], **WORKER, **changes})
    path = home(alone, replica) / "told.json"
    wait_until("the app has told", path.exists)
    return json.loads(path.read_text()), replica


def executable(name, content):
    """A package of one program."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o755
        tar.addfile(info, io.BytesIO(content.encode()))
    return gzip.compress(plain.getvalue(), mtime=0)


def remove(alone, replica):
    alone.commands.delete(replica, 1)
    wait_until("it is gone", lambda: alone.processes(replica) or alone.commands.delete(replica, 1).status != 204,
               until=lambda left: not left)


def test_a_process_is_alone_and_limited(alone):
    told, replica = tell(alone)
    assert told["cwd"] == str(alone.state / "apps" / replica / "1")
    assert told["argv"] == ["tell.py", "a b", ""]
    assert told["pgrp"] == told["pid"] == alone.controller.replica(replica)["pid"]
    assert told["env"]["A67_PID"] == str(told["pid"])
    assert told["env"]["HOME"] == str(home(alone, replica)) and told["env"]["GREETING"] == "hi"
    assert int(told["env"]["PORT"]) > 0 and len(told["env"]["A67_PACKAGE"]) == 64
    assert told["new_privs"] == 1 and told["oom"] == 500 and told["umask"] == 0o022
    assert told["blocked"] == 0 and told["ignored"] == 0 and told["fds"] == [0, 1, 2]
    assert told["limits"]["CORE"] == [0, 0] and told["limits"]["NOFILE"][0] == told["limits"]["NOFILE"][1] <= 65536
    assert told["limits"]["DATA"] == [128 << 20, 128 << 20]
    remove(alone, replica)


def test_without_a_limit_of_memory_there_is_none(alone):
    told, replica = tell(alone, resources={"cpu": 0.1})
    assert told["limits"]["DATA"] == [-1, -1]
    remove(alone, replica)


def test_an_app_that_wants_too_much_memory_fails_by_itself(alone):
    package = alone.controller.package(deterministic_tar({"app.py": "x = bytearray(300 << 20)"}))
    replica = new_id()
    alone.commands.put(replica, desired(package, 1, resources={"memory_bytes": 32 << 20, "cpu": 0.1}, **WORKER))
    wait_until("it says so", lambda: "MemoryError" in alone.commands.logs(replica).text)
    remove(alone, replica)


@pytest.mark.parametrize("mode", ["orphan", "nameless"])
def test_who_leaves_the_group_is_ended_with_it(alone, mode):
    nap = new_nap()
    told, replica = tell(alone, env={"MODE": mode, "NAP": nap})
    sleepers = wait_until("the other one runs", lambda: sleeping(nap))
    assert os.getpgid(sleepers[0].pid) != told["pgrp"]
    remove(alone, replica)
    assert not [one for one in sleepers if one.alive()]


def test_who_has_left_is_ended_by_the_next_agent(alone):
    nap = new_nap()
    told, replica = tell(alone, env={"MODE": "orphan", "NAP": nap})
    sleepers = wait_until("the other one runs", lambda: sleeping(nap))
    alone.kill()
    os.kill(told["pid"], signal.SIGKILL)
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert not sleepers[0].alive()
    remove(alone, replica)


def test_a_stop_is_asked_of_all_and_waited_for(alone):
    package = alone.controller.package(deterministic_tar(WRAPPED))
    replica = alone.deploy(package=package, entrypoint=["sh", "start.sh"], **WORKER)
    files = home(alone, replica)
    wait_until("the child is up", (files / "up").exists)
    alone.commands.put(replica, desired(package, 2, entrypoint=["sh", "start.sh", "again"], stop_grace_ms=5000,
                                        **WORKER))
    wait_until("the child has finished", (files / "finished").exists)
    assert (files / "asked").read_text() == "x"  # once
    wait_until("the next one runs", lambda: alone.controller.replica(replica),
               until=lambda one: one["generation"] == 2 and one["state"] == "running")
    alone.commands.delete(replica, 2)
    wait_until("it is gone", lambda: alone.commands.delete(replica, 2).status, until=lambda status: status == 204)


def test_who_does_not_end_in_time_is_killed(alone):
    body = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w')\nwhile 1: signal.pause()"
    package = alone.controller.package(deterministic_tar({"start.sh": "python3 app.py\n", "app.py": body}))
    replica = alone.deploy(package=package, entrypoint=["sh", "start.sh"], stop_grace_ms=300, **WORKER)
    wait_until("it is up", (alone.state / "apps" / replica / "1" / "up").exists)
    began = os.times().elapsed
    remove(alone, replica)
    assert 0.25 < os.times().elapsed - began < 4


def test_a_start_that_fails_says_at_what(alone):
    cases = [("broken", "#!/nonexistent/interpreter\n", ["./app"], "could not start \"./app\": No such file"),
             ("text", "\x7fELF rubbish", ["./app"], "could not start \"./app\": Exec format error"),
             ("missing", "x", ["./nothing"], "not an executable file of the package"),
             ("not in PATH", "x", ["a67-no-such-program"], "was not found in PATH")]
    for name, content, entrypoint, words in cases:
        replica = new_id()
        package = alone.controller.package(executable("app", content))
        alone.commands.put(replica, desired(package, 1, entrypoint=entrypoint, **WORKER))
        seen = alone.controller.wait_state(replica, "failed", timeout=40)
        assert words in seen["error"], (name, seen["error"])
        remove(alone, replica)


# -- runtimes --------------------------------------------------------------------------------------


def test_python_is_unbuffered(alone):
    told, replica = tell(alone, runtime="python", entrypoint=["tell.py", "x"])
    assert told["argv"] == ["tell.py", "x"]
    wait_until("its line is there", lambda: "unbuffered" in alone.commands.logs(replica).text)
    remove(alone, replica)


@pytest.mark.skipif(shutil.which("node", path="/usr/local/bin:/usr/bin:/bin") is None, reason="no node here")
def test_node_runs_a_script(alone):
    script = ("require('http').createServer((q, r) => r.end(process.argv[2])).listen("
              "process.env.PORT, '127.0.0.1')")
    package = alone.controller.package(deterministic_tar({"app.js": script}))
    replica = alone.deploy(package=package, runtime="node", entrypoint=["app.js", "from node"],
                           resources={"memory_bytes": 512 << 20, "cpu": 0.1})
    assert ask_app(alone.controller.replica(replica)["port"])[1] == "from node"
    remove(alone, replica)


def test_a_runtime_that_is_not_here_is_refused():
    """/dev/null in its place, in a mount namespace of the agent's own."""
    if shutil.which("node", path="/usr/local/bin:/usr/bin:/bin"):
        hidden = [path for path in ("/usr/local/bin/node", "/usr/bin/node", "/bin/node") if os.path.exists(path)]
        prefix = private_mounts(" && ".join(f"mount --bind /dev/null {path}" for path in hidden))
    else:
        prefix = ()
    agent = AgentAlone()
    try:
        agent.start(prefix=prefix)
        answer = agent.commands.put(new_id(), desired(agent.app, 1, runtime="node", entrypoint=["app.js"]))
        assert answer.status == 400 and '\\"runtime\\"' in answer.text and "no \\\"node\\\"" in answer.text
        assert agent.commands.list() == []
    finally:
        agent.destroy()


# -- control groups that a directory plays -----------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_are_entered(version):
    agent = AgentAlone()
    mount = agent.folder / "cgroup"
    mount.mkdir()
    (mount / "self").write_text("0::/\n" if version == 2 else "3:memory:/\n2:cpu,cpuacct:/\n1:pids:/\n")
    if version == 2:
        (mount / "cgroup.controllers").write_text("cpu memory pids\n")
    else:
        for name in ("cpu,cpuacct", "memory", "pids"):
            (mount / name).mkdir()
    try:
        agent.start(A67_CGROUP_ROOT=str(mount))
        assert f"control groups: version {version} at" in agent.text() and "limits: memory cpu pids" in agent.text()
        told, replica = tell(agent, resources={"memory_bytes": 64 << 20, "cpu": 0.5, "pids": 30})
        # The group limits memory, all of it together: nothing limits each process.
        assert told["limits"]["DATA"] == [-1, -1]
        trees = [mount] if version == 2 else [mount / name for name in ("cpu,cpuacct", "memory", "pids")]
        groups = [tree / f"a67-{agent.controller.node_id}" / replica for tree in trees]
        assert {(group / "cgroup.procs").read_text() for group in groups} == {str(told["pid"])}
        wanted = ({"memory.max": str(64 << 20), "cpu.max": "50000 100000", "pids.max": "30", "memory.oom.group": "1"}
                  if version == 2 else {"memory.limit_in_bytes": str(64 << 20), "cpu.cfs_quota_us": "50000",
                                        "cpu.cfs_period_us": "100000", "pids.max": "30"})
        found = {path.name: path.read_text() for group in groups for path in group.iterdir()}
        assert wanted.items() <= found.items()
        # The next agent finds process and group again.
        pids = agent.pids(replica)
        agent.kill()
        agent.run_again(A67_CGROUP_ROOT=str(mount))
        agent.controller.wait_state(replica, "running")
        assert agent.pids(replica) == pids
        remove(agent, replica)
        if version == 2:
            assert (groups[0] / "cgroup.kill").read_text() == "1"
    finally:
        agent.destroy()


def test_without_control_groups_that_is_said_once(alone):
    empty = AgentAlone()
    (empty.folder / "cgroup").mkdir()
    try:
        empty.start(A67_CGROUP_ROOT=str(empty.folder / "cgroup"))
        for replica in [empty.deploy(**WORKER) for _ in range(2)]:
            remove(empty, replica)
        assert empty.text().count("no control groups: none are mounted") == 1
    finally:
        empty.destroy()


def test_a_member_without_marks_is_ended_by_its_group(alone):
    """What a start wrote into the group is found there, although its environment and parents are gone."""
    agent = AgentAlone()
    mount = agent.folder / "cgroup"
    mount.mkdir()
    (mount / "self").write_text("0::/\n")
    (mount / "cgroup.controllers").write_text("cpu memory pids\n")
    stranger = subprocess.Popen(["sleep", "1000"], env={}, start_new_session=True)
    try:
        agent.start(A67_CGROUP_ROOT=str(mount))
        told, replica = tell(agent)
        group = mount / f"a67-{agent.controller.node_id}" / replica
        (group / "cgroup.procs").write_text(f"{told['pid']}\n{stranger.pid}\n")
        remove(agent, replica)
        assert stranger.wait(10) == -signal.SIGTERM
    finally:
        stranger.kill()
        stranger.wait()
        agent.destroy()


def test_unknown_runners_and_runtimes_are_refused(alone):
    for change, field in (({"runner": "vm"}, "runner"), ({"runtime": "ruby"}, "runtime"), ({"runner": 1}, "runner"),
                          ({"runtime": "python", "entrypoint": []}, "entrypoint")):
        answer = alone.commands.put(new_id(), desired(alone.app, 1, **change))
        assert answer.status == 400 and f'\\"{field}\\"' in answer.text, answer.text
