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
    'status_reason', n.status_reason, 'endpoint', n.endpoint, 'version', n.version, 'registered_at', n.registered_at,
    'last_heartbeat_at', n.last_heartbeat_at,
    'capabilities', jsonb_build_object('cpu_cores', n.cpu_cores, 'memory_bytes', n.memory_bytes, 'disk_bytes', n.disk_bytes),
    'metrics', jsonb_build_object('cpu_percent', n.cpu_percent, 'memory_percent', n.memory_percent,
                                  'disk_percent', n.disk_percent, 'load1', n.load1),
    'deployments', deployments);

-- Lists are PL/pgSQL because that keeps their plans for the life of a session.
CREATE OR REPLACE FUNCTION a67.node_list(status text DEFAULT NULL, provider text DEFAULT NULL, region text DEFAULT NULL,
    "limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
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
              ORDER BY t.name, t.node_id
              LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) n,
             LATERAL (SELECT coalesce(jsonb_agg(DISTINCT r.deployment), '[]') AS names FROM a67.replica r
                      WHERE r.node_id = n.node_id AND r.desired_state = 'running') d);
END
$$;
COMMENT ON FUNCTION a67.node_list(text, text, text, integer, integer) IS 'Your nodes, by status, provider or region';

CREATE OR REPLACE FUNCTION a67.node_get(node text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    found_node jsonb;
BEGIN
    SELECT a67_internal._node_json(n, (SELECT coalesce(jsonb_agg(DISTINCT r.deployment), '[]') FROM a67.replica r
                                       WHERE r.node_id = n.node_id AND r.desired_state = 'running'))
    INTO found_node FROM a67.node n
    WHERE n.node_id::text = lower(node_get.node) OR n.name = node_get.node
    ORDER BY (n.node_id::text = lower(node_get.node)) DESC LIMIT 1;
    IF found_node IS NULL THEN
        RAISE EXCEPTION 'node "%" does not exist', node_get.node USING ERRCODE = 'PT404';
    END IF;
    RETURN found_node;
END
$$;
COMMENT ON FUNCTION a67.node_get(text) IS 'One node, by name or id';

CREATE OR REPLACE FUNCTION a67_internal._deployment_json(d a67.deployment, whole boolean) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT jsonb_build_object('id', d.deployment_id, 'name', d.name, 'status', d.status, 'status_reason', d.status_reason,
        'status_at', d.status_at, 'desired_state', d.desired_state, 'release', d.release, 'replicas_desired', d.replicas_desired,
        'replicas_running', d.replicas_running, 'created_at', d.created_at, 'updated_at', d.updated_at,
        'endpoints', (SELECT coalesce(jsonb_agg(e.url ORDER BY e.url), '[]') FROM a67.endpoint e WHERE e.deployment_id = d.deployment_id))
        || CASE WHEN whole THEN jsonb_build_object(
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
COMMENT ON FUNCTION a67.deployment_get(text) IS 'One deployment, by name or id, with its replicas, releases and endpoints';

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

CREATE OR REPLACE FUNCTION a67.alert_list(include_resolved boolean DEFAULT false, "limit" integer DEFAULT 100) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('id', a.alert_id, 'severity', a.severity, 'message', a.message, 'count', a.count,
                'subject_id', a.subject_id, 'raised_at', a.raised_at, 'last_at', a.last_at, 'resolved_at', a.resolved_at)
                ORDER BY a.raised_at DESC, a.alert_id), '[]')
    FROM (SELECT t.* FROM a67.alert t WHERE include_resolved OR t.resolved_at IS NULL
          ORDER BY t.raised_at DESC, t.alert_id LIMIT a67_internal._page_size("limit")) a
$$;
COMMENT ON FUNCTION a67.alert_list(boolean, integer) IS 'Your open alerts, newest first; resolved ones too when asked for';
