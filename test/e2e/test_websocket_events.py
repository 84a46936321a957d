"""What the WebSocket at /ws sends: the caller's own events, those it missed, none lost, none twice.

Writers that commit out of order are ordinary connections with open transactions.
"""

import contextlib
import random
import threading

from subscriber import EVENT, TYPE, User, ann, base, bob, cluster, nothing_more, numbers  # noqa: F401

from cloud.wait import wait_until
from cloud.websocket import WebSocket


# -- events ------------------------------------------------------------------------------------------

def test_events_come_to_their_owner_alone(base, ann, bob):
    with WebSocket(base, ann.token) as hers, WebSocket(base, bob.token) as his:
        hers.subscribe("*")
        his.subscribe("*")
        for n in range(5):
            ann.event(n)
            bob.event(n + 100)
        assert numbers(hers.receive() for _ in range(5)) == [0, 1, 2, 3, 4]
        assert numbers(his.receive() for _ in range(5)) == [100, 101, 102, 103, 104]
        assert nothing_more(hers) == nothing_more(his) == []


def test_administrators_get_their_own_events_too(cluster, base, ann):
    root = User(cluster, "root@example.org")
    cluster.execute("UPDATE a67_internal.\"user\" SET role = 'a67_admin' WHERE user_id = %s", root.id)
    root.token = cluster.value("SELECT a67.token_create(%s, '1 hour')", root.id)
    with WebSocket(base, root.token) as one:
        one.subscribe("*")
        ann.event(1)
        root.event(2)
        assert numbers([one.receive()]) == [2]


def test_an_event_is_whole(cluster, base, ann):
    with WebSocket(base, ann.token) as one:
        one.subscribe(TYPE)
        ann.event(7)
        event = one.receive()
    assert list(event) == ["id", "type", "at", "subject_id", "payload"]
    row = cluster.row("SELECT event_id, subject_id::text FROM a67.event ORDER BY event_id DESC LIMIT 1")
    assert (event["id"], event["subject_id"]) == (row["event_id"], row["subject_id"])
    assert event["type"] == TYPE and event["payload"] == {"n": 7}
    assert event["at"].endswith("+00:00")


def test_types_are_chosen_and_left(base, ann):
    with WebSocket(base, ann.token) as one:
        one.send({"subscribe": ["alert.raised", "replica.changed"]})
        assert one.receive() == {"subscribed": ["replica.changed", "alert.raised"]}
        for n, kind in enumerate(("alert.raised", "deployment.changed", "replica.changed", "node.registered")):
            ann.event(n, kind)
        assert numbers([one.receive(), one.receive()]) == [0, 2]
        one.send({"unsubscribe": ["replica.changed"], "subscribe": ["deployment.changed"]})
        one.receive_until(lambda message: message == {"subscribed": ["deployment.changed", "alert.raised"]})
        for n, kind in enumerate(("replica.changed", "deployment.changed")):
            ann.event(n, kind)
        assert numbers([one.receive()]) == [1]
        one.subscribe("*")
        ann.event(3, "of.the.future")
        assert numbers([one.receive()]) == [3]
        one.send({"unsubscribe": ["*"]})
        assert one.receive() == {"subscribed": []}
        ann.event(4)
        assert nothing_more(one) == []


def test_rolled_back_events_are_not_sent(cluster, base, ann):
    with WebSocket(base, ann.token) as one, cluster.connect(autocommit=False) as writer:
        one.subscribe(TYPE)
        writer.execute(EVENT, (ann.id, TYPE, 1))
        writer.rollback()
        ann.event(2)
        assert numbers([one.receive()]) == [2]


def test_an_outsized_payload_is_left_out(cluster, base, ann):
    with WebSocket(base, ann.token) as one:
        one.subscribe(TYPE)
        cluster.execute("SELECT a67_internal._event(%s, %s, gen_random_uuid(),"
                        " jsonb_build_object('x', repeat('y', 300000)))", ann.id, TYPE)
        assert one.receive()["payload"] == {"truncated": True}


# -- what was missed ---------------------------------------------------------------------------------

def test_missed_events_are_replayed_by_id(base, ann, bob):
    start = ann.last_event()
    for n in range(500):
        ann.event(n) if n % 2 == 0 else bob.event(n)
    with WebSocket(base, ann.token) as one:
        events = one.subscribe(TYPE, since=start)
        assert numbers(events) == list(range(0, 500, 2))
        assert numbers(one.subscribe(TYPE, since=events[99]["id"])) == list(range(200, 500, 2))
        assert one.subscribe(TYPE, since=events[-1]["id"]) == []
        assert one.subscribe("alert.raised", since=start) == []
        assert one.subscribe("node.metrics", since=start) == []
        ann.event(1000)
        assert numbers([one.receive()]) == [1000]


def test_ids_that_are_not_there_begin_at_the_next_one(cluster, base, ann):
    start = ann.last_event()
    for n in range(4):
        ann.event(n)
    ids = [row["event_id"] for row in cluster.rows(
        "SELECT event_id FROM a67_internal.event WHERE event_id > %s ORDER BY 1", start)]
    cluster.execute("DELETE FROM a67_internal.event WHERE event_id <= %s", ids[1])
    with WebSocket(base, ann.token) as one:
        assert numbers(one.subscribe(TYPE, since=0)) == [2, 3]
        assert numbers(one.subscribe(TYPE, since=ids[0])) == [2, 3]
        assert numbers(one.subscribe(TYPE, since=ids[2])) == [3]
        assert one.subscribe(TYPE, since=10**15) == []
        ann.event(9)
        assert numbers([one.receive()]) == [9]


def test_two_replays_at_once_are_refused(base, ann):
    start = ann.last_event()
    for n in range(300):
        ann.event(n)
    with WebSocket(base, ann.token) as one:
        one.send({"subscribe": [TYPE], "since": start})
        one.send({"subscribe": ["alert.raised"], "since": start})
        got = one.receive_until(lambda message: "subscribed" in message)
        errors = [message for message in got if "error" in message]
        assert [error["error"]["code"] for error in errors] in ([], ["55006"])
        assert numbers(message for message in got if "payload" in message) == list(range(300))


def test_late_commits_are_neither_lost_nor_sent_twice(cluster, base, ann):
    """The id of an open transaction is lower than those that commit before it."""
    with WebSocket(base, ann.token) as one, cluster.connect(autocommit=False) as slow:
        one.subscribe(TYPE)
        slow.execute(EVENT, (ann.id, TYPE, 1))
        ann.event(2)
        # Both wait for the older transaction: to be told of 2 first would make "since 2" lose 1.
        listed = cluster.client(ann.token).get(f"/api/v1/events?since={ann.last_event() - 1}")
        assert listed.json() == []
        slow.commit()
        events = [one.receive(), one.receive()]
        assert numbers(events) == [1, 2]
        again = one.subscribe(TYPE, since=events[0]["id"])
        assert numbers(again) == [2]


def write_out_of_order(cluster, user, first, count, step, stop):
    """Each round: two events in two transactions, committed in the wrong order."""
    pace = random.Random(first)
    with cluster.connect(autocommit=False) as one, cluster.connect(autocommit=False) as two:
        for n in range(first, first + count * step, 2 * step):
            if stop.wait(pace.uniform(0, 0.08)):
                return
            one.execute(EVENT, (user.id, TYPE, n))
            two.execute(EVENT, (user.id, TYPE, n + step))
            two.commit()
            one.commit()


def visit(base, user, since, seen, total, patience):
    """Connects, catches up, hears some live events, leaves without a word; returns the last id."""
    with WebSocket(base, user.token) as one:
        one.send({"subscribe": [TYPE], "since": since})
        joined = False
        while len(seen) < total and (not joined or patience > 0):
            message = one.receive()
            joined = joined or "subscribed" in message
            if "payload" in message:
                seen.append(message["payload"]["n"])
                since = message["id"]
                patience -= joined
    return since


def test_reconnecting_clients_miss_nothing_of_unruly_writers(cluster, base, ann):
    start, stop, writers, per = ann.last_event(), threading.Event(), 4, 200
    total = writers * per
    threads = [threading.Thread(target=write_out_of_order, args=(cluster, ann, i, per, writers, stop))
               for i in range(writers)]
    for thread in threads:
        thread.start()
    seen, since, visits = [], start, 0
    try:
        while len(seen) < total:
            since = visit(base, ann, since, seen, total, patience=visits % 4)
            visits += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert visits > 20
    assert sorted(seen) == list(range(total))
    order = cluster.rows("SELECT (payload ->> 'n')::integer AS n FROM a67_internal.event"
                         " WHERE event_id > %s ORDER BY xid, event_id", start)
    assert seen == [row["n"] for row in order]


REPLAY = "a67_internal._event_replay(uuid, bigint, xid8, bigint, xid8, bigint, text[], integer)"
GATED = """
ALTER FUNCTION {replay} RENAME TO _event_replay_itself;
CREATE FUNCTION a67_internal._event_replay(owner uuid, since bigint, until_xid xid8, until_id bigint,
    after_xid xid8 DEFAULT NULL, after_id bigint DEFAULT NULL, types text[] DEFAULT NULL, max_rows integer DEFAULT 200)
RETURNS json LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE page json := a67_internal._event_replay_itself(owner, since, until_xid, until_id, after_xid, after_id, types, 2);
BEGIN PERFORM pg_advisory_xact_lock_shared(67); RETURN page; END $$;
GRANT EXECUTE ON FUNCTION {replay} TO a67_authenticator;
""".format(replay=REPLAY)
UNGATED = f"DROP FUNCTION {REPLAY}; ALTER FUNCTION {REPLAY.replace('replay', 'replay_itself')} RENAME TO _event_replay"


@contextlib.contextmanager
def gated_replays(cluster):
    """Inside, pages of replays (of two events) wait after they were read; open() lets them pass."""
    cluster.execute(GATED)
    try:
        with cluster.connect() as gate:
            gate.execute("SELECT pg_advisory_lock(67)")
            yield lambda: gate.execute("SELECT pg_advisory_unlock(67)")
    finally:
        cluster.execute(UNGATED)


def replay_waits(cluster):
    wait_until("a page of the replay waits", lambda: cluster.value(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 67 AND NOT granted"))


def test_events_during_a_replay_are_neither_lost_nor_sent_twice(cluster, base, ann):
    """Events happen while a page is under way, on one socket that catches up and one that is live."""
    start = ann.last_event()
    with gated_replays(cluster) as open_gate, WebSocket(base, ann.token) as late, WebSocket(base, ann.token) as live:
        live.subscribe(TYPE)
        ann.event(0)
        assert numbers([live.receive()]) == [0]
        late.send({"subscribe": [TYPE], "since": start})
        replay_waits(cluster)
        for n in range(1, 6):
            ann.event(n)
            # The feed has passed it, and the socket that catches up must not have it yet.
            assert numbers([live.receive()]) == [n]
        open_gate()
        *missed, last = late.receive_until(lambda message: "subscribed" in message)
        assert numbers(missed) == [0, 1, 2, 3, 4, 5]
        ann.event(6)
        assert numbers([late.receive(), live.receive()]) == [6, 6]
        assert nothing_more(late) == nothing_more(live) == []


def test_unsubscribing_ends_a_replay(cluster, base, ann):
    start = ann.last_event()
    for n in range(6):
        ann.event(n)
    with gated_replays(cluster) as open_gate, WebSocket(base, ann.token) as one:
        one.send({"subscribe": [TYPE], "since": start})
        replay_waits(cluster)
        one.send({"unsubscribe": ["*"]})
        assert one.receive() == {"subscribed": []}
        one.send({"subscribe": [TYPE], "since": start})
        assert one.receive()["error"]["code"] == "55006"
        open_gate()
        wait_until("the page has passed", lambda: cluster.value(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'a67 api worker' AND state = 'active'"),
            until=lambda count: count == 0)
        assert nothing_more(one) == []
        assert numbers(one.subscribe(TYPE, since=start)) == list(range(6))


def test_client_may_leave_during_a_replay(cluster, base, ann):
    start = ann.last_event()
    ann.event(1)
    with gated_replays(cluster) as open_gate:
        with WebSocket(base, ann.token) as one:
            one.send({"subscribe": [TYPE], "since": start})
            replay_waits(cluster)
        wait_until("the client has left", lambda: cluster.value("SELECT sum(clients)::integer FROM a67.listener"),
                   until=lambda clients: clients == 0)
        open_gate()
        with WebSocket(base, ann.token) as one:
            assert numbers(one.subscribe(TYPE, since=start)) == [1]


def test_restored_events_do_not_stop_the_feed(cluster, base, ann):
    """A dump carries transaction ids of another cluster, from the future of this one."""
    ann.event(1)
    cluster.execute("UPDATE a67_internal.event SET xid = '99999999999' WHERE event_id = %s", ann.last_event())
    cluster.execute("SELECT a67_internal._bootstrap()")
    with WebSocket(base, ann.token) as one:
        assert 1 in numbers(one.subscribe(TYPE, since=0))
        ann.event(2)
        assert numbers([one.receive()]) == [2]


# -- metrics -----------------------------------------------------------------------------------------

def make_node(cluster, user, name):
    return cluster.value("""
        WITH n AS (INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
                       max_concurrent_requests)
                   VALUES (%s, %s, 'http://127.0.0.1:1', %s, 1, 1, 1, 1) RETURNING node_id),
             o AS (INSERT INTO a67_internal.node_observed (node_id, metrics_at, cpu_percent, status)
                   SELECT node_id, now() + interval '1 hour', 12.5, 'maintenance' FROM n)
        SELECT node_id::text FROM n""", user.id, name, f"key-{name}")


def test_metrics_of_own_nodes_come_regularly(cluster, base, ann, bob):
    mine, _ = make_node(cluster, ann, "hers"), make_node(cluster, bob, "his")
    with WebSocket(base, ann.token) as one:
        one.subscribe("node.metrics")
        first, second = one.receive(), one.receive()
    for message in (first, second):
        assert (message["id"], message["type"], message["subject_id"]) == (None, "node.metrics", mine)
        assert message["payload"]["node"] == "hers" and message["payload"]["cpu_percent"] == 12.5
    cluster.execute("DELETE FROM a67_internal.node WHERE name IN ('hers', 'his')")
