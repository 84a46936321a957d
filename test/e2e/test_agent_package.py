"""a67-agent and packages: digests, caches, archives made to do harm. The controller is played."""

import gzip
import hashlib
import io
import os
import tarfile

import pytest
from agent_alone import AgentAlone, desired, new_id
from agent_fault import Clock, preload
from cloud import deterministic_tar, wait_until


@pytest.fixture(scope="module")
def alone():
    agent = AgentAlone()
    agent.start()
    yield agent
    agent.destroy()


@pytest.fixture
def hurried():
    """An agent whose time can be made to fly, and its clock."""
    agent = AgentAlone()
    clock = Clock(agent.folder / "clock")
    yield agent.start("join", agent.controller.url, agent.controller.join_token(), **preload(clock=clock.path)), clock
    agent.destroy()


def entry(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(*entries, form=tarfile.PAX_FORMAT):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def link(name, target):
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hard(name, target):
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def pax(name, content=b"", type=tarfile.REGTYPE, linkname="", **records):
    """An entry whose extended header says otherwise."""
    return entry(name, content, type=type, linkname=linkname, pax_headers=records)


def sparse(name, size):
    """A file of old GNU form that is all hole."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:386 + 24] = b"%011o\0" % (size - 512 if size < 8 ** 11 else 0) + b"%011o\0" % 0
    block[483:483 + 12] = (0x80 << 88 | size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + bytes(1024), mtime=0)


GOOD = [
    ("plain", archive(entry("a/b/c.txt", b"c")), {"a/b/c.txt": b"c"}),
    ("dots", archive(entry("./x", b"x"), entry("./d/", type=tarfile.DIRTYPE), entry("d/./y", b"y")),
     {"x": b"x", "d/y": b"y"}),
    ("inner links", archive(entry("lib/v1", b"one"), link("lib/now", "v1"), link("bin/x", "../lib/now"),
                            hard("copy", "lib/v1")), {"bin/x": b"one", "copy": b"one"}),
    ("names beyond ascii", archive(entry("grüße/ñ", b"ok")), {"grüße/ñ": b"ok"}),
    ("long names", archive(entry("/".join(["d" * 100] * 8), b"deep")), {"/".join(["d" * 100] * 8): b"deep"}),
    ("ustar", archive(entry("u", b"u"), form=tarfile.USTAR_FORMAT), {"u": b"u"}),
    ("setuid is dropped", archive(entry("s", b"s", mode=0o6755), entry("d", type=tarfile.DIRTYPE, mode=0o1777)),
     {"s": b"s"}),
    ("pax long path", archive(pax("short", b"p", path="a/" * 50 + "long")), {"a/" * 50 + "long": b"p"}),
    ("same directory twice", archive(entry("d", type=tarfile.DIRTYPE), entry("d", type=tarfile.DIRTYPE), entry("d/x", b"x")),
     {"d/x": b"x"}),
    ("gnu", archive(entry("g" * 200, b"g"), form=tarfile.GNU_FORMAT), {"g" * 200: b"g"}),
]


@pytest.mark.parametrize("content, files", [one[1:] for one in GOOD], ids=[one[0] for one in GOOD])
def test_good_archives_arrive_whole(alone, content, files):
    replica = new_id()
    package = alone.controller.package(content)
    alone.commands.put(replica, desired(package, 1, app_type="worker", entrypoint=["sleep", "1000"],
                                        health_check=None))
    alone.controller.wait_state(replica, "running")
    for name, text in files.items():
        assert (alone.state / "apps" / replica / "1" / name).read_bytes() == text
    alone.commands.delete(replica, 1)


def test_modes_are_tamed(alone):
    replica = new_id()
    package = alone.controller.package(archive(
        entry("run", b"#!/bin/sh\nexec sleep 1000\n", mode=0o6777), entry("data", b"x", mode=0o000)))
    alone.commands.put(replica, desired(package, 1, app_type="worker", entrypoint=["./run"], health_check=None))
    alone.controller.wait_state(replica, "running")
    root = alone.state / "apps" / replica / "1"
    assert (root / "run").stat().st_mode & 0o7777 == 0o755
    assert (root / "data").stat().st_mode & 0o7777 == 0o644
    alone.commands.delete(replica, 1)


HARMFUL = [
    ("absolute name", archive(entry("/tmp/a67-escaped", b"x"))),
    ("parent", archive(entry("../escaped", b"x"))),
    ("parent inside", archive(entry("a/../../escaped", b"x"))),
    ("parent as last part", archive(entry("a/..", type=tarfile.DIRTYPE))),
    ("link to absolute", archive(link("etc", "/etc"))),
    ("link out", archive(link("up", "../x"))),
    ("link out from below", archive(link("a/up", "../../x"))),
    ("link with a turn", archive(link("a/turn", "b/../../..")) ),
    ("empty link", archive(link("none", ""))),
    ("write through a link", archive(entry("real/x", b"x"), link("way", "real"), entry("way/y", b"y"))),
    ("file over a link", archive(entry("real", b"x"), link("way", "real"), entry("way", b"y"))),
    ("twice the same", archive(entry("a", b"1"), entry("a", b"2"))),
    ("file over directory", archive(entry("a/b", b"1"), entry("a", b"2"))),
    ("directory over file", archive(entry("a", b"1"), entry("a/b", b"2"))),
    ("hard link out", archive(hard("passwd", "/etc/passwd"))),
    ("hard link up", archive(hard("passwd", "../../../node.key"))),
    ("hard link to nothing", archive(hard("x", "nothing"))),
    ("hard link to a link", archive(entry("a", b"x"), link("b", "a"), hard("c", "b"))),
    ("character device", archive(entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3))),
    ("block device", archive(entry("disk", type=tarfile.BLKTYPE, devmajor=8))),
    ("pipe", archive(entry("pipe", type=tarfile.FIFOTYPE))),
    ("pax path override", archive(pax("harmless", path="/tmp/a67-escaped"))),
    ("pax path that climbs", archive(pax("harmless", path="../escaped"))),
    ("pax link override", archive(pax("up", type=tarfile.SYMTYPE, linkname="inner", linkpath="/etc/passwd"))),
    ("pax hard link override", archive(entry("inner", b"x"), pax("up", type=tarfile.LNKTYPE, linkname="inner",
                                                                linkpath="../../../node.key"))),
    ("pax size that lies", archive(pax("grown", size="99999999999"))),
    ("pax sparse of great size", archive(pax("hole", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                                                        "GNU.sparse.name": "hole", "GNU.sparse.realsize": str(1 << 40)},
                                             content=b"1\n1099511627775\n1\n" + bytes(497)))),
    ("pax sparse name that climbs", archive(pax("hole", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                                                           "GNU.sparse.name": "../escaped", "GNU.sparse.realsize": "1"},
                                                content=b"0\n" + bytes(510)))),
    ("old sparse of great size", sparse("hole", 1 << 40)),
    ("long name that climbs", archive(entry("d/" * 60 + "../" * 61 + "escaped", b"x"), form=tarfile.GNU_FORMAT)),
    ("contiguous climbs", archive(entry("../escaped", b"x", type=tarfile.CONTTYPE))),
    ("directory twice, then a link", archive(entry("d", type=tarfile.DIRTYPE), entry("d", type=tarfile.DIRTYPE),
                                             link("d", "x"))),
    ("links in a ring", archive(link("a", "b"), link("b", "a"), entry("a/x", b"x"))),
    ("hard link over a file", archive(entry("a", b"1"), entry("b", b"2"), hard("b", "a"))),
    ("hard link to a directory", archive(entry("d/x", b"1"), hard("e", "d"))),
    ("absolute link behind dots", archive(link("a", ".//../..//etc"))),
    ("name that is a dot", archive(entry(".", b"x"))),
    ("too long a part", archive(entry("p" * 256, b"x"))),
    ("too deep", archive(entry("d/" * 70 + "x", b"x"))),
    ("not gzip", b"just some text"),
    ("empty", b""),
    ("gzip of no tar", gzip.compress(b"no tar at all" * 100)),
    ("cut", archive(entry("a", os.urandom(100000)))[:50000]),
]


@pytest.mark.parametrize("content", [one[1] for one in HARMFUL], ids=[one[0] for one in HARMFUL])
def test_harmful_archives_are_refused_at_once(alone, content):
    replica = new_id()
    before = {path for path in alone.folder.rglob("*") if "apps" not in path.parts}
    package = alone.controller.package(content)
    alone.commands.put(replica, desired(package, 1, entrypoint=["python3", "app.py"]))
    seen = alone.controller.wait_state(replica, "failed")
    assert "package" in seen["error"] and seen["restarts"] == 0 and seen["pid"] is None
    after = {path for path in alone.folder.rglob("*") if "apps" not in path.parts}
    assert not [path for path in after - before if "escaped" in path.name]
    assert not os.path.exists("/tmp/a67-escaped")
    assert not (alone.state / "apps" / replica / "1").exists()
    alone.commands.delete(replica, 1)


def test_a_bomb_is_stopped(alone):
    """Two gigabytes of zeros in two megabytes."""
    plain = io.BytesIO()
    with gzip.GzipFile(fileobj=plain, mode="wb", compresslevel=6, mtime=0) as packed:
        info = tarfile.TarInfo("zeros")
        info.size = 2 << 30
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        block = bytes(1 << 20)
        for _ in range(64):
            packed.write(block)
    replica = new_id()
    alone.commands.put(replica, desired(alone.controller.package(plain.getvalue()), 1))
    assert "too large" in alone.controller.wait_state(replica, "failed")["error"]
    alone.commands.delete(replica, 1)


def test_many_sparse_files_cannot_claim_more_than_the_limit_together(alone):
    holes = archive(*[pax(f"hole{i}", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": f"hole{i}",
                                         "GNU.sparse.realsize": str(300 << 20)},
                          content=b"1\n%d\n1\n" % ((300 << 20) - 1) + bytes(500)) for i in range(4)])
    replica = new_id()
    alone.commands.put(replica, desired(alone.controller.package(holes), 1))
    seen = alone.controller.wait_state(replica, "failed")
    assert "package" in seen["error"]
    alone.commands.delete(replica, 1)


def test_too_many_files(alone):
    content = archive(*[entry(f"f{i}") for i in range(50001)], form=tarfile.USTAR_FORMAT)
    replica = new_id()
    alone.commands.put(replica, desired(alone.controller.package(content), 1))
    assert "too many files" in alone.controller.wait_state(replica, "failed", timeout=60)["error"]
    alone.commands.delete(replica, 1)


def test_wrong_digest_is_given_up_and_never_unpacked(hurried):
    alone, clock = hurried
    replica = new_id()
    package = alone.controller.package(deterministic_tar({"app.py": "evil"}), digest="ab" * 32)
    alone.commands.put(replica, desired(package, 1))
    assert clock.hurry(alone, replica, "failed")["error"] == "package does not match its digest"
    assert not (alone.state / "cache" / f"{'ab' * 32}.tar.gz").exists()
    assert not (alone.state / "apps" / replica / "1").exists()


def test_missing_package_is_given_up(hurried):
    alone, clock = hurried
    replica = new_id()
    alone.commands.put(replica, desired({"digest": "cd" * 32, "path": "/api/v1/packages/" + "cd" * 32}, 1))
    assert "answered 404" in clock.hurry(alone, replica, "failed")["error"]


def test_controller_in_trouble_is_asked_again(alone):
    package = alone.controller.package(deterministic_tar({"app.py": "import signal; signal.pause()"}))
    alone.controller.statuses[package["path"]] = 503
    replica = new_id()
    alone.commands.put(replica, desired(package, 1, app_type="worker", health_check=None))
    wait_until("the error is told", lambda: alone.controller.replica(replica),
               until=lambda one: one is not None and one["error"] is not None)
    assert alone.controller.replica(replica)["state"] == "fetching"
    del alone.controller.statuses[package["path"]]
    alone.controller.wait_state(replica, "running", timeout=60)
    alone.commands.delete(replica, 1)


def test_package_is_fetched_once_and_a_damaged_copy_again(alone):
    content = deterministic_tar({"app.py": "import signal; signal.pause() # cached"})
    package = alone.controller.package(content)
    fetched = lambda: alone.controller.seen.count(package["path"])  # noqa: E731
    change = {"app_type": "worker", "health_check": None}
    for expected in (1, 1):
        replica = new_id()
        alone.commands.put(replica, desired(package, 1, **change))
        alone.controller.wait_state(replica, "running")
        assert fetched() == expected
        alone.commands.delete(replica, 1)
    copy = alone.state / "cache" / f"{hashlib.sha256(content).hexdigest()}.tar.gz"
    copy.write_bytes(deterministic_tar({"app.py": "raise SystemExit('tampered')"}))
    replica = new_id()
    alone.commands.put(replica, desired(package, 1, **change))
    alone.controller.wait_state(replica, "running")
    assert fetched() == 2 and copy.read_bytes() == content
    alone.commands.delete(replica, 1)
