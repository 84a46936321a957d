"""Agent: one node of the cloud, a real a67-agent process in a session of its own.

The node is the session: kill_node() takes the agent and every app it started, as a machine that
loses power does. kill() takes the agent alone, and the apps live on. A restarted agent opens a
new session; the older ones stay part of the node while something lives in them.
"""

import atexit
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

from . import process
from .client import Client
from .wait import wait_until

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def agent_program():
    return Path(os.environ.get("A67_AGENT", REPOSITORY / "build" / "agent" / "a67-agent"))


def remove_secrets(state):
    """Removes what a dead node with this state directory has left in memory: files of secrets."""
    try:
        node_id = json.loads((Path(state) / "node.json").read_text())["node_id"]
        shutil.rmtree(f"/dev/shm/a67-{node_id}", ignore_errors=True)
    except (OSError, ValueError, KeyError):
        pass  # it never joined


class Agent:
    """One node. Made with join(), then kill(), kill_node(), restart(), stop()."""

    def __init__(self, name, parent, keep=False):
        self.name = name
        self.folder = process.make_directory(Path(parent) / name, mode=0o700)
        self.state = self.folder / "state"
        self.log = self.folder / "agent.log"
        self.popen = None
        self.leader = None
        self.sessions = []
        self.noticed = 0
        if not keep:
            atexit.register(self.destroy)

    # -- life ----------------------------------------------------------------------------------

    def join(self, url, token, *options):
        """Starts an agent that registers with a join token; returns at once."""
        return self._start("join", *options, url, token)

    def restart(self):
        """Starts the agent again from its state directory."""
        return self._start("run")

    def _start(self, *arguments):
        if self.leader is not None and self.leader.alive():
            raise AssertionError(f"agent {self.name} runs already")
        self._reap()
        self.popen = process.spawn([agent_program(), *arguments], self.log,
                                   A67_STATE_DIR=str(self.state))
        self.leader = process.look(self.popen.pid)
        if self.leader is not None:
            self.sessions.append(self.leader)
        return self

    def members(self):
        """All processes of this node: the agent, its apps and what they started."""
        return [one for leader in self.sessions for one in process.session_members(leader)]

    def alive(self):
        return self.leader is not None and self.leader.alive()

    def check(self):
        """Raises when the agent process has ended."""
        if self.popen is not None and self.popen.poll() is not None:
            raise RuntimeError(f"agent {self.name} exited with status {self.popen.returncode}")

    def exit_status(self, timeout=20):
        """Waits until the agent process ends by itself; returns its exit status."""
        status = self.popen.wait(timeout=timeout)
        self.popen = None
        return status

    def kill(self):
        """SIGKILLs the agent process alone: its apps live on."""
        process.end([self.leader])
        self._reap()

    def kill_node(self):
        """SIGKILLs every process of the node at once."""
        process.end(self.members())
        self._reap()
        self.sessions.clear()

    def stop(self, timeout=20):
        """Graceful end of the agent (SIGTERM); the apps live on. Returns the exit status."""
        self.leader.kill(signal.SIGTERM)
        return self.exit_status(timeout)

    def destroy(self):
        """Ends the node whatever its state, and removes its files."""
        process.end(self.members())
        self._reap()
        remove_secrets(self.state)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reap(self):
        if self.popen is not None:
            self.popen.wait(timeout=10)
            self.popen = None

    # -- what runs on it -----------------------------------------------------------------------

    def apps(self):
        """{replica id: [pid]} of the living app processes, read from their environment."""
        found = {}
        for one in self.members():
            replica = process.environment(one.pid).get("A67_REPLICA")
            if replica is not None:
                found.setdefault(replica, []).append(one.pid)
        return found

    def mark(self):
        """What the log says up to now does not belong in the next report."""
        self.noticed = process.size(self.log)

    def report(self):
        return f"--- agent {self.name}: {self.log}\n{process.tail(self.log, since=self.noticed)}"
