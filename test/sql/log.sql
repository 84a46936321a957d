\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(63);

-- Two owners, each with a node, a deployment and replicas on their own node.
CREATE TEMP TABLE person AS SELECT n AS name, a67.user_create(n || '@log.example') AS user_id FROM unnest(ARRAY['ann', 'bob']) n;
GRANT SELECT ON person TO PUBLIC;
CREATE FUNCTION pg_temp.act_as(person text, role text DEFAULT 'a67_user') RETURNS text LANGUAGE sql AS $$
    SELECT set_config('request.jwt.claims', json_build_object('sub', p.user_id, 'role', role)::text, true) || set_config('role', role, true)
    FROM person p WHERE p.name = person
$$;
INSERT INTO a67_internal.node (node_id, owner_id, name, provider, region, endpoint, public_key, cpu_cores, memory_bytes, disk_bytes, max_concurrent_requests)
SELECT gen_random_uuid(), p.user_id, p.name || '-' || i, 'generic', 'local', 'http://127.0.0.1:1', repeat(p.name || i, 10), 1, 1, 1, 1
FROM person p, generate_series(1, 2) i;
INSERT INTO a67_internal.deployment (owner_id, name, replicas) SELECT user_id, 'shop', 2 FROM person;
INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest)
SELECT d.deployment_id, 1, '{}', repeat('0', 64) FROM a67_internal.deployment d JOIN person p ON p.user_id = d.owner_id;
INSERT INTO a67_internal.replica (deployment_id, release, node_id, memory_bytes, cpu)
SELECT d.deployment_id, 1, n.node_id, 1, 0.1
FROM a67_internal.deployment d JOIN person p ON p.user_id = d.owner_id JOIN a67_internal.node n ON n.owner_id = p.user_id;
CREATE TEMP TABLE r AS
SELECT n.name, r.replica_id AS id, n.node_id, r.deployment_id FROM a67_internal.replica r JOIN a67_internal.node n USING (node_id)
JOIN person p ON p.user_id = n.owner_id;
GRANT SELECT ON r TO PUBLIC;
CREATE FUNCTION pg_temp.id(node text) RETURNS uuid LANGUAGE sql STABLE AS 'SELECT id FROM r WHERE name = node';
CREATE FUNCTION pg_temp.chunk(node text, start bigint, data text, missing bigint DEFAULT 0, after interval DEFAULT '0') RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('replica', pg_temp.id(node), 'offset', start, 'missing', missing, 'at', now() - interval '1 hour' + after,
                              'data', encode(convert_to(data, 'UTF8'), 'base64'))
$$;
-- What the node's agent gets for these chunks.
CREATE FUNCTION pg_temp.put(node text, VARIADIC chunks jsonb[] DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', json_build_object('sub', (SELECT node_id FROM r WHERE name = node), 'role', 'a67_node')::text, true);
    PERFORM set_config('role', 'a67_node', true);
    answer := a67.log_put(to_jsonb(chunks));
    RESET ROLE;
    RETURN answer;
END
$$;
CREATE FUNCTION pg_temp.next(answer jsonb, node text) RETURNS bigint LANGUAGE sql STABLE AS $$SELECT (answer -> 'next' ->> pg_temp.id(node)::text)::bigint$$;
-- All of ann's output.
CREATE FUNCTION pg_temp.seen(VARIADIC arguments text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    PERFORM pg_temp.act_as('ann');
    EXECUTE 'SELECT string_agg(line, ''|'') FROM a67.deployment_logs(' || array_to_string(ARRAY[quote_literal('shop')] || arguments, ', ') || ')' INTO found;
    RESET ROLE;
    RETURN found;
END
$$;

-- Taking
SELECT is(pg_temp.put('ann-1') - 'rate', '{"next": {}, "unknown": []}', 'nothing is fine');
SELECT is((pg_temp.put('ann-1') ->> 'rate')::bigint, 262144::bigint, 'a node is told how much it may send');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 0, E'one\n')), 'ann-1'), 4::bigint, 'a first chunk');
SELECT is(pg_temp.seen(), 'one', 'can be read');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 0, E'one\n')), 'ann-1'), 4::bigint, 'the same once more');
SELECT is(pg_temp.seen(), 'one', 'is kept once');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 0, E'one\ntwo\n')), 'ann-1'), 8::bigint, 'one that overlaps');
SELECT is(pg_temp.seen(), 'one|two', 'adds what is new in it');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 20, E'x\n')), 'ann-1'), 8::bigint, 'a hole that the node does not own up to is refused');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 20, E'x\n', 5)), 'ann-1'), 8::bigint, 'also when it owns up to a part of it');
SELECT is(pg_temp.seen(), 'one|two', 'nothing of it is kept');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 20, E'three\n', 12, '1 s')), 'ann-1'), 26::bigint, 'one that it does own up to');
SELECT is(pg_temp.seen(), 'one|two|-- a67: 12 bytes of output are missing here|three', 'is marked');
SELECT is(missing_bytes, 12::bigint, 'and counted') FROM a67_internal.replica_log WHERE replica_id = pg_temp.id('ann-1');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 10, E'late\n', 10)), 'ann-1'), 26::bigint, 'what comes after it was given up is too late');
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 26, 'half'), pg_temp.chunk('ann-1', 30, E' line\nfour\n')), 'ann-1'), 41::bigint, 'two in a batch');
SELECT is(pg_temp.seen('2'), ' line|four', 'the last lines');
SELECT is((SELECT string_agg(u.line, '|' ORDER BY u.place) FROM a67_internal._log_unfold(0, E'\nfive\n\n\n') u), '|five||', 'empty lines are lines');
SELECT is(pg_temp.seen('0'), NULL, 'no lines');
SELECT is(lines, 2, 'lines are counted as they are shown') FROM a67_internal.log_chunk WHERE convert_from(data, 'UTF8') = E' line\nfour\n';

-- Whose it is
SELECT is(pg_temp.put('bob-1', pg_temp.chunk('ann-1', 41, E'forged\n')) -> 'unknown', jsonb_build_array(pg_temp.id('ann-1')), 'a stranger''s node writes nothing');
SELECT is(pg_temp.put('ann-2', pg_temp.chunk('ann-1', 41, E'forged\n')) -> 'unknown', jsonb_build_array(pg_temp.id('ann-1')), 'nor does another node of the owner');
SELECT unalike(pg_temp.seen(), '%forged%', 'so nothing is there');
SELECT is(jsonb_array_length(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 41, E'five\n'), pg_temp.chunk('ann-1', 0, 'x') || jsonb_build_object('replica', gen_random_uuid())) -> 'unknown'),
    1, 'an unknown replica does not hold up the others');
SELECT is(pg_temp.seen('1'), 'five', 'of the same batch');
SELECT throws_ok($$SELECT pg_temp.act_as('ann'); SELECT a67.log_put('[]')$$, '42501', NULL, 'users do not ship');
RESET ROLE;
SELECT pg_temp.act_as('bob') \g /dev/null
SELECT is_empty($$SELECT FROM a67.deployment_logs('shop')$$, 'another user''s deployment of that name has its own');
SELECT throws_ok(format('SELECT FROM a67.deployment_logs(%L)', deployment_id), 'PT404', NULL, 'hers is not there for him') FROM r WHERE name = 'ann-1';
SELECT throws_ok(format('SELECT a67.deployment_log_text(%L)', deployment_id), 'PT404', NULL, 'nor as text') FROM r WHERE name = 'ann-1';
SELECT throws_ok(format('SELECT a67.deployment_log_feed(%L)', deployment_id), 'PT404', NULL, 'nor to follow') FROM r WHERE name = 'ann-1';
SELECT is_empty('SELECT FROM a67.replica_log', 'nor its figures');
RESET ROLE;
SELECT pg_temp.act_as('bob', 'a67_admin') \g /dev/null
SELECT isnt_empty(format('SELECT FROM a67.deployment_logs(%L)', deployment_id), 'an administrator reads it, by id') FROM r WHERE name = 'ann-1';
RESET ROLE;

-- Malformed batches
SELECT throws_ok($$SELECT a67_internal._log_chunks('{}')$$, '22023', 'chunks must be an array of at most 1000', 'no array');
SELECT throws_ok($$SELECT a67_internal._log_chunks('[1]')$$, '22023', 'a chunk must be an object', 'no object');
SELECT throws_ok(format('SELECT a67_internal._log_chunks(%L)', jsonb_build_array(pg_temp.chunk('ann-1', 0, 'x') || change)), '22023', NULL, change::text)
FROM unnest(ARRAY['{"offset": -1}', '{"offset": "0"}', '{"offset": 1.5}', '{"offset": null}', '{"missing": 9}', '{"replica": "x"}', '{"at": "soon"}', '{"data": "%"}', '{"data": ""}', '{"more": 1}']::jsonb[]) change;
SELECT throws_ok(format('SELECT a67_internal._log_chunks(%L)', jsonb_build_array(pg_temp.chunk('ann-1', 0, repeat('x', 32769)))), '22023', NULL, 'a chunk that is too large');

-- Binary output
SELECT is(a67_internal._log_text('\x61ff62e282ac63e28264006503'), E'a\uFFFDb\u20ACc\uFFFD\uFFFDd\uFFFDe\x03', 'what is no text becomes visible');
SELECT is(a67_internal._log_lines('\x0a0a61'), 3, 'lines, one unfinished');
SELECT pg_temp.put('ann-2', pg_temp.chunk('ann-2', 0, 'x', 0, '2 s') || jsonb_build_object('data', encode('\x00ff0a', 'base64'))) \g /dev/null
SELECT is(pg_temp.seen('100', 'NULL', quote_literal(pg_temp.id('ann-2'))), E'\uFFFD\uFFFD', 'of one replica');

-- Time
SELECT pg_temp.put('ann-1', pg_temp.chunk('ann-1', 46, E'ten\n', 0, '10 s')), pg_temp.put('ann-2', pg_temp.chunk('ann-2', 3, E'nine\n', 0, '9 s')) \g /dev/null
SELECT is(pg_temp.seen('2'), 'nine|ten', 'replicas are merged by time');
SELECT is(pg_temp.seen('100', quote_literal(now() - interval '1 hour' + interval '9 s')), 'nine|ten', 'since a time');
SELECT pg_temp.put('ann-2', pg_temp.chunk('ann-2', 8, E'clock\n', 0, '-1 day')) \g /dev/null
SELECT is(pg_temp.seen('2', quote_literal(now() - interval '1 hour' + interval '9 s')), 'clock|ten', 'a clock that goes back changes no order');
SELECT throws_ok($$SELECT pg_temp.seen('-1')$$, '22023', NULL, 'a negative tail');
RESET ROLE;

-- Following
SELECT pg_temp.act_as('ann') \g /dev/null
CREATE TEMP TABLE feed AS SELECT a67.deployment_log_feed('shop', tail => 1) AS page;
SELECT matches(page ->> 'text', '^\S+Z ann-1/[0-9a-f]{8} ten\n$', 'begins with the tail') FROM feed;
SELECT is(a67.deployment_log_feed('shop', (page ->> 'reached')::bigint) ->> 'text', '', 'and there is nothing behind it') FROM feed;
RESET ROLE;
SELECT pg_temp.put('ann-1', pg_temp.chunk('ann-1', 50, E'eleven\n', 0, '11 s')) \g /dev/null
SELECT pg_temp.act_as('ann') \g /dev/null
SELECT matches(a67.deployment_log_feed('shop', (page ->> 'reached')::bigint) ->> 'text', 'eleven\n$', 'until something comes') FROM feed;
SELECT throws_ok($$SELECT a67.deployment_log_text('shop', follow => true)$$, '22023', 'only the listener can follow', 'text is not followed');
RESET ROLE;

-- Bounds
SET LOCAL a67.log_size = '1MB';
SELECT pg_temp.put('ann-1', pg_temp.chunk('ann-1', 57 + i * 30000, repeat('x', 29999) || E'\n')) FROM generate_series(0, 3) i \g /dev/null
SELECT cmp_ok(bytes, '<=', 65536::bigint, 'a replica has a sixteenth') FROM a67_internal.replica_log WHERE replica_id = pg_temp.id('ann-1');
SELECT is(l.bytes + l.pruned_bytes + l.missing_bytes, l.next_offset, 'every byte is accounted for') FROM a67_internal.replica_log l WHERE replica_id = pg_temp.id('ann-1');
SELECT is((SELECT sum(length(data)) FROM a67_internal.log_chunk WHERE deployment_id = d.deployment_id), d.bytes, 'the books are right')
FROM a67_internal.deployment_log d WHERE deployment_id = (SELECT deployment_id FROM r WHERE name = 'ann-1');
SELECT cmp_ok(a67_internal._log_prune(now() + interval '4 days'), '>', 0::bigint, 'after three days');
SELECT is(pg_temp.seen(), NULL, 'nothing is left');
SELECT is(sum(bytes), 0::numeric, 'in the books either') FROM a67_internal.replica_log l JOIN r ON r.id = l.replica_id;
SELECT is(pg_temp.next(pg_temp.put('ann-1', pg_temp.chunk('ann-1', 120057, E'on\n')), 'ann-1'), 120060::bigint, 'but the position is');
SELECT * FROM finish();
ROLLBACK;
