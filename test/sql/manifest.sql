\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(32);

CREATE FUNCTION pg_temp.good() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('name', 'shop', 'entrypoint', jsonb_build_array('./run'), 'package', repeat('ab', 32))
$$;
-- The single fault that a change to a good manifest makes, up to the colon.
CREATE FUNCTION pg_temp.fault(change jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(split_part(f, ':', 1), ' ' ORDER BY split_part(f, ':', 1) COLLATE "C") FROM a67.manifest_check(pg_temp.good() || change) f
$$;

SELECT is_empty($$SELECT a67.manifest_check(pg_temp.good())$$, 'the least manifest is good');
SELECT is(a67_internal._manifest_normal(pg_temp.good()) - 'package', jsonb_build_object(
    'name', 'shop', 'app_type', 'backend', 'runtime', 'executable', 'entrypoint', '["./run"]'::jsonb, 'replicas', 1,
    'env', '{}'::jsonb, 'resources', '{"cpu": 0.1, "memory_bytes": 67108864}'::jsonb, 'stop_grace_ms', 10000),
    'defaults are filled in');
SELECT is(a67_internal._manifest_normal(pg_temp.good() || '{"health_check": {"path": "/h"}}') -> 'health_check',
    '{"path": "/h", "interval_ms": 10000, "timeout_ms": 5000, "retries": 3}'::jsonb, 'also those of the health check');

SELECT is(a67_internal._bytes('"64MB"'), 64000000::bigint, 'MB is 10^6');
SELECT is(a67_internal._bytes('"64MiB"'), 67108864::bigint, 'MiB is 2^20');
SELECT is(a67_internal._bytes('"0.5GiB"'), 536870912::bigint, 'fractions');
SELECT is(a67_internal._bytes('1048576'), 1048576::bigint, 'a plain number is bytes');
SELECT is(a67_internal._bytes('"-1MB"'), NULL, 'no negative sizes');
SELECT is(a67_internal._duration_ms('"500ms"'), 500, 'milliseconds');
SELECT is(a67_internal._duration_ms('2'), 2000, 'a plain number is seconds');
SELECT is(a67_internal._duration_ms('"0s"'), NULL, 'nothing of no length');
SELECT is(a67_internal._duration_ms('"25h"'), NULL, 'nothing beyond a day');

SELECT is(pg_temp.fault('{"nam": 1}'), '/nam', 'an unknown field is named');
SELECT is(pg_temp.fault('{"name": "Shop"}'), '/name', 'upper case in a name');
SELECT is(pg_temp.fault('{"name": null}'), '/name', 'no name');
SELECT is(pg_temp.fault(jsonb_build_object('name', repeat('a', 64))), '/name', 'a name too long');
SELECT is(pg_temp.fault('{"app_type": "cron"}'), '/app_type', 'an app type that is not there');
SELECT is(pg_temp.fault('{"runtime": "java"}'), '/runtime', 'a runtime that is not there');
SELECT is(pg_temp.fault('{"entrypoint": "./run"}'), '/entrypoint', 'entrypoint as a string');
SELECT is(pg_temp.fault('{"entrypoint": []}'), '/entrypoint', 'entrypoint empty');
SELECT is(pg_temp.fault('{"entrypoint": ["a", 1]}'), '/entrypoint', 'entrypoint with a number');
SELECT is(pg_temp.fault('{"package": "abc"}'), '/package', 'not a digest');
SELECT is(pg_temp.fault('{"replicas": 1001}'), '/replicas', 'too many replicas');
SELECT is(pg_temp.fault('{"replicas": -1}'), '/replicas', 'too few');
SELECT is(pg_temp.fault('{"replicas": "3"}'), '/replicas', 'replicas as a string');
SELECT is(pg_temp.fault('{"env": {"A": 1, "PORT": "1", "A67_X": "", "9": ""}}'), '/env/9 /env/A /env/A67_X /env/PORT',
    'every fault of env');
SELECT is(pg_temp.fault(jsonb_build_object('env', (SELECT jsonb_object_agg('V' || i, '') FROM generate_series(1, 65) i))), '/env',
    'too many variables');
SELECT is(pg_temp.fault('{"health_check": {"path": "x", "interval": "1 day", "retries": 0, "port": 1}}'),
    '/health_check/interval /health_check/path /health_check/port /health_check/retries', 'every fault of health_check');
SELECT is(pg_temp.fault('{"resources": {"memory": "1kB", "cpu": -1, "gpu": 1}}'),
    '/resources/cpu /resources/gpu /resources/memory', 'every fault of resources');
SELECT is(pg_temp.fault('{"stop_grace": "1h"}'), '/stop_grace', 'a grace period too long');
SELECT is((SELECT string_agg(f, '') FROM a67.manifest_check('[]') f), '/: must be an object', 'not an object');
SELECT throws_ok($$SELECT a67.deployment_create('{"name": "x"}')$$, '22023',
    'invalid manifest: /entrypoint: must be an array of 1 to 64 strings, the program first', 'creation refuses with the first fault');

SELECT * FROM finish();
ROLLBACK;
