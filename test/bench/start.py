"""From a manifest to 100 running replicas over 50 nodes, all of them real agents on this machine. Part of the deployments'
benchmark.

The app is a directory of files (runtime static): what the machine spends on it is little, so the figure is a67's. Every agent
has the package already after the first round, as nodes have that run other releases of the app; the first is told apart.
"""

import json
import statistics
import time

from cloud import Cloud
from cloud.app import deterministic_tar
from cloud.wait import wait_until
from load import report, say

NODES = 50
REPLICAS = 100
ROUNDS = 7


def _start_all(cloud, name, package):
    """Seconds from the manifest until every replica is known to run."""
    began = time.perf_counter()
    cloud.cluster.execute("SELECT a67.deployment_create(%s::jsonb)", json.dumps({
        "name": name, "package": package, "runtime": "static", "entrypoint": [], "replicas": REPLICAS,
        "resources": {"memory": "8MB", "cpu": 0.01}, "health_check": {"path": "/", "interval": "10s"}}))
    wait_until("every replica runs", lambda: cloud.deployment(name)["status"], timeout=120, interval=0.01,
               until=lambda status: status == "running")
    return time.perf_counter() - began


def _remove(cloud, name):
    cloud.cluster.execute("SELECT a67.deployment_remove(%s)", name)
    wait_until("the app is gone", lambda: cloud.cluster.value("SELECT count(*) FROM a67_internal.replica"), timeout=120,
               until=lambda left: left == 0)


def main():
    with Cloud(settings={"a67.heartbeat_interval": "30s", "a67.monitor_interval": "5s", "a67.reconcile_interval": "5s",
                         "a67.push_timeout": "10s"}) as cloud:
        cloud.join(*(f"n{i:02}" for i in range(NODES)))
        package = cloud.put_package(deterministic_tar({"index.html": "<h1>hello</h1>\n"}))
        took = []
        for i in range(ROUNDS):
            took.append(_start_all(cloud, f"app-{i}", package))
            say(f"{REPLICAS} replicas over {NODES} nodes: {took[-1]:.3f} s")
            _remove(cloud, f"app-{i}")
        report("deploy", "deploy_100_first", took[0] * 1000, "ms")
        report("deploy", "deploy_100_replicas_p50", statistics.median(took[1:]) * 1000, "ms")
