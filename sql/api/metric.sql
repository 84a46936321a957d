-- Metrics over time: what heartbeats say, statistics of nodes, totals of the system.

-- ---- heartbeats -------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._bucket_add(bucket float8[], cpu_percent real, memory_percent real, disk_percent real,
    load1 real, latency_ms real, requests bigint, failures bigint, network_bytes bigint) RETURNS float8[]
AS 'MODULE_PATHNAME', 'a67_sql_bucket_add' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._bucket_add(float8[], real, real, real, real, real, bigint, bigint, bigint) IS
    'One more heartbeat in a minute''s account; NULL begins one';

-- A minute's account as a row of node_metric. Without search_path and parsed once, so that the planner inlines it.
CREATE OR REPLACE FUNCTION a67_internal._bucket_row(node_id uuid, bucket_at timestamptz, bucket float8[])
RETURNS SETOF a67_internal.node_metric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT node_id, bucket_at, bucket[1]::integer,
           (bucket[3] / nullif(bucket[2], 0))::real, CASE WHEN bucket[2] > 0 THEN bucket[4]::real END,
           (bucket[6] / nullif(bucket[5], 0))::real, CASE WHEN bucket[5] > 0 THEN bucket[7]::real END,
           (bucket[9] / nullif(bucket[8], 0))::real, CASE WHEN bucket[8] > 0 THEN bucket[10]::real END,
           (bucket[12] / nullif(bucket[11], 0))::real, CASE WHEN bucket[11] > 0 THEN bucket[13]::real END,
           (bucket[15] / nullif(bucket[14], 0))::real, CASE WHEN bucket[14] > 0 THEN bucket[16]::real END,
           least(bucket[17], 9e18)::bigint, least(bucket[18], 9e18)::bigint, least(bucket[19], 9e18)::bigint;
END;

CREATE OR REPLACE VIEW a67_internal.node_metric_open AS
SELECT m.*
FROM a67_internal.node_observed o, LATERAL a67_internal._bucket_row(o.node_id, o.metric_at, o.metric) m
WHERE o.metric_at IS NOT NULL;
COMMENT ON VIEW a67_internal.node_metric_open IS 'What node_metric will hold of each node''s running minute';

-- How far a counter has risen; one that fell has started anew, because its machine booted.
CREATE OR REPLACE FUNCTION a67_internal._counter_rise(before bigint, after bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN after >= before THEN after - before WHEN before IS NOT NULL THEN coalesce(after, 0) ELSE 0 END;

-- A share as it is kept: what an agent made up must not go beyond any sum that is made of it.
CREATE OR REPLACE FUNCTION a67_internal._percent(percent real) RETURNS real
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN percent >= 100 THEN 100::real WHEN percent >= 1e-6 THEN percent WHEN percent IS NOT NULL THEN 0::real END;

-- What is left of a count after that time: half of it is forgotten within a minute. Less than a trace is nothing, since a
-- number that becomes too small for its type is an error.
CREATE OR REPLACE FUNCTION a67_internal._faded(lately float8, elapsed_s float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN lately < 1e-6 OR elapsed_s > 3600 THEN 0 ELSE lately * 0.5 ^ (elapsed_s / 60) END;

-- Metrics of fresh heartbeats, in batches from the live table. Status is left to the monitor. One statement and one new
-- version of each row: what a heartbeat says is added to the account of its minute right there, and a minute that has
-- ended goes to node_metric on the way. So a sample is as durable as the row that it changed. Nothing that one node says
-- may raise an error here: it would keep the heartbeats of all others in its batch from their rows, each time anew.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_record(now timestamptz, node_ids uuid[], at timestamptz[],
    cpu_percent real[], memory_percent real[], memory_free_bytes bigint[], disk_percent real[], load1 real[],
    active_requests integer[], latency_ms real[], network_bytes bigint[], requests bigint[], failures bigint[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
-- One plan is right, from each heartbeat to its row by the key, and it must not depend on what statistics say.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    updated integer;
    waiting boolean;
    counted_gap interval := current_setting('a67.heartbeat_interval')::interval * 2;
BEGIN
    WITH beat AS (
        SELECT b.node_id, least(b.at, _heartbeat_record.now) AS at,
               date_bin('1 minute', least(b.at, _heartbeat_record.now), 'epoch') AS minute,
               a67_internal._percent(b.cpu_percent) AS cpu_percent, a67_internal._percent(b.memory_percent) AS memory_percent,
               b.memory_free_bytes, a67_internal._percent(b.disk_percent) AS disk_percent, b.load1, b.active_requests, b.latency_ms,
               b.network_bytes, b.requests, b.failures
        FROM unnest(_heartbeat_record.node_ids, _heartbeat_record.at, _heartbeat_record.cpu_percent,
                    _heartbeat_record.memory_percent, _heartbeat_record.memory_free_bytes, _heartbeat_record.disk_percent,
                    _heartbeat_record.load1, _heartbeat_record.active_requests, _heartbeat_record.latency_ms,
                    _heartbeat_record.network_bytes, _heartbeat_record.requests, _heartbeat_record.failures)
             b (node_id, at, cpu_percent, memory_percent, memory_free_bytes, disk_percent, load1, active_requests, latency_ms,
                network_bytes, requests, failures)
    ), stored AS (
        UPDATE a67_internal.node_observed o
        SET last_heartbeat_at = greatest(o.last_heartbeat_at, b.at),
            metrics_at = b.at,
            cpu_percent = b.cpu_percent,
            memory_percent = b.memory_percent,
            memory_free_bytes = b.memory_free_bytes,
            disk_percent = b.disk_percent,
            load1 = b.load1,
            active_requests = b.active_requests,
            latency_ms = b.latency_ms,
            -- What the quotas of a provider are measured with (usage.sql); both only grow.
            up_seconds = o.up_seconds + CASE WHEN b.at > o.last_heartbeat_at AND b.at - o.last_heartbeat_at <= counted_gap
                                             THEN date_part('epoch', b.at - o.last_heartbeat_at) ELSE 0 END,
            network_bytes = coalesce(b.network_bytes, o.network_bytes),
            traffic_bytes = o.traffic_bytes
                + least(a67_internal._counter_rise(o.network_bytes, b.network_bytes), 9223372036854775807 - o.traffic_bytes),
            recent_requests = CASE WHEN b.requests IS NOT NULL OR o.recent_requests IS NOT NULL THEN coalesce(b.requests, 0)
                + coalesce(a67_internal._faded(o.recent_requests, date_part('epoch', greatest(b.at - o.metrics_at, '0'))), 0) END,
            recent_failures = CASE WHEN b.requests IS NOT NULL OR o.recent_requests IS NOT NULL THEN coalesce(b.failures, 0)
                + coalesce(a67_internal._faded(o.recent_failures, date_part('epoch', greatest(b.at - o.metrics_at, '0'))), 0) END,
            -- A beat may be a little late: the minute that is running is at most five ahead of it.
            metric_at = CASE WHEN o.metric_at BETWEEN b.minute AND b.minute + interval '5 minutes' THEN o.metric_at ELSE b.minute END,
            metric = a67_internal._bucket_add(
                CASE WHEN o.metric_at BETWEEN b.minute AND b.minute + interval '5 minutes' THEN o.metric END,
                b.cpu_percent, b.memory_percent, b.disk_percent, b.load1, b.latency_ms, b.requests, b.failures,
                a67_internal._counter_rise(o.network_bytes, b.network_bytes))
        FROM beat b JOIN a67_internal.node_observed before ON before.node_id = b.node_id
        WHERE o.node_id = b.node_id
        RETURNING o.node_id, o.status, before.metric_at <> o.metric_at AS ended, before.metric_at, before.metric
    ), closed AS (
        -- Where a clock that was set back leads to a minute that has its row, that one stays.
        INSERT INTO a67_internal.node_metric
        SELECT m.* FROM stored s, LATERAL a67_internal._bucket_row(s.node_id, s.metric_at, s.metric) m WHERE s.ended
        ON CONFLICT DO NOTHING)
    -- Who is on its way back should not wait for the monitor's next round; load and errors may.
    SELECT count(*), bool_or(s.status IN ('initializing', 'suspect', 'failed', 'offline')) INTO updated, waiting FROM stored s;
    IF waiting THEN
        PERFORM a67_internal._wake('monitor');
    END IF;
    RETURN updated;
END
$$;
COMMENT ON FUNCTION a67_internal._heartbeat_record(timestamptz, uuid[], timestamptz[], real[], real[], bigint[], real[], real[],
    integer[], real[], bigint[], bigint[], bigint[]) IS 'Metrics of heartbeats, a batch at a time: to node_observed, and to node_metric by minutes';

-- The last heartbeat of each node that SQL has accepted: after a start the live table knows them again from here, so that not
-- every node's next heartbeat has to go through SQL.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_known()
RETURNS TABLE (node_id uuid, boot_id text, state_version bigint, last_heartbeat_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT o.node_id, o.boot_id, o.state_version, o.last_heartbeat_at
    FROM a67_internal.node_observed o JOIN a67_internal.node n USING (node_id)
    WHERE n.desired_state <> 'removed' AND o.boot_id IS NOT NULL AND o.state_version IS NOT NULL AND o.last_heartbeat_at IS NOT NULL
$$;

-- One number of a heartbeat's metrics. What is no such number is refused, here as in the listener.
CREATE OR REPLACE FUNCTION a67_internal._metric(metrics jsonb, name text, largest numeric, whole boolean DEFAULT true) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := nullif(_metric.metrics -> _metric.name, 'null');
BEGIN
    IF value IS NULL OR jsonb_typeof(value) = 'number' AND abs(value::numeric) <= _metric.largest
       AND (NOT _metric.whole OR value::numeric >= 0 AND value::numeric = trunc(value::numeric)) THEN
        RETURN value::numeric;
    END IF;
    RAISE EXCEPTION 'metric "%" must be a number', _metric.name
        USING ERRCODE = '22023', DETAIL = format('Field: metrics.%s.', _metric.name),
              HINT = CASE WHEN _metric.whole THEN 'Counts are whole and not negative.' ELSE 'Leave out what is not known.' END;
END
$$;

-- The same for the one heartbeat that a67.node_heartbeat has.
CREATE OR REPLACE FUNCTION a67_internal._heartbeat_one(now timestamptz, node_id uuid, metrics jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    real_max constant numeric := 3e38;
    count_max constant numeric := 9223372036854775807;
    -- What the ingress counts comes through the live node table.
    counts boolean := NOT a67_internal._ingress_on();
BEGIN
    PERFORM a67_internal._metric(metrics, 'memory_total_bytes', count_max), a67_internal._metric(metrics, 'uptime_s', count_max);
    PERFORM a67_internal._heartbeat_record(_heartbeat_one.now, ARRAY[_heartbeat_one.node_id], ARRAY[_heartbeat_one.now],
        ARRAY[a67_internal._metric(metrics, 'cpu_percent', real_max, false)]::real[],
        ARRAY[a67_internal._metric(metrics, 'memory_percent', real_max, false)]::real[],
        ARRAY[a67_internal._metric(metrics, 'memory_free_bytes', count_max)]::bigint[],
        ARRAY[a67_internal._metric(metrics, 'disk_percent', real_max, false)]::real[],
        ARRAY[a67_internal._metric(metrics, 'load1', real_max, false)]::real[],
        ARRAY[a67_internal._metric(metrics, 'active_requests', 2147483647)]::integer[],
        ARRAY[a67_internal._metric(metrics, 'latency_ms', real_max, false)]::real[],
        ARRAY[a67_internal._metric(metrics, 'network_bytes', count_max)]::bigint[],
        ARRAY[CASE WHEN counts THEN a67_internal._metric(metrics, 'requests', count_max) END]::bigint[],
        ARRAY[CASE WHEN counts THEN a67_internal._metric(metrics, 'failures', count_max) END]::bigint[]);
END
$$;

-- ---- statistics of one node -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._stats_check("from" timestamptz, "to" timestamptz, step interval) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF NOT isfinite("from") OR NOT isfinite("to") THEN
        RAISE EXCEPTION 'time must be finite'
            USING ERRCODE = '22023', DETAIL = CASE WHEN isfinite("from") THEN 'Field: to.' ELSE 'Field: from.' END;
    END IF;
    IF "from" >= "to" THEN
        RAISE EXCEPTION 'the time must begin before it ends' USING ERRCODE = '22023', DETAIL = 'Field: from.';
    END IF;
    IF extract(year FROM step) <> 0 OR extract(month FROM step) <> 0 OR step < interval '1 minute'
       OR extract(epoch FROM step) % 60 <> 0 THEN
        RAISE EXCEPTION 'step must be a number of whole minutes' USING ERRCODE = '22023', DETAIL = 'Field: step.';
    END IF;
    IF extract(epoch FROM "to") - extract(epoch FROM "from") > 1000 * extract(epoch FROM step) THEN
        RAISE EXCEPTION 'more than 1000 steps' USING ERRCODE = '22023', DETAIL = 'Field: step.',
            HINT = 'Ask for a shorter time or for longer steps.';
    END IF;
END
$$;

-- The shortest round step that makes no more than about a hundred of the time.
CREATE OR REPLACE FUNCTION a67_internal._stats_step("from" timestamptz, "to" timestamptz) RETURNS interval
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(min(s), interval '1 day')
    FROM unnest(ARRAY['1 minute', '5 minutes', '15 minutes', '1 hour', '6 hours']::interval[]) s
    WHERE isfinite("from") AND isfinite("to") AND extract(epoch FROM "to") - extract(epoch FROM "from") <= 120 * extract(epoch FROM s)
$$;

CREATE OR REPLACE FUNCTION a67.node_stats(node text, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL,
    step interval DEFAULT NULL)
RETURNS TABLE (bucket_at timestamptz, samples bigint, cpu_percent float8, cpu_percent_max float8, memory_percent float8,
    memory_percent_max float8, disk_percent float8, disk_percent_max float8, load1 float8, load1_max float8, latency_ms float8,
    latency_ms_max float8, requests bigint, failures bigint, error_rate float8, network_bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller uuid := a67_internal._user_id();
    until timestamptz := coalesce("to", now());
    since timestamptz := coalesce("from", until - interval '1 hour');
    stride interval := coalesce(step, a67_internal._stats_step(since, until));
    id uuid;
BEGIN
    PERFORM a67_internal._stats_check(since, until, stride);
    SELECT n.node_id INTO id FROM a67_internal.node n
    WHERE (n.name = node_stats.node AND n.owner_id = caller
           OR n.node_id::text = lower(node_stats.node) AND (n.owner_id = caller OR a67_internal._is_admin()))
      AND n.desired_state <> 'removed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node "%" does not exist', node_stats.node USING ERRCODE = 'PT404';
    END IF;
    RETURN QUERY
    SELECT date_bin(stride, m.bucket_at, 'epoch'), sum(m.samples),
           sum(m.cpu_percent::float8 * m.samples) / sum(m.samples) FILTER (WHERE m.cpu_percent IS NOT NULL), max(m.cpu_percent_max)::float8,
           sum(m.memory_percent::float8 * m.samples) / sum(m.samples) FILTER (WHERE m.memory_percent IS NOT NULL),
           max(m.memory_percent_max)::float8,
           sum(m.disk_percent::float8 * m.samples) / sum(m.samples) FILTER (WHERE m.disk_percent IS NOT NULL),
           max(m.disk_percent_max)::float8,
           sum(m.load1::float8 * m.samples) / sum(m.samples) FILTER (WHERE m.load1 IS NOT NULL), max(m.load1_max)::float8,
           sum(m.latency_ms::float8 * m.samples) / sum(m.samples) FILTER (WHERE m.latency_ms IS NOT NULL), max(m.latency_ms_max)::float8,
           sum(m.requests)::bigint, sum(m.failures)::bigint, sum(m.failures)::float8 / nullif(sum(m.requests), 0)::float8,
           sum(m.network_bytes)::bigint
    FROM (SELECT c.* FROM a67_internal.node_metric c WHERE c.node_id = id
          UNION ALL
          SELECT o.* FROM a67_internal.node_metric_open o WHERE o.node_id = id) m
    WHERE m.bucket_at >= date_bin(stride, since, 'epoch') AND m.bucket_at < until
    GROUP BY 1 ORDER BY 1;
END
$$;
COMMENT ON FUNCTION a67.node_stats(text, timestamptz, timestamptz, interval) IS
    'Means and maxima of a node''s heartbeats, step by step: the last hour by minutes unless told otherwise';

-- ---- the whole --------------------------------------------------------------------------------------------

-- Totals of now; of one owner's nodes, or of all (NULL).
CREATE OR REPLACE FUNCTION a67_internal._system_totals(now timestamptz, owner_id uuid) RETURNS a67_internal.system_metric
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    t a67_internal.system_metric;
    percentiles float8[];
BEGIN
    WITH n AS (
        SELECT o.status, o.status IN ('ready', 'busy', 'degraded', 'suspect') AS up, n.cpu_cores, n.memory_bytes, o.cpu_percent,
               o.memory_percent, o.active_requests, o.recent_requests, o.recent_failures, o.latency_ms
        FROM a67_internal.node n JOIN a67_internal.node_observed o USING (node_id)
        WHERE n.desired_state <> 'removed' AND (_system_totals.owner_id IS NULL OR n.owner_id = _system_totals.owner_id)
    ), statuses AS (
        SELECT jsonb_object_agg(s.status, s.count) AS by_status FROM (SELECT n.status, count(*) FROM n GROUP BY 1) s)
    SELECT count(*), coalesce((SELECT s.by_status FROM statuses s), '{}'),
           coalesce(sum(n.cpu_cores::float8) FILTER (WHERE n.up), 0),
           coalesce(sum(n.cpu_cores::float8 * n.cpu_percent / 100) FILTER (WHERE n.up), 0),
           least(coalesce(sum(n.memory_bytes) FILTER (WHERE n.up), 0), 9223372036854775807),
           least(coalesce(sum(n.memory_bytes * n.memory_percent::float8 / 100) FILTER (WHERE n.up), 0), 9e18),
           coalesce(sum(n.active_requests) FILTER (WHERE n.up), 0),
           sum(n.recent_failures) FILTER (WHERE n.up) / nullif(sum(n.recent_requests) FILTER (WHERE n.up), 0),
           avg(n.latency_ms::float8) FILTER (WHERE n.up),
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY n.latency_ms::float8) FILTER (WHERE n.up)
    INTO t.nodes, t.nodes_by_status, t.cpu_cores, t.cpu_cores_used, t.memory_bytes, t.memory_bytes_used, t.active_requests,
         t.error_rate, t.latency_ms, percentiles
    FROM n;
    SELECT count(*) FILTER (WHERE r.desired_state = 'running'),
           count(*) FILTER (WHERE r.desired_state = 'running' AND r.state = 'running')
    INTO t.replicas_wanted, t.replicas_running
    FROM a67_internal.replica r
    WHERE _system_totals.owner_id IS NULL OR r.deployment_id IN (
        SELECT d.deployment_id FROM a67_internal.deployment d WHERE d.owner_id = _system_totals.owner_id);
    t.at := _system_totals.now;
    t.latency_ms_p50 := percentiles[1];
    t.latency_ms_p95 := percentiles[2];
    t.latency_ms_p99 := percentiles[3];
    RETURN t;
END
$$;

-- Ends what is older than the setting says, a bounded number of rows at a time.
CREATE OR REPLACE FUNCTION a67_internal._metric_prune(now timestamptz, most integer DEFAULT 10000) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    oldest timestamptz := _metric_prune.now - current_setting('a67.metrics_retention')::interval;
    gone integer;
BEGIN
    DELETE FROM a67_internal.system_metric m WHERE m.ctid = ANY (ARRAY(
        SELECT s.ctid FROM a67_internal.system_metric s WHERE s.at < oldest ORDER BY s.at LIMIT most));
    DELETE FROM a67_internal.node_metric m WHERE m.ctid = ANY (ARRAY(
        SELECT s.ctid FROM a67_internal.node_metric s WHERE s.bucket_at < oldest ORDER BY s.bucket_at LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

-- Called by the monitor at each of its ticks; one that follows another at once, because it was woken, adds no row.
CREATE OR REPLACE FUNCTION a67_internal._metric_tick(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    -- A row of the future was written before the clock was set back: it holds nothing up.
    IF NOT EXISTS (SELECT FROM a67_internal.system_metric m
                   WHERE m.at > _metric_tick.now - current_setting('a67.monitor_interval')::interval * 0.9
                     AND m.at <= _metric_tick.now) THEN
        INSERT INTO a67_internal.system_metric SELECT t.* FROM a67_internal._system_totals(_metric_tick.now, NULL) t
        ON CONFLICT DO NOTHING;
    END IF;
    PERFORM a67_internal._metric_prune(_metric_tick.now);
END
$$;

-- The last hour, by minutes: of everything, or of one owner's nodes. An owner of very many sees less of the past.
CREATE OR REPLACE FUNCTION a67_internal._system_history(now timestamptz, owner_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    history jsonb;
    minutes integer;
BEGIN
    IF _system_history.owner_id IS NULL THEN
        SELECT jsonb_agg(jsonb_build_object('at', m.minute, 'nodes', m.nodes, 'cpu_percent', m.cpu_percent,
                   'memory_percent', m.memory_percent, 'latency_ms', m.latency_ms, 'error_rate', m.error_rate) ORDER BY m.minute)
        INTO history
        FROM (SELECT date_bin('1 minute', s.at, 'epoch') AS minute, max(s.nodes) AS nodes,
                     100 * sum(s.cpu_cores_used) / nullif(sum(s.cpu_cores), 0) AS cpu_percent,
                     100 * sum(s.memory_bytes_used)::float8 / nullif(sum(s.memory_bytes), 0)::float8 AS memory_percent,
                     avg(s.latency_ms) AS latency_ms, avg(s.error_rate) AS error_rate
              FROM a67_internal.system_metric s
              WHERE s.at >= _system_history.now - interval '1 hour' AND s.at <= _system_history.now GROUP BY 1) m;
        RETURN coalesce(history, '[]');
    END IF;
    SELECT least(60, greatest(5, 120000 / greatest(count(*), 1))) INTO minutes
    FROM a67_internal.node n WHERE n.owner_id = _system_history.owner_id AND n.desired_state <> 'removed';
    SELECT jsonb_agg(jsonb_build_object('at', m.bucket_at, 'nodes', m.nodes, 'cpu_percent', m.cpu_percent,
               'memory_percent', m.memory_percent, 'latency_ms', m.latency_ms, 'error_rate', m.error_rate) ORDER BY m.bucket_at)
    INTO history
    FROM (SELECT s.bucket_at, count(*) AS nodes,
                 sum(s.cpu_percent::float8 * n.cpu_cores) / nullif(sum(n.cpu_cores::float8) FILTER (WHERE s.cpu_percent IS NOT NULL), 0) AS cpu_percent,
                 sum(s.memory_percent::float8 * n.memory_bytes)
                     / nullif(sum(n.memory_bytes) FILTER (WHERE s.memory_percent IS NOT NULL), 0)::float8 AS memory_percent,
                 avg(s.latency_ms::float8) AS latency_ms, sum(s.failures)::float8 / nullif(sum(s.requests), 0)::float8 AS error_rate
          FROM a67_internal.node n
          JOIN (SELECT c.* FROM a67_internal.node_metric c UNION ALL SELECT o.* FROM a67_internal.node_metric_open o) s USING (node_id)
          WHERE n.owner_id = _system_history.owner_id AND n.desired_state <> 'removed'
            AND s.bucket_at >= _system_history.now - make_interval(mins => minutes) AND s.bucket_at <= _system_history.now
          GROUP BY s.bucket_at) m;
    RETURN coalesce(history, '[]');
END
$$;

CREATE OR REPLACE FUNCTION a67.system_metrics() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner_id uuid := a67_internal._user_id();
BEGIN
    IF a67_internal._is_admin() THEN
        owner_id := NULL;
    END IF;
    RETURN to_jsonb(a67_internal._system_totals(now(), owner_id))
        || jsonb_build_object('history', a67_internal._system_history(now(), owner_id));
END
$$;
COMMENT ON FUNCTION a67.system_metrics() IS 'Totals of your nodes, of all nodes for an administrator, and how they were in the last hour';
