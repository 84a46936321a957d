\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(93);

CREATE TEMP TABLE who (name text PRIMARY KEY, user_id uuid);
WITH u AS (INSERT INTO a67_internal."user" (email) VALUES ('select-ann@example.com'), ('select-bob@example.com') RETURNING *)
INSERT INTO who SELECT substring(email from 'select-(.*)@'), user_id FROM u;
CREATE FUNCTION pg_temp.act_as(who text) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', coalesce((SELECT json_build_object('role', 'a67_user', 'sub', user_id)::text
                                                      FROM who WHERE name = act_as.who), ''), true)
$$;
-- A node of somebody: ready, 1 GiB, 2 cores, 10 GiB of disk, metrics of this moment.
CREATE FUNCTION pg_temp.add(name text, region text DEFAULT NULL, provider text DEFAULT 'generic', owner text DEFAULT 'ann',
    cpu_percent real DEFAULT 40, memory_percent real DEFAULT 60, latency real DEFAULT 125, active integer DEFAULT 20)
RETURNS void LANGUAGE sql AS $$
    WITH n AS (
        INSERT INTO a67_internal.node (owner_id, name, region, provider, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
            max_concurrent_requests)
        SELECT w.user_id, add.name, add.region, add.provider, 'http://127.0.0.1:1', rpad(add.name, 43, '_'), 2, 1073741824, 10737418240,
            100
        FROM who w WHERE w.name = add.owner RETURNING node_id)
    INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at, cpu_percent, memory_percent, latency_ms,
        active_requests, metrics_at)
    SELECT node_id, 'ready', clock_timestamp(), cpu_percent, memory_percent, latency, active, clock_timestamp() FROM n
$$;
CREATE FUNCTION pg_temp.id(name text) RETURNS uuid LANGUAGE sql AS
    'SELECT node_id FROM a67_internal.node n WHERE n.name = id.name AND n.owner_id IN (SELECT user_id FROM who)';
CREATE FUNCTION pg_temp.set_status(name text, status text) RETURNS void LANGUAGE sql AS
    'UPDATE a67_internal.node_observed o SET status = set_status.status WHERE node_id = pg_temp.id(name)';
-- The names that some seeds choose.
CREATE FUNCTION pg_temp.chosen(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    names text;
BEGIN
    EXECUTE format('SELECT string_agg(DISTINCT s.name, '' '' ORDER BY s.name) FROM generate_series(1, 30) seed,
                    LATERAL a67.node_select(%s seed => seed) s', query) INTO names;
    RETURN names;
END
$$;
CREATE FUNCTION pg_temp.detail(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    EXECUTE query;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
    RETURN said;
END
$$;

-- Nobody, and nothing to choose from
SELECT set_config('request.jwt.claims', '{"role": "a67_user", "sub": "00000000-0000-4000-8000-000000000001"}', true) \g /dev/null
SELECT throws_ok('SELECT a67.node_select()', 'PT401', 'not authenticated', 'a user who is none');
SELECT set_config('request.jwt.claims', '{"sub": "nobody"}', true) \g /dev/null
SELECT throws_ok('SELECT a67.node_select()', '22P02', NULL, 'a subject that is none');
SELECT pg_temp.act_as('ann');
SELECT throws_ok('SELECT a67.node_select()', '53000', 'insufficient capacity for 1 replicas', 'no node at all');
SELECT is(pg_temp.detail('SELECT a67.node_select()'), 'There is no node.', 'and it says so');

-- What makes no sense
SELECT pg_temp.add('oak', 'eu', 'render');
SELECT throws_ok('SELECT a67.node_select(0)', '22023', 'count must be between 1 and 10000', 'no replica');
SELECT throws_ok('SELECT a67.node_select(10001)', '22023', NULL, 'too many');
SELECT throws_ok('SELECT a67.node_select(NULL)', '22023', 'count must not be null', 'an unknown number');
SELECT throws_ok('SELECT a67.node_select(memory_bytes => -1)', '22023', 'memory must not be negative', 'negative memory');
SELECT throws_ok('SELECT a67.node_select(disk_bytes => -1)', '22023', 'disk must not be negative', 'negative disk');
SELECT throws_ok('SELECT a67.node_select(cpu => -0.1)', '22023', 'cpu must be a number of cores from 0 up', 'negative cpu');
SELECT throws_ok($$SELECT a67.node_select(cpu => 'NaN')$$, '22023', NULL, 'cpu that is no number');
SELECT throws_ok($$SELECT a67.node_select(cpu => 'Infinity')$$, '22023', NULL, 'endless cpu');
SELECT throws_ok($$SELECT a67.node_select(strategy => 'random')$$, '22023', 'unknown strategy "random"', 'a strategy that is none');
SELECT is(pg_temp.detail($$SELECT a67.node_select(strategy => '')$$), 'Field: strategy.', 'the field is named');
SELECT throws_ok($$SELECT a67.node_select(service => 'gpu')$$, '22023', 'unknown service "gpu"', 'a service that is none');
SELECT is(pg_temp.detail($$SELECT a67.node_select(service => 'gpu')$$), 'Field: service.', 'named');
SELECT throws_ok($$SELECT a67.node_select(labels => '[]')$$, '22023', 'labels must be an object', 'labels that are a list');
SELECT throws_ok($$SELECT a67.node_select(labels => '{"a": {}}')$$, '22023', 'label value must be a string, a number or a boolean',
    'a label that is an object');
SELECT throws_ok($$SELECT a67.node_select(labels => (SELECT jsonb_object_agg(i, i) FROM generate_series(1, 17) i))$$, '22023',
    'too many labels', 'seventeen labels');
SELECT is(pg_temp.detail($$SELECT a67.node_select(labels => '3')$$), 'Field: labels.', 'named');
SELECT throws_ok('SELECT a67.node_select(client_latitude => 90.1, client_longitude => 0)', '22023',
    'client_latitude must be between -90 and 90', 'beyond the pole');
SELECT throws_ok($$SELECT a67.node_select(client_latitude => 0, client_longitude => 'NaN')$$, '22023',
    'client_longitude must be between -180 and 180', 'no longitude');
SELECT throws_ok('SELECT a67.node_select(client_latitude => 1)', '22023', 'client location is incomplete', 'half a place');
SELECT throws_ok($$SELECT a67.node_select(strategy => 'geographic')$$, '22023',
    'geographic selection needs the client''s location', 'distance from nowhere');

-- The composite score, by hand: .30*.60 + .25*.40 + .20*.75 + .15*.80 + .10*1
SELECT results_eq($$SELECT ordinal, name, region, provider, round(score::numeric, 6),
                           parts - 'cpu' - 'memory' - 'latency' - 'connections' - 'reliability' FROM a67.node_select()$$,
    $$VALUES (1, 'oak', 'eu', 'render', 0.65::numeric,
              '{"strategy": "composite", "halved": false, "stale": false, "penalties": []}'::jsonb)$$, 'one node');
SELECT is((SELECT parts - 'strategy' - 'halved' - 'stale' - 'penalties' FROM a67.node_select()),
    '{"cpu": 0.6, "memory": 0.4, "latency": 0.75, "connections": 0.8, "reliability": 1.0}'::jsonb, 'part by part');
UPDATE a67_internal.node_observed SET metrics_at = clock_timestamp() - interval '10 min', status = 'busy' WHERE node_id = pg_temp.id('oak');
SELECT pg_temp.add('elm', NULL, 'render', cpu_percent => 85);
SELECT is((SELECT parts ->> 'halved' FROM a67.node_select(2, seed => 1) WHERE name = 'elm'), 'true', 'above 80 % cpu: halved');
SELECT is((SELECT region FROM a67.node_select(2, seed => 1) WHERE name = 'elm'), NULL, 'a node without region');
UPDATE a67_internal.node_observed SET metrics_at = clock_timestamp() - interval '10 min', status = 'busy' WHERE node_id = pg_temp.id('elm');
DELETE FROM a67_internal.node WHERE node_id = pg_temp.id('elm');
SELECT pg_temp.add('elm', 'eu', 'render', cpu_percent => NULL, memory_percent => NULL, latency => NULL, active => NULL);
SELECT is((SELECT score FROM a67.node_select(2, seed => 1) WHERE name = 'elm'), 0.05::real::float8, 'metrics that nobody knows help nobody');
SET LOCAL a67.score_weights = 'cpu=3, memory=1';
SELECT is((SELECT round(score::numeric, 6) FROM a67.node_select(2, seed => 1) WHERE name = 'oak'), 0.55, 'other weights');
SELECT throws_ok($$SET LOCAL a67.score_weights = 'cpu=-1'$$, '22023', NULL, 'a negative weight');
SELECT throws_ok($$SET LOCAL a67.score_weights = ''$$, '22023', NULL, 'no weight');
SELECT throws_ok($$SET LOCAL a67.score_weights = 'gpu=1'$$, '22023', NULL, 'the weight of nothing');
RESET a67.score_weights;

-- Strategies
DELETE FROM a67_internal.node WHERE owner_id IN (SELECT user_id FROM who);
INSERT INTO a67_internal.region (name, latitude, longitude) VALUES ('t-frankfurt', 50.1, 8.7), ('t-virginia', 39.0, -77.5), ('t-sydney', -33.9, 151.2);
SELECT pg_temp.add('fra', 't-frankfurt', 'render', cpu_percent => 70, memory_percent => 70, active => 9);
SELECT pg_temp.add('vir', 't-virginia', 'render', cpu_percent => 5, memory_percent => 5, active => 7, latency => 499);
SELECT pg_temp.add('syd', 't-sydney', 'flyio', cpu_percent => 20, memory_percent => 20, active => 3);
SELECT is(pg_temp.chosen(''), 'syd', 'composite weighs all');
SELECT is(pg_temp.chosen('strategy => ''resource'','), 'vir', 'resource looks at cpu and memory alone');
SELECT is(pg_temp.chosen('strategy => ''least_connections'','), 'syd', 'least connections at the active requests');
SELECT is(pg_temp.chosen('strategy => ''geographic'', client_latitude => 48.9, client_longitude => 2.4,'), 'fra', 'from Paris');
SELECT is(pg_temp.chosen('strategy => ''geographic'', client_latitude => 36.2, client_longitude => -115.1,'), 'vir', 'from Nevada');
SELECT is(pg_temp.chosen('strategy => ''geographic'', client_latitude => -36.8, client_longitude => 174.8,'), 'syd', 'from New Zealand');
SELECT ok((SELECT (parts ->> 'distance_km')::float8 BETWEEN 400 AND 500 FROM a67.node_select(strategy => 'geographic',
    client_latitude => 48.9, client_longitude => 2.4)), 'with the distance');
SELECT is(pg_temp.chosen('strategy => ''round_robin'','), 'fra syd vir', 'round robin takes all of them in turn');
SELECT is((SELECT count(DISTINCT s.name) FROM generate_series(1, 3) i, LATERAL a67.node_select(sign(i)::integer, strategy => 'round_robin') s),
    3::bigint, 'three calls, three nodes');
UPDATE a67_internal.region SET latitude = 40, longitude = -3 WHERE name = 't-virginia';
SELECT is(pg_temp.chosen('strategy => ''geographic'', client_latitude => 40.4, client_longitude => -3.7,'), 'vir', 'a region that has moved');

-- Filters, and what is said when they leave nothing
UPDATE a67_internal.node SET labels = '{"disk": "ssd", "tier": 1, "gpu": true}', services = '{compute,storage}' WHERE node_id = pg_temp.id('vir');
SELECT is(pg_temp.chosen('service => ''storage'','), 'vir', 'the service');
SELECT is(pg_temp.chosen('labels => ''{"disk": "ssd"}'','), 'vir', 'a label');
SELECT is(pg_temp.chosen('labels => ''{"gpu": true, "tier": 1.0}'','), 'vir', 'labels by their values');
SELECT is(pg_temp.detail($$SELECT a67.node_select(labels => '{"tier": "1"}')$$), 'Of 3 nodes, 3 lack the labels.', 'a text is no number');
SELECT is(pg_temp.detail($$SELECT a67.node_select(service => 'cache')$$), 'Of 3 nodes, 3 lack the service.', 'a service that nobody has');
SELECT throws_ok($$UPDATE a67_internal.node SET labels = '{"a": []}' WHERE node_id = pg_temp.id('vir')$$, '22023', NULL, 'labels that cannot be looked for');
SELECT pg_temp.set_status('fra', 'failed');
SELECT pg_temp.set_status('syd', 'maintenance');
UPDATE a67_internal.node SET desired_state = 'draining' WHERE node_id = pg_temp.id('vir');
SELECT is(pg_temp.detail('SELECT a67.node_select()'), 'Of 3 nodes, 1 is failed, 1 is maintenance, 1 is taken out by its owner.', 'none of them');
SELECT throws_ok('SELECT a67.node_select(2)', '53000', 'insufficient capacity for 2 replicas', 'not all of them failed');
UPDATE a67_internal.node SET desired_state = 'active' WHERE node_id = pg_temp.id('vir');
SELECT is(pg_temp.chosen(''), 'vir', 'active again');
SELECT pg_temp.set_status('vir', 'suspect');
SELECT pg_temp.set_status('syd', 'offline');
SELECT throws_ok('SELECT a67.node_select()', '53000', 'all nodes failed', 'failed, offline and suspect');
SELECT is(pg_temp.detail('SELECT a67.node_select()'), 'Of 3 nodes, 1 is suspect, 1 is failed, 1 is offline.', 'how many of which');
SELECT pg_temp.set_status('vir', 'ready');
SELECT is(pg_temp.detail('SELECT a67.node_select(1, 2000000000, 3, 20000000000)'),
    'Of 3 nodes, 1 is failed, 1 is offline. 1 could be used: 1 short of 2000000000 bytes of memory to promise (most free: 1073741824),'
    ' 1 short of 3.000 cores to promise (most free: 2.000), 1 short of 20000000000 bytes of disk to promise (most free: 10737418240).',
    'what is short, and the most there is');
SELECT is(pg_temp.detail('SELECT a67.node_select(3, 500000000)'),
    'Of 3 nodes, 1 is failed, 1 is offline. 1 could be used and took 2: 1 short of 500000000 bytes of memory to promise (most free: 73741824).', 'two of three fit');
SELECT is((SELECT count(*) FROM a67.node_select(2, 500000000)), 2::bigint, 'which is right');
UPDATE a67_internal.node SET desired_state = 'removed' WHERE node_id IN (pg_temp.id('vir'), pg_temp.id('fra'));
SELECT is(pg_temp.detail('SELECT a67.node_select()'), 'Of 1 node, 1 is offline.', 'removed nodes are no nodes');

-- Whose nodes
SELECT pg_temp.act_as('bob');
SELECT is(pg_temp.detail('SELECT a67.node_select()'), 'There is no node.', 'other people''s nodes are not taken');
SELECT pg_temp.add('bobs', owner => 'bob');
SELECT is(pg_temp.chosen(''), 'bobs', 'one''s own are');
UPDATE a67_internal.node SET owner_id = (SELECT user_id FROM who WHERE name = 'bob') WHERE node_id = pg_temp.id('syd');
SELECT pg_temp.set_status('syd', 'ready');
SELECT is(pg_temp.chosen(''), 'syd', 'a node that changed hands');
SELECT pg_temp.act_as('ann');
SELECT throws_ok('SELECT a67.node_select()', '53000', NULL, 'is his no more');

-- Last resorts
DELETE FROM a67_internal.node WHERE owner_id IN (SELECT user_id FROM who);
SELECT pg_temp.add(n, cpu_percent => 10 * ascii(n) - 960) FROM unnest(ARRAY['a', 'b', 'c', 'd']) n;
UPDATE a67_internal.node_observed SET near_quota = true WHERE node_id = pg_temp.id('a');
SELECT pg_temp.set_status('b', 'degraded');
SELECT is(pg_temp.chosen(''), 'c', 'not the best: one is near its quota, one degraded');
SELECT is((SELECT string_agg(s.name || s.penalties, ' ' ORDER BY s.ordinal) FROM (SELECT ordinal, name, parts ->> 'penalties' AS penalties
    FROM a67.node_select(4, 1000000000, seed => 3)) s WHERE ordinal > 2), 'a["near_quota"] b["degraded"]', 'they come last, and it is said');
UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id IN (pg_temp.id('c'), pg_temp.id('d'));
SELECT is(pg_temp.chosen(''), 'a', 'near its quota comes before degraded');
SELECT pg_temp.set_status('a', 'failed');
SELECT is(pg_temp.chosen(''), 'b', 'degraded before nothing');

-- Spread, chance and seeds
DELETE FROM a67_internal.node WHERE owner_id IN (SELECT user_id FROM who);
SELECT pg_temp.add('n' || i, 'r' || i % 3, 'p' || i % 2) FROM generate_series(1, 9) i;
SELECT is((SELECT count(DISTINCT name) FROM a67.node_select(9)), 9::bigint, 'nine replicas on nine nodes');
SELECT is((SELECT count(DISTINCT region) FROM a67.node_select(3)), 3::bigint, 'three in three regions');
SELECT is((SELECT count(DISTINCT provider) FROM a67.node_select(2)), 2::bigint, 'two at two providers');
SELECT is((SELECT max(c) FROM (SELECT count(*) AS c FROM a67.node_select(20) GROUP BY name) x), 3::bigint, 'twenty: no more than three on one');
SELECT is((SELECT string_agg(name, ' ' ORDER BY ordinal) FROM a67.node_select(9, seed => 5)),
          (SELECT string_agg(name, ' ' ORDER BY ordinal) FROM a67.node_select(9, seed => 5)), 'the same seed chooses the same');
SELECT ok((SELECT count(DISTINCT s.name) > 3 FROM generate_series(1, 50) seed, LATERAL a67.node_select(seed => seed) s), 'equals share');

-- A transaction sees what it did, and not what it took back
CREATE FUNCTION pg_temp.undone() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    inside text;
BEGIN
    BEGIN
        PERFORM pg_temp.add('best', cpu_percent => 0, memory_percent => 0, latency => 0, active => 0);
        UPDATE a67_internal.node_observed SET status = 'failed' WHERE node_id <> pg_temp.id('best');
        SELECT string_agg(name, ' ') INTO inside FROM a67.node_select();
        RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN
        RETURN inside || ' ' || (SELECT count(DISTINCT name) FROM a67.node_select(9));
    END;
END
$$;
SELECT is(pg_temp.undone(), 'best 9', 'inside the subtransaction one node, after it the nine');
SELECT throws_ok('SELECT a67_internal._live_rebuild()', '25001', NULL, 'what may be rolled back does not reach the shared table');

-- Promises
CREATE TEMP TABLE app AS
    WITH d AS (INSERT INTO a67_internal.deployment (owner_id, name, replicas) SELECT user_id, 'select-app', 0 FROM who WHERE name = 'ann'
               RETURNING deployment_id)
    SELECT deployment_id FROM d;
INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest)
SELECT deployment_id, 1, '{"resources": {"memory_bytes": 400000000, "cpu": 0.7}}', 'x' FROM app;
CREATE FUNCTION pg_temp.run_on(node text, copies integer DEFAULT 1, memory bigint DEFAULT 400000000, cpu float8 DEFAULT 0.7, epoch bigint DEFAULT 0)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu, disk_bytes, epoch)
    SELECT deployment_id, 1, pg_temp.id(node), memory, cpu, 1000, run_on.epoch FROM app, generate_series(1, copies)
$$;
CREATE FUNCTION pg_temp.promised(node text) RETURNS text LANGUAGE sql AS
    'SELECT memory_bytes || '' '' || cpu || '' '' || disk_bytes FROM a67_internal.node_reserved WHERE node_id = pg_temp.id(node)';
SELECT is(pg_temp.promised('n1'), '0 0 0', 'nothing is promised on a new node');
SELECT pg_temp.run_on('n1', 2);
SELECT is(pg_temp.promised('n1'), '800000000 1.4 2000', 'two replicas');
SELECT throws_ok($$SELECT pg_temp.run_on('n1')$$, '53000', 'insufficient capacity for 1 replicas', 'a third does not fit');
SELECT is(pg_temp.detail($$SELECT pg_temp.run_on('n1')$$), 'No longer free to promise on node "n1".', 'and on which node');
SELECT is(pg_temp.promised('n1'), '800000000 1.4 2000', 'nor is it promised');
SELECT is(pg_temp.detail('SELECT a67.node_select(26, 300000000)'), 'Of 9 nodes 9 could be used and took 24: 9 short of 300000000 bytes of memory to promise (most free: 273741824).',
    'selection takes it off: three on each of the other eight');
SELECT lives_ok($$SELECT pg_temp.run_on('n2', 2, cpu => 1.0)$$, 'to the last core');
SELECT throws_ok($$SELECT pg_temp.run_on('n2', 1, 1, 0.001)$$, '53000', NULL, 'and not a thousandth more');
SELECT throws_ok($$UPDATE a67_internal.replica SET node_id = pg_temp.id('n3') WHERE node_id = pg_temp.id('n1')$$, '0A000', NULL, 'replicas do not move');
DELETE FROM a67_internal.replica WHERE node_id = pg_temp.id('n2');
SELECT is(pg_temp.promised('n2'), '0 0 0', 'given back');
UPDATE a67_internal.node SET memory_bytes = 1000, cpu_cores = 0.1 WHERE node_id = pg_temp.id('n1');
SELECT is(pg_temp.promised('n1'), '800000000 1.4 2000', 'a node that shrinks keeps what it has');
SELECT throws_ok($$SELECT pg_temp.run_on('n1', 1, 1, 0)$$, '53000', NULL, 'and takes no more');
SELECT lives_ok($$SELECT pg_temp.run_on('n1', 1, epoch => 7)$$, 'but one that ran there before, restored from a dump, counts');
UPDATE a67_internal.node_reserved SET memory_bytes = 5, cpu = 9 WHERE node_id IN (pg_temp.id('n1'), pg_temp.id('n3'));
SELECT is(a67_internal._reserved_repair(), 2, 'promises that are wrong are repaired');
SELECT is(pg_temp.promised('n1') || ' ' || pg_temp.promised('n3'), '1200000000 2.1 3000 0 0 0', 'from the replicas');

-- Placement of a deployment
SELECT is((SELECT a67_internal._deployment_place(d, 1, 3, now()) FROM a67_internal.deployment d JOIN app USING (deployment_id)), NULL, 'three replicas');
SELECT is((SELECT count(DISTINCT node_id) FROM a67_internal.replica r JOIN app USING (deployment_id) WHERE epoch = 0 AND node_id <> pg_temp.id('n1')),
    3::bigint, 'on three nodes that hold none');
SELECT matches((SELECT a67_internal._deployment_place(d, 1, 20, now()) FROM a67_internal.deployment d JOIN app USING (deployment_id)),
    '^insufficient capacity for 7 of 20 replicas: Of 9 nodes 9 could be used and took 13: 9 short of 400000000 bytes', 'as many as fit, and why no more');
SELECT is((SELECT count(*) FROM a67_internal.replica r JOIN app USING (deployment_id) WHERE node_id <> pg_temp.id('n1')), 16::bigint,
    'two on each node that had room');

SELECT * FROM finish();
ROLLBACK;
