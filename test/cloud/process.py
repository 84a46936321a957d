"""Processes as tests need them: started as the run user, known by pid and start time, ended surely.

A pid alone may belong to somebody else later; a pid with its start time (clock ticks since boot,
/proc/PID/stat) does not. PostgreSQL refuses to run as root, so under root every server and agent
runs as the run user: A67_RUN_USER, else postgres.
"""

import os
import pwd
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .wait import wait_until


@dataclass(frozen=True)
class Process:
    """One process: (pid, start) is its identity, the rest is what /proc said when asked."""

    pid: int
    start: int
    ppid: int = 0
    session: int = 0
    uid: int = 0

    def alive(self):
        """Still the same process, and not a zombie."""
        now = look(self.pid)
        return now is not None and now.start == self.start

    def kill(self, number=signal.SIGKILL):
        """Signals it if it is still the same process; says whether it was there."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def look(pid):
    """The living process with this pid, or None. Zombies are not living."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    # The command name may hold blanks and parentheses: fields count from the last one.
    fields = text[text.rindex(")") + 2:].split()
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[19]), int(fields[1]), int(fields[3]), uid)


def every():
    """All living processes."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def children(pid):
    return [process for process in every() if process.ppid == pid]


def session_members(leader):
    """The processes of the session that leader (a Process) opened, itself included if it lives.

    Session ids are pids: members are also younger than the leader and run as the same user.
    """
    return [process for process in every()
            if process.session == leader.pid and process.start >= leader.start
            and process.uid == leader.uid]


def of_program(name, argument):
    """The living processes of a program that have this argument."""
    found = []
    for one in every():
        try:
            words = Path(f"/proc/{one.pid}/cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        if Path(words[0]).name == name and argument in words:
            found.append(one)
    return found


def environment(pid):
    """The start environment of a process as a dict; empty when it is gone or not ours to read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}


def run_user():
    """The passwd entry that servers and agents run as, or None when we are that user already."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam(os.environ.get("A67_RUN_USER", "postgres"))


def own(path):
    """Hands a path to the run user."""
    user = run_user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def make_directory(path, mode=0o700):
    """Makes a directory of the run user's, its missing parents too."""
    path = Path(path)
    missing = [path, *path.parents]
    for step in reversed([one for one in missing if not one.exists()]):
        step.mkdir()
        step.chmod(0o755)
        own(step)
    path.chmod(mode)
    return path


def identity():
    """Keyword arguments that make subprocess run a child as the run user."""
    user = run_user()
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def plain_environment(**more):
    """A small fixed environment: nothing of the caller's leaks into servers and apps."""
    user = run_user()
    home = user.pw_dir if user is not None else os.environ.get("HOME", "/")
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "LC_ALL": "C.UTF-8", **more}


def spawn(argv, log, **env):
    """Starts argv in a session of its own, output appended to the file log; returns the Popen."""
    with open(log, "ab") as out:
        own(log)
        return subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=plain_environment(**env), cwd=Path(log).parent, start_new_session=True,
            **identity())


def run(argv, timeout=60, **env):
    """Runs argv to its end as the run user; raises with its output when it fails."""
    done = subprocess.run(
        [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=plain_environment(**env), cwd="/", timeout=timeout,
        check=False, **identity())
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} exited with {done.returncode}:\n{text}")
    return text


def end(processes, number=signal.SIGKILL, timeout=10):
    """Signals the given processes and waits until all are gone."""
    processes = list(processes)
    for process in processes:
        process.kill(number)
    wait_until(f"processes end after signal {int(number)}",
               lambda: [process.pid for process in processes if process.alive()],
               timeout=timeout, until=lambda left: not left)


def size(path):
    """Size of a file in bytes, 0 when it is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def tail(path, lines=40, since=0, limit=64 * 1024):
    """The last lines of a file after byte `since`, as text; a note when it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(since, size(path) - limit))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"({error})"
    return "\n".join(text.splitlines()[-lines:])
