"""From the death of an agent to its replicas handed over; and how many nodes a starved controller takes for dead. Part of
the registry's benchmark. Agents are real ones.
"""

import contextlib
import os
import signal
import statistics
import threading
import time

from cloud import Client, Cloud, process
from cloud.wait import wait_until
from load import cpu_seconds, report, say

ROUNDS = 5
STARVED_AGENTS = 20
STARVED_SECONDS = 120
SLICE_S = 0.1
SHARE = 0.05
CORE = {min(os.sched_getaffinity(0))}


def _agent_dies(cloud, timeout):
    """SIGKILLs the agent of a node with replicas; seconds until they are given up, and until others serve in their place."""
    wanted = cloud.deployment("hello")["replicas_desired"]
    lost = cloud.endpoints("hello")[0]["node"]
    since = cloud.cluster.value("SELECT coalesce(max(event_id), 0) FROM a67.event")
    start = time.time()
    cloud.agents[lost].kill()
    wait_until("the replicas are handed over", lambda: cloud.cluster.value("""
        SELECT count(*) FROM a67.event WHERE event_id > %s AND type = 'replica.changed' AND payload ->> 'state' = 'lost'""", since),
               timeout=timeout)
    lost_at, placed_at = cloud.cluster.row("""
        SELECT extract(epoch FROM max(at) FILTER (WHERE payload ->> 'state' = 'lost'))::float8 AS lost_at,
               extract(epoch FROM max(at) FILTER (WHERE payload ->> 'state' = 'pending'))::float8 AS placed_at
        FROM a67.event WHERE event_id > %s AND type = 'replica.changed'""", since).values()
    cloud.wait_serving("hello", wanted, timeout)
    served = time.time() - start
    cloud.agents[lost].restart()
    cloud.wait_nodes("ready", lost, timeout=120)
    return max(lost_at, placed_at or 0) - start, served


def detection(interval, rounds=ROUNDS, **settings):
    """Median of some deaths with that heartbeat interval; nodes die at any moment between two beats."""
    with Cloud(settings={"a67.heartbeat_interval": interval, "a67.monitor_interval": "5s", "a67.reconcile_interval": "5s",
                         "a67.probe_timeout": "5s", "a67.push_timeout": "10s", **settings}) as cloud:
        cloud.join("oak", "elm", "ash")
        cloud.deploy("hello", replicas=2)
        took = [_agent_dies(cloud, timeout=180) for _ in range(rounds)]
        say(f"detection with beats every {interval}: {took}")
        report("registry", f"detection_{interval}", statistics.median(one[0] for one in took), "s")
        report("registry", f"served_again_{interval}", statistics.median(one[1] for one in took), "s")


class Starved:
    """The server's processes share one core for a twentieth of the time: stopped and continued by turns, all together."""

    def __init__(self, postmaster):
        self.postmaster = postmaster
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        turn, ran = 0, SLICE_S * SHARE
        while not self.ended.is_set():
            if turn % 10 == 0:
                family = self.family()
            turn += 1
            for one in family:
                one.kill(signal.SIGSTOP)
            # A slice is never as short as asked for: the pause is as much longer.
            self.ended.wait(ran * (1 / SHARE - 1))
            start = time.monotonic()
            for one in family:
                one.kill(signal.SIGCONT)
            self.ended.wait(SLICE_S * SHARE)
            ran = time.monotonic() - start
        for one in self.family():
            one.kill(signal.SIGCONT)

    def family(self):
        found = [self.postmaster, *process.children(self.postmaster.pid)]
        for one in found:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(one.pid, CORE)
        return found

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def _ask(url, token, ended):
    """Keeps the controller busy: what it gets of the processor is not enough."""
    client = Client(url, token, timeout=60)
    while not ended.is_set():
        with contextlib.suppress(OSError):
            client.get("/api/v1/nodes")


def starvation():
    """Nodes that became failed, of 20 that beat every second, while the controller got a twentieth of the processor."""
    with Cloud(settings={"a67.heartbeat_interval": "1s", "a67.monitor_interval": "1s", "a67.reconcile_interval": "1s",
                         "a67.probe_timeout": "5s"}) as cloud:
        names = [f"n{i}" for i in range(STARVED_AGENTS)]
        cloud.join(*names)
        cloud.deploy("hello", replicas=3)
        token = cloud.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '1 hour')")
        url, ended = cloud.cluster.listener_url(), threading.Event()
        askers = [threading.Thread(target=_ask, args=(url, token, ended)) for _ in range(4)]
        since = cloud.cluster.value("SELECT coalesce(max(event_id), 0) FROM a67.event")
        workers = [one.pid for one in process.children(cloud.cluster.postmaster.pid)]
        for one in askers:
            one.start()
        with Starved(cloud.cluster.postmaster):
            before, start = {pid: cpu_seconds(pid) for pid in workers}, time.monotonic()
            ended.wait(STARVED_SECONDS)
            elapsed = time.monotonic() - start
            used = sum(cpu_seconds(pid) - before[pid] for pid in workers if process.look(pid))
        ended.set()
        for one in askers:
            one.join()
        seen = cloud.cluster.rows("""
            SELECT payload ->> 'to' AS status, count(*) AS times, count(DISTINCT subject_id) AS nodes FROM a67.event
            WHERE event_id > %s AND type = 'node.status.changed' GROUP BY 1""", since)
        doubts = cloud.cluster.value("SELECT coalesce(sum(count), 0) FROM a67.alert WHERE dedup_key = 'monitor-doubt'")
        say(f"starved controller: {used / elapsed:.1%} of a core, {doubts} doubts, status changes {seen}")
        report("registry", "false_failures_starved", sum(row["nodes"] for row in seen if row["status"] == "failed"), "nodes")
        report("registry", "starved_cpu", used / elapsed * 100, "%")


def main():
    detection("1s", **{"a67.monitor_interval": "1s"})
    detection("30s", rounds=1)
    starvation()


if __name__ == "__main__":
    main()
