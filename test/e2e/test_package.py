"""Packages from SQL and over the API to the app that runs from them, and what is refused on the way in."""

import gzip
import io
import tarfile

import pytest

from cloud import Client, deterministic_tar, manifest, wait_until

APP = """import http.server, os
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("greeting/text").read().encode())
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Hello).serve_forever()
"""


@pytest.fixture(scope="module")
def operator(shared):
    return shared.cluster.client(shared.cluster.value("SELECT a67.token_create(a67_internal._operator_id())"))


def archive(*entries):
    """A tar.gz of (name, type, target) entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, kind, target in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    return out.getvalue()


def test_app_of_files_given_inline(shared, operator):
    answer = operator.post("/api/v1/packages", {
        "run": f"#!/usr/bin/env python3\n{APP}", "greeting/text": {"base64": "aGVsbG8g4oKs"}, "Dockerfile": "FROM scratch"})
    assert answer.status == 201, answer.text
    digest = answer.json()["digest"]
    created = operator.post("/api/v1/deployments", manifest("inline", digest, entrypoint=["./run"], health_check={"path": "/"}))
    assert created.status == 202, created.text
    try:
        shared.wait_deployment("inline", "running")
        assert Client(shared.endpoints("inline")[0]["url"], timeout=5).get().text == "hello €"
        listed = {one["digest"]: one for one in operator.get("/api/v1/packages").json()}[digest]
        assert listed["files"] == 3 and listed["deployments"] == ["inline"] and listed["expires_at"] is None
        refused = operator.request("DELETE", f"/api/v1/packages/{digest}")
        assert refused.status == 409 and "inline (release 1)" in refused.json()["details"], refused.text
    finally:
        assert operator.request("DELETE", "/api/v1/deployments/inline").status == 202
        wait_until("it is forgotten", lambda: operator.get("/api/v1/deployments/inline").status, until=lambda status: status == 404)
    assert operator.request("DELETE", f"/api/v1/packages/{digest}").status == 204
    assert operator.get(f"/api/v1/packages/{digest}").status == 404


def test_same_files_by_other_ways_are_the_same(shared, operator):
    first = operator.post("/api/v1/packages", {"a": "1", "b/c": "2"}).json()["digest"]
    assert shared.cluster.value("SELECT a67.package_build('{\"b/c\": {\"text\": \"2\"}, \"a\": {\"base64\": \"MQ==\"}}')") == first
    content = operator.get(f"/api/v1/packages/{first}").body
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        assert {entry.name: (entry.mode, entry.mtime, entry.uid) for entry in tar} == {"a": (0o644, 0, 0), "b/c": (0o644, 0, 0)}
    assert operator.put("/api/v1/packages", content).json()["digest"] == first
    assert operator.request("DELETE", f"/api/v1/packages/{first}").status == 204


@pytest.mark.parametrize("body, said", [
    (b"", "gzip"), (b"PK\x03\x04", "gzip"), (b"\x1f\x8b\x08\x00garbage", "tar.gz"),
    (deterministic_tar({"a": "x" * 100000})[:-100], "damaged"),
    (archive(("../a", tarfile.REGTYPE, "")), "\"../a\""), (archive(("/a", tarfile.REGTYPE, "")), "\"/a\""),
    (archive(("out", tarfile.SYMTYPE, "/etc/passwd")), "\"out\" is a link"), (archive(("dev", tarfile.CHRTYPE, "")), "\"dev\""),
    (archive(("fifo", tarfile.FIFOTYPE, "")), "\"fifo\""), (archive(("a", tarfile.REGTYPE, ""), ("a", tarfile.REGTYPE, "")), "collides"),
    (archive(("ü", tarfile.SYMTYPE, "../ü")), "\"ü\""),
], ids=["nothing", "zip", "garbage", "cut", "parent", "absolute", "link", "device", "pipe", "twice", "name"])
def test_package_that_no_agent_would_unpack(operator, body, said):
    answer = operator.put("/api/v1/packages", body)
    assert answer.status == 400, (answer.status, answer.text)
    assert said in answer.json()["message"], answer.text


@pytest.mark.parametrize("files", [[], {}, {"a": 1}, {"../a": ""}, {"a": {"base64": "%"}}, {"a": {"text": "", "mode": "777"}}], ids=str)
def test_files_that_make_no_package(operator, files):
    answer = operator.post("/api/v1/packages", files)
    assert answer.status == 400, (answer.status, answer.text)


def test_directories_that_only_names_imply_count(operator):
    """A short archive of names that would make more directories than files are allowed."""
    body = archive(*((f"{i}{'/d' * 60}/f", tarfile.REGTYPE, "") for i in range(1000)))
    answer = operator.put("/api/v1/packages", body)
    assert answer.status == 400 and "too many files" in answer.json()["message"], answer.text


def test_bomb_is_refused(operator):
    """More than may be unpacked, in a thousandth of that: gzip members with one piece of zeros again and again."""
    piece = gzip.compress(bytes(1 << 24))
    heads = [tarfile.TarInfo(f"zeros{i}") for i in range(3)]
    for entry in heads:
        entry.size = 400 << 20
    answer = operator.put("/api/v1/packages", b"".join(gzip.compress(entry.tobuf()) + piece * 25 for entry in heads))
    assert answer.status == 400 and "zeros2" in answer.json()["message"] and "too large" in answer.json()["message"], answer.text
