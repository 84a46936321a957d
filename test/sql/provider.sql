\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
-- The catalogue of providers and regions.
SELECT plan(35);

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
CREATE FUNCTION pg_temp.set(changes jsonb) RETURNS text LANGUAGE sql AS
    $$SELECT pg_temp.detail(format('SELECT a67.provider_set(''acme'', %L)', changes))$$;

-- What a new installation has
DELETE FROM a67_internal.provider;
DELETE FROM a67_internal.region;
SELECT a67_internal._provider_seed();
SELECT set_has('SELECT name FROM a67.provider', $$VALUES ('render'), ('railway'), ('flyio'), ('vercel'), ('netlify'), ('supabase'), ('generic')$$,
    'the providers that everybody knows');
SELECT results_eq($$SELECT monthly_hours, idle_pause FROM a67.provider WHERE name = 'render'$$, $$VALUES (750::real, interval '15 minutes')$$,
    'with the quotas of their free tiers');
SELECT results_eq($$SELECT monthly_hours, bandwidth_bytes, disk_bytes, idle_pause FROM a67.provider WHERE name = 'generic'$$,
    $$VALUES (NULL::real, NULL::bigint, NULL::bigint, NULL::interval)$$, 'a machine of one''s own has none');
SELECT cmp_ok((SELECT count(*) FROM a67.region), '>=', 40::bigint, 'regions with their places');
SELECT set_has('SELECT name FROM a67.region', $$VALUES ('us-east-1'), ('europe-west1'), ('frankfurt'), ('fra'), ('iad')$$, 'by everybody''s names');
DELETE FROM a67_internal.provider WHERE name <> 'render';
UPDATE a67_internal.provider SET monthly_hours = 1;
DELETE FROM a67_internal.region WHERE name <> 'fra';
SELECT a67_internal._provider_seed();
SELECT results_eq('SELECT name, monthly_hours FROM a67.provider', $$VALUES ('render', 1::real)$$, 'what was changed stays');
SELECT results_eq('SELECT name FROM a67.region', $$VALUES ('fra')$$, 'regions too');

-- Providers
SELECT is(a67.provider_set('acme', '{"monthly_hours": 100, "bandwidth_bytes": 1e9, "idle_pause": "5 min"}') - 'updated_at',
    '{"name": "acme", "title": "acme", "monthly_hours": 100, "bandwidth_bytes": 1000000000, "disk_bytes": null, "idle_pause_seconds": 300,
      "restart_hook": false}', 'a new one');
SELECT is(a67.provider_set('acme', '{"title": "Acme", "idle_pause": 90.5, "disk_bytes": 7, "monthly_hours": null}') - 'updated_at',
    '{"name": "acme", "title": "Acme", "monthly_hours": null, "bandwidth_bytes": 1000000000, "disk_bytes": 7, "idle_pause_seconds": 90.5,
      "restart_hook": false}', 'changed: what is not named stays, null clears');
SELECT is(pg_temp.set('{"restart_url": "https://hooks.example.org:8443/restart?x=1", "restart_secret": "0123456789abcdef"}'), 'done', 'a hook');
SELECT is((SELECT restart_url || ' ' || convert_from(a67_internal._vault_open(restart_secret_sealed, 'provider.restart_secret_sealed:acme'), 'UTF8')
           FROM a67_internal.provider WHERE name = 'acme'), 'https://hooks.example.org:8443/restart?x=1 0123456789abcdef', 'is stored, its secret sealed');
SELECT is_empty($$SELECT FROM a67_internal.provider p WHERE strpos(encode(p.restart_secret_sealed, 'escape'), '0123456789abcdef') > 0$$, 'not in the clear');
SELECT throws_ok($$SELECT a67_internal._vault_open(restart_secret_sealed, 'provider.restart_secret_sealed:render') FROM a67_internal.provider WHERE name = 'acme'$$,
    NULL, NULL, 'and for this provider alone');
SELECT ok(a67.provider_list()::text !~ 'hooks.example|0123456789' AND a67.provider_list() @> '[{"name": "acme", "restart_hook": true}]',
    'a list says that there is one, not where');
SELECT is(pg_temp.set('{"restart_url": null}'), 'done', 'a hook is taken away');
SELECT is((SELECT restart_secret_sealed FROM a67_internal.provider WHERE name = 'acme'), NULL, 'with its secret');
SELECT is_empty($$SELECT c, pg_temp.set(c) FROM (VALUES
        ('{"colour": 1}'::jsonb, 'colour'), ('{"name": "x"}', 'name'), ('{"title": ""}', 'title'), ('{"title": 1}', 'title'),
        ('{"monthly_hours": 0}', 'monthly_hours'), ('{"monthly_hours": "750"}', 'monthly_hours'), ('{"monthly_hours": 1e6}', 'monthly_hours'),
        ('{"bandwidth_bytes": -1}', 'bandwidth_bytes'), ('{"disk_bytes": true}', 'disk_bytes'), ('{"disk_bytes": 1e19}', 'disk_bytes'),
        ('{"idle_pause": "soon"}', 'idle_pause'), ('{"idle_pause": "59 seconds"}', 'idle_pause'), ('{"idle_pause": 1e300}', 'idle_pause'),
        ('{"idle_pause": []}', 'idle_pause'), ('{"idle_pause": "-1 day"}', 'idle_pause'),
        ('{"restart_url": "ftp://x"}', 'restart_url'), ('{"restart_url": "http://x/"}', 'restart_url'), ('{"restart_url": "https://"}', 'restart_url'), ('{"restart_url": "https://u:p@x/"}', 'restart_url'),
        ('{"restart_url": "https://x y/"}', 'restart_url'), ('{"restart_url": "x"}', 'restart_url'), ('{"restart_url": "https://x/\n"}', 'restart_url'),
        ('{"restart_url": "https://x/", "restart_secret": "short"}', 'restart_secret'), ('{"restart_secret": "0123456789abcdef"}', 'restart_secret'),
        ('{"restart_url": "https://x/", "restart_secret": 1}', 'restart_secret'), ('[]', 'changes'), ('null', 'changes')) v (c, field)
    WHERE pg_temp.set(c) <> format('22023 Field: %s.', field)$$, 'what is unknown or wrong is named');
SELECT ok(pg_temp.detail($$SELECT a67.provider_set('acme', '{"restart_url": "https://x/", "restart_secret": "s3cr"}')$$) !~ 's3cr', 'without the secret');
SELECT is((SELECT bandwidth_bytes FROM a67.provider WHERE name = 'acme'), 1000000000::bigint, 'and nothing has changed');
SELECT is_empty($$SELECT n FROM unnest(ARRAY['', 'Acme', 'a b', 'a.b', '-a', repeat('a', 64), NULL]) n
    WHERE pg_temp.detail(format('SELECT a67.provider_set(%L, ''{}'')', n)) <> '22023 Field: name.'$$, 'a name is short and in lower case');
SELECT is(pg_temp.set(NULL), '22023 Field: changes.', 'no changes at all');
SELECT a67.provider_remove('acme');
SELECT is_empty($$SELECT FROM a67.provider WHERE name = 'acme'$$, 'removed');
SELECT throws_ok($$SELECT a67.provider_remove('acme')$$, 'PT404', 'provider "acme" does not exist', 'once');

-- Regions
SELECT a67.region_set('moon-1', 12.5, -180), a67.region_set('moon-1', -90, 180) \g /dev/null
SELECT results_eq($$SELECT latitude, longitude FROM a67.region WHERE name = 'moon-1'$$, 'VALUES (-90::float8, 180::float8)', 'set, and set again');
SELECT is_empty($$SELECT q, f FROM (VALUES ('''x'', 90.1, 0', 'latitude'), ('''x'', ''NaN'', 0', 'latitude'), ('''x'', NULL, 0', 'latitude'),
        ('''x'', 0, -180.1', 'longitude'), ('''x'', 0, ''infinity''', 'longitude'), ('''x'', 0, NULL', 'longitude'), ('''X'', 0, 0', 'name'), ('NULL, 0, 0', 'name')) v (q, f)
    WHERE pg_temp.detail(format('SELECT a67.region_set(%s)', q)) <> format('22023 Field: %s.', f)$$, 'what lies nowhere is named');
SELECT ok(a67.region_list() @> '[{"name": "moon-1", "latitude": -90, "longitude": 180}]', 'listed');
SELECT a67.region_remove('moon-1');
SELECT throws_ok($$SELECT a67.region_remove('moon-1')$$, 'PT404', 'region "moon-1" does not exist', 'removed, once');
SELECT set_eq($$SELECT action || ' ' || subject FROM a67.audit WHERE action ~ '^(provider|region)[.]'$$,
    $$VALUES ('provider.set acme'), ('provider.remove acme'), ('region.set moon-1'), ('region.remove moon-1')$$, 'all of it in the audit trail');

-- Who may
CREATE TEMP TABLE person AS SELECT r AS role, a67.user_create(r || '@example.com', r) AS id FROM unnest(ARRAY['a67_user', 'a67_admin']) r;
GRANT SELECT ON person TO a67_user, a67_admin;
CREATE FUNCTION pg_temp.act_as(role text) RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.role = act_as.role
$$;
SELECT pg_temp.act_as('a67_user') \g /dev/null
SELECT isnt_empty('SELECT FROM a67.provider', 'a user sees them');
SELECT isnt_empty('SELECT FROM a67.region', 'and regions');
SELECT throws_ok('SELECT restart_url FROM a67_internal.provider', '42501', NULL, 'not where hooks are');
SELECT throws_ok('SELECT restart_secret_sealed FROM a67_internal.provider', '42501', NULL, 'nor sealed secrets');
SELECT throws_ok($$SELECT a67.provider_set('acme', '{}')$$, '42501', NULL, 'and changes none');
SELECT throws_ok($$SELECT a67.region_remove('fra')$$, '42501', NULL, 'nor regions');
RESET ROLE;
SELECT pg_temp.act_as('a67_admin') \g /dev/null
SELECT lives_ok($$SELECT a67.provider_set('acme', '{"monthly_hours": 5}'), a67.provider_remove('acme'), a67.region_set('x', 0, 0), a67.region_remove('x')$$,
    'an administrator does');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
