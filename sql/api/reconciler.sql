-- The reconciler: makes desired state true. The worker only calls _reconciler_plan and _reconciler_record.
-- A plan is one short transaction: it gives up what is lost, places what is missing, picks what is surplus, judges
-- each deployment's status, and hands out commands. A command is leased (next_push_at) and fenced (epoch): an answer
-- that comes after the row has changed is dropped, and a command whose worker died is sent again when the lease ends.

-- How many failed replicas in a row a deployment survives before it is given up until its owner commands again.
CREATE OR REPLACE FUNCTION a67_internal._place_tries() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 5';

CREATE OR REPLACE FUNCTION a67_internal._replica_event(replica_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._event(d.owner_id, 'replica.changed', r.replica_id, jsonb_build_object(
        'deployment', d.name, 'node', n.name, 'state', r.state, 'desired', r.desired_state, 'error', r.error,
        'log_tail', CASE WHEN r.state = 'failed' THEN left(r.log_tail, 2000) END))
    FROM a67_internal.replica r
    JOIN a67_internal.deployment d USING (deployment_id)
    JOIN a67_internal.node n USING (node_id)
    WHERE r.replica_id = _replica_event.replica_id;
END
$$;

-- Gives a replica up: its node is to stop it, the deployment counts it no more.
CREATE OR REPLACE FUNCTION a67_internal._replica_give_up(replica_id uuid, now timestamptz, state text, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.replica r
    SET desired_state = 'stopped', generation = r.generation + 1, epoch = r.epoch + 1, next_push_at = _replica_give_up.now,
        attempts = 0, deadline_at = NULL, state = coalesce(_replica_give_up.state, r.state), state_at = _replica_give_up.now,
        error = coalesce(_replica_give_up.error, r.error)
    WHERE r.replica_id = _replica_give_up.replica_id AND r.desired_state = 'running';
    IF FOUND THEN
        PERFORM a67_internal._replica_event(replica_id);
    END IF;
END
$$;

-- A replica that failed by itself: given up, counted against the deployment, its node avoided, the next try delayed.
CREATE OR REPLACE FUNCTION a67_internal._replica_fail(replica_id uuid, now timestamptz, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.deployment d
    SET place_failures = d.place_failures + 1,
        avoid_nodes = CASE WHEN r.node_id = ANY (d.avoid_nodes) THEN d.avoid_nodes ELSE d.avoid_nodes[1:99] || r.node_id END,
        next_place_at = _replica_fail.now + make_interval(secs => a67_internal._backoff_ms(d.place_failures + 1, 500, 60000,
            hashtextextended(d.deployment_id::text, d.place_failures)) / 1000.0),
        status_reason = left(coalesce(_replica_fail.error, r.error), 500)
    FROM a67_internal.replica r
    WHERE r.replica_id = _replica_fail.replica_id AND d.deployment_id = r.deployment_id AND r.desired_state = 'running';
    PERFORM a67_internal._replica_give_up(replica_id, now, 'failed', error);
END
$$;

-- What a node says of its replicas: a list of replica objects (docs/protocol.md).
CREATE OR REPLACE FUNCTION a67_internal._replica_observe(here a67_internal.node, replicas jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    changed uuid;
    stray uuid[];
    any_change boolean := false;
BEGIN
    FOR changed IN
        WITH report AS (
            SELECT r.* FROM jsonb_to_recordset(replicas) AS r (id uuid, generation bigint, state text, port integer,
                pid integer, restarts integer, error text, log_tail text))
        UPDATE a67_internal.replica t
        SET state = p.state, port = p.port, pid = p.pid, restarts = coalesce(p.restarts, 0), error = left(p.error, 500),
            observed_generation = coalesce(p.generation, 0), log_tail = left(p.log_tail, 2000),
            state_at = CASE WHEN t.state <> p.state THEN clock_timestamp() ELSE t.state_at END,
            deadline_at = CASE WHEN p.state <> 'running' THEN t.deadline_at END,
            next_push_at = CASE WHEN t.desired_state = 'stopped' AND p.state IN ('stopped', 'failed') THEN '-infinity'
                                ELSE t.next_push_at END
        FROM report p
        WHERE t.replica_id = p.id AND t.node_id = here.node_id
          AND (t.desired_state = 'running' AND p.generation = t.generation
               OR t.desired_state = 'stopped' AND p.state IN ('stopping', 'stopped', 'failed'))
          AND (t.state, t.port, t.pid, t.restarts, t.error, t.observed_generation) IS DISTINCT FROM
              (p.state, p.port, p.pid, coalesce(p.restarts, 0), left(p.error, 500), coalesce(p.generation, 0))
        RETURNING t.replica_id
    LOOP
        any_change := true;
        PERFORM a67_internal._replica_event(changed);
    END LOOP;
    -- Told, but not there: the agent has lost it (or has not seen the command yet; repeating it does no harm).
    UPDATE a67_internal.replica t
    SET pushed_generation = 0, state = 'pending', next_push_at = '-infinity'
    WHERE t.node_id = here.node_id AND t.desired_state = 'running' AND t.pushed_generation = t.generation
      AND NOT EXISTS (SELECT FROM jsonb_array_elements(replicas) e WHERE e ->> 'id' = t.replica_id::text);
    any_change := any_change OR FOUND;
    -- There, but not known: to be stopped.
    SELECT array_agg((e ->> 'id')::uuid) INTO stray FROM jsonb_array_elements(replicas) e
    WHERE NOT EXISTS (SELECT FROM a67_internal.replica t
                      WHERE t.replica_id = (e ->> 'id')::uuid AND t.node_id = here.node_id);
    UPDATE a67_internal.node_observed o SET stray_replicas = coalesce(stray, '{}')
    WHERE o.node_id = here.node_id AND o.stray_replicas <> coalesce(stray, '{}');
    IF any_change OR FOUND THEN
        PERFORM a67_internal._wake('reconciler');
    END IF;
END
$$;

-- Gives up what cannot go on: replicas on dead nodes, replicas that failed or were not running in time.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_give_up(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    forgotten bigint;
BEGIN
    -- A new command of the owner clears the count of failures.
    UPDATE a67_internal.deployment d
    SET place_failures = 0, next_place_at = '-infinity', avoid_nodes = '{}', seen_generation = d.generation
    WHERE d.seen_generation <> d.generation;
    -- So does a minute of everything running where it should be.
    UPDATE a67_internal.deployment d SET place_failures = 0, avoid_nodes = '{}'
    WHERE d.place_failures > 0 AND d.status = 'running' AND d.status_at < _reconciler_give_up.now - interval '1 minute'
      AND NOT EXISTS (SELECT FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
                      WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND n.desired_state <> 'active');
    PERFORM a67_internal._replica_give_up(r.replica_id, _reconciler_give_up.now, 'lost', format('node "%s" %s', n.name, o.status))
    FROM a67_internal.replica r
    JOIN a67_internal.node_observed o USING (node_id)
    JOIN a67_internal.node n USING (node_id)
    WHERE r.desired_state = 'running' AND o.status IN ('failed', 'removed');
    PERFORM a67_internal._replica_fail(r.replica_id, _reconciler_give_up.now,
        CASE WHEN r.state <> 'failed' THEN format('not running within %s', current_setting('a67.deploy_timeout')) END)
    FROM a67_internal.replica r
    WHERE r.desired_state = 'running' AND (r.state = 'failed' OR r.deadline_at <= _reconciler_give_up.now);
    -- A removed node confirms nothing any more; its agent stops everything when it is told so.
    DELETE FROM a67_internal.replica r USING a67_internal.node n
    WHERE n.node_id = r.node_id AND n.desired_state = 'removed' AND r.desired_state = 'stopped';
    -- A dead node does not hold up the removal of a deployment. Should it return, it must report to SQL, which finds
    -- what it still runs to be strays.
    WITH gone AS (
        DELETE FROM a67_internal.replica r USING a67_internal.deployment d, a67_internal.node_observed o
        WHERE d.deployment_id = r.deployment_id AND d.desired_state = 'removed' AND r.desired_state = 'stopped'
          AND o.node_id = r.node_id AND o.status = 'failed'
        RETURNING r.node_id)
    SELECT count(a67_internal._live_forget(g.node_id)) FROM (SELECT DISTINCT node_id FROM gone) g INTO forgotten;
END
$$;

-- Brings the number of wanted replicas of one deployment to its target. Replicas on nodes that are being emptied (leaving) do
-- not count as live: they are replaced first, and go as others run in their place.
CREATE OR REPLACE FUNCTION a67_internal._deployment_balance(d a67_internal.deployment, target integer, live bigint, serving bigint,
    leaving text, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    shortage text;
BEGIN
    IF leaving IS NOT NULL THEN
        PERFORM a67_internal._drain_release(d.deployment_id, greatest(target - serving, 0)::integer, now);
    END IF;
    IF live > target THEN
        -- The surplus: first what does not run, then from the fullest nodes, the youngest first.
        PERFORM a67_internal._replica_give_up(v.replica_id, _deployment_balance.now, NULL, NULL)
        FROM (SELECT r.replica_id FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
              WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND n.desired_state = 'active'
              ORDER BY (r.state <> 'running') DESC, count(*) OVER (PARTITION BY r.node_id) DESC, r.created_at DESC, r.replica_id
              LIMIT live - target) v;
    ELSIF live < target AND d.place_failures < a67_internal._place_tries() AND d.next_place_at <= now THEN
        shortage := a67_internal._deployment_place(d, (target - live)::integer, now);
        shortage := CASE WHEN leaving IS NULL THEN shortage ELSE format('cannot empty %s: ', leaving) || shortage END;
        UPDATE a67_internal.deployment t SET status_reason = shortage
        WHERE t.deployment_id = d.deployment_id AND t.status_reason IS DISTINCT FROM shortage
          AND (shortage IS NOT NULL OR t.place_failures = 0);
    END IF;
END
$$;

-- Every deployment that is not as it should be. Isolated, an error with one is a warning and stops none of the others.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_balance_all(now timestamptz, isolated boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT d AS deployment, d.name, t.target, coalesce(l.live, 0) AS live, coalesce(l.serving, 0) AS serving, l.leaving
        FROM a67_internal.deployment d
        CROSS JOIN LATERAL (SELECT CASE WHEN d.desired_state = 'running' THEN d.replicas ELSE 0 END AS target) t
        LEFT JOIN (SELECT r.deployment_id, count(*) FILTER (WHERE n.desired_state = 'active') AS live,
                          count(*) FILTER (WHERE n.desired_state = 'active' AND r.state = 'running') AS serving,
                          string_agg(DISTINCT format('"%s"', n.name), ', ') FILTER (WHERE n.desired_state <> 'active') AS leaving
                   FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
                   WHERE r.desired_state = 'running' GROUP BY r.deployment_id) l USING (deployment_id)
        WHERE coalesce(l.live, 0) <> t.target OR l.leaving IS NOT NULL
        ORDER BY d.updated_at
    LOOP
        IF NOT isolated THEN
            PERFORM a67_internal._deployment_balance(item.deployment, item.target, item.live, item.serving, item.leaving, now);
            CONTINUE;
        END IF;
        BEGIN
            PERFORM a67_internal._deployment_balance(item.deployment, item.target, item.live, item.serving, item.leaving, now);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'could not place deployment "%": %', item.name, SQLERRM;
        END;
    END LOOP;
END
$$;

-- The same for all of them, within the bounds on tries. All at once, which is fast; when that fails, one by one.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_balance(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.deployment d SET status_reason = NULL
    WHERE d.status = 'running' AND d.status_reason LIKE 'cannot empty %'
      AND NOT EXISTS (SELECT FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
                      WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND n.desired_state <> 'active');
    BEGIN
        PERFORM a67_internal._reconciler_balance_all(now, false);
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        NULL; -- said below, with the name of the deployment
    END;
    PERFORM a67_internal._reconciler_balance_all(now, true);
END
$$;

-- The status that follows from the rows of a deployment; renewed are running ones that have the newest secrets.
CREATE OR REPLACE FUNCTION a67_internal._deployment_status(d a67_internal.deployment, running bigint, renewed bigint, total bigint)
RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE
        WHEN d.desired_state <> 'running' OR d.replicas = 0 THEN CASE WHEN total = 0 THEN 'stopped' ELSE 'stopping' END
        -- Beyond that number are only replicas that wait to be replaced on nodes being emptied.
        WHEN renewed >= d.replicas THEN 'running'
        WHEN d.place_failures >= a67_internal._place_tries() THEN CASE WHEN running = 0 THEN 'failed' ELSE 'failing' END
        WHEN d.settled_generation = d.generation THEN 'failing'
        WHEN d.settled_generation > 0 THEN 'scaling'
        WHEN total = 0 THEN 'pending'
        ELSE 'deploying' END
$$;

-- Writes the status of every deployment whose rows say another than it bears, and forgets what is gone.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_settle(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT d.deployment_id, d.owner_id, d.name, d.status AS old_status, d.generation, d.desired_state, d.place_failures,
               a67_internal._deployment_status(d, count(r) FILTER (WHERE r.state = 'running' AND r.desired_state = 'running'),
                   count(r) FILTER (WHERE r.state = 'running' AND r.desired_state = 'running' AND (d.secrets_version IS NULL
                       OR r.secrets_version = d.secrets_version AND r.observed_generation = r.generation)),
                   count(r)) AS status,
               count(r) FILTER (WHERE r.state = 'running' AND r.desired_state = 'running') AS running
        FROM a67_internal.deployment d LEFT JOIN a67_internal.replica r USING (deployment_id)
        GROUP BY d.deployment_id
    LOOP
        IF item.status = 'stopped' AND item.desired_state = 'removed' THEN
            DELETE FROM a67_internal.deployment d WHERE d.deployment_id = item.deployment_id;
            PERFORM a67_internal._event(item.owner_id, 'deployment.changed', item.deployment_id,
                jsonb_build_object('deployment', item.name, 'status', 'removed'));
            PERFORM a67_internal._alert_resolve('deployment-failed:' || item.deployment_id);
            CONTINUE;
        END IF;
        UPDATE a67_internal.deployment d
        SET settled_generation = d.generation
        WHERE d.deployment_id = item.deployment_id AND item.status IN ('running', 'stopped')
          AND d.settled_generation <> d.generation;
        CONTINUE WHEN item.status = item.old_status;
        UPDATE a67_internal.deployment d
        SET status = item.status, status_at = _reconciler_settle.now,
            status_reason = CASE WHEN item.status NOT IN ('running', 'stopped') THEN d.status_reason END
        WHERE d.deployment_id = item.deployment_id;
        PERFORM a67_internal._event(item.owner_id, 'deployment.changed', item.deployment_id, jsonb_build_object(
            'deployment', item.name, 'from', item.old_status, 'status', item.status, 'running', item.running));
        IF item.status = 'failed' OR item.status = 'failing' AND item.place_failures >= a67_internal._place_tries() THEN
            PERFORM a67_internal._alert_raise(item.owner_id, 'critical', item.deployment_id,
                'deployment-failed:' || item.deployment_id, format('deployment "%s" is %s', item.name, item.status));
        ELSIF item.status IN ('running', 'stopped') THEN
            PERFORM a67_internal._alert_resolve('deployment-failed:' || item.deployment_id);
        END IF;
    END LOOP;
END
$$;

-- The desired state of a replica as its agent is told it (docs/protocol.md), but for sealed_env.
CREATE OR REPLACE FUNCTION a67_internal._replica_desired(r a67_internal.replica) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'generation', r.generation, 'deployment', m.manifest -> 'name', 'release', r.release,
        'app_type', m.manifest -> 'app_type',
        'package', jsonb_build_object('digest', m.package_digest, 'path', '/api/v1/packages/' || m.package_digest),
        'entrypoint', m.manifest -> 'entrypoint', 'env_version', r.secrets_version,
        'on_secret_change', m.manifest -> 'on_secret_change', 'health_check', m.manifest -> 'health_check',
        'resources', m.manifest -> 'resources', 'stop_grace_ms', m.manifest -> 'stop_grace_ms'))
    FROM a67_internal.release m WHERE m.deployment_id = r.deployment_id AND m.number = r.release
$$;

-- The body of its command; NULL while its secrets cannot be handed out.
CREATE OR REPLACE FUNCTION a67_internal._replica_body(r a67_internal.replica) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    desired jsonb := a67_internal._replica_desired(r);
    sealed text;
BEGIN
    IF EXISTS (SELECT FROM a67_internal.release m WHERE m.deployment_id = r.deployment_id AND m.number = r.release
               AND (m.env_sealed IS NOT NULL OR m.secrets <> '{}')) THEN
        sealed := a67_internal._env_hand_out(r);
        RETURN CASE WHEN sealed IS NOT NULL THEN (desired || jsonb_build_object('sealed_env', sealed))::text END;
    END IF;
    RETURN desired::text;
END
$$;

-- Leases the commands that are due, at most 256, and writes them out. A generation is bound to the versions of the secrets
-- that were first handed out under it: when they have changed since, the next one begins.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_commands(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[])
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH push AS (
        SELECT current_setting('a67.push_timeout')::interval AS timeout, a67_internal._current_key('ed25519') AS signing_key
    ), due AS (
        SELECT r.replica_id, a67_internal._secrets_version(r.deployment_id, r.release) AS secrets_version
        FROM a67_internal.replica r JOIN a67_internal.node_observed o USING (node_id)
        WHERE (r.pushed_generation <> r.generation OR r.desired_state = 'stopped')
          AND r.next_push_at <= _reconciler_commands.now AND o.status NOT IN ('failed', 'offline', 'removed')
        ORDER BY r.next_push_at LIMIT 256
        FOR UPDATE OF r SKIP LOCKED
    ), leased AS (
        UPDATE a67_internal.replica r
        SET epoch = r.epoch + 1, next_push_at = _reconciler_commands.now + push.timeout + interval '1 s',
            secrets_version = due.secrets_version,
            generation = r.generation + CASE WHEN r.desired_state = 'running' AND r.secrets_version IS NOT NULL
                                              AND r.secrets_version IS DISTINCT FROM due.secrets_version THEN 1 ELSE 0 END
        FROM due, push WHERE r.replica_id = due.replica_id
        RETURNING r AS row, r.replica_id, r.node_id, r.epoch, r.generation, r.desired_state
    ), command AS (
        SELECT l.node_id, l.replica_id || ' ' || l.epoch AS key,
               CASE l.desired_state WHEN 'running' THEN 'PUT' ELSE 'DELETE' END AS method,
               '/v1/replicas/' || l.replica_id
                   || CASE l.desired_state WHEN 'running' THEN '' ELSE '?generation=' || l.generation END AS path,
               CASE l.desired_state WHEN 'running' THEN a67_internal._replica_body(l.row) END AS body
        FROM leased l
    ), stray AS (
        UPDATE a67_internal.node_observed o
        SET stray_lease_until = _reconciler_commands.now + push.timeout + interval '1 s'
        FROM push, (SELECT t.node_id FROM a67_internal.node_observed t
                    WHERE t.stray_replicas <> '{}' AND t.stray_lease_until <= _reconciler_commands.now
                      AND t.status NOT IN ('failed', 'offline', 'removed')
                    FOR UPDATE SKIP LOCKED) s
        WHERE o.node_id = s.node_id
        RETURNING o.node_id, o.stray_replicas[1:16] AS ids
    ), every AS (
        SELECT * FROM command
        UNION ALL
        SELECT s.node_id, 'stray ' || s.node_id || ' ' || id, 'DELETE', '/v1/replicas/' || id, NULL
        FROM stray s, unnest(s.ids) id)
    SELECT e.key, e.method, n.endpoint || e.path,
           a67_internal._command_token(push.signing_key, e.node_id, e.method, e.path, e.body, _reconciler_commands.now),
           e.body, (extract(epoch FROM push.timeout) * 1000)::integer, NULL::text[]
    FROM every e JOIN a67_internal.node n USING (node_id), push
    WHERE e.method = 'DELETE' OR e.body IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION a67_internal._reconciler_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[])
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    -- No command can be signed and no secret handed out, nor are heartbeats heard: nothing is decided on what is known.
    IF a67_internal._vault_is_sealed() THEN
        RETURN;
    END IF;
    PERFORM a67_internal._reconciler_secrets(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_give_up(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_balance(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_settle(_reconciler_plan.now);
    PERFORM a67_internal._drain_settle(_reconciler_plan.now);
    RETURN QUERY SELECT * FROM a67_internal._reconciler_commands(_reconciler_plan.now);
END
$$;

-- The message of an agent's error body, or what the connection said.
CREATE OR REPLACE FUNCTION a67_internal._answer_error(status integer, body text, error text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF status = 0 THEN
        RETURN format('could not reach the agent: %s', left(coalesce(error, 'no answer'), 200));
    END IF;
    RETURN format('agent answered %s: %s', status, left(coalesce(body::jsonb ->> 'message', ''), 300));
EXCEPTION WHEN OTHERS THEN
    -- Malformed, too deep, of characters or numbers that jsonb does not take: it must not spoil the others' answers.
    RETURN format('agent answered %s', status);
END
$$;

-- One answered command. A refusal (4xx) is final for this replica; anything else is tried again: three times in all, but
-- without an end when the app runs and is to be told something new.
CREATE OR REPLACE FUNCTION a67_internal._command_record(r a67_internal.replica, now timestamptz, status integer, body text,
    error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    failure text := a67_internal._answer_error(status, body, error);
BEGIN
    IF r.desired_state = 'stopped' AND status IN (204, 404) THEN
        -- Most often its heartbeat has said so already.
        IF r.state <> 'stopped' THEN
            UPDATE a67_internal.replica t SET state = 'stopped' WHERE t.replica_id = r.replica_id;
            PERFORM a67_internal._replica_event(r.replica_id);
        END IF;
        DELETE FROM a67_internal.replica t WHERE t.replica_id = r.replica_id;
    ELSIF status BETWEEN 200 AND 299 THEN
        -- A stopping replica is asked again soon, until nothing of it is left.
        UPDATE a67_internal.replica t
        SET pushed_generation = t.generation, attempts = 0, next_push_at = _command_record.now + interval '2 s',
            state = CASE WHEN t.desired_state = 'stopped' THEN 'stopping' WHEN t.state = 'pending' THEN 'starting' ELSE t.state END
        WHERE t.replica_id = r.replica_id;
    ELSIF r.desired_state = 'running' AND (status BETWEEN 400 AND 499 AND status NOT IN (408, 429)
                                            OR r.attempts >= 2 AND r.state <> 'running') THEN
        PERFORM a67_internal._replica_fail(r.replica_id, now, failure);
    ELSE
        -- 409 to a stop: the node knows a later generation than this database, which was restored; outbid it.
        UPDATE a67_internal.replica t
        SET attempts = t.attempts + 1, error = failure,
            generation = t.generation + CASE status WHEN 409 THEN 1000000 ELSE 0 END,
            next_push_at = _command_record.now + make_interval(secs => a67_internal._backoff_ms(t.attempts + 1, 500, 60000,
                hashtextextended(t.replica_id::text, t.epoch)) / 1000.0)
        WHERE t.replica_id = r.replica_id;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._reconciler_record(now timestamptz, keys text[], statuses integer[], bodies text[],
    errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer record;
    recorded integer := 0;
BEGIN
    -- Nodes before replicas: heartbeats lock in this order.
    UPDATE a67_internal.node_observed o
    SET stray_replicas = ARRAY(SELECT id FROM unnest(o.stray_replicas) id WHERE id <> ALL (gone.ids)),
        stray_lease_until = '-infinity'
    FROM (SELECT split_part(a.key, ' ', 2)::uuid AS node_id, array_agg(split_part(a.key, ' ', 3)::uuid) AS ids
          FROM unnest(keys, statuses) a (key, status)
          WHERE a.key LIKE 'stray %' AND a.status IN (204, 404) GROUP BY 1) gone
    WHERE o.node_id = gone.node_id;
    FOR answer IN
        SELECT r AS replica, a.status, a.body, a.error
        FROM unnest(keys, statuses, bodies, errors) a (key, status, body, error)
        JOIN a67_internal.replica r ON r.replica_id = split_part(a.key, ' ', 1)::uuid
             AND r.epoch = split_part(a.key, ' ', 2)::bigint
        WHERE a.key NOT LIKE 'stray %'
        ORDER BY r.replica_id
        FOR UPDATE OF r
    LOOP
        PERFORM a67_internal._command_record(answer.replica, now, answer.status, answer.body, answer.error);
        recorded := recorded + 1;
    END LOOP;
    RETURN recorded;
END
$$;
