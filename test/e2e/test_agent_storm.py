"""500 agents killed at random moments while apps are made, changed, restarted and stopped: at the end exactly one
process a replica, no orphan, no zombie, no file or control group that nobody needs.

A67_SEED repeats a run's orders and moments (what was killed in between depends on the machine); A67_STORM sets the
number of kills."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent_alone import AgentAlone, desired, new_id, zombies_of
from cloud import wait_until
from cloud.process import environment

KILLS = int(os.environ.get("A67_STORM", "500"))
SEED = int(os.environ.get("A67_SEED", random.SystemRandom().randrange(1 << 32)))
AGENTS = 5
APPS = (
    {"entrypoint": ["sleep", "1000"]},
    {"entrypoint": ["sleep", "1001"]},
    {"entrypoint": ["sh", "-c", "sleep 1000 & setsid sleep 1000 & wait"]},
    {"entrypoint": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], "stop_grace_ms": 100},
    {"entrypoint": ["sh", "-c", "sleep 0.2; exit 1"]},
    {"entrypoint": ["sh", "-c", "trap : USR1; while :; do sleep 0.2; done"], "secrets": {"KEY": "a"},
     "on_secret_change": "SIGUSR1"},
    {"entrypoint": ["sh", "-c", "trap : USR1; while :; do sleep 0.2; done"], "secrets": {"KEY": "b"},
     "on_secret_change": "SIGUSR1"},
    {"entrypoint": ["sleep", "1002"], "health_check": {"command": ["sleep", "5"], "timeout_ms": 10000}},
    {"entrypoint": ["sleep", "1003"], "on_partition": "stop", "partition_deadline_ms": 500},
)
RUN = {"entrypoint": ["sleep", "0.1"], "app_type": "cron"}


def order(agent, number, **changes):
    return desired(agent.app, number, **{"app_type": "worker", "health_check": None, "env": None,
                                      "resources": None, **changes})


class Storm:
    """One agent that is killed again and again, by its own sequence of chances."""

    def __init__(self, seed, kills):
        self.chance = random.Random(seed)
        self.kills = kills
        self.agent = AgentAlone(interval=0.5)
        self.generations = {new_id(): 0 for _ in range(3)}
        self.runs = []

    def disturb(self):
        """Some orders, answered or not."""
        for _ in range(self.chance.randrange(1, 6)):
            if self.chance.random() < 0.1:
                self.begin_run()
                continue
            replica = self.chance.choice(list(self.generations))
            self.generations[replica] += 1
            number = self.generations[replica]
            try:
                if self.chance.random() < 0.25:
                    self.agent.commands.delete(replica, number)
                elif self.chance.random() < 0.2:
                    for one in self.agent.processes(replica)[:1]:
                        one.kill()
                else:
                    self.agent.commands.put(replica, order(self.agent, number, **self.chance.choice(APPS)))
            except OSError:
                return

    def begin_run(self):
        """A cron app; those of before are deleted, some of them while they run."""
        try:
            for run in self.runs:
                self.agent.commands.delete(run, 1)
            self.runs.append(new_id())
            self.agent.commands.put(self.runs[-1], order(self.agent, 1, **RUN))
        except OSError:
            return

    def run(self):
        """Kills as often as asked; then sets everything right and looks."""
        try:
            self.agent.start()
            for _ in range(self.kills):
                timer = threading.Timer(self.chance.uniform(0, 0.12), self.agent.popen.kill)
                timer.start()
                self.disturb()
                timer.join()
                self.agent.popen.wait(10)
                self.agent.start("run", wait=self.chance.random() < 0.8)
            self.agent.kill()
            self.agent.run_again()
            self.check_running()
            self.check_gone()
            return self.kills
        finally:
            self.agent.destroy()

    def check_running(self):
        for replica in self.generations:
            self.generations[replica] += 1
            answer = self.agent.commands.put(replica, order(self.agent, self.generations[replica], **APPS[0]))
            assert answer.status == 202, answer.text
        for replica in self.generations:
            self.agent.controller.wait_state(replica, "running", timeout=30)
        wait_until("one process a replica, and nothing else", self.found, timeout=30,
                   until=lambda found: found == dict.fromkeys(self.generations, 1))
        assert zombies_of(self.agent.popen.pid) == []

    def found(self):
        """How many processes each replica has; a process that no replica has counts under its own name."""
        counts = {}
        for one in self.agent.commands.list():
            if one["pid"] is not None and one["id"] not in self.runs:
                counts[one["id"]] = len(self.agent.processes(one["id"]))
        for one in self.agent.processes():
            if environment(one.pid).get("A67_REPLICA") not in self.runs and not any(one.pid == pid for replica in counts for pid, _ in self.agent.pids(replica)):
                counts[f"stray {one.pid}"] = 1
        return counts

    def check_gone(self):
        """Once everything is deleted nothing is left but what the protocol remembers."""
        for replica in [*self.generations, *self.runs]:
            status = self.agent.commands.delete(replica, self.generations.get(replica, 1)).status
            assert status in (202, 204, 404)
        wait_until("no process", self.agent.processes, until=lambda left: not left)
        wait_until("no file", lambda: [str(path) for path in self.leftovers()], until=lambda left: not left)

    def leftovers(self):
        state = self.agent.state
        yield from state.glob("apps/*")
        yield from state.glob("trash/*")
        yield from state.glob("logs/*")
        yield from (path for path in state.rglob("*") if path.suffix in (".tmp", ".part", ".corrupt"))
        yield from Path("/dev/shm").glob(f"a67-{self.agent.controller.node_id}*/*")
        yield from Path("/sys/fs/cgroup").glob(f"**/a67-{self.agent.controller.node_id}/*/")
        # The ids that were used are remembered, no others.
        yield from (path for path in state.glob("replicas/*") 
                    if path.stem not in self.generations and path.stem not in self.runs)


def test_agents_killed_at_random_moments_lose_and_double_nothing(capsys):
    with capsys.disabled():
        print(f"\n{KILLS} kills, A67_SEED={SEED}", end=" ")
    share = [KILLS // AGENTS + (number < KILLS % AGENTS) for number in range(AGENTS)]
    storms = [Storm(SEED + number, kills) for number, kills in enumerate(share)]
    with ThreadPoolExecutor(AGENTS) as pool:
        assert sum(pool.map(Storm.run, storms)) == KILLS
