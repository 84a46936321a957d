"""The WebSocket at /ws: who gets in, what may be said, and how it ends."""

import contextlib
import json
import signal
import time
import uuid

import psycopg
import pytest
from subscriber import TYPE, User, ann, base, bob, cluster, nothing_more, numbers  # noqa: F401

from cloud.server import Cluster
from cloud.wait import wait_until
from cloud.websocket import TEXT, Closed, Refused, WebSocket


def closes(one, code):
    assert one.wait_closed() == code
    one.socket.close()


# -- admission ---------------------------------------------------------------------------------------

def test_plain_requests_are_told_what_is_spoken_here(cluster, base):
    answer = cluster.client().get("/ws")
    assert answer.status == 426, answer.text
    assert answer.headers["sec-websocket-version"] == "13"
    assert answer.headers["upgrade"] == "websocket"
    assert set(answer.json()) == {"code", "message", "details", "hint"}
    assert cluster.client().post("/ws", {}).status == 405
    with pytest.raises(Refused) as refused:
        WebSocket(base, headers=["Sec-WebSocket-Key: YWJj"])
    assert refused.value.status == 400


def test_token_as_subprotocol(base, ann):
    with WebSocket(base, ann.token) as one:
        assert one.fields["sec-websocket-protocol"] == f"bearer.{ann.token}"
        assert one.subscribe(TYPE) == []
        assert one.close(1000) == 1000


def test_token_as_first_message_and_as_header(base, ann):
    with WebSocket(base) as one:
        one.send({"token": ann.token})
        assert one.subscribe("*") == []
    with WebSocket(base, headers=[f"Authorization: Bearer {ann.token}"]) as one:
        assert one.subscribe("*") == []


def bad_tokens(cluster, user):
    head, body, signature = user.token.split(".")
    make = "SELECT a67_internal._token(%s, %s, %s)"
    return {
        "nonsense": "x",
        "no signature": f"{head}.{body}.",
        "signature of another": f"{head}.{body}.{signature[::-1]}",
        "expired": cluster.value(make, user.id, "a67_user", "-1 minute"),
        "node": cluster.value(make, user.id, "a67_node", "1 hour"),
        "anonymous": cluster.value(make, user.id, "a67_anon", "1 hour"),
        "user who is none": cluster.value(make, uuid.uuid4(), "a67_user", "1 hour"),
        "role that is not the user's": cluster.value(make, user.id, "a67_admin", "1 hour"),
    }


@pytest.mark.parametrize("how", ["subprotocol", "message"])
def test_bad_tokens_close_with_4401(cluster, base, ann, how):
    for name, token in bad_tokens(cluster, ann).items():
        one = WebSocket(base, token if how == "subprotocol" else None)
        if how == "message":
            one.send({"token": token})
        assert one.wait_closed() == 4401, name
        one.socket.close()


def test_anything_before_the_token_closes_with_4401(base):
    for message in ({"subscribe": ["*"]}, {}, {"token": 5}, {"token": ""}):
        one = WebSocket(base)
        one.send(message)
        closes(one, 4401)


def test_silence_closes_with_4401(base):
    one = WebSocket(base)
    began = time.monotonic()
    assert one.wait_closed(timeout=15) == 4401
    assert 9 < time.monotonic() - began < 12
    one.socket.close()


def test_another_users_token_closes(base, ann, bob):
    one = WebSocket(base, ann.token)
    one.subscribe(TYPE)
    one.send({"token": ann.token})
    assert nothing_more(one) == []
    one.send({"token": bob.token})
    closes(one, 4401)


# -- what is said ------------------------------------------------------------------------------------

@pytest.mark.parametrize("message", [
    {}, {"subscribe": []}, {"subscribe": "x"}, {"subscribe": [1]}, {"subscribe": ["node"]},
    {"subscribe": ["*"] * 33}, {"unsubscribe": ["x"]}, {"since": 1}, {"publish": ["*"]},
    {"unsubscribe": ["*"], "since": 1}, {"subscribe": ["*"], "since": -1},
    {"subscribe": ["*"], "since": "1"}, {"subscribe": ["*"], "extra": 1},
    {"subscribe": ["é" * 100]}, {"token": "x", "subscribe": ["*"]},
])
def test_wrong_messages_are_answered_and_the_socket_stays(base, ann, message):
    with WebSocket(base, ann.token) as one:
        one.send(message)
        answer = one.receive()
        assert set(answer) == {"error"} and set(answer["error"]) == {"code", "message"}
        assert answer["error"]["code"] == "22023"
        assert one.subscribe(TYPE) == []


@pytest.mark.parametrize("text, code", [
    ("", 1007), ("{", 1007), ("[]", 1007), ("1", 1007), ('{"subscribe": ["*"]} x', 1007),
    ('{"subscribe": ["*"], "subscribe": ["*"]}', 1007), ("[" * 5000, 1007), ("x" * 16385, 1009),
])
def test_what_is_no_message_closes(base, ann, text, code):
    one = WebSocket(base, ann.token)
    one.send(text)
    closes(one, code)


def test_frames_that_break_the_protocol_close(base, ann):
    for raw, code in ((b"\x81\x01x", 1002), (b"\xc1\x80\0\0\0\0", 1002), (b"\x82\x80\0\0\0\0", 1003),
                      (b"\x81\x81\0\0\0\0\xff", 1007)):
        one = WebSocket(base, ann.token)
        one.socket.sendall(raw)
        closes(one, code)


def test_too_many_messages_close_with_1008(base, ann):
    one = WebSocket(base, ann.token)
    with contextlib.suppress(OSError):
        for _ in range(60):
            one.send({"subscribe": [TYPE]})
    closes(one, 1008)


def test_messages_may_come_in_fragments(base, ann):
    with WebSocket(base, ann.token) as one:
        one.send_frame(TEXT, b'{"subscribe":', final=False)
        one.send_frame(9, b"ping")
        one.send_frame(0, b'["*"]}')
        assert one.receive() == {"subscribed": ["*"]}


# -- ends --------------------------------------------------------------------------------------------

def test_expired_token_closes(cluster, base, ann):
    one = WebSocket(base, cluster.value("SELECT a67.token_create(%s, '3 seconds')", ann.id))
    one.subscribe(TYPE)
    began = time.monotonic()
    closes(one, 4401)
    assert 1 < time.monotonic() - began < 5


def test_fresh_token_keeps_the_socket(cluster, base, ann):
    with WebSocket(base, cluster.value("SELECT a67.token_create(%s, '3 seconds')", ann.id)) as one:
        one.subscribe(TYPE)
        one.send({"token": ann.token})
        with pytest.raises(TimeoutError):
            one.receive(timeout=4)
        ann.event(5)
        assert numbers([one.receive()]) == [5]


def test_logout_closes_at_the_next_change(cluster, base, ann):
    token = ann.login()
    one = WebSocket(base, token)
    one.subscribe(TYPE)
    assert cluster.client(token).post("/api/v1/auth/logout").status == 204
    with pytest.raises(TimeoutError):
        one.receive(timeout=1.1)
    with contextlib.suppress(OSError):
        one.send({"subscribe": ["alert.raised"]})
    closes(one, 4401)


def test_logout_closes_within_the_minute(cluster, base, ann):
    token = ann.login()
    one = WebSocket(base, token)
    one.subscribe(TYPE)
    assert cluster.client(token).post("/api/v1/auth/logout").status == 204
    assert one.wait_closed(timeout=70) == 4401
    one.socket.close()


def test_slow_client_is_dropped_while_others_are_served(cluster, base, ann):
    slow = WebSocket(base, ann.token, receive_buffer=4096)
    slow.subscribe(TYPE)
    with WebSocket(base, ann.token) as good:
        good.subscribe(TYPE)
        for n in range(30):
            cluster.execute("SELECT a67_internal._event(%s, %s, gen_random_uuid(), jsonb_build_object('n', %s::integer,"
                            " 'x', repeat('y', 60000)))", ann.id, TYPE, n)
            assert numbers([good.receive()]) == [n]
        assert slow.wait_closed() in (1013, 1006)
        ann.event(99)
        assert numbers([good.receive()]) == [99]
    slow.socket.close()


def test_slow_client_gets_a_long_replay_page_by_page(cluster, base, ann):
    """Twice what may wait to be sent, to a client that reads little at a time."""
    start = ann.last_event()
    cluster.execute("SELECT a67_internal._event(%s, %s, gen_random_uuid(), jsonb_build_object('n', n, 'x', repeat('y', 2000)))"
                    " FROM generate_series(1, 1000) n", ann.id, TYPE)
    with WebSocket(base, ann.token, receive_buffer=4096) as one:
        assert numbers(one.subscribe(TYPE, since=start)) == list(range(1, 1001))


def test_sockets_count_as_clients(cluster, base, ann):
    def clients():
        return cluster.value("SELECT sum(clients)::integer FROM a67.listener")

    wait_until("all other clients have left", clients, until=lambda count: count == 0)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(WebSocket(base, ann.token)).subscribe(TYPE)
        wait_until("all are counted", clients, until=lambda count: count == 200)
        with pytest.raises((Refused, ConnectionError)):
            WebSocket(base, ann.token)
    wait_until("all have left", clients, until=lambda count: count == 0)
    with WebSocket(base, ann.token) as one:
        assert one.subscribe(TYPE) == []


def test_restarted_listener_loses_nothing(cluster, base, ann):
    with WebSocket(base, ann.token) as one:
        one.subscribe(TYPE)
        ann.event(1)
        since = one.receive()["id"]
        cluster.worker("listener").kill(signal.SIGTERM)
        with pytest.raises(Closed) as closed:
            one.receive()
        assert closed.value.code in (1001, 1006)
    ann.event(2)
    base = cluster.wait_listening()
    with WebSocket(base, ann.token) as one:
        assert numbers(one.subscribe(TYPE, since=since)) == [2]
        ann.event(3)
        assert numbers([one.receive()]) == [3]


def test_lost_api_workers_delay_but_lose_nothing(cluster, base, ann):
    with WebSocket(base, ann.token, timeout=30) as one:
        one.subscribe(TYPE)
        for n in range(3):
            with contextlib.suppress(psycopg.Error):
                cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                " WHERE backend_type = 'a67 api worker'")
            ann.event(n)
            assert numbers([one.receive()]) == [n]


def test_a_message_is_what_the_rest_api_lists(cluster, base, ann):
    with WebSocket(base, ann.token) as one:
        one.subscribe(TYPE)
        start = ann.last_event()
        ann.event(11)
        event = one.receive()
    listed = cluster.client(ann.token).get(f"/api/v1/events?since={start}").json()
    assert json.loads(json.dumps(listed)) == [event]


def test_over_tls():
    with Cluster(settings={"a67.tls": "on"}) as cluster:
        ann = User(cluster, "ann@example.org")
        base, tls = cluster.wait_listening(), cluster.trust()
        assert base.startswith("https://")
        slow = WebSocket(base, ann.token, tls=tls, receive_buffer=4096)
        slow.subscribe(TYPE)
        with WebSocket(base, ann.token, tls=tls) as good:
            good.subscribe(TYPE)
            for n in range(30):
                cluster.execute("SELECT a67_internal._event(%s, %s, gen_random_uuid(), jsonb_build_object('n', %s::integer,"
                                " 'x', repeat('y', 60000)))", ann.id, TYPE, n)
                assert numbers([good.receive()]) == [n]
            assert slow.wait_closed() in (1013, 1006)
            assert numbers(good.subscribe(TYPE, since=0)) == list(range(30))
        slow.socket.close()
