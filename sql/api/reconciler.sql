-- The reconciler: makes desired state true. The worker only calls _reconciler_plan and _reconciler_record.
-- A plan is one short transaction: it gives up what is lost, places what is missing, picks what is surplus, judges
-- each deployment's status, and hands out commands. A command is leased (next_push_at) and fenced (epoch): an answer
-- that comes after the row has changed is dropped, and a command whose worker died is sent again when the lease ends.

-- How many failed replicas in a row a deployment survives before it is given up until its owner commands again.
CREATE OR REPLACE FUNCTION a67_internal._place_tries() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 5';

-- Events of these replicas, all at once.
CREATE OR REPLACE FUNCTION a67_internal._replica_events(replica_ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    INSERT INTO a67_internal.event (owner_id, type, subject_id, payload)
    SELECT d.owner_id, 'replica.changed', r.replica_id, jsonb_strip_nulls(jsonb_build_object(
        'deployment', d.name, 'node', n.name, 'release', r.release, 'state', r.state, 'desired', r.desired_state, 'error', r.error,
        'log_tail', CASE WHEN r.state = 'failed' THEN left(r.log_tail, 2000) END))
    FROM a67_internal.replica r
    JOIN a67_internal.deployment d USING (deployment_id)
    JOIN a67_internal.node n USING (node_id)
    WHERE r.replica_id = ANY (replica_ids);
    PERFORM a67_internal._wake('listener');
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._replica_event(replica_id uuid) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._replica_events(ARRAY[replica_id])
$$;

-- Gives replicas up: their nodes are to stop them, nothing counts them any more. What gets requests is drained first.
CREATE OR REPLACE FUNCTION a67_internal._replicas_give_up(replica_ids uuid[], now timestamptz, state text, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    given_up uuid[];
BEGIN
    WITH changed AS (
        UPDATE a67_internal.replica r
        SET desired_state = 'stopped', generation = r.generation + 1, epoch = r.epoch + 1, next_push_at = _replicas_give_up.now,
            attempts = 0, deadline_at = NULL, state = coalesce(_replicas_give_up.state, r.state), state_at = _replicas_give_up.now,
            error = coalesce(_replicas_give_up.error, r.error),
            drain_until = CASE WHEN r.routed <> 'out' AND r.state = 'running'
                               THEN _replicas_give_up.now + current_setting('a67.drain_timeout')::interval ELSE r.drain_until END
        WHERE r.replica_id = ANY (replica_ids) AND r.desired_state = 'running'
        RETURNING r.replica_id)
    SELECT array_agg(c.replica_id) INTO given_up FROM changed c;
    IF given_up IS NOT NULL THEN
        PERFORM a67_internal._replica_events(given_up);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._replica_give_up(replica_id uuid, now timestamptz, state text, error text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._replicas_give_up(ARRAY[replica_id], now, state, error)
$$;

-- Keeps how a replica failed, for as long as nineteen others of its deployment have not.
CREATE OR REPLACE FUNCTION a67_internal._replica_failure_add(r a67_internal.replica, now timestamptz, error text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    INSERT INTO a67_internal.replica_failure (deployment_id, replica_id, release, node, at, error, log_tail)
    SELECT r.deployment_id, r.replica_id, r.release, n.name, now, error, r.log_tail
    FROM a67_internal.node n WHERE n.node_id = r.node_id;
    DELETE FROM a67_internal.replica_failure f
    WHERE f.deployment_id = r.deployment_id AND f.replica_failure_id <= (
        SELECT t.replica_failure_id FROM a67_internal.replica_failure t WHERE t.deployment_id = r.deployment_id
        ORDER BY t.replica_failure_id DESC OFFSET 20 LIMIT 1)
$$;

-- A replica that failed by itself: given up, its node avoided, the next try delayed. It counts against the rollout of its
-- release, if there is one under way, else against the deployment; a run counts against neither.
CREATE OR REPLACE FUNCTION a67_internal._replica_fail(replica_id uuid, now timestamptz, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    r a67_internal.replica;
    reason text;
BEGIN
    SELECT t.* INTO r FROM a67_internal.replica t WHERE t.replica_id = _replica_fail.replica_id AND t.desired_state = 'running';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    reason := left(coalesce(_replica_fail.error, r.error), 500);
    PERFORM a67_internal._replica_failure_add(r, _replica_fail.now, reason);
    IF r.rollout_id IS NOT NULL THEN
        -- Its rollout takes note of it (_rollout_runs_settle).
        UPDATE a67_internal.replica t SET state = 'failed', error = reason WHERE t.replica_id = r.replica_id;
        RETURN;
    ELSIF r.cron_run_id IS NULL THEN
        UPDATE a67_internal.rollout o
        SET failures = o.failures + 1, next_place_at = _replica_fail.now + make_interval(secs => a67_internal._backoff_ms(o.failures + 1,
                500, 60000, hashtextextended(o.rollout_id::text, o.failures)) / 1000.0)
        WHERE o.deployment_id = r.deployment_id AND o.finished_at IS NULL AND o.to_release = r.release;
        UPDATE a67_internal.deployment d
        SET place_failures = d.place_failures + (NOT FOUND)::integer,
            avoid_nodes = CASE WHEN r.node_id = ANY (d.avoid_nodes) THEN d.avoid_nodes ELSE d.avoid_nodes[1:99] || r.node_id END,
            next_place_at = CASE WHEN FOUND THEN d.next_place_at ELSE
                _replica_fail.now + make_interval(secs => a67_internal._backoff_ms(d.place_failures + 1, 500, 60000,
                    hashtextextended(d.deployment_id::text, d.place_failures)) / 1000.0) END,
            status_reason = reason
        WHERE d.deployment_id = r.deployment_id;
    END IF;
    PERFORM a67_internal._replica_give_up(r.replica_id, now, 'failed', error);
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
                pid integer, restarts integer, error text, log_tail text, started_at timestamptz, exit_code integer,
                duration_ms bigint))
        UPDATE a67_internal.replica t
        SET state = p.state, port = p.port, pid = p.pid, restarts = coalesce(p.restarts, 0), error = left(p.error, 500),
            observed_generation = coalesce(p.generation, 0), log_tail = left(p.log_tail, 2000),
            started_at = p.started_at, exit_code = p.exit_code, duration_ms = p.duration_ms,
            state_at = CASE WHEN t.state <> p.state THEN clock_timestamp() ELSE t.state_at END,
            deadline_at = CASE WHEN p.state NOT IN ('running', 'finished') THEN t.deadline_at END,
            next_push_at = CASE WHEN t.desired_state = 'stopped' AND p.state IN ('stopped', 'failed', 'finished') THEN '-infinity'
                                ELSE t.next_push_at END
        FROM report p
        WHERE t.replica_id = p.id AND t.node_id = here.node_id
          AND (t.desired_state = 'running' AND p.generation = t.generation
               OR t.desired_state = 'stopped' AND p.state IN ('stopping', 'stopped', 'failed', 'finished'))
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

-- How long after its node was found dead a replica that stops itself has certainly stopped: its deadline and its grace, what may have
-- been under way to the node at that moment, and 10 s.
CREATE OR REPLACE FUNCTION a67_internal._partition_margin(manifest jsonb) RETURNS interval
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT make_interval(secs => 10 + ((manifest ->> 'partition_deadline_ms')::float8 + (manifest ->> 'stop_grace_ms')::float8) / 1000)
        + 2 * current_setting('a67.push_timeout')::interval
$$;

-- Replicas on dead nodes are lost. Where their app may not run twice, they are so only when they have certainly stopped themselves: the
-- node cannot have heard of the controller after it was found dead, so its replicas end within their deadline and grace from then.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_lose(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT v.name, v.status, v.gone, array_agg(v.replica_id) AS ids
        FROM (SELECT r.replica_id, n.name, o.status, m.manifest ->> 'on_partition' IS DISTINCT FROM 'stop'
                  OR o.status_at + a67_internal._partition_margin(m.manifest) <= _reconciler_lose.now AS gone
              FROM a67_internal.node_observed o
              JOIN a67_internal.replica r USING (node_id)
              JOIN a67_internal.node n USING (node_id)
              JOIN a67_internal.release m ON m.deployment_id = r.deployment_id AND m.number = r.release
              WHERE o.status IN ('failed', 'removed') AND (r.desired_state = 'running' OR r.state <> 'lost')) v
        GROUP BY v.name, v.status, v.gone
    LOOP
        IF item.gone THEN
            PERFORM a67_internal._replicas_give_up(item.ids, _reconciler_lose.now, 'lost', format('node "%s" %s', item.name, item.status));
        END IF;
        UPDATE a67_internal.replica r
        SET state = 'lost', deadline_at = NULL,
            error = CASE WHEN item.gone THEN r.error
                         ELSE format('node "%s" %s: replaced when it has certainly stopped there', item.name, item.status) END
        WHERE r.replica_id = ANY (item.ids) AND r.state <> 'lost' AND (item.gone OR r.desired_state = 'running');
    END LOOP;
END
$$;

-- Gives up what cannot go on: replicas on dead nodes, replicas that failed or were not running in time.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_give_up(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    forgotten bigint;
    away boolean := a67_internal._monitor_away(now);
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
    PERFORM a67_internal._reconciler_lose(_reconciler_give_up.now);
    PERFORM a67_internal._replica_fail(r.replica_id, _reconciler_give_up.now,
        CASE WHEN r.state <> 'failed' THEN format('not running within %s', current_setting('a67.deploy_timeout')) END)
    FROM a67_internal.replica r
    WHERE r.desired_state = 'running'
      AND (r.state = 'failed' AND r.rollout_id IS NULL OR NOT away AND r.deadline_at <= _reconciler_give_up.now);
    -- All or nothing, and it was not all in time: nothing is placed any more, and what is there goes (_deployment_undone).
    UPDATE a67_internal.deployment d
    SET place_failures = a67_internal._place_tries(), status_reason = concat_ws(': ',
        format('not all of %s replicas ran within %s', d.replicas, current_setting('a67.deploy_timeout')), d.status_reason)
    WHERE d.settled_generation = 0 AND d.desired_state = 'running' AND d.place_failures < a67_internal._place_tries()
      AND NOT away AND d.updated_at + current_setting('a67.deploy_timeout')::interval <= _reconciler_give_up.now
      AND EXISTS (SELECT FROM a67_internal.release m
                  WHERE m.deployment_id = d.deployment_id AND m.number = d.release AND m.manifest -> 'atomic' = 'true');
    -- A removed node confirms nothing any more; its agent stops everything when it is told so.
    DELETE FROM a67_internal.replica r USING a67_internal.node n
    WHERE n.node_id = r.node_id AND n.desired_state = 'removed' AND r.desired_state = 'stopped' AND r.state = 'lost';
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

-- The status that follows from the rows of a deployment; renewed are running ones that have the newest secrets.
CREATE OR REPLACE FUNCTION a67_internal._deployment_status(d a67_internal.deployment, o a67_internal.rollout, running bigint, renewed bigint,
    total bigint) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE
        WHEN d.app_type = 'cron' AND d.desired_state = 'running' THEN 'running'
        WHEN d.desired_state <> 'running' OR d.replicas = 0 AND o.state IS NULL
            THEN CASE WHEN total = 0 THEN 'stopped' ELSE 'stopping' END
        WHEN o.state IS NOT NULL THEN CASE WHEN running = 0 AND d.settled_generation > 0 AND o.strategy ->> 'type' <> 'recreate'
                                           THEN 'failing' ELSE 'deploying' END
        -- Beyond that number are only replicas that wait to be replaced on nodes being emptied.
        WHEN renewed >= d.replicas THEN 'running'
        WHEN d.place_failures >= a67_internal._place_tries() THEN CASE WHEN running = 0 THEN 'failed' ELSE 'failing' END
        WHEN d.settled_generation = d.generation THEN 'failing'
        WHEN d.settled_generation > 0 THEN 'scaling'
        WHEN total = 0 THEN 'pending'
        ELSE 'deploying' END
$$;

-- One deployment whose status is another than it bears.
CREATE OR REPLACE FUNCTION a67_internal._deployment_settle(d a67_internal.deployment, status text, running bigint, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    -- Why the last rollout went back is worth telling until the owner's next command.
    UPDATE a67_internal.deployment t
    SET status = _deployment_settle.status, status_at = _deployment_settle.now,
        status_reason = CASE WHEN _deployment_settle.status NOT IN ('running', 'stopped') THEN t.status_reason
                             WHEN _deployment_settle.status = 'running' THEN (
                                 SELECT a67_internal._rollout_text(o) FROM a67_internal.rollout o
                                 WHERE o.deployment_id = t.deployment_id AND o.state IN ('rolled_back', 'aborted', 'failed')
                                   AND o.created_at >= t.updated_at ORDER BY o.created_at DESC LIMIT 1) END
    WHERE t.deployment_id = d.deployment_id;
    PERFORM a67_internal._event(d.owner_id, 'deployment.changed', d.deployment_id, jsonb_build_object(
        'deployment', d.name, 'from', d.status, 'status', status, 'running', running));
    IF status = 'failed' OR status = 'failing' AND d.place_failures >= a67_internal._place_tries() THEN
        PERFORM a67_internal._alert_raise(d.owner_id, 'critical', d.deployment_id,
            'deployment-failed:' || d.deployment_id, format('deployment "%s" is %s', d.name, status));
    ELSIF status IN ('running', 'stopped') THEN
        PERFORM a67_internal._alert_resolve('deployment-failed:' || d.deployment_id);
    END IF;
END
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
        WITH counted AS (
            SELECT d AS deployment, d.deployment_id, d.owner_id, d.name, d.status AS old_status, d.desired_state, d.generation,
                   d.settled_generation, d.status_reason, count(r) FILTER (WHERE r.state = 'running' AND r.desired_state = 'running') AS running,
                   count(r) FILTER (WHERE r.state = 'running' AND r.desired_state = 'running' AND (d.secrets_version IS NULL
                       OR r.secrets_version = d.secrets_version AND r.observed_generation = r.generation)) AS renewed,
                   -- Runs hold up an end, and nothing else.
                   count(r.replica_id) + CASE d.desired_state WHEN 'running' THEN 0 ELSE (SELECT count(*) FROM a67_internal.replica c
                       WHERE c.deployment_id = d.deployment_id AND (c.cron_run_id IS NOT NULL OR c.rollout_id IS NOT NULL)) END AS total
            FROM a67_internal.deployment d
            LEFT JOIN a67_internal.replica r ON r.deployment_id = d.deployment_id AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
            GROUP BY d.deployment_id
        ), judged AS (
            SELECT c.*, a67_internal._deployment_status(c.deployment, o, c.running, c.renewed, c.total) AS status,
                   CASE WHEN o.state IS NOT NULL THEN a67_internal._rollout_text(o) ELSE c.status_reason END AS reason
            FROM counted c LEFT JOIN a67_internal.rollout o ON o.deployment_id = c.deployment_id AND o.finished_at IS NULL)
        SELECT * FROM judged j
        WHERE j.status <> j.old_status OR j.reason IS DISTINCT FROM j.status_reason OR j.status = 'stopped' AND j.desired_state = 'removed'
           OR j.status IN ('running', 'stopped') AND j.settled_generation <> j.generation
    LOOP
        IF item.status = 'stopped' AND item.desired_state = 'removed' THEN
            DELETE FROM a67_internal.deployment d WHERE d.deployment_id = item.deployment_id;
            PERFORM a67_internal._event(item.owner_id, 'deployment.changed', item.deployment_id,
                jsonb_build_object('deployment', item.name, 'status', 'removed'));
            PERFORM a67_internal._alert_resolve('deployment-failed:' || item.deployment_id),
                    a67_internal._alert_resolve('rollout-failed:' || item.deployment_id);
            CONTINUE;
        END IF;
        UPDATE a67_internal.deployment d
        SET status_reason = item.reason,
            settled_generation = CASE WHEN item.status IN ('running', 'stopped') THEN d.generation ELSE d.settled_generation END
        WHERE d.deployment_id = item.deployment_id;
        IF item.status <> item.old_status THEN
            PERFORM a67_internal._deployment_settle(item.deployment, item.status, item.running, now);
        END IF;
    END LOOP;
END
$$;

-- The desired state of a release's replicas as their agents are told it (docs/protocol.md), but for what each has of its own.
CREATE OR REPLACE FUNCTION a67_internal._release_desired(m a67_internal.release) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'deployment', m.manifest -> 'name', 'release', m.number,
        'app_type', m.manifest -> 'app_type', 'runner', m.manifest -> 'runner', 'runtime', m.manifest -> 'runtime',
        'package', jsonb_build_object('digest', m.package_digest, 'path', '/api/v1/packages/' || m.package_digest),
        'entrypoint', m.manifest -> 'entrypoint',
        'on_secret_change', m.manifest -> 'on_secret_change', 'health_check', m.manifest -> 'health_check',
        'resources', m.manifest -> 'resources', 'stop_grace_ms', m.manifest -> 'stop_grace_ms',
        'on_partition', m.manifest -> 'on_partition', 'partition_deadline_ms', m.manifest -> 'partition_deadline_ms',
        'run_timeout_ms', m.manifest -> 'run_timeout_ms'))
$$;

-- The body of its command, made of what its release says; NULL while its secrets cannot be handed out.
CREATE OR REPLACE FUNCTION a67_internal._replica_body(r a67_internal.replica, desired jsonb, sealed boolean) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    box text;
BEGIN
    desired := desired || jsonb_build_object('generation', r.generation);
    IF r.rollout_id IS NOT NULL THEN
        desired := a67_internal._rollout_run_desired(r, desired);
    END IF;
    IF sealed THEN
        box := a67_internal._env_hand_out(r);
        RETURN (desired || jsonb_strip_nulls(jsonb_build_object('env_version', r.secrets_version))
                || CASE WHEN box IS NOT NULL THEN jsonb_build_object('sealed_env', box) END)::text;
    END IF;
    RETURN desired::text;
END
$$;

-- Leases the commands that are due, at most 1000, and writes them out. A generation is bound to the versions of the secrets
-- that were first handed out under it: when they have changed since, the next one begins.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_commands(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH push AS (
        SELECT current_setting('a67.push_timeout')::interval AS timeout, a67_internal._current_key('ed25519') AS signing_key
    ), due AS (
        SELECT r.replica_id, CASE WHEN m.secrets <> '{}' THEN a67_internal._secrets_version(r.deployment_id, r.release) END AS secrets_version
        FROM a67_internal.replica r JOIN a67_internal.node_observed o USING (node_id)
        JOIN a67_internal.release m ON m.deployment_id = r.deployment_id AND m.number = r.release
        WHERE (r.pushed_generation <> r.generation OR r.desired_state = 'stopped')
          AND r.next_push_at <= _reconciler_commands.now AND o.status NOT IN ('failed', 'offline', 'removed')
          AND (r.desired_state = 'running' OR r.drain_until <= _reconciler_commands.now)
        ORDER BY r.next_push_at LIMIT 1000
        FOR UPDATE OF r SKIP LOCKED
    ), leased AS (
        UPDATE a67_internal.replica r
        SET epoch = r.epoch + 1, handed = r.handed + (r.desired_state = 'running')::integer,
            next_push_at = _reconciler_commands.now + push.timeout + interval '1 s',
            secrets_version = due.secrets_version,
            generation = r.generation + CASE WHEN r.desired_state = 'running' AND r.secrets_version IS NOT NULL
                                              AND r.secrets_version IS DISTINCT FROM due.secrets_version THEN 1 ELSE 0 END
        FROM due, push WHERE r.replica_id = due.replica_id
        RETURNING r AS row, r.replica_id, r.deployment_id, r.release, r.node_id, r.epoch, r.generation, r.desired_state
    ), told AS MATERIALIZED (
        SELECT m.deployment_id, m.number AS release, a67_internal._release_desired(m) AS desired,
               m.env_sealed IS NOT NULL OR m.secrets <> '{}' AS sealed
        FROM (SELECT DISTINCT l.deployment_id, l.release FROM leased l WHERE l.desired_state = 'running') u
        JOIN a67_internal.release m ON m.deployment_id = u.deployment_id AND m.number = u.release
    ), command AS (
        SELECT l.node_id, l.replica_id || ' ' || l.epoch AS key,
               CASE l.desired_state WHEN 'running' THEN 'PUT' ELSE 'DELETE' END AS method,
               '/v1/replicas/' || l.replica_id
                   || CASE l.desired_state WHEN 'running' THEN '' ELSE '?generation=' || l.generation END AS path,
               CASE l.desired_state WHEN 'running' THEN a67_internal._replica_body(l.row, t.desired, t.sealed) END AS body
        FROM leased l LEFT JOIN told t USING (deployment_id, release)
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
           e.body, (extract(epoch FROM push.timeout) * 1000)::integer, NULL::text[],
           a67_internal._node_pin(n.public_key)
    FROM every e JOIN a67_internal.node n USING (node_id), push
    WHERE e.method = 'DELETE' OR e.body IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION a67_internal._reconciler_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    -- No command can be signed and no secret handed out, nor are heartbeats heard: nothing is decided on what is known.
    IF a67_internal._vault_is_sealed() THEN
        RETURN;
    END IF;
    PERFORM a67_internal._reconciler_secrets(_reconciler_plan.now);
    PERFORM a67_internal._cron_tick(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_give_up(_reconciler_plan.now);
    PERFORM a67_internal._rollout_runs_settle(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_rollouts(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_balance(_reconciler_plan.now);
    PERFORM a67_internal._rollout_runs_place(_reconciler_plan.now);
    PERFORM a67_internal._reconciler_settle(_reconciler_plan.now);
    PERFORM a67_internal._drain_settle(_reconciler_plan.now);
    RETURN QUERY SELECT * FROM a67_internal._reconciler_commands(_reconciler_plan.now)
        UNION ALL SELECT * FROM a67_internal._rollout_tests(_reconciler_plan.now);
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

-- Whether it is certain that the agent did not take a command: it said so, or the request never left.
CREATE OR REPLACE FUNCTION a67_internal._answer_refusal(status integer, error text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status BETWEEN 400 AND 499 AND status NOT IN (408, 409) OR status IN (503, 507)
       OR status = 0 AND coalesce(error IN ('connection refused', 'no route to host', 'network is unreachable', 'host not found',
           'could not connect', 'address not allowed', 'tls failed', 'not the pinned key', 'malformed url'), false);

-- One answered command that was not done. A refusal (4xx) is final for this replica; anything else is tried again: three times in
-- all, but without an end when the app runs and is to be told something new.
CREATE OR REPLACE FUNCTION a67_internal._command_record(r a67_internal.replica, now timestamptz, status integer, body text,
    error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    failure text := a67_internal._answer_error(status, body, error);
BEGIN
    IF r.desired_state = 'running' AND a67_internal._answer_refusal(status, error) THEN
        UPDATE a67_internal.replica t SET handed = t.handed - 1 WHERE t.replica_id = r.replica_id;
    END IF;
    IF r.desired_state = 'running' AND (status BETWEEN 400 AND 499 AND status NOT IN (408, 429)
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

-- Stray replicas that are gone. Nodes before replicas: heartbeats lock in this order.
CREATE OR REPLACE FUNCTION a67_internal._strays_record(keys text[], statuses integer[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    UPDATE a67_internal.node_observed o
    SET stray_replicas = ARRAY(SELECT id FROM unnest(o.stray_replicas) id WHERE id <> ALL (gone.ids)),
        stray_lease_until = '-infinity'
    FROM (SELECT split_part(a.key, ' ', 2)::uuid AS node_id, array_agg(split_part(a.key, ' ', 3)::uuid) AS ids
          FROM unnest(keys, statuses) a (key, status)
          WHERE a.key LIKE 'stray %' AND a.status IN (204, 404) GROUP BY 1) gone
    WHERE o.node_id = gone.node_id
$$;

-- Answers, in one statement each: what was taken, what has stopped; the rest one by one.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_record(now timestamptz, keys text[], statuses integer[], bodies text[],
    errors text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer record;
    taken uuid[];
    stopped uuid[];
    unsaid uuid[];
    recorded integer;
BEGIN
    PERFORM a67_internal._strays_record(keys, statuses);
    recorded := a67_internal._rollout_tests_record(now, keys, statuses, errors);
    FOR answer IN
        SELECT r AS replica, r.replica_id, r.desired_state, r.state, a.status, a.body, a.error
        FROM unnest(keys, statuses, bodies, errors) a (key, status, body, error)
        JOIN a67_internal.replica r ON r.replica_id = split_part(a.key, ' ', 1)::uuid
             AND r.epoch = split_part(a.key, ' ', 2)::bigint
        WHERE a.key NOT LIKE 'stray %' AND a.key NOT LIKE 'test %'
        ORDER BY r.replica_id
        FOR UPDATE OF r
    LOOP
        recorded := recorded + 1;
        IF answer.desired_state = 'stopped' AND answer.status IN (204, 404) THEN
            stopped := stopped || answer.replica_id;
            -- Most often its heartbeat has said so already.
            unsaid := CASE WHEN answer.state = 'stopped' THEN unsaid ELSE unsaid || answer.replica_id END;
        ELSIF answer.status BETWEEN 200 AND 299 THEN
            taken := taken || answer.replica_id;
        ELSE
            PERFORM a67_internal._command_record(answer.replica, now, answer.status, answer.body, answer.error);
        END IF;
    END LOOP;
    -- A stopping replica is asked again soon, until nothing of it is left.
    UPDATE a67_internal.replica t
    SET pushed_generation = t.generation, attempts = 0, next_push_at = _reconciler_record.now + interval '2 s',
        state = CASE WHEN t.desired_state = 'stopped' THEN 'stopping' WHEN t.state = 'pending' THEN 'starting' ELSE t.state END
    WHERE t.replica_id = ANY (taken);
    IF unsaid IS NOT NULL THEN
        UPDATE a67_internal.replica t SET state = 'stopped' WHERE t.replica_id = ANY (unsaid);
        PERFORM a67_internal._replica_events(unsaid);
    END IF;
    DELETE FROM a67_internal.replica t WHERE t.replica_id = ANY (stopped);
    RETURN recorded;
END
$$;
