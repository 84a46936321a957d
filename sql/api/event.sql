-- Recording events and alerts.

CREATE OR REPLACE FUNCTION a67_internal._event(owner_id uuid, type text, subject_id uuid, payload jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    INSERT INTO a67_internal.event (owner_id, type, subject_id, payload)
    VALUES (_event.owner_id, _event.type, _event.subject_id, jsonb_strip_nulls(_event.payload));
    SELECT a67_internal._wake('listener')
$$;

-- Raises an alert, or counts it again while it is open; an event only for a new one.
CREATE OR REPLACE FUNCTION a67_internal._alert_raise(owner_id uuid, severity text, subject_id uuid, dedup_key text,
    message text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    times integer;
BEGIN
    INSERT INTO a67_internal.alert AS a (owner_id, severity, subject_id, dedup_key, message)
    VALUES (_alert_raise.owner_id, _alert_raise.severity, _alert_raise.subject_id, _alert_raise.dedup_key,
            _alert_raise.message)
    ON CONFLICT (dedup_key) WHERE resolved_at IS NULL
    DO UPDATE SET count = a.count + 1, last_at = now(), message = excluded.message
    RETURNING a.count INTO times;
    IF times = 1 THEN
        PERFORM a67_internal._event(_alert_raise.owner_id, 'alert.raised', _alert_raise.subject_id,
            jsonb_build_object('severity', severity, 'message', message));
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._alert_resolve(dedup_key text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH resolved AS (
        UPDATE a67_internal.alert a SET resolved_at = now()
        WHERE a.dedup_key = _alert_resolve.dedup_key AND a.resolved_at IS NULL
        RETURNING a.*)
    SELECT a67_internal._event(r.owner_id, 'alert.resolved', r.subject_id, jsonb_build_object('message', r.message))
    FROM resolved r
$$;

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
