-- What nodes use of their providers' free tiers: months, warnings, and requests that keep nodes awake.
--
-- Heartbeats keep two counters in node_observed that never fall, up_seconds and traffic_bytes (_heartbeat_record). A month's
-- use is what they have risen since the month was opened, and the disk is what it is now; so counting writes nothing while
-- a month goes on. View a67.node_usage shows it; here is what follows from it. Quotas are those of the free tier: a node of
-- another tier than "free" has none. The monitor calls _usage_tick, _ping_plan and _ping_record.

-- Ends the warnings of a node, of all its quotas or of these.
CREATE OR REPLACE FUNCTION a67_internal._quota_alerts_resolve(node_id uuid, kinds text[] DEFAULT '{hours,bandwidth,disk}') RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._alert_resolve(format('node-quota:%s:%s', _quota_alerts_resolve.node_id, k)) FROM unnest(kinds) k
$$;

-- Opens the month of `now` for nodes that are still in an earlier one, at most 5,000 a call, and closes that; two years are
-- kept. A clock that went back into an earlier month opens none: the month goes on.
CREATE OR REPLACE FUNCTION a67_internal._usage_month(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    this_month date := date_trunc('month', _usage_month.now AT TIME ZONE 'UTC');
    past record;
BEGIN
    FOR past IN
        WITH behind AS MATERIALIZED (
            SELECT n.node_id, n.disk_bytes
            FROM a67_internal.node n
            LEFT JOIN a67_internal.node_usage u ON u.node_id = n.node_id AND u.up_seconds IS NULL
            WHERE n.desired_state <> 'removed' AND (u.node_id IS NULL OR u.month < this_month)
            LIMIT 5000
        ), late AS MATERIALIZED (
            SELECT o.node_id, o.up_seconds, o.traffic_bytes, (o.disk_percent / 100 * b.disk_bytes)::bigint AS disk_bytes
            FROM behind b JOIN a67_internal.node_observed o USING (node_id)
        ), forgotten AS (
            DELETE FROM a67_internal.node_usage u USING late l
            WHERE u.node_id = l.node_id AND u.month < this_month - interval '24 months' AND u.up_seconds IS NOT NULL
        ), closed AS (
            UPDATE a67_internal.node_usage u
            SET up_seconds = l.up_seconds - u.up_seconds_before, traffic_bytes = l.traffic_bytes - u.traffic_bytes_before,
                disk_bytes = l.disk_bytes
            FROM late l WHERE u.node_id = l.node_id AND u.up_seconds IS NULL
            RETURNING u.node_id, ARRAY(SELECT jsonb_object_keys(u.warned)) AS kinds
        ), opened AS (
            -- A node's first month begins with its registration, when its counters stood at nothing.
            INSERT INTO a67_internal.node_usage (node_id, month, up_seconds_before, traffic_bytes_before)
            SELECT l.node_id, this_month, CASE WHEN c.node_id IS NULL THEN 0 ELSE l.up_seconds END,
                   CASE WHEN c.node_id IS NULL THEN 0 ELSE l.traffic_bytes END
            FROM late l LEFT JOIN closed c USING (node_id)
            ON CONFLICT DO NOTHING)
        SELECT c.node_id, c.kinds FROM closed c WHERE cardinality(c.kinds) > 0
    LOOP
        PERFORM a67_internal._quota_alerts_resolve(past.node_id, past.kinds);
    END LOOP;
END
$$;

-- The quotas of nodes in their open months, of which this part at least is used; of all nodes, or of one. `lasts`: hours
-- that cannot be used up before the month is over (750 of 744) are no reason to worry, whatever part of them is gone.
CREATE OR REPLACE FUNCTION a67_internal._quota_state(now timestamptz, from_percent float8, only_node uuid DEFAULT NULL)
RETURNS TABLE (node_id uuid, kind text, used float8, quota float8, percent float8, lasts boolean, warned jsonb, near_quota boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    month_end timestamptz := (date_trunc('month', _quota_state.now AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    hours_left float8 := extract(epoch FROM month_end - _quota_state.now) / 3600;
BEGIN
    RETURN QUERY
    SELECT n.node_id, k.kind, k.used, k.quota, k.used * 100 / k.quota, k.kind = 'hours' AND k.quota - k.used >= hours_left,
           u.warned -> k.kind, o.near_quota
    FROM a67_internal.provider p
    JOIN a67_internal.node n ON n.provider = p.name AND (n.tier IS NULL OR n.tier = 'free') AND n.desired_state <> 'removed'
    JOIN a67_internal.node_usage u ON u.node_id = n.node_id AND u.up_seconds IS NULL
    JOIN a67_internal.node_observed o ON o.node_id = n.node_id,
    LATERAL (VALUES
        ('hours', (o.up_seconds - u.up_seconds_before) / 3600, p.monthly_hours::float8),
        ('bandwidth', (o.traffic_bytes - u.traffic_bytes_before)::float8, p.bandwidth_bytes::float8),
        ('disk', o.disk_percent::float8 / 100 * n.disk_bytes, p.disk_bytes::float8)) k (kind, used, quota)
    WHERE coalesce(p.monthly_hours, p.bandwidth_bytes, p.disk_bytes) IS NOT NULL
      AND k.used * 100 >= k.quota * from_percent
      AND (only_node IS NULL OR n.node_id = only_node);
END
$$;

-- Looks at every quota. 80 %: the owner is warned, once a month for each kind (again only if the quota was changed). 90 %:
-- selection avoids the node, until use has fallen by two points or the month has ended.
CREATE OR REPLACE FUNCTION a67_internal._usage_judge(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    near uuid[] := '{}';
    q record;
BEGIN
    PERFORM a67_internal._usage_month(_usage_judge.now);
    FOR q IN
        SELECT s.*, n.owner_id, n.name, n.provider
        FROM a67_internal._quota_state(_usage_judge.now, 80) s JOIN a67_internal.node n USING (node_id)
        WHERE NOT s.lasts
    LOOP
        IF q.percent >= 90 OR q.near_quota AND q.percent >= 88 THEN
            near := near || q.node_id;
        END IF;
        CONTINUE WHEN q.warned = to_jsonb(q.quota);
        UPDATE a67_internal.node_usage u SET warned = u.warned || jsonb_build_object(q.kind, q.quota)
        WHERE u.node_id = q.node_id AND u.up_seconds IS NULL;
        PERFORM a67_internal._event(q.owner_id, 'node.quota.warned', q.node_id, jsonb_build_object('node', q.name,
            'kind', q.kind, 'used', q.used, 'quota', q.quota, 'percent', round(q.percent::numeric, 1)));
        PERFORM a67_internal._alert_raise(q.owner_id, 'warning', q.node_id, format('node-quota:%s:%s', q.node_id, q.kind),
            format('node "%s" has used %s %% of the %s that provider "%s" allows', q.name, floor(q.percent),
                   CASE q.kind WHEN 'hours' THEN 'monthly hours' WHEN 'bandwidth' THEN 'monthly traffic' ELSE 'disk' END, q.provider));
    END LOOP;
    -- Never waits for a row that a heartbeat holds; the next round comes.
    UPDATE a67_internal.node_observed o SET near_quota = NOT o.near_quota, epoch = o.epoch + 1
    WHERE o.node_id IN (
        SELECT c.node_id FROM a67_internal.node_observed c
        WHERE c.near_quota AND c.node_id <> ALL (near) OR NOT c.near_quota AND c.node_id = ANY (near)
        FOR UPDATE SKIP LOCKED);
    -- A quota that was raised or dropped, or a disk that was tidied up.
    FOR q IN
        SELECT a.subject_id AS node_id, a.kind
        FROM (SELECT a.subject_id, split_part(a.dedup_key, ':', 3) AS kind FROM a67_internal.alert a
              WHERE a.resolved_at IS NULL AND a.dedup_key LIKE 'node-quota:%') a
        LEFT JOIN LATERAL a67_internal._quota_state(_usage_judge.now, 0, a.subject_id) s ON s.kind = a.kind
        WHERE s.kind IS NULL OR s.percent < 70 OR s.percent < 80 AND s.warned <> to_jsonb(s.quota)
    LOOP
        PERFORM a67_internal._quota_alerts_resolve(q.node_id, ARRAY[q.kind]);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._usage_tick(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF a67_internal._minute_due('usage', now) THEN
        PERFORM a67_internal._usage_judge(now);
    END IF;
END
$$;

-- A request for every node that its provider would soon put to sleep: 80 % of the pause have passed since the last one.
-- Planning counts as sending, so that none is sent twice; _ping_record corrects that when it failed.
CREATE OR REPLACE FUNCTION a67_internal._ping_plan(now timestamptz)
RETURNS TABLE (key text, method text, url text, token text, body text, timeout_ms integer, headers text[], pin text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH due AS (
        SELECT o.node_id, n.endpoint, n.public_key
        FROM a67_internal.provider p
        JOIN a67_internal.node n ON n.provider = p.name AND (n.tier IS NULL OR n.tier = 'free')
        JOIN a67_internal.node_observed o USING (node_id)
        WHERE p.idle_pause IS NOT NULL AND n.desired_state IN ('active', 'draining')
          -- A time to come: the clock went back.
          AND (o.pinged_at IS NULL OR o.pinged_at NOT BETWEEN _ping_plan.now - p.idle_pause * 0.8 AND _ping_plan.now)
          AND (o.status IN ('ready', 'busy', 'degraded')
               OR EXISTS (SELECT FROM a67_internal.replica r WHERE r.node_id = n.node_id AND r.desired_state = 'running'))
        ORDER BY o.pinged_at NULLS FIRST LIMIT 256
        FOR UPDATE OF o SKIP LOCKED
    ), leased AS (
        UPDATE a67_internal.node_observed o SET pinged_at = _ping_plan.now
        FROM due d WHERE o.node_id = d.node_id
        RETURNING d.node_id, d.endpoint, d.public_key)
    SELECT 'ping ' || l.node_id, 'GET', l.endpoint || '/health', NULL, NULL,
           (extract(epoch FROM current_setting('a67.probe_timeout')::interval) * 1000)::integer, NULL::text[],
           a67_internal._node_pin(l.public_key)
    FROM leased l
$$;

-- Any answer woke the node. Without one it is tried again after a minute, or a tenth of a shorter pause.
CREATE OR REPLACE FUNCTION a67_internal._ping_record(now timestamptz, key text, status integer, error text) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    UPDATE a67_internal.node_observed o
    SET pinged_at = _ping_record.now - p.idle_pause * 0.8 + least(p.idle_pause * 0.1, interval '1 minute')
    FROM a67_internal.node n JOIN a67_internal.provider p ON p.name = n.provider
    WHERE coalesce(_ping_record.status, 0) = 0 AND n.node_id = split_part(_ping_record.key, ' ', 2)::uuid AND o.node_id = n.node_id
$$;
