"""a67-agent's container runner: what an app in a container is, sees and may, and its end. The controller is played.

crun knows no mixed hierarchies of control groups, which test machines may have: the agents here run in a mount namespace
without any.
"""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from agent_alone import AgentAlone, desired, new_id, new_nap, private_mounts, sleeping
from cloud import deterministic_tar, process, wait_until
from fake_controller import ask_app

NO_CGROUPS = "mount -t tmpfs none /sys/fs/cgroup"
CRUN = shutil.which("crun", path="/usr/local/bin:/usr/bin:/bin:/usr/sbin")
WORKER = {"app_type": "worker", "health_check": None}

TELL = r"""
import ctypes, errno, json, os, resource, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    return errno.errorcode.get(ctypes.get_errno()) if libc.syscall(*args) < 0 else "ok"
def attempt(path):
    try:
        open(path, "w").close()
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
told = {"pid": os.getpid(), "uid": os.getuid(), "cwd": os.getcwd(), "env": dict(os.environ), "argv": sys.argv,
        "caps": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")],
        "new_privs": int(status["NoNewPrivs"]), "seccomp": int(status["Seccomp"]), "top": sorted(os.listdir("/")),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("CORE", "NOFILE", "DATA")},
        "writes": {path: attempt(path) for path in ("/x", "/etc/x", "/usr/x", "/app/x", "/home/x", "/tmp/x", "/run/x",
                                                    "/proc/sys/kernel/hostname", "/run/secrets/x")},
        "keys": open("/proc/keys").read(), "dev": sorted(os.listdir("/dev")),
        "calls": {"unshare": call(272, 0x10000000), "mount": call(165, b"none", b"/tmp", b"tmpfs", 0, None),
                  "keyctl": call(250, 0, 0, 0, 0, 0), "bpf": call(321, 0, 0, 0), "reboot": call(169, 0, 0, 0, 0)},
        "secrets": {name: open("/run/secrets/" + name).read() for name in os.listdir("/run/secrets")}
        if os.path.isdir("/run/secrets") else None,
        "unix": os.stat("/etc/resolv.conf").st_size >= 0 if os.path.exists("/etc/resolv.conf") else None}
json.dump(told, open("/home/told.tmp", "w"))
os.rename("/home/told.tmp", "/home/told.json")
mode = os.environ.get("MODE", "")
if mode == "heed":
    signal.signal(signal.SIGTERM, lambda *a: (open("/home/asked", "a").write("x"), sys.exit(0)))
if mode == "hup":
    signal.signal(signal.SIGHUP, lambda *a: open("/home/hup", "w").write(open("/run/secrets/TOKEN").read()))
if mode == "family":
    import subprocess
    subprocess.run(["sh", "-c", "env -i setsid sleep $NAP & exit"])
open("/home/up", "w").close()
while True:
    signal.pause()
"""

APP = r"""
import http.server, os, sys
class App(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"inside")
        if self.path == "/exit": os._exit(7)
print("hello from inside", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"""


def contained(prefix=None):
    if CRUN is None:
        pytest.skip("crun is not installed")
    prefix = prefix or private_mounts(NO_CGROUPS)
    agent = AgentAlone()
    os.chmod(agent.folder, 0o755)  # for apps that are users of their own
    agent.start(prefix=prefix)
    if "containers are run by" not in agent.text():
        why = [line for line in agent.text().splitlines() if "crun" in line]
        agent.destroy()
        pytest.skip(f"crun does not work here: {why}")
    return agent


@pytest.fixture(scope="module")
def alone():
    agent = contained()
    yield agent
    agent.destroy()


def home(alone, replica):
    return alone.state / "apps" / replica / "home"


def tell(alone, **changes):
    package = alone.controller.package(deterministic_tar({"tell.py": TELL}))
    replica = alone.deploy(package=package, runner="container",
                           **{"entrypoint": ["python3", "tell.py", "a b"], **WORKER, **changes})
    wait_until("the app is up", (home(alone, replica) / "up").exists)
    return json.loads((home(alone, replica) / "told.json").read_text()), replica


def remove(alone, replica, generation=1):
    alone.commands.delete(replica, generation)
    wait_until("it is gone", lambda: alone.commands.delete(replica, generation).status, until=lambda status: status == 204)
    assert alone.processes(replica) == []


def test_the_node_says_that_it_can(alone):
    assert alone.controller.registrations[0]["capabilities"]["runners"] == ["process", "container"]


def test_an_app_is_alone_inside(alone):
    told, replica = tell(alone, secrets={"TOKEN": "s3cret"})
    assert told["pid"] == 1 and told["pids"] == [1]
    assert told["cwd"] == "/app" and told["argv"] == ["tell.py", "a b"]
    assert told["uid"] == os.getuid() or os.getuid() == 0
    assert set(told["caps"]) == {"0" * 16} and told["new_privs"] == 1
    assert {"app", "home", "tmp", "proc", "dev", "usr", "etc", "run"} <= set(told["top"])
    assert not {"root", "var", "srv", "mnt", "boot", "sys"} & set(told["top"])
    assert told["limits"]["CORE"] == [0, 0] and told["limits"]["DATA"] == [128 << 20, 128 << 20]
    assert told["keys"] == "" and not {"mem", "kmem", "sda", "vda", "kvm"} & set(told["dev"])
    env = told["env"]
    assert env["HOME"] == "/home" and env["TMPDIR"] == "/tmp" and env["A67_SECRETS_DIR"] == "/run/secrets"
    assert env["GREETING"] == "hi" and env["TOKEN"] == "s3cret" and "A67_PID" not in env
    assert told["secrets"] == {"TOKEN": "s3cret"}
    remove(alone, replica)


def test_it_writes_where_it_may(alone):
    told, replica = tell(alone)
    writes = told["writes"]
    assert [writes[path] for path in ("/app/x", "/home/x", "/tmp/x")] == ["ok"] * 3
    assert {writes[path] for path in ("/x", "/etc/x", "/usr/x")} == {"EROFS"}
    assert writes["/proc/sys/kernel/hostname"] in ("EROFS", "EACCES")
    assert writes["/run/secrets/x"] != "ok"
    assert (home(alone, replica) / "x").exists() and not Path("/x").exists()
    remove(alone, replica)


def test_the_filter_and_the_lack_of_rights_hold(alone):
    told, replica = tell(alone)
    assert set(told["calls"].values()) <= {"EPERM", "EINVAL", "ENOSYS", "EACCES"}
    if "without a seccomp filter" not in alone.text():
        assert told["seccomp"] == 2 and told["calls"]["unshare"] == "EPERM" and told["calls"]["bpf"] == "EPERM"
    remove(alone, replica)


def test_a_backend_answers_and_logs(alone):
    package = alone.controller.package(deterministic_tar({"app.py": APP}))
    replica = alone.deploy(package=package, runner="container", runtime="python", entrypoint=["app.py"])
    port = alone.controller.replica(replica)["port"]
    assert ask_app(port)[1] == "inside"
    wait_until("its line is there", lambda: "hello from inside" in alone.commands.logs(replica).text)
    try:
        ask_app(port, "/exit")
    except OSError:
        pass
    seen = wait_until("it was started again", lambda: alone.controller.replica(replica),
                      until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    assert "exited with status 7" in alone.commands.logs(replica).text and seen["port"] == port
    remove(alone, replica)


def test_a_static_site_in_a_container(alone):
    package = alone.controller.package(deterministic_tar({"index.html": "inside"}))
    replica = alone.deploy(package=package, runner="container", runtime="static", entrypoint=["."])
    assert ask_app(alone.controller.replica(replica)["port"])[1] == "inside"
    remove(alone, replica)


def test_a_command_is_checked_inside(alone):
    check = {"command": ["sh", "-c", "test $$ -ne 1 && test -e /home/up && test \"$GREETING\" = hi"],
             "interval_ms": 200, "timeout_ms": 5000, "retries": 2}
    told, replica = tell(alone, health_check=check)
    os.unlink(home(alone, replica) / "up")
    wait_until("it is sick", lambda: alone.controller.replica(replica),
               until=lambda one: one["restarts"] > 0 or one["state"] == "unhealthy")
    remove(alone, replica)


def test_a_check_that_hangs_leaves_nobody(alone):
    check = {"command": ["sleep", "777"], "interval_ms": 200, "timeout_ms": 300, "retries": 20}
    package = alone.controller.package(deterministic_tar({"tell.py": TELL}))
    replica = new_id()
    alone.commands.put(replica, desired(package, 1, runner="container", entrypoint=["python3", "tell.py"],
                                        app_type="worker", health_check=check))

    def sleepers():
        return [one for one in alone.processes(replica)
                if Path(f"/proc/{one.pid}/cmdline").read_bytes() == b"sleep\x00777\x00"]
    first = wait_until("a check runs", sleepers)[0]
    wait_until("another one runs", sleepers, until=lambda now: now and first not in now)
    assert len(sleepers()) <= 2
    remove(alone, replica)


# -- a root of its own -------------------------------------------------------------------------------


def rootfs():
    """busybox or a static shell would do; what every test machine has is ldd's answer about python's friend sh."""
    files = {}
    for program in ("/bin/sh", "/bin/sleep", "/bin/cat", "/bin/ls", "/usr/bin/id"):
        files["rootfs/bin/" + Path(program).name] = Path(program)
        for word in subprocess.run(["ldd", program], capture_output=True, text=True).stdout.split():
            if word.startswith("/"):
                files["rootfs" + word] = Path(word)
    import gzip
    import io
    import tarfile
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, path in sorted(files.items()):
            info = tarfile.TarInfo(name)
            content = path.resolve().read_bytes()
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=1, mtime=0)


def test_a_root_file_system_of_the_package(alone):
    script = ("ls / > /home/list; echo mine > /made; cat /made >> /home/list; id > /home/id; "
              "test -e /usr/bin/python3 || echo none >> /home/list; exec sleep 1000")
    package = alone.controller.package(rootfs())
    replica = alone.deploy(package=package, runner="container", entrypoint=["/bin/sh", "-c", script], **WORKER)
    told = wait_until("it has told", lambda: (home(alone, replica) / "list").read_text()
                      if (home(alone, replica) / "list").exists() else "", until=lambda text: "none" in text)
    assert "app" not in told.split() and "mine" in told
    assert (alone.state / "apps" / replica / "1" / "rootfs" / "made").read_text() == "mine\n"
    remove(alone, replica)


def test_a_program_that_is_not_in_the_root(alone):
    package = alone.controller.package(rootfs())
    replica = new_id()
    alone.commands.put(replica, desired(package, 1, runner="container", entrypoint=["python3"], **WORKER))
    wait_until("it says so", lambda: "python3" in alone.commands.logs(replica).text)
    remove(alone, replica)


# -- the end -----------------------------------------------------------------------------------------


def test_an_app_that_heeds_is_asked_once(alone):
    told, replica = tell(alone, env={"MODE": "heed"}, stop_grace_ms=10000)
    alone.commands.put(replica, desired(alone.app, 2, **WORKER))
    wait_until("it was asked", (home(alone, replica) / "asked").exists)
    wait_until("it has gone on", lambda: alone.controller.replica(replica),
               until=lambda one: one["generation"] == 2 and one["state"] == "running")
    assert (home(alone, replica) / "asked").read_text() == "x"
    remove(alone, replica, 2)


def test_an_app_that_does_not_care_ends_at_once(alone):
    """The kernel keeps a signal without a handler from the first process of a namespace."""
    told, replica = tell(alone, stop_grace_ms=60000)
    began = os.times().elapsed
    remove(alone, replica)
    assert os.times().elapsed - began < 10


def test_nobody_is_left_inside(alone):
    nap = new_nap()
    told, replica = tell(alone, env={"MODE": "family", "NAP": nap})
    sleepers = wait_until("the other one runs", lambda: sleeping(nap))
    remove(alone, replica)
    assert not [one for one in sleepers if one.alive()]


def test_new_secrets_reach_it_by_signal(alone):
    told, replica = tell(alone, env={"MODE": "hup"}, secrets={"TOKEN": "old"}, on_secret_change="SIGHUP")
    package = alone.controller.package(deterministic_tar({"tell.py": TELL}))
    change = desired(package, 2, runner="container", entrypoint=["python3", "tell.py", "a b"], env={"MODE": "hup"},
                     secrets={"TOKEN": "new"}, on_secret_change="SIGHUP", **WORKER)
    assert alone.commands.put(replica, change).status == 202
    told = wait_until("it has read them", lambda: (home(alone, replica) / "hup").read_text()
                      if (home(alone, replica) / "hup").exists() else None)
    assert told == "new"
    remove(alone, replica, 2)


def test_secrets_are_nowhere_on_disk(alone):
    told, replica = tell(alone, secrets={"TOKEN": "c4nary-in-a-container"})
    found = [path for path in alone.folder.rglob("*") if path.is_file() and path.name != "told.json"
             and b"c4nary-in-a-container" in path.read_bytes()]
    assert found == []
    where = Path(f"/dev/shm/a67-{alone.controller.node_id}")
    assert (where / (replica + ".oci")).stat().st_mode & 0o066 == 0
    remove(alone, replica)
    assert not (where / (replica + ".oci")).exists() and not (where / replica).exists()


def test_a_killed_agent_adopts_its_containers():
    prefix = private_mounts(NO_CGROUPS)
    agent = contained(prefix)
    try:
        told, replica = tell(agent)
        pids = agent.pids(replica)
        assert len(pids) == 2  # crun and the app
        agent.kill()
        agent.run_again(prefix=prefix)
        agent.controller.wait_state(replica, "running")
        assert agent.pids(replica) == pids
        # As if the agent had died between the start and writing it down: crun is found, not its child.
        pid = agent.controller.replica(replica)["pid"]
        agent.kill()
        path = agent.state / "replicas" / f"{replica}.json"
        record = json.loads(path.read_text())
        record.update(process=None, intent=True, state="starting")
        path.write_text(json.dumps(record))
        agent.run_again(prefix=prefix)
        agent.controller.wait_state(replica, "running")
        assert agent.pids(replica) == pids and agent.controller.replica(replica)["pid"] == pid
        # crun is gone, the app is not: it is ended, and the replica starts again.
        agent.kill()
        os.kill(pid, signal.SIGKILL)
        agent.run_again(prefix=prefix)
        wait_until("it runs anew", lambda: agent.controller.replica(replica),
                   until=lambda one: one is not None and one["state"] == "running")
        assert len(agent.pids(replica)) == 2 and not set(agent.pids(replica)) & set(pids)
    finally:
        agent.destroy()


# -- refusals ----------------------------------------------------------------------------------------


def refused(agent):
    answer = agent.commands.put(new_id(), desired(agent.app, 1, runner="container"))
    assert answer.status == 400 and '\\"runner\\"' in answer.text, answer.text
    assert agent.commands.list() == []
    assert agent.controller.registrations[0]["capabilities"]["runners"] == ["process"]
    return answer.text


def test_without_crun_a_container_is_refused():
    agent = AgentAlone()
    try:
        (agent.folder / "bin").mkdir()
        agent.start(PATH=str(agent.folder / "bin"))
        assert "this node has no crun" in refused(agent)
    finally:
        agent.destroy()


@pytest.mark.parametrize("program, words", [
    ("#!/bin/sh\necho 'no such luck' >&2; exit 1\n", "no such luck"),
    ("#!/bin/sh\nexit 3\n", "exit status 3"),
    ("#!/bin/sh\nwhile :; do :; done\n", "did not end in time")], ids=["an error", "silent", "hangs"])
def test_crun_that_does_not_work_is_reported(program, words):
    agent = AgentAlone()
    try:
        (agent.folder / "bin").mkdir()
        (agent.folder / "bin" / "crun").write_text(program)
        (agent.folder / "bin" / "crun").chmod(0o755)
        agent.start(PATH=str(agent.folder / "bin"))
        assert "crun does not work on this node" in refused(agent) and words in refused(agent)
        assert agent.text().count("no containers: crun does not work here") == 1
        assert not [one for one in process.every() if one.ppid == 1
                    and str(agent.folder).encode() in Path(f"/proc/{one.pid}/cmdline").read_bytes()]
    finally:
        agent.destroy()
