"""Cron apps: schedules come due by pg_cron or by the reconciler, each run is one process on one node, its end is kept."""

import os
import signal

import pytest

from cloud import deterministic_tar, wait_until
from conftest import bring_up

# Says that it began, and whatever its arguments say: how long to work, how to end.
JOB = """import os, sys, threading
print("begun", os.environ["A67_REPLICA"], flush=True)
with open(sys.argv[1], "a") as began:
    began.write(os.environ["A67_NODE"] + "\\n")
threading.Event().wait(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""
# Five fields, as pg_cron knows them; every minute would leave no minute to look at.
EVERY_MINUTE = "* * * * *"
NEVER_NOW = "0 0 29 2 *"


@pytest.fixture(scope="module")
def cloud():
    """Two nodes, and a server with pg_cron in it."""
    for cloud in bring_up(("oak", "elm"), settings={
            "shared_preload_libraries": "a67, pg_cron", "cron.database_name": "postgres",
            "cron.use_background_workers": "on"}):
        cloud.package = cloud.put_package(deterministic_tar({"job.py": JOB}))
        cloud.cluster.execute("CREATE EXTENSION pg_cron")
        yield cloud


@pytest.fixture
def job(cloud, tmp_path):
    """Creates a cron app; job.began() tells on which nodes it began. Removed after the test."""
    made = []
    began = tmp_path / "began"

    def make(name, seconds=0, status=0, **changes):
        whole = {"name": name, "app_type": "cron", "package": cloud.package, "resources": {"memory": "32MB", "cpu": 0.1},
                 "entrypoint": ["python3", "job.py", str(began), str(seconds), str(status)], "schedule": NEVER_NOW, **changes}
        cloud.create(whole)
        made.append(name)

    make.began = lambda: began.read_text().split() if began.exists() else []
    yield make
    for name in made:
        cloud.cluster.value("SELECT a67.deployment_remove(%s)", name)
    wait_until("they are gone", lambda: cloud.cluster.value("SELECT count(*) FROM a67.deployment"), timeout=40,
               until=lambda count: count == 0)


def runs(cloud, name):
    return cloud.cluster.rows("SELECT * FROM a67.cron_run WHERE deployment = %s ORDER BY cron_run_id", name)


def wait_run(cloud, name, state, timeout=30):
    """The last run of the app, when it has come to that state."""
    return wait_until(f"a run of {name} is {state}", lambda: runs(cloud, name), timeout=timeout,
                      until=lambda seen: seen and seen[-1]["state"] == state)[-1]


def test_run_by_hand_keeps_result_and_log(cloud, job):
    job("once", status=3)
    run_id = cloud.cluster.value("SELECT a67.deployment_run('once') ->> 'run_id'")
    run = wait_run(cloud, "once", "failed")
    assert str(run["cron_run_id"]) == run_id and run["by_hand"]
    assert run["exit_code"] == 3 and run["duration_ms"] >= 0 and run["node"] in ("oak", "elm")
    assert "begun" in run["log_tail"] and run["started_at"] <= run["finished_at"]
    assert job.began() == [run["node"]]
    wait_until("the node has forgotten it", lambda: cloud.replicas("once"), until=lambda seen: seen == [])
    assert cloud.deployment("once")["status"] == "running"


def test_pg_cron_begins_each_minute_once(cloud, job):
    job("minutely", schedule=EVERY_MINUTE)
    name = "a67 " + str(cloud.cluster.value("SELECT deployment_id FROM a67.deployment WHERE name = 'minutely'"))
    jobs = cloud.cluster.rows("SELECT schedule, command FROM cron.job WHERE jobname = %s", name)
    assert [one["schedule"] for one in jobs] == [EVERY_MINUTE]
    run = wait_run(cloud, "minutely", "succeeded", timeout=90)
    details = cloud.cluster.rows("SELECT d.status, d.return_message FROM cron.job_run_details d JOIN cron.job j USING (jobid)"
                                 " WHERE j.jobname = %s", name)
    assert details and details[0]["status"] == "succeeded", details
    assert len(job.began()) == 1 and not run["by_hand"]
    # It was pg_cron, not the reconciler, who waits for it longer than that.
    begun = cloud.cluster.value("SELECT extract(epoch FROM created_at - scheduled_at)::float8 FROM a67_internal.cron_run"
                                " WHERE cron_run_id = %s", run["cron_run_id"])
    assert begun < 15
    cloud.cluster.value("SELECT a67.deployment_stop('minutely')")
    assert cloud.cluster.value("SELECT count(*) FROM cron.job WHERE jobname = %s", name) == 0
    cloud.cluster.value("SELECT a67.deployment_start('minutely')")
    assert cloud.cluster.value("SELECT count(*) FROM cron.job WHERE jobname = %s", name) == 1


def test_stop_ends_the_run_on_its_node(cloud, job):
    job("long", seconds=600)
    cloud.cluster.value("SELECT a67.deployment_run('long')")
    wait_run(cloud, "long", "running")
    assert len(cloud.processes("long")) == 1
    cloud.cluster.value("SELECT a67.deployment_stop('long')")
    assert runs(cloud, "long")[-1]["state"] == "stopped"
    wait_until("nothing of it is left", lambda: cloud.processes("long"), timeout=30, until=lambda seen: not seen)
    cloud.wait_deployment("long", "stopped")


def test_run_that_takes_too_long_has_failed(cloud, job):
    job("slow", seconds=600, run_timeout="1s", stop_grace="1s")
    cloud.cluster.value("SELECT a67.deployment_run('slow')")
    run = wait_run(cloud, "slow", "failed")
    assert run["error"] and len(job.began()) == 1


def test_program_that_is_not_there(cloud, job):
    job("absent", entrypoint=["./no-such-program"])
    cloud.cluster.value("SELECT a67.deployment_run('absent')")
    run = wait_run(cloud, "absent", "failed", timeout=40)
    assert "no-such-program" in run["error"] and job.began() == []


def test_reconciler_is_the_timer_where_pg_cron_is_not(make_cloud, tmp_path):
    cloud = make_cloud("ash")
    package = cloud.put_package(deterministic_tar({"job.py": JOB}))
    began = tmp_path / "began"
    cloud.create({"name": "alone", "app_type": "cron", "package": package, "schedule": NEVER_NOW,
                  "entrypoint": ["python3", "job.py", str(began), "0", "0"]})
    wait_until("it says so in the log", lambda: cloud.cluster.log.read_text(errors="replace"), timeout=70,
               until=lambda text: "schedules of cron apps are timed by the reconciler: the extension pg_cron is not in this database" in text)
    # What nobody saw for an hour is missed; the last minute is in time, unless it began more than one ago.
    cloud.cluster.execute("UPDATE a67_internal.cron_app SET schedule = %s, next_at = date_trunc('minute', now() - interval '1 hour')", EVERY_MINUTE)
    wait_run(cloud, "alone", "succeeded")
    seen = [run["state"] for run in runs(cloud, "alone")]
    assert seen[:10] == ["missed"] * 10 and set(seen[10:]) <= {"succeeded", "pending", "running", "skipped"}, seen
    assert began.read_text().split() == ["ash"] * seen.count("succeeded")


def test_node_that_dies_fails_its_run(make_cloud, tmp_path):
    cloud = make_cloud("ash", "fir", settings={"a67.heartbeat_interval": "1s"})
    package = cloud.put_package(deterministic_tar({"job.py": JOB}))
    began = tmp_path / "began"
    cloud.create({"name": "fatal", "app_type": "cron", "package": package, "schedule": NEVER_NOW,
                  "entrypoint": ["python3", "job.py", str(began), "600", "0"]})
    cloud.cluster.value("SELECT a67.deployment_run('fatal')")
    run = wait_run(cloud, "fatal", "running")
    cloud.agents[run["node"]].kill_node()
    run = wait_run(cloud, "fatal", "failed", timeout=60)
    assert run["error"].startswith("node lost"), run
    assert began.read_text().split() == [run["node"]]


@pytest.mark.parametrize("victim", ["reconciler", "server"])
def test_run_survives_the_controller(make_cloud, tmp_path, victim):
    cloud = make_cloud("ash")
    package = cloud.put_package(deterministic_tar({"job.py": JOB}))
    began = tmp_path / "began"
    cloud.create({"name": "hardy", "app_type": "cron", "package": package, "schedule": NEVER_NOW,
                  "entrypoint": ["python3", "job.py", str(began), "3", "7"]})
    cloud.cluster.value("SELECT a67.deployment_run('hardy')")
    wait_run(cloud, "hardy", "running")
    if victim == "server":
        cloud.cluster.kill9()
        cloud.cluster.start()
    else:
        os.kill(cloud.cluster.worker_pid("reconciler"), signal.SIGTERM)
    run = wait_run(cloud, "hardy", "failed", timeout=60)
    assert run["exit_code"] == 7 and began.read_text().split() == ["ash"]
