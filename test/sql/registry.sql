\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
-- Finding and changing nodes.
SELECT plan(56);

CREATE FUNCTION pg_temp.detail(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    words text;
BEGIN
    EXECUTE query;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS words = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || words;
END
$$;
CREATE FUNCTION pg_temp.join(name text, said jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql AS $$
    SELECT (a67.node_register(a67.join_token_create() ->> 'token', 'http://127.0.0.1:7401', rpad(name, 43, 'r'),
        '{"cpu_cores": 2, "memory_gb": 1, "disk_gb": 10}', name => name, provider => said ->> 'provider', region => said ->> 'region',
        tier => said ->> 'tier', labels => said -> 'labels',
        services => (SELECT array_agg(s) FROM jsonb_array_elements_text(said -> 'services') s)) ->> 'node_id')::uuid
$$;
CREATE FUNCTION pg_temp.found(criteria jsonb) RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(name, ' ' ORDER BY name) FROM a67.node_find(criteria)$$;
CREATE FUNCTION pg_temp.update(changes jsonb) RETURNS text LANGUAGE sql AS
    $$SELECT pg_temp.detail(format('SELECT a67.node_update(''oak'', %L)', changes))$$;

CREATE TEMP TABLE it AS SELECT n.name, pg_temp.join(n.name, n.said) AS id FROM (VALUES
    ('oak', '{"provider": "render", "region": "frankfurt", "labels": {"gpu": "no", "rack": "1"}}'::jsonb),
    ('elm', '{"provider": "flyio", "region": "fra", "tier": "free", "services": ["compute", "database"], "labels": {"gpu": "yes"}}'),
    ('ash', '{"services": ["storage"]}')) n (name, said);
UPDATE a67_internal.node_observed o SET status = 'ready' FROM it WHERE o.node_id = it.id AND it.name <> 'ash';

-- Finding
SELECT is(pg_temp.found('{}'), 'ash elm oak', 'without criteria: all');
SELECT is((SELECT count(*) FROM a67.node_find()), 3::bigint, 'or without an argument');
SELECT is(pg_temp.found('{"status": "ready"}'), 'elm oak', 'by status');
SELECT is(pg_temp.found('{"status": ["initializing", "failed"]}'), 'ash', 'by several');
SELECT is(pg_temp.found('{"provider": "render"}'), 'oak', 'by provider');
SELECT is(pg_temp.found('{"region": ["fra", "frankfurt"]}'), 'elm oak', 'by region');
SELECT is(pg_temp.found('{"name": "ash"}'), 'ash', 'by name');
SELECT is(pg_temp.found('{"tier": "free"}'), 'elm', 'by tier');
SELECT is(pg_temp.found('{"services": "compute"}'), 'elm oak', 'by service');
SELECT is(pg_temp.found('{"services": ["database", "compute"]}'), 'elm', 'by several, all of which it must have');
SELECT is(pg_temp.found('{"labels": {"gpu": "no"}}'), 'oak', 'by label');
SELECT is(pg_temp.found('{"labels": {"gpu": "no", "rack": "2"}}'), NULL, 'by several, all of which it must have');
SELECT is(pg_temp.found('{"labels": {}}'), 'ash elm oak', 'by none of them');
SELECT is(pg_temp.found('{"free": {"memory_bytes": 1073741824, "cpu": 2, "disk_bytes": 10737418240}}'), 'ash elm oak', 'by what is free, to the last byte');
SELECT is(pg_temp.found('{"free": {"memory_bytes": 1073741825}}'), NULL, 'more than there is');
INSERT INTO a67_internal.node_reserved AS r (node_id, memory_bytes, cpu, disk_bytes) SELECT id, 1, 0.5, 7 FROM it WHERE name = 'oak'
ON CONFLICT (node_id) DO UPDATE SET memory_bytes = 1, cpu = 0.5, disk_bytes = 7;
SELECT is(pg_temp.found('{"free": {"memory_bytes": 1073741824}}'), 'ash elm', 'what is promised is not free');
SELECT is(pg_temp.found('{"free": {"cpu": 1.5}, "provider": "render", "status": "ready"}'), 'oak', 'all criteria together');
SELECT results_eq($$SELECT name FROM a67.node_find('{"limit": 1, "offset": 1}')$$, $$VALUES ('elm')$$, 'a part of them, in order of names');
SAVEPOINT crowd;
WITH n AS (
    INSERT INTO a67_internal.node (owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes, max_concurrent_requests)
    SELECT a67_internal._operator_id(), 'crowd-' || i, 'http://127.0.0.1:1', lpad(i::text, 43, 'c'), 1, 1, 1, 1 FROM generate_series(1, 1001) i
    RETURNING node_id)
INSERT INTO a67_internal.node_observed (node_id) SELECT node_id FROM n;
SELECT is((SELECT count(*) FROM a67.node_find()), 1000::bigint, 'a thousand unless told otherwise');
SELECT cmp_ok((SELECT count(*) FROM a67.node_find('{"limit": 5000}')), '>', 1000::bigint, 'or more');
ROLLBACK TO crowd;
SELECT is_empty($$SELECT c, pg_temp.detail(format('SELECT count(*) FROM a67.node_find(%L)', c)) FROM (VALUES
        ('{"colour": "red"}'::jsonb, 'colour'), ('{"status": "online"}', 'status'), ('{"status": 1}', 'status'), ('{"status": []}', 'status'),
        ('{"status": ["ready", null]}', 'status'), ('{"status": "removed"}', 'status'), ('{"name": {}}', 'name'), ('{"provider": null}', 'provider'),
        ('{"region": [1]}', 'region'), ('{"services": "gpu"}', 'services'), ('{"services": []}', 'services'),
        ('{"labels": "gpu"}', 'labels'), ('{"labels": {"gpu": true}}', 'labels.gpu'), ('{"free": 1}', 'free'), ('{"free": {"gpus": 1}}', 'free.gpus'),
        ('{"free": {"cpu": "2"}}', 'free.cpu'), ('{"free": {"cpu": -1}}', 'free.cpu'), ('{"limit": "9"}', 'limit'), ('{"offset": -1}', 'offset'),
        ('[]', 'criteria'), ('"ready"', 'criteria'), ('null', 'criteria')) v (c, field)
    WHERE pg_temp.detail(format('SELECT count(*) FROM a67.node_find(%L)', c)) <> format('22023 Field: %s.', field)$$,
    'a criterion that is unknown or of another type is named');
SELECT throws_ok('SELECT a67.node_find(NULL)', '22023', 'criteria must be an object', 'no criteria at all');
SELECT is(a67.node_list(service => 'database') #>> '{0,name}', 'elm', 'the list, by service');
SELECT is(a67.node_list(service => 'gpu'), '[]', 'a service that nobody has');

-- What is shown
SELECT ok(a67.node_get('oak') @> '{"tier": null, "services": ["compute"], "labels": {"gpu": "no", "rack": "1"}, "desired_state": "active", "status": "ready",
    "near_quota": false, "capabilities": {"cpu_cores": 2, "memory_bytes": 1073741824, "max_concurrent_requests": 100, "network_bandwidth_mbps": 100},
    "reserved": {"cpu": 0.5, "memory_bytes": 1, "disk_bytes": 7}, "usage": []}', 'a node with everything');
INSERT INTO a67_internal.node_usage (node_id, month, up_seconds_before, traffic_bytes_before, up_seconds, traffic_bytes)
SELECT id, date '2026-02-01' + m * interval '1 month', 0, 0, CASE WHEN m = 0 THEN 36000 END, CASE WHEN m = 0 THEN 1 END
FROM it, generate_series(0, 1) m WHERE name = 'oak';
SELECT is(jsonb_array_length(a67.node_get('oak') -> 'usage'), 3, 'its use in the newest month, by kind');
SELECT ok(NOT (a67.node_list() @> '[{"usage": []}]'), 'which a list leaves out');
SELECT results_eq($$SELECT node, service, status FROM a67.discovery ORDER BY 1, 2$$,
    $$VALUES ('elm', 'compute', 'ready'), ('elm', 'database', 'ready'), ('oak', 'compute', 'ready')$$, 'discovery: usable nodes by service');
UPDATE a67_internal.node SET desired_state = 'draining' WHERE name = 'elm';
SELECT is_empty($$SELECT FROM a67.discovery WHERE node = 'elm'$$, 'a node that is being emptied is no longer offered');
UPDATE a67_internal.node SET desired_state = 'active' WHERE name = 'elm';
UPDATE a67_internal.node_observed SET status = 'suspect' WHERE node_id = (SELECT id FROM it WHERE name = 'elm');
SELECT is_empty($$SELECT FROM a67.discovery WHERE node = 'elm'$$, 'nor one that is silent');

-- Changing
CREATE TEMP TABLE answer AS SELECT a67.node_update('oak', '{"tier": "starter", "region": "fra", "services": ["cache", "compute", "cache"],
    "capabilities": {"memory_gb": 2}, "labels": {"gpu": null, "rack": "2", "new": ""}}') AS node;
SELECT is((SELECT node FROM answer), a67.node_get('oak'), 'a change answers the node');
SELECT results_eq($$SELECT tier, region, services, labels, memory_bytes, cpu_cores, disk_bytes FROM a67.node WHERE name = 'oak'$$,
    $$VALUES ('starter', 'fra', '{compute,cache}'::text[], '{"new": "", "rack": "2"}'::jsonb, 2147483648, 2::real, 10737418240)$$,
    'what is named has changed, what is not stayed, null removed');
SELECT is((SELECT e.payload FROM a67.event e WHERE e.type = 'node.updated'),
    '{"node": "oak", "changed": ["labels", "memory_bytes", "region", "services", "tier"]}', 'an event says what');
SELECT is((SELECT count(*) FROM a67.audit WHERE action = 'node.update' AND subject = (SELECT id::text FROM it WHERE name = 'oak')), 1::bigint,
    'and the audit trail that');
SELECT is(pg_temp.update('{"tier": "starter"}'), 'done', 'a change to what it is');
SELECT is((SELECT count(*) FROM a67.event WHERE type = 'node.updated'), 1::bigint, 'is none');
SELECT is(pg_temp.update('{"tier": null, "region": null, "labels": null, "provider": null}'), 'done', 'null');
SELECT results_eq($$SELECT tier, region, labels, provider FROM a67.node WHERE name = 'oak'$$,
    $$VALUES (NULL::text, NULL::text, '{}'::jsonb, 'generic')$$, 'brings the default');
SELECT is(pg_temp.update('{"endpoint": "https://oak.example.org:8443", "name": "oak.example"}'), 'done', 'address and name');
SELECT is((SELECT endpoint FROM a67.node WHERE name = 'oak.example'), 'https://oak.example.org:8443', 'of a node that moved');
SELECT is(a67.node_update((SELECT id::text FROM it WHERE name = 'oak'), '{"name": "oak"}') ->> 'name', 'oak', 'by id');
SELECT is_empty($$SELECT c, pg_temp.update(c) FROM (VALUES
        ('{"colour": "red"}'::jsonb, 'colour'), ('{"status": "ready"}', 'status'), ('{"desired_state": "removed"}', 'desired_state'),
        ('{"name": "Bad Name"}', 'name'), ('{"name": null}', 'name'), ('{"name": 5}', 'name'), ('{"region": "a b"}', 'region'), ('{"tier": []}', 'tier'),
        ('{"provider": "No"}', 'provider'), ('{"labels": []}', 'labels'), ('{"labels": "x"}', 'labels'), ('{"labels": {"a": 1}}', 'labels.a'),
        ('{"services": []}', 'services'), ('{"services": "compute"}', 'services'), ('{"services": null}', 'services'), ('{"services": [1]}', 'services'),
        ('{"capabilities": {"cpu_cores": 0}}', 'capabilities.cpu_cores'), ('{"capabilities": {"gpu": 1}}', 'capabilities.gpu'),
        ('{"capabilities": null}', 'capabilities'), ('{"endpoint": "ftp://x:1"}', 'endpoint'), ('{"endpoint": null}', 'endpoint'),
        ('[]', 'changes'), ('null', 'changes')) v (c, field)
    WHERE pg_temp.update(c) <> format('22023 Field: %s.', field)$$, 'what is unknown or wrong is named');
SELECT is(pg_temp.update(jsonb_build_object('labels', (SELECT jsonb_object_agg('k' || i, '') FROM generate_series(1, 16) i))), 'done', 'sixteen labels');
SELECT is(pg_temp.update('{"labels": {"k17": "x"}}'), '22023 Field: labels.', 'and no more, counted together');
SELECT is(pg_temp.update('{"labels": {"k17": "x", "k1": null}}'), 'done', 'unless one goes');
SELECT is(pg_temp.update('{"name": "elm"}'), '23505 ' || (SELECT id FROM it WHERE name = 'elm'), 'a name that another one has, with its id');
SELECT is(pg_temp.update(NULL), '22023 Field: changes.', 'no changes at all');
SELECT throws_ok($$SELECT a67.node_update('nix', '{}')$$, 'PT404', 'node "nix" does not exist', 'a node that is not there');
SELECT results_eq($$SELECT name, memory_bytes FROM a67.node WHERE name = 'oak'$$, $$VALUES ('oak', 2147483648)$$, 'none of these changed anything');
SELECT a67.node_deregister('ash');
SELECT is(pg_temp.update('{"name": "ash"}'), 'done', 'the name of a removed node is free');
SELECT throws_ok($$SELECT a67.node_update((SELECT id::text FROM it WHERE name = 'ash'), '{"tier": "x"}')$$, 'PT404', NULL, 'which is not changed any more');

-- Another owner
CREATE TEMP TABLE bob AS SELECT a67.user_create('bob@example.com') AS id;
SELECT set_config('request.jwt.claims', json_build_object('sub', id, 'role', 'a67_user')::text, true) || set_config('role', 'a67_user', true) FROM bob \g /dev/null
SELECT is_empty('SELECT FROM a67.node_find()', 'finds nothing of it');
SELECT is_empty('SELECT FROM a67.discovery', 'discovers nothing');
SELECT is_empty('SELECT FROM a67.node_usage', 'sees no use');
SELECT is_empty('SELECT FROM a67.join_token', 'nor tokens');
SELECT throws_ok(format('SELECT a67.node_update(%L, ''{"tier": "x"}'')', 'ash'), 'PT404', NULL, 'and changes nothing');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
