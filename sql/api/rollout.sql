-- Rollouts: gathers what is seen of both sides, asks the state machine (core/rollout.h), and writes down what it says. Each round takes as
-- many steps as there are to take; everything that decides is in rows, so that a crash at any line costs a round and no more.

CREATE OR REPLACE FUNCTION a67_internal._rollout_step(view jsonb) RETURNS jsonb
AS 'MODULE_PATHNAME', 'a67_sql_rollout_step' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._rollout_step(jsonb) IS
    'What to do with a rollout now: state, phase, step, weight, targets of both sides, progress, reason. At most one change a call';

-- "25%" or a number, of so many; percentages are rounded up or down.
CREATE OR REPLACE FUNCTION a67_internal._rollout_share(share jsonb, replicas integer, up boolean) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE WHEN share #>> '{}' NOT LIKE '%\%' THEN (share #>> '{}')::integer
                WHEN up THEN ceil(rtrim(share #>> '{}', '%')::numeric * replicas / 100)::integer
                ELSE floor(rtrim(share #>> '{}', '%')::numeric * replicas / 100)::integer END
$$;

-- How long a replica must have served before it counts: until it has passed one more health check, 10 s at most.
CREATE OR REPLACE FUNCTION a67_internal._rollout_settling(manifest jsonb) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT make_interval(secs => least(coalesce((manifest #>> '{health_check,interval_ms}')::float8, 1000), 10000) / 1000)
$$;

-- Both sides of a rollout, as the state machine wants them: old_wanted, old_ready … Requests count since the baseline; those of a replica
-- that is not in it, since that replica began.
CREATE OR REPLACE FUNCTION a67_internal._rollout_sides(d a67_internal.deployment, o a67_internal.rollout, now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    led boolean := d.app_type = 'backend' AND a67_internal._ingress_on();
    -- Before they get requests, new replicas are asked for nothing but their health.
    hidden boolean := o.weight = 0 AND o.strategy ->> 'type' IN ('blue_green', 'canary');
    release record;
    sides jsonb;
BEGIN
    SELECT a67_internal._rollout_settling(m.manifest) AS settling, m.manifest ->> 'on_partition' = 'stop' AS exclusive INTO release
    FROM a67_internal.release m WHERE m.deployment_id = d.deployment_id AND m.number = o.to_release;
    WITH each AS (
        SELECT a67_internal._replica_new_side(r.release, d.release, o) AS new, r.desired_state = 'running' AS wanted,
               r.desired_state = 'running' AND r.state = 'running'
                   AND (NOT led OR r.routed = 'in' OR hidden AND r.release = o.to_release) AS available,
               r.state_at <= _rollout_sides.now - release.settling AS settled,
               NOT (r.state = 'lost' AND r.desired_state = 'stopped') AND (release.exclusive OR s.status <> 'failed') AS there,
               t.requests - coalesce((b.was ->> 0)::bigint, 0) AS requests, t.failures - coalesce((b.was ->> 1)::bigint, 0) AS failures,
               t.latency_sum_ms - coalesce((b.was ->> 2)::float8, 0) AS latency_sum_ms,
               greatest(r.restarts - coalesce((b.was ->> 3)::integer, 0), 0) AS restarts
        FROM a67_internal.replica r
        JOIN a67_internal.node_observed s USING (node_id)
        LEFT JOIN a67_internal.replica_traffic t USING (replica_id)
        LEFT JOIN LATERAL (SELECT o.baseline -> r.replica_id::text AS was) b ON true
        WHERE r.deployment_id = d.deployment_id AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
    ), side AS (
        SELECT v.new, v.name, v.replicas,
               count(*) FILTER (WHERE e.wanted) AS wanted,
               -- One that is to stay needs no proof.
               count(*) FILTER (WHERE e.available AND (e.settled OR NOT v.new)) AS ready,
               count(*) FILTER (WHERE e.there) AS total, coalesce(sum(e.requests), 0) AS requests,
               coalesce(sum(e.failures), 0) AS failures,
               coalesce(sum(e.latency_sum_ms) / nullif(sum(e.requests), 0), 0) AS latency_ms,
               coalesce(sum(e.restarts) FILTER (WHERE e.wanted), 0) AS restarts
        FROM (VALUES (false, 'old_', d.replicas), (true, 'new_', coalesce(o.replicas, d.replicas))) v (new, name, replicas)
        LEFT JOIN each e ON e.new = v.new
        GROUP BY v.new, v.name, v.replicas)
    SELECT jsonb_object_agg(s.name || f.key, f.value) || jsonb_build_object('restarts', max(s.restarts) FILTER (WHERE s.new))
    INTO sides
    FROM side s, LATERAL jsonb_each(jsonb_build_object('replicas', s.replicas, 'wanted', s.wanted, 'ready', s.ready, 'total', s.total,
        'requests', s.requests, 'failures', s.failures, 'latency_ms', s.latency_ms)) f;
    RETURN sides;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._ms(span interval) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest((extract(epoch FROM span) * 1000)::bigint, 0);

CREATE OR REPLACE FUNCTION a67_internal._rollout_view(d a67_internal.deployment, o a67_internal.rollout, now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    kind text := o.strategy ->> 'type';
    most integer := greatest(d.replicas, coalesce(o.replicas, d.replicas));
    manifest jsonb := (SELECT m.manifest FROM a67_internal.release m
                       WHERE m.deployment_id = d.deployment_id AND m.number = o.to_release);
    exclusive boolean := manifest ->> 'on_partition' IS NOT DISTINCT FROM 'stop';
    surge integer := a67_internal._rollout_share(o.strategy -> 'max_surge', most, true);
    unavailable integer := a67_internal._rollout_share(o.strategy -> 'max_unavailable', most, false);
BEGIN
    RETURN jsonb_build_object(
        'strategy', kind, 'state', o.state, 'phase', o.phase, 'step', o.step, 'weight', o.weight,
        -- What may not run twice makes room first.
        'surge', CASE WHEN exclusive THEN 0 ELSE coalesce(surge, 1) END,
        'unavailable', CASE WHEN exclusive THEN greatest(unavailable, 1) ELSE coalesce(unavailable, 0) END,
        'steps', coalesce(o.strategy -> 'steps', '[100]'),
        'observe_ms', coalesce(o.strategy -> CASE kind WHEN 'canary' THEN 'step_interval_ms' ELSE 'observe_ms' END, '0'),
        'deadline_ms', a67_internal._ms(current_setting('a67.deploy_timeout')::interval),
        'phase_ms', a67_internal._ms(_rollout_view.now - o.phase_at), 'idle_ms', a67_internal._ms(_rollout_view.now - o.progress_at),
        'failures', o.failures, 'sick', greatest(o.failures - coalesce((o.baseline ->> 'failures')::integer, 0), 0),
        'auto_rollback', coalesce((o.strategy ->> 'auto_rollback')::boolean, true) OR coalesce((manifest ->> 'atomic')::boolean, false),
        'promoted', o.promoted, 'aborted', o.aborted,
        'test', CASE WHEN NOT o.strategy ? 'test' THEN 'none' WHEN o.test_failures >= 3 THEN 'failed'
                     WHEN a67_internal._rollout_tested(o) THEN 'passed' ELSE 'open' END,
        'counted', d.app_type = 'backend' AND a67_internal._ingress_on(),
        'min_requests', coalesce(o.strategy -> 'min_requests', '20'),
        'max_error_rate', coalesce(o.strategy -> 'max_error_rate', '5'),
        'max_latency_ratio', coalesce(o.strategy -> 'max_latency_ratio', '2'))
        || a67_internal._rollout_sides(d, o, now);
END
$$;

-- Whether every new replica has passed the smoke test; a command is run once, for all of them.
CREATE OR REPLACE FUNCTION a67_internal._rollout_tested(o a67_internal.rollout) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE WHEN o.strategy #> '{test,command}' IS NOT NULL THEN cardinality(o.tested) > 0
                ELSE NOT EXISTS (SELECT FROM a67_internal.replica r
                                 WHERE r.deployment_id = o.deployment_id AND r.release = o.to_release AND r.desired_state = 'running'
                                   AND r.rollout_id IS NULL AND r.replica_id <> ALL (o.tested)) END
$$;

-- What the counters say now: requests and restarts of each replica, failures of the rollout. Blue ones are judged by all that they served.
CREATE OR REPLACE FUNCTION a67_internal._rollout_baseline(o a67_internal.rollout) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(r.replica_id, jsonb_build_array(coalesce(t.requests, 0), coalesce(t.failures, 0),
               coalesce(t.latency_sum_ms, 0), r.restarts)), '{}') || jsonb_build_object('failures', o.failures)
    FROM a67_internal.replica r LEFT JOIN a67_internal.replica_traffic t USING (replica_id)
    WHERE r.deployment_id = o.deployment_id AND r.desired_state = 'running'
      AND (r.release = o.to_release OR o.strategy ->> 'type' = 'canary')
$$;

-- A reason of the state machine in words.
CREATE OR REPLACE FUNCTION a67_internal._rollout_words(reason text, o a67_internal.rollout, view jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    requests bigint := (view ->> 'new_requests')::bigint;
    last_error text;
BEGIN
    IF reason IN ('failures', 'restarts') THEN
        SELECT f.error INTO last_error FROM a67_internal.replica_failure f
        WHERE f.deployment_id = o.deployment_id AND f.release = o.to_release ORDER BY f.replica_failure_id DESC LIMIT 1;
    END IF;
    RETURN CASE reason
        WHEN 'failures' THEN concat_ws(': ', format('%s replicas failed', view ->> 'failures'), last_error)
        WHEN 'restarts' THEN concat_ws(': ', 'replicas that served failed or started anew', last_error)
        WHEN 'deadline' THEN concat_ws(': ', format('nothing came forward within %s', current_setting('a67.deploy_timeout')), o.reason)
        WHEN 'test' THEN concat_ws(': ', 'the smoke test failed', o.test_error)
        WHEN 'errors' THEN format('%s of %s requests failed, of the old release %s of %s', view ->> 'new_failures', requests,
                                  view ->> 'old_failures', view ->> 'old_requests')
        WHEN 'latency' THEN format('%s ms a request, of the old release %s ms', round((view ->> 'new_latency_ms')::numeric, 1),
                                   round((view ->> 'old_latency_ms')::numeric, 1))
        WHEN 'requests' THEN format('judged by %s requests', requests)
        WHEN 'few_requests' THEN format('judged by health alone: %s requests are too few', requests)
        WHEN 'health_only' THEN 'judged by health alone: no ingress counts requests'
        WHEN 'not_whole' THEN format('went back, but %s of %s replicas of release %s run', view ->> 'old_ready', view ->> 'old_replicas',
                                     o.from_release) END;
END
$$;

-- Where a rollout is, for status texts.
CREATE OR REPLACE FUNCTION a67_internal._rollout_text(o a67_internal.rollout) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT concat_ws(': ', format('release %s to %s, %s, %s', o.from_release, o.to_release,
        replace(o.strategy ->> 'type', '_', '/'),
        CASE WHEN o.state = 'rolling_back' THEN 'going back' WHEN o.state = 'paused' THEN 'paused in phase ' || o.phase
             WHEN o.state = 'running' THEN o.phase ELSE replace(o.state, '_', ' ') END
        || CASE WHEN o.strategy ->> 'type' IN ('blue_green', 'canary') AND o.finished_at IS NULL
                THEN format(' with %s %% of the requests', o.weight) ELSE '' END), o.reason)
$$;

CREATE OR REPLACE FUNCTION a67_internal._rollout_event(d a67_internal.deployment, o a67_internal.rollout, view jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._event(d.owner_id, 'rollout.step', d.deployment_id, jsonb_build_object('deployment', d.name,
        'rollout', o.rollout_id, 'from_release', o.from_release, 'to_release', o.to_release, 'strategy', o.strategy ->> 'type',
        'state', o.state, 'phase', o.phase, 'step', o.step, 'weight', o.weight, 'reason', o.reason,
        'old_replicas', view -> 'old_ready', 'new_replicas', view -> 'new_ready'))
$$;

-- What follows from the end of a rollout, or from its stop for a verdict.
CREATE OR REPLACE FUNCTION a67_internal._rollout_tell(d a67_internal.deployment, o a67_internal.rollout, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    name text := format('rollout of deployment "%s" to release %s', d.name, o.to_release);
    dedup_key text := 'rollout-failed:' || d.deployment_id;
BEGIN
    IF o.state = 'succeeded' THEN
        UPDATE a67_internal.deployment t
        SET release = o.to_release, replicas = coalesce(o.replicas, t.replicas), place_failures = 0, next_place_at = '-infinity',
            avoid_nodes = '{}', secrets_version = a67_internal._secrets_version(t.deployment_id, o.to_release)
        WHERE t.deployment_id = d.deployment_id;
    ELSIF o.state IN ('rolled_back', 'aborted', 'failed') THEN
        UPDATE a67_internal.deployment t SET avoid_nodes = '{}', status_reason = a67_internal._rollout_text(o)
        WHERE t.deployment_id = d.deployment_id;
    END IF;
    IF o.state IN ('succeeded', 'aborted') THEN
        PERFORM a67_internal._alert_resolve(dedup_key);
    ELSIF o.state IN ('rolling_back', 'paused') THEN
        PERFORM a67_internal._alert_raise(d.owner_id, 'warning', d.deployment_id, dedup_key,
            format('%s %s: %s', name, CASE o.state WHEN 'paused' THEN 'stopped' ELSE 'goes back' END, o.reason));
    ELSIF o.state = 'failed' THEN
        PERFORM a67_internal._alert_raise(d.owner_id, 'critical', d.deployment_id, dedup_key, format('%s failed: %s', name, o.reason));
    END IF;
END
$$;

-- Writes a step down; returns the rollout as it is then, NULL when nothing has changed but numbers.
CREATE OR REPLACE FUNCTION a67_internal._rollout_take(d a67_internal.deployment, o a67_internal.rollout, next jsonb, view jsonb,
    at timestamptz) RETURNS a67_internal.rollout
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    stepped boolean := (next ->> 'state', next ->> 'phase', (next ->> 'step')::integer) IS DISTINCT FROM (o.state, o.phase, o.step);
    final boolean := next ->> 'state' IN ('succeeded', 'rolled_back', 'aborted', 'failed');
    words text := a67_internal._rollout_words(next ->> 'reason', o, view);
    -- What flaps does not come forward.
    come integer := CASE WHEN stepped THEN 0 ELSE greatest((next ->> 'progress')::integer, o.progress) END;
    taken a67_internal.rollout;
BEGIN
    UPDATE a67_internal.rollout t
    SET state = next ->> 'state', phase = next ->> 'phase', step = (next ->> 'step')::integer, weight = (next ->> 'weight')::integer,
        old_target = (next ->> 'old_target')::integer, new_target = (next ->> 'new_target')::integer,
        epoch = t.epoch + stepped::integer, phase_at = CASE WHEN stepped THEN at ELSE t.phase_at END,
        progress = come, progress_at = CASE WHEN stepped OR come > t.progress THEN at ELSE t.progress_at END,
        baseline = CASE WHEN stepped AND next ->> 'phase' = 'observe' THEN a67_internal._rollout_baseline(t) ELSE t.baseline END,
        tested = CASE WHEN stepped THEN '{}' ELSE t.tested END,
        test_failures = CASE WHEN stepped THEN 0 ELSE t.test_failures END,
        next_test_at = CASE WHEN stepped THEN '-infinity' ELSE t.next_test_at END,
        -- A rollout that goes back keeps saying why.
        reason = CASE WHEN stepped AND t.state <> 'rolling_back' THEN words ELSE coalesce(words, t.reason) END,
        finished_at = CASE WHEN final THEN at END
    WHERE t.rollout_id = o.rollout_id
      AND (stepped OR (t.weight, t.old_target, t.new_target, t.progress) IS DISTINCT FROM
              ((next ->> 'weight')::integer, (next ->> 'old_target')::integer, (next ->> 'new_target')::integer, come))
    RETURNING t.* INTO taken;
    IF taken.rollout_id IS NOT NULL AND (stepped OR taken.weight <> o.weight) THEN
        PERFORM a67_internal._rollout_event(d, taken, view);
    END IF;
    IF taken.state <> o.state THEN
        PERFORM a67_internal._rollout_tell(d, taken, at);
    END IF;
    RETURN CASE WHEN stepped THEN taken END;
END
$$;

-- As many steps as there are for one rollout. The deployment's row is locked.
CREATE OR REPLACE FUNCTION a67_internal._rollout_drive(d a67_internal.deployment, o a67_internal.rollout, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    view jsonb;
BEGIN
    -- Phases with nothing to wait for are passed at once; more than there are is a fault of the machine, left to the next round.
    FOR try IN 1..50 LOOP
        view := a67_internal._rollout_view(d, o, now);
        o := a67_internal._rollout_take(d, o, a67_internal._rollout_step(view), view, now);
        EXIT WHEN o.rollout_id IS NULL OR o.finished_at IS NOT NULL;
    END LOOP;
END
$$;

-- Every rollout under way but those that an owner is commanding at this moment.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_rollouts(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
    current_rollout a67_internal.rollout;
BEGIN
    IF a67_internal._monitor_away(now) THEN
        RETURN;
    END IF;
    FOR item IN
        SELECT d AS deployment, d.name, d.deployment_id FROM a67_internal.deployment d
        WHERE d.desired_state = 'running'
          AND d.deployment_id IN (SELECT o.deployment_id FROM a67_internal.rollout o WHERE o.finished_at IS NULL)
        ORDER BY d.deployment_id
        FOR UPDATE OF d SKIP LOCKED
    LOOP
        BEGIN
            SELECT o.* INTO current_rollout FROM a67_internal.rollout o
            WHERE o.deployment_id = item.deployment_id AND o.finished_at IS NULL;
            IF FOUND THEN
                PERFORM a67_internal._rollout_drive(item.deployment, current_rollout, now);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'could not roll out deployment "%": %', item.name, SQLERRM;
        END;
    END LOOP;
END
$$;

-- ---- the smoke test -----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._replica_url(r a67_internal.replica) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format('http://%s:%s', substring(n.endpoint from '^https?://(\[[^]]+\]|[^:/]+)'), r.port)
    FROM a67_internal.node n WHERE n.node_id = r.node_id AND r.port IS NOT NULL
$$;

-- Requests to the new replicas that have not passed yet, as rows of the reconciler's plan; leased by next_test_at.
CREATE OR REPLACE FUNCTION a67_internal._rollout_tests(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH due AS (
        UPDATE a67_internal.rollout o
        SET next_test_at = _rollout_tests.now + current_setting('a67.probe_timeout')::interval + interval '1 s'
        WHERE o.finished_at IS NULL AND o.state = 'running' AND o.phase = 'test' AND o.next_test_at <= _rollout_tests.now
          AND o.strategy #> '{test,path}' IS NOT NULL AND o.test_failures < 3
        RETURNING o.*)
    SELECT format('test %s %s %s', o.rollout_id, o.epoch, r.replica_id), 'GET',
           a67_internal._replica_url(r) || (o.strategy #>> '{test,path}'), NULL, NULL,
           a67_internal._ms(current_setting('a67.probe_timeout')::interval)::integer, NULL::text[], NULL
    FROM due o JOIN a67_internal.replica r ON r.deployment_id = o.deployment_id AND r.release = o.to_release
    WHERE r.desired_state = 'running' AND r.state = 'running' AND r.port IS NOT NULL AND r.rollout_id IS NULL
      AND r.replica_id <> ALL (o.tested)
$$;

-- Their answers: 2xx and 3xx pass. Three others in all, and the test has failed.
CREATE OR REPLACE FUNCTION a67_internal._rollout_tests_record(now timestamptz, keys text[], statuses integer[], errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    recorded integer;
BEGIN
    WITH answer AS (
        SELECT split_part(a.key, ' ', 2)::uuid AS rollout_id, split_part(a.key, ' ', 3)::bigint AS epoch,
               array_agg(split_part(a.key, ' ', 4)::uuid) FILTER (WHERE a.status BETWEEN 200 AND 399) AS passed,
               count(*) FILTER (WHERE a.status NOT BETWEEN 200 AND 399) AS failures,
               max(format('%s %s', n.name, CASE a.status WHEN 0 THEN 'did not answer: ' || left(a.error, 200) ELSE 'answered ' || a.status END))
                   FILTER (WHERE a.status NOT BETWEEN 200 AND 399) AS error
        FROM unnest(keys, statuses, errors) a (key, status, error)
        LEFT JOIN a67_internal.replica r ON r.replica_id = split_part(a.key, ' ', 4)::uuid
        LEFT JOIN a67_internal.node n USING (node_id)
        WHERE a.key LIKE 'test %' GROUP BY 1, 2)
    UPDATE a67_internal.rollout o
    SET tested = o.tested || coalesce(a.passed, '{}'), test_failures = o.test_failures + a.failures,
        test_error = coalesce(a.error, o.test_error), next_test_at = _rollout_tests_record.now + interval '1 s'
    FROM answer a WHERE o.rollout_id = a.rollout_id AND o.epoch = a.epoch AND o.phase = 'test';
    GET DIAGNOSTICS recorded = ROW_COUNT;
    RETURN recorded;
END
$$;

-- The desired state of the run of a test command: the app's package and environment, ending by itself. {url} in an argument is where
-- a new replica answers.
CREATE OR REPLACE FUNCTION a67_internal._rollout_run_desired(r a67_internal.replica, desired jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT (desired - ARRAY['health_check', 'on_secret_change', 'on_partition', 'partition_deadline_ms'])
        || jsonb_build_object('app_type', 'cron', 'runtime', 'executable', 'run_timeout_ms', 60000, 'entrypoint', (
            SELECT jsonb_agg(replace(a.value, '{url}', coalesce(green.url, '')) ORDER BY a.ordinality)
            FROM jsonb_array_elements_text(o.strategy #> '{test,command}') WITH ORDINALITY a))
    FROM a67_internal.rollout o
    LEFT JOIN LATERAL (SELECT a67_internal._replica_url(g) AS url FROM a67_internal.replica g
                       WHERE g.deployment_id = o.deployment_id AND g.release = o.to_release AND g.rollout_id IS NULL
                         AND g.desired_state = 'running' AND g.state = 'running' AND g.port IS NOT NULL
                       ORDER BY g.created_at, g.replica_id LIMIT 1) green ON true
    WHERE o.rollout_id = r.rollout_id
$$;

-- Takes the ends of test runs to their rollouts, and gives up what is over or not wanted any more.
CREATE OR REPLACE FUNCTION a67_internal._rollout_runs_settle(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    run record;
BEGIN
    FOR run IN
        SELECT r.replica_id, r.rollout_id, r.state, r.exit_code, o.phase IS NOT DISTINCT FROM 'test' AND o.finished_at IS NULL AS awaited,
               CASE WHEN r.state = 'finished' THEN format('the command ended with status %s', r.exit_code) ELSE r.error END
                   || coalesce(': ' || nullif(right(btrim(r.log_tail, E' \n'), 200), ''), '') AS error
        FROM a67_internal.replica r LEFT JOIN a67_internal.rollout o USING (rollout_id)
        WHERE r.rollout_id IS NOT NULL AND r.desired_state = 'running'
          AND (r.state IN ('finished', 'failed') OR o.phase IS DISTINCT FROM 'test' OR o.finished_at IS NOT NULL)
    LOOP
        UPDATE a67_internal.rollout o
        SET tested = CASE WHEN run.state = 'finished' AND run.exit_code = 0 THEN ARRAY[run.replica_id] ELSE o.tested END,
            test_failures = CASE WHEN run.state = 'finished' AND run.exit_code = 0 THEN o.test_failures ELSE 3 END,
            test_error = CASE WHEN run.state = 'finished' AND run.exit_code = 0 THEN o.test_error ELSE run.error END
        WHERE o.rollout_id = run.rollout_id AND run.awaited AND run.state IN ('finished', 'failed');
        PERFORM a67_internal._replica_give_up(run.replica_id, now, NULL, NULL);
    END LOOP;
END
$$;

-- Places the runs that are missing, on any node with room.
CREATE OR REPLACE FUNCTION a67_internal._rollout_runs_place(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    missing record;
    chosen record;
BEGIN
    FOR missing IN
        SELECT o.rollout_id, o.to_release, d.deployment_id, d.owner_id, (m.manifest #>> '{resources,memory_bytes}')::bigint AS memory_bytes,
               (m.manifest #>> '{resources,cpu}')::float8 AS cpu, coalesce((m.manifest #>> '{resources,disk_bytes}')::bigint, 0) AS disk_bytes,
               rule.barred
        FROM a67_internal.rollout o JOIN a67_internal.deployment d USING (deployment_id)
        JOIN a67_internal.release m ON m.deployment_id = d.deployment_id AND m.number = o.to_release
        CROSS JOIN LATERAL a67_internal._place_barred(d.owner_id, m.manifest) rule
        WHERE o.finished_at IS NULL AND o.state = 'running' AND o.phase = 'test' AND o.strategy #> '{test,command}' IS NOT NULL
          AND o.tested = '{}' AND o.test_failures < 3
          AND NOT EXISTS (SELECT FROM a67_internal.replica r WHERE r.rollout_id = o.rollout_id AND r.desired_state = 'running')
    LOOP
        SELECT max(p.node_id::text)::uuid AS node_id, max(p.shortage) AS shortage INTO chosen
        FROM a67_internal._place(missing.owner_id, 1, missing.memory_bytes, missing.cpu, missing.disk_bytes, '{}', '{}', '{}',
            missing.barred, _rollout_runs_place.now, (random() * 9e15)::bigint) p;
        IF chosen.node_id IS NULL THEN
            UPDATE a67_internal.rollout o SET reason = 'no room for the smoke test: ' || chosen.shortage
            WHERE o.rollout_id = missing.rollout_id AND o.reason IS DISTINCT FROM 'no room for the smoke test: ' || chosen.shortage;
            CONTINUE;
        END IF;
        BEGIN
            INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu, disk_bytes, deadline_at, state_at, created_at,
                rollout_id)
            VALUES (missing.deployment_id, missing.to_release, chosen.node_id, missing.memory_bytes, missing.cpu, missing.disk_bytes,
                    _rollout_runs_place.now + current_setting('a67.deploy_timeout')::interval, _rollout_runs_place.now, _rollout_runs_place.now,
                    missing.rollout_id);
        EXCEPTION WHEN insufficient_resources THEN
            NULL; -- somebody else took the room: the next round chooses again
        END;
    END LOOP;
END
$$;
