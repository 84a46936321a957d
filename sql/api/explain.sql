-- Explaining a deployment, and watching one: for people.

CREATE OR REPLACE FUNCTION a67_internal._node_scores(owner_id uuid, node_ids uuid[], now timestamptz)
RETURNS TABLE (node_id uuid, score float8)
AS 'MODULE_PATHNAME', 'a67_sql_node_scores' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION a67_internal._node_scores(uuid, uuid[], timestamptz) IS 'What selection thinks of these nodes now; those that it does not know are left out';

-- A deployment of the caller's, or any to an administrator; without a lock.
CREATE OR REPLACE FUNCTION a67_internal._deployment_look(deployment text) RETURNS a67_internal.deployment
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    seen a67_internal.deployment;
BEGIN
    SELECT d.* INTO seen FROM a67_internal.deployment d
    WHERE d.name = _deployment_look.deployment AND d.owner_id = caller
       OR d.deployment_id::text = lower(_deployment_look.deployment) AND (d.owner_id = caller OR a67_internal._is_admin())
    ORDER BY d.deployment_id::text = lower(_deployment_look.deployment) DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'deployment "%" does not exist', _deployment_look.deployment USING ERRCODE = 'PT404';
    END IF;
    RETURN seen;
END
$$;

-- Of the deployment as a whole: its status, what is missing and why, a rollout under way.
CREATE OR REPLACE FUNCTION a67_internal._explain_whole(d a67_internal.deployment)
RETURNS TABLE (subject text, finding text, detail text, hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    o a67_internal.rollout := a67_internal._rollout_active(d.deployment_id);
    wanted integer := CASE WHEN d.desired_state = 'running' AND d.app_type <> 'cron' THEN d.replicas ELSE 0 END;
    running bigint := (SELECT count(*) FROM a67_internal.replica r WHERE r.deployment_id = d.deployment_id AND r.state = 'running'
                       AND r.desired_state = 'running' AND r.cron_run_id IS NULL AND r.rollout_id IS NULL);
BEGIN
    RETURN QUERY SELECT 'deployment', d.status, concat_ws('; ', format('%s of %s replicas run, release %s', running, wanted, d.release), d.status_reason),
        CASE WHEN d.desired_state = 'stopped' THEN 'a67.deployment_start() starts it.'
             WHEN d.app_type = 'cron' THEN 'A cron app runs when its schedule comes due.' END;
    IF a67_internal._vault_is_sealed() THEN
        RETURN QUERY SELECT 'controller', 'the vault is sealed', 'No command can be signed and no secret handed out: nothing changes.',
            'An administrator unseals it with a67.vault_unseal().';
    END IF;
    IF o.rollout_id IS NOT NULL THEN
        RETURN QUERY SELECT 'rollout', a67_internal._rollout_text(o),
            format('%s replicas wanted of the new release, %s of the old; in this phase since %s', o.new_target, o.old_target,
                   to_char(o.phase_at, 'YYYY-MM-DD HH24:MI:SS TZ')),
            CASE o.state WHEN 'paused' THEN 'a67.deployment_resume() lets it go on, a67.deployment_abort() takes it back.'
                         WHEN 'running' THEN 'a67.deployment_abort() takes it back, a67.deployment_promote() hurries it.' END;
    END IF;
    IF d.place_failures >= a67_internal._place_tries() THEN
        RETURN QUERY SELECT 'placement', 'given up', format('%s replicas failed in a row', d.place_failures),
            'Mend the app; a67.deployment_start() tries again, a67.deployment_update() brings another release.';
    ELSIF d.next_place_at > now() AND running < wanted THEN
        RETURN QUERY SELECT 'placement', 'waits', format('after a failure, until %s', to_char(d.next_place_at, 'HH24:MI:SS TZ')), NULL;
    END IF;
END
$$;

-- Where the next replica could go, or why nowhere.
CREATE OR REPLACE FUNCTION a67_internal._explain_room(d a67_internal.deployment)
RETURNS TABLE (subject text, finding text, detail text, hint text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    m jsonb := (SELECT r.manifest FROM a67_internal.release r WHERE r.deployment_id = d.deployment_id
                AND r.number = coalesce((a67_internal._rollout_active(d.deployment_id)).to_release, d.release));
    rule record := a67_internal._place_barred(d.owner_id, m);
    found_place record;
BEGIN
    SELECT max(p.node_id::text)::uuid AS node_id, max(p.shortage) AS shortage INTO found_place
    FROM a67_internal._place(d.owner_id, 1, (m #>> '{resources,memory_bytes}')::bigint, (m #>> '{resources,cpu}')::float8,
        coalesce((m #>> '{resources,disk_bytes}')::bigint, 0),
        ARRAY(SELECT r.node_id FROM a67_internal.replica r WHERE r.deployment_id = d.deployment_id), d.avoid_nodes, '{}', rule.barred, now(), 0) p;
    IF found_place.node_id IS NOT NULL THEN
        RETURN QUERY SELECT 'capacity', 'there is room', format('the next replica could go to node "%s"', n.name), NULL
        FROM a67_internal.node n WHERE n.node_id = found_place.node_id;
    ELSE
        RETURN QUERY SELECT 'capacity', 'no room for another replica', concat_ws(' ', found_place.shortage, rule.note),
            'Join another node, activate one that was taken out, ask for less, or widen the affinity.';
    END IF;
    RETURN QUERY SELECT 'node ' || n.name, 'avoided', 'a replica failed there lately: it is chosen last', NULL
    FROM unnest(d.avoid_nodes) a (node_id) JOIN a67_internal.node n USING (node_id) ORDER BY n.name;
END
$$;

-- Each replica: how it is, why it does not run, why it is where it is.
CREATE OR REPLACE FUNCTION a67_internal._explain_replicas(d a67_internal.deployment)
RETURNS TABLE (subject text, finding text, detail text, hint text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format('replica %s on %s', left(r.replica_id::text, 8), n.name),
           CASE WHEN r.desired_state = 'stopped' AND r.drain_until > now() THEN 'draining'
                WHEN r.desired_state = 'stopped' THEN 'stopping'
                WHEN r.state = 'running' AND NOT a67_internal._replica_available(r) THEN 'running, but gets no requests yet'
                ELSE r.state END,
           concat_ws('; ', 'release ' || r.release, r.error,
               CASE WHEN o.status NOT IN ('ready', 'busy') THEN format('the node is %s', o.status) END,
               CASE WHEN n.desired_state <> 'active' THEN format('the node is taken out (%s)', n.desired_state) END,
               CASE WHEN r.desired_state = 'running' AND r.state <> 'running' AND r.pushed_generation <> r.generation
                    THEN format('not told to its agent yet, tried %s times', r.attempts) END,
               CASE WHEN r.deadline_at IS NOT NULL AND r.desired_state = 'running'
                    THEN format('must run by %s', to_char(r.deadline_at, 'HH24:MI:SS TZ')) END,
               CASE WHEN r.restarts > 0 THEN format('restarted %s times', r.restarts) END,
               CASE WHEN r.placed_score IS NOT NULL THEN format('score of the node %s when it was placed', round(r.placed_score::numeric, 3)) END,
               CASE WHEN s.score IS NOT NULL THEN format('%s now', round(s.score::numeric, 3)) END,
               nullif(right(btrim(r.log_tail, E' \n'), 300), '')),
           CASE WHEN r.state = 'lost' AND r.desired_state = 'running' THEN 'It may not run twice: another starts when this one has certainly stopped.' END
    FROM a67_internal.replica r
    JOIN a67_internal.node n USING (node_id)
    JOIN a67_internal.node_observed o USING (node_id)
    LEFT JOIN a67_internal._node_scores(d.owner_id, ARRAY(SELECT DISTINCT t.node_id FROM a67_internal.replica t
                                                          WHERE t.deployment_id = d.deployment_id), clock_timestamp()) s USING (node_id)
    WHERE r.deployment_id = d.deployment_id
    ORDER BY r.desired_state, r.state = 'running', n.name, r.replica_id LIMIT 200
$$;

CREATE OR REPLACE FUNCTION a67.deployment_explain(deployment text)
RETURNS TABLE (subject text, finding text, detail text, hint text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_look(deployment);
BEGIN
    RETURN QUERY SELECT * FROM a67_internal._explain_whole(d);
    IF d.desired_state = 'running' THEN
        RETURN QUERY SELECT * FROM a67_internal._explain_room(d);
    END IF;
    RETURN QUERY SELECT * FROM a67_internal._explain_replicas(d);
    RETURN QUERY SELECT format('failure on %s', f.node), coalesce(f.error, 'failed'),
        concat_ws('; ', format('release %s at %s', f.release, to_char(f.at, 'YYYY-MM-DD HH24:MI:SS TZ')),
                  nullif(right(btrim(f.log_tail, E' \n'), 1000), '')), NULL
    FROM a67_internal.replica_failure f WHERE f.deployment_id = d.deployment_id
    ORDER BY f.replica_failure_id DESC LIMIT 5;
END
$$;
COMMENT ON FUNCTION a67.deployment_explain(text) IS
    'Why a deployment is as it is: what is missing and why, a rollout, capacity, each replica with the score of its node, the last failures';

-- ---- watching -----------------------------------------------------------------------------------------------------------

-- One line of progress. VOLATILE: each call sees what others have committed meanwhile.
CREATE OR REPLACE FUNCTION a67_internal._watch_line(deployment_id uuid, OUT status text, OUT progress text, OUT done boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    SELECT d.status, concat_ws('; ', format('%s of %s replicas run%s', c.running, d.replicas,
               CASE WHEN c.others > 0 THEN format(', %s on their way', c.others) ELSE '' END), d.status_reason),
           d.settled_generation = d.generation AND d.status IN ('running', 'stopped') OR d.status IN ('failed')
               OR o.state IS NOT DISTINCT FROM 'paused' OR d.status = 'failing' AND d.place_failures >= a67_internal._place_tries()
    INTO status, progress, done
    FROM a67_internal.deployment d
    LEFT JOIN a67_internal.rollout o ON o.deployment_id = d.deployment_id AND o.finished_at IS NULL
    CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE r.state = 'running' AND r.desired_state = 'running') AS running,
                               count(*) FILTER (WHERE r.state <> 'running' OR r.desired_state <> 'running') AS others
                        FROM a67_internal.replica r WHERE r.deployment_id = d.deployment_id AND r.cron_run_id IS NULL AND r.rollout_id IS NULL) c
    WHERE d.deployment_id = _watch_line.deployment_id;
    IF NOT FOUND THEN
        status := 'removed';
        progress := 'the deployment is gone';
        done := true;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_watch(deployment text, timeout interval DEFAULT '10 min')
RETURNS TABLE (at timestamptz, status text, progress text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_look(deployment);
    deadline timestamptz;
    line record;
    last_line text;
BEGIN
    IF timeout IS NULL OR timeout < interval '0' OR timeout > interval '1 day' THEN
        RAISE EXCEPTION 'timeout must be an interval up to 1 day' USING ERRCODE = '22023', DETAIL = 'Field: timeout.';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'cannot watch in a transaction that sees no changes' USING ERRCODE = '25001',
            DETAIL = format('Its isolation level is %s.', current_setting('transaction_isolation'));
    END IF;
    deadline := clock_timestamp() + timeout;
    LOOP
        line := a67_internal._watch_line(d.deployment_id);
        IF last_line IS DISTINCT FROM line.status || line.progress THEN
            last_line := line.status || line.progress;
            at := clock_timestamp();
            status := line.status;
            progress := line.progress;
            -- The rows are sent when the function ends; a notice is sent at once.
            RAISE NOTICE '%: %', status, progress;
            RETURN NEXT;
        END IF;
        EXIT WHEN line.done OR clock_timestamp() >= deadline;
        PERFORM pg_sleep(least(0.2, extract(epoch FROM deadline - clock_timestamp())));
    END LOOP;
END
$$;
COMMENT ON FUNCTION a67.deployment_watch(text, interval) IS
    'Follows a deployment until it is settled, failed or paused, or the time is over: notices as it comes forward, then the same as rows';
