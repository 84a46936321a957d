"""Output of applications on an agent: kept within bounds, followed, shipped once it is wanted. The controller is played."""

import base64
import collections
import os
import re
import threading
from http.client import HTTPException

import pytest
from agent_alone import AgentAlone, new_id, start_on_small_disk
from cloud import deterministic_tar, wait_until
from fake_controller import ask_app, compact

MB = 1 << 20

# GET /say/TEXT prints a line; /raw/HEX writes bytes; /burst/MB so much, in blocks of 64 kB that have a number. /disk
# tells what its log takes of the disk, and what is free there.
APP = r"""
import http.server, os
print("hello", flush=True)
class App(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        word, _, rest = self.path[1:].partition("/")
        if word == "say":
            print(rest, flush=True)
        if word == "raw":
            os.write(1, bytes.fromhex(rest))
        if word == "burst":
            for i in range(int(rest) * 16):
                os.write(1, b"%07d\n" % i * 8192)
        free = os.fstatvfs(1).f_bavail * os.fstatvfs(1).f_frsize
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"%d %d" % (os.fstat(1).st_blocks * 512, free) if word == "disk" else b"ok")
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"""


class Output(bytearray):
    """Much of it: what a failed wait prints is its end."""

    def __repr__(self):
        return f"{len(self)} bytes, ...{bytes(self[-200:])!r}"


class Taker:
    """The controller's side of shipping: keeps every replica's output once, by offsets."""

    def __init__(self, rate=64 * MB):
        self.rate = rate
        self.taken = collections.defaultdict(Output)
        self.next = collections.defaultdict(int)
        self.missing = collections.defaultdict(int)
        self.unknown = set()
        self.batches = []
        self.lose = 0

    def __call__(self, body):
        self.batches.append(body["chunks"])
        if self.rate == 0:
            return 200, compact({"rate": 0, "next": {}, "unknown": []})
        for chunk in body["chunks"]:
            replica, start, data = chunk["replica"], chunk["offset"], base64.b64decode(chunk["data"])
            if replica in self.unknown or start - chunk["missing"] > self.next[replica]:
                continue
            if start > self.next[replica]:
                self.missing[replica] += start - self.next[replica]
                self.taken[replica] += b"<%d missing>\n" % (start - self.next[replica])
            if start + len(data) > self.next[replica]:
                self.taken[replica] += data[max(0, self.next[replica] - start):]
                self.next[replica] = start + len(data)
        if self.lose > 0:
            self.lose -= 1
            return 500, b"{}"
        names = {chunk["replica"] for chunk in body["chunks"]}
        return 200, compact({"rate": self.rate, "unknown": sorted(names & self.unknown),
                             "next": {one: self.next[one] for one in names - self.unknown}})

    def wait(self, replica, until, timeout=20.0):
        return wait_until("output is shipped", lambda: self.taken[replica], timeout, until=until)


@pytest.fixture
def alone():
    agent = AgentAlone()
    agent.app = agent.controller.package(deterministic_tar({"app.py": APP}))
    agent.taker = agent.controller.taker = Taker()
    yield agent
    agent.destroy()


def ask(agent, replica, path):
    return ask_app(agent.controller.replica(replica)["port"], path, timeout=30)[1]


def logs(agent, replica, query=""):
    return agent.commands.send("GET", f"/v1/replicas/{replica}/logs{query}")


def metric(agent, name, replica):
    found = re.search(rf'^{name}{{replica="{replica}"}} (\d+)$', agent.commands.get("/metrics").text, re.M)
    return int(found.group(1)) if found else None


class Reader(threading.Thread):
    """Follows a log until it ends."""

    def __init__(self, agent, replica, query="follow=true"):
        super().__init__(daemon=True)
        self.data = Output()
        self.answer = agent.commands.open("GET", f"/v1/replicas/{replica}/logs?{query}")
        self.offset = int(self.answer.getheader("X-Log-Offset"))
        self.start()

    def run(self):
        try:
            while piece := self.answer.read1(MB):
                self.data += piece
        except (OSError, HTTPException):
            pass  # hung up

    def wait(self, until, timeout=20.0):
        return wait_until("the follower has read it", lambda: self.data, timeout, until=until)


# -- reading ---------------------------------------------------------------------------------------


def test_reading(alone):
    alone.start()
    replica = alone.deploy()
    for word in ("one", "two", "three"):
        ask(alone, replica, f"/say/{word}")
    answer = logs(alone, replica)
    assert answer.status == 200 and answer.body == b"hello\none\ntwo\nthree\n"
    assert answer.headers["x-log-offset"] == "0" and answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert logs(alone, replica, "?tail=6").body == b"three\n"
    assert logs(alone, replica, "?since=10").body == b"two\nthree\n"
    assert logs(alone, replica, "?since=10&tail=6").body == b"three\n"
    assert logs(alone, replica, "?since=1000").body == b"" and logs(alone, replica, "?tail=0").body == b""
    assert logs(alone, replica, "?since=2000-01-01T00:00:00Z").body.startswith(b"hello")
    assert logs(alone, replica, "?since=2000-01-01T00:00:00.5%2B02:00").body.startswith(b"hello")
    assert logs(alone, replica, "?since=2100-01-01T00:00:00Z").body == b""


@pytest.mark.parametrize("query, status", [
    ("?tail=-1", 400), ("?tail=", 400), ("?since=yesterday", 400), ("?since=2000-01-01T00:00:00", 400),
    ("?since=-1", 400), ("?follow=1", 400), ("?since=2000-01-01T00:00:00%2B2", 400)])
def test_malformed_queries(alone, query, status):
    alone.start()
    replica = alone.deploy()
    assert logs(alone, replica, query).status == status
    assert logs(alone, new_id()).status == 404


def test_follower_gets_what_comes_and_the_end(alone):
    alone.start()
    replica = alone.deploy()
    reader = Reader(alone, replica, "follow=true&tail=0")
    assert reader.offset == 6
    ask(alone, replica, "/say/one")
    reader.wait(lambda data: data == b"one\n")
    ask(alone, replica, "/raw/00ff80")
    reader.wait(lambda data: data == b"one\n\x00\xff\x80")
    assert alone.commands.delete(replica, 2).status == 202
    reader.join(20)
    assert not reader.is_alive(), "the answer ends with its replica"
    assert b"process was killed by signal 15" in reader.data


def test_followers_are_bounded_and_leave(alone):
    alone.start()
    replica = alone.deploy()
    readers = [Reader(alone, replica) for _ in range(16)]
    assert logs(alone, replica).status == 503
    ask(alone, replica, "/say/all")
    for reader in readers:
        reader.wait(lambda data: data.endswith(b"all\n"))
    readers[0].answer.hang_up()

    def again():
        ask(alone, replica, "/say/more")  # nobody is there to take it
        return logs(alone, replica).status

    wait_until("a place is free", again, until=lambda status: status == 200)


# -- bounds ----------------------------------------------------------------------------------------


def test_burst_is_bounded_and_counted(alone):
    """100 MB at once: a follower loses nothing, the disk keeps 16 MB, what was not shipped is counted to the byte."""
    alone.taker.rate = 64 * 1024
    alone.start()
    replica = alone.deploy()
    reader = Reader(alone, replica)
    ask(alone, replica, "/burst/100")
    total = 100 * MB + 6
    reader.wait(lambda data: len(data) >= total, timeout=40)
    assert len(reader.data) == total and b"missing" not in reader.data
    assert reader.data.endswith(b"\n") and reader.data.count(b"\n") == 100 * MB // 8 + 1
    path = alone.state / "logs" / f"{replica}.log"
    wait_until("the head is given back", lambda: path.stat().st_blocks * 512, until=lambda size: size < 18 * MB)
    assert path.stat().st_size == total
    alone.taker.rate = 64 * MB
    taken = alone.taker.wait(replica, lambda data: alone.taker.next[replica] == total)
    missing = alone.taker.missing[replica]
    assert missing > 80 * MB and metric(alone, "a67_replica_log_dropped_bytes_total", replica) == missing
    assert metric(alone, "a67_replica_log_bytes_total", replica) == total
    assert len(re.sub(rb"<\d+ missing>\n", b"", taken)) + missing == total
    late = logs(alone, replica, "?since=0&tail=99999999").body
    assert re.match(rb"-- \S+Z a67-agent: \d+ bytes of output are missing here\n", late)


def test_logs_leave_room_on_a_small_disk(alone):
    """A log takes 1/32 of what is free, and 256 kB by which it is cut, however much is written; less on a full disk."""
    start_on_small_disk(alone, "24m")
    replica = alone.deploy()

    def disk():
        return [int(word) for word in ask(alone, replica, "/disk").split()]

    free = disk()[1]
    assert 20 * MB < free < 24 * MB
    for _ in range(30):
        assert ask(alone, replica, "/burst/1") == "ok"
        wait_until("the head is given back", disk, until=lambda now: now[0] <= free // 32 + 300 * 1024)
    assert metric(alone, "a67_replica_log_bytes_total", replica) == 30 * MB + 6
    (alone.folder / "fill").touch()
    wait_until("the disk is full", (alone.folder / "fill.done").exists)
    wait_until("the log is cut to what always stays", disk, until=lambda now: now[0] <= (64 + 256) * 1024)
    assert alone.commands.get("/health").status == 200 and len(logs(alone, replica, "?tail=1000").body) == 1000
    assert alone.controller.replica(replica)["state"] == "running" and alone.controller.replica(replica)["restarts"] == 0


def test_app_writes_without_an_agent(alone):
    alone.start()
    replica = alone.deploy()
    alone.kill()
    ask(alone, replica, "/say/alone")
    ask(alone, replica, "/burst/40")
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    path = alone.state / "logs" / f"{replica}.log"
    wait_until("the head is given back", lambda: path.stat().st_blocks * 512, until=lambda size: size < 18 * MB)
    assert logs(alone, replica, "?tail=8").body.endswith(b"\n")


def test_log_goes_when_it_is_shipped(alone):
    alone.start()
    replica = alone.deploy()
    alone.controller.statuses["/api/v1/nodes/logs"] = 503
    ask(alone, replica, "/say/last-words")
    alone.commands.delete(replica, 2)
    wait_until("replica is gone", lambda: alone.processes(replica), until=lambda found: not found)
    path = alone.state / "logs" / f"{replica}.log"
    assert path.exists(), "its end has not been shipped"
    del alone.controller.statuses["/api/v1/nodes/logs"]
    alone.taker.wait(replica, lambda data: b"last" in data and b"signal 15" in data)
    wait_until("the files are gone", lambda: os.listdir(path.parent), until=lambda names: not names)


# -- shipping --------------------------------------------------------------------------------------


def test_shipping_once_in_order(alone):
    alone.taker.lose = 3  # taken, but the answer is lost
    alone.start()
    replica = alone.deploy()
    text = b"hello\n"
    for i in range(20):
        ask(alone, replica, f"/say/line-{i}")
        text += b"line-%d\n" % i
    assert alone.taker.wait(replica, lambda data: len(data) >= len(text)) == text
    assert alone.taker.missing[replica] == 0


def test_lines_are_not_cut_and_times_tell(alone):
    alone.start()
    replica = alone.deploy()
    alone.taker.wait(replica, lambda data: data == b"hello\n")
    ask(alone, replica, "/raw/" + b"half".hex())
    ask(alone, replica, "/raw/" + b" line\nrest".hex())
    alone.taker.wait(replica, lambda data: data == b"hello\nhalf line\nrest")
    pieces = [base64.b64decode(chunk["data"]) for batch in alone.taker.batches for chunk in batch]
    assert b"rest" in pieces and pieces[-2].endswith(b"line\n")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", chunk["at"])
               for batch in alone.taker.batches for chunk in batch)


def test_controller_down_then_back(alone):
    alone.start()
    replica = alone.deploy()
    alone.controller.statuses["/api/v1/nodes/logs"] = 500
    ask(alone, replica, "/burst/8")
    beats = len(alone.controller.beats)
    wait_until("heartbeats go on", lambda: len(alone.controller.beats), until=lambda count: count > beats + 5)
    del alone.controller.statuses["/api/v1/nodes/logs"]
    data = alone.taker.wait(replica, lambda data: len(data) >= 8 * MB + 6, timeout=30)
    assert alone.taker.missing[replica] == 0 and data.count(b"\n") == MB + 1


def test_agent_killed_while_shipping(alone):
    """Killed again and again: every byte arrives, once."""
    alone.taker.rate = 4 * MB
    alone.start()
    replica = alone.deploy()
    ask(alone, replica, "/burst/6")
    for _ in range(4):
        batches = len(alone.taker.batches)
        wait_until("another batch", lambda: len(alone.taker.batches), until=lambda count: count > batches)
        alone.kill()
        alone.run_again()
    data = alone.taker.wait(replica, lambda data: len(data) >= 6 * MB + 6, timeout=30)
    assert len(data) == 6 * MB + 6 and alone.taker.missing[replica] == 0
    assert data == b"hello\n" + b"".join(b"%07d\n" % i * 8192 for i in range(6 * 16))


def test_noisy_app_starves_nobody(alone):
    alone.taker.rate = 256 * 1024
    alone.start()
    noisy, quiet = alone.deploy(), alone.deploy()
    ask(alone, noisy, "/burst/12")
    ask(alone, quiet, "/say/still-here")
    alone.taker.wait(quiet, lambda data: b"still-here" in data)
    assert alone.taker.next[noisy] < 4 * MB, "the rate is kept"


@pytest.mark.parametrize("answer", ["rate", "unknown", "404"])
def test_unwanted_output_is_not_sent(alone, answer):
    if answer == "rate":
        alone.taker.rate = 0
    if answer == "404":
        alone.controller.taker = None
    alone.start()
    replica = new_id()
    alone.taker.unknown.add(replica)
    alone.deploy(replica)
    path = "/api/v1/nodes/logs"
    wait_until("it asks", lambda: alone.controller.seen.count(path), until=lambda count: count > 0)
    asked = alone.controller.seen.count(path)
    ask(alone, replica, "/burst/1")
    alone.controller.wait_beat(6)
    assert alone.controller.seen.count(path) <= asked + 1
    assert alone.taker.taken[replica] == b""
    alone.commands.delete(replica, 2)
    wait_until("the files are gone", lambda: os.listdir(alone.state / "logs"), until=lambda names: not names)


def test_smaller_batches_when_they_are_too_large(alone):
    most = 100 * 1024
    taker = alone.taker
    alone.controller.taker = lambda body: (413, b"{}") if len(compact(body)) > most else taker(body)
    alone.start()
    replica = alone.deploy()
    ask(alone, replica, "/burst/1")
    assert len(taker.wait(replica, lambda data: len(data) >= MB + 6)) == MB + 6


def test_controller_that_has_more(alone):
    """What the disk has forgotten: offsets go on where the controller is."""
    alone.start()
    replica = alone.deploy()
    alone.taker.wait(replica, lambda data: data == b"hello\n")
    alone.taker.next[replica] = 1000
    ask(alone, replica, "/say/one")
    wait_until("offsets follow", lambda: metric(alone, "a67_replica_log_shipped_bytes_total", replica),
               until=lambda value: value >= 1000)
    ask(alone, replica, "/say/two")
    alone.taker.wait(replica, lambda data: data.endswith(b"two\n"))
    assert alone.taker.missing[replica] == 0


@pytest.mark.parametrize("text", ["", "x" * 300, "a67log 1 9 3 -1 0", "\0" * 128])
def test_damaged_record(alone, text):
    alone.start()
    replica = alone.deploy()
    alone.taker.wait(replica, lambda data: data == b"hello\n")
    alone.kill()
    (alone.state / "logs" / f"{replica}.pos").write_text(text)
    alone.run_again()
    alone.controller.wait_state(replica, "running")
    ask(alone, replica, "/say/one")
    assert alone.taker.wait(replica, lambda data: b"one" in data) == b"hello\none\n"
