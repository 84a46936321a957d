"""Rollouts through crashes: the reconciler and the whole server are killed on the way, at every phase of each strategy."""

import json
import time

import psycopg

from cloud import manifest, wait_until

STRATEGIES = {
    "rolling": {"type": "rolling"},
    "recreate": {"type": "recreate"},
    "blue_green": {"type": "blue_green", "observe": "1s", "test": {"path": "/health"}},
    "canary": {"type": "canary", "steps": [50, 100], "step_interval": "1s"},
}


def update(cloud, package, /, **changes):
    return cloud.cluster.value("SELECT a67.deployment_update('hello', %s::jsonb) #>> '{rollout,id}'",
                               json.dumps(manifest("hello", package, **{"replicas": None, **changes})))


def step_of(cloud, rollout_id):
    row = cloud.cluster.row("SELECT state, phase, step FROM a67.rollout WHERE rollout_id = %s", rollout_id)
    return row["state"], row["phase"], row["step"]


def ended(step):
    return step is not None and step[0] not in ("running", "paused", "rolling_back")


def wait_end(cloud, rollout_id, timeout=60):
    return wait_until("the rollout ends", lambda: step_of(cloud, rollout_id), timeout, until=ended)


def settled(cloud, release, count):
    """As many processes of that release as are wanted, each once, and nothing else anywhere."""
    wait_until(f"{count} endpoints of release {release}", lambda: cloud.answers("hello"), timeout=40,
               until=lambda found: len(found) == count and all(f"release {release}," in text for text in found.values()))
    wait_until("as many processes as replicas", lambda: [pids for apps in cloud.apps().values() for pids in apps.values()],
               timeout=40, until=lambda found: len(found) == count and all(len(pids) == 1 for pids in found))
    wait_until("as many replicas, no more", lambda: cloud.cluster.rows(
        "SELECT release, desired_state FROM a67.replica WHERE deployment = 'hello'"),
        until=lambda rows: rows == [{"release": release, "desired_state": "running"}] * count)


def test_reconciler_killed_in_every_phase(make_cloud):
    """SIGKILL of a worker makes the server restart all of its processes: a crash of the database each time."""
    cloud = make_cloud("oak", "elm")
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    killed, release = {}, 1
    for name, strategy in STRATEGIES.items():
        rollout_id = update(cloud, package, strategy=strategy)
        release += 1
        deadline = time.monotonic() + 90
        # What is acted on comes from the database only; a step that is passed too quickly is seen in the next one.
        while time.monotonic() < deadline:
            try:
                step = step_of(cloud, rollout_id)
                if ended(step):
                    break
                if step not in killed.setdefault(name, []):
                    cloud.cluster.worker("reconciler").kill()
                    killed[name].append(step)
            except (OSError, TimeoutError, psycopg.OperationalError, psycopg.InterfaceError):
                continue
        assert wait_end(cloud, rollout_id)[0] == "succeeded"
        settled(cloud, release, 2)
    assert all(len(steps) >= 2 for steps in killed.values()), killed


def test_bad_release_through_crashes_goes_back(make_cloud):
    cloud = make_cloud("oak", "elm")
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    before = cloud.processes("hello")
    rollout_id = update(cloud, package, entrypoint=["./nowhere"])
    wait_until("it fails", lambda: cloud.cluster.value("SELECT count(*) FROM a67_internal.replica_failure"), until=lambda n: n > 0)
    cloud.cluster.worker("reconciler").kill()
    wait_until("it goes back", lambda: step_of(cloud, rollout_id), timeout=60, until=lambda step: step[0] in ("rolling_back", "rolled_back"))
    cloud.cluster.kill9()
    cloud.cluster.start()
    cloud.cluster.wait_listening()
    assert wait_end(cloud, rollout_id)[0] == "rolled_back"
    settled(cloud, 1, 2)
    assert cloud.processes("hello") == before


def test_paused_canary_outlives_a_crash(make_cloud):
    cloud = make_cloud("oak", "elm", fsync=True)
    package = cloud.put_package()
    cloud.deploy("hello", replicas=2, package=package)
    rollout_id = update(cloud, package, strategy={"type": "canary", "steps": [50, 100], "step_interval": "1s"})
    wait_until("a canary serves", lambda: step_of(cloud, rollout_id), timeout=40, until=lambda step: step[1] == "observe")
    cloud.cluster.execute("SELECT a67.deployment_pause('hello')")
    before = cloud.apps()
    cloud.cluster.kill9()
    cloud.cluster.start()
    cloud.cluster.wait_listening()
    cloud.wait_nodes("ready", "oak", "elm")
    cloud.cluster.wait_ticks("reconciler", 5)
    row = cloud.cluster.row("SELECT state, phase, weight FROM a67.rollout WHERE rollout_id = %s", rollout_id)
    assert row == {"state": "paused", "phase": "observe", "weight": 50}
    assert cloud.apps() == before
    cloud.cluster.execute("SELECT a67.deployment_resume('hello')")
    assert wait_end(cloud, rollout_id)[0] == "succeeded"
    settled(cloud, 2, 2)


def test_a_singleton_and_its_node(make_cloud):
    """With on_partition stop another one starts only when the first has certainly ended itself."""
    cloud = make_cloud("oak", "elm", settings={"a67.push_timeout": "500ms"})
    cloud.deploy("hello", replicas=1, on_partition="stop", partition_deadline="1s", stop_grace="500ms")
    home = cloud.endpoints("hello")[0]["node"]
    cloud.agents[home].kill_node()
    cloud.wait_nodes("failed", home)
    failed_at = cloud.cluster.value("SELECT status_at FROM a67_internal.node_observed JOIN a67_internal.node USING (node_id) WHERE name = %s", home)
    wait_until("it is lost, and waited for", lambda: cloud.replicas("hello"),
               until=lambda rows: len(rows) == 1 and rows[0]["state"] == "lost" and "certainly" in rows[0]["error"])
    wait_until("another one serves", lambda: cloud.answers("hello"), timeout=40,
               until=lambda found: len(found) == 1 and all(f"from {home}" not in text and " from " in text for text in found.values()))
    waited = cloud.cluster.value("SELECT extract(epoch FROM min(created_at) - %s)::float8 FROM a67.replica WHERE node <> %s",
                                 failed_at, home)
    assert waited >= 12.5
    cloud.agents[home].restart()
    wait_until("one process is left", cloud.apps, timeout=40, until=lambda apps: [len(one) for one in apps.values()].count(1) == 1
               and not apps[home])
