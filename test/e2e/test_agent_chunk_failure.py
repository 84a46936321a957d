"""The chunk store of a67-agent when things go wrong: forged commands, clients that lie or vanish, rot, full disks, kills."""

import hashlib
import os
import random
import threading
import time

import pytest
from agent_alone import AgentAlone, start_on_small_disk
from chunk_client import Chunks, chunk, digest_path, read_status
from cloud import wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_controller import Commands, sign


@pytest.fixture(scope="module")
def store():
    """One agent for all tests that leave it whole."""
    agent = AgentAlone()
    agent.start()
    yield Chunks(agent)
    agent.destroy()


@pytest.fixture
def own():
    """Chunks of an agent of this test alone, which starts it."""
    agent = AgentAlone()
    yield Chunks(agent)
    agent.destroy()


def every_file(store):
    return sorted(str(one.relative_to(store.folder)) for one in store.folder.rglob("*") if one.is_file())


# -- who may -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("wrong", ["none", "key", "path", "method", "expired", "body"])
def test_commands_without_a_good_token_are_refused(store, method, wrong):
    data, digest = chunk(1000, f"token {method} {wrong}")
    if method != "PUT":
        store.put(data)
    path, before = digest_path(digest), every_file(store)
    claims = store.alone.commands.claims(method, path, data if method == "PUT" else b"")
    key = store.alone.controller.key
    if wrong == "key":
        key = Ed25519PrivateKey.generate()
    elif wrong == "path":
        claims["path"] = digest_path("0" * 64)
    elif wrong == "method":
        claims["method"] = "POST"
    elif wrong == "expired":
        claims.update(iat=int(time.time()) - 200, exp=int(time.time()) - 150)
    elif wrong == "body":
        claims["body_sha256"] = "0" * 64
    token = "" if wrong == "none" else sign(claims, key)
    answer = store.send(method, path, data if method == "PUT" else None, token=token or "x")
    assert answer.status == 401
    assert every_file(store) == before


def test_a_token_is_spent_by_its_head(store):
    data, digest = chunk(1000, "spent")
    path = digest_path(digest)
    token = store.token("PUT", path, digest)
    assert store.send("PUT", path, data, token=token).status == 201
    assert store.send("PUT", path, data, token=token).status == 401
    token = store.token("GET", path)
    assert store.send("GET", path, token=token).status == 200
    assert store.send("GET", path, token=token).status == 401


def test_a_removal_is_not_repeated_to_the_next_agent(own):
    """It forgets which tokens were spent, and the chunk may be there again."""
    own.alone.start()
    data, digest = chunk(1000, "repeated")
    path = digest_path(digest)
    own.put(data)
    early = sign(own.alone.commands.claims("DELETE", path, iat=int(time.time()) - 10), own.alone.controller.key)
    own.alone.kill()
    own.alone.run_again()
    assert own.send("DELETE", path, token=early).status == 401
    assert own.get(digest).body == data and own.delete(digest).status == 204


@pytest.mark.parametrize("path", [
    "/v1/chunks/", "/v1/chunks/abc", "/v1/chunks/" + "A" * 64, "/v1/chunks/" + "a" * 65, "/v1/chunks/" + "a" * 64 + "/x",
    "/v1/chunks/../replicas", "/v1/chunks/%2e%2e/" + "a" * 61, "/v1/chunks/" + "g" * 64])
def test_strange_paths_lead_nowhere(store, path):
    for method in ("GET", "PUT", "DELETE"):
        assert store.send(method, path).status == 404
    assert store.send("POST", digest_path("a" * 64)).status == 405


# -- bodies that are not what they should be -------------------------------------------------------


@pytest.mark.parametrize("change", ["bit", "short", "long", "other"])
def test_wrong_bytes_are_refused_and_leave_nothing(store, change):
    data, digest = chunk(300_000, f"wrong {change}")
    sent = {"bit": data[:-1] + bytes([data[-1] ^ 1]), "short": data[:-1], "long": data + b"x",
            "other": b""}[change]
    answer = store.put(sent, digest)
    assert answer.status == 422 and "digest" in answer.json()["message"]
    assert store.temps() == [] and store.head(digest).status == 404
    assert store.put(data).status == 201


def test_a_length_is_needed_and_has_a_limit(store):
    digest = "0" * 64
    path = digest_path(digest)
    connection = store.connect()
    connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                       f"Authorization: Bearer {store.token('PUT', path, digest)}\r\n\r\n0\r\n\r\n".encode())
    assert read_status(connection) == 411
    connection.close()
    for length, status in (((64 << 20) + 1, 413), (1 << 62, 413)):
        connection = store.begin_put(digest, length)
        assert read_status(connection) == status
        connection.close()


def test_clients_that_vanish_leave_nothing(store):
    data, digest = chunk(1 << 20, "vanish")
    connections = [store.begin_put(digest, len(data)) for _ in range(10)]
    for number, connection in enumerate(connections):
        connection.sendall(data[:100_000 * number])
    wait_until("uploads have begun", store.temps, until=lambda names: len(names) == 10)
    assert store.put(data).status == 201
    for connection in connections:
        connection.close()
    wait_until("uploads are dropped", store.temps, until=lambda names: names == [])
    assert store.get(digest).body == data


def test_a_slow_client_is_not_in_the_way(store):
    data, digest = chunk(200_000, "slow")
    slow = store.begin_put(digest, len(data))
    for at in range(0, len(data), 20_000):
        slow.sendall(data[at:at + 20_000])
        began = time.monotonic()
        other, name = chunk(50_000, f"quick {at}")
        assert store.put(other).status == 201 and store.get(name).body == other
        assert time.monotonic() - began < 5
    assert read_status(slow) == 201
    slow.close()
    assert store.get(digest).body == data


def test_a_reader_that_does_not_read_is_not_in_the_way(store):
    data, digest = chunk(16 << 20, "unread")
    store.put(data)
    path = digest_path(digest)
    lazy = store.connect()
    lazy.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n"
                 f"Authorization: Bearer {store.token('GET', path)}\r\n\r\n".encode())
    assert store.get(digest).body == data
    lazy.close()
    assert store.get(digest, Range="bytes=0-3").body == data[:4]


def test_uploads_leave_room_for_commands(store):
    """Half of the clients may be uploads; the next one is told to come back."""
    waiting = [store.begin_put(hashlib.sha256(b"%d" % number).hexdigest(), 10) for number in range(32)]
    wait_until("uploads have begun", store.temps, until=lambda names: len(names) == 32)
    data, digest = chunk(10, "one too many")
    assert store.put(data).status == 503
    assert store.head(digest).status == 404 and store.list().status == 200
    for connection in waiting:
        connection.close()
    wait_until("uploads are dropped", store.temps, until=lambda names: names == [])
    assert store.put(data).status == 201


# -- rot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 150_000, 299_999])
def test_a_changed_chunk_is_never_handed_out(store, at):
    data, digest = chunk(300_000, f"changed {at}")
    store.put(data)
    store.rot(digest, at, unseen=False)
    answer = store.get(digest)
    assert answer.status == 410 and "rotten" in answer.json()["message"]
    assert store.get(digest, Range="bytes=5-9").status == 410 and store.head(digest).status == 410
    assert [one["digest"] for one in store.every(query="&rotten=true")].count(digest) == 1
    assert digest not in [one["digest"] for one in store.every()]
    assert (store.folder / "rotten" / digest).exists()
    # A good copy takes its place.
    assert store.put(data).status == 201 and store.get(digest).body == data
    assert not (store.folder / "rotten" / digest).exists()


def test_a_truncated_chunk_is_never_handed_out(store):
    data, digest = chunk(300_000, "truncated")
    store.put(data)
    os.chmod(store.file(digest), 0o600)
    os.truncate(store.file(digest), 1000)
    assert store.get(digest).status == 410
    assert store.delete(digest).status == 204 and store.get(digest).status == 404


def test_a_chunk_verified_long_ago_is_hashed_before_it_is_read(store):
    data, digest = chunk(9 << 20, "long ago")
    store.put(data)
    store.age(digest, 400 * 86400)
    old = store.file(digest).stat().st_mtime_ns
    found = []
    threads = [threading.Thread(target=lambda: found.append(store.get(digest).body == data)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [True] * 4
    assert store.file(digest).stat().st_mtime_ns > old
    store.rot(digest, 5 << 20)
    store.age(digest, 400 * 86400)
    assert store.get(digest).status == 410


def test_the_scrub_finds_what_nobody_reads(own):
    own.alone.start(A67_SCRUB_INTERVAL="0.001")
    pieces = [chunk(1000 + number, f"scrub {number}") for number in range(30)]
    for data, _ in pieces:
        assert own.put(data).status == 201
    for _, digest in pieces[:3]:
        own.rot(digest, 10)
    wait_until("rotten chunks are put aside", lambda: own.metric("a67_chunk_rotten"), until=lambda count: count == 3)
    assert sorted(os.listdir(own.folder / "rotten")) == sorted(digest for _, digest in pieces[:3])
    assert own.get(pieces[0][1]).status == 410 and own.get(pieces[3][1]).body == pieces[3][0]
    assert own.alone.text().count("is rotten and put aside") == 3
    wait_until("a heartbeat says so", lambda: own.alone.controller.beats[-1]["metrics"]["chunk_rotten"],
               until=lambda count: count == 3)
    assert wait_until("others are verified", lambda: own.metric("a67_chunk_scrubbed_total"), until=lambda n: n >= 30)
    # It is remembered.
    own.alone.kill()
    own.alone.run_again(A67_SCRUB_INTERVAL="0.001")
    assert own.get(pieces[1][1]).status == 410


# -- no room -----------------------------------------------------------------------------------------


def test_the_quota_holds(own):
    own.alone.start(A67_CHUNK_QUOTA="100K")
    first, second = chunk(60_000, 1)[0], chunk(50_000, 2)[0]
    assert own.put(first).status == 201
    answer = own.put(second)
    assert answer.status == 507 and "quota" in answer.json()["message"]
    assert own.put(first).status == 200
    held = own.begin_put(chunk(42_000, 3)[1], 42_000)
    wait_until("an upload has begun", own.temps)
    assert own.put(chunk(1000, 4)[0]).status == 507
    held.close()
    wait_until("its promise is given back", lambda: own.put(chunk(1000, 4)[0]).status, until=lambda s: s == 201)
    assert own.delete(hashlib.sha256(first).hexdigest()).status == 204
    assert own.put(second).status == 201


def test_the_disk_is_not_filled_by_chunks(own):
    start_on_small_disk(own.alone, "8m", A67_CHUNK_QUOTA="100%")
    count = 0
    while True:
        answer = own.put(chunk(500_000, count)[0])
        if answer.status != 201:
            break
        count += 1
    assert answer.status == 507 and "disk" in answer.json()["message"]
    assert 12 <= count <= 15
    assert own.get(chunk(500_000, 0)[1]).status == 200
    assert own.delete(chunk(500_000, 0)[1]).status == 204
    assert own.put(chunk(400_000, "again")[0]).status == 201


def test_a_disk_that_fills_up_meanwhile(own):
    start_on_small_disk(own.alone, "16m", A67_CHUNK_QUOTA="100%")
    kept, name = chunk(100_000, "kept")
    assert own.put(kept).status == 201
    data, digest = chunk(8 << 20, "cut off")
    connection = own.begin_put(digest, len(data))
    connection.sendall(data[:1 << 20])
    (own.alone.folder / "fill").touch()
    wait_until("disk is full", (own.alone.folder / "fill.done").exists)
    try:
        connection.sendall(data[1 << 20:])
    except OSError:
        pass  # it has been answered already
    assert read_status(connection) in (507, None)
    connection.close()
    assert own.head(digest).status == 404 and own.put(chunk(1000, 5)[0]).status == 507
    assert own.get(name).body == kept and own.delete(name).status == 204
    assert own.alone.commands.get("/health").status == 200


# -- kills -------------------------------------------------------------------------------------------


def test_killed_at_any_moment(own):
    """What was answered 201 is there and whole, what was answered 204 is gone; of all else nothing is left over."""
    dice = random.Random(67)
    alone = own.alone.start()
    stored, gone = {}, set()
    for turn in range(8):
        stop, lock = threading.Event(), threading.Lock()

        def work(worker, turn=turn, stop=stop, lock=lock):
            own_dice, number = random.Random(worker * 1000 + turn), 0
            while not stop.is_set():
                data, digest = chunk(own_dice.randrange(200_000), f"{worker} {turn} {number}")
                number += 1
                try:
                    if own.put(data).status == 201:
                        with lock:
                            stored[digest] = len(data)
                    if own_dice.random() < 0.3:
                        with lock:
                            stored.pop(digest, None)
                        if own.delete(digest).status == 204:
                            with lock:
                                gone.add(digest)
                except OSError:
                    return  # killed meanwhile: nothing is known of this one

        workers = [threading.Thread(target=work, args=(one,)) for one in range(4)]
        for one in workers:
            one.start()
        stop.wait(0.05 + dice.random() * 0.25)
        alone.kill()
        stop.set()
        for one in workers:
            one.join()
        alone.run_again()
        assert own.temps() == []
        there = {one["digest"]: one["size"] for one in own.every()}
        assert {digest: there.get(digest) for digest in stored} == stored
        assert not gone & set(there)
        for digest in there:
            assert hashlib.sha256(own.file(digest).read_bytes()).hexdigest() == digest
    assert len(stored) > 20 and gone
    assert own.metric("a67_chunk_rotten") == 0
    assert isinstance(alone.commands, Commands)
