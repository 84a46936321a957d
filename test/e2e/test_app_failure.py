"""Apps and packages that do not work: the failure is readable and the tries are bounded."""

import hashlib

import psycopg
import pytest

from cloud import deterministic_tar, manifest, package_of, wait_until
from conftest import bring_up


BYE = deterministic_tar(
    {"bye.py": "import sys\nprint('the disk is on fire', flush=True)\nsys.exit(3)\n"})


@pytest.fixture(scope="module")
def cloud():
    """Two nodes and a short patience. What takes longest is deployed first and fails while other
    tests run."""
    for cloud in bring_up(("oak", "elm"), settings={"a67.deploy_timeout": "8s"}):
        try_twice(cloud)
        cloud.create(manifest("ill", put(cloud, package_of()), health_check={
            "path": "/no-such-page", "interval": "500ms", "timeout": "500ms", "retries": 2}))
        yield cloud


@pytest.fixture(scope="module", autouse=True)
def patient():
    """A cloud that waits until the agents themselves give an app up; it fails meanwhile, too."""
    for cloud in bring_up(("oak", "elm")):
        try_twice(cloud)
        cloud.create(manifest("bye", put(cloud, BYE), entrypoint=["python3", "bye.py"]))
        yield cloud


def try_twice(cloud):
    """Two replicas are tried before giving up, instead of five."""
    cloud.cluster.execute("CREATE OR REPLACE FUNCTION a67_internal._place_tries()"
                          " RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2'")


def put(cloud, content):
    return cloud.cluster.value("SELECT a67.package_put(%s)", content)


def smuggle(cloud, content):
    """Stores what package_put() would refuse: agents must not rely on that."""
    return cloud.cluster.value("INSERT INTO a67_internal.package (owner_id, digest, size_bytes, unpacked_bytes, files, content)"
                               " VALUES (a67_internal._operator_id(), %s, %s, 0, 0, %s) RETURNING digest",
                               hashlib.sha256(content).hexdigest(), len(content), content)


def failed(cloud, name, package, **changes):
    """Deploys what cannot work and waits until the controller has given up."""
    cloud.create(manifest(name, package, **changes))
    given_up(cloud, name)


def given_up(cloud, name):
    """Waits until the deployment is failed, for a reason that is told, with an alert."""
    row = cloud.wait_deployment(name, "failed", timeout=120)
    assert row["status_reason"]
    assert cloud.endpoints(name) == []
    assert cloud.cluster.value(
        "SELECT count(*) FROM a67.alert WHERE resolved_at IS NULL AND subject_id = %s",
        row["deployment_id"]) == 1


def tries(cloud, name):
    """How many replicas of the deployment were ever made."""
    return cloud.cluster.value(
        "SELECT count(DISTINCT subject_id) FROM a67.event"
        " WHERE type = 'replica.changed' AND payload ->> 'deployment' = %s", name)


def failure_text(cloud, name):
    """Everything that was recorded about the deployment's failures."""
    rows = cloud.cluster.rows(
        "SELECT payload::text AS text FROM a67.event WHERE payload ->> 'deployment' = %s", name)
    rows += cloud.cluster.rows(
        "SELECT concat_ws(' ', error, log_tail) AS text FROM a67.replica"
        " WHERE deployment = %s", name)
    rows += cloud.cluster.rows(
        "SELECT status_reason AS text FROM a67.deployment WHERE name = %s", name)
    return "\n".join(row["text"] or "" for row in rows)


def settles(cloud, name):
    """After giving up, nothing more is tried: the count stays while the reconciler ticks on."""
    count = tries(cloud, name)
    cloud.cluster.wait_ticks("reconciler", 5)
    assert tries(cloud, name) == count
    assert 1 <= count <= 2, count


def test_program_that_is_not_there(cloud):
    failed(cloud, "absent", put(cloud, package_of()), entrypoint=["./no-such-program"])
    assert "no-such-program" in failure_text(cloud, "absent")
    settles(cloud, "absent")


@pytest.mark.parametrize("content", [
    package_of()[:-40], b"\x1f\x8b" + b"\0" * 100, package_of()[:60],
], ids=["truncated", "garbage", "half"])
def test_corrupt_package_fails_readably(cloud, content, request):
    name = f"corrupt-{request.node.callspec.id}"
    failed(cloud, name, smuggle(cloud, content))
    assert "package" in failure_text(cloud, name)
    settles(cloud, name)


def test_package_that_climbs_out_of_its_directory(cloud):
    package = smuggle(cloud, deterministic_tar({"../../escaped.py": "print('out')\n", "hello.py": ""}))
    failed(cloud, "climber", package)
    for agent in cloud.agents.values():
        assert not list(agent.folder.rglob("escaped.py"))
    assert not list(cloud.cluster.folder.rglob("escaped.py"))


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04 a zip file", None])
def test_what_is_no_gzip_is_not_stored(cloud, content):
    with pytest.raises(psycopg.Error) as caught:
        put(cloud, content)
    assert caught.value.sqlstate == "22023"


def test_digest_is_that_of_the_content(cloud):
    content = package_of()
    assert put(cloud, content) == hashlib.sha256(content).hexdigest()
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        cloud.create(manifest("other", hashlib.sha256(b"other").hexdigest()))


def test_packing_twice_gives_the_same_package():
    assert package_of() == package_of()


def test_app_that_never_becomes_healthy(cloud):
    given_up(cloud, "ill")
    assert "not running within 8s" in failure_text(cloud, "ill")
    settles(cloud, "ill")


def test_owner_may_order_another_try(cloud):
    """Giving up is not for ever: a new command clears the count of failures."""
    given_up(cloud, "ill")
    before = tries(cloud, "ill")
    cloud.cluster.execute("SELECT a67.deployment_start('ill')")
    wait_until("it is tried again", lambda: tries(cloud, "ill"),
               until=lambda count: count > before)


def test_nothing_of_failed_apps_is_left(cloud):
    for row in cloud.cluster.rows("SELECT name FROM a67.deployment"):
        cloud.cluster.execute("SELECT a67.deployment_remove(%s)", row["name"])
    wait_until("no deployment is left", lambda: cloud.cluster.rows(
        "SELECT name, status FROM a67.deployment"), until=lambda rows: not rows, timeout=40)
    cloud.wait_nothing_runs()
    wait_until("every alert is resolved", lambda: cloud.cluster.rows(
        "SELECT message FROM a67.alert WHERE resolved_at IS NULL"), until=lambda rows: not rows)


def test_scale_beyond_capacity_is_told(make_cloud):
    """What fits runs; the rest is named as a shortage and comes when there is room."""
    cloud = make_cloud("oak")
    cores = cloud.cluster.value("SELECT cpu_cores FROM a67_internal.node")
    cloud.deploy("big", replicas=1, resources={"memory": "32MB", "cpu": cores * 0.6})
    cloud.cluster.execute("SELECT a67.deployment_scale('big', 2)")
    row = wait_until("the shortage is told", lambda: cloud.deployment("big"),
                     until=lambda found: "insufficient capacity" in (found["status_reason"] or ""))
    assert row["status"] != "running"
    cloud.wait_serving("big", 1)
    cloud.join("elm")
    cloud.wait_serving("big", 2)
    cloud.wait_deployment("big", "running")


def test_app_that_exits_at_once_fails_with_its_last_words(patient):
    given_up(patient, "bye")
    text = failure_text(patient, "bye")
    assert "process exited with status 3" in text
    assert "the disk is on fire" in text
    settles(patient, "bye")
    patient.wait_nothing_runs()
