-- Events in an order that readers can follow, for the listener's WebSockets and for GET /api/v1/events.
--
-- Ids are given out before transactions commit, so a reader that remembers the highest id would miss what commits late.
-- The order is therefore (xid, event_id), and only rows of transactions older than every running one are read: in front
-- of a position once reached nothing can appear any more. The price: events wait for older transactions still running.
-- A position is such a pair; (horizon, 0) is behind everything that could be read with that horizon.

-- What the client of a WebSocket gets for an event; an outsized payload must not fill its queue.
CREATE OR REPLACE FUNCTION a67_internal._event_message(e a67_internal.event) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT json_build_object('id', e.event_id, 'type', e.type, 'at', e.at, 'subject_id', e.subject_id, 'payload',
        CASE WHEN octet_length(e.payload::text) <= 65536 THEN e.payload ELSE '{"truncated": true}' END)::text
$$;

-- Where to go on for a client that has seen the event `since`. An id that is unknown or pruned stands for the oldest
-- later event that is kept; behind all of them it stands for now.
CREATE OR REPLACE FUNCTION a67_internal._event_position(since bigint, OUT xid xid8, OUT event_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    SELECT e.xid, e.event_id INTO _event_position.xid, _event_position.event_id
    FROM a67_internal.event e WHERE e.event_id = since;
    IF NOT FOUND THEN
        SELECT e.xid, e.event_id - 1 INTO _event_position.xid, _event_position.event_id
        FROM a67_internal.event e WHERE e.event_id > since ORDER BY e.xid, e.event_id LIMIT 1;
    END IF;
    xid := coalesce(xid, pg_snapshot_xmin(pg_current_snapshot()));
    event_id := coalesce(event_id, 0);
END
$$;

-- Events of all owners behind a position, at most max_rows and about 256 kB of them, and the position reached. after_xid
-- NULL: none, and the position is now. "held": some are committed that cannot be read yet; "more": ask again at once.
CREATE OR REPLACE FUNCTION a67_internal._event_feed(after_xid xid8 DEFAULT NULL, after_id bigint DEFAULT NULL,
    max_rows integer DEFAULT 500) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN (
    WITH horizon AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid),
    page AS MATERIALIZED (
        SELECT p.*, row_number() OVER w AS place, sum(octet_length(p.message)) OVER w AS bytes
        FROM (SELECT e.xid, e.event_id, e.owner_id, e.type, a67_internal._event_message(e) AS message
              FROM a67_internal.event e
              WHERE (e.xid, e.event_id) > (after_xid, after_id) AND e.xid < (SELECT h.xid FROM horizon h)
              ORDER BY e.xid, e.event_id LIMIT max_rows + 1) p
        WINDOW w AS (ORDER BY p.xid, p.event_id)),
    taken AS MATERIALIZED (SELECT p.* FROM page p WHERE p.place = 1 OR p.place <= max_rows AND p.bytes <= 262144),
    reached AS (
        SELECT t.xid, t.event_id, true AS more FROM taken t
        WHERE (SELECT count(*) FROM page) > (SELECT count(*) FROM taken)
        UNION ALL SELECT h.xid, 0, false FROM horizon h
        ORDER BY more DESC, xid DESC, event_id DESC LIMIT 1)
    SELECT json_build_object('xid', r.xid::text, 'id', r.event_id, 'more', r.more,
        'held', EXISTS (SELECT FROM a67_internal.event e WHERE e.xid >= (SELECT h.xid FROM horizon h)),
        'events', (SELECT coalesce(json_agg(json_build_object('owner', t.owner_id, 'type', t.type, 'message', t.message)
                                            ORDER BY t.xid, t.event_id), '[]') FROM taken t))
    FROM reached r);
END
$$;

-- The same for one owner and some types (NULL: all), up to a position that the feed has reached: what a client missed.
-- after_xid NULL: behind the event `since`, which may itself be behind that position.
CREATE OR REPLACE FUNCTION a67_internal._event_replay(owner uuid, since bigint, until_xid xid8, until_id bigint,
    after_xid xid8 DEFAULT NULL, after_id bigint DEFAULT NULL, types text[] DEFAULT NULL, max_rows integer DEFAULT 200)
RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN (
    WITH start AS MATERIALIZED (
        SELECT after_xid AS xid, after_id AS event_id WHERE after_xid IS NOT NULL
        UNION ALL SELECT p.xid, p.event_id FROM a67_internal._event_position(since) p WHERE after_xid IS NULL),
    page AS MATERIALIZED (
        SELECT p.*, row_number() OVER w AS place, sum(octet_length(p.message)) OVER w AS bytes
        FROM (SELECT e.xid, e.event_id, e.type, a67_internal._event_message(e) AS message
              FROM a67_internal.event e
              WHERE e.owner_id = owner
                AND (e.xid, e.event_id) > ((SELECT s.xid FROM start s), (SELECT s.event_id FROM start s))
                AND (e.xid, e.event_id) <= (until_xid, until_id)
                AND (types IS NULL OR e.type = ANY (types))
              ORDER BY e.xid, e.event_id LIMIT max_rows + 1) p
        WINDOW w AS (ORDER BY p.xid, p.event_id)),
    taken AS MATERIALIZED (SELECT p.* FROM page p WHERE p.place = 1 OR p.place <= max_rows AND p.bytes <= 65536),
    reached AS (
        SELECT t.xid, t.event_id, true AS more FROM taken t
        WHERE (SELECT count(*) FROM page) > (SELECT count(*) FROM taken)
        UNION ALL SELECT greatest(s.xid, until_xid), CASE WHEN s.xid > until_xid THEN s.event_id
            WHEN s.xid < until_xid THEN until_id ELSE greatest(s.event_id, until_id) END, false FROM start s
        ORDER BY more DESC, xid DESC, event_id DESC LIMIT 1)
    SELECT json_build_object('xid', r.xid::text, 'id', r.event_id, 'more', r.more, 'held', false,
        'events', (SELECT coalesce(json_agg(json_build_object('owner', owner, 'type', t.type, 'message', t.message)
                                            ORDER BY t.xid, t.event_id), '[]') FROM taken t))
    FROM reached r);
END
$$;

-- The latest metrics of the owners' nodes that have reported within the last seconds, in the shape of events without an
-- id. Too many nodes are sampled: metrics are a picture of the moment, nobody misses one.
CREATE OR REPLACE FUNCTION a67_internal._node_metrics(owners uuid[], seconds integer) RETURNS json
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT json_build_object('events', coalesce(json_agg(json_build_object('owner', m.owner_id, 'type', 'node.metrics', 'message',
        json_build_object('id', NULL, 'type', 'node.metrics', 'at', m.metrics_at, 'subject_id', m.node_id, 'payload',
            json_build_object('node', m.name, 'status', m.status, 'cpu_percent', m.cpu_percent,
                'memory_percent', m.memory_percent, 'memory_free_bytes', m.memory_free_bytes, 'disk_percent', m.disk_percent,
                'load1', m.load1, 'active_requests', m.active_requests))::text)), '[]'))
    FROM (SELECT n.owner_id, n.name, o.* FROM a67_internal.node n JOIN a67_internal.node_observed o USING (node_id)
          WHERE n.owner_id = ANY (owners) AND n.desired_state <> 'removed'
            AND o.metrics_at > clock_timestamp() - make_interval(secs => _node_metrics.seconds)
          ORDER BY random() LIMIT 1000) m
$$;

-- Rows that were restored into another cluster carry transaction ids of the old one, which may lie in this one's future.
-- They are old: they go in front of everything. Called when the controller starts.
CREATE OR REPLACE FUNCTION a67_internal._event_rebase() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    UPDATE a67_internal.event e SET xid = '1'
    WHERE e.xid >= pg_snapshot_xmax(pg_current_snapshot()) AND e.xid IS DISTINCT FROM pg_current_xact_id_if_assigned()
$$;
