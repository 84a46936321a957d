"""a67-agent over time: clocks that jump, cycles without growth, and a life under valgrind."""

import os
import shutil

import pytest
from agent_alone import desired, new_id, zombies_of
from agent_fault import Clock, preload
from cloud import wait_until
from cloud.agent import agent_program
from fake_controller import ask_app

CYCLES = int(os.environ.get("A67_CYCLES", "60"))
SLEEP = {"app_type": "worker", "entrypoint": ["sleep", "1000"], "health_check": None, "env": None,
         "resources": None}
DAY = 86400000


# -- clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_ms", [DAY, -DAY, -10 * 365 * DAY], ids=["day", "day-back", "past"])
def test_wall_clock_that_jumps_moves_nothing(alone, jump_ms):
    """Timers do not hear of it: no app is restarted, no beat is early or late, no back-off ends."""
    clock = Clock(alone.folder / "clock")
    alone.start("join", alone.controller.url, alone.controller.join_token(), **preload(clock=clock.path))
    app = alone.deploy()
    stopping = alone.deploy(**SLEEP, on_partition="stop", partition_deadline_ms=30000)
    run = alone.deploy(**{**SLEEP, "app_type": "cron", "run_timeout_ms": 20000})
    before = alone.pids()
    clock.move(wall_ms=jump_ms)
    beats = len(alone.controller.beats)
    alone.controller.wait_beat(10)
    assert len(alone.controller.beats) - beats < 25
    assert alone.pids() == before
    for replica in (app, stopping, run):
        assert alone.controller.replica(replica)["state"] == "running"
    # Its clock is as wrong as can be: tokens of the controller are of another time.
    assert alone.commands.send("GET", "/v1/replicas").status == 401
    clock.move()
    assert len(alone.commands.list()) == 3
    # Nor is anything late once the clock is right again.
    alone.processes(app)[0].kill()
    wait_until("a restart", lambda: alone.controller.replica(app),
               until=lambda one: one["restarts"] == 1 and one["state"] == "running")


def test_clock_that_jumps_in_the_past_of_a_start(alone):
    """Stamps of the future in the state files do no harm."""
    clock = Clock(alone.folder / "clock")
    clock.move(wall_ms=30 * DAY)
    alone.start("join", alone.controller.url, alone.controller.join_token(), **preload(clock=clock.path), wait=True)
    clock.move()
    replica = alone.deploy()
    clock.move(wall_ms=30 * DAY)
    alone.kill()
    clock.move(wall_ms=-30 * DAY)
    alone.run_again(**preload(clock=clock.path))
    clock.move()
    assert alone.controller.wait_state(replica, "running")["restarts"] == 0


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("adopted", [False, True])
def test_agent_is_idle_long_after_its_start(alone, adopted):
    """Two hours later no timer that is over keeps the loop awake, be the apps its own or adopted."""
    clock = Clock(alone.folder / "clock")
    alone.controller.interval = 0.4
    env = preload(clock=clock.path)
    alone.start("join", alone.controller.url, alone.controller.join_token(), **env)
    alone.deploy(**SLEEP)
    alone.deploy()
    alone.deploy(**{**SLEEP, "app_type": "cron"})
    if adopted:
        alone.kill()
        alone.run_again(**env)
    alone.controller.wait_beat(2)
    clock.move(boot_ms=7200000)
    alone.controller.wait_beat(2)
    before = cpu_ticks(alone.popen.pid)
    alone.controller.wait_beat(5)
    # Two seconds of a loop that does not sleep are 200 ticks.
    assert cpu_ticks(alone.popen.pid) - before < 50
    assert alone.controller.beats[-1]["replicas"][0]["state"] == "running"


def test_machine_that_slept_counts_the_time(alone):
    """The clock since boot goes on in a suspended machine: its controller has moved the app long ago."""
    clock = Clock(alone.folder / "clock")
    alone.start("join", alone.controller.url, alone.controller.join_token(), **preload(clock=clock.path))
    kept = alone.deploy(**SLEEP)
    replica = alone.deploy(**SLEEP, on_partition="stop", partition_deadline_ms=600000)
    alone.controller.statuses["/api/v1/nodes/heartbeat"] = 503
    clock.move(boot_ms=700000)
    wait_until("it has stopped", lambda: alone.processes(replica), until=lambda left: not left)
    assert len(alone.processes(kept)) == 1
    alone.controller.statuses.clear()
    alone.controller.wait_state(replica, "running")


# -- growth ----------------------------------------------------------------------------------------------


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def cycle(agent, number):
    """One app made, looked at, and removed, in one of several ways."""
    changes = [{}, {"entrypoint": ["sh", "-c", "exit 1"]}, {"app_type": "cron", "entrypoint": ["true"]},
               {"health_check": {"command": ["true"], "interval_ms": 100}}, {"secrets": {"KEY": "x"}},
               {"entrypoint": ["no-such-program"]}][number % 6]
    replica = new_id()
    assert agent.commands.put(replica, desired(agent.app, 1, **{**SLEEP, **changes})).status == 202
    wait_until("it has begun", lambda: [one for one in agent.commands.list() if one["id"] == replica],
               until=lambda found: found and found[0]["state"] != "fetching", interval=0.005)
    assert agent.commands.delete(replica, 1).status in (202, 204)
    wait_until("gone", lambda: agent.commands.delete(replica, 1).status, until=lambda now: now == 204,
               interval=0.005)


def test_cycles_leave_no_memory_and_no_files_behind(alone):
    """With 64 descriptors in all, one that is lost in a cycle ends the test, as memory of a few kB does."""
    alone.controller.interval = 1.0
    # ASan keeps what is freed, 256 MB of it; with less the measure is true of it too.
    alone.start("join", alone.controller.url, alone.controller.join_token(), prefix=("prlimit", "--nofile=64:64"),
                ASAN_OPTIONS="quarantine_size_mb=1:thread_local_quarantine_size_kb=64")
    for number in range(CYCLES // 3):
        cycle(alone, number)
    before = resident_kb(alone.popen.pid)
    for number in range(CYCLES):
        cycle(alone, number)
    after = resident_kb(alone.popen.pid)
    # What is remembered of a replica that is gone is less than 8 kB, and of 512 at most.
    assert after - before < 500 + 8 * CYCLES, (before, after)
    assert "Too many open files" not in alone.text()
    assert zombies_of(alone.popen.pid) == [] and alone.processes() == []
    assert len(list((alone.state / "replicas").iterdir())) <= 512
    wait_until("no files of apps", lambda: list((alone.state / "apps").iterdir()), until=lambda left: not left)


# -- valgrind ----------------------------------------------------------------------------------------------


def is_plain(program):
    """No sanitizer is linked in: valgrind and those exclude each other."""
    return b"__asan_init" not in program.read_bytes()


def test_valgrind_has_nothing_to_say(alone):
    """A life with apps and a few failures: no error, no leak. Without a run: under valgrind the agent cannot start
    itself once more, and a run's waiter is the agent's program."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is not installed")
    if not is_plain(agent_program()):
        pytest.skip("the agent was built with a sanitizer")
    report = alone.folder / "valgrind.log"
    alone.controller.interval = 1.0
    alone.start("join", alone.controller.url, alone.controller.join_token(), prefix=(
        valgrind, "-q", "--leak-check=full", "--show-leak-kinds=definite,possible",
        "--errors-for-leak-kinds=definite,possible", "--error-exitcode=99", "--child-silent-after-fork=yes",
        f"--log-file={report}"))
    app = alone.deploy(secrets={"KEY": "x"})
    command = alone.deploy(**{**SLEEP, "health_check": {"command": ["true"], "interval_ms": 200}})
    alone.deploy(state="failed", **{**SLEEP, "entrypoint": ["no-such-program"]})
    assert ask_app(alone.controller.replica(app)["port"])[1] == "ok"
    alone.processes(app)[0].kill()
    wait_until("a restart", lambda: alone.controller.replica(app),
               until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    assert alone.commands.put(new_id(), {"generation": 1}).status == 400
    assert alone.commands.delete(command, 1).status in (202, 204)
    assert alone.commands.get("/metrics").status == 200
    alone.controller.statuses["/api/v1/nodes/heartbeat"] = 410
    # 99 would be valgrind's; what it says of system calls that it does not know is no error.
    assert alone.status(60) == 0, report.read_text()
