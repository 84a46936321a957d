"""a67-agent's static runtime: files of a directory over HTTP, and nothing else. The controller is played."""

import gzip
import http.client
import io
import os
import signal
import socket
import tarfile
import threading

import pytest
from agent_alone import AgentAlone, desired, new_id
from cloud import wait_until

BIG = os.urandom(3 << 20)
FILES = {"index.html": b"<h1>top</h1>", "style.css": b"a{}", "app.js": b"1", "data.json": b"{}", "logo.svg": b"<svg/>",
         "pic.PNG": b"png", "font.woff2": b"w", "README": b"plain", "mod.wasm": b"\0asm", "docs/index.html": b"docs",
         "docs/a b+c.txt": b"blank", "empty": b"", "big.bin": BIG, ".env": b"SECRET=1", ".git/config": b"secret",
         "docs/.hidden/x": b"secret", "gr\u00fc\u00dfe.txt": b"umlaut"}


def site(files, links=()):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo("public/" + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo("public/" + name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        info = tarfile.TarInfo("outside.txt")
        info.size = 7
        tar.addfile(info, io.BytesIO(b"outside"))
    return gzip.compress(plain.getvalue(), mtime=0)


@pytest.fixture(scope="module")
def alone():
    agent = AgentAlone()
    agent.start()
    yield agent
    agent.destroy()


@pytest.fixture(scope="module")
def served(alone):
    """A running site: (port, replica)."""
    package = alone.controller.package(site(FILES, [("inner.txt", "docs/a b+c.txt"), ("up.txt", "../outside.txt"),
                                                    ("way", "docs")]))
    replica = alone.deploy(package=package, runtime="static", entrypoint=["public"])
    root = alone.state / "apps" / replica / "1" / "public"
    # What a package cannot have: put there afterwards.
    os.symlink("/etc/passwd", root / "passwd.txt")
    os.symlink("/etc", root / "etc")
    os.mkfifo(root / "pipe")
    return alone.controller.replica(replica)["port"], replica


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_files_come_with_their_type(served):
    for name, kind in (("index.html", "text/html; charset=utf-8"), ("style.css", "text/css; charset=utf-8"),
                       ("app.js", "text/javascript; charset=utf-8"), ("data.json", "application/json"),
                       ("logo.svg", "image/svg+xml"), ("pic.PNG", "image/png"), ("font.woff2", "font/woff2"),
                       ("mod.wasm", "application/wasm"), ("README", "application/octet-stream"),
                       ("empty", "application/octet-stream")):
        status, headers, body = ask(served[0], "/" + name)
        assert (status, headers["Content-Type"], body) == (200, kind, FILES[name])
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Accept-Ranges"] == "bytes"


def test_a_directory_is_its_index(served):
    assert ask(served[0], "/")[2] == b"<h1>top</h1>"
    assert ask(served[0], "/docs/")[2] == b"docs"
    status, headers, _ = ask(served[0], "/docs?x=1")
    assert (status, headers["Location"]) == (301, "/docs/?x=1")
    assert ask(served[0], "/.git/")[0] == 404


def test_names_are_decoded(served):
    assert ask(served[0], "/docs/a%20b+c.txt")[2] == b"blank"
    assert ask(served[0], "/gr%C3%BC%C3%9Fe.txt")[2] == b"umlaut"
    assert ask(served[0], "/docs/a+b+c.txt")[0] == 404


def test_head_has_no_body(served):
    status, headers, body = ask(served[0], "/big.bin", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(BIG)), b"")


def test_large_files_arrive_whole(served):
    assert ask(served[0], "/big.bin")[2] == BIG


@pytest.mark.parametrize("path", [
    "/../outside.txt", "/docs/../../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt", "/docs/..%2F..%2Foutside.txt",
    "/.env", "/.git/config", "/docs/.hidden/x", "/%2eenv", "/./index.html", "//etc/passwd", "/etc/passwd", "/passwd.txt",
    "/up.txt", "/pipe", "/docs%2findex.html", "/%00", "/index.html%00.txt", "/%zz", "/nothing", "/index.html/", "/docs//x",
    "/" + "a" * 3000])
def test_nothing_else_is_served(served, path):
    status, _, body = ask(served[0], path)
    assert status in (400, 404) and b"root:" not in body and b"SECRET" not in body and b"outside" not in body


def test_links_that_stay_inside_are_followed(served):
    assert ask(served[0], "/inner.txt")[2] == b"blank"
    assert ask(served[0], "/way/index.html")[2] == b"docs"


def test_what_is_known_is_not_sent_again(served):
    _, headers, _ = ask(served[0], "/style.css")
    tag = headers["ETag"]
    for known in (tag, "W/" + tag, '"other", ' + tag, "*"):
        status, again, body = ask(served[0], "/style.css", If_None_Match=known)
        assert (status, body, again["ETag"]) == (304, b"", tag)
    assert ask(served[0], "/style.css", If_None_Match='"other"')[0] == 200


def test_replicas_of_one_release_have_one_tag(alone, served):
    package = alone.controller.package(site(FILES, [("inner.txt", "docs/a b+c.txt"), ("up.txt", "../outside.txt"),
                                                    ("way", "docs")]))
    other = alone.deploy(package=package, runtime="static", entrypoint=["public"])
    tags = {ask(port, "/style.css")[1]["ETag"] for port in (served[0], alone.controller.replica(other)["port"])}
    assert len(tags) == 1
    alone.commands.delete(other, 1)


@pytest.mark.parametrize("wanted, status, part", [
    ("bytes=0-9", 206, slice(0, 10)), ("bytes=100-", 206, slice(100, None)), ("bytes=-5", 206, slice(-5, None)),
    ("bytes=0-99999999999", 206, slice(0, None)), ("bytes=1-1", 206, slice(1, 2)), ("bytes=5-2", 200, slice(0, None)),
    ("bytes=0-1,4-5", 200, slice(0, None)), ("lines=1-2", 200, slice(0, None)), ("bytes=x", 200, slice(0, None)),
    (f"bytes={len(BIG)}-", 416, None)])
def test_ranges(served, wanted, status, part):
    got, headers, body = ask(served[0], "/big.bin", Range=wanted)
    assert got == status
    if part is None:
        assert headers["Content-Range"] == f"bytes */{len(BIG)}"
    else:
        assert body == BIG[part]
    if status == 206:
        first = list(range(len(BIG)))[part][0]
        assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(BIG)}"


def test_a_range_of_another_version_is_all_of_it(served):
    tag = ask(served[0], "/big.bin", "HEAD")[1]["ETag"]
    assert ask(served[0], "/big.bin", Range="bytes=0-9", If_Range=tag)[0] == 206
    assert ask(served[0], "/big.bin", Range="bytes=0-9", If_Range='"old"')[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_other_methods_are_refused(served, method):
    status, headers, _ = ask(served[0], "/index.html", method)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


def test_requests_that_are_none_are_refused(served):
    for text in (b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served[0]), timeout=10) as connection:
            connection.sendall(text)
            assert connection.recv(100).split()[1] in (b"400", b"414", b"431")
    assert ask(served[0], "/")[0] == 200


def test_many_at_once(served):
    found = []

    def get():
        found.append(ask(served[0], "/big.bin")[2] == BIG)

    threads = [threading.Thread(target=get) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 16


def test_what_has_begun_is_sent_to_its_end(alone):
    content = os.urandom(32 << 20)
    package = alone.controller.package(site({"index.html": b"x", "big": content}))
    replica = alone.deploy(package=package, runtime="static", entrypoint=["public"], stop_grace_ms=10000)
    port = alone.controller.replica(replica)["port"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/big")
    answer = connection.getresponse()
    head = answer.read(1 << 20)
    alone.commands.delete(replica, 1)
    wait_until("nobody new is let in", lambda: refuses(port))
    assert head + answer.read() == content
    connection.close()
    wait_until("it is gone", lambda: alone.commands.delete(replica, 1).status, until=lambda status: status == 204)


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_is_supervised_like_any_app(alone, served):
    pid = alone.controller.replica(served[1])["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until("it is back", lambda: alone.controller.replica(served[1]),
               until=lambda one: one["state"] == "running" and one["pid"] != pid)
    assert ask(alone.controller.replica(served[1])["port"], "/docs/")[2] == b"docs"


def test_the_whole_package_without_an_entrypoint(alone):
    package = alone.controller.package(site({"index.html": b"x"}))
    replica = alone.deploy(package=package, runtime="static", entrypoint=[],
                           health_check={"path": "/outside.txt", "interval_ms": 200, "timeout_ms": 1000, "retries": 2})
    assert ask(alone.controller.replica(replica)["port"], "/outside.txt")[2] == b"outside"
    alone.commands.delete(replica, 1)


@pytest.mark.parametrize("entrypoint", [["nothing"], ["outside.txt"], ["public", "second"]])
def test_a_directory_that_is_none(alone, entrypoint):
    package = alone.controller.package(site({"index.html": b"x"}))
    replica = new_id()
    answer = alone.commands.put(replica, desired(package, 1, runtime="static", entrypoint=entrypoint))
    if answer.status == 202:
        wait_until("it says why", lambda: "a67-static: " in alone.commands.logs(replica).text)
    else:
        assert answer.status == 400
    alone.commands.delete(replica, 1)
