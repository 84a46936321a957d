-- Self-doubt: the monitor asks whether it is the one that was away, or is cut off, before it calls nodes dead.
-- Two things make it doubt: a gap between its own plans (starved, stopped, restarted, a clock set forward), and more than
-- a third of all nodes, of four or more, falling silent at once. Then nodes still become suspect, but none becomes failed
-- for a period of grace; after it the monitor acts. Time in which it was away does not count against any node.

-- How long a node may be silent: one interval and a fifth (jitter of the agent) and the flush of the live table.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_patience() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT current_setting('a67.heartbeat_interval')::interval * 1.2 + interval '1500 ms'
$$;

-- A node whose last heartbeat is not younger than this is silent.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_deadline(now timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT _heartbeat_deadline.now - a67_internal._heartbeat_patience()
           - CASE WHEN _heartbeat_deadline.now < s.blind_until THEN s.blind ELSE '0' END
    FROM a67_internal.monitor_state s
$$;

-- A gap between two plans that is longer says that the monitor was away.
CREATE OR REPLACE FUNCTION a67_internal._monitor_patience() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT current_setting('a67.monitor_interval')::interval * 3 + interval '1 s'
$$;

-- Whether the monitor has been away and not looked yet: then nothing is late.
CREATE OR REPLACE FUNCTION a67_internal._monitor_away(now timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(s.planned_at < _monitor_away.now - a67_internal._monitor_patience(), false) FROM a67_internal.monitor_state s
$$;

-- How long a doubt suspends failing.
CREATE OR REPLACE FUNCTION a67_internal._grace() RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE WHEN current_setting('a67.grace_period') <> '-1' THEN current_setting('a67.grace_period')::interval
                ELSE greatest(current_setting('a67.heartbeat_interval')::interval * 2, a67_internal._heartbeat_patience()) END
$$;

CREATE OR REPLACE FUNCTION a67_internal._doubt_begin(now timestamptz, kind text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    grace interval := a67_internal._grace();
    operator uuid := a67_internal._operator_id();
BEGIN
    UPDATE a67_internal.monitor_state s SET doubt_kind = CASE s.doubt_kind WHEN 'late' THEN 'late' ELSE kind END,
        doubt_until = greatest(s.doubt_until, _doubt_begin.now + grace);
    PERFORM a67_internal._alert_raise(operator, CASE kind WHEN 'silence' THEN 'critical' ELSE 'warning' END, operator,
        'monitor-doubt', format('%s: no node becomes failed for %s s', reason, round(extract(epoch FROM grace), 1)));
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._doubt_end() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    UPDATE a67_internal.monitor_state s SET doubt_kind = NULL, doubt_until = '-infinity';
    SELECT a67_internal._alert_resolve('monitor-doubt')
$$;

-- A clock that was set back: what lies in the future by it would keep nodes from being probed, and dead ones alive.
CREATE OR REPLACE FUNCTION a67_internal._clock_back(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.monitor_state s
    SET planned_at = _clock_back.now, blind = '0', blind_until = '-infinity',
        doubt_until = least(s.doubt_until, _clock_back.now + a67_internal._grace());
    UPDATE a67_internal.node_observed o
    SET last_heartbeat_at = least(o.last_heartbeat_at, _clock_back.now), status_at = least(o.status_at, _clock_back.now),
        metrics_at = least(o.metrics_at, _clock_back.now), flaps_at = least(o.flaps_at, _clock_back.now),
        next_probe_at = least(o.next_probe_at, _clock_back.now), stray_lease_until = least(o.stray_lease_until, _clock_back.now),
        restart_not_before = CASE WHEN o.restart_not_before > _clock_back.now + interval '6 hours' THEN _clock_back.now
                                  ELSE o.restart_not_before END
    WHERE greatest(o.last_heartbeat_at, o.status_at, o.metrics_at, o.flaps_at, o.next_probe_at, o.stray_lease_until)
          > _clock_back.now OR o.restart_not_before > _clock_back.now + interval '6 hours';
    UPDATE a67_internal.replica r
    SET next_push_at = least(r.next_push_at, _clock_back.now), state_at = least(r.state_at, _clock_back.now),
        deadline_at = least(r.deadline_at, _clock_back.now + current_setting('a67.deploy_timeout')::interval)
    WHERE greatest(r.next_push_at, r.state_at) > _clock_back.now
       OR r.deadline_at > _clock_back.now + current_setting('a67.deploy_timeout')::interval;
    UPDATE a67_internal.rollout o
    SET phase_at = least(o.phase_at, _clock_back.now), progress_at = least(o.progress_at, _clock_back.now),
        next_place_at = least(o.next_place_at, _clock_back.now), next_test_at = least(o.next_test_at, _clock_back.now)
    WHERE o.finished_at IS NULL;
    -- Messages and tokens too: the one would wait, the other seem good, until the clock is there again.
    UPDATE a67_internal.outbox o SET next_attempt_at = _clock_back.now, leased_until = least(o.leased_until, _clock_back.now)
    WHERE o.state = 'pending' AND o.next_attempt_at > _clock_back.now;
    UPDATE a67_internal.channel c SET tokens_at = _clock_back.now WHERE c.tokens_at > _clock_back.now;
    UPDATE a67_internal.oauth_credential c
    SET expires_at = c.expires_at - (coalesce(c.refreshed_at, c.updated_at) - _clock_back.now),
        next_attempt_at = CASE WHEN c.next_attempt_at = 'infinity' THEN 'infinity' ELSE _clock_back.now END,
        refreshed_at = least(c.refreshed_at, _clock_back.now), updated_at = _clock_back.now
    WHERE c.updated_at > _clock_back.now AND c.status IN ('active', 'failed', 'revoking');
    UPDATE a67_internal.deployment d
    SET next_place_at = least(d.next_place_at, _clock_back.now), status_at = least(d.status_at, _clock_back.now)
    WHERE greatest(d.next_place_at, d.status_at) > _clock_back.now;
END
$$;
COMMENT ON FUNCTION a67_internal._clock_back(timestamptz) IS 'Brings times of the future back to now, once, when the clock was set back';

-- The monitor looks at its own clock, first thing in every plan; the row lock makes plans wait for each other.
CREATE OR REPLACE FUNCTION a67_internal._doubt_clock(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    s a67_internal.monitor_state;
    patience interval := a67_internal._heartbeat_patience();
    gap interval;
BEGIN
    SELECT * INTO s FROM a67_internal.monitor_state FOR UPDATE;
    -- A database that was restored has no last plan: it was away since it last heard anybody.
    gap := _doubt_clock.now - coalesce(s.planned_at, (SELECT max(o.last_heartbeat_at) FROM a67_internal.node_observed o));
    IF gap < interval '-1 s' THEN
        PERFORM a67_internal._clock_back(now);
    ELSIF gap > a67_internal._monitor_patience() THEN
        UPDATE a67_internal.monitor_state t
        SET planned_at = _doubt_clock.now, blind_until = _doubt_clock.now + patience,
            blind = gap + CASE WHEN _doubt_clock.now < s.blind_until THEN s.blind ELSE '0' END;
        -- Answers to what was asked before the gap say nothing: their time-outs ran while nobody listened.
        UPDATE a67_internal.node_observed o SET epoch = o.epoch + 1, next_probe_at = _doubt_clock.now
        WHERE o.next_probe_at > _doubt_clock.now - gap AND o.status NOT IN ('failed', 'maintenance', 'removed');
        -- Nor does the gap count against replicas that are starting and rollouts under way: who made progress could not say so.
        UPDATE a67_internal.replica r SET deadline_at = r.deadline_at + gap WHERE r.deadline_at IS NOT NULL AND r.desired_state = 'running';
        UPDATE a67_internal.rollout o SET phase_at = o.phase_at + gap, progress_at = o.progress_at + gap WHERE o.finished_at IS NULL;
        PERFORM a67_internal._doubt_begin(now, 'late',
            format('the monitor was away for %s s', round(extract(epoch FROM gap), 1)));
    ELSIF s.planned_at IS NULL OR gap >= current_setting('a67.monitor_interval')::interval / 2 OR gap < '0' THEN
        UPDATE a67_internal.monitor_state t SET planned_at = _doubt_clock.now;
    END IF;
END
$$;

-- Begins or ends a doubt by how many of the nodes that were heard lately are silent now.
CREATE OR REPLACE FUNCTION a67_internal._doubt_silence(now timestamptz, silent bigint, known bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    s a67_internal.monitor_state;
    many boolean := known >= 4 AND silent * 3 > known;
BEGIN
    SELECT * INTO s FROM a67_internal.monitor_state;
    IF many AND NOT s.silence_seen THEN
        PERFORM a67_internal._doubt_begin(now, 'silence', format('%s of %s nodes fell silent at once', silent, known));
    ELSIF s.doubt_kind IS NOT NULL AND (s.doubt_until <= _doubt_silence.now OR s.doubt_kind = 'silence' AND NOT many) THEN
        PERFORM a67_internal._doubt_end();
    END IF;
    IF many <> s.silence_seen THEN
        UPDATE a67_internal.monitor_state t SET silence_seen = many;
    END IF;
END
$$;
