-- The ingress: what HAProxy is to be, and what it has done. The worker only carries texts: it asks HAProxy for its
-- statistics, hands them to _ingress_plan and sends the commands that come back; with a new configuration it makes HAProxy
-- load that. What HAProxy says is the truth about what is routed, so a crash anywhere is mended by looking again.
-- (enable_nestloop, jit: the planner knows nothing of how much HAProxy says, and would compare all rows with all, or compile.)

CREATE OR REPLACE FUNCTION a67_internal._ingress_observed(output text)
RETURNS TABLE (process text, description text, stopping boolean, backend text, server text, status text, address text,
    weight bigint, slots bigint, sessions bigint, queued bigint, requests bigint, failures bigint, latency_ms bigint)
AS 'MODULE_PATHNAME', 'a67_sql_ingress_observed' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._ingress_observed(text) IS
    'What HAProxy''s "show info" and "show stat" say, of one or several processes ("PID.START"): a row for each process (backend NULL), each backend (server NULL; failures are requests refused) and each server';

CREATE OR REPLACE FUNCTION a67_internal._ingress_weights(shares float8[]) RETURNS integer[]
AS 'MODULE_PATHNAME', 'a67_sql_ingress_weights' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._ingress_weights(float8[]) IS 'Weights from 0 to 256 that are nearest to these shares of the requests';

-- The host of a node's endpoint as HAProxy takes it: an address (IPv6 in brackets) or a name; NULL when it is neither.
CREATE OR REPLACE FUNCTION a67_internal._ingress_host(endpoint text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    host text := lower(substring(endpoint FROM '^https?://(\[[^]]+\]|[^:/]+)'));
BEGIN
    RETURN CASE WHEN host = 'localhost' THEN '127.0.0.1'
                WHEN host ~ '^\[[0-9a-f:.]{2,45}\]$' THEN host
                WHEN host ~ '^([0-9]{1,3}\.){3}[0-9]{1,3}$' THEN host
                WHEN host ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$'
                     AND host !~ '(^|\.)[0-9]+$' AND length(host) <= 253 THEN host END;
END
$$;

-- ---- what is to be ---------------------------------------------------------------------------------------

-- The replicas that are to get requests, and their weights. Half the share on a node that is busy or degraded, a quarter on
-- one of which nothing is heard; with balance "weighted" in proportion to the cores of the node. While a canary or blue_green
-- rollout goes on, the replicas of its new release together get the rollout's weight (percent), the others the rest; when a
-- side has no replica the other gets all, except for a new release that is to get nothing. A node's limit of concurrent
-- requests is divided among its replicas (slots).
CREATE OR REPLACE FUNCTION a67_internal._ingress_members()
RETURNS TABLE (replica_id uuid, deployment_id uuid, host text, port integer, by_name boolean, slots integer, weight integer)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
SET enable_nestloop = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH usable AS MATERIALIZED (
        SELECT h.*, h.host !~ '^(\[|[0-9.]+$)' AS by_name
        FROM (SELECT n.node_id, n.max_concurrent_requests, n.cpu_cores::float8 AS cores, a67_internal._ingress_host(n.endpoint) AS host,
                     CASE o.status WHEN 'busy' THEN 0.5 WHEN 'degraded' THEN 0.5 WHEN 'suspect' THEN 0.25 ELSE 1 END AS health
              FROM a67_internal.node n
              JOIN a67_internal.node_observed o USING (node_id)
              WHERE o.status NOT IN ('failed', 'offline', 'removed') AND n.node_id IN (SELECT r.node_id FROM a67_internal.replica r)
              OFFSET 0) h
        WHERE h.host IS NOT NULL),
    app AS MATERIALIZED (
        -- Without a rollout, replicas of another release than the deployment's are on their way out.
        SELECT d.deployment_id, m.manifest ->> 'balance' = 'weighted' AS weighted, u.rollout_id IS NOT NULL AS under_way,
               coalesce(u.to_release, d.release) AS release,
               CASE WHEN u.rollout_id IS NULL THEN -1 WHEN u.strategy ->> 'type' IN ('canary', 'blue_green') THEN u.weight END AS percent
        FROM a67_internal.deployment d
        JOIN a67_internal.release m ON m.deployment_id = d.deployment_id AND m.number = d.release
        LEFT JOIN a67_internal.rollout u ON u.deployment_id = d.deployment_id AND u.finished_at IS NULL
        WHERE d.app_type = 'backend'),
    healthy AS (
        SELECT r.replica_id, r.deployment_id, n.host, r.port, n.by_name,
               greatest(n.max_concurrent_requests / count(*) OVER (PARTITION BY r.node_id), 1)::integer AS slots,
               n.health * CASE WHEN a.weighted THEN n.cores ELSE 1 END AS share,
               (r.release = a.release) = a.under_way AS is_new, a.percent
        FROM a67_internal.replica r
        JOIN app a USING (deployment_id)
        JOIN usable n USING (node_id)
        WHERE r.cron_run_id IS NULL AND r.rollout_id IS NULL AND r.desired_state = 'running' AND r.state = 'running'
          AND r.port IS NOT NULL),
    side AS (
        SELECT h.*, sum(h.share) OVER (PARTITION BY h.deployment_id, h.is_new) AS side_share,
               count(*) FILTER (WHERE h.is_new) OVER (PARTITION BY h.deployment_id) AS new_count,
               count(*) FILTER (WHERE NOT h.is_new) OVER (PARTITION BY h.deployment_id) AS old_count
        FROM healthy h),
    shared AS (
        SELECT s.*, CASE WHEN s.percent IS NULL OR s.new_count = 0 THEN s.share
                         WHEN s.old_count = 0 THEN CASE s.percent WHEN 0 THEN 0 ELSE s.share END
                         ELSE s.share / s.side_share * CASE WHEN s.is_new THEN s.percent ELSE 100 - s.percent END END AS part
        FROM side s),
    weighed AS (
        SELECT s.deployment_id, array_agg(s.replica_id ORDER BY s.replica_id) AS ids,
               a67_internal._ingress_weights(array_agg(s.part::float8 ORDER BY s.replica_id)) AS weights
        FROM shared s GROUP BY s.deployment_id)
    SELECT s.replica_id, s.deployment_id, s.host, s.port, s.by_name, s.slots, g.weight
    FROM weighed w, LATERAL unnest(w.ids, w.weights) g (id, weight)
    JOIN shared s ON s.replica_id = g.id;
END
$$;

-- How a server is checked, also when it is added while HAProxy runs. Only a fast signal: what may get requests at all is
-- decided by the health that agents report, but a server that refuses connections is left out within a second.
CREATE OR REPLACE FUNCTION a67_internal._ingress_check() RETURNS text
LANGUAGE sql IMMUTABLE
RETURN 'check inter 5s fastinter 1s downinter 1s fall 2 rise 1 observe layer4 error-limit 3 on-error mark-down';

-- Everything before the backends. Nothing that users chose is in it.
CREATE OR REPLACE FUNCTION a67_internal._ingress_head(routes_file text, by_name boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format($config$# Written by Automator67 (worker "ingress"); changes made here are lost. See docs/ingress.md.
global
    description a67-@digest@
    stats socket unix@worker.sock mode 600 level admin expose-fd listeners
    hard-stop-after 10m
    fd-hard-limit 100000

defaults
    mode http
    timeout connect 3s
    timeout queue 30s
    timeout http-request 10s
    timeout http-keep-alive 75s
    timeout client 75s
    timeout server 5m
    timeout tunnel 1h
    option abortonclose
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
    option idle-close-on-response
    option forwardfor
    # A check that resets its connection would be an error in the log of many an app.
    option tcp-check
    tcp-check connect linger
    http-error status 503 content-type text/plain string "no replica can take this request\n" hdr Retry-After 5

%sfrontend a67
    bind %s
%s    http-request set-header X-Forwarded-Proto %s
    http-request set-var(txn.path) path
    http-request set-var(txn.route) req.hdr(host),host_only,rtrim(.),lower,concat(,txn.path,/)
    use_backend %%[var(txn.route),map_beg(%s)]
    default_backend a67-none

backend a67-none
    http-request return status 404 content-type text/plain string "no app has this host and path\n"
$config$,
        CASE WHEN by_name THEN E'resolvers a67\n    parse-resolv-conf\n\n' ELSE '' END,
        format(CASE WHEN s.address LIKE '%:%' THEN '[%s]:%s' ELSE '%s:%s' END, s.address, s.port)
            || CASE s.certificate WHEN '' THEN '' ELSE ' ssl crt ' || s.certificate || ' alpn h2,http/1.1' END,
        format(E'    http-request del-header X-Forwarded-For%s\n', ' unless { src ' || nullif(s.proxies, '') || ' }'),
        CASE s.certificate WHEN '' THEN 'http' ELSE 'https' END, routes_file)
    FROM (SELECT current_setting('a67.ingress_address') AS address, current_setting('a67.ingress_port') AS port,
                 current_setting('a67.ingress_certificate_file') AS certificate,
                 array_to_string(regexp_split_to_array(btrim(current_setting('a67.trusted_proxies')), '[[:space:],]+'), ' ') AS proxies) s
$$;

-- One line for HAProxy's map of routes: the longest prefix of "HOST/PATH/" of a request wins.
CREATE OR REPLACE FUNCTION a67_internal._ingress_routes() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(string_agg(format(E'%s %s\n', t.prefix, t.deployment_id), '' ORDER BY t.prefix), '')
    FROM (SELECT DISTINCT ON (k.prefix) k.prefix, r.deployment_id
          FROM a67_internal.route r JOIN a67_internal.deployment d USING (deployment_id)
          CROSS JOIN LATERAL (SELECT a67_internal._route_host(r.host, r.below_domain) || rtrim(r.path, '/') || '/') k (prefix)
          WHERE d.desired_state <> 'removed' AND d.app_type = 'backend'
          -- Two claims can mean one host after the domain was changed: the first keeps it.
          ORDER BY k.prefix, r.claimed_at, r.deployment_id) t
$$;

-- The configuration with its servers as they are now, or only what cannot be changed while HAProxy runs.
CREATE OR REPLACE FUNCTION a67_internal._ingress_text(servers boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH member AS MATERIALIZED (
        SELECT m.* FROM a67_internal._ingress_members() m JOIN a67_internal.replica r USING (replica_id)
        WHERE r.routed IN ('joining', 'in') AND (_ingress_text.servers OR m.by_name)
          -- Asked before: most often there is no such node, and nothing to be found out.
          AND (SELECT _ingress_text.servers OR EXISTS (SELECT FROM a67_internal.node n WHERE a67_internal._ingress_host(n.endpoint) !~ '^(\[|[0-9.]+$)'))),
    line AS (
        SELECT m.deployment_id, string_agg(format(E'    server %s %s:%s weight %s maxconn %s %s%s\n', m.replica_id, m.host, m.port,
                   CASE WHEN _ingress_text.servers THEN m.weight ELSE 0 END, CASE WHEN _ingress_text.servers THEN m.slots ELSE 0 END,
                   a67_internal._ingress_check(), CASE WHEN m.by_name THEN ' resolvers a67 init-addr none' ELSE '' END),
                   '' ORDER BY m.replica_id) AS lines
        FROM member m GROUP BY m.deployment_id)
    SELECT a67_internal._ingress_head(format('routes-%s.map', md5(a67_internal._ingress_routes())),
                                      EXISTS (SELECT FROM member WHERE by_name))
        || coalesce(string_agg(format($backend$
backend %s
    # %s
    balance %s
    http-request deny deny_status 503 content-type text/plain string "queue full\n" hdr Retry-After 5 if { avg_queue ge 1000 }
    http-request disable-l7-retry unless { method GET HEAD OPTIONS }
%s$backend$, d.deployment_id, regexp_replace(d.name, '[^a-z0-9-]', '?', 'g'),
               -- A division in percent has to be kept at low load too, where the least connections are none everywhere.
               CASE WHEN m.manifest ->> 'balance' IN ('roundrobin', 'weighted')
                         OR u.strategy ->> 'type' IN ('canary', 'blue_green') THEN 'roundrobin' ELSE 'leastconn' END,
               l.lines), '' ORDER BY d.deployment_id), '')
    FROM a67_internal.deployment d
    JOIN a67_internal.release m ON m.deployment_id = d.deployment_id AND m.number = d.release
    LEFT JOIN a67_internal.rollout u ON u.deployment_id = d.deployment_id AND u.finished_at IS NULL
    LEFT JOIN line l ON l.deployment_id = d.deployment_id
    WHERE d.app_type = 'backend'
$$;

-- The digest names what cannot be changed while HAProxy runs; HAProxy shows it as its description.
CREATE OR REPLACE FUNCTION a67_internal._ingress_config() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT replace(a67_internal._ingress_text(true), '@digest@', md5(a67_internal._ingress_text(false)))
$$;

-- ---- what is ---------------------------------------------------------------------------------------------

-- Adds what HAProxy has counted since the last look to the totals of replicas and to the live table of nodes. Only rows that
-- change are locked and written.
CREATE OR REPLACE FUNCTION a67_internal._ingress_count(now timestamptz, output text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
SET enable_nestloop = off SET jit = off
AS $$
DECLARE
    told bigint;
BEGIN
    WITH seen AS (
        SELECT r.replica_id, r.node_id, o.process, o.stopping, coalesce(o.requests, 0) AS requests, coalesce(o.failures, 0) AS failures,
               coalesce(o.sessions, 0) AS sessions, coalesce(o.queued, 0) AS queued, o.latency_ms,
               a67_internal._counter_rise(coalesce(t.seen_requests[array_position(t.processes, o.process)], 0), o.requests) AS more,
               a67_internal._counter_rise(coalesce(t.seen_failures[array_position(t.processes, o.process)], 0), o.failures) AS more_failed
        FROM a67_internal.replica r
        LEFT JOIN a67_internal._ingress_observed(output) o ON o.server = r.replica_id::text
        LEFT JOIN a67_internal.replica_traffic t ON t.replica_id = r.replica_id
        WHERE o.server IS NOT NULL OR t.sessions > 0
        ORDER BY r.replica_id, o.process),
    one AS MATERIALIZED (
        SELECT s.replica_id, s.node_id, coalesce(sum(s.more), 0) AS more, coalesce(sum(s.more_failed), 0) AS more_failed,
               coalesce(sum(s.more * s.latency_ms), 0) AS more_ms, sum(s.sessions) AS sessions, sum(s.queued) AS queued,
               coalesce(array_agg(s.process) FILTER (WHERE s.process IS NOT NULL), '{}') AS processes,
               coalesce(array_agg(s.requests) FILTER (WHERE s.process IS NOT NULL), '{}') AS seen_requests,
               coalesce(array_agg(s.failures) FILTER (WHERE s.process IS NOT NULL), '{}') AS seen_failures
        FROM seen s GROUP BY s.replica_id, s.node_id),
    changed AS (
        -- One that is being deleted is left out.
        SELECT o.* FROM one o
        JOIN a67_internal.replica r ON r.replica_id = o.replica_id
        LEFT JOIN a67_internal.replica_traffic t ON t.replica_id = o.replica_id
        WHERE (t.sessions, t.queued, t.processes, t.seen_requests, t.seen_failures)
              IS DISTINCT FROM (o.sessions, o.queued, o.processes, o.seen_requests, o.seen_failures)
        ORDER BY r.replica_id FOR KEY SHARE OF r),
    kept AS (
        INSERT INTO a67_internal.replica_traffic AS t (replica_id, requests, failures, latency_sum_ms, sessions, queued, at,
            processes, seen_requests, seen_failures)
        SELECT c.replica_id, c.more, c.more_failed, c.more_ms, c.sessions, c.queued, _ingress_count.now,
               c.processes, c.seen_requests, c.seen_failures
        FROM changed c
        ON CONFLICT (replica_id) DO UPDATE
        SET requests = t.requests + excluded.requests, failures = t.failures + excluded.failures,
            latency_sum_ms = t.latency_sum_ms + excluded.latency_sum_ms, sessions = excluded.sessions, queued = excluded.queued,
            at = excluded.at, processes = excluded.processes, seen_requests = excluded.seen_requests,
            seen_failures = excluded.seen_failures)
    SELECT count(a67_internal._live_observe(n.node_id, n.more, n.more_failed, n.latency_ms, n.sessions)) INTO told
    FROM (SELECT o.node_id, sum(o.more)::float8 AS more, sum(o.more_failed)::float8 AS more_failed,
                 (sum(o.more_ms) / nullif(sum(o.more), 0))::float8 AS latency_ms, sum(o.sessions)::integer AS sessions
          FROM one o GROUP BY o.node_id) n;
    WITH seen AS (
        SELECT d.deployment_id,
               sum(a67_internal._counter_rise(coalesce(t.seen_refused[array_position(t.processes, o.process)], 0), o.failures)) AS more,
               sum(o.queued) AS queued, array_agg(o.process ORDER BY o.process) AS processes, array_agg(o.failures ORDER BY o.process) AS seen_refused
        FROM a67_internal._ingress_observed(output) o
        JOIN a67_internal.deployment d ON d.deployment_id::text = o.backend
        LEFT JOIN a67_internal.deployment_traffic t ON t.deployment_id = d.deployment_id
        WHERE o.server IS NULL
        GROUP BY d.deployment_id),
    changed AS (
        SELECT s.* FROM seen s
        JOIN a67_internal.deployment d ON d.deployment_id = s.deployment_id
        LEFT JOIN a67_internal.deployment_traffic t ON t.deployment_id = s.deployment_id
        WHERE (t.queued, t.processes, t.seen_refused) IS DISTINCT FROM (s.queued, s.processes, s.seen_refused)
        ORDER BY d.deployment_id FOR KEY SHARE OF d)
    INSERT INTO a67_internal.deployment_traffic AS t (deployment_id, refused, queued, at, processes, seen_refused)
    SELECT c.deployment_id, c.more, c.queued, _ingress_count.now, c.processes, c.seen_refused FROM changed c
    ON CONFLICT (deployment_id) DO UPDATE
    SET refused = t.refused + excluded.refused, queued = excluded.queued, at = excluded.at, processes = excluded.processes,
        seen_refused = excluded.seen_refused;
END
$$;

-- Notes which replicas get requests. A replica is "joining" before HAProxy is told of it, so that nobody stops it without
-- draining it first, and "out" only when no process of HAProxy sends it any more and none of its requests is under way, the
-- time for them is over, or its node is dead. A row that has changed meanwhile (generation) is left for the next time.
CREATE OR REPLACE FUNCTION a67_internal._ingress_note(now timestamptz, output text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    WITH seen AS (
        SELECT o.server, bool_or(NOT o.stopping AND o.status ~ '^(UP|no check)') AS takes,
               bool_or(o.status ~ '^(UP|no check)') AS any_takes, sum(o.sessions + o.queued) AS busy,
               max(o.address) FILTER (WHERE NOT o.stopping) AS address
        FROM a67_internal._ingress_observed(output) o WHERE o.server IS NOT NULL GROUP BY o.server),
    fresh AS (
        SELECT r.replica_id, r.generation, r.routed,
               CASE WHEN m.replica_id IS NOT NULL THEN
                         CASE WHEN output IS NULL AND r.routed = 'in' THEN 'in'
                              WHEN s.takes AND (m.by_name OR s.address = format('%s:%s', m.host, m.port)) THEN 'in' ELSE 'joining' END
                    WHEN r.routed = 'out' OR output IS NULL AND r.drain_until > _ingress_note.now THEN r.routed
                    WHEN o.status IN ('failed', 'offline', 'removed') THEN 'out'
                    WHEN r.desired_state = 'stopped' AND r.drain_until <= _ingress_note.now THEN 'out'
                    WHEN s.any_takes OR s.busy > 0 THEN 'draining'
                    ELSE 'out' END AS routed_now
        FROM a67_internal.replica r
        JOIN a67_internal.node_observed o USING (node_id)
        LEFT JOIN a67_internal._ingress_members() m USING (replica_id)
        LEFT JOIN seen s ON s.server = r.replica_id::text
        WHERE m.replica_id IS NOT NULL OR r.routed <> 'out'),
    locked AS (
        SELECT r.replica_id, f.routed_now FROM a67_internal.replica r JOIN fresh f USING (replica_id)
        WHERE f.routed_now <> f.routed AND r.generation = f.generation
        ORDER BY r.replica_id FOR NO KEY UPDATE OF r)
    UPDATE a67_internal.replica r
    SET routed = l.routed_now,
        drain_until = CASE WHEN l.routed_now = 'out' AND r.desired_state = 'stopped' THEN least(r.drain_until, _ingress_note.now)
                           ELSE r.drain_until END
    FROM locked l WHERE r.replica_id = l.replica_id;
    IF FOUND THEN
        PERFORM a67_internal._wake('reconciler');
    END IF;
END
$$;

-- What to tell HAProxy's processes so that they do what the rows say; NULL when they do.
CREATE OR REPLACE FUNCTION a67_internal._ingress_commands(output text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    RETURN (
    WITH observed AS MATERIALIZED (
        SELECT o.*, '@!' || split_part(o.process, '.', 1) AS at_pid, o.backend || '/' || o.server AS name
        FROM a67_internal._ingress_observed(output) o WHERE o.backend IS NOT NULL),
    member AS MATERIALIZED (
        SELECT m.*, m.deployment_id || '/' || m.replica_id AS name, m.host || ':' || m.port AS address
        FROM a67_internal._ingress_members() m JOIN a67_internal.replica r USING (replica_id)
        WHERE r.routed IN ('joining', 'in')),
    different AS (
        SELECT b.at_pid, m.*, s.name AS known, s.address AS old_address, s.weight AS old_weight, s.slots AS old_slots, s.status
        FROM member m
        JOIN observed b ON b.backend = m.deployment_id::text AND b.server IS NULL AND NOT b.stopping
        LEFT JOIN observed s ON s.process = b.process AND s.name = m.name
        WHERE (s.address, s.weight, s.slots) IS DISTINCT FROM (m.address, m.weight, m.slots) OR s.status ~ '^(DRAIN|MAINT$)'),
    stranger AS (
        SELECT s.*, coalesce(r.routed, 'out') = 'out' AS out
        FROM observed s LEFT JOIN a67_internal.replica r ON r.replica_id::text = s.server
        WHERE s.server IS NOT NULL AND s.name NOT IN (SELECT m.name FROM member m)),
    command AS (
        SELECT m.at_pid, m.name, c.n, c.command
        FROM different m,
        LATERAL (VALUES
            (1, CASE WHEN m.known IS NULL AND NOT m.by_name THEN format('add server %s %s weight %s maxconn %s %s', m.name, m.address,
                         m.weight, m.slots, a67_internal._ingress_check()) END),
            (2, CASE WHEN m.known IS NULL AND NOT m.by_name THEN 'enable health ' || m.name END),
            (3, CASE WHEN m.known IS NULL AND NOT m.by_name THEN 'enable server ' || m.name END),
            (4, CASE WHEN m.old_address <> m.address AND NOT m.by_name THEN format('set server %s addr %s port %s', m.name, btrim(m.host, '[]'), m.port) END),
            (5, CASE WHEN m.old_weight <> m.weight THEN format('set weight %s %s', m.name, m.weight) END),
            (6, CASE WHEN m.old_slots <> m.slots THEN format('set maxconn server %s %s', m.name, m.slots) END),
            (7, CASE WHEN m.status ~ '^(DRAIN|MAINT$)' THEN format('set server %s state ready', m.name) END)) c (n, command)
        UNION ALL
        SELECT s.at_pid, s.name, c.n, c.command
        FROM stranger s,
        LATERAL (VALUES
            (1, CASE WHEN s.status ~ '^(UP|no check)' THEN format('set server %s state drain', s.name) END),
            (2, CASE WHEN s.out AND s.sessions > 0 THEN 'shutdown sessions server ' || s.name END),
            (3, CASE WHEN s.out AND NOT s.stopping THEN format('set server %s state maint', s.name) END),
            (4, CASE WHEN s.out AND NOT s.stopping THEN 'del server ' || s.name END)) c (n, command))
    SELECT string_agg(format(E'%s %s\n', c.at_pid, c.command), '' ORDER BY c.at_pid, c.name, c.n) FROM command c WHERE c.command IS NOT NULL);
END
$$;

-- One look at HAProxy: output is what it says of itself, NULL when it does not answer. Returns the commands to send, a
-- configuration (with its map of routes) when another one than that which runs is needed, and whether nothing will have to be
-- done (settled) until HAProxy says something else or the worker is woken.
CREATE OR REPLACE FUNCTION a67_internal._ingress_plan(now timestamptz, output text, OUT commands text, OUT config text,
    OUT routes_file text, OUT routes text, OUT settled boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    wanted text;
BEGIN
    IF NOT a67_internal._ingress_on() THEN
        UPDATE a67_internal.replica r SET routed = 'out', drain_until = least(r.drain_until, _ingress_plan.now) WHERE r.routed <> 'out';
        PERFORM a67_internal._alert_resolve('ingress-down'), a67_internal._alert_resolve('ingress-config'), a67_internal._dns_settle(now);
        RETURN;
    END IF;
    IF output IS NOT NULL THEN
        PERFORM a67_internal._ingress_count(now, output), a67_internal._alert_resolve('ingress-down');
    END IF;
    PERFORM a67_internal._ingress_note(now, output), a67_internal._dns_settle(now);
    commands := a67_internal._ingress_commands(output);
    wanted := 'a67-' || md5(a67_internal._ingress_text(false));
    IF output IS NULL OR NOT EXISTS (
           SELECT FROM a67_internal._ingress_observed(output) o WHERE o.description = wanted AND NOT o.stopping) THEN
        -- In one statement, so of one moment: the configuration names the file of these routes.
        SELECT c.config, r.routes, format('routes-%s.map', md5(r.routes)) INTO config, routes, routes_file
        FROM a67_internal._ingress_config() c (config), a67_internal._ingress_routes() r (routes);
    ELSE
        PERFORM a67_internal._alert_resolve('ingress-config');
    END IF;
    settled := commands IS NULL AND config IS NULL AND NOT EXISTS (SELECT FROM a67_internal.replica r WHERE r.routed = 'draining');
END
$$;

-- Something is wrong with HAProxy itself: kind is down or config.
CREATE OR REPLACE FUNCTION a67_internal._ingress_fault(kind text, message text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    operator uuid := a67_internal._operator_id();
BEGIN
    PERFORM a67_internal._alert_raise(operator, 'critical', operator, 'ingress-' || kind, left(message, 1000));
END
$$;

CREATE OR REPLACE TRIGGER replica_ingress AFTER INSERT OR DELETE OR UPDATE OF state, desired_state, port ON a67_internal.replica
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._wake_trigger('ingress');
CREATE OR REPLACE TRIGGER node_observed_ingress AFTER UPDATE OF status ON a67_internal.node_observed
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._wake_trigger('ingress');
CREATE OR REPLACE TRIGGER node_ingress AFTER UPDATE OF endpoint, cpu_cores, max_concurrent_requests ON a67_internal.node
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._wake_trigger('ingress');
CREATE OR REPLACE TRIGGER rollout_ingress AFTER INSERT OR UPDATE OF weight, finished_at ON a67_internal.rollout
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._wake_trigger('ingress');
CREATE OR REPLACE TRIGGER route_ingress AFTER INSERT OR DELETE OR UPDATE ON a67_internal.route
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._wake_trigger('ingress');
