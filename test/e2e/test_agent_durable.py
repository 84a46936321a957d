"""What a67-agent does and tells is on disk before: in which order, and when it is killed at any step, its files are
damaged, or the disk is full."""

import json
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from agent_alone import AgentAlone, desired, new_id
from agent_fault import Order, preload
from cloud import wait_until
from fake_controller import ask_app

SEED = int(os.environ.get("A67_SEED", random.SystemRandom().randrange(1 << 32)))
FAULTS = int(os.environ.get("A67_FAULTS", "12"))
AT_ONCE = 4
SLEEP = {"app_type": "worker", "entrypoint": ["sleep", "1000"], "health_check": None, "env": None,
         "resources": None}


def act(agent, told):
    """Starts, changes, crashes, renews and stops apps; told notes each order that was acknowledged."""
    one, two, run = told["ids"]

    def put(replica, generation, **changes):
        answer = agent.commands.put(replica, desired(agent.app, generation, **{**SLEEP, **changes}))
        assert answer.status == 202, answer.text
        told["generation"][replica] = generation

    def lives(replica, old=()):
        return wait_until("a process", lambda: agent.pids(replica),
                          until=lambda now: len(now) == 1 and now != old)

    put(one, 1)
    put(two, 1, secrets={"KEY": "a"}, on_secret_change="SIGUSR1",
        entrypoint=["sh", "-c", "trap : USR1; while :; do sleep 0.1; done"])
    put(run, 1, app_type="cron", entrypoint=["sh", "-c", "exit 3"])
    before = lives(one)
    put(one, 2, entrypoint=["sleep", "1001"])
    before = lives(one, before)
    agent.processes(one)[0].kill()
    lives(one, before)
    wait_until("the run has ended", lambda: agent.controller.replica(run),
               until=lambda now: now is not None and now["state"] == "finished")
    for replica, generation in ((run, 1), (one, 2)):
        told["ordered"].append(replica)
        assert agent.commands.delete(replica, generation).status in (202, 204)
        told["deleted"].append(replica)
    wait_until("gone", lambda: agent.commands.delete(one, 2).status, until=lambda status: status == 204)


def blank():
    return {"ids": [new_id(), new_id(), new_id()], "generation": {}, "ordered": [], "deleted": []}


def test_everything_is_on_disk_before_it_is_done_or_told(alone):
    trace = alone.folder / "trace"
    alone.start("join", alone.controller.url, alone.controller.join_token(), "--insecure-loopback",
                **preload(trace=trace))
    act(alone, blank())
    alone.controller.wait_beat(2)
    assert alone.terminate() == 0
    order = Order()
    order.follow(trace.read_text())
    # The scenario has passed through all of it.
    assert order.counts["fork"] >= 4 and order.counts["send"] > 10 and order.counts["rename"] > 20


def settled(agent, told):
    """Nothing that was acknowledged is lost, nothing runs twice, nothing else runs."""
    listed = {one["id"]: one for one in agent.commands.list()}
    for replica, generation in told["generation"].items():
        if replica in told["deleted"]:
            if replica in listed and listed[replica]["state"] not in ("stopping", "stopped"):
                return False
        elif replica not in listed:
            # Killed after the deed and before the answer.
            if replica not in told["ordered"]:
                return False
        elif listed[replica]["generation"] < generation:
            return False
    alive = {}
    for one in listed.values():
        if one["state"] in ("fetching", "stopping", "unhealthy"):
            return False
        if one["pid"] is not None:
            alive[one["id"]] = one["pid"]
    return sorted(alive.values()) == sorted(
        pid for pid, _ in agent.pids() if pid in alive.values() or not is_helper(agent, pid, alive))


def is_helper(agent, pid, alive):
    """A child of a listed process, as the sleep of a script is."""
    from cloud.process import look
    one = look(pid)
    return one is None or one.ppid in alive.values()


def kill_at(step):
    """One agent killed at this step of the scenario, and its successor."""
    agent = AgentAlone()
    told = blank()
    try:
        agent.start("join", agent.controller.url, agent.controller.join_token(), "--insecure-loopback",
                    wait=False, **preload(at=step))
        try:
            agent.wait_ready()
            act(agent, told)
        except (AssertionError, OSError, TimeoutError):
            agent.popen.wait(5)  # or the fault is another
        if agent.popen.poll() is None:
            return False
        assert agent.popen.returncode == -signal.SIGKILL, agent.text()
        agent.start("join", agent.controller.url, agent.controller.join_token(), "--insecure-loopback")
        wait_until(f"all is well after step {step}", lambda: settled(agent, told), timeout=30)
        assert ".corrupt" not in agent.text()
        return True
    finally:
        agent.destroy()


def test_killed_at_any_step(capsys):
    with capsys.disabled():
        print(f"\nkilled at {FAULTS} steps, A67_SEED={SEED}", end=" ")
    chance = random.Random(SEED)
    steps = sorted(chance.sample(range(1, 130), FAULTS)) if FAULTS < 129 else range(1, 130)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reached = list(pool.map(kill_at, steps))
    assert sum(reached) > len(reached) / 3


# -- damaged state files ----------------------------------------------------------------------------


def sample(chance, text):
    """Damage of each kind of position: inside names, values, numbers, quotes, brackets, at both ends."""
    raw = text.encode()
    yield from (raw[:cut] for cut in sorted(chance.sample(range(len(raw)), 6)))
    for kind in '"{}:,0123456789abcdef':
        places = [at for at, byte in enumerate(raw) if byte == ord(kind)]
        if places:
            at = chance.choice(places)
            yield raw[:at] + bytes([raw[at] ^ 0x11]) + raw[at + 1:]
            yield raw[:at] + raw[at + 1:]
    yield raw + b"}"
    yield bytes(len(raw))


def test_damage_of_one_state_file_costs_no_other_app(alone, capsys):
    """Many damaged files in one start: each is read as something harmless or put aside; sound ones go on."""
    with capsys.disabled():
        print(f"\nA67_SEED={SEED}", end=" ")
    alone.start()
    kept = alone.deploy(**SLEEP)
    before = alone.pids(kept)
    lost = alone.deploy(**SLEEP)
    alone.kill()
    folder = alone.state / "replicas"
    text = (folder / f"{lost}.json").read_text()
    names = []
    for bytes_ in sample(random.Random(SEED), text):
        name = new_id()
        (folder / f"{name}.json").write_bytes(bytes_.replace(lost.encode(), name.encode()))
        names.append(name)
    alone.run_again()
    assert alone.pids(kept) == before
    wait_until("one process a replica", lambda: all(
        len(alone.pids(one["id"])) == (one["pid"] is not None) for one in alone.commands.list()))
    listed = {one["id"] for one in alone.commands.list()}
    for name in names:
        assert (name in listed) != (folder / f"{name}.json.corrupt").exists(), name


@pytest.mark.parametrize("change, stays", [
    ({"format": 0}, False), ({"format": 2}, False), ({"format": None}, False), ({"state": "dancing"}, False),
    ({"generation": "1"}, False), ({"process": {"pid": 1}}, False), ({"process": {"pid": -5}}, False),
    ({"desired": {"deployment": "x"}}, False), ({"boot": 5}, True), ({"since_ms": "x"}, True),
    ({"run": "x", "error": 5, "log_tail": [], "secrets_dir": {}}, True),
])
def test_file_of_another_version(alone, change, stays):
    """What an older or a newer agent may have left is understood or put aside, never half."""
    alone.start()
    replica = alone.deploy(**SLEEP)
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record.update(change)
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))
    alone.run_again()
    if stays:
        alone.controller.wait_state(replica, "running")
    assert path.with_name(path.name + ".corrupt").exists() != stays
    assert len(alone.pids(replica)) == (1 if stays else 0)


def test_state_file_without_newer_fields_is_understood(alone):
    """As the first version wrote it."""
    alone.start()
    replica = alone.deploy(**SLEEP)
    before = alone.pids(replica)
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    old = {"format", "id", "boot", "state", "generation", "content", "desired", "process", "port", "restarts",
           "intent", "error", "log_tail", "since_ms"}
    path.write_text(json.dumps({name: value for name, value in record.items() if name in old}))
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) == before


def test_reboot_starts_everything_anew(alone):
    """The kernel's boot id is another: a pid of then means nothing, even if such a process lives."""
    alone.start()
    replica = alone.deploy()
    before = alone.pids(replica)
    alone.kill()
    path = alone.state / "replicas" / f"{replica}.json"
    record = json.loads(path.read_text())
    record["boot"] = "00000000-0000-0000-0000-000000000000"
    path.write_text(json.dumps(record))
    (alone.state / "apps" / replica / "1" / "app.py").write_text("raise SystemExit(1)")
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    assert alone.pids(replica) != before and len(alone.pids(replica)) == 1
    assert ask_app(alone.controller.replica(replica)["port"])[1] == "ok"


# -- a full disk --------------------------------------------------------------------------------------


def test_full_disk(alone):
    """Apps are kept, new ones refused with 507, a deleted one goes; with room again all goes on."""
    full = alone.folder / "full"
    alone.start("join", alone.controller.url, alone.controller.join_token(), **preload(full=full))
    kept, changed, dying, unwanted = (alone.deploy() for _ in range(4))
    before = alone.pids(kept), alone.pids(changed)
    full.touch()
    answer = alone.commands.put(new_id(), desired(alone.app))
    assert answer.status == 507 and "full" in answer.json()["message"]
    answer = alone.commands.put(changed, desired(alone.app, 2, env={"GREETING": "new"}))
    assert answer.status == 507, answer.text
    alone.processes(dying)[0].kill()
    wait_until("its end is told", lambda: alone.controller.replica(dying)["state"],
               until=lambda state: state == "unhealthy")
    assert alone.commands.delete(unwanted, 1).status in (202, 204)
    wait_until("it is gone", lambda: alone.commands.delete(unwanted, 1).status, until=lambda now: now == 204)
    alone.controller.wait_beat(3)
    assert (alone.pids(kept), alone.pids(changed)) == before and alone.processes(dying) == []
    assert ask_app(alone.controller.replica(kept)["port"])[1] == "ok"
    assert alone.controller.replica(changed)["generation"] == 1
    assert alone.text().count("No space left") < 20
    full.unlink()
    alone.controller.wait_state(dying, "running")
    assert alone.commands.put(changed, desired(alone.app, 2, env={"GREETING": "new"})).status == 202
    alone.deploy()
    wait_until("new content", lambda: alone.controller.replica(changed),
               until=lambda one: one["generation"] == 2 and one["state"] == "running")
    assert len(alone.pids()) == 4


def test_agent_that_starts_on_a_full_disk_keeps_its_apps(alone):
    full = alone.folder / "full"
    alone.start("join", alone.controller.url, alone.controller.join_token(), **preload(full=full))
    replica = alone.deploy()
    before = alone.pids(replica)
    alone.kill()
    full.touch()
    alone.run_again(**preload(full=full))
    alone.controller.wait_beat(2)
    assert alone.controller.replica(replica)["state"] == "running" and alone.pids(replica) == before
    alone.processes(replica)[0].kill()
    alone.kill()
    alone.run_again(**preload(full=full))
    assert alone.commands.put(new_id(), desired(alone.app)).status == 507
    full.unlink()
    alone.controller.wait_state(replica, "running")
