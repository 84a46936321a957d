\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(141);

CREATE FUNCTION pg_temp.good() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('name', 'shop', 'entrypoint', jsonb_build_array('./run'), 'package', repeat('ab', 32))
$$;
-- Where the faults are that a change to a good manifest makes. null in a change takes the field away.
CREATE FUNCTION pg_temp.fault(change jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(f.pointer, ' ' ORDER BY f.pointer COLLATE "C") FROM a67.manifest_check(pg_temp.good() || change) f
$$;
CREATE FUNCTION pg_temp.said(change jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(f.pointer || ' ' || f.problem || ', must be ' || f.allowed, ' | ' ORDER BY f.pointer COLLATE "C")
    FROM a67.manifest_check(pg_temp.good() || change) f
$$;
CREATE FUNCTION pg_temp.normal(change jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT a67_internal._manifest_normal(pg_temp.good() || change)
$$;

-- The normal form
SELECT is_empty($$SELECT a67.manifest_check(pg_temp.good())$$, 'the least manifest is good');
SELECT is(pg_temp.normal('{}') - 'package', '{"name": "shop", "app_type": "backend", "runner": "process", "runtime": "executable",
    "entrypoint": ["./run"], "replicas": 1, "env": {}, "secrets": {}, "on_secret_change": "restart", "atomic": false,
    "resources": {"cpu": 0.1, "memory_bytes": 67108864, "disk_bytes": 0, "pids": 1024}, "stop_grace_ms": 10000,
    "on_partition": "continue", "partition_deadline_ms": 60000, "balance": "leastconn", "routes": [], "labels": {},
    "affinity": {"labels": {}, "regions": [], "providers": [], "tiers": [], "nodes": []},
    "strategy": {"type": "rolling", "max_surge": 1, "max_unavailable": 0, "auto_rollback": true, "observe_ms": 300000,
                 "steps": [10, 25, 50, 75, 100], "step_interval_ms": 60000, "max_error_rate": 5, "max_latency_ratio": 2,
                 "min_requests": 20}}'::jsonb, 'defaults are filled in');
SELECT is(pg_temp.normal('{"app_type": "cron", "schedule": "@daily"}') - ARRAY['package', 'env', 'secrets', 'resources', 'labels', 'affinity'],
    '{"name": "shop", "app_type": "cron", "runner": "process", "runtime": "executable", "entrypoint": ["./run"], "replicas": 0,
    "on_secret_change": "none", "atomic": false, "stop_grace_ms": 10000, "on_partition": "continue", "partition_deadline_ms": 60000,
    "balance": "leastconn", "routes": [], "schedule": "@daily", "overlap": "forbid", "run_timeout_ms": 3600000}'::jsonb, 'those of a cron app');
SELECT is(pg_temp.normal('{"health_check": {"path": "/h"}}') -> 'health_check',
    '{"path": "/h", "interval_ms": 10000, "timeout_ms": 5000, "retries": 3}'::jsonb, 'those of the health check');
SELECT is(pg_temp.normal('{"health_check": {"tcp": true, "interval": "1s"}}') -> 'health_check',
    '{"tcp": true, "interval_ms": 1000, "timeout_ms": 1000, "retries": 3}'::jsonb, 'whose timeout is not longer than its interval');
SELECT is(pg_temp.normal('{"resources": {"memory": "1GiB", "cpu": "500m", "storage": "2GB", "pids": 64}}') -> 'resources',
    '{"cpu": 0.5, "memory_bytes": 1073741824, "disk_bytes": 2000000000, "pids": 64}'::jsonb, 'units are resolved');
SELECT is(pg_temp.normal('{"replicas": 2.0, "resources": {"cpu": 0.50}}') #>> '{replicas}', '2', 'an integer is one however it is written');
SELECT is(pg_temp.normal('{"strategy": {"type": "canary", "max_error_rate": 0.50}}') #>> '{strategy,max_error_rate}', '0.5', 'and a number');
SELECT is(pg_temp.normal(pg_temp.normal('{"app_type": "worker"}') - ARRAY['resources', 'stop_grace_ms', 'partition_deadline_ms', 'strategy', 'balance', 'routes'])
    - 'package', pg_temp.normal('{"app_type": "worker"}') - 'package', 'what is normal stays so');

-- Quantities
SELECT is(a67_internal._manifest_quantity(v::jsonb, u), n, v || ' ' || u) FROM (VALUES
    ('"64MB"', 'bytes', 64000000), ('"64MiB"', 'bytes', 67108864), ('"0.5GiB"', 'bytes', 536870912), ('1048576', 'bytes', 1048576),
    ('"2kb"', 'bytes', 2000), ('"1 TB"', 'bytes', 1000000000000), ('"-1MB"', 'bytes', NULL), ('"1MBit"', 'bytes', NULL), ('"MB"', 'bytes', NULL),
    ('"500ms"', 'ms', 500), ('2', 'ms', 2000), ('"1.5s"', 'ms', 1500), ('"2min"', 'ms', 120000), ('"2m"', 'ms', 120000), ('"1h"', 'ms', 3600000),
    ('"1 day"', 'ms', NULL), ('"1S"', 'ms', NULL), ('0.25', 'cores', 0.25), ('"0.25"', 'cores', 0.25), ('"250m"', 'cores', 0.25),
    ('"1k"', 'cores', NULL), ('"1.2.3"', 'cores', NULL), ('true', 'cores', NULL)) q (v, u, n);

-- One fault each
SELECT is(pg_temp.fault(c::jsonb), p, c) FROM (VALUES
    ('{"nam": 1}', '/nam'), ('{"a/b~c": 1}', '/a~1b~0c'), ('{"": 1}', '/'),
    ('{"name": "Shop"}', '/name'), ('{"name": null}', '/name'), ('{"name": 7}', '/name'), ('{"name": "shop\n"}', '/name'), ('{"name": "a-"}', '/name'),
    ('{"app_type": "frontend"}', '/app_type'), ('{"app_type": null}', '/app_type'), ('{"runtime": "java"}', '/runtime'), ('{"runner": "docker"}', '/runner'),
    ('{"entrypoint": "./run"}', '/entrypoint'), ('{"entrypoint": []}', '/entrypoint'), ('{"entrypoint": ["a", 1]}', '/entrypoint/1'),
    ('{"entrypoint": [""]}', '/entrypoint/0'), ('{"entrypoint": {"0": "a"}}', '/entrypoint'),
    ('{"package": "abc"}', '/package'), ('{"package": "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"}', '/package'),
    ('{"replicas": 1001}', '/replicas'), ('{"replicas": -1}', '/replicas'), ('{"replicas": "3"}', '/replicas'), ('{"replicas": 1.5}', '/replicas'),
    ('{"replicas": 1e40}', '/replicas'), ('{"replicas": true}', '/replicas'),
    ('{"env": []}', '/env'), ('{"env": {"A": 1, "PORT": "1", "A67_X": "", "9": "", "A-B": ""}}', '/env/9 /env/A /env/A-B /env/A67_X /env/PORT'),
    ('{"secrets": {"A": "Not A Name", "B": 1, "PORT": "x"}}', '/secrets/A /secrets/B /secrets/PORT'),
    ('{"env": {"A": "x"}, "secrets": {"A": "x"}}', '/secrets/A'), ('{"on_secret_change": "SIGKILL"}', '/on_secret_change'),
    ('{"health_check": {"path": "x", "interval": "1 day", "retries": 0, "port": 1}}', '/health_check/interval /health_check/path /health_check/port /health_check/retries'),
    ('{"health_check": {}}', '/health_check'), ('{"health_check": {"path": "/", "tcp": true}}', '/health_check'), ('{"health_check": {"tcp": false}}', '/health_check/tcp'),
    ('{"health_check": {"command": []}}', '/health_check/command'), ('{"health_check": {"path": "/a b"}}', '/health_check/path'),
    ('{"health_check": {"path": "/", "interval": "2s", "timeout": "3s"}}', '/health_check/timeout'),
    ('{"health_check": {"path": "/", "timeout": "11s"}}', '/health_check/timeout'), ('{"health_check": {"path": "/", "interval": "50ms"}}', '/health_check/interval'),
    ('{"resources": {"memory": "1kB", "cpu": -1, "gpu": 1}}', '/resources/cpu /resources/gpu /resources/memory'), ('{"resources": {"cpu": "1.5m"}}', '/resources/cpu'),
    ('{"resources": {"storage": "2PB"}}', '/resources/storage'), ('{"resources": {"pids": 0}}', '/resources/pids'), ('{"resources": null}', '/resources'),
    ('{"stop_grace": "1h"}', '/stop_grace'), ('{"stop_grace": "0s"}', '/stop_grace'), ('{"on_partition": "explode"}', '/on_partition'), ('{"partition_deadline": 0}', '/partition_deadline'),
    ('{"atomic": "yes"}', '/atomic'), ('{"balance": "random"}', '/balance'),
    ('{"strategy": "rolling"}', '/strategy'), ('{"strategy": {"type": "big_bang"}}', '/strategy/type'), ('{"strategy": {"max_surge": "101%"}}', '/strategy/max_surge'),
    ('{"strategy": {"max_surge": 0}}', '/strategy/max_surge'), ('{"strategy": {"max_surge": "0%", "max_unavailable": 0}}', '/strategy/max_surge'),
    ('{"strategy": {"max_surge": 0, "max_unavailable": "25%"}}', NULL), ('{"strategy": {"steps": [100]}}', '/strategy/steps'),
    ('{"strategy": {"type": "canary", "steps": [5, 100]}}', NULL), ('{"strategy": {"type": "canary", "steps": [50, 10, 100]}}', '/strategy/steps'),
    ('{"strategy": {"type": "canary", "steps": [10, 50]}}', '/strategy/steps'), ('{"strategy": {"type": "canary", "steps": [10, 10, 100]}}', '/strategy/steps'),
    ('{"strategy": {"type": "canary", "steps": [0, 100]}}', '/strategy/steps/0'), ('{"strategy": {"type": "canary", "max_latency_ratio": 0.5, "max_surge": 1}}', '/strategy/max_latency_ratio /strategy/max_surge'),
    ('{"strategy": {"test": {"path": "/"}}}', '/strategy/test'), ('{"strategy": {"type": "blue_green", "test": {"path": "/", "command": ["a"]}}}', '/strategy/test'),
    ('{"strategy": {"type": "blue_green", "test": {"command": ["a"]}, "observe": 0}}', NULL), ('{"strategy": {"type": "recreate", "observe": "1min"}}', '/strategy/observe'),
    ('{"routes": {}}', '/routes'), ('{"routes": [{}]}', '/routes/0'), ('{"routes": [{"host": "a.b"}, {"host": "a.b"}]}', '/routes'),
    ('{"routes": [{"host": "A.b"}, {"path": "x"}, {"path": "/\"", "port": 1}]}', '/routes/0/host /routes/1/path /routes/2/path /routes/2/port'),
    ('{"labels": {"A": "x", "b": 1}}', '/labels/A /labels/b'), ('{"affinity": {"zone": ["a"], "regions": "eu", "tiers": ["a", "a"], "nodes": ["-"]}}', '/affinity/nodes/0 /affinity/regions /affinity/tiers /affinity/zone'),
    ('{"volumes": []}', '/volumes'), ('{"schedule": "@daily", "overlap": "allow", "run_timeout": "1s"}', '/overlap /run_timeout /schedule'),
    ('{"app_type": "cron"}', '/schedule'), ('{"app_type": "cron", "schedule": "@daily", "overlap": "maybe", "run_timeout": "0.5s"}', '/overlap /run_timeout'),
    ('{"app_type": "cron", "schedule": "61 * * * *"}', '/schedule'), ('{"app_type": "cron", "schedule": 5}', '/schedule'),
    ('{"app_type": "cron", "schedule": "@daily", "replicas": 1, "routes": [], "strategy": {}, "health_check": {"tcp": true}, "atomic": true, "balance": "leastconn", "runtime": "static"}',
     '/atomic /balance /health_check /replicas /routes /runtime /strategy'),
    ('{"app_type": "worker", "routes": [], "health_check": {"path": "/"}, "strategy": {"type": "canary"}}', '/health_check/path /routes /strategy/type'),
    ('{"app_type": "worker", "health_check": {"command": ["a"]}}', NULL), ('{"app_type": "worker", "runtime": "static"}', '/runtime'),
    ('{"runtime": "static", "entrypoint": []}', NULL), ('{"runtime": "static", "entrypoint": ["a", "b"]}', '/entrypoint'), ('{"runtime": "static", "runner": "container"}', '/runner')) v (c, p);
SELECT is(pg_temp.fault(jsonb_build_object('name', repeat('a', 64))), '/name', 'a name too long');
SELECT is(pg_temp.fault(jsonb_build_object('env', (SELECT jsonb_object_agg('V' || i, '') FROM generate_series(1, 65) i))), '/env', 'too many variables');
SELECT is(pg_temp.fault(jsonb_build_object('env', (SELECT jsonb_object_agg('V' || i, repeat('x', 4000)) FROM generate_series(1, 20) i))), '/env', 'too long in all');
SELECT is(pg_temp.fault(jsonb_build_object('env', jsonb_build_object('A', repeat(chr(8364), 1366)))), '/env/A', 'bytes count, not characters');
SELECT is(pg_temp.fault(jsonb_build_object('entrypoint', (SELECT jsonb_agg('x'::text) FROM generate_series(1, 65)))), '/entrypoint', 'too many arguments');
SELECT is((SELECT string_agg(pointer, ' ') FROM a67.manifest_check(pg_temp.good() - 'entrypoint' - 'package')), '/entrypoint /package', 'what is missing');
SELECT is_empty($$SELECT a67.manifest_check(pg_temp.good() - 'entrypoint' || '{"runtime": "static"}')$$, 'static files need no entrypoint');

-- In words
SELECT is(pg_temp.said('{"replicas": 1001}'), '/replicas is 1001, must be an integer from 0 to 1000', 'a number');
SELECT is(pg_temp.said('{"runtime": "java"}'), '/runtime is "java", must be "executable", "python", "node" or "static"', 'a choice');
SELECT is(pg_temp.said('{"volumes": []}'), '/volumes is not supported, must be left out: keep data in a database or in files (a67.file_put)', 'what is not supported');
SELECT is(pg_temp.said('{"env": {"A": 1, "B": null}, "secrets": {"C": "my password!"}}'),
    '/env/A is a number, must be a string of at most 4096 bytes | /env/B is null, must be a string of at most 4096 bytes | /secrets/C is a string, must be the name of a secret',
    'no values of env and secrets');
SELECT is(pg_temp.said('{"balance": "leastconn", "app_type": "worker"}'), '/balance applies to backends only, must be left out', 'what does not apply');
SELECT is(pg_temp.said('{"app_type": "cron", "schedule": "0 0 31 4 *"}'),
    '/schedule never comes due, must be a schedule such as "*/5 * * * *" (minute, hour, day of month, month, day of week) or "@daily"', 'a schedule');
SELECT is((SELECT f.pointer || f.problem FROM a67.manifest_check(v::jsonb) f), p, 'not an object') FROM (VALUES
    ('[]', 'is empty'), ('[1]', 'is an array'), ('null', 'is null'), ('17', 'is 17')) x (v, p);
SELECT is((SELECT count(*) FROM a67.manifest_check(NULL)), 1::bigint, 'nothing at all');
SELECT throws_ok($$SELECT a67.deployment_create('{"name": "x"}')$$, '22023',
    'invalid manifest: /entrypoint: is missing, must be an array of 1 to 64 strings, the program first', 'creation refuses with the first fault');
SELECT lives_ok(format('SELECT count(*) FROM a67.manifest_check(%L)', jsonb_build_object(repeat('x', 100000), repeat('y', 100000))), 'long names');
SELECT is(a67.manifest_schema() ->> '$schema', 'https://json-schema.org/draft/2020-12/schema', 'the schema is there for others');
-- Nothing has a default that would be refused, and every field says what it is.
SELECT is_empty($$SELECT p.key FROM jsonb_each(a67.manifest_schema() -> 'properties') p, a67_internal._manifest_walk(p.value, p.value -> 'default', '', false)
    WHERE p.value ? 'default' AND p.key <> 'entrypoint'$$, 'defaults are allowed');
SELECT is_empty($$SELECT p.key FROM jsonb_each(a67.manifest_schema() -> 'properties') p WHERE NOT p.value ? 'description'$$, 'fields are described');

SELECT * FROM finish();
ROLLBACK;
