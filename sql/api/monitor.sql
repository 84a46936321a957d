-- The monitor: judges nodes by heartbeats and probes. The worker only calls _monitor_plan and _monitor_record.
-- Two signals must be missing before a node is failed: its heartbeat and its answer to a probe.

-- A heartbeat counts until one interval and a fifth (jitter of the agent) and the flush of the live table have passed.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_deadline(now timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT _heartbeat_deadline.now - current_setting('a67.heartbeat_interval')::interval * 1.2 - interval '1500 ms'
$$;

-- Metrics of fresh heartbeats, in batches from the live table. Status is left to the monitor.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_record(now timestamptz, node_ids uuid[], at timestamptz[], metrics jsonb[])
RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    updated integer;
    waiting boolean;
BEGIN
    WITH beat AS (
        SELECT b.node_id, least(b.at, _heartbeat_record.now) AS at, b.metrics
        FROM unnest(node_ids, _heartbeat_record.at, _heartbeat_record.metrics) b (node_id, at, metrics)
    ), stored AS (
        UPDATE a67_internal.node_observed o
        SET last_heartbeat_at = greatest(o.last_heartbeat_at, b.at),
            metrics_at = b.at,
            cpu_percent = (b.metrics ->> 'cpu_percent')::real,
            memory_percent = (b.metrics ->> 'memory_percent')::real,
            memory_free_bytes = (b.metrics ->> 'memory_free_bytes')::bigint,
            disk_percent = (b.metrics ->> 'disk_percent')::real,
            load1 = (b.metrics ->> 'load1')::real,
            active_requests = (b.metrics ->> 'active_requests')::integer
        FROM beat b WHERE o.node_id = b.node_id
        RETURNING o.status)
    SELECT count(*), bool_or(s.status <> 'ready') INTO updated, waiting FROM stored s;
    IF waiting THEN
        PERFORM a67_internal._wake('monitor');
    END IF;
    RETURN updated;
END
$$;

-- One judgement of one node: the state machine's step on a sign, and all that follows from a change.
-- sign NULL derives it from the metrics of the latest heartbeat. Returns whether the status changed.
CREATE OR REPLACE FUNCTION a67_internal._node_judge(node_id uuid, now timestamptz, sign text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    o a67_internal.node_observed;
    n a67_internal.node;
    step record;
BEGIN
    SELECT * INTO n FROM a67_internal.node t WHERE t.node_id = _node_judge.node_id;
    SELECT * INTO o FROM a67_internal.node_observed t WHERE t.node_id = _node_judge.node_id FOR UPDATE;
    sign := coalesce(sign, CASE WHEN greatest(o.cpu_percent, o.memory_percent) > 90 THEN 'beat_busy' ELSE 'beat' END);
    SELECT * INTO step FROM a67_internal._node_step(o.status, o.failures, o.goods, sign);
    UPDATE a67_internal.node_observed t
    SET status = step.status, failures = step.failures, goods = step.goods, epoch = t.epoch + 1,
        judged_heartbeat_at = t.last_heartbeat_at,
        status_at = CASE WHEN t.status <> step.status THEN _node_judge.now ELSE t.status_at END,
        status_reason = CASE WHEN t.status <> step.status THEN sign ELSE t.status_reason END
    WHERE t.node_id = _node_judge.node_id;
    IF step.status = o.status THEN
        RETURN false;
    END IF;
    PERFORM a67_internal._event(n.owner_id, 'node.status.changed', n.node_id, jsonb_build_object(
        'node', n.name, 'from', o.status, 'to', step.status, 'sign', sign));
    IF step.status = 'failed' THEN
        PERFORM a67_internal._alert_raise(n.owner_id, 'critical', n.node_id, 'node-failed:' || n.node_id,
            format('node "%s" failed: neither heartbeat nor answer to a probe', n.name));
    ELSIF step.status IN ('ready', 'busy', 'removed') THEN
        PERFORM a67_internal._alert_resolve('node-failed:' || n.node_id);
    END IF;
    PERFORM a67_internal._wake('reconciler');
    RETURN true;
END
$$;

-- Judges what heartbeats alone can tell, and returns the probes to send: GET /health of every silent node.
CREATE OR REPLACE FUNCTION a67_internal._monitor_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    deadline timestamptz := a67_internal._heartbeat_deadline(_monitor_plan.now);
    probe_timeout interval := current_setting('a67.probe_timeout')::interval;
    probe_pause interval := least(current_setting('a67.heartbeat_interval')::interval, interval '5 s');
BEGIN
    PERFORM a67_internal._event_prune(_monitor_plan.now), a67_internal._audit_prune(_monitor_plan.now);
    -- News from nodes that are heard; a ready node that stays ready costs no write.
    PERFORM a67_internal._node_judge(o.node_id, _monitor_plan.now, NULL)
    FROM a67_internal.node_observed o
    WHERE o.last_heartbeat_at > deadline AND o.last_heartbeat_at IS DISTINCT FROM o.judged_heartbeat_at
      AND (o.status NOT IN ('ready', 'removed') OR o.failures > 0 OR greatest(o.cpu_percent, o.memory_percent) > 90);
    -- Silence alone makes a node suspect; the probes below decide.
    PERFORM a67_internal._node_judge(o.node_id, _monitor_plan.now, 'silent')
    FROM a67_internal.node_observed o
    WHERE coalesce(o.last_heartbeat_at, o.status_at) <= deadline
      AND o.status IN ('initializing', 'ready', 'busy');
    RETURN QUERY
    WITH silent AS (
        SELECT o.node_id FROM a67_internal.node_observed o
        WHERE coalesce(o.last_heartbeat_at, o.status_at) <= deadline AND o.next_probe_at <= _monitor_plan.now
          AND o.status NOT IN ('failed', 'maintenance', 'removed')
        ORDER BY o.next_probe_at LIMIT 256
        FOR UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE a67_internal.node_observed o
        SET next_probe_at = _monitor_plan.now + probe_timeout + interval '1 s'
        FROM silent s WHERE o.node_id = s.node_id
        RETURNING o.node_id, o.epoch)
    SELECT l.node_id || ' ' || l.epoch || ' ' || extract(epoch FROM probe_pause), 'GET', n.endpoint || '/health', NULL, NULL,
           (extract(epoch FROM probe_timeout) * 1000)::integer
    FROM leased l JOIN a67_internal.node n USING (node_id);
END
$$;

-- What a probe's answer means.
CREATE OR REPLACE FUNCTION a67_internal._probe_sign(node_id uuid, status integer, body text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answered text;
BEGIN
    IF status = 0 OR status >= 500 THEN
        RETURN 'probe_failed';
    END IF;
    answered := body::jsonb ->> 'node_id';
    -- Another agent behind the same address says nothing about this node.
    RETURN CASE WHEN status <> 200 OR answered IS NULL THEN 'probe_invalid'
                WHEN answered = node_id::text THEN 'probe_ok' ELSE 'probe_failed' END;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN 'probe_invalid';
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._monitor_record(now timestamptz, keys text[], statuses integer[], bodies text[],
    errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    deadline timestamptz := a67_internal._heartbeat_deadline(_monitor_record.now);
    probe record;
BEGIN
    FOR probe IN
        SELECT o.node_id, r.status, r.body, split_part(r.key, ' ', 3)::float8 AS pause_s
        FROM unnest(keys, statuses, bodies) r (key, status, body)
        JOIN a67_internal.node_observed o ON o.node_id = split_part(r.key, ' ', 1)::uuid
        -- Judged since, or heard of since: this answer is about the past.
        WHERE o.epoch = split_part(r.key, ' ', 2)::bigint
          AND coalesce(o.last_heartbeat_at, o.status_at) <= deadline
        ORDER BY o.node_id
    LOOP
        UPDATE a67_internal.node_observed o
        SET next_probe_at = _monitor_record.now + make_interval(secs => probe.pause_s)
        WHERE o.node_id = probe.node_id;
        PERFORM a67_internal._node_judge(probe.node_id, _monitor_record.now,
            a67_internal._probe_sign(probe.node_id, probe.status, probe.body));
    END LOOP;
    RETURN 0;
END
$$;
