"""The listener on the wire, byte by byte: requests that somebody could smuggle another one in, clients
that are slow or rude, and the corners of HTTP/1.1 (RFC 9112) that ordinary clients use."""

import contextlib
import re
import socket
import time

import pytest

from cloud.server import Cluster

HOST = b"Host: a\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\n" + HOST
CALL = b"POST /rpc/version HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def cluster():
    settings = {"a67.header_timeout": "1s", "a67.idle_timeout": "2s", "a67.rate_limits": "off"}
    with Cluster(settings=settings) as one:
        yield one


@contextlib.contextmanager
def dialled(cluster, *pieces):
    """A connection on which these bytes were sent."""
    host, port = cluster.listener_url().removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            peer.sendall(piece)
        yield peer


def everything(peer):
    """What comes until the listener closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := peer.recv(65536):
            received += piece
    return received


def until(peer, end):
    received = b""
    while end not in received:
        piece = peer.recv(65536)
        assert piece, f"closed after {received!r}"
        received += piece
    return received


def statuses(cluster, *pieces):
    """The statuses that answer these bytes, until the listener closes the connection."""
    with dialled(cluster, *pieces) as peer:
        return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", everything(peer))]


# -- smuggling: what two parsers could read in two ways is refused, and nothing after it is read ----


@pytest.mark.parametrize("request_bytes", [
    CALL + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    CALL + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    CALL + b"Content-Length: 2\r\nContent-Length: 2, 3\r\n\r\n{}",
    CALL + b"Content-Length: +2\r\n\r\n{}",
    CALL + b"Content-Length: 0x2\r\n\r\n{}",
    CALL + b"Content-Length: -1\r\n\r\n",
    CALL + b"Content-Length: 99999999999999999999\r\n\r\n",
    CALL + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    CALL + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    CALL + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    CALL + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    CALL + b"X: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
    CALL + b" X: 1\r\n\r\n",
    CALL + b"X: a\0b\r\n\r\n",
    CALL + b"X: a\rb\r\n\r\n",
    CALL + b"X\r\n\r\n",
    CALL + b": x\r\n\r\n",
    b"POST /rpc/version HTTP/1.1\r\n\r\n",
    CALL + HOST + b"\r\n",
    b"GET /healthz\r\n\r\n",
    b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /healthz HTTP/1.1 \r\n" + HOST + b"\r\n",
    b"GET /health\0z HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
])
def test_ambiguous_requests_are_refused_and_end_the_connection(cluster, request_bytes):
    found = statuses(cluster, request_bytes + HEALTH + b"\r\n")
    assert len(found) == 1 and found[0] in (400, 501), found


@pytest.mark.parametrize("chunks", [
    b"2\r\n{}0\r\n\r\n", b"2\r\n{}\r\nx\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n",
    b"2\n{}\r\n0\r\n\r\n", b"ffffffffffffffff\r\n{}", b"10000000000000002\r\n{}\r\n0\r\n\r\n", b"\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\nX y\r\n\r\n",
])
def test_bad_chunks_are_refused_and_end_the_connection(cluster, chunks):
    found = statuses(cluster, CALL + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + HEALTH + b"\r\n")
    assert len(found) == 1 and found[0] in (400, 413), found


def test_good_chunks_in_any_pieces(cluster):
    request = CALL + b"Connection: close\r\nTransfer-Encoding: Chunked\r\n\r\n1;a=b\r\n{\r\n0001\r\n}\r\n0\r\nX-T: 1\r\n\r\n"
    assert statuses(cluster, request) == [200]
    assert statuses(cluster, *(request[i:i + 1] for i in range(len(request)))) == [200]


def test_versions(cluster):
    assert statuses(cluster, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[0] in (400, 505)
    assert statuses(cluster, b"GET /healthz HTTP/3.0\r\n" + HOST + b"\r\n")[0] in (400, 505)
    assert statuses(cluster, b"GET /healthz HTTP/1.0\r\n\r\n") == [200]
    assert statuses(cluster, b"BREW /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")[0] in (405, 501)


# -- what ordinary clients do ------------------------------------------------------------------------


def test_head_has_no_body(cluster):
    with dialled(cluster, b"HEAD /healthz HTTP/1.1\r\n" + HOST + b"\r\n", HEALTH + b"Connection: close\r\n\r\n") as peer:
        text = everything(peer)
    first, second = text.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200") and first.endswith(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", first)[1]
    assert second.startswith(b"200") and len(second.split(b"\r\n\r\n", 1)[1]) == int(length) > 0


def test_options_and_allow(cluster):
    http = cluster.client()
    answer = http.request("OPTIONS", "/rpc/version")
    assert answer.status == 204 and "POST" in answer.headers["allow"] and answer.body == b""
    answer = http.request("DELETE", "/rpc/version")
    assert answer.status == 405 and "POST" in answer.headers["allow"]
    assert http.request("OPTIONS", "/nothing/here").status == 404


def test_absolute_form(cluster):
    assert statuses(cluster, b"GET http://a/healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n") == [200]


def test_continue_is_said_before_the_body(cluster):
    head = CALL + b"Connection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with dialled(cluster, head) as peer:
        assert until(peer, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(b"{}")
        assert everything(peer).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("head, status", [
    (b"PUT /api/v1/packages HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n", 401),
    (CALL + b"Content-Length: 99000000\r\n", 413),
    (b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n", 404),
])
def test_refusal_instead_of_continue(cluster, head, status):
    assert statuses(cluster, head + b"Expect: 100-continue\r\n\r\n") == [status]


def test_other_expectations_fail(cluster):
    assert statuses(cluster, CALL + b"Content-Length: 2\r\nExpect: wonders\r\n\r\n{}")[0] == 417


def test_pipelined_requests(cluster):
    request = CALL + b"Content-Length: 2\r\n\r\n{}"
    assert statuses(cluster, (HEALTH + b"\r\n" + request) * 20 + HEALTH + b"Connection: close\r\n\r\n") == [200] * 41


def test_body_of_one_request_is_not_the_next(cluster):
    """Bytes behind the announced length are the next request, whatever they look like."""
    hidden = b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(cluster, CALL + b"Content-Length: 2\r\n\r\n{}" + hidden) == [200, 200]
    assert statuses(cluster, CALL + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(hidden) + hidden) == [400]


# -- too much, too slow ------------------------------------------------------------------------------


def test_too_large(cluster):
    assert statuses(cluster, HEALTH + b"X: " + b"x" * 20000 + b"\r\n\r\n") == [431]
    assert statuses(cluster, HEALTH + b"X: 1\r\n" * 200 + b"\r\n") == [431]
    assert statuses(cluster, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n") == [414]
    assert statuses(cluster, CALL + b"Transfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 40) == [413]


def test_header_that_never_ends_is_cut_off(cluster):
    """A byte now and then does not buy time: the whole head has a deadline."""
    began = time.monotonic()
    with dialled(cluster, HEALTH) as peer:
        peer.settimeout(0.2)
        received = b""
        while time.monotonic() - began < 10:
            try:
                piece = peer.recv(65536)
                received += piece
                if not piece:
                    break
            except TimeoutError:
                with contextlib.suppress(OSError):
                    peer.sendall(b"X: y\r\n")
            except ConnectionResetError:
                break
    assert received.startswith(b"HTTP/1.1 408 ")
    assert 0.8 < time.monotonic() - began < 4


def test_many_slow_clients_keep_nobody_waiting(cluster):
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(dialled(cluster, HEALTH))
        began = time.monotonic()
        assert cluster.client().rpc("version").status == 200
        assert time.monotonic() - began < 1


def test_idle_connection_is_closed_quietly(cluster):
    with dialled(cluster, HEALTH + b"\r\n") as peer:
        until(peer, b"\r\n\r\n")
        began = time.monotonic()
        assert b"HTTP/1.1" not in everything(peer)
        assert 1 < time.monotonic() - began < 6


def test_half_closed_client_gets_its_answer(cluster):
    with dialled(cluster, CALL + b"Content-Length: 2\r\n\r\n{}") as peer:
        peer.shutdown(socket.SHUT_WR)
        assert everything(peer).startswith(b"HTTP/1.1 200 ")
