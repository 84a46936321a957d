-- The public views. Each runs with the caller's rights, so the policies of the tables decide which rows are seen.

CREATE OR REPLACE VIEW a67.node WITH (security_invoker = true) AS
SELECT n.node_id, n.name, n.provider, n.region, o.status, o.status_reason, o.status_at, o.last_heartbeat_at, n.endpoint,
       n.version, n.cpu_cores, n.memory_bytes, n.disk_bytes, o.cpu_percent, o.memory_percent, o.disk_percent, o.load1,
       (SELECT count(*) FROM a67_internal.replica r WHERE r.node_id = n.node_id AND r.desired_state = 'running') AS replicas,
       n.registered_at, n.owner_id, n.tier, n.services, n.labels, n.desired_state, n.network_bandwidth_mbps,
       n.max_concurrent_requests, o.memory_free_bytes, o.active_requests, o.latency_ms, o.near_quota,
       coalesce(p.memory_bytes, 0) AS reserved_memory_bytes, coalesce(p.cpu, 0) AS reserved_cpu,
       coalesce(p.disk_bytes, 0) AS reserved_disk_bytes, n.runners
FROM a67_internal.node n JOIN a67_internal.node_observed o USING (node_id)
LEFT JOIN a67_internal.node_reserved p USING (node_id)
WHERE n.desired_state <> 'removed';
COMMENT ON VIEW a67.node IS 'Your nodes: what they are, what is wanted of them (desired_state), how they are (status), what is promised on them';

CREATE OR REPLACE VIEW a67.discovery WITH (security_invoker = true) AS
SELECT s.service, n.node_id, n.name AS node, n.region, n.provider, n.tier, n.endpoint, o.status, n.labels
FROM a67_internal.node n JOIN a67_internal.node_observed o USING (node_id), LATERAL unnest(n.services) s (service)
WHERE n.desired_state = 'active' AND o.status IN ('ready', 'busy', 'degraded');
COMMENT ON VIEW a67.discovery IS 'Which of your nodes offer a service now, one row per service and usable node';

CREATE OR REPLACE VIEW a67.node_usage WITH (security_invoker = true) AS
SELECT n.node_id, n.name AS node, u.month, k.kind, k.used, k.quota, k.used * 100 / k.quota AS percent
FROM a67_internal.node_usage u
JOIN a67_internal.node n USING (node_id)
JOIN a67_internal.node_observed o USING (node_id)
LEFT JOIN a67_internal.provider p ON p.name = n.provider AND (n.tier IS NULL OR n.tier = 'free'),
LATERAL (VALUES
    ('hours', coalesce(u.up_seconds, o.up_seconds - u.up_seconds_before) / 3600, p.monthly_hours::float8),
    ('bandwidth', coalesce(u.traffic_bytes, o.traffic_bytes - u.traffic_bytes_before)::float8, p.bandwidth_bytes::float8),
    ('disk', coalesce(u.disk_bytes, CASE WHEN u.up_seconds IS NULL THEN o.disk_percent::float8 / 100 * n.disk_bytes END, 0)::float8,
             p.disk_bytes::float8)) k (kind, used, quota)
WHERE n.desired_state <> 'removed';
COMMENT ON VIEW a67.node_usage IS
    'What your nodes have used in each calendar month (UTC): hours, bandwidth and disk (bytes), beside the free quota of their provider';

CREATE OR REPLACE VIEW a67.provider WITH (security_invoker = true) AS
SELECT p.name, p.title, p.monthly_hours, p.bandwidth_bytes, p.disk_bytes, p.idle_pause, p.restart_hook, p.updated_at
FROM a67_internal.provider p;
COMMENT ON VIEW a67.provider IS 'Known providers: free quotas of a node in a calendar month, when it is put to sleep; NULL: no limit';

CREATE OR REPLACE VIEW a67.region WITH (security_invoker = true) AS
SELECT r.name, r.latitude, r.longitude FROM a67_internal.region r;
COMMENT ON VIEW a67.region IS 'Where regions lie';

CREATE OR REPLACE VIEW a67.deployment WITH (security_invoker = true) AS
SELECT d.deployment_id, d.name, d.status, d.status_reason, d.status_at, d.desired_state, d.release, d.replicas AS replicas_desired,
       (SELECT count(*) FROM a67_internal.replica r
        WHERE r.deployment_id = d.deployment_id AND r.desired_state = 'running' AND r.state = 'running') AS replicas_running,
       d.created_at, d.updated_at, d.owner_id
FROM a67_internal.deployment d;
COMMENT ON VIEW a67.deployment IS 'Your deployments: what is wanted and how far it is true';

CREATE OR REPLACE VIEW a67.release WITH (security_invoker = true) AS
SELECT r.deployment_id, d.name AS deployment, r.number AS release, r.manifest, r.package_digest, r.created_at
FROM a67_internal.release r JOIN a67_internal.deployment d USING (deployment_id);
COMMENT ON VIEW a67.release IS 'The manifests of a deployment, with defaults filled in: the stable one and those that can be rolled back to';

CREATE OR REPLACE VIEW a67.rollout WITH (security_invoker = true) AS
SELECT o.rollout_id, o.deployment_id, d.name AS deployment, o.from_release, o.to_release, o.strategy ->> 'type' AS strategy, o.state, o.phase,
       o.step, o.weight, o.old_target, o.new_target, o.reason, o.promoted, o.failures, o.created_at, o.phase_at, o.finished_at
FROM a67_internal.rollout o JOIN a67_internal.deployment d USING (deployment_id);
COMMENT ON VIEW a67.rollout IS 'Changes of release of your deployments: those under way (finished_at is NULL) and those that are over';

CREATE OR REPLACE VIEW a67.replica WITH (security_invoker = true) AS
SELECT r.replica_id, r.deployment_id, d.name AS deployment, r.release, r.node_id, n.name AS node, r.desired_state, r.state,
       r.state_at, r.port, r.pid, r.restarts, r.error, r.log_tail, r.created_at
FROM a67_internal.replica r
JOIN a67_internal.deployment d USING (deployment_id)
JOIN a67_internal.node n USING (node_id);
COMMENT ON VIEW a67.replica IS 'Every copy of your apps, also those that are being stopped';

CREATE OR REPLACE VIEW a67.endpoint WITH (security_invoker = true) AS
SELECT d.name AS deployment, n.name AS node,
       substring(n.endpoint from '^https?://(\[[^]]+\]|[^:/]+)') AS host, r.port,
       format('http://%s:%s', substring(n.endpoint from '^https?://(\[[^]]+\]|[^:/]+)'), r.port) AS url,
       r.release, r.replica_id, r.deployment_id, 'replica' AS kind
FROM a67_internal.replica r
JOIN a67_internal.deployment d USING (deployment_id)
JOIN a67_internal.node n USING (node_id)
JOIN a67_internal.node_observed o USING (node_id)
WHERE r.desired_state = 'running' AND r.state = 'running' AND r.port IS NOT NULL AND r.cron_run_id IS NULL AND r.rollout_id IS NULL
  AND o.status NOT IN ('failed', 'removed')
UNION ALL
SELECT d.name, NULL, h.host, current_setting('a67.ingress_port')::integer, a67_internal._ingress_url(h.host, t.path),
       d.release, NULL, d.deployment_id, 'public'
FROM a67_internal.route t
JOIN a67_internal.deployment d USING (deployment_id),
LATERAL (SELECT a67_internal._route_host(t.host, t.below_domain)) h (host)
WHERE a67_internal._ingress_on()
  AND EXISTS (SELECT FROM a67_internal.replica r WHERE r.deployment_id = d.deployment_id AND r.routed = 'in');
COMMENT ON VIEW a67.endpoint IS
    'Where your apps answer now: their public URLs while the ingress is on (kind public), and every healthy replica itself (kind replica)';

CREATE OR REPLACE VIEW a67.route WITH (security_invoker = true) AS
SELECT d.name AS deployment, a67_internal._route_host(r.host, r.below_domain) AS host, r.path,
       a67_internal._ingress_url(a67_internal._route_host(r.host, r.below_domain), r.path) AS url,
       r.deployment_id, r.owner_id, r.claimed_at
FROM a67_internal.route r JOIN a67_internal.deployment d USING (deployment_id);
COMMENT ON VIEW a67.route IS 'The hosts and paths that lead to your deployments while the ingress is on';

CREATE OR REPLACE VIEW a67.cron_run WITH (security_invoker = true) AS
SELECT d.name AS deployment, c.cron_run_id, c.scheduled_at, c.by_hand, c.state, c.release, n.name AS node, c.started_at, c.finished_at,
       c.exit_code, c.duration_ms, c.error, c.log_tail, c.deployment_id
FROM a67_internal.cron_run c
JOIN a67_internal.deployment d USING (deployment_id)
LEFT JOIN a67_internal.node n ON n.node_id = c.node_id;
COMMENT ON VIEW a67.cron_run IS 'The last hundred runs of each of your cron apps, also those that were skipped or missed';

CREATE OR REPLACE VIEW a67.traffic WITH (security_invoker = true) AS
SELECT d.name AS deployment, r.release, count(*) AS replicas, count(*) FILTER (WHERE r.routed = 'in') AS routed,
       coalesce(sum(t.requests), 0)::bigint AS requests, coalesce(sum(t.failures), 0)::bigint AS failures,
       sum(t.latency_sum_ms) / nullif(sum(t.requests), 0) AS latency_ms, coalesce(sum(t.sessions), 0) AS sessions,
       coalesce(max(w.queued), 0) AS queued, coalesce(max(w.refused), 0) AS refused, max(t.at) AS at, d.deployment_id, d.owner_id
FROM a67_internal.replica r
JOIN a67_internal.deployment d USING (deployment_id)
LEFT JOIN a67_internal.replica_traffic t USING (replica_id)
LEFT JOIN a67_internal.deployment_traffic w ON w.deployment_id = d.deployment_id
WHERE d.app_type = 'backend' AND r.rollout_id IS NULL
GROUP BY d.deployment_id, d.name, d.owner_id, r.release;
COMMENT ON VIEW a67.traffic IS
    'What the ingress has led to the replicas of your deployments, by release; queued and refused (503) are those of the whole deployment';

CREATE OR REPLACE VIEW a67.package WITH (security_invoker = true) AS
SELECT p.digest, p.size_bytes, p.unpacked_bytes, p.files, u.deployments, p.created_at,
       CASE WHEN u.deployments = '{}' THEN p.used_at + a67_internal._package_grace() END AS expires_at, p.owner_id
FROM a67_internal.package p
CROSS JOIN LATERAL (SELECT ARRAY(SELECT DISTINCT d.name FROM a67_internal.deployment d JOIN a67_internal.release m USING (deployment_id)
                                 WHERE d.owner_id = p.owner_id AND m.package_digest = p.digest ORDER BY d.name) AS deployments) u;
COMMENT ON VIEW a67.package IS 'Your stored packages, which deployments name them, and until when one is kept that none names';

CREATE OR REPLACE VIEW a67.secret WITH (security_invoker = true) AS
SELECT s.name, s.version, s.size_bytes,
       ARRAY(SELECT d.name FROM a67_internal.deployment d
             JOIN a67_internal.release m ON m.deployment_id = d.deployment_id AND m.number = d.release
             WHERE d.owner_id = s.owner_id AND d.desired_state <> 'removed' AND s.name = ANY (m.secrets)
             ORDER BY d.name) AS deployments,
       s.created_at, s.updated_at, s.owner_id
FROM a67_internal.secret s;
COMMENT ON VIEW a67.secret IS 'Your secrets without their values, and which deployments name them';

CREATE OR REPLACE VIEW a67.join_token WITH (security_invoker = true) AS
SELECT t.provider, t.region, t.name, t.created_at, t.expires_at, t.used_at, t.node_id, t.join_token_id FROM a67_internal.join_token t;
COMMENT ON VIEW a67.join_token IS 'Join tokens you made, without the tokens themselves';

CREATE OR REPLACE VIEW a67.event WITH (security_invoker = true) AS
SELECT e.event_id, e.at, e.type, e.subject_id, e.payload FROM a67_internal.event e;
COMMENT ON VIEW a67.event IS 'What happened to your nodes, deployments and replicas in the last 7 days';

CREATE OR REPLACE VIEW a67.alert WITH (security_invoker = true) AS
SELECT a.alert_id, a.severity, a.message, a.count, a.raised_at, a.last_at, a.resolved_at, a.subject_id, a.dedup_key,
       a.acked_at, a.acked_by, a.resolved_by, a.owner_id
FROM a67_internal.alert a;
COMMENT ON VIEW a67.alert IS 'Conditions that need a person; resolved_at is set when they have passed';

CREATE OR REPLACE VIEW a67.channel WITH (security_invoker = true) AS
SELECT c.channel_id, c.name, c.kind, c.target, c.min_severity, c.scope, c.enabled, c.rate_per_minute, c.last_sent_at,
       c.last_error, c.last_error_at, c.failures,
       (SELECT count(*) FROM a67_internal.outbox o WHERE o.channel_id = c.channel_id AND o.state = 'pending') AS pending,
       c.created_at, c.updated_at, c.owner_id
FROM a67_internal.channel c;
COMMENT ON VIEW a67.channel IS 'Where your alerts are sent, without the secrets of it';

CREATE OR REPLACE VIEW a67.outbox WITH (security_invoker = true) AS
SELECT o.outbox_id, c.name AS channel, o.kind, o.state, o.attempts,
       CASE WHEN o.state = 'pending' THEN o.next_attempt_at END AS next_attempt_at, o.last_error, o.created_at, o.done_at,
       o.alert_id, o.subject_id, o.payload, o.channel_id, o.owner_id
FROM a67_internal.outbox o LEFT JOIN a67_internal.channel c USING (channel_id);
COMMENT ON VIEW a67.outbox IS 'Messages to your channels and hooks: on their way (pending), sent, or given up (dead)';

CREATE OR REPLACE VIEW a67.node_ring WITH (security_invoker = true) AS
SELECT p.hash, p.name AS node
FROM (SELECT array_agg(name ORDER BY name) AS names FROM a67.node WHERE status IN ('ready', 'busy')) n,
     LATERAL a67.ring_points(n.names) p
WHERE n.names IS NOT NULL;
COMMENT ON VIEW a67.node_ring IS 'The consistent-hash ring of your ready nodes, point by point';

CREATE OR REPLACE VIEW a67.node_ring_share WITH (security_invoker = true) AS
SELECT s.name AS node, s.points, s.share
FROM (SELECT array_agg(name ORDER BY name) AS names FROM a67.node WHERE status IN ('ready', 'busy')) n,
     LATERAL a67.ring_shares(n.names) s
WHERE n.names IS NOT NULL;
COMMENT ON VIEW a67.node_ring_share IS 'How much of the ring each of your ready nodes owns';

CREATE OR REPLACE VIEW a67.worker_status WITH (security_invoker = true) AS
SELECT w.name, w.pid, w.started_at, w.last_tick_at, w.lag_ms, w.ticks, w.errors, w.restarts, w.last_error, w.last_error_at
FROM a67_internal._worker_status() w;
COMMENT ON VIEW a67.worker_status IS 'The background workers: last tick, lag behind schedule, errors, restarts';

CREATE OR REPLACE VIEW a67.listener WITH (security_invoker = true) AS
SELECT l.pid, l.address, l.port, a67_internal._listener_url(l.scheme, l.address, l.port) AS url, l.clients, l.requests,
       l.api_workers, l.queued, l.tls_pin
FROM a67_internal._listener_status() l;
COMMENT ON VIEW a67.listener IS 'The HTTP listeners: where they listen and how busy they are';

CREATE OR REPLACE VIEW a67.system_metric WITH (security_invoker = true) AS
SELECT m.at, m.nodes, m.nodes_by_status, m.cpu_cores, m.cpu_cores_used, m.memory_bytes, m.memory_bytes_used, m.active_requests,
       m.error_rate, m.latency_ms, m.latency_ms_p50, m.latency_ms_p95, m.latency_ms_p99, m.replicas_wanted, m.replicas_running
FROM a67_internal.system_metric m;
COMMENT ON VIEW a67.system_metric IS 'Totals of all nodes, one row a round of the monitor. Administrators only';

CREATE OR REPLACE VIEW a67.node_live WITH (security_invoker = true) AS
SELECT n.name, l.node_id, l.status, l.selectable, l.near_quota, l.last_seen_at, l.boot_id, l.state_version, l.metrics_at,
       clock_timestamp() - l.metrics_at AS metrics_age,
       coalesce(l.metrics_at > clock_timestamp()
                - greatest(interval '30 s', 2 * current_setting('a67.heartbeat_interval')::interval), false) AS metrics_usable,
       l.cpu_percent, l.memory_percent, l.disk_percent, l.load1, l.memory_free_bytes, l.active_requests, l.latency_ms, l.requests,
       l.failures, l.free_memory_bytes, l.free_cpu, l.free_disk_bytes
FROM a67_internal._node_live() l JOIN a67_internal.node n USING (node_id);
COMMENT ON VIEW a67.node_live IS
    'The live node table in shared memory: what selection sees of each of your nodes (free_*: not promised yet), and its last heartbeat';

CREATE OR REPLACE VIEW a67.session WITH (security_invoker = true) AS
SELECT s.session_id, s.user_id, s.address, s.created_at, s.refreshed_at, s.expires_at, s.revoked_at FROM a67_internal.session s;
COMMENT ON VIEW a67.session IS 'Your logins';

CREATE OR REPLACE VIEW a67.audit WITH (security_invoker = true) AS
SELECT a.audit_id, a.at, a.actor_id, a.actor_role, a.action, a.outcome, a.subject, a.address, a.request_id
FROM a67_internal.audit a;
COMMENT ON VIEW a67.audit IS 'Security-relevant acts, append-only. Administrators only';
