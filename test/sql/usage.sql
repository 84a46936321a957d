\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
-- Use of free tiers with a chosen clock. a67.heartbeat_interval is 10 s here, so gaps of more than 20 s do not count.
SELECT plan(60);
DELETE FROM a67_internal.provider;

CREATE FUNCTION pg_temp.join(name text, provider text, tier text DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    SELECT (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:7301', rpad(name, 43, 'u'),
        '{"cpu_cores": 1, "memory_gb": 1, "disk_gb": 1}', name => name, provider => provider, tier => tier) ->> 'node_id')::uuid
$$;
CREATE FUNCTION pg_temp.beat(name text, at timestamptz, network_bytes bigint DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._heartbeat_one(at, n.node_id, jsonb_build_object('cpu_percent', 1, 'network_bytes', network_bytes))
    FROM a67_internal.node n WHERE n.name = beat.name AND n.desired_state <> 'removed'
$$;
CREATE FUNCTION pg_temp.observed(name text) RETURNS a67_internal.node_observed LANGUAGE sql AS $$
    SELECT o FROM a67_internal.node_observed o JOIN a67_internal.node n USING (node_id) WHERE n.name = observed.name
$$;
CREATE FUNCTION pg_temp.count_up(name text, hours float8 DEFAULT NULL, bytes bigint DEFAULT NULL, disk real DEFAULT NULL) RETURNS void
LANGUAGE sql AS $$
    UPDATE a67_internal.node_observed o SET up_seconds = coalesce(hours * 3600, up_seconds), traffic_bytes = coalesce(bytes, traffic_bytes),
        disk_percent = coalesce(disk, disk_percent)
    FROM a67_internal.node n WHERE n.node_id = o.node_id AND n.name = count_up.name
$$;
-- What a node has used in its newest month, of one kind.
CREATE FUNCTION pg_temp.used(name text, kind text) RETURNS float8 LANGUAGE sql AS $$
    SELECT u.used FROM a67.node_usage u WHERE u.node = name AND u.kind = used.kind ORDER BY u.month DESC LIMIT 1
$$;
CREATE FUNCTION pg_temp.warnings(name text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM a67_internal.event e WHERE e.type = 'node.quota.warned' AND e.payload ->> 'node' = name
$$;
CREATE FUNCTION pg_temp.alerts(name text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(split_part(a.dedup_key, ':', 3) ORDER BY a.dedup_key) FROM a67.alert a JOIN a67_internal.node n ON n.node_id = a.subject_id
    WHERE n.name = alerts.name AND a.resolved_at IS NULL AND a.dedup_key = format('node-quota:%s:%s', n.node_id, split_part(a.dedup_key, ':', 3))
$$;
SELECT a67.provider_set('acme', '{"monthly_hours": 100, "bandwidth_bytes": 1000000, "disk_bytes": 536870912}') \g /dev/null
SELECT pg_temp.join('oak', 'acme') \g /dev/null

-- Counting
SELECT pg_temp.beat('oak', '2026-03-10 12:00:00+00', 1000);
SELECT results_eq($$SELECT o.up_seconds, o.traffic_bytes FROM pg_temp.observed('oak') o$$, 'VALUES (0::float8, 0::bigint)',
    'a first heartbeat counts nothing: what was before it is not known');
SELECT pg_temp.beat('oak', '2026-03-10 12:00:10+00', 1500);
SELECT pg_temp.beat('oak', '2026-03-10 12:00:30+00', 1500);
SELECT results_eq($$SELECT o.up_seconds, o.traffic_bytes FROM pg_temp.observed('oak') o$$, 'VALUES (30::float8, 500::bigint)',
    'time between heartbeats and bytes between readings');
SELECT pg_temp.beat('oak', '2026-03-10 12:00:50.001+00', 1600);
SELECT results_eq($$SELECT o.up_seconds, o.traffic_bytes FROM pg_temp.observed('oak') o$$, 'VALUES (30::float8, 600::bigint)',
    'a gap longer than two intervals is no time up; its traffic was there');
SELECT pg_temp.beat('oak', '2026-03-10 12:00:40+00', 1600);
SELECT is((pg_temp.observed('oak')).up_seconds, 30::float8, 'a heartbeat of an earlier time counts nothing');
SELECT pg_temp.beat('oak', '2026-03-10 12:01:00.001+00', 1600);
SELECT is((pg_temp.observed('oak')).up_seconds, 40::float8, 'and takes nothing away');
SELECT pg_temp.beat('oak', '2026-03-10 12:01:10.001+00', 200);
SELECT is((pg_temp.observed('oak')).traffic_bytes, 800::bigint, 'a counter that fell began anew: the machine booted');
SELECT pg_temp.beat('oak', '2026-03-10 12:01:20.001+00', NULL);
SELECT pg_temp.beat('oak', '2026-03-10 12:01:30.001+00', 300);
SELECT is((pg_temp.observed('oak')).traffic_bytes, 900::bigint, 'a heartbeat without the counter leaves it');

-- Months
SELECT is_empty($$SELECT FROM a67.node_usage$$, 'no month is open yet');
SET LOCAL timezone = 'Pacific/Auckland';
SELECT a67_internal._usage_judge('2026-03-31 23:00:00+00');
SELECT results_eq($$SELECT node, month, kind, used, quota, round(percent::numeric, 3) FROM a67.node_usage ORDER BY kind$$,
    $$VALUES ('oak', date '2026-03-01', 'bandwidth', 900::float8, 1000000::float8, 0.090),
             ('oak', '2026-03-01', 'disk', 0, 536870912, 0.000), ('oak', '2026-03-01', 'hours', 70::float8 / 3600, 100, 0.019)$$,
    'the first month holds everything since registration; months are those of UTC');
SET LOCAL timezone = 'UTC';
SELECT a67_internal._usage_judge('2026-03-31 23:00:01+00');
SELECT is((SELECT count(*) FROM a67_internal.node_usage), 1::bigint, 'a month is opened once');
SELECT pg_temp.count_up('oak', 10, 5000);
SELECT is(pg_temp.used('oak', 'hours'), 10::float8, 'use shows at once');
SELECT a67_internal._usage_judge('2026-04-01 00:00:00+00');
SELECT results_eq($$SELECT month, used FROM a67.node_usage WHERE kind = 'hours' ORDER BY month$$,
    $$VALUES (date '2026-03-01', 10::float8), ('2026-04-01', 0)$$, 'a new month begins with nothing, the old one is kept');
SELECT pg_temp.count_up('oak', 12, 5500);
SELECT results_eq($$SELECT month, used FROM a67.node_usage WHERE kind = 'bandwidth' ORDER BY month$$,
    $$VALUES (date '2026-03-01', 5000::float8), ('2026-04-01', 500)$$, 'what follows counts in the new one');
SELECT a67_internal._usage_judge('2026-03-15 00:00:00+00');
SELECT is((SELECT max(month) FROM a67_internal.node_usage), date '2026-04-01', 'a clock that goes back opens no month');
SELECT is(pg_temp.used('oak', 'hours'), 2::float8, 'and the open one goes on');

-- 80 % and 90 %
SELECT pg_temp.count_up('oak', 10 + 79.9);
SELECT a67_internal._usage_judge('2026-04-05 00:00:00+00');
SELECT is(pg_temp.warnings('oak'), 0::bigint, '79.9 %: no warning');
SELECT pg_temp.count_up('oak', 10 + 80);
SELECT a67_internal._usage_judge('2026-04-05 00:01:00+00');
SELECT is(pg_temp.alerts('oak'), '{hours}', '80 %: an alert');
SELECT matches((SELECT a.message FROM a67.alert a WHERE a.dedup_key LIKE 'node-quota:%' AND a.resolved_at IS NULL),
    '^node "oak" has used 80 % of the monthly hours that provider "acme" allows$', 'that says what is nearly used up');
SELECT is((SELECT e.payload - 'node' FROM a67.event e WHERE e.type = 'node.quota.warned'),
    '{"kind": "hours", "used": 80, "quota": 100, "percent": 80.0}', 'and an event');
SELECT is((pg_temp.observed('oak')).near_quota, false, 'selection goes on taking it');
SELECT a67_internal._usage_judge('2026-04-05 00:02:00+00');
SELECT pg_temp.count_up('oak', 10 + 90);
SELECT (pg_temp.observed('oak')).epoch AS epoch \gset
SELECT a67_internal._usage_judge('2026-04-05 00:03:00+00');
SELECT is((pg_temp.observed('oak')).near_quota, true, '90 %: it is avoided');
SELECT is((pg_temp.observed('oak')).epoch, :epoch::bigint + 1, 'which the live table learns by the epoch');
SELECT is((SELECT near_quota FROM a67.node WHERE name = 'oak'), true, 'and the owner by his node');
SELECT a67_internal._usage_judge('2026-04-05 00:04:00+00');
SELECT is((pg_temp.observed('oak')).epoch, :epoch::bigint + 1, 'once');
SELECT is(pg_temp.warnings('oak'), 1::bigint, 'one warning a month and kind');
SELECT is((SELECT count FROM a67.alert WHERE dedup_key LIKE 'node-quota:%' AND resolved_at IS NULL), 1, 'raised once');
SELECT pg_temp.count_up('oak', bytes => 5000 + 800000);
SELECT a67_internal._usage_judge('2026-04-05 00:05:00+00');
SELECT is(pg_temp.alerts('oak'), '{bandwidth,hours}', 'another kind warns by itself');
SELECT a67_internal._usage_judge('2026-05-01 00:00:01+00');
SELECT is(pg_temp.alerts('oak'), NULL, 'a new month: both alerts are resolved');
SELECT is((pg_temp.observed('oak')).near_quota, false, 'and it is taken again');
SELECT pg_temp.count_up('oak', 200);
SELECT a67_internal._usage_judge('2026-05-02 00:00:01+00');
SELECT is(pg_temp.alerts('oak'), '{hours}', 'and may warn again');

-- Quotas that change
SELECT a67.provider_set('acme', '{"monthly_hours": 1000}') \g /dev/null
SELECT a67_internal._usage_judge('2026-05-02 00:02:00+00');
SELECT is(pg_temp.alerts('oak'), NULL, 'a raised quota resolves the alert');
SELECT is((pg_temp.observed('oak')).near_quota, false, 'and lets the node be taken');
SELECT pg_temp.count_up('oak', 100 + 850);
SELECT a67_internal._usage_judge('2026-05-02 00:03:00+00');
SELECT is(pg_temp.alerts('oak'), '{hours}', 'until 80 % of the new one are used');
SELECT is(pg_temp.warnings('oak'), 4::bigint, 'which is worth another warning in the same month');
SELECT a67.provider_set('acme', '{"monthly_hours": 900}') \g /dev/null
SELECT a67_internal._usage_judge('2026-05-02 00:04:00+00');
SELECT is(pg_temp.warnings('oak'), 5::bigint, 'a lowered one warns at once');
SELECT is((pg_temp.observed('oak')).near_quota, true, 'and the node is avoided');
SELECT a67.provider_remove('acme');
SELECT a67_internal._usage_judge('2026-05-02 00:05:00+00');
SELECT is(pg_temp.alerts('oak'), NULL, 'without a provider there is no quota');
SELECT is((pg_temp.observed('oak')).near_quota, false, 'nor a reason to avoid the node');
SELECT is((SELECT percent FROM a67.node_usage WHERE kind = 'hours' AND month = '2026-05-01'), NULL, 'use is still counted');

-- 750 hours of a month that has 744: they cannot be used up
SELECT a67.provider_set('render', '{"monthly_hours": 750, "disk_bytes": 536870912, "idle_pause": "10 minutes"}') \g /dev/null
SELECT pg_temp.join('elm', 'render') \g /dev/null
SELECT pg_temp.join('ash', 'render', 'standard') \g /dev/null
SELECT pg_temp.count_up('elm', 690);
SELECT pg_temp.count_up('ash', 740, disk => 99);
SELECT a67_internal._usage_judge('2026-05-30 00:00:00+00');
SELECT is(pg_temp.alerts('elm'), NULL, '92 % of the hours, and enough for the rest of the month');
SELECT a67_internal._usage_judge('2026-05-28 00:00:00+00');
SELECT is(pg_temp.alerts('elm'), '{hours}', 'not enough for four days');
SELECT pg_temp.count_up('elm', disk => 40);
SELECT a67_internal._usage_judge('2026-05-28 00:01:00+00');
SELECT is(pg_temp.alerts('elm'), '{disk,hours}', 'the disk is what it is now');
SELECT pg_temp.count_up('elm', disk => 30);
SELECT a67_internal._usage_judge('2026-05-28 00:02:00+00');
SELECT is(pg_temp.alerts('elm'), '{hours}', 'a disk that was tidied up resolves its alert');
SELECT pg_temp.count_up('elm', disk => 45);
SELECT a67_internal._usage_judge('2026-05-28 00:03:00+00');
SELECT is(pg_temp.warnings('elm'), 2::bigint, 'it does not warn again in this month');
SELECT is_empty($$SELECT FROM a67.node_usage WHERE node = 'ash' AND (quota IS NOT NULL OR percent IS NOT NULL)$$,
    'a node of another tier than the free one has no quota');
SELECT is((pg_temp.observed('ash')).near_quota, false, 'and is never avoided for it');

-- The tick: once a minute
SELECT a67_internal._usage_tick('2026-06-01 00:00:00+00');
SELECT is((SELECT max(month) FROM a67_internal.node_usage), date '2026-06-01', 'a tick looks');
SELECT pg_temp.join('fir', 'render') \g /dev/null
SELECT a67_internal._usage_tick('2026-06-01 00:00:59+00');
SELECT is_empty($$SELECT FROM a67.node_usage WHERE node = 'fir'$$, 'not twice in a minute');
SELECT a67_internal._usage_tick('2026-05-31 23:59:59+00');
SELECT isnt_empty($$SELECT FROM a67.node_usage WHERE node = 'fir'$$, 'a clock that goes back does not stop it');
SELECT pg_temp.count_up('elm', 690 + 745);
SELECT a67_internal._usage_judge('2026-06-02 00:00:00+00');
SELECT a67.node_deregister('elm');
SELECT is_empty($$SELECT FROM a67.alert WHERE dedup_key LIKE 'node-quota:%' AND resolved_at IS NULL$$, 'a node that leaves takes its alerts along');

-- Keeping nodes awake: asked after 8 of the 10 minutes
CREATE FUNCTION pg_temp.pinged(now timestamptz) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(n.name ORDER BY n.name) FROM a67_internal._ping_plan(now) p JOIN a67_internal.node n ON p.key = 'ping ' || n.node_id
$$;
SELECT is(pg_temp.pinged('2026-06-03 00:00:00+00'), NULL, 'a node that is not ready and runs nothing may sleep');
UPDATE a67_internal.node_observed SET status = 'ready' WHERE status = 'initializing';
SELECT results_eq($$SELECT key, method, url, token, body, timeout_ms, headers, pin FROM a67_internal._ping_plan('2026-06-03 00:00:00+00')$$,
    $$SELECT 'ping ' || node_id, 'GET', 'http://127.0.0.1:7301/health', NULL::text, NULL::text, 5000, NULL::text[],
             a67_internal._node_pin(rpad('fir', 43, 'u')) FROM a67.node WHERE name = 'fir'$$,
    'of the free tier of a provider that has a pause: the ready one');
SELECT is(pg_temp.pinged('2026-06-03 00:08:00+00'), NULL, 'planned counts as sent');
SELECT is(pg_temp.pinged('2026-06-03 00:08:00.1+00'), '{fir}', 'in time before the pause');
SELECT a67_internal._ping_record('2026-06-03 00:08:01+00', 'ping ' || (pg_temp.observed('fir')).node_id, 503, NULL);
SELECT is(pg_temp.pinged('2026-06-03 00:16:00+00'), NULL, 'any answer is one');
SELECT a67_internal._ping_record('2026-06-03 00:09:00+00', 'ping ' || (pg_temp.observed('fir')).node_id, 0, 'connection refused');
SELECT is(pg_temp.pinged('2026-06-03 00:09:59+00'), NULL, 'without one');
SELECT is(pg_temp.pinged('2026-06-03 00:10:01+00'), '{fir}', 'it is tried again a minute later');
SELECT is(pg_temp.pinged('2026-06-02 23:00:00+00'), '{fir}', 'a clock that went back makes no node sleep');
SELECT lives_ok($$SELECT a67_internal._ping_record(now(), 'ping ' || gen_random_uuid(), 0, 'gone')$$, 'a node that has gone in the meantime');
UPDATE a67_internal.node SET desired_state = 'maintenance' WHERE name = 'fir';
SELECT is(pg_temp.pinged('2026-06-03 02:00:00+00'), NULL, 'a node in maintenance is left alone');

SELECT * FROM finish();
ROLLBACK;
