\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(48);

-- The clock is the test's own, and so is what HAProxy says. The ingress is on for this transaction.
CREATE OR REPLACE FUNCTION a67_internal._ingress_on() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT true';
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid$$;
INSERT INTO a67_internal.node (node_id, owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes, max_concurrent_requests)
VALUES (pg_temp.id(1), a67_internal._operator_id(), 'n1', 'https://10.0.0.1:7200', repeat('k', 43), 1, 1 << 30, 1 << 30, 100);
INSERT INTO a67_internal.node_observed (node_id, status) VALUES (pg_temp.id(1), 'ready');
INSERT INTO a67_internal.deployment (deployment_id, owner_id, name, replicas) VALUES (pg_temp.id(9), a67_internal._operator_id(), 'shop', 2);
INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest) VALUES (pg_temp.id(9), 1, '{"name": "shop", "app_type": "backend"}', 'x');
INSERT INTO a67_internal.replica (replica_id, deployment_id, release, node_id, memory_bytes, cpu, state, port, pushed_generation)
SELECT pg_temp.id(n), pg_temp.id(9), 1, pg_temp.id(1), 1, 0, 'running', 4000 + n, 1 FROM generate_series(1, 2) n;
SELECT a67_internal._routes_claim(deployment_id, owner_id, '{"name": "shop", "app_type": "backend"}') FROM a67_internal.deployment
WHERE deployment_id = pg_temp.id(9) \g /dev/null

-- One process of HAProxy: its servers as "n status weight slots sessions requests failures port".
CREATE FUNCTION pg_temp.says(pid integer, servers text[], stopping integer DEFAULT 0, refused integer DEFAULT 0, waiting integer DEFAULT 0) RETURNS text
LANGUAGE sql AS $$
    SELECT format(E'Name: HAProxy\nPid: %s\nStart_time_sec: 100\ndescription: a67-%s\nStopping: %s\n\n'
                  '# pxname,svname,qcur,scur,slim,stot,dreq,hrsp_5xx,status,weight,type,rtime,addr,\n', pid, md5(a67_internal._ingress_text(false)), stopping)
        || coalesce(string_agg(format(E'%s,%s,0,%s,%s,%s,,%s,%s,%s,2,20,10.0.0.1:%s,\n', pg_temp.id(9), pg_temp.id(p[1]::integer), p[5], p[4], p[6], p[7],
                             replace(p[2], '_', ' '), p[3], p[8]), ''), '')
        || format(E'%s,BACKEND,%s,0,0,0,%s,0,UP,1,1,20,,\n\n', pg_temp.id(9), waiting, refused)
    FROM (SELECT string_to_array(s, ' ') AS p FROM unnest(servers) s) x
$$;
CREATE FUNCTION pg_temp.short(commands text) RETURNS text LANGUAGE sql AS
    $$SELECT replace(replace(replace(commands, a67_internal._ingress_check(), 'CHECK'), pg_temp.id(9)::text, 'B'), '00000000-0000-4000-8000-00000000000', 'S')$$;
CREATE FUNCTION pg_temp.plan_at(after interval, output text) RETURNS text LANGUAGE sql AS
    $$SELECT coalesce(pg_temp.short(p.commands), '') || CASE WHEN p.config IS NOT NULL THEN 'CONFIG' ELSE '' END FROM a67_internal._ingress_plan(pg_temp.t(after), output) p$$;
CREATE FUNCTION pg_temp.settled_at(after interval, output text) RETURNS boolean LANGUAGE sql AS
    $$SELECT p.settled FROM a67_internal._ingress_plan(pg_temp.t(after), output) p$$;
CREATE FUNCTION pg_temp.routed() RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(right(replica_id::text, 1) || routed, ' ' ORDER BY replica_id) FROM a67_internal.replica WHERE deployment_id = pg_temp.id(9)$$;
CREATE FUNCTION pg_temp.counts() RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(format('%s:%s/%s/%s', right(replica_id::text, 1), requests, failures, latency_sum_ms), ' ' ORDER BY replica_id)
      FROM a67_internal.replica_traffic WHERE replica_id IN (pg_temp.id(1), pg_temp.id(2))$$;
CREATE FUNCTION pg_temp.stop(n integer, drain interval) RETURNS void LANGUAGE sql AS
    $$UPDATE a67_internal.replica SET desired_state = 'stopped', generation = generation + 1, drain_until = pg_temp.t(drain) WHERE replica_id = pg_temp.id(n)$$;

-- ---- into traffic
SELECT is(pg_temp.plan_at('0', NULL), 'CONFIG', 'no HAProxy: a configuration to start one with');
SELECT is(pg_temp.routed(), '1joining 2joining', 'they are about to get requests');
SELECT is(pg_temp.plan_at('1 s', pg_temp.says(7, '{}')),
    E'@!7 add server B/S1 10.0.0.1:4001 weight 1 maxconn 50 CHECK\n@!7 enable health B/S1\n@!7 enable server B/S1\n'
    '@!7 add server B/S2 10.0.0.1:4002 weight 1 maxconn 50 CHECK\n@!7 enable health B/S2\n@!7 enable server B/S2\n', 'servers that are missing are added');
SELECT is(pg_temp.plan_at('2 s', pg_temp.says(7, '{1 UP 1 50 0 0 0 4001,2 DOWN 1 50 0 0 0 4002}')), '', 'then nothing is to be done');
SELECT is(pg_temp.routed(), '1in 2joining', 'one that refuses connections is not in');
SELECT is(pg_temp.plan_at('3 s', pg_temp.says(7, '{1 UP 1 50 0 0 0 4001,2 UP_1/2 1 50 0 0 0 4002}')), '', 'once it takes them');
SELECT is(pg_temp.routed(), '1in 2in', 'it is');
SELECT is((SELECT string_agg(kind, ' ' ORDER BY kind) FROM a67.endpoint WHERE deployment = 'shop'), 'public replica replica', 'there is a public endpoint');
SELECT is(pg_temp.plan_at('4 s', pg_temp.says(7, '{1 UP 7 9 0 0 0 4001,2 MAINT 1 50 0 0 0 4009,3 UP 1 1 0 0 0 1}')),
    E'@!7 set weight B/S1 1\n@!7 set maxconn server B/S1 50\n@!7 set server B/S2 addr 10.0.0.1 port 4002\n@!7 set server B/S2 state ready\n'
    '@!7 set server B/S3 state drain\n@!7 set server B/S3 state maint\n@!7 del server B/S3\n', 'what differs is corrected, strangers go');
SELECT is(pg_temp.plan_at('5 s', replace(pg_temp.says(7, '{1 UP 1 50 0 0 0 4001,2 UP 1 50 0 0 0 4002}'), 'description: a67-', 'description: a67-other')), 'CONFIG',
    'another configuration is running: load this one');
SELECT is(pg_temp.plan_at('5 s', 'Unknown command'), 'CONFIG', 'so with an answer that says nothing');
SELECT is(pg_temp.settled_at('5 s', 'Unknown command'), false, 'until it runs, every look counts');
SELECT is(pg_temp.settled_at('5 s', pg_temp.says(7, '{1 UP 1 50 0 0 0 4001,2 UP 7 50 0 0 0 4002}')), false, 'so while a command is to be sent');
SELECT is(pg_temp.settled_at('5 s', pg_temp.says(7, '{1 UP 1 50 0 0 0 4001,2 UP 1 50 0 0 0 4002}')), true, 'then nothing is to be done before it says something else');

-- ---- counted
SELECT is(pg_temp.plan_at('6 s', pg_temp.says(7, '{1 UP 1 50 2 100 5 4001,2 UP 1 50 0 0 0 4002}', 0, 3, 4)), '', 'a hundred requests');
SELECT is(pg_temp.counts(), '1:100/5/2000 2:0/0/0', 'are counted');
SELECT is((SELECT format('%s %s', refused, queued) FROM a67_internal.deployment_traffic WHERE deployment_id = pg_temp.id(9)), '3 4', 'so is what was refused');
SELECT pg_temp.plan_at('6 s', pg_temp.says(7, '{1 UP 1 50 2 100 5 4001,2 UP 1 50 0 0 0 4002}', 0, 3, 4)) \g /dev/null
SELECT is(pg_temp.counts(), '1:100/5/2000 2:0/0/0', 'looking again counts nothing twice');
SELECT pg_temp.plan_at('7 s', pg_temp.says(7, '{1 UP 1 50 1 110 5 4001,2 UP 1 50 0 0 0 4002}', 1, 3) || pg_temp.says(8, '{1 UP 1 50 0 20 1 4001,2 UP 1 50 0 3 0 4002}', 0, 1)) \g /dev/null
SELECT is(pg_temp.counts(), '1:130/6/2600 2:3/0/60', 'after a reload two processes count');
SELECT is((SELECT refused FROM a67_internal.deployment_traffic WHERE deployment_id = pg_temp.id(9)), 4::bigint, 'refusals too');
SELECT is((SELECT sessions FROM a67_internal.replica_traffic WHERE replica_id = pg_temp.id(1)), 1, 'requests of both are under way');
SELECT pg_temp.plan_at('8 s', pg_temp.says(8, '{1 UP 1 50 0 25 1 4001,2 UP 1 50 0 3 0 4002}', 0, 1)) \g /dev/null
SELECT is(pg_temp.counts(), '1:135/6/2700 2:3/0/60', 'the old one ended');
SELECT pg_temp.plan_at('9 s', pg_temp.says(9, '{1 UP 1 50 0 2 0 4001,2 UP 1 50 0 0 0 4002}')) \g /dev/null
SELECT is(pg_temp.counts(), '1:137/6/2740 2:3/0/60', 'one that was killed and begins anew takes nothing away');
SELECT pg_temp.plan_at('9 s', pg_temp.says(9, '{1 UP 1 50 0 1 0 4001,2 UP 1 50 0 0 0 4002}')) \g /dev/null
SELECT is(pg_temp.counts(), '1:138/6/2760 2:3/0/60', 'nor does a counter that was cleared');

-- ---- out of traffic
SELECT pg_temp.stop(1, '20 s') \g /dev/null
SELECT is(pg_temp.plan_at('10 s', pg_temp.says(8, '{1 UP 1 50 1 0 0 4001}', 1) || pg_temp.says(9, '{1 UP 1 50 0 1 0 4001,2 UP 1 50 0 0 0 4002}')),
    E'@!8 set server B/S1 state drain\n@!9 set server B/S1 state drain\n@!9 set maxconn server B/S2 100\n', 'one that is to stop is drained in every process');
SELECT is(pg_temp.routed(), '1draining 2in', 'and noted so');
SELECT is(pg_temp.plan_at('11 s', pg_temp.says(8, '{1 DRAIN 1 50 1 0 0 4001}', 1) || pg_temp.says(9, '{1 DRAIN 1 50 0 1 0 4001,2 UP 1 100 0 0 0 4002}')), '',
    'a request is under way in the old one');
SELECT is(pg_temp.routed(), '1draining 2in', 'it waits');
SELECT is(pg_temp.settled_at('11 s', pg_temp.says(8, '{1 DRAIN 1 50 1 0 0 4001}', 1) || pg_temp.says(9, '{1 DRAIN 1 50 0 1 0 4001,2 UP 1 100 0 0 0 4002}')), false,
    'for a time that ends by itself');
SELECT is((SELECT drain_until FROM a67_internal.replica WHERE replica_id = pg_temp.id(1)), pg_temp.t('20 s'), 'as long as it may');
SELECT is(pg_temp.plan_at('12 s', pg_temp.says(9, '{1 DRAIN 1 50 0 1 0 4001,2 UP 1 100 0 0 0 4002}')),
    E'@!9 set server B/S1 state maint\n@!9 del server B/S1\n', 'when it has ended, it is taken out');
SELECT is(pg_temp.routed(), '1out 2in', 'noted');
SELECT is((SELECT drain_until FROM a67_internal.replica WHERE replica_id = pg_temp.id(1)), pg_temp.t('12 s'), 'and may stop at once');
SELECT is(pg_temp.plan_at('13 s', pg_temp.says(9, '{2 UP 1 100 0 0 0 4002}')), '', 'no more of it');
-- A request that never ends
SELECT pg_temp.stop(2, '15 s'), pg_temp.plan_at('14 s', pg_temp.says(9, '{2 UP 1 100 1 0 0 4002}')) \g /dev/null
SELECT is(pg_temp.plan_at('16 s', pg_temp.says(9, '{2 DRAIN 1 100 1 0 0 4002}')),
    E'@!9 shutdown sessions server B/S2\n@!9 set server B/S2 state maint\n@!9 del server B/S2\n', 'its time is over: cut');
SELECT is(pg_temp.routed(), '1out 2out', 'out');
-- HAProxy does not answer
UPDATE a67_internal.replica SET desired_state = 'running', routed = 'in', drain_until = '-infinity';
SELECT pg_temp.plan_at('17 s', NULL) \g /dev/null
SELECT is(pg_temp.routed(), '1in 2in', 'without HAProxy what was in stays so');
SELECT pg_temp.stop(2, '19 s'), pg_temp.plan_at('18 s', NULL) \g /dev/null
SELECT is(pg_temp.routed(), '1in 2in', 'what stops has its time');
SELECT pg_temp.plan_at('19 s', NULL) \g /dev/null
SELECT is(pg_temp.routed(), '1in 2out', 'and no more');
-- A dead node
UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id = pg_temp.id(1);
SELECT is(pg_temp.plan_at('20 s', pg_temp.says(9, '{1 UP 1 100 3 0 0 4001}')),
    E'@!9 set server B/S1 state drain\n@!9 shutdown sessions server B/S1\n@!9 set server B/S1 state maint\n@!9 del server B/S1\n', 'what hangs on a dead node is let go');
SELECT is(pg_temp.routed(), '1out 2out', 'at once');
UPDATE a67_internal.node_observed SET status = 'ready' WHERE node_id = pg_temp.id(1);

-- ---- alerts
SELECT a67_internal._ingress_fault('down', 'HAProxy is away'), a67_internal._ingress_fault('config', 'HAProxy says no'), a67_internal._ingress_fault('down', 'still') \g /dev/null
SELECT is((SELECT string_agg(format('%s %s %s', dedup_key, severity, count), ', ' ORDER BY dedup_key) FROM a67.alert WHERE dedup_key LIKE 'ingress%'),
    'ingress-config critical 1, ingress-down critical 2', 'what is wrong with HAProxy is an alert');
SELECT pg_temp.plan_at('21 s', pg_temp.says(9, '{1 UP 1 100 0 0 0 4001}')) \g /dev/null
SELECT is((SELECT count(*) FROM a67.alert WHERE dedup_key LIKE 'ingress%' AND resolved_at IS NULL), 0::bigint, 'resolved when it answers and runs what it should');

-- ---- names
SELECT is((SELECT count(*) FROM a67_dns.records WHERE type NOT IN ('SOA', 'NS') AND name LIKE 'shop%'), 1::bigint, 'a deployment that answers has a name');
CREATE TEMP TABLE zone AS SELECT serial FROM a67_internal.dns_zone;
SELECT pg_temp.plan_at('22 s', pg_temp.says(9, '{1 UP 1 100 0 0 0 4001}')) \g /dev/null
SELECT is((SELECT z.serial - b.serial FROM a67_internal.dns_zone z, zone b), 0::bigint, 'the serial number stays while nothing changes');
-- ---- off
CREATE OR REPLACE FUNCTION a67_internal._ingress_on() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT false';
SELECT is(pg_temp.plan_at('23 s', NULL), '', 'switched off nothing is asked of HAProxy');
SELECT is(pg_temp.routed(), '1out 2out', 'and nothing is routed');
SELECT ok((SELECT z.serial > b.serial FROM a67_internal.dns_zone z, zone b), 'names lead to nodes now: another serial number');

SELECT * FROM finish();
ROLLBACK;
