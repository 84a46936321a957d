\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
-- Every public function and view against every role. A new one without a row here fails the first two tests.
CREATE TEMP TABLE may (object text PRIMARY KEY, roles text);
INSERT INTO may VALUES
    ('version', 'anon user node admin'),
    ('request_check', 'anon user node admin'),
    ('openapi', 'anon user node admin'),
    ('auth_register', 'anon user admin'),
    ('auth_login', 'anon user admin'),
    ('auth_refresh', 'anon user admin'),
    ('auth_logout', 'user admin'),
    ('auth_me', 'user admin'),
    ('auth_password_change', 'user admin'),
    ('auth_mfa_enroll', 'user admin'),
    ('auth_mfa_confirm', 'user admin'),
    ('auth_mfa_disable', 'user admin'),
    ('signing_key_rotate', 'admin'),
    ('vault_status', 'admin'),
    ('vault_unseal', 'admin'),
    ('vault_seal', 'admin'),
    ('vault_rotate', 'admin'),
    ('murmur3', 'user admin'),
    ('ring_lookup', 'user admin'),
    ('ring_points', 'user admin'),
    ('ring_shares', 'user admin'),
    ('ring_diff', 'user admin'),
    ('manifest_check', 'user admin'),
    ('user_create', 'admin'),
    ('token_create', 'admin'),
    ('join_token_create', 'user admin'),
    ('join_token_list', 'user admin'),
    ('join_token_revoke', 'user admin'),
    ('node_register', 'anon'),
    ('node_token_renew', 'node'),
    ('node_heartbeat', 'node'),
    ('node_deregister', 'user admin'),
    ('node_drain', 'user admin'),
    ('node_maintenance', 'user admin'),
    ('node_activate', 'user admin'),
    ('node_update', 'user admin'),
    ('node_find', 'user admin'),
    ('node_list', 'user admin'),
    ('node_get', 'user admin'),
    ('node_stats', 'user admin'),
    ('system_metrics', 'user admin'),
    ('node_select', 'user admin'),
    ('provider_list', 'user admin'),
    ('provider_set', 'admin'),
    ('provider_remove', 'admin'),
    ('region_list', 'user admin'),
    ('region_set', 'admin'),
    ('region_remove', 'admin'),
    ('manifest_schema', 'user admin'),
    ('package_put', 'user admin'),
    ('package_build', 'user admin'),
    ('package_list', 'user admin'),
    ('package_remove', 'user admin'),
    ('package_get', 'user node admin'),
    ('secret_set', 'user admin'),
    ('secret_remove', 'user admin'),
    ('secret_list', 'user admin'),
    ('deployment_create', 'user admin'),
    ('deployment_scale', 'user admin'),
    ('deployment_stop', 'user admin'),
    ('deployment_start', 'user admin'),
    ('deployment_remove', 'user admin'),
    ('deployment_update', 'user admin'),
    ('deployment_rollback', 'user admin'),
    ('deployment_pause', 'user admin'),
    ('deployment_resume', 'user admin'),
    ('deployment_abort', 'user admin'),
    ('deployment_promote', 'user admin'),
    ('deployment_watch', 'user admin'),
    ('deployment_explain', 'user admin'),
    ('deployment_run', 'user admin'),
    ('deployment_runs', 'user admin'),
    ('deployment_logs', 'user admin'),
    ('deployment_log_text', 'user admin'),
    ('deployment_log_feed', 'user admin'),
    ('log_put', 'node'),
    ('deployment_list', 'user admin'),
    ('deployment_get', 'user admin'),
    ('credential_set', 'user admin'),
    ('credential_list', 'user admin'),
    ('credential_get', 'user admin'),
    ('credential_refresh', 'user admin'),
    ('credential_revoke', 'user admin'),
    ('vault_item_put', 'user admin'),
    ('vault_item_get', 'user admin'),
    ('vault_item_list', 'user admin'),
    ('vault_item_remove', 'user admin'),
    ('event_list', 'user admin'),
    ('alert_list', 'user admin'),
    ('alert_ack', 'user admin'),
    ('alert_resolve', 'user admin'),
    ('channel_create', 'user admin'),
    ('channel_update', 'user admin'),
    ('channel_remove', 'user admin'),
    ('channel_test', 'user admin'),
    ('channel_list', 'user admin'),
    ('channel_get', 'user admin'),
    ('outbox_list', 'user admin'),
    ('outbox_get', 'user admin'),
    ('outbox_retry', 'user admin'),
    ('database_create', 'user admin'),
    ('database_drop', 'user admin'),
    ('database_list', 'user admin'),
    ('database_get', 'user admin'),
    ('database_schema', 'user admin'),
    ('database_query', 'user admin'),
    ('database_ddl', 'user admin'),
    ('database_role_create', 'user admin'),
    ('database_role_drop', 'user admin'),
    ('database_role_list', 'user admin'),
    ('table_create', 'user admin'),
    ('table_import', 'user admin'),
    ('database_range_assign', 'user admin'),
    ('database_key_assign', 'user admin'),
    ('shard_of', 'user admin'),
    ('shard_key_text', 'user admin'),
    ('shard_hash', 'user admin'),
    ('view database', 'user admin'),
    ('view database_shard', 'user admin'),
    ('view shard_endpoint', 'user admin'),
    ('view node', 'user admin'),
    ('view discovery', 'user admin'),
    ('view node_usage', 'user admin'),
    ('view provider', 'user admin'),
    ('view region', 'user admin'),
    ('view deployment', 'user admin'),
    ('view rollout', 'user admin'),
    ('view release', 'user admin'),
    ('view replica', 'user admin'),
    ('view replica_log', 'user admin'),
    ('view endpoint', 'user admin'),
    ('view route', 'user admin'),
    ('view traffic', 'user admin'),
    ('view cron_run', 'user admin'),
    ('view package', 'user admin'),
    ('view secret', 'user admin'),
    ('view join_token', 'user admin'),
    ('view event', 'user admin'),
    ('view alert', 'user admin'),
    ('view channel', 'user admin'),
    ('view outbox', 'user admin'),
    ('view session', 'user admin'),
    ('view credential', 'user admin'),
    ('view audit', 'admin'),
    ('view node_ring', 'user admin'),
    ('view node_ring_share', 'user admin'),
    ('view node_live', 'user admin'),
    ('view system_metric', 'admin'),
    ('view worker_status', 'admin'),
    ('view listener', 'admin');
SELECT plan(45);

SELECT set_eq($$SELECT proname::text FROM pg_proc WHERE pronamespace = 'a67'::regnamespace$$,
    $$SELECT object FROM may WHERE object NOT LIKE 'view %'$$, 'every function has a row');
SELECT set_eq($$SELECT 'view ' || relname FROM pg_class WHERE relnamespace = 'a67'::regnamespace AND relkind IN ('v', 'r', 'm', 'f')$$,
    $$SELECT object FROM may WHERE object LIKE 'view %'$$, 'every view has a row');
SELECT is_empty($$
    SELECT p.proname, r FROM pg_proc p JOIN may m ON m.object = p.proname, unnest(ARRAY['anon', 'user', 'node', 'admin']) r
    WHERE p.pronamespace = 'a67'::regnamespace
      AND has_function_privilege('a67_' || r, p.oid, 'EXECUTE') <> (r = ANY (string_to_array(m.roles, ' ')))$$,
    'functions: exactly these roles may call them');
SELECT is_empty($$
    SELECT c.relname, r FROM pg_class c JOIN may m ON m.object = 'view ' || c.relname, unnest(ARRAY['anon', 'user', 'node', 'admin']) r
    WHERE c.relnamespace = 'a67'::regnamespace
      AND has_table_privilege('a67_' || r, c.oid, 'SELECT') <> (r = ANY (string_to_array(m.roles, ' ')))$$,
    'views: exactly these roles may read them');
SELECT is_empty($$
    SELECT c.relname, r FROM pg_class c, unnest(ARRAY['anon', 'user', 'node', 'admin', 'authenticator']) r,
           unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
    WHERE c.relnamespace IN ('a67'::regnamespace, 'a67_internal'::regnamespace) AND c.relkind IN ('r', 'v')
      AND has_table_privilege('a67_' || r, c.oid, p)$$, 'nobody writes a table or view directly');
-- Private functions are private but for what invoker views and functions need, and what the listener's session asks itself.
SELECT set_eq($$SELECT p.proname || ' ' || r FROM pg_proc p, unnest(ARRAY['anon', 'user', 'node', 'admin', 'authenticator']) r
                WHERE p.pronamespace = 'a67_internal'::regnamespace AND has_function_privilege('a67_' || r, p.oid, 'EXECUTE')$$,
    $$SELECT object || ' ' || r FROM (VALUES
        ('_claims_user_id', 'user admin'),
        ('_node_live', 'user admin'),
        ('_page_size', 'user admin'),
        ('_package_grace', 'user admin'),
        ('_route_host', 'user admin'),
        ('_ingress_url', 'user admin'),
        ('_ingress_on', 'user admin'),
        ('_alert_json', 'user admin'),
        ('_outbox_json', 'user admin'),
        ('_node_json', 'user admin'),
        ('_node_criteria', 'user admin'),
        ('_provider_json', 'user admin'),
        ('_deployment_json', 'user admin'),
        ('_credential_json', 'user admin'),
        ('_shard_endpoint_list', 'user admin'),
        ('_event_position', 'user admin'),
        ('_worker_status', 'admin'),
        ('_listener_status', 'admin'),
        ('_listener_url', 'admin'),
        -- Aggregates that plans of whoever reads virtual tables use; nobody else can name them.
        ('_combine_float8', 'anon user node admin authenticator'),
        ('_combine_regr', 'anon user node admin authenticator'),
        ('_variance', 'anon user node admin authenticator'),
        ('_audit', 'authenticator'),
        ('_event_feed', 'authenticator'),
        ('_event_replay', 'authenticator'),
        ('_log_heads', 'authenticator'),
        ('_node_metrics', 'authenticator')) AS private (object, roles), unnest(string_to_array(roles, ' ')) r$$,
    'private functions: exactly these roles may call them');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'a67_internal'::regnamespace AND relkind = 'r'
                  AND NOT (relrowsecurity AND relforcerowsecurity)$$, 'row-level security is on and forced everywhere');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace IN ('a67'::regnamespace, 'a67_internal'::regnamespace) AND prosecdef
                  AND NOT coalesce(proconfig::text LIKE '%search_path=pg_catalog, a67, a67_internal, pg_temp%', false)$$,
    'every SECURITY DEFINER function fixes its search path');
SELECT is_empty($$SELECT proname FROM pg_proc WHERE pronamespace = 'a67'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
    UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'a67'::regnamespace AND relkind = 'v' AND obj_description(oid, 'pg_class') IS NULL$$,
    'every public object has a comment');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace IN ('a67'::regnamespace, 'a67_internal'::regnamespace)
                  AND c.relkind IN ('r', 'v') AND has_table_privilege('a67_authenticator', c.oid, 'SELECT')$$, 'the session itself reads nothing');
SELECT is((SELECT rolcanlogin AND NOT rolinherit AND NOT rolsuper FROM pg_roles WHERE rolname = 'a67_authenticator'), true,
    'the authenticator logs in, inherits nothing, is nobody');

-- Two users, each with a node and a deployment; what one sees of the other
CREATE TEMP TABLE person (name text PRIMARY KEY, user_id uuid);
INSERT INTO person SELECT n, a67.user_create(n || '@example.com') FROM unnest(ARRAY['ann', 'bob']) n;
INSERT INTO person SELECT 'root', a67.user_create('root@example.com', 'a67_admin');
GRANT SELECT ON person TO a67_user, a67_admin, a67_node;
CREATE FUNCTION pg_temp.act_as(person text, role text DEFAULT 'a67_user') RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.name = person
$$;
SELECT throws_ok($$SELECT a67.user_create('ann@example.com')$$, '23505', NULL, 'an address twice');
SELECT throws_ok($$SELECT a67.user_create('ANN@example.com ')$$, '23505', NULL, 'in any spelling');
SELECT throws_ok($$SELECT a67.user_create('nobody')$$, '22023', NULL, 'an address that is none');
SELECT throws_ok($$SELECT a67.user_create('c@example.com', 'postgres')$$, '22023', NULL, 'a role that is none of ours');
SELECT throws_ok($$SELECT a67.token_create('00000000-0000-4000-8000-000000000001')$$, 'PT404', NULL, 'a token for nobody');
SELECT matches(a67.token_create(user_id), '^[\w-]+\.[\w-]+\.[\w-]+$', 'a token is a JWT') FROM person WHERE name = 'ann';

SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE ann_token ON COMMIT DROP AS SELECT a67.join_token_create() ->> 'token' AS token;
RESET ROLE;
SELECT a67.node_register(token, 'http://127.0.0.1:7201', repeat('x', 43), '{"cpu_cores": 1, "memory_gb": 1, "disk_gb": 1}', name => 'ann-node')
FROM ann_token \g /dev/null
UPDATE a67_internal.node_observed o SET status = 'ready' FROM a67_internal.node n WHERE n.node_id = o.node_id AND n.name = 'ann-node';
SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE ann_package ON COMMIT DROP AS SELECT a67.package_build('{"run": "1"}') AS digest;
GRANT SELECT ON ann_package TO a67_user;
SELECT is(a67.deployment_create(jsonb_build_object('name', 'ann-app', 'entrypoint', '["./x"]'::jsonb,
    'package', (SELECT digest FROM ann_package))) ->> 'status', 'pending', 'ann deploys');
SELECT isnt_empty('SELECT FROM a67.node', 'ann sees her node');
SELECT isnt_empty('SELECT FROM a67.deployment', 'her deployment');
SELECT isnt_empty('SELECT FROM a67.event', 'her events');
SELECT a67.credential_set('render', 'https://id.example.com/token', 'client', refresh_token => 'r') \g /dev/null
SELECT isnt_empty('SELECT FROM a67.credential', 'her credential');
SELECT a67.secret_set('ann-secret', 'x') \g /dev/null
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is_empty($$
    SELECT 'node' FROM a67.node UNION ALL SELECT 'discovery' FROM a67.discovery UNION ALL SELECT 'node_usage' FROM a67.node_usage UNION ALL SELECT 'deployment' FROM a67.deployment UNION ALL SELECT 'release' FROM a67.release
    UNION ALL SELECT 'replica' FROM a67.replica UNION ALL SELECT 'endpoint' FROM a67.endpoint UNION ALL SELECT 'route' FROM a67.route UNION ALL SELECT 'traffic' FROM a67.traffic UNION ALL SELECT 'package' FROM a67.package
    UNION ALL SELECT 'join_token' FROM a67.join_token UNION ALL SELECT 'event' FROM a67.event UNION ALL SELECT 'alert' FROM a67.alert
    UNION ALL SELECT 'node_live' FROM a67.node_live UNION ALL SELECT 'credential' FROM a67.credential UNION ALL SELECT 'secret' FROM a67.secret UNION ALL SELECT 'user' FROM a67_internal."user" WHERE email LIKE 'ann%'$$,
    'bob sees nothing of it');
SELECT throws_ok($$SELECT a67.deployment_stop('ann-app')$$, 'PT404', 'deployment "ann-app" does not exist', 'nor can he stop it');
SELECT throws_ok($$SELECT a67.node_deregister('ann-node')$$, 'PT404', NULL, 'nor remove her node');
SELECT throws_ok($$SELECT count(*) FROM a67.package_get('$$ || digest || $$')$$, 'PT404', NULL, 'nor fetch her package') FROM ann_package;
SELECT throws_ok($$SELECT a67.deployment_create(jsonb_build_object('name', 'b', 'entrypoint', '["./x"]'::jsonb, 'package', a67.package_build('{"run": "2"}')))$$,
    '53000', NULL, 'nor use her node');
SELECT throws_ok('SELECT a67.user_create(''d@example.com'')', '42501', NULL, 'nor make users');
SELECT throws_ok('SELECT * FROM a67.worker_status', '42501', NULL, 'nor look at the workers');
SELECT throws_ok('SELECT * FROM a67_internal.signing_key', '42501', NULL, 'nor at keys');
SELECT throws_ok('SELECT * FROM a67.audit', '42501', NULL, 'nor read what others did');
SELECT is_empty('SELECT FROM a67.session', 'nor see their logins');
SELECT is_empty($$SELECT FROM unnest(ARRAY[a67.node_list(), a67.credential_list(), a67.secret_list(), a67.vault_item_list(), a67.deployment_list(), a67.event_list(), a67.alert_list(true)]) l WHERE l <> '[]'$$,
    'every list is empty');
SELECT pg_temp.act_as('root', 'a67_admin') \g /dev/null
SELECT isnt_empty($$SELECT FROM a67.deployment WHERE name = 'ann-app'$$, 'an administrator sees it');
RESET ROLE;

-- What ann is told of, and how
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT a67.channel_create('ann-channel', 'slack', '{"url": "https://example.com/"}') \g /dev/null
RESET ROLE;
SELECT a67_internal._alert_raise(user_id, 'critical', user_id, 'ann', 'trouble') FROM person WHERE name = 'ann' \g /dev/null
UPDATE a67_internal.outbox o SET state = 'dead', done_at = now() FROM a67_internal.alert a WHERE a.alert_id = o.alert_id AND a.dedup_key = 'ann';

-- Every function that takes somebody's node, deployment or package, called on ann's. What such an argument is called, and
-- what stands for the others; a function that needs one unknown here fails.
CREATE TEMP TABLE subject AS
    SELECT 'node' AS argument, node_id::text AS id, name FROM a67.node WHERE name = 'ann-node'
    UNION ALL SELECT 'deployment', deployment_id::text, name FROM a67.deployment WHERE name = 'ann-app'
    UNION ALL SELECT 'digest', digest, digest FROM a67.package WHERE owner_id = (SELECT user_id FROM person WHERE name = 'ann')
    UNION ALL SELECT 'alert', alert_id::text, alert_id::text FROM a67.alert WHERE dedup_key = 'ann'
    UNION ALL SELECT 'channel', channel_id::text, name FROM a67.channel WHERE name = 'ann-channel'
    UNION ALL SELECT 'message', outbox_id::text, outbox_id::text FROM a67.outbox WHERE state = 'dead';
INSERT INTO subject SELECT 'join_token_id', join_token_id::text, join_token_id FROM a67.join_token
    WHERE node_id = (SELECT id::uuid FROM subject WHERE argument = 'node');
INSERT INTO subject SELECT 'credential', credential_id::text, credential_id::text FROM a67.credential;
CREATE TEMP TABLE sample (argument text PRIMARY KEY, value text);
INSERT INTO sample VALUES ('access_token', 'x'), ('changes', '{}'), ('provider', 'render'), ('replicas', '2'), ('manifest', '{}'),
    ('timeout', '0');
CREATE TEMP TABLE attempt AS
    SELECT p.proname, format('SELECT count(*) FROM a67.%I(%I => %L', p.proname, s.argument, v.value)
           || coalesce((SELECT string_agg(format(', %I => %L', a.name, (SELECT value FROM sample WHERE argument = a.name)), '')
                        FROM a67_internal._openapi_arguments(p.oid) a
                        WHERE a.name <> s.argument AND (a.required OR a.name IN (SELECT argument FROM sample))), '') || ')' AS query,
           v.how, m.roles
    FROM pg_proc p JOIN may m ON m.object = p.proname JOIN subject s ON s.argument = ANY (p.proargnames[1:p.pronargs]),
         LATERAL (VALUES ('by id', s.id), ('by name', s.name)) v (how, value)
    WHERE p.pronamespace = 'a67'::regnamespace;
GRANT SELECT ON attempt TO PUBLIC;
-- What comes of a call: 'done' (and undone), or the error's code.
CREATE FUNCTION pg_temp.try(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE query;
    RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'UNDO0' THEN 'done' ELSE SQLSTATE END;
END
$$;
SELECT is_empty($$SELECT unnest(ARRAY['node_get', 'node_update', 'node_deregister', 'join_token_revoke', 'package_get', 'deployment_get', 'deployment_scale', 'deployment_stop',
    'deployment_start', 'deployment_remove', 'credential_set', 'credential_get', 'credential_refresh', 'credential_revoke']) EXCEPT SELECT proname FROM attempt$$, 'every function on an object is found');
SELECT is_empty($$SELECT query FROM attempt WHERE query IS NULL OR query LIKE '%=> NULL%'$$, 'and can be called');
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE pg_temp.try(query) NOT IN ('done', '22023', '23503', 'PT409')$$,
    'its owner may do it all, unless it is not of that kind or in that state');
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE pg_temp.try(query) <> 'PT404'$$, 'for another user it does not exist');
SELECT pg_temp.act_as('root', 'a67_admin') \g /dev/null
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE how = 'by id' AND proname <> 'package_remove'
                  AND pg_temp.try(query) NOT IN ('done', '22023', '23503', 'PT409')$$,
    'an administrator may, by id; only packages are their owner''s alone');
RESET ROLE;
SELECT set_config('request.jwt.claims', json_build_object('sub', id, 'role', 'a67_node')::text, true) FROM subject WHERE argument = 'node' \g /dev/null
SET LOCAL ROLE a67_node;
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE roles NOT LIKE '%node%' AND pg_temp.try(query) <> '42501'$$,
    'her node may not, whatever is not for nodes');
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE roles LIKE '%node%' AND pg_temp.try(query) <> 'done'$$,
    'it may fetch its owner''s package');
SELECT set_config('request.jwt.claims', json_build_object('sub', gen_random_uuid(), 'role', 'a67_node')::text, true) \g /dev/null
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE roles LIKE '%node%' AND pg_temp.try(query) <> 'PT404'$$,
    'which an unknown node may not');
RESET ROLE;
SELECT set_config('request.jwt.claims', '', true) \g /dev/null
SET LOCAL ROLE a67_anon;
SELECT is_empty($$SELECT query, pg_temp.try(query) FROM attempt WHERE pg_temp.try(query) <> '42501'$$, 'a stranger may do nothing');
RESET ROLE;

-- Claims that lie
SELECT set_config('request.jwt.claims', '{"sub": "00000000-0000-4000-8000-000000000001", "role": "a67_user"}', true) \g /dev/null
SET LOCAL ROLE a67_user;
SELECT throws_ok('SELECT a67.join_token_create()', 'PT401', 'not authenticated', 'a subject that is no user');
SELECT set_config('request.jwt.claims', '{"role": "a67_admin"}', true) \g /dev/null
SELECT throws_ok('SELECT a67.join_token_create()', 'PT401', NULL, 'claiming a role without holding it');

RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
