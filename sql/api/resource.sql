-- What a GET of the REST API answers: JSON objects and lists over the public views, with the caller's rights.

CREATE OR REPLACE FUNCTION a67_internal._page_size(size integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF size IS NULL OR size NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'limit must be an integer from 1 to 1000' USING ERRCODE = '22023', DETAIL = 'Field: limit.';
    END IF;
    RETURN size;
END
$$;

-- Without search_path and parsed once, so that the planner inlines it: a list calls it for every row.
CREATE OR REPLACE FUNCTION a67_internal._node_json(n a67.node, deployments jsonb) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object('id', n.node_id, 'name', n.name, 'provider', n.provider, 'region', n.region, 'status', n.status,
    'status_reason', n.status_reason, 'desired_state', n.desired_state, 'tier', n.tier, 'services', n.services, 'labels', n.labels,
    'near_quota', n.near_quota, 'endpoint', n.endpoint, 'version', n.version, 'registered_at', n.registered_at,
    'last_heartbeat_at', n.last_heartbeat_at,
    'capabilities', jsonb_build_object('cpu_cores', n.cpu_cores, 'memory_bytes', n.memory_bytes, 'disk_bytes', n.disk_bytes,
                                       'network_bandwidth_mbps', n.network_bandwidth_mbps,
                                       'max_concurrent_requests', n.max_concurrent_requests, 'runners', n.runners),
    'reserved', jsonb_build_object('cpu', n.reserved_cpu, 'memory_bytes', n.reserved_memory_bytes, 'disk_bytes', n.reserved_disk_bytes),
    'metrics', jsonb_build_object('cpu_percent', n.cpu_percent, 'memory_percent', n.memory_percent,
                                  'memory_free_bytes', n.memory_free_bytes, 'disk_percent', n.disk_percent, 'load1', n.load1,
                                  'active_requests', n.active_requests, 'latency_ms', n.latency_ms),
    'deployments', deployments);

-- A provider as everybody sees it: whether there is a restart hook, not where.
CREATE OR REPLACE FUNCTION a67_internal._provider_json(p a67.provider) RETURNS jsonb
LANGUAGE sql STABLE
RETURN to_jsonb(p) - 'idle_pause' || jsonb_build_object('idle_pause_seconds', extract(epoch FROM p.idle_pause)::float8);

-- Lists are PL/pgSQL because that keeps their plans for the life of a session.
CREATE OR REPLACE FUNCTION a67.node_list(status text DEFAULT NULL, provider text DEFAULT NULL, region text DEFAULT NULL,
    service text DEFAULT NULL, "limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(a67_internal._node_json(n, d.names) ORDER BY n.name, n.node_id), '[]')
        FROM (SELECT t.* FROM a67.node t
              WHERE (node_list.status IS NULL OR t.status = node_list.status)
                AND (node_list.provider IS NULL OR t.provider = node_list.provider)
                AND (node_list.region IS NULL OR t.region = node_list.region)
                AND (node_list.service IS NULL OR node_list.service = ANY (t.services))
              ORDER BY t.name, t.node_id
              LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) n,
             LATERAL (SELECT coalesce(jsonb_agg(DISTINCT r.deployment), '[]') AS names FROM a67.replica r
                      WHERE r.node_id = n.node_id AND r.desired_state = 'running') d);
END
$$;
COMMENT ON FUNCTION a67.node_list(text, text, text, text, integer, integer) IS 'Your nodes, by status, provider, region or service';

CREATE OR REPLACE FUNCTION a67.node_get(node text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    n a67.node;
BEGIN
    IF node_get.node ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        SELECT * INTO n FROM a67.node t WHERE t.node_id = node_get.node::uuid;
    END IF;
    IF n.node_id IS NULL THEN
        SELECT * INTO n FROM a67.node t WHERE t.name = node_get.node ORDER BY t.node_id LIMIT 1;
    END IF;
    IF n.node_id IS NULL THEN
        RAISE EXCEPTION 'node "%" does not exist', node_get.node USING ERRCODE = 'PT404';
    END IF;
    RETURN a67_internal._node_json(n, (SELECT coalesce(jsonb_agg(DISTINCT r.deployment), '[]') FROM a67.replica r
                                       WHERE r.node_id = n.node_id AND r.desired_state = 'running'))
        || jsonb_build_object('usage', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('month', u.month, 'kind', u.kind, 'used', u.used, 'quota', u.quota,
                                                         'percent', u.percent) ORDER BY u.kind), '[]')
            FROM a67.node_usage u
            WHERE u.node_id = n.node_id
              AND u.month = (SELECT max(m.month) FROM a67_internal.node_usage m WHERE m.node_id = n.node_id)));
END
$$;
COMMENT ON FUNCTION a67.node_get(text) IS 'One node, by name or id, with what it has used this month';

CREATE OR REPLACE FUNCTION a67.join_token_list("limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.created_at DESC, t.join_token_id), '[]')
    FROM (SELECT j.* FROM a67.join_token j ORDER BY j.created_at DESC, j.join_token_id
          LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) t
$$;
COMMENT ON FUNCTION a67.join_token_list(integer, integer) IS 'Your join tokens, newest first, without the tokens themselves';

CREATE OR REPLACE FUNCTION a67.provider_list() RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(a67_internal._provider_json(p) ORDER BY p.name), '[]') FROM a67.provider p
$$;
COMMENT ON FUNCTION a67.provider_list() IS 'Known providers with the quotas of their free tiers';

CREATE OR REPLACE FUNCTION a67.region_list() RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.name), '[]') FROM a67.region r
$$;
COMMENT ON FUNCTION a67.region_list() IS 'Regions whose place is known';

CREATE OR REPLACE FUNCTION a67_internal._deployment_json(d a67.deployment, whole boolean) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', d.deployment_id, 'name', d.name, 'status', d.status, 'status_reason', d.status_reason,
        'status_at', d.status_at, 'desired_state', d.desired_state, 'release', d.release, 'replicas_desired', d.replicas_desired,
        'replicas_running', d.replicas_running, 'created_at', d.created_at, 'updated_at', d.updated_at,
        'endpoints', (SELECT coalesce(jsonb_agg(e.url ORDER BY e.kind, e.url), '[]') FROM a67.endpoint e WHERE e.deployment_id = d.deployment_id))
        || jsonb_build_object('rollout', (SELECT to_jsonb(o) - ARRAY['deployment_id', 'deployment', 'promoted', 'failures', 'finished_at']
            FROM a67.rollout o WHERE o.deployment_id = d.deployment_id AND o.finished_at IS NULL))
        || CASE WHEN whole THEN jsonb_build_object(
        'routes', (SELECT coalesce(jsonb_agg(t.url ORDER BY t.url), '[]') FROM a67.route t WHERE t.deployment_id = d.deployment_id),
        'rollouts', (SELECT coalesce(jsonb_agg(to_jsonb(o) - ARRAY['deployment_id', 'deployment'] ORDER BY o.created_at DESC), '[]')
                     FROM (SELECT t.* FROM a67.rollout t WHERE t.deployment_id = d.deployment_id ORDER BY t.created_at DESC LIMIT 20) o),
        'failures', (SELECT coalesce(jsonb_agg(jsonb_build_object('at', f.at, 'node', f.node, 'release', f.release, 'replica', f.replica_id,
                        'error', f.error, 'log_tail', f.log_tail) ORDER BY f.replica_failure_id DESC), '[]')
                     FROM a67_internal.replica_failure f WHERE f.deployment_id = d.deployment_id),
        'replicas', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', r.replica_id, 'node', r.node, 'release', r.release,
                        'state', r.state, 'desired_state', r.desired_state, 'port', r.port, 'restarts', r.restarts,
                        'error', r.error, 'log_tail', r.log_tail) ORDER BY r.created_at, r.replica_id), '[]')
                     FROM a67.replica r WHERE r.deployment_id = d.deployment_id),
        'releases', (SELECT coalesce(jsonb_agg(jsonb_build_object('release', r.release, 'manifest', r.manifest,
                        'created_at', r.created_at) ORDER BY r.release), '[]')
                     FROM a67.release r WHERE r.deployment_id = d.deployment_id)) ELSE '{}' END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_list(status text DEFAULT NULL, "limit" integer DEFAULT 100, "offset" integer DEFAULT 0)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(a67_internal._deployment_json(d, false) ORDER BY d.name, d.deployment_id), '[]')
    FROM (SELECT t.* FROM a67.deployment t WHERE deployment_list.status IS NULL OR t.status = deployment_list.status
          ORDER BY t.name, t.deployment_id LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) d
$$;
COMMENT ON FUNCTION a67.deployment_list(text, integer, integer) IS 'Your deployments with their endpoints';

CREATE OR REPLACE FUNCTION a67.deployment_get(deployment text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    found_deployment jsonb;
BEGIN
    SELECT a67_internal._deployment_json(d, true) INTO found_deployment FROM a67.deployment d
    WHERE d.deployment_id::text = lower(deployment_get.deployment) OR d.name = deployment_get.deployment
    ORDER BY (d.deployment_id::text = lower(deployment_get.deployment)) DESC LIMIT 1;
    IF found_deployment IS NULL THEN
        RAISE EXCEPTION 'deployment "%" does not exist', deployment_get.deployment USING ERRCODE = 'PT404';
    END IF;
    RETURN found_deployment;
END
$$;
COMMENT ON FUNCTION a67.deployment_get(text) IS 'One deployment, by name or id, with its replicas, releases, rollouts, endpoints and last failures';

CREATE OR REPLACE FUNCTION a67.deployment_runs(deployment text, "limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    wanted uuid;
BEGIN
    SELECT d.deployment_id INTO wanted FROM a67.deployment d
    WHERE d.deployment_id::text = lower(deployment_runs.deployment) OR d.name = deployment_runs.deployment
    ORDER BY (d.deployment_id::text = lower(deployment_runs.deployment)) DESC LIMIT 1;
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'deployment "%" does not exist', deployment_runs.deployment USING ERRCODE = 'PT404';
    END IF;
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('id', r.cron_run_id, 'scheduled_at', r.scheduled_at, 'by_hand', r.by_hand,
                       'state', r.state, 'release', r.release, 'node', r.node, 'started_at', r.started_at, 'finished_at', r.finished_at,
                       'exit_code', r.exit_code, 'duration_ms', r.duration_ms, 'error', r.error, 'log_tail', r.log_tail)
                       ORDER BY r.cron_run_id DESC), '[]')
            FROM (SELECT t.* FROM a67.cron_run t WHERE t.deployment_id = wanted ORDER BY t.cron_run_id DESC
                  LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) r);
END
$$;
COMMENT ON FUNCTION a67.deployment_runs(text, integer, integer) IS 'Runs of a cron app, the latest first';

CREATE OR REPLACE FUNCTION a67.secret_list("limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('name', s.name, 'version', s.version, 'size_bytes', s.size_bytes,
                'deployments', s.deployments, 'created_at', s.created_at, 'updated_at', s.updated_at)
                ORDER BY s.name, s.owner_id), '[]')
    FROM (SELECT t.* FROM a67.secret t ORDER BY t.name, t.owner_id
          LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) s
$$;
COMMENT ON FUNCTION a67.secret_list(integer, integer) IS 'Your secrets without their values';

CREATE OR REPLACE FUNCTION a67.event_list(since bigint DEFAULT 0, "limit" integer DEFAULT 100) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', e.event_id, 'type', e.type, 'at', e.at, 'subject_id', e.subject_id,
                                                 'payload', e.payload) ORDER BY e.xid, e.event_id), '[]')
    FROM (SELECT t.* FROM a67_internal.event t, a67_internal._event_position(coalesce(since, 0)) p
          WHERE (t.xid, t.event_id) > (p.xid, p.event_id) AND t.xid < pg_snapshot_xmin(pg_current_snapshot())
          ORDER BY t.xid, t.event_id LIMIT a67_internal._page_size("limit")) e
$$;
COMMENT ON FUNCTION a67.event_list(bigint, integer) IS
    'Your events behind the one with the id since, in the order in which they became certain (not of their ids)';

CREATE OR REPLACE FUNCTION a67.alert_list(include_resolved boolean DEFAULT false, severity text DEFAULT NULL,
    acked boolean DEFAULT NULL, subject_id uuid DEFAULT NULL, "limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(a67_internal._alert_json(a.found) ORDER BY a.raised_at DESC, a.alert_id), '[]')
    FROM (SELECT t AS found, t.raised_at, t.alert_id FROM a67_internal.alert t
          WHERE (alert_list.include_resolved OR t.resolved_at IS NULL)
            AND (alert_list.severity IS NULL OR t.severity = alert_list.severity)
            AND (alert_list.acked IS NULL OR (t.acked_at IS NOT NULL) = alert_list.acked)
            AND (alert_list.subject_id IS NULL OR t.subject_id = alert_list.subject_id)
          ORDER BY t.raised_at DESC, t.alert_id LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) a
$$;
COMMENT ON FUNCTION a67.alert_list(boolean, text, boolean, uuid, integer, integer) IS
    'Your open alerts, newest first; resolved ones too when asked for';

CREATE OR REPLACE FUNCTION a67_internal._outbox_json(o a67.outbox) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', o.outbox_id, 'channel', o.channel, 'kind', o.kind, 'state', o.state, 'attempts', o.attempts,
        'next_attempt_at', o.next_attempt_at, 'last_error', o.last_error, 'created_at', o.created_at, 'done_at', o.done_at,
        'alert_id', o.alert_id, 'subject_id', o.subject_id, 'payload', o.payload)
$$;

CREATE OR REPLACE FUNCTION a67.outbox_list(state text DEFAULT NULL, channel text DEFAULT NULL, "limit" integer DEFAULT 100,
    "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted uuid := CASE WHEN outbox_list.channel IS NOT NULL THEN (a67.channel_get(outbox_list.channel) ->> 'id')::uuid END;
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(a67_internal._outbox_json(o.found) ORDER BY o.created_at DESC, o.outbox_id), '[]')
            FROM (SELECT t AS found, t.created_at, t.outbox_id FROM a67.outbox t
                  WHERE (outbox_list.state IS NULL OR t.state = outbox_list.state) AND (wanted IS NULL OR t.channel_id = wanted)
                  ORDER BY t.created_at DESC, t.outbox_id
                  LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) o);
END
$$;
COMMENT ON FUNCTION a67.outbox_list(text, text, integer, integer) IS
    'Messages to your channels and hooks, newest first; of one state (pending, sent, dead) or one channel when asked for';

CREATE OR REPLACE FUNCTION a67.outbox_get(message uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    found_message jsonb;
BEGIN
    SELECT a67_internal._outbox_json(o) INTO found_message FROM a67.outbox o WHERE o.outbox_id = outbox_get.message;
    IF found_message IS NULL THEN
        RAISE EXCEPTION 'message "%" does not exist', outbox_get.message USING ERRCODE = 'PT404';
    END IF;
    RETURN found_message;
END
$$;
COMMENT ON FUNCTION a67.outbox_get(uuid) IS 'One message to a channel or hook';
