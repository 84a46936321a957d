\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(76);

-- Rows as the registry and the reconciler would write them; the ingress is on for this transaction.
CREATE OR REPLACE FUNCTION a67_internal._ingress_on() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT true';
CREATE FUNCTION pg_temp.t(after interval) RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + after';
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid$$;
CREATE TEMP TABLE person AS SELECT n AS name, a67.user_create(n || '@example.com') AS user_id FROM unnest(ARRAY['ann', 'bob']) n;
CREATE FUNCTION pg_temp.owner(name text) RETURNS uuid LANGUAGE sql AS 'SELECT user_id FROM person p WHERE p.name = owner.name';
INSERT INTO a67_internal.node (node_id, owner_id, name, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes, max_concurrent_requests)
SELECT pg_temp.id(n), pg_temp.owner('ann'), 'n' || n, e, repeat('k', 40) || n, n, 1 << 30, 1 << 30, 100
FROM (VALUES (1, 'https://10.0.0.1:7200'), (2, 'https://10.0.0.2:7200'), (3, 'https://[2001:db8::3]:7200'),
             (4, 'https://node4.example.net:7200')) v (n, e);
INSERT INTO a67_internal.node_observed (node_id, status) SELECT pg_temp.id(n), 'ready' FROM generate_series(1, 4) n;

CREATE FUNCTION pg_temp.deployment(n integer, name text, owner text DEFAULT 'ann', more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO a67_internal.deployment (deployment_id, owner_id, name, replicas, app_type)
    VALUES (pg_temp.id(n), pg_temp.owner(owner), name, 1, coalesce(more ->> 'app_type', 'backend'));
    INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest)
    SELECT pg_temp.id(n), r, jsonb_build_object('name', name, 'app_type', 'backend', 'balance', 'leastconn') || more, 'x' FROM generate_series(1, 2) r;
$$;
CREATE FUNCTION pg_temp.claim(n integer, owner text, routes jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT a67_internal._routes_claim(d.deployment_id, pg_temp.owner(owner), jsonb_build_object('name', d.name, 'app_type', 'backend', 'routes', routes))
    FROM a67_internal.deployment d WHERE d.deployment_id = pg_temp.id(n)
$$;
CREATE FUNCTION pg_temp.replica(n integer, deployment integer, node integer, release integer DEFAULT 1, state text DEFAULT 'running') RETURNS void
LANGUAGE sql AS $$
    INSERT INTO a67_internal.replica (replica_id, deployment_id, release, node_id, memory_bytes, cpu, state, port, pushed_generation)
    VALUES (pg_temp.id(n), pg_temp.id(deployment), release, pg_temp.id(node), 1, 0, state, 4000 + n, 1)
$$;
CREATE FUNCTION pg_temp.routes(n integer) RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(host || path, ' ' ORDER BY host, path) FROM a67.route WHERE deployment_id = pg_temp.id(n)$$;

-- ---- routes: who may claim what
SELECT pg_temp.deployment(101, 'shop'), pg_temp.deployment(102, 'shop', 'bob'), pg_temp.deployment(103, 'api'), pg_temp.deployment(104, 'evil', 'bob') \g /dev/null
SELECT pg_temp.claim(101, 'ann', '[]') \g /dev/null
SELECT is(pg_temp.routes(101), 'shop.localhost/', 'without routes it has its name below the domain');
SELECT is((SELECT url FROM a67.route WHERE deployment = 'shop'), 'http://shop.localhost:8080/', 'and so a URL');
SELECT pg_temp.claim(102, 'bob', '[]') \g /dev/null
SELECT is(pg_temp.routes(102), 'shop-00000000.localhost/', 'the same name of another user gets another');
SELECT pg_temp.claim(101, 'ann', '[]'), pg_temp.claim(102, 'bob', '[]') \g /dev/null
SELECT is(pg_temp.routes(101) || ' ' || pg_temp.routes(102), 'shop.localhost/ shop-00000000.localhost/', 'claiming again changes nothing');
SELECT pg_temp.claim(101, 'ann', '[{"host": "WWW.Example.org"}, {"host": "www.example.org", "path": "/a/b/"}]') \g /dev/null
SELECT is(pg_temp.routes(101), 'shop.localhost/ www.example.org/ www.example.org/a/b', 'hosts in lower case, paths without a slash at the end');
SELECT lives_ok($$SELECT pg_temp.claim(103, 'ann', '[{"host": "www.example.org", "path": "/api"}, {"path": "/x"}]')$$, 'a host may be shared by one user''s apps');
SELECT throws_ok($$SELECT pg_temp.claim(103, 'ann', '[{}, {"host": "www.example.org", "path": "/a/b"}]')$$, '23505',
    'route "www.example.org/a/b" is taken', 'a route has one app');
SELECT is(pg_temp.routes(103), 'api.localhost/x www.example.org/api', 'refused as a whole');
SELECT throws_ok($$SELECT pg_temp.claim(104, 'bob', '[{"host": "www.example.org", "path": "/login"}]')$$, '23505',
    'route "www.example.org/login" is taken', 'nobody else gets a path of a host');
SELECT throws_ok($$SELECT pg_temp.claim(104, 'bob', '[{"host": "shop.localhost", "path": "/login"}]')$$, '23505',
    'route "shop.localhost/login" is taken', 'nor of a name below the domain');
SELECT throws_ok(format($$SELECT pg_temp.claim(104, 'bob', jsonb_build_array(jsonb_build_object('host', %L::text)))$$, host), '22023', NULL, 'refused: ' || what)
FROM (VALUES ('localhost', 'the domain itself'), ('a.b.localhost', 'two labels below it'), ('ns.localhost', 'the name server'),
    ('single', 'one label'), ('10.1.2.3', 'an address'), ('1.2', 'what looks like one'), ('*.example.org', 'a wildcard'), ('a..b', 'an empty label'),
    ('-a.example.org', 'a label with a dash at its edge'), (repeat('a', 64) || '.org', 'a long label'), (repeat('a.', 100) || 'org', 'a long name'),
    ('x.org:80', 'a port'), ('x.org/', 'a path'), (E'x.org\nserver evil 6.6.6.6:1', 'a line break'), ('x.org evil', 'a blank'),
    ('x".org', 'a quote'), ('x.org }', 'a brace'), ('%[src].org', 'an expression'), ('ex.org#', 'a comment'), ('xn--é.org', 'a letter beyond ASCII'),
    ('', 'nothing')) v (host, what);
SELECT throws_ok(format($$SELECT pg_temp.claim(104, 'bob', jsonb_build_array(jsonb_build_object('path', %L::text)))$$, path), '22023', NULL, 'refused: ' || what)
FROM (VALUES ('', 'no path'), ('x', 'no slash'), ('//x', 'two slashes'), ('/x//y', 'two inside'), ('/../x', 'the one above'), ('/a/..', 'it at the end'),
    ('/./x', 'the same'), ('/a b', 'a blank'), (E'/a\nb', 'a line break'), ('/a?b', 'a query'), ('/%2e%2e', 'an escape'), ('/a"', 'a quote'),
    ('/' || repeat('a', 255), 'a long path')) v (path, what);
SELECT is(pg_temp.routes(104), NULL, 'nothing of that was kept');
SELECT pg_temp.deployment(105, 'ns'), pg_temp.deployment(106, 'batch', 'ann', '{"app_type": "worker"}') \g /dev/null
SELECT pg_temp.claim(105, 'ann', '[]') \g /dev/null
SELECT is(pg_temp.routes(105), 'ns-00000000.localhost/', 'an app called ns leaves the name server its name');
SELECT a67_internal._routes_claim(pg_temp.id(106), pg_temp.owner('ann'), '{"name": "batch", "app_type": "worker"}') \g /dev/null
SELECT is(pg_temp.routes(106), NULL, 'a worker has no routes');
-- A release that goes takes its routes along
UPDATE a67_internal.release SET manifest = manifest || '{"routes": [{"host": "new.example.org"}]}' WHERE deployment_id = pg_temp.id(103) AND number = 2;
SELECT pg_temp.claim(103, 'ann', '[{"host": "new.example.org"}]') \g /dev/null
SELECT is(pg_temp.routes(103), 'api.localhost/x new.example.org/ www.example.org/api', 'both while one becomes the other');
UPDATE a67_internal.deployment SET release = 2 WHERE deployment_id = pg_temp.id(103);
SELECT is(pg_temp.routes(103), 'new.example.org/', 'then those of the new one alone');
DELETE FROM a67_internal.route WHERE deployment_id IN (pg_temp.id(103), pg_temp.id(105));
SELECT is((SELECT count(*) FROM a67.endpoint WHERE kind = 'public'), 0::bigint, 'no replica, no endpoint');

-- ---- the configuration
SELECT is(a67_internal._ingress_host(e), h, 'host of ' || e) FROM (VALUES ('https://10.0.0.1:7200', '10.0.0.1'), ('http://[::1]:1', '[::1]'),
    ('https://Node.Example.net:1/x', 'node.example.net'), ('http://localhost:1', '127.0.0.1'), (E'http://a b\nserver x:1', NULL),
    ('http://1.2.3:1', NULL), ('http://-a:1', NULL)) v (e, h);
DELETE FROM a67_internal.deployment WHERE deployment_id IN (pg_temp.id(103), pg_temp.id(104), pg_temp.id(105));
SELECT pg_temp.replica(1, 101, 1), pg_temp.replica(2, 101, 3), pg_temp.replica(3, 101, 4), pg_temp.replica(4, 102, 2), pg_temp.replica(5, 106, 1),
       pg_temp.replica(6, 101, 1, 1, 'starting') \g /dev/null
SELECT is(a67_internal._ingress_config(), a67_internal._ingress_config(), 'the same rows make the same text');
SELECT is((SELECT count(*) FROM regexp_matches(a67_internal._ingress_config(), 'server 0000', 'g')), 0::bigint, 'before they are noted no server is in it');
SELECT a67_internal._ingress_plan(pg_temp.t('0'), NULL) \g /dev/null
SELECT is((SELECT string_agg(right(replica_id::text, 1) || routed, ' ' ORDER BY replica_id) FROM a67_internal.replica WHERE deployment_id <> pg_temp.id(106)),
    '1joining 2joining 3joining 4joining 6out', 'running ones are about to get requests');
\echo --- routes
SELECT a67_internal._ingress_routes();
\echo --- configuration
SELECT a67_internal._ingress_config();
\echo ---
SELECT isnt(md5(a67_internal._ingress_text(false)), NULL, 'what needs a reload has a digest');
CREATE TEMP TABLE digest AS SELECT md5(a67_internal._ingress_text(false)) AS before;
UPDATE a67_internal.node_observed SET status = 'degraded' WHERE node_id IN (pg_temp.id(1), pg_temp.id(4));
UPDATE a67_internal.replica SET port = 4999 WHERE replica_id = pg_temp.id(1);
SELECT is(md5(a67_internal._ingress_text(false)), before, 'weights and addresses need no reload') FROM digest;
UPDATE a67_internal.replica SET port = 4999 WHERE replica_id = pg_temp.id(3);
SELECT isnt(md5(a67_internal._ingress_text(false)), before, 'a server by name does') FROM digest;
UPDATE a67_internal.deployment SET name = E'x\nserver evil 6.6.6.6:1' WHERE deployment_id = pg_temp.id(102);
SELECT ok(position(E'\nserver' IN a67_internal._ingress_config()) = 0 AND position('# x?server?evil?6?6?6?6?1' IN a67_internal._ingress_config()) > 0,
    'even a name that could not be is no line of its own');

-- ---- weights
CREATE FUNCTION pg_temp.weights() RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(right(replica_id::text, 1) || ':' || weight, ' ' ORDER BY replica_id) FROM a67_internal._ingress_members()
      WHERE deployment_id = pg_temp.id(101)$$;
SELECT is(pg_temp.weights(), '1:1 2:2 3:1', 'half on a degraded node');
UPDATE a67_internal.node_observed SET status = 'suspect' WHERE node_id = pg_temp.id(4);
SELECT is(pg_temp.weights(), '1:2 2:4 3:1', 'a quarter on one that is not heard of');
UPDATE a67_internal.node_observed SET status = 'offline' WHERE node_id = pg_temp.id(4);
SELECT is(pg_temp.weights(), '1:1 2:2', 'nothing on one that is gone');
UPDATE a67_internal.node_observed SET status = 'ready';
UPDATE a67_internal.replica SET state = 'running' WHERE replica_id = pg_temp.id(6);
SELECT is((SELECT string_agg(slots::text, ' ' ORDER BY replica_id) FROM a67_internal._ingress_members() WHERE deployment_id = pg_temp.id(101)),
    '50 100 100 50', 'a node''s requests are divided among its replicas');
UPDATE a67_internal.replica SET release = 2 WHERE replica_id = pg_temp.id(6);
INSERT INTO a67_internal.rollout (rollout_id, deployment_id, from_release, to_release, strategy, state, weight, old_target)
VALUES (pg_temp.id(1), pg_temp.id(101), 1, 2, '{"type": "canary"}', 'paused', 10, 3);
SELECT is(pg_temp.weights(), '1:3 2:3 3:3 6:1', 'a canary gets its percentage');
SELECT ok(position('balance roundrobin' IN a67_internal._ingress_text(false)) > 0, 'dealt exactly');
UPDATE a67_internal.rollout SET weight = 0;
SELECT is(pg_temp.weights(), '1:1 2:1 3:1 6:0', 'none yet');
UPDATE a67_internal.replica SET state = 'unhealthy' WHERE release = 1;
SELECT is(pg_temp.weights(), '6:0', 'none even when nobody else is there');
UPDATE a67_internal.rollout SET weight = 100, strategy = '{"type": "blue_green"}';
UPDATE a67_internal.replica SET state = 'running' WHERE release = 1;
SELECT is(pg_temp.weights(), '1:0 2:0 3:0 6:1', 'or all');
UPDATE a67_internal.rollout SET weight = 10, strategy = '{"type": "rolling"}';
SELECT is(pg_temp.weights(), '1:1 2:1 3:1 6:1', 'a rolling one deals evenly');
DELETE FROM a67_internal.rollout;
SELECT is(pg_temp.weights(), '1:1 2:1 3:1 6:0', 'without a rollout another release gets nothing');
UPDATE a67_internal.replica SET state = 'unhealthy' WHERE release = 1;
SELECT is(pg_temp.weights(), '6:1', 'unless it is all there is');

SELECT * FROM finish();
ROLLBACK;
