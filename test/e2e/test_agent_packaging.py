"""What comes with the agent: manual, systemd unit, and that it runs where it may do little."""

import re
import shutil
import subprocess

import pytest
from agent_alone import zombies_of
from cloud import process, wait_until
from cloud.agent import REPOSITORY, agent_program

MANUAL = REPOSITORY / "agent" / "a67-agent.8"
UNIT = REPOSITORY / "agent" / "a67-agent.service"


def run(*command, **more):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30,
                          check=False, **more)


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


# -- manual ------------------------------------------------------------------------------------------


def test_help_and_version():
    told = run(agent_program(), "--help")
    assert told.returncode == 0 and told.stderr == ""
    assert max(len(line) for line in told.stdout.splitlines()) <= 100
    assert run(agent_program(), "-h").stdout == told.stdout
    assert re.fullmatch(r"a67-agent \d+\.\d+\.\d+\n", run(agent_program(), "--version").stdout)


def test_manual_has_every_flag_and_variable():
    told = run(agent_program(), "--help").stdout
    manual = MANUAL.read_text(encoding="utf-8")
    flags = set(re.findall(r"^  (--[a-z-]+)", told, re.M))
    assert flags == {f"-{name}" for name in re.findall(r"^\.It Fl (-[a-z-]+)", manual, re.M)}
    assert len(flags) > 15
    variables = set(re.findall(r"A67_[A-Z0-9_]+", told))
    assert variables == set(re.findall(r"A67_[A-Z0-9_]+", manual))
    # Each flag in its help has a variable of its own, and the other way round.
    assert {f"A67_{name[2:].replace('-', '_').upper()}" for name in flags} \
        == variables - {"A67_URL", "A67_TOKEN"}


def test_statuses_are_the_same_everywhere():
    told = run(agent_program(), "--help").stdout
    manual = MANUAL.read_text(encoding="utf-8").split(".Sh EXIT STATUS")[1].split(".Sh ")[0]
    assert re.findall(r"^\.It (\d+)", manual, re.M) == ["0", "100", "111"]
    for status in ("0 ended", "100 wrong usage", "111 could not go on"):
        assert status in told
    assert run(agent_program()).returncode == 100
    assert "RestartPreventExitStatus=100" in UNIT.read_text(encoding="utf-8")


@needs("mandoc")
def test_manual_is_well_formed():
    told = run("mandoc", "-Tlint", MANUAL)
    assert (told.returncode, told.stdout) == (0, "")


# -- service -----------------------------------------------------------------------------------------


def test_unit_lets_applications_outlive_the_agent():
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    for line in ("KillMode=process", "Restart=always", "Delegate=yes", "OOMPolicy=continue", "Type=notify",
                 "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert line in lines


@needs("systemd-analyze")
def test_unit_is_well_formed(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/bin/a67-agent", str(agent_program())))
    told = run("systemd-analyze", "verify", "--man=no", unit)
    assert told.returncode == 0, told.stderr
    # Other units of the machine have their own troubles.
    assert UNIT.name not in told.stderr
    assert "a67-agent" not in told.stderr


# -- where it may do little ----------------------------------------------------------------------------


def userns():
    return run("unshare", "-Ur", "true").returncode == 0


def serves(alone):
    """It joins, runs an application, ends it, and says what it cannot do no more than once."""
    alone.deploy()
    assert alone.controller.beats[-1]["status"] == "ok"
    cannot = [re.sub(r"^\S+ \w+ ", "", line) for line in alone.text().splitlines() if " warning " in line]
    assert len(cannot) == len(set(cannot)), cannot
    return cannot


@pytest.mark.skipif(not userns(), reason="no user namespaces here")
def test_runs_as_root_of_a_user_namespace(alone):
    """Root in name only: no other users, no control groups, no capabilities outside."""
    alone.start(prefix=("unshare", "-Ur", "--"))
    serves(alone)


STATIC = agent_program().with_name("a67-agent-static")


@pytest.mark.skipif(not STATIC.exists() or not userns(), reason="no static agent, or no user namespaces here")
def test_static_agent_needs_nothing_of_its_machine(alone):
    """In a root directory that holds the program and a hosts file it finds and joins its controller."""
    root = alone.folder / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    shutil.copy(STATIC, root / "a67-agent")
    url = alone.controller.url.replace("127.0.0.1", "localhost")
    told = run("unshare", "-Ur", "chroot", root, "/a67-agent", "join", url, alone.controller.join_token(),
               "--once", "--state-dir", "/state")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("a67-agent: joined node=")
    assert len(alone.controller.registrations) == 1


# A container as a program sees it: root of a namespace without capabilities, first process of its own
# process space, nothing writable but its state.
CONTAINER = """
mount --bind "$1" "$1" && mount -o remount,bind,ro / || exit 99
shift
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all -- "$@"
"""


@pytest.mark.skipif(not userns(), reason="no user namespaces here")
def test_runs_in_a_container_without_extra_rights(alone):
    alone.start(prefix=("unshare", "-Urmpiuf", "--mount-proc", "--kill-child", "sh", "-c", CONTAINER, "sh",
                        str(alone.folder)))
    serves(alone)
    # What applications leave behind falls to the first process.
    replica = alone.deploy(env={"MODE": "family"})
    alone.commands.delete(replica, 1)
    wait_until("the family ends", lambda: alone.processes(replica), until=lambda left: not left)
    children = [one.pid for one in process.every() if one.ppid == alone.popen.pid]
    wait_until("no zombie is left", lambda: [zombies_of(pid) for pid in children],
               until=lambda found: not any(found))
