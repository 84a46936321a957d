-- Recording events and alerts.

CREATE OR REPLACE FUNCTION a67_internal._event(owner_id uuid, type text, subject_id uuid, payload jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    INSERT INTO a67_internal.event (owner_id, type, subject_id, payload)
    VALUES (_event.owner_id, _event.type, _event.subject_id, jsonb_strip_nulls(_event.payload));
    PERFORM a67_internal._wake('listener');
END
$$;

-- ---- alerts ----------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._severity_rank(severity text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN array_position(ARRAY['info', 'warning', 'critical'], severity);

CREATE OR REPLACE FUNCTION a67_internal._alert_json(a a67_internal.alert) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', a.alert_id, 'severity', a.severity,
        'state', CASE WHEN a.resolved_at IS NOT NULL THEN 'resolved' WHEN a.acked_at IS NOT NULL THEN 'acked' ELSE 'open' END,
        'message', a.message, 'count', a.count, 'subject_id', a.subject_id, 'raised_at', a.raised_at, 'last_at', a.last_at,
        'acked_at', a.acked_at, 'acked_by', a.acked_by, 'resolved_at', a.resolved_at, 'resolved_by', a.resolved_by)
$$;

-- What an alert's change causes: an event, and messages to channels.
CREATE OR REPLACE FUNCTION a67_internal._alert_tell(a a67_internal.alert, kind text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._event(a.owner_id, 'alert.' || kind, a.subject_id, jsonb_build_object('alert', a.alert_id,
        'severity', a.severity, 'message', a.message, 'count', a.count));
    PERFORM a67_internal._alert_notify(a, kind);
END
$$;

-- Raises an alert, or counts it again while it is open. Only a new one is told of, and one whose severity rises; an
-- acknowledged one stays acknowledged.
CREATE OR REPLACE FUNCTION a67_internal._alert_raise(owner_id uuid, severity text, subject_id uuid, dedup_key text,
    message text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    before text;
    now_open a67_internal.alert;
BEGIN
    LOOP
        SELECT a.severity INTO before FROM a67_internal.alert a
        WHERE a.dedup_key = _alert_raise.dedup_key AND a.resolved_at IS NULL
        FOR UPDATE;
        IF FOUND THEN
            UPDATE a67_internal.alert a
            SET count = a.count + 1, last_at = now(), message = _alert_raise.message,
                severity = CASE WHEN _severity_rank(_alert_raise.severity) > _severity_rank(before)
                                THEN _alert_raise.severity ELSE before END
            WHERE a.dedup_key = _alert_raise.dedup_key AND a.resolved_at IS NULL
            RETURNING a.* INTO now_open;
            EXIT WHEN now_open.severity <> before;
            RETURN;
        END IF;
        INSERT INTO a67_internal.alert AS a (owner_id, severity, subject_id, dedup_key, message)
        VALUES (_alert_raise.owner_id, _alert_raise.severity, _alert_raise.subject_id, _alert_raise.dedup_key,
                _alert_raise.message)
        ON CONFLICT (dedup_key) WHERE resolved_at IS NULL DO NOTHING
        RETURNING a.* INTO now_open;
        EXIT WHEN FOUND;
    END LOOP;
    PERFORM a67_internal._alert_tell(now_open, 'raised');
END
$$;

-- The condition has passed by itself.
CREATE OR REPLACE FUNCTION a67_internal._alert_resolve(dedup_key text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH resolved AS (
        UPDATE a67_internal.alert a SET resolved_at = now()
        WHERE a.dedup_key = _alert_resolve.dedup_key AND a.resolved_at IS NULL
        RETURNING a)
    SELECT a67_internal._alert_tell(r.a, 'resolved') FROM resolved r
$$;

-- The alert as its owner or an administrator names it, locked.
CREATE OR REPLACE FUNCTION a67_internal._alert_find(alert uuid) RETURNS a67_internal.alert
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    found_alert a67_internal.alert;
BEGIN
    SELECT * INTO found_alert FROM a67_internal.alert a
    WHERE a.alert_id = _alert_find.alert AND (a.owner_id = caller OR a67_internal._is_admin())
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'alert "%" does not exist', _alert_find.alert USING ERRCODE = 'PT404';
    END IF;
    RETURN found_alert;
END
$$;

CREATE OR REPLACE FUNCTION a67.alert_ack(alert uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    a a67_internal.alert := a67_internal._alert_find(alert);
BEGIN
    IF a.resolved_at IS NOT NULL THEN
        RAISE EXCEPTION 'alert "%" is resolved already', alert USING ERRCODE = 'PT409';
    END IF;
    IF a.acked_at IS NULL THEN
        UPDATE a67_internal.alert t SET acked_at = now(), acked_by = a67_internal._user_id()
        WHERE t.alert_id = a.alert_id RETURNING * INTO a;
        PERFORM a67_internal._event(a.owner_id, 'alert.acked', a.subject_id, jsonb_build_object('alert', a.alert_id,
            'severity', a.severity, 'message', a.message, 'acked_by', a.acked_by));
    END IF;
    RETURN a67_internal._alert_json(a);
END
$$;
COMMENT ON FUNCTION a67.alert_ack(uuid) IS
    'Says that an open alert has been seen: no reminders are sent any more. Once is enough, again changes nothing';

CREATE OR REPLACE FUNCTION a67.alert_resolve(alert uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    a a67_internal.alert := a67_internal._alert_find(alert);
BEGIN
    IF a.resolved_at IS NULL THEN
        UPDATE a67_internal.alert t SET resolved_at = now(), resolved_by = a67_internal._user_id()
        WHERE t.alert_id = a.alert_id RETURNING * INTO a;
        PERFORM a67_internal._alert_tell(a, 'resolved');
    END IF;
    RETURN a67_internal._alert_json(a);
END
$$;
COMMENT ON FUNCTION a67.alert_resolve(uuid) IS
    'Closes an alert by hand; most close by themselves. A condition that goes on is raised anew when it is next found';

-- Critical alerts that nobody has seen are told of again once a day; at most 100 a call.
CREATE OR REPLACE FUNCTION a67_internal._alert_remind(now timestamptz) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH due AS (
        SELECT a.alert_id FROM a67_internal.alert a
        WHERE a.resolved_at IS NULL AND a.acked_at IS NULL AND a.severity = 'critical'
          AND a.notified_at <= _alert_remind.now - interval '24 h'
        ORDER BY a.notified_at LIMIT 100
        FOR UPDATE SKIP LOCKED
    ), reminded AS (
        UPDATE a67_internal.alert a SET notified_at = _alert_remind.now FROM due WHERE a.alert_id = due.alert_id
        RETURNING a)
    SELECT a67_internal._alert_notify(r.a, 'reminder') FROM reminded r
$$;

-- Keeps resolved alerts for 90 days; at most 1,000 rows a call, oldest first. Returns how many went.
CREATE OR REPLACE FUNCTION a67_internal._alert_prune(now timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM a67_internal.alert
        WHERE alert_id IN (SELECT a.alert_id FROM a67_internal.alert a
                           WHERE a.resolved_at < _alert_prune.now - interval '90 days' ORDER BY a.resolved_at LIMIT 1000)
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- ---- pruning ---------------------------------------------------------------------------------------------

-- Keeps the event table bounded: at most 1,000 rows a call, oldest first. Returns how many went.
CREATE OR REPLACE FUNCTION a67_internal._event_prune(now timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM a67_internal.event
        WHERE event_id IN (SELECT o.event_id FROM (SELECT event_id, at FROM a67_internal.event ORDER BY event_id LIMIT 1000) o
                           WHERE o.at < _event_prune.now - interval '7 days')
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
