-- Taking a node out and back in. A node that is drained or in maintenance gets no new replicas, and the reconciler moves
-- those it has: the replacement runs first, then the old one is stopped. What finds no room elsewhere stays where it is.

-- What a command that takes a node out or in answers.
CREATE OR REPLACE FUNCTION a67_internal._node_desire_json(node_id uuid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', n.node_id, 'name', n.name, 'desired_state', n.desired_state, 'status', o.status,
        'drained_at', o.drained_at,
        'replicas', (SELECT count(*) FROM a67_internal.replica r WHERE r.node_id = n.node_id AND r.desired_state = 'running'))
    FROM a67_internal.node n JOIN a67_internal.node_observed o USING (node_id)
    WHERE n.node_id = _node_desire_json.node_id
$$;

-- Sets the desired state of a node of the caller's; nothing happens when it is that already.
CREATE OR REPLACE FUNCTION a67_internal._node_desire(node text, wanted text, action text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    here a67_internal.node := a67_internal._node_find(node);
BEGIN
    IF here.desired_state <> wanted THEN
        UPDATE a67_internal.node n SET desired_state = wanted WHERE n.node_id = here.node_id;
        UPDATE a67_internal.node_observed o SET drained_at = NULL WHERE o.node_id = here.node_id;
        PERFORM a67_internal._audit(action, 'ok', here.node_id::text);
        PERFORM a67_internal._event(here.owner_id, 'node.desired.changed', here.node_id,
            jsonb_build_object('node', here.name, 'from', here.desired_state, 'to', wanted));
        -- Only maintenance is also a status: who drains is watched like any other node.
        PERFORM a67_internal._node_judge(here.node_id, clock_timestamp(),
            CASE wanted WHEN 'maintenance' THEN 'maintenance' ELSE 'activate' END);
        PERFORM a67_internal._wake('reconciler'), a67_internal._wake('monitor');
    END IF;
    RETURN a67_internal._node_desire_json(here.node_id);
END
$$;

CREATE OR REPLACE FUNCTION a67.node_drain(node text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._node_desire(node, 'draining', 'node.drain')$$;
COMMENT ON FUNCTION a67.node_drain(text) IS
    'Empties a node (name or id): it gets no new replicas, those it has move one by one; an event tells when it is empty';

CREATE OR REPLACE FUNCTION a67.node_maintenance(node text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._node_desire(node, 'maintenance', 'node.maintenance')$$;
COMMENT ON FUNCTION a67.node_maintenance(text) IS
    'Empties a node as node_drain does, and until node_activate it is neither probed nor failed, whatever becomes of it';

CREATE OR REPLACE FUNCTION a67.node_activate(node text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._node_desire(node, 'active', 'node.activate')$$;
COMMENT ON FUNCTION a67.node_activate(text) IS 'Takes a node that was drained or in maintenance into use again';

-- Of the replicas of one side of a deployment on nodes that are being emptied, all but keep go: first those that never started,
-- then those that do not run.
CREATE OR REPLACE FUNCTION a67_internal._drain_release(d a67_internal.deployment, o a67_internal.rollout, side boolean, keep bigint,
    now timestamptz) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._replicas_give_up(array_agg(v.replica_id), _drain_release.now, NULL, NULL)
    FROM (SELECT r.replica_id, r.state,
                 row_number() OVER (ORDER BY (r.state = 'running') DESC, (r.state <> 'pending') DESC, r.created_at, r.replica_id) AS rank
          FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
          WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND n.desired_state <> 'active'
            AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
            AND a67_internal._replica_new_side(r.release, d.release, o) = side) v
    WHERE v.rank > keep OR v.state = 'pending'
$$;

-- The same of an app that may not run twice: break before make, one at a time, each when all others run and when there is room
-- for it elsewhere.
CREATE OR REPLACE FUNCTION a67_internal._drain_exclusive(d a67_internal.deployment, live bigint, serving bigint, now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    need record;
    shortage text;
BEGIN
    IF serving < live OR EXISTS (SELECT FROM a67_internal.replica r
                                 WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'stopped' AND r.state <> 'lost') THEN
        RETURN;
    END IF;
    SELECT (m.manifest #>> '{resources,memory_bytes}')::bigint AS memory_bytes, (m.manifest #>> '{resources,cpu}')::float8 AS cpu,
           coalesce((m.manifest #>> '{resources,disk_bytes}')::bigint, 0) AS disk_bytes, rule.barred INTO need
    FROM a67_internal.release m, LATERAL a67_internal._place_barred(d.owner_id, m.manifest) rule WHERE m.deployment_id = d.deployment_id AND m.number = d.release;
    SELECT max(p.shortage) INTO shortage
    FROM a67_internal._place(d.owner_id, 1, need.memory_bytes, need.cpu, need.disk_bytes, '{}', d.avoid_nodes, '{}', need.barred,
        _drain_exclusive.now, 0) p;
    IF shortage IS NOT NULL THEN
        UPDATE a67_internal.deployment t SET status_reason = format('cannot empty its nodes: %s', shortage)
        WHERE t.deployment_id = d.deployment_id AND t.status_reason IS DISTINCT FROM format('cannot empty its nodes: %s', shortage);
        RETURN;
    END IF;
    PERFORM a67_internal._replicas_give_up(ARRAY[v.replica_id], _drain_exclusive.now, NULL, NULL)
    FROM (SELECT r.replica_id FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
          WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND n.desired_state <> 'active'
            AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
          ORDER BY (r.state = 'running'), r.created_at, r.replica_id LIMIT 1) v;
END
$$;

-- Tells the owners of nodes that are empty now. Never waits for a row that a heartbeat holds, which may wait for replicas
-- that were changed here: the next round comes.
CREATE OR REPLACE FUNCTION a67_internal._drain_settle(now timestamptz) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH empty AS (
        UPDATE a67_internal.node_observed o SET drained_at = _drain_settle.now
        FROM a67_internal.node n
        WHERE n.node_id = o.node_id AND o.node_id IN (
            SELECT f.node_id FROM a67_internal.node l JOIN a67_internal.node_observed f USING (node_id)
            WHERE l.desired_state IN ('draining', 'maintenance') AND f.drained_at IS NULL
              AND NOT EXISTS (SELECT FROM a67_internal.replica r WHERE r.node_id = l.node_id)
            FOR UPDATE OF f SKIP LOCKED)
        RETURNING n.owner_id, n.node_id, n.name, n.desired_state)
    SELECT a67_internal._event(e.owner_id, 'node.drained', e.node_id,
        jsonb_build_object('node', e.name, 'desired_state', e.desired_state))
    FROM empty e
$$;
