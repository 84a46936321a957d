"""One a67-agent process under test, without a cloud: its start, its end, its processes, sample apps."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

from cloud import deterministic_tar, process, wait_until
from cloud.agent import agent_program
from fake_controller import Commands, FakeController

# Answers "ok", the value of an environment variable, or runs into trouble on demand.
APP = r"""
import http.server, os, signal, subprocess, sys, threading

MODE = os.environ.get("MODE", "")
print("hello from", os.environ["A67_REPLICA"], flush=True)
if MODE == "crash":
    print("last words", flush=True)
    sys.exit(3)
if MODE == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if MODE == "family":
    subprocess.Popen(["sleep", "1000"])
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
SICK = []

class App(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        body = os.environ.get(self.path[5:], "-") if self.path.startswith("/env/") else "ok"
        if self.path == "/sicken":
            SICK.append(1)
        self.send_response(503 if SICK else 200)
        self.end_headers()
        self.wfile.write(body.encode())
        if self.path == "/exit":
            os._exit(4)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"""


def new_id():
    return str(uuid.uuid4())


def sanitized():
    """Whether the agent under test is built with AddressSanitizer, which has memory of its own."""
    return b"__asan_init" in agent_program().read_bytes()


def desired(package, generation=1, /, **changes):
    whole = {"generation": generation, "deployment": "hello", "release": 1, "app_type": "backend",
             "package": package, "entrypoint": ["python3", "app.py"], "env": {"GREETING": "hi"},
             "health_check": {"path": "/", "interval_ms": 200, "timeout_ms": 1000, "retries": 2},
             "resources": {"memory_bytes": 64 << 20, "cpu": 0.1}, "stop_grace_ms": 2000, **changes}
    if (whole.get("runtime") == "static" or whole["app_type"] == "cron") and sanitized():
        whole["resources"] = None  # started by the agent's program: no limit of data has room for it
    return {name: value for name, value in whole.items() if value is not None}


class AgentAlone:
    """An agent with a fake controller of its own."""

    def __init__(self, **knobs):
        self.controller = FakeController(**knobs)
        self.folder = Path(tempfile.mkdtemp(prefix="a67-agent-", dir=os.environ.get("A67_RUN")))
        self.folder.chmod(0o711)  # apps of an agent that is root have users of their own
        self.state = self.folder / "state"
        self.log = self.folder / "agent.log"
        self.popen = None
        self.commands = None
        self.ready_line = None
        self.app = self.controller.package(deterministic_tar({"app.py": APP}))

    def start(self, *arguments, wait=True, stdin=None, prefix=(), **env):
        """Starts the program, by the words of prefix: join with a good token unless arguments say otherwise."""
        if not arguments:
            arguments = ("join", self.controller.url, self.controller.join_token())
        before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(
                [*prefix, str(agent_program()), *arguments], stdin=stdin or subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True,
                env=process.plain_environment(A67_STATE_DIR=str(self.state), A67_NAME="solo", **env))
        if wait:
            self.wait_ready(before)
        return self

    def wait_ready(self, before=0):
        def ready():
            if self.popen.poll() is not None:
                raise AssertionError(f"agent ended with {self.popen.returncode}:\n{self.text()}")
            with open(self.log, "rb") as file:
                file.seek(before)
                lines = file.read().decode().splitlines()
            return [line for line in lines if line.startswith("a67-agent: ready ")]
        self.ready_line = wait_until("agent is ready", ready)[-1]
        self.commands = Commands(self.controller, self.ready_line.rsplit("listen=", 1)[1])

    def run_again(self, **env):
        self.controller.beats.clear()  # what the run before said is no news
        return self.start("run", **env)

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        self.popen.kill()
        self.popen.wait(10)

    def terminate(self, timeout=20):
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout)

    def status(self, timeout=20):
        return self.popen.wait(timeout)

    def pids(self, replica=None):
        """(pid, start time) of each of them: what tells a process from its successor."""
        return sorted((one.pid, one.start) for one in self.processes(replica))

    def processes(self, replica=None):
        """Living processes of this node's apps."""
        found = []
        for one in process.every():
            env = process.environment(one.pid)
            if env.get("A67_NODE_ID") == self.controller.node_id and \
                    replica in (None, env.get("A67_REPLICA")):
                found.append(one)
        return found

    def deploy(self, replica=None, state="running", **changes):
        """Puts a replica and waits until a heartbeat shows the state; returns its id."""
        replica = replica or new_id()
        generation = changes.pop("generation", 1)
        answer = self.commands.put(replica, desired(self.app, generation, **changes))
        assert answer.status == 202, answer.text
        self.controller.wait_state(replica, state)
        return replica

    def destroy(self):
        if self.popen is not None and self.popen.poll() is None:
            self.kill()
        self.controller.close()
        for one in self.processes():
            one.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(f"/dev/shm/a67-{self.controller.node_id}", ignore_errors=True)
        for group in Path("/sys/fs/cgroup").glob(f"**/a67-{self.controller.node_id}"):
            wait_until("its control groups are empty", lambda: remove_groups(group))


def zombies_of(pid):
    """Children of pid that have ended and wait to be reaped."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            fields = text[text.rindex(")") + 2:].split()
            if fields[0] == "Z" and int(fields[1]) == pid:
                found.append(int(name))
    return found


def remove_groups(top):
    """Removes a control group and those in it; false while one has members."""
    try:
        for path in [path for path in top.iterdir() if path.is_dir()]:
            path.rmdir()
        top.rmdir()
    except OSError:
        return not top.exists()
    return True


def new_nap():
    """Seconds to sleep by which one sleeper is told from all others of this machine."""
    return str(uuid.uuid4().int % 10 ** 8 + 10 ** 8)


def sleeping(nap):
    """Living processes that sleep so long."""
    found = []
    for one in process.every():
        try:
            if Path(f"/proc/{one.pid}/cmdline").read_bytes() == f"sleep\0{nap}\0".encode():
                found.append(one)
        except OSError:
            pass
    return found


def private_mounts(change):
    """The words in front of a command that runs it as we are, with mounts changed; skips where that cannot be.

    All that one call's words start is in one namespace: an agent may look into the processes of another one only then.
    """
    root = os.geteuid() == 0
    keep = () if root else ("--map-current-user", "--keep-caps")
    keeper = subprocess.Popen(["unshare", *keep, "-m", "sh", "-c", f"{change} && echo ready && exec sleep 1000"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    atexit.register(keeper.kill)
    said = keeper.stdout.readline().strip()
    if said != "ready":
        pytest.skip(f"no mount namespaces here: {said}")
    return ["nsenter", "-t", str(keeper.pid), "-m", *(() if root else ("-U", "--preserve-credentials"))]


def start_on_small_disk(alone, size, **env):
    """Starts the agent with its state on a tmpfs that it and its apps see alone; touching `fill` fills that up, and
    then there is `fill.done`."""
    if shutil.which("unshare") is None or subprocess.run(
            ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here to mount a small disk in")
    alone.state.mkdir()
    script = (f'mount -t tmpfs -o size={size},mode=0700 none "$1" || exit; '
              '(while [ ! -e "$2" ]; do kill -0 $$ || exit; sleep 0.02; done; cat /dev/zero >"$1/filler"; '
              'touch "$2.done") 2>/dev/null & shift 2; exec "$@"')
    alone.start("join", alone.controller.url, alone.controller.join_token(),
                prefix=("unshare", "-Urm", "sh", "-c", script, "sh", str(alone.state), str(alone.folder / "fill")), **env)
