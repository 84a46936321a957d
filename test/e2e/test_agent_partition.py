"""A controller that is silent: apps go on, but for those that must not go on alone."""

import json
import socket
import threading
import time

import pytest
from agent_alone import desired, new_id
from cloud import wait_until
from fake_controller import FakeController, ask_app

BEAT = "/api/v1/nodes/heartbeat"


def alone_no_longer_than(deadline_ms, **changes):
    return {"app_type": "worker", "entrypoint": ["sleep", "1000"], "health_check": None,
            "on_partition": "stop", "partition_deadline_ms": deadline_ms, **changes}


def silence(agent):
    agent.controller.statuses[BEAT] = 503
    return time.monotonic()


def speak(agent):
    agent.controller.statuses.clear()


def gone(agent, replica):
    return wait_until("it has stopped", lambda: agent.processes(replica), until=lambda left: not left)


def test_app_stops_at_its_deadline_and_starts_again(alone):
    alone.start()
    going_on = alone.deploy()
    stopping = alone.deploy(**alone_no_longer_than(1500))
    before, port = alone.pids(going_on), alone.controller.replica(going_on)["port"]
    since = silence(alone)
    gone(alone, stopping)
    assert 1.0 < time.monotonic() - since < 5
    assert ask_app(port)[1] == "ok" and alone.pids(going_on) == before
    state = json.loads((alone.state / "replicas" / f"{stopping}.json").read_text())
    assert state["state"] == "parted" and state["process"] is None
    speak(alone)
    one = wait_until("told", lambda: alone.controller.replica(stopping),
                     until=lambda one: one is not None and one["state"] == "unhealthy")
    assert one["error"] == "stopped: the controller was silent for 1 s" and one["pid"] is None
    alone.controller.wait_state(stopping, "running")
    assert len(alone.processes(stopping)) == 1 and alone.pids(going_on) == before


def test_controller_that_is_heard_in_time_changes_nothing(alone):
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(3000))
    before = alone.pids(replica)
    silence(alone)
    wait_until("it was tried", lambda: alone.controller.seen.count(BEAT), until=lambda n: n > 6)
    speak(alone)
    alone.controller.wait_beat(3)
    assert alone.pids(replica) == before


def test_long_heartbeat_interval_is_cut_for_a_short_deadline(alone):
    """With the interval alone the app would stop between two beats."""
    alone.controller.interval = 600
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(900))
    before = alone.pids(replica)
    alone.controller.wait_beat(6)
    assert alone.pids(replica) == before


def test_dead_controller(alone):
    """Nothing listens any more; later somebody does again."""
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(1000))
    old = alone.controller
    old.close()
    gone(alone, replica)
    alone.controller = back = FakeController(interval=old.interval, port=old.port, key=old.key)
    back.secret, back.node_id, back.packages = old.secret, old.node_id, old.packages
    back.registrations, back.join_secret = old.registrations, old.join_secret
    alone.commands.controller = back
    alone.controller.wait_state(replica, "running")


def test_command_is_a_sign_of_life_too(alone):
    """Beats fail, but the controller reaches the node."""
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(1500))
    before = alone.pids(replica)
    end = silence(alone) + 4
    while time.monotonic() < end:
        assert alone.commands.list()[0]["state"] == "running"
    assert alone.pids(replica) == before


def test_app_that_is_asked_for_again_starts_at_once(alone):
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(800))
    silence(alone)
    gone(alone, replica)
    answer = alone.commands.put(replica, desired(alone.app, 1, **alone_no_longer_than(800)))
    assert answer.status == 202, answer.text
    wait_until("it runs", lambda: alone.processes(replica))


def test_app_that_was_moved_is_not_started_again(alone):
    """The controller says so right after it is back."""
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(800))
    silence(alone)
    gone(alone, replica)
    speak(alone)
    alone.controller.wait_beat(1)
    assert alone.commands.delete(replica, 1).status in (202, 204)
    alone.controller.wait_beat(3)
    assert alone.processes(replica) == []
    assert alone.commands.delete(replica, 1).status == 204


def test_stubborn_app_is_killed(alone):
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(
        800, entrypoint=["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], stop_grace_ms=300))
    silence(alone)
    gone(alone, replica)


def test_restarts_of_the_agent_buy_no_time(alone):
    """Each new agent goes on counting where the last one was killed."""
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(4000))
    alone.controller.wait_beat(2)
    since = silence(alone)
    while alone.processes(replica):
        alone.kill()
        alone.start("run")
        assert time.monotonic() - since < 8
        wait_until("a moment of life", lambda: alone.controller.seen.count(BEAT))
    assert 1.5 < time.monotonic() - since < 8
    alone.kill()
    alone.start("run")
    # Nor does it come back before the controller does.
    assert alone.processes(replica) == []
    speak(alone)
    alone.controller.wait_state(replica, "running")


@pytest.mark.parametrize("record", [None, b"", b"nonsense\n", b"another-boot 1\n", b"\xff" * 300])
def test_without_a_moment_of_this_boot_the_controller_must_be_heard_first(alone, record):
    alone.start()
    going_on = alone.deploy()
    replica = alone.deploy(**alone_no_longer_than(60000))
    alone.kill()
    path = alone.state / "contact"
    assert path.exists()
    path.unlink() if record is None else path.write_bytes(record)
    silence(alone)
    alone.start("run")
    gone(alone, replica)
    assert len(alone.processes(going_on)) == 1
    speak(alone)
    alone.controller.wait_state(replica, "running")


def test_run_is_no_app_that_must_stop(alone):
    alone.start()
    replica = alone.deploy(**alone_no_longer_than(500, app_type="cron", entrypoint=["sleep", "2.5"]))
    silence(alone)
    wait_until("its end", lambda: alone.commands.list()[0]["state"], until=lambda state: state == "finished")
    assert alone.commands.list()[0]["id"] == replica


# -- a controller that answers, but not as it should --------------------------------------------------


def slow_server(answer):
    """A listener that sends these bytes to whoever connects, a piece at a time, and then nothing more."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    over = threading.Event()
    kept = []

    def serve():
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            kept.append(connection)
            try:
                connection.settimeout(1)
                connection.recv(65536)
                for start in range(0, len(answer), 65536):
                    connection.sendall(answer[start:start + 65536])
                if answer.endswith(b"CLOSE"):
                    connection.close()
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def end():
        over.set()
        thread.join(5)
        for one in [*kept, listener]:
            one.close()
    return listener.getsockname()[1], kept, end


LIES = {
    "nothing": b"", "half a head": b"HTTP/1.1 204 No Con", "garbage": b"\x00\xff\x16\x03\x01" * 400,
    "huge head": b"HTTP/1.1 204 No Content\r\nX-A: " + b"a" * 500000,
    "huge body": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"a" * 4000000,
    "endless chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"a" * 4096,
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nCLOSE",
    "two lengths": b"HTTP/1.1 204 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "old protocol": b"HTTP/0.9 what\r\n\r\n", "redirect": b"HTTP/1.1 301 X\r\nLocation: http://127.0.0.1:1/\r\n"
    b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.replace(" ", "-"))
def test_lies_of_a_controller_are_no_answer(alone, lie):
    """Apps go on, commands are obeyed, memory stays small, and the real one is heard again."""
    alone.start()
    replica = alone.deploy()
    before = alone.pids(replica)
    real, fake_port = alone.controller.url, None
    fake_port, kept, end = slow_server(LIES[lie])
    try:
        alone.kill()
        node = alone.state / "node.json"
        node.write_text(node.read_text().replace(real, f"http://127.0.0.1:{fake_port}"))
        alone.start("run")
        wait_until("it has asked", lambda: len(kept), until=lambda n: n >= 1)
        assert alone.commands.list()[0]["state"] == "running" and alone.pids(replica) == before
        assert alone.commands.put(replica, desired(alone.app, 2)).status == 202
        assert resident_kb(alone.popen.pid) < 24000
        alone.kill()
        node.write_text(node.read_text().replace(f"http://127.0.0.1:{fake_port}", real))
    finally:
        end()
    alone.run_again()
    assert alone.controller.wait_state(replica, "running")["generation"] == 2
    assert alone.pids(replica) == before


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


@pytest.mark.parametrize("status", [200, 302, 400, 404, 429, 500, 503])
def test_other_statuses_of_a_beat_are_not_the_end(alone, status):
    alone.start()
    replica = alone.deploy()
    before = alone.pids(replica)
    alone.controller.statuses[BEAT] = status
    wait_until("several beats", lambda: alone.controller.seen.count(BEAT), until=lambda n: n >= 4)
    assert alone.popen.poll() is None and alone.pids(replica) == before
    speak(alone)
    alone.controller.wait_beat(2)
    assert alone.controller.replica(replica)["state"] == "running"


def test_package_that_never_ends_blocks_nobody(alone):
    """A download that hangs leaves commands, beats and other apps alone."""
    alone.start()
    hanging = alone.controller.package(b"x" * 100, digest="ab" * 32)
    stop = threading.Event()
    real = alone.controller.get

    def slow(path, headers):
        if "ab" * 32 in path:
            stop.wait(30)
        return real(path, headers)

    alone.controller.get = slow
    try:
        stuck = new_id()
        assert alone.commands.put(stuck, desired(hanging)).status == 202
        replica = alone.deploy()
        assert alone.controller.replica(stuck)["state"] == "fetching"
        assert alone.commands.delete(stuck, 1).status in (202, 204)
        alone.controller.wait_state(replica, "running")
    finally:
        stop.set()
