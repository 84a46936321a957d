\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(27);

-- Five nodes of one owner, each unlike the others; room for two replicas on each.
CREATE TEMP TABLE who AS SELECT a67_internal._operator_id() AS user_id;
WITH n AS (
    INSERT INTO a67_internal.node (owner_id, name, region, provider, tier, labels, runners, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes,
        max_concurrent_requests)
    SELECT user_id, v.name, v.region, v.provider, v.tier, v.labels, v.runners, 'http://127.0.0.1:1', rpad(v.name, 43, '_'), 2, 2e8, 1e9, 100
    FROM who, (VALUES
        ('plain', NULL, 'generic', NULL, '{}'::jsonb, '{process}'::text[]),
        ('east', 'us-east', 'fly', 'free', '{"gpu": "yes", "disk": "ssd"}', '{process}'),
        ('west', 'us-west', 'fly', 'paid', '{"gpu": "no"}', '{process,container}'),
        ('eu', 'eu-1', 'render', 'free', '{"gpu": "yes"}', '{process,container}'),
        ('gone', 'us-east', 'fly', 'free', '{"gpu": "yes"}', '{process,container}')) v (name, region, provider, tier, labels, runners)
    RETURNING node_id, name)
INSERT INTO a67_internal.node_observed (node_id, status, last_heartbeat_at)
SELECT node_id, CASE name WHEN 'gone' THEN 'failed' ELSE 'ready' END, clock_timestamp() FROM n;
CREATE TEMP TABLE package AS SELECT a67.package_build('{"run": ""}') AS digest;
CREATE FUNCTION pg_temp.manifest(change jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('name', 'shop', 'entrypoint', '["./run"]'::jsonb, 'package', digest, 'resources', '{"memory": "100MB"}'::jsonb) || change FROM package
$$;
-- The nodes that a manifest allows, by name.
CREATE FUNCTION pg_temp.allowed(change jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(n.name, ' ' ORDER BY n.name) FROM a67_internal.node n, who,
        LATERAL a67_internal._place_barred(user_id, a67_internal._manifest_normal(pg_temp.manifest(change))) b
    WHERE n.owner_id = user_id AND n.node_id <> ALL (b.barred)
$$;
SELECT is(pg_temp.allowed(c::jsonb), n, c) FROM (VALUES
    ('{}', 'east eu gone plain west'), ('{"affinity": {}}', 'east eu gone plain west'), ('{"affinity": {"regions": []}}', 'east eu gone plain west'),
    ('{"runner": "container"}', 'eu gone west'), ('{"affinity": {"regions": ["us-east", "eu-1"]}}', 'east eu gone'),
    ('{"affinity": {"providers": ["fly"]}}', 'east gone west'), ('{"affinity": {"tiers": ["paid"]}}', 'west'),
    ('{"affinity": {"labels": {"gpu": "yes"}}}', 'east eu gone'), ('{"affinity": {"labels": {"gpu": "yes", "disk": "ssd"}}}', 'east'),
    ('{"affinity": {"nodes": ["plain", "west", "no-such-node"]}}', 'plain west'), ('{"affinity": {"regions": ["mars"]}}', NULL),
    ('{"affinity": {"regions": ["us-east"], "labels": {"gpu": "no"}}}', NULL), ('{"runner": "container", "affinity": {"tiers": ["free"]}}', 'eu gone')) v (c, n);
SELECT is(pg_temp.allowed(jsonb_build_object('affinity', jsonb_build_object('nodes', jsonb_build_array(node_id)))), 'eu', 'a node by its id')
FROM a67_internal.node WHERE name = 'eu';
SELECT is((a67_internal._place_barred((SELECT user_id FROM who), a67_internal._manifest_normal(pg_temp.manifest('{"runner": "container", "affinity": {"regions": ["us-east", "us-west"]}}')))).note,
    'Ruled out: 2 by region, 1 without the runner "container".', 'each node by the first reason');
SELECT is((a67_internal._place_barred((SELECT user_id FROM who), '{}')).barred, '{}', 'releases of before have neither');

-- Creation
CREATE FUNCTION pg_temp.says(change jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    RETURN a67.deployment_create(pg_temp.manifest(change)) ->> 'status';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || said;
END
$$;
SELECT is(pg_temp.says('{"affinity": {"regions": ["mars"]}}'),
    '53000 Of 5 nodes, 1 is failed, 4 are ruled out by the manifest. Ruled out: 5 by region.', 'where no node is allowed');
SELECT is(pg_temp.says('{"affinity": {"nodes": ["gone"]}}'), '53000 Of 5 nodes, 1 is failed, 4 are ruled out by the manifest. Ruled out: 4 by name.', 'where the only one is dead');
SELECT is(pg_temp.says('{"affinity": {"tiers": ["paid"]}, "resources": {"memory": "300MB"}}'),
    '53000 Of 5 nodes, 1 is failed, 3 are ruled out by the manifest. 1 could be used: 1 short of 300000000 bytes of memory to promise (most free: 200000000). Ruled out: 4 by tier.',
    'where it is too small');
SELECT is(pg_temp.says('{"resources": {"storage": "2GB"}}'),
    '53000 Of 5 nodes, 1 is failed. 4 could be used: 4 short of 2000000000 bytes of disk to promise (most free: 1000000000).', 'disks count too');
SELECT is(pg_temp.says('{"app_type": "cron", "schedule": "@daily", "affinity": {"regions": ["mars"]}}'),
    '53000 Of 5 nodes, 1 is failed, 4 are ruled out by the manifest. Ruled out: 5 by region.', 'cron apps need a node as well');
SELECT is(pg_temp.says('{"replicas": 0, "affinity": {"regions": ["mars"]}, "name": "later"}'), 'pending', 'what asks for nothing is taken');
SELECT is(pg_temp.says('{"replicas": 6, "affinity": {"providers": ["fly"]}, "resources": {"memory": "100MB", "storage": "200MB"}}'), 'pending', 'what fits in part too');

-- Placement
CREATE FUNCTION pg_temp.where_it_is() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(n.name || ' ' || n.count, ', ' ORDER BY n.name)
    FROM (SELECT r.node AS name, count(*) FROM a67.replica r WHERE r.deployment = 'shop' AND r.desired_state = 'running' GROUP BY 1) n
$$;
SELECT count(*) FROM a67_internal._reconciler_plan(now()) \g /dev/null
SELECT is(pg_temp.where_it_is(), 'east 2, west 2', 'on nodes of that provider');
SELECT is((SELECT status_reason FROM a67.deployment WHERE name = 'shop'),
    'insufficient capacity for 2 of 6 replicas: Of 5 nodes, 1 is failed, 2 are ruled out by the manifest. 2 could be used and took 4: 2 short of 100000000 bytes of memory to promise (most free: 0). Ruled out: 2 by provider.',
    'the rest waits, and says why');
SELECT is((SELECT min(r.disk_bytes) FROM a67_internal.node_reserved r JOIN a67_internal.node USING (node_id) WHERE name IN ('east', 'west')), 400000000::bigint, 'disk is promised');
UPDATE a67_internal.node_observed o SET status = 'ready' FROM a67_internal.node n WHERE n.node_id = o.node_id AND n.name = 'gone';
SELECT count(*) FROM a67_internal._reconciler_plan(now() + interval '1 minute') \g /dev/null
SELECT is(pg_temp.where_it_is(), 'east 2, gone 2, west 2', 'until such a node comes');

SELECT * FROM finish();
ROLLBACK;
