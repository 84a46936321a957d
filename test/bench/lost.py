"""Requests that the users of an app lose while it gets a new release, by each strategy, and when one of three nodes is SIGKILLed
with all that runs on it. Part of the deployments' benchmark.

wrk asks without a pause, through HAProxy, on connections that stay open; every answer but 200 and every broken connection is a
request lost. Agents, HAProxy and the app are real ones; wrk shares the two cores with them, so its rate says little.
"""

import contextlib
import json
import re
import signal
import subprocess

from cloud import Client, Cloud
from cloud.app import deterministic_tar, manifest
from cloud.server import free_port
from cloud.wait import wait_until
from load import report, say

NODES = ("oak", "elm", "ash")
REPLICAS = 3
CONNECTIONS = 32
DOMAIN = "apps.test"
STRATEGIES = {
    "rolling": {"type": "rolling"},
    "blue_green": {"type": "blue_green", "test": {"path": "/"}, "observe": "3s"},
    "canary": {"type": "canary", "step_interval": "2s"},
}


class Load:
    """wrk in the background; at the end of the block it is told to stop, and lost says what did not come back."""

    def __init__(self, port, host):
        self.argv = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d600s", "--timeout", "10s", "-H", f"Host: {host}",
                     f"http://127.0.0.1:{port}/"]

    def __enter__(self):
        self.wrk = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self

    def __exit__(self, *_):
        self.wrk.send_signal(signal.SIGINT)
        text = self.wrk.communicate(timeout=30)[0]
        self.answered = int(re.search(r"(\d+) requests in", text)[1])
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        broken = re.search(r"Socket errors: (.*)", text)
        self.lost = (int(bad[1]) if bad else 0) + sum(int(one) for one in re.findall(r"\d+", broken[1] if broken else ""))
        self.how = "; ".join(one[0] for one in (bad, broken) if one) or "none lost"


def _release(cloud, number, strategy, **changes):
    """The manifest of a release, which answers with its number."""
    package = cloud.put_package(deterministic_tar({"index.html": f"release {number}\n"}))
    return manifest("shop", package, runtime="static", entrypoint=[], replicas=REPLICAS, strategy=strategy,
                    health_check={"path": "/", "interval": "1s"}, **changes)


def _wait_release(port, number):
    """Until it alone answers: every one of some requests in a row."""
    client = Client(f"http://127.0.0.1:{port}", timeout=10)

    def answers():
        return {client.request("GET", "/", headers={"Host": f"shop.{DOMAIN}"}).text.strip() for _ in range(2 * REPLICAS)}

    wait_until(f"release {number} alone answers", answers, timeout=120, until=lambda found: found == {f"release {number}"})


def _wait_settled(cloud):
    """The rollout is over, and nothing but its release is left."""
    wait_until("the rollout is over", lambda: cloud.cluster.row("""
        SELECT (SELECT state FROM a67.rollout ORDER BY created_at DESC LIMIT 1) AS state,
               (SELECT count(*) FROM a67.replica WHERE deployment = 'shop') AS replicas"""), timeout=240,
               until=lambda now: now["state"] == "succeeded" and now["replicas"] == REPLICAS)


def _roll_out(cloud, port, number, name):
    whole = _release(cloud, number, STRATEGIES[name])
    with Load(port, f"shop.{DOMAIN}") as load:
        cloud.cluster.execute("SELECT a67.deployment_update('shop', %s::jsonb)", json.dumps(whole))
        _wait_settled(cloud)
        _wait_release(port, number)
    say(f"{name}: {load.answered} requests, {load.how}")
    report("deploy", f"{name}_lost", load.lost, "requests")


def _node_dies(cloud, port):
    lost_node = cloud.replicas("shop")[0]["node"]
    with Load(port, f"shop.{DOMAIN}") as load:
        cloud.agents[lost_node].kill_node()
        cloud.wait_nodes("failed", lost_node, timeout=60)
        wait_until("replaced", lambda: cloud.deployment("shop")["replicas_running"], timeout=60,
                   until=lambda running: running == REPLICAS)
    say(f"node killed: {load.answered} requests, {load.how}")
    # On average a third of the connections have a request under way there.
    report("deploy", "node_killed_lost", load.lost, "requests", in_flight=load.lost / (CONNECTIONS / len(NODES)))


def main():
    port = free_port()
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(Cloud(settings={"a67.ingress": "on", "a67.ingress_port": port, "a67.ingress_domain": DOMAIN}))
        cloud.join(*NODES)
        cloud.create(_release(cloud, 1, STRATEGIES["rolling"]))
        _wait_release(port, 1)
        for number, name in enumerate(STRATEGIES, start=2):
            _roll_out(cloud, port, number, name)
        _node_dies(cloud, port)
