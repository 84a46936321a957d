"""Builds agent_fault.c for the tests that preload it, and reads what it tells."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cloud import wait_until

# What a heartbeat calls a state of the state file.
REPORTED = {"replacing": "stopping", "halting": "stopping", "parted": "unhealthy"}


def build():
    """Path of the library; skips the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build agent_fault.c with")
    folder = Path(os.environ.get("A67_RUN", "/tmp"))
    library = folder / f"agent_fault-{os.getpid()}.so"
    if not library.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library),
                        str(Path(__file__).with_name("agent_fault.c")), "-ldl"], check=True)
    return library


def preload(**faults):
    """Environment of an agent: preload(trace=path, at=3) sets A67_FAULT_TRACE and A67_FAULT_AT."""
    env = {f"A67_FAULT_{name.upper()}": str(value) for name, value in faults.items()}
    # An agent under ASan objects to a library that comes before its own.
    return {"LD_PRELOAD": str(build()), "ASAN_OPTIONS": "verify_asan_link_order=0", **env}


class Clock:
    """A file that moves the clocks of agents started with preload(clock=path)."""

    def __init__(self, path):
        self.path = path
        self.boot_ms = 0
        self.move()

    def move(self, wall_ms=0, boot_ms=0):
        """From now on the clocks are that far ahead."""
        if not self.path.exists():
            self.path.write_bytes(bytes(16))
        with open(self.path, "r+b") as file:
            file.write(struct.pack("<qq", wall_ms, boot_ms))

    def hurry(self, agent, replica, state):
        """Waits for the state, at twenty seconds a second: what it has to wait for is back-off. Returns the replica."""
        def look():
            self.boot_ms += 1000
            self.move(boot_ms=self.boot_ms)
            return agent.controller.replica(replica)
        return wait_until(f"replica is {state}", look, 60, until=lambda one: one is not None and one["state"] == state)


def objects(value):
    """All replica objects in a JSON value."""
    if isinstance(value, dict):
        if {"id", "generation", "state"} <= set(value):
            yield value
        for one in value.values():
            yield from objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from objects(one)


class Order:
    """Follows a trace; complains when something is done or told before it is on disk."""

    def __init__(self):
        self.synced = set()
        self.renamed = {}
        self.durable = {}
        self.past = set()
        self.counts = {"fsync": 0, "rename": 0, "fork": 0, "kill": 0, "send": 0}

    def follow(self, text):
        for line in text.splitlines():
            what, _, rest = line.partition(" ")
            self.counts[what] += 1
            getattr(self, what)(rest)

    def fsync(self, path):
        name = os.path.basename(path)
        if path.endswith(".json.tmp"):
            self.synced.add(name.removesuffix(".json.tmp"))
        elif name == "replicas":
            self.durable.update(self.renamed)
            self.past.update((replica, record["generation"], REPORTED.get(record["state"], record["state"]))
                             for replica, record in self.renamed.items())
            self.renamed.clear()

    def rename(self, rest):
        name, _, text = rest.partition(" ")
        if not name.startswith("replicas/") or not name.endswith(".json"):
            return
        replica = name.removeprefix("replicas/").removesuffix(".json")
        assert replica in self.synced, f"{name} was renamed before it was synced"
        self.synced.discard(replica)
        self.renamed[replica] = json.loads(text)

    def fork(self, rest):
        assert not self.renamed, "a process was started before the directory was synced"
        announced = [one for one in self.durable.values() if one["intent"] and one["process"] is None]
        assert announced or not self.durable, "a process was started that no state file announces"

    def kill(self, rest):
        pid, number = (int(word) for word in rest.split())
        if number != 15:
            return
        owners = [one for one in self.durable.values() if one["process"] and one["process"]["pid"] == abs(pid)]
        assert owners and not self.renamed
        assert owners[0]["state"] in ("stopping", "replacing", "unhealthy", "halting", "parted"), owners[0]["state"]

    def send(self, text):
        start = text.find("{")
        while start >= 0:
            try:
                value, _ = json.JSONDecoder().raw_decode(text[start:])
                break
            except ValueError:
                start = text.find("{", start + 1)
        else:
            raise AssertionError(f"a message that cannot be read: {text[:300]}")
        for one in objects(value):
            # A message may be older than the moment it is sent at.
            assert (one["id"], one["generation"], one["state"]) in self.past, "told before it was on disk"
