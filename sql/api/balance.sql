-- Balance: how many replicas of each release there are to be, and bringing their number there.
--
-- A deployment has two sides. While a rollout is under way the new side is its to_release, the old side everything else; while
-- it goes back the old side is its from_release, the new side everything else. Otherwise the new side is the deployment's release,
-- and the old side is what is left of others. Runs of cron apps and of smoke tests are on neither.

-- Whether a replica serves: it runs and, where the ingress leads requests to it, is led to.
CREATE OR REPLACE FUNCTION a67_internal._replica_available(r a67_internal.replica) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN r.state = 'running' AND r.desired_state = 'running'
        AND (r.routed = 'in' OR NOT a67_internal._ingress_on()
             OR (SELECT d.app_type <> 'backend' FROM a67_internal.deployment d WHERE d.deployment_id = r.deployment_id));
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._replica_new_side(release integer, current integer, o a67_internal.rollout) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE WHEN o.state IS NULL THEN release = current WHEN o.state = 'rolling_back' THEN release <> o.from_release
                ELSE release = o.to_release END
$$;

-- An app that may not run twice, not even for a moment: one whose replicas stop themselves when they are cut off.
CREATE OR REPLACE FUNCTION a67_internal._release_exclusive(deployment_id uuid, release integer) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT m.manifest ->> 'on_partition' IS NOT DISTINCT FROM 'stop' FROM a67_internal.release m
    WHERE m.deployment_id = _release_exclusive.deployment_id AND m.number = _release_exclusive.release
$$;

-- Whether a first release that is to run as a whole or not at all was given up: then nothing of it is wanted until its owner
-- commands again.
CREATE OR REPLACE FUNCTION a67_internal._deployment_undone(d a67_internal.deployment) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN d.settled_generation = 0 AND d.place_failures >= a67_internal._place_tries()
        AND EXISTS (SELECT FROM a67_internal.release m
                    WHERE m.deployment_id = d.deployment_id AND m.number = d.release AND m.manifest -> 'atomic' = 'true');
END
$$;

-- Gives replicas of one side up: first what does not run, then what is on nodes that are being emptied, that are not well, where replicas
-- have failed, that are near a quota, that have most of the deployment's replicas; then what a release was superseded by, then the youngest.
CREATE OR REPLACE FUNCTION a67_internal._balance_shrink(d a67_internal.deployment, o a67_internal.rollout, side boolean, surplus bigint,
    now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._replicas_give_up(array_agg(v.replica_id), _balance_shrink.now, NULL, NULL)
    FROM (SELECT r.replica_id
          FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id) JOIN a67_internal.node_observed s USING (node_id)
          WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
            AND a67_internal._replica_new_side(r.release, d.release, o) = side
            -- Outside a rollout those on nodes being emptied are the affair of _drain_release.
            AND (o.state IS NOT NULL OR n.desired_state = 'active' OR NOT side)
          ORDER BY a67_internal._replica_available(r), (r.state = 'running'), (n.desired_state = 'active'),
                   (s.status IN ('ready', 'busy')), r.node_id <> ALL (d.avoid_nodes), (NOT s.near_quota),
                   count(*) OVER (PARTITION BY r.node_id) DESC, (r.release = coalesce(o.from_release, d.release)), r.created_at DESC,
                   r.replica_id
          LIMIT surplus) v;
END
$$;

-- Replicas that an app which may not run twice still has somewhere, wanted or not.
CREATE OR REPLACE FUNCTION a67_internal._deployment_there(deployment_id uuid) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT count(*) FROM a67_internal.replica r
    WHERE r.deployment_id = _deployment_there.deployment_id AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
      AND NOT (r.state = 'lost' AND r.desired_state = 'stopped')
$$;

-- Places what is missing on one side, within the bounds on tries, and notes what was short.
CREATE OR REPLACE FUNCTION a67_internal._balance_grow(d a67_internal.deployment, o a67_internal.rollout, side boolean, missing bigint,
    leaving text, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    under_way boolean := o.state IS NOT NULL;
    -- Failures of the release that is rolled out are counted by the rollout: they keep nothing else from being placed.
    by_rollout boolean := under_way AND side AND o.state <> 'rolling_back';
    release integer := CASE WHEN by_rollout THEN o.to_release WHEN under_way THEN o.from_release ELSE d.release END;
    shortage text;
BEGIN
    IF by_rollout AND o.next_place_at > now
       OR NOT by_rollout AND (d.place_failures >= a67_internal._place_tries() OR d.next_place_at > now) THEN
        RETURN;
    END IF;
    IF a67_internal._release_exclusive(d.deployment_id, release) THEN
        missing := least(missing, CASE WHEN under_way THEN o.old_target + o.new_target ELSE d.replicas END
                                  - a67_internal._deployment_there(d.deployment_id));
        IF missing <= 0 AND leaving IS NOT NULL THEN
            RETURN;
        ELSIF missing <= 0 THEN
            shortage := 'a replica starts when the one before has certainly stopped';
        END IF;
    END IF;
    IF missing > 0 THEN
        shortage := a67_internal._deployment_place(d, release, missing::integer, now);
        shortage := CASE WHEN leaving IS NULL THEN shortage ELSE format('cannot empty %s: ', leaving) || shortage END;
    END IF;
    IF under_way THEN
        UPDATE a67_internal.rollout t SET reason = coalesce(shortage, t.reason)
        WHERE t.rollout_id = o.rollout_id AND shortage IS NOT NULL AND t.reason IS DISTINCT FROM shortage;
        RETURN;
    END IF;
    UPDATE a67_internal.deployment t SET status_reason = shortage
    WHERE t.deployment_id = d.deployment_id AND t.status_reason IS DISTINCT FROM shortage
      AND (shortage IS NOT NULL OR t.place_failures = 0);
END
$$;

-- Brings one side of a deployment to its target. live: wanted replicas on nodes in use, serving: those of them that run, leaving: names of
-- nodes that are being emptied. What is on those does not count as live: it is replaced first, and goes as others run in its place.
CREATE OR REPLACE FUNCTION a67_internal._deployment_balance(d a67_internal.deployment, o a67_internal.rollout, side boolean, target integer,
    live bigint, serving bigint, leaving text, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF leaving IS NOT NULL AND a67_internal._release_exclusive(d.deployment_id, d.release) THEN
        PERFORM a67_internal._drain_exclusive(d, live, serving, now);
    ELSIF leaving IS NOT NULL THEN
        PERFORM a67_internal._drain_release(d, o, side, greatest(target - serving, 0)::integer, now);
    END IF;
    IF live > target THEN
        PERFORM a67_internal._balance_shrink(d, o, side, live - target, now);
    ELSIF live < target THEN
        PERFORM a67_internal._balance_grow(d, o, side, target - live, leaving, now);
    END IF;
END
$$;

-- Every side that is not as it should be; what shrinks first. Isolated, an error with one is a warning and stops none of the others.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_balance_all(now timestamptz, isolated boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN
        WITH side AS (
            SELECT d AS deployment, o AS rollout, d.deployment_id, d.name, d.updated_at, s.side,
                   CASE WHEN d.desired_state <> 'running' OR d.app_type = 'cron' THEN 0
                        WHEN o.state IS NOT NULL THEN CASE WHEN s.side THEN o.new_target ELSE o.old_target END
                        WHEN s.side AND NOT a67_internal._deployment_undone(d) THEN d.replicas ELSE 0 END AS target,
                   -- A rolling exchange moves replicas anyway: nothing is placed in the stead of what is to go.
                   o.phase IS NOT DISTINCT FROM 'replace' AND NOT s.side AS going
            FROM a67_internal.deployment d
            LEFT JOIN a67_internal.rollout o ON o.deployment_id = d.deployment_id AND o.finished_at IS NULL
            CROSS JOIN (VALUES (true), (false)) s (side)
        ), there AS (
            SELECT r.deployment_id, a67_internal._replica_new_side(r.release, d.release, o) AS side, count(*) AS wanted,
                   count(*) FILTER (WHERE n.desired_state = 'active') AS live,
                   count(*) FILTER (WHERE n.desired_state = 'active' AND r.state = 'running') AS serving,
                   string_agg(DISTINCT format('"%s"', n.name), ', ') FILTER (WHERE n.desired_state <> 'active') AS leaving
            FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
            JOIN a67_internal.deployment d USING (deployment_id)
            LEFT JOIN a67_internal.rollout o ON o.deployment_id = d.deployment_id AND o.finished_at IS NULL
            WHERE r.desired_state = 'running' AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
            GROUP BY 1, 2)
        SELECT s.deployment, s.rollout, s.name, s.side, s.target, coalesce(l.serving, 0) AS serving,
               coalesce(CASE WHEN s.going THEN l.wanted ELSE l.live END, 0) AS live, CASE WHEN NOT s.going THEN l.leaving END AS leaving
        FROM side s LEFT JOIN there l USING (deployment_id, side)
        WHERE coalesce(CASE WHEN s.going THEN l.wanted ELSE l.live END, 0) <> s.target OR l.leaving IS NOT NULL AND NOT s.going
        ORDER BY coalesce(l.live, 0) < s.target, s.updated_at
    LOOP
        IF NOT isolated THEN
            PERFORM a67_internal._deployment_balance(item.deployment, item.rollout, item.side, item.target, item.live, item.serving,
                item.leaving, now);
            CONTINUE;
        END IF;
        BEGIN
            PERFORM a67_internal._deployment_balance(item.deployment, item.rollout, item.side, item.target, item.live, item.serving,
                item.leaving, now);
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
