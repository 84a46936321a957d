-- The monitor: judges nodes by heartbeats and probes. The worker only calls _monitor_plan and _monitor_record.
-- Two signals must be missing before a node is failed: its heartbeat and its answer to a probe.

-- One judgement of one node: the state machine's step on a sign, and all that follows from a change.
-- sign NULL derives it from the latest heartbeat. Returns whether the status changed.
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
    sign := coalesce(sign, a67_internal._node_beat_sign(o.status, o.cpu_percent, o.memory_percent, o.recent_requests,
        o.recent_failures));
    SELECT * INTO step FROM a67_internal._node_step(o.status, o.failures, o.goods, sign, o.flaps,
        coalesce(extract(epoch FROM _node_judge.now - o.flaps_at), 0)::float8,
        sign = 'probe_failed' AND EXISTS (SELECT FROM a67_internal.monitor_state s WHERE s.doubt_until > _node_judge.now));
    -- Most beats are no news. An answered probe always is: its epoch must not count twice.
    IF sign LIKE 'beat%' AND (step.status, step.failures, step.goods) = (o.status, o.failures, o.goods) THEN
        RETURN false;
    END IF;
    UPDATE a67_internal.node_observed t
    SET status = step.status, failures = step.failures, goods = step.goods, epoch = t.epoch + 1,
        flaps = CASE sign WHEN 'activate' THEN 0 ELSE step.flaps END, flaps_at = _node_judge.now,
        judged_heartbeat_at = t.last_heartbeat_at
    WHERE t.node_id = _node_judge.node_id;
    IF step.status = o.status THEN
        RETURN false;
    END IF;
    UPDATE a67_internal.node_observed t
    SET status_at = _node_judge.now, status_reason = sign,
        -- Who is judged to be back, or dead again, is another case for its provider.
        restart_due_at = CASE WHEN step.status = 'failed' AND EXISTS (SELECT FROM a67_internal.provider p
                              WHERE p.name = n.provider AND p.restart_url IS NOT NULL) THEN _node_judge.now END
    WHERE t.node_id = _node_judge.node_id;
    PERFORM a67_internal._event(n.owner_id, 'node.status.changed', n.node_id, jsonb_build_object(
        'node', n.name, 'from', o.status, 'to', step.status, 'sign', sign));
    IF step.status = 'failed' THEN
        PERFORM a67_internal._alert_raise(n.owner_id, 'critical', n.node_id, 'node-failed:' || n.node_id,
            format('node "%s" failed: neither heartbeat nor answer to a probe', n.name));
    ELSIF step.status IN ('ready', 'busy', 'maintenance', 'removed') THEN
        PERFORM a67_internal._alert_resolve('node-failed:' || n.node_id);
    END IF;
    PERFORM a67_internal._wake('reconciler');
    RETURN true;
END
$$;

-- Judges many nodes: all at once, which is fast; when that fails, one by one, so that one keeps no other from its judgement.
CREATE OR REPLACE FUNCTION a67_internal._nodes_judge(node_ids uuid[], now timestamptz, sign text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    one uuid;
BEGIN
    BEGIN
        PERFORM a67_internal._node_judge(id, now, sign) FROM unnest(node_ids) id ORDER BY id;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        NULL; -- said below, with the node
    END;
    FOR one IN SELECT id FROM unnest(node_ids) id ORDER BY id LOOP
        BEGIN
            PERFORM a67_internal._node_judge(one, now, sign);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'could not judge node "%": %', one, SQLERRM;
        END;
    END LOOP;
END
$$;

-- What else the monitor has to see to at every tick. None of it may keep it from judging nodes.
CREATE OR REPLACE FUNCTION a67_internal._monitor_chores(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    chore text;
BEGIN
    FOREACH chore IN ARRAY ARRAY['_event_prune', '_audit_prune', '_restart_plan', '_usage_tick', '_metric_tick', '_log_prune', '_package_tick'] LOOP
        BEGIN
            EXECUTE format('SELECT a67_internal.%I($1)', chore) USING _monitor_chores.now;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'could not do chore "%" of the monitor: %', chore, SQLERRM;
        END;
    END LOOP;
END
$$;

-- When a node was heard last: by a heartbeat, or by the command that made it new.
CREATE OR REPLACE FUNCTION a67_internal._heard_at(status text, status_at timestamptz, last_heartbeat_at timestamptz)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN status = 'initializing' THEN greatest(last_heartbeat_at, status_at) ELSE coalesce(last_heartbeat_at, status_at) END;

-- What rows tell about all nodes at one look: who has news, who is silent. The live table knows of beats that are
-- not in rows yet; who is in there (alive) is not silent, however late the flush may be.
CREATE OR REPLACE FUNCTION a67_internal._monitor_look(deadline timestamptz, OUT news uuid[], OUT silent uuid[], OUT alive uuid[],
    OUT doubtful bigint, OUT known bigint) RETURNS record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    quiet uuid[];
BEGIN
    SELECT array_agg(o.node_id) FILTER (WHERE o.last_heartbeat_at > deadline AND o.status NOT IN ('maintenance', 'removed')
               AND o.last_heartbeat_at IS DISTINCT FROM o.judged_heartbeat_at
               -- Of the many that are well, only those whose sign is another cost more than this look.
               AND (o.status <> 'ready' OR o.failures > 0 OR greatest(o.cpu_percent, o.memory_percent) > 80 OR o.recent_failures > 0)
               AND (o.goods > 0 OR o.failures > 0
                    OR a67_internal._node_beat_sign(o.status, o.cpu_percent, o.memory_percent, o.recent_requests, o.recent_failures)
                       <> CASE o.status WHEN 'ready' THEN 'beat' WHEN 'busy' THEN 'beat_busy' WHEN 'degraded' THEN 'beat_degraded' ELSE '' END)),
           array_agg(o.node_id) FILTER (WHERE o.status IN ('initializing', 'ready', 'busy')
               AND a67_internal._heard_at(o.status, o.status_at, o.last_heartbeat_at) <= deadline),
           count(*) FILTER (WHERE o.status = 'suspect' AND o.last_heartbeat_at <= deadline),
           count(*) FILTER (WHERE o.status IN ('ready', 'busy', 'degraded', 'suspect'))
    INTO news, quiet, doubtful, known
    FROM a67_internal.node_observed o;
    alive := '{}';
    IF quiet IS NOT NULL OR doubtful > 0 THEN
        alive := ARRAY(SELECT l.node_id FROM a67_internal._node_live() l JOIN a67_internal.node_observed o USING (node_id)
                       WHERE l.last_seen_at > deadline AND o.last_heartbeat_at <= deadline);
    END IF;
    SELECT array_agg(q.node_id), doubtful + count(*) FILTER (WHERE o.status <> 'initializing')
    INTO silent, doubtful
    FROM (SELECT unnest(quiet) EXCEPT SELECT unnest(alive)) q (node_id) JOIN a67_internal.node_observed o USING (node_id);
END
$$;

-- How long a probe may be under way before it is sent again.
CREATE OR REPLACE FUNCTION a67_internal._probe_lease() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT current_setting('a67.probe_timeout')::interval + interval '1 s'
$$;

-- The probes to send: GET /health of every silent node, a lease on each.
CREATE OR REPLACE FUNCTION a67_internal._probe_plan(now timestamptz, deadline timestamptz, alive uuid[])
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    probe_timeout interval := current_setting('a67.probe_timeout')::interval;
    -- A little less, so that a round of the monitor which comes after just that time finds the next probe due.
    probe_pause interval := least(current_setting('a67.heartbeat_interval')::interval, interval '5 s') * 0.9;
BEGIN
    RETURN QUERY
    WITH silent AS (
        SELECT o.node_id FROM a67_internal.node_observed o
        WHERE a67_internal._heard_at(o.status, o.status_at, o.last_heartbeat_at) <= deadline AND o.next_probe_at <= _probe_plan.now
          AND o.status NOT IN ('failed', 'maintenance', 'removed') AND o.node_id <> ALL (alive)
        ORDER BY o.next_probe_at LIMIT 256
        FOR UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE a67_internal.node_observed o
        SET next_probe_at = _probe_plan.now + a67_internal._probe_lease()
        FROM silent s WHERE o.node_id = s.node_id
        RETURNING o.node_id, o.epoch)
    SELECT l.node_id || ' ' || l.epoch || ' ' || extract(epoch FROM probe_pause), 'GET', n.endpoint || '/health', NULL, NULL,
           (extract(epoch FROM probe_timeout) * 1000)::integer, NULL::text[], a67_internal._node_pin(n.public_key)
    FROM leased l JOIN a67_internal.node n USING (node_id);
END
$$;

-- Judges what heartbeats alone can tell, and returns the requests to send: probes, and pings that keep nodes awake.
CREATE OR REPLACE FUNCTION a67_internal._monitor_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    deadline timestamptz;
    look record;
BEGIN
    PERFORM a67_internal._doubt_clock(_monitor_plan.now);
    deadline := a67_internal._heartbeat_deadline(_monitor_plan.now);
    SELECT * INTO look FROM a67_internal._monitor_look(deadline);
    PERFORM a67_internal._doubt_silence(_monitor_plan.now, look.doubtful, look.known);
    -- A thousand judgements a tick: when half the world falls silent, probes go out before the last of them is noted.
    PERFORM a67_internal._nodes_judge(look.news[1:1000], _monitor_plan.now, NULL);
    -- Silence alone makes a node suspect; the probes decide.
    PERFORM a67_internal._nodes_judge(look.silent[1:1000], _monitor_plan.now, 'silent');
    RETURN QUERY SELECT * FROM a67_internal._probe_plan(_monitor_plan.now, deadline, look.alive);
    PERFORM a67_internal._monitor_chores(_monitor_plan.now);
    BEGIN
        RETURN QUERY SELECT * FROM a67_internal._ping_plan(_monitor_plan.now);
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'could not plan pings: %', SQLERRM;
    END;
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
EXCEPTION WHEN OTHERS THEN
    -- Malformed, too deep, of characters or numbers that jsonb does not take: it must not spoil the others' answers.
    RETURN 'probe_invalid';
END
$$;

-- Answers to probes. Those of a monitor that was away prove nothing: their time-outs ran while nobody listened.
CREATE OR REPLACE FUNCTION a67_internal._probe_record(now timestamptz, keys text[], statuses integer[], bodies text[])
RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    deadline timestamptz := a67_internal._heartbeat_deadline(_probe_record.now);
    patience interval := a67_internal._monitor_patience();
    late boolean := EXISTS (SELECT FROM a67_internal.monitor_state s WHERE s.planned_at < _probe_record.now - patience);
    probe record;
    any_change boolean := false;
BEGIN
    FOR probe IN
        SELECT o.node_id, r.status, r.body, split_part(r.key, ' ', 3)::float8 AS pause_s,
               o.next_probe_at - a67_internal._probe_lease() AS asked_at,
               r.status = 0 AND (late OR o.next_probe_at < _probe_record.now - patience) AS stale
        FROM unnest(keys, statuses, bodies) r (key, status, body)
        JOIN a67_internal.node_observed o ON o.node_id = split_part(r.key, ' ', 1)::uuid
        -- Judged since, or heard of since: this answer is about the past.
        WHERE o.epoch = split_part(r.key, ' ', 2)::bigint
          AND a67_internal._heard_at(o.status, o.status_at, o.last_heartbeat_at) <= deadline
        ORDER BY o.node_id
    LOOP
        UPDATE a67_internal.node_observed o
        SET next_probe_at = CASE WHEN probe.stale THEN _probe_record.now
                                 ELSE greatest(_probe_record.now, probe.asked_at + make_interval(secs => probe.pause_s)) END
        WHERE o.node_id = probe.node_id;
        IF probe.stale THEN
            any_change := true;
        ELSIF a67_internal._node_judge(probe.node_id, now, a67_internal._probe_sign(probe.node_id, probe.status, probe.body)) THEN
            any_change := true;
        END IF;
    END LOOP;
    RETURN any_change;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._monitor_record(now timestamptz, keys text[], statuses integer[], bodies text[],
    errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    changed boolean;
BEGIN
    SELECT a67_internal._probe_record(now, array_agg(a.key), array_agg(a.status), array_agg(a.body)) INTO changed
    FROM unnest(keys, statuses, bodies) a (key, status, body) WHERE a.key NOT LIKE 'ping %';
    PERFORM a67_internal._ping_record(now, a.key, a.status, a.error)
    FROM unnest(keys, statuses, errors) a (key, status, error) WHERE a.key LIKE 'ping %' ORDER BY a.key;
    -- A change may be followed by a restart, a stale answer by another probe: at once.
    RETURN changed::integer;
END
$$;
