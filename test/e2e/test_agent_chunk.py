"""The chunk store of a67-agent as its controller uses it: PUT, GET, HEAD, DELETE, ranges, inventory, reports."""

import hashlib
import http.client
import shutil
import subprocess
import threading
from urllib.parse import urlsplit

import pytest
from agent_alone import AgentAlone
from chunk_client import Chunks, chunk, digest_path, plant
from cloud import wait_until
from cloud.client import unverified_tls

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(scope="module")
def store():
    """One agent for all tests here: each has chunks of its own."""
    agent = AgentAlone()
    agent.start(A67_CHUNK_QUOTA="200M")
    yield Chunks(agent)
    agent.destroy()


# -- one chunk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 65535, 65536, 65537, 1 << 20, 5_000_001])
def test_what_is_put_comes_back(store, size):
    data, digest = chunk(size, f"put {size}")
    assert store.put(data).status == 201
    answer = store.get(digest)
    assert answer.status == 200 and answer.body == data
    assert answer.headers["etag"] == f'"{digest}"' and answer.headers["accept-ranges"] == "bytes"
    assert store.file(digest).stat().st_size == size
    assert store.file(digest).stat().st_mode & 0o777 == 0o400
    assert store.temps() == []


def test_head_tells_the_size(store):
    data, digest = chunk(12345, "head")
    assert store.head(digest).status == 404
    store.put(data)
    answer = store.head(digest)
    assert answer.status == 200 and answer.body == b"" and answer.headers["content-length"] == "12345"


def test_put_again_is_accepted_and_writes_nothing(store):
    data, digest = chunk(100_000, "again")
    assert store.put(data).status == 201
    before = store.file(digest).stat()
    assert store.put(data).status == 200
    after = store.file(digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert store.put(b"x" * 100_000, digest).status == 422
    assert store.get(digest).body == data


def test_delete_removes_and_says_when_there_is_nothing(store):
    data, digest = chunk(1000, "delete")
    assert store.delete(digest).status == 404
    store.put(data)
    assert store.delete(digest).status == 204
    assert not store.file(digest).exists()
    assert store.get(digest).status == 404 and store.delete(digest).status == 404
    assert store.put(data).status == 201


def test_delete_while_it_is_read(store):
    data, digest = chunk(8 << 20, "read on")
    store.put(data)
    url = urlsplit(store.alone.commands.client.base)
    connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=10, context=unverified_tls())
    path = digest_path(digest)
    connection.request("GET", path, headers={"Authorization": f"Bearer {store.token('GET', path)}"})
    answer = connection.getresponse()
    first = answer.read(1000)
    assert store.delete(digest).status == 204 and store.get(digest).status == 404
    assert first + answer.read() == data
    connection.close()


def test_requests_follow_each_other_on_one_connection(store):
    url = urlsplit(store.alone.commands.client.base)
    connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=10, context=unverified_tls())
    for number in range(5):
        data, digest = chunk(70_000, f"kept {number}")
        path = digest_path(digest)
        for method, body, status in (("PUT", data, 201), ("GET", None, 200), ("PUT", data, 200),
                                     ("DELETE", None, 204), ("GET", None, 404)):
            token = store.token(method, path, digest if body else None)
            connection.request(method, path, body=body, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            assert answer.status == status
            got = answer.read()
            assert status != 200 or method != "GET" or got == data
    connection.close()


def test_many_clients_put_the_same_chunk(store):
    data, digest = chunk(2 << 20, "same")
    found = []
    threads = [threading.Thread(target=lambda: found.append(store.put(data).status)) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(found) <= {200, 201} and 201 in found and len(found) == 12
    assert store.get(digest).body == data and store.temps() == []


# -- parts and conditions --------------------------------------------------------------------------


@pytest.mark.parametrize("text, status, part, content_range", [
    ("bytes=0-99", 206, slice(0, 100), "bytes 0-99/70000"),
    ("bytes=69990-", 206, slice(69990, None), "bytes 69990-69999/70000"),
    ("bytes=-5", 206, slice(-5, None), "bytes 69995-69999/70000"),
    ("bytes=100-1000000", 206, slice(100, None), "bytes 100-69999/70000"),
    ("bytes=70000-", 416, None, "bytes */70000"),
    ("bytes=1-2,5-6", 200, slice(None), None),
    ("lines=1-2", 200, slice(None), None),
])
def test_ranges(store, text, status, part, content_range):
    data, digest = chunk(70_000, "range")
    store.put(data)
    answer = store.get(digest, Range=text)
    assert answer.status == status and answer.headers.get("content-range") == content_range
    assert part is None or answer.body == data[part]


def test_what_the_client_has_is_not_sent(store):
    data, digest = chunk(5000, "etag")
    store.put(data)
    answer = store.get(digest, If_None_Match=f'"x", "{digest}"')
    assert answer.status == 304 and answer.body == b"" and answer.headers["etag"] == f'"{digest}"'
    assert store.get(digest, If_None_Match='"x"').body == data
    assert store.get(digest, Range="bytes=0-1", If_Range='"x"').body == data


# -- the inventory ---------------------------------------------------------------------------------


def test_inventory_is_paged_in_order(store):
    sizes = {}
    for number in range(40):
        data, digest = chunk(100 + number, f"list {number}")
        assert store.put(data).status == 201
        sizes[digest] = len(data)
    whole = store.every()
    names = [one["digest"] for one in whole]
    assert names == sorted(set(names)) and set(sizes) <= set(names)
    assert all(one["size"] == sizes[one["digest"]] for one in whole if one["digest"] in sizes)
    assert all(one["verified_at"].startswith("20") for one in whole)
    assert store.every(limit=7) == whole
    assert store.list(f"?after={names[-1]}").json() == {"chunks": [], "next": None}
    assert store.list(f"?limit=1&after={names[3]}").json()["chunks"][0]["digest"] == names[4]
    assert store.list("?rotten=true").json() == {"chunks": [], "next": None}


@pytest.mark.parametrize("query", [
    "limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1x", "limit=", "after=", "after=ab", "after=" + "g" * 64,
    "after=" + EMPTY.upper(), "rotten=1", "rotten="])
def test_strange_pages_are_refused(store, query):
    answer = store.list("?" + query)
    assert answer.status == 400 and "parameter" in answer.json()["message"]


# -- what it reports -------------------------------------------------------------------------------


def test_figures_are_told(store):
    data, digest = chunk(33_333, "figures")
    before = store.metric("a67_chunk_bytes"), store.metric("a67_chunk_stored")
    got = store.metric("a67_chunk_received_total"), store.metric("a67_chunk_sent_bytes_total")
    store.put(data)
    assert (store.metric("a67_chunk_bytes"), store.metric("a67_chunk_stored")) == (before[0] + 33_333, before[1] + 1)
    store.get(digest)
    assert store.metric("a67_chunk_received_total") == got[0] + 1
    assert store.metric("a67_chunk_sent_bytes_total") == got[1] + 33_333
    assert store.metric("a67_chunk_quota_bytes") == 200 << 20
    assert store.metric("a67_chunk_rotten") == 0
    count = store.metric("a67_chunk_stored")
    beat = wait_until("a heartbeat has the figures", lambda: store.alone.controller.beats[-1]["metrics"],
                      until=lambda one: one["chunk_count"] == count)
    assert beat["chunk_bytes"] == before[0] + 33_333 and beat["chunk_rotten"] == 0
    assert beat["chunk_quota_bytes"] == 200 << 20


def test_metrics_are_what_prometheus_reads(store):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = store.alone.commands.get("/metrics").text
    done = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, timeout=30,
                          check=False)
    assert done.returncode == 0 and done.stdout + done.stderr == ""


def test_chunks_outlive_the_agent():
    alone = AgentAlone()
    try:
        store = Chunks(alone.start() and alone)
        data, digest = chunk(100_000, "outlive")
        assert store.put(data).status == 201
        (store.folder / "tmp" / "00000001x").write_bytes(b"what a killed agent left")
        alone.kill()
        alone.run_again()
        assert store.temps() == []
        assert store.get(digest).body == data
        assert wait_until("chunks are counted", lambda: store.metric("a67_chunk_stored")) == 1
        assert store.put(data).status == 200
    finally:
        alone.destroy()


def test_inventory_of_many():
    """Pages of an inventory that an agent finds when it starts."""
    alone = AgentAlone()
    try:
        store = Chunks(alone.start() and alone)
        alone.kill()
        names = plant(store, 600)
        alone.run_again()
        assert wait_until("chunks are counted", lambda: store.metric("a67_chunk_stored"),
                          until=lambda count: count == 600)
        page = store.list(f"?limit=300&after={names[200]}").json()
        assert [one["digest"] for one in page["chunks"]] == names[201:501]
        assert page["next"] == names[500]
        assert page["chunks"][0]["verified_at"] is not None
    finally:
        alone.destroy()
