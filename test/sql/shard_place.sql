\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(202);
-- A database of four shards that nobody connects to: where keys are, and what conditions leave, is decided here.
INSERT INTO a67_internal.database (database_id, name) VALUES ('00000000-0000-0000-0000-00000000a67d', 'place');
INSERT INTO a67_internal.database_shard (database_id, name, weight, server_version)
SELECT '00000000-0000-0000-0000-00000000a67d', 's' || n, 1, 150000 FROM generate_series(1, 4) n;
CREATE SCHEMA place;
CREATE SERVER a67_place FOREIGN DATA WRAPPER a67_fdw OPTIONS (database 'place');
CREATE DOMAIN place.code AS text;
CREATE TYPE place.colour AS ENUM ('red', 'green', 'blue');
CREATE FOREIGN TABLE place.account (id integer, branch integer, note text) SERVER a67_place OPTIONS (strategy 'hash', key 'id');
CREATE FOREIGN TABLE place.person (code place.code, nick name, tag char(8)) SERVER a67_place OPTIONS (strategy 'hash', key 'code');
CREATE FOREIGN TABLE place.tagged (tag char(8)) SERVER a67_place OPTIONS (strategy 'hash', key 'tag');
CREATE FOREIGN TABLE place.nick (nick name) SERVER a67_place OPTIONS (strategy 'hash', key 'nick');
CREATE FOREIGN TABLE place.flag (flag boolean) SERVER a67_place OPTIONS (strategy 'directory', key 'flag', mapping 'flag');
CREATE FOREIGN TABLE place.event (at timestamptz) SERVER a67_place OPTIONS (strategy 'hash', key 'at');
CREATE FOREIGN TABLE place.box (items integer[]) SERVER a67_place OPTIONS (strategy 'hash', key 'items');
CREATE FOREIGN TABLE place.log (day date, line integer) SERVER a67_place OPTIONS (strategy 'range', key 'day', mapping 'day');
CREATE FOREIGN TABLE place.reading (day date) SERVER a67_place OPTIONS (strategy 'range', key 'day', mapping 'day');
CREATE FOREIGN TABLE place.word (word text) SERVER a67_place OPTIONS (strategy 'range', key 'word', mapping 'word');
CREATE FOREIGN TABLE place.big (n integer) SERVER a67_place OPTIONS (strategy 'range', key 'n', mapping 'n');
CREATE FOREIGN TABLE place.span (length interval) SERVER a67_place OPTIONS (strategy 'range', key 'length', mapping 'length');
CREATE FOREIGN TABLE place.paint (colour place.colour) SERVER a67_place OPTIONS (strategy 'range', key 'colour', mapping 'colour');
CREATE FOREIGN TABLE place.tenant (tenant text) SERVER a67_place OPTIONS (strategy 'directory', key 'tenant', mapping 'tenant');
CREATE FOREIGN TABLE place.region (region text) SERVER a67_place OPTIONS (strategy 'reference');
CREATE FOREIGN TABLE place.setting (name text) SERVER a67_place OPTIONS (strategy 'local', shard 's2');
CREATE FUNCTION pg_temp.shard(name text) RETURNS integer LANGUAGE sql AS $$
    SELECT shard_id FROM a67_internal.database_shard s WHERE s.name = $1 AND s.database_id = '00000000-0000-0000-0000-00000000a67d'
$$;
INSERT INTO a67_internal.shard_range (database_id, mapping, lower_bound, upper_bound, shard_id)
SELECT '00000000-0000-0000-0000-00000000a67d', r.mapping, r.lower, r.upper, pg_temp.shard(r.shard)
FROM (VALUES ('day', NULL, '2024-01-01', 's1'), ('day', '2024-01-01', '2025-01-01', 's2'), ('day', '2026-01-01', '2027-01-01', 's1'),
             ('word', 'h', 'p', 's2'), ('word', NULL, 'h', 's1'), ('word', 'p', NULL, 's3'), ('n', '0', '100', 's1'), ('n', '100', '1000', 's2'),
             ('length', NULL, '86400000000', 's3'), ('length', '86400000000', NULL, 's4'), ('colour', 'red', 'blue', 's1'), ('colour', 'blue', NULL, 's2'))
     r (mapping, lower, upper, shard);
INSERT INTO a67_internal.shard_directory (database_id, mapping, key, shard_id)
SELECT '00000000-0000-0000-0000-00000000a67d', t.mapping, t.key, pg_temp.shard(t.shard)
FROM (VALUES ('tenant', 'acme', 's1'), ('tenant', 'globex', 's2'), ('tenant', 'initech', 's3'), ('tenant', repeat('long', 50), 's4'),
             ('flag', 'true', 's1'), ('flag', 'false', 's2')) t (mapping, key, shard);

CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

-- ---- one key ----
SELECT is(a67.shard_of('place.account', k::text), (a67.ring_lookup(k::text, ARRAY['s1', 's2', 's3', 's4']))[1], 'the ring decides about ' || k)
FROM unnest(ARRAY[0, 1, 5, -77, 2147483647]) k;
SELECT is(a67.shard_of(relation, key), shard, format('%s in %s', key, relation)) FROM (VALUES
    ('place.person'::regclass, 'Grüße', (a67.ring_lookup('Grüße', ARRAY['s1', 's2', 's3', 's4']))[1]),
    ('place.event', '2024-01-01 02:00+02', (a67.ring_lookup('2024-01-01 00:00:00+00', ARRAY['s1', 's2', 's3', 's4']))[1]),
    ('place.log', '-infinity', 's1'), ('place.log', '2023-12-31', 's1'), ('place.log', '2024-01-01', 's2'), ('place.log', '2024-12-31', 's2'),
    ('place.log', '2025-01-01', NULL), ('place.log', '2026-07-01', 's1'), ('place.log', '2027-01-01', NULL), ('place.log', 'infinity', NULL),
    ('place.word', '', 's1'), ('place.word', 'h', 's2'), ('place.word', 'gz', 's1'), ('place.word', 'z', 's3'),
    ('place.big', '-1', NULL), ('place.big', '99', 's1'), ('place.span', '23 hours', 's3'), ('place.span', '24:00', 's4'), ('place.span', '1 mon -29 days', 's4'),
    ('place.paint', 'green', 's1'), ('place.paint', 'blue', 's2'),
    ('place.tenant', 'acme', 's1'), ('place.tenant', 'nobody', NULL), ('place.tenant', repeat('long', 50), 's4'), ('place.flag', 'off', 's2'),
    ('place.setting', 'anything', 's2')) v (relation, key, shard);
CREATE DOMAIN place.trap AS text CHECK (pg_read_file(value) IS NULL);
CREATE FOREIGN TABLE place.trap_one (k place.trap) SERVER a67_place OPTIONS (strategy 'hash', key 'k');
CREATE FOREIGN TABLE place.trap_many (k place.trap[]) SERVER a67_place OPTIONS (strategy 'hash', key 'k');
SELECT isnt(a67.shard_of('place.trap_one', 'x'), NULL, 'a domain''s CHECK is not run');
SELECT isnt(a67.shard_of('place.trap_many', '{x}'), NULL, 'nor is that of elements');
SELECT is(a67.shard_of('place.account', NULL), NULL, 'a null key is nowhere');
SELECT throws_ok($$SELECT a67.shard_of('place.account', 'x')$$, '22P02', NULL, 'a key of another type');
SELECT throws_ok($$SELECT a67.shard_of('place.region', 'x')$$, '42809', '"region" is a reference table', 'a row that is on all shards');
SELECT throws_ok($$SELECT a67.shard_of('pg_class', 'x')$$, '42809', '"pg_class" is not a virtual table', 'a table of the server''s');
SELECT throws_ok($$SELECT a67.shard_of(999999999::regclass, 'x')$$, '42P01', NULL, 'no table');

-- ---- conditions ----
CREATE TABLE condition (place serial, relation text, condition text, shards text);
INSERT INTO condition (relation, condition, shards) VALUES
    ('account', 'true', 's1 s2 s3 s4'),
    ('account', 'id = 5', '{5}'),
    ('account', '5 = id', '{5}'),
    ('account', 'id = 5::bigint', '{5}'),
    ('account', 'id = 5.0', '{5}'),
    ('account', 'id::numeric = 5.000', '{5}'),
    ('account', 'id::bigint = 5', '{5}'),
    ('account', 'id = 5::float8', 's1 s2 s3 s4'),
    ('account', 'id = 2 + 3', '{5}'),
    ('account', 'id = length(''hello'')', '{5}'),
    ('account', 'id IN (5, 6, 700)', '{5,6,700}'),
    ('account', 'id IN (5, NULL)', '{5}'),
    ('account', 'id = ANY (''{5,9,NULL}''::bigint[])', '{5,9}'),
    ('account', 'id = ANY (NULL::integer[])', ''),
    ('account', 'id = ANY (''{}''::integer[])', ''),
    ('account', 'id = ALL (''{}''::integer[])', 's1 s2 s3 s4'),
    ('account', 'id = ALL (''{5,5}''::integer[])', '{5}'),
    ('account', 'id = ALL (''{5,NULL}''::integer[])', ''),
    ('account', 'id <> ALL (''{5,6}''::integer[])', 's1 s2 s3 s4'),
    ('account', 'NOT id <> ALL (''{5,6}''::integer[])', '{5,6}'),
    ('account', 'NOT id = ANY (''{5}''::integer[])', 's1 s2 s3 s4'),
    ('account', 'id = 5 OR id = 8', '{5,8}'),
    ('account', 'id = 5 OR branch = 8', 's1 s2 s3 s4'),
    ('account', '(id = 5 AND branch = 1) OR (id = 8 AND note LIKE ''x%%'')', '{5,8}'),
    ('account', 'NOT id <> 5', '{5}'),
    ('account', 'NOT (id <> 5 OR branch = 1)', '{5}'),
    ('account', 'NOT (id <> 5 AND id <> 9)', '{5,9}'),
    ('account', 'NOT (NOT (id = 5))', '{5}'),
    ('account', 'id IS NULL', ''),
    ('account', 'id IS NOT NULL', 's1 s2 s3 s4'),
    ('account', 'NOT id IS NOT NULL', ''),
    ('account', 'branch IS NULL', 's1 s2 s3 s4'),
    ('account', 'id = NULL', ''),
    ('account', 'id <> 5', 's1 s2 s3 s4'),
    ('account', 'id > 5', 's1 s2 s3 s4'),
    ('account', 'id IS NOT DISTINCT FROM 5', '{5}'),
    ('account', 'id IS DISTINCT FROM 5', 's1 s2 s3 s4'),
    ('account', 'id IS NOT DISTINCT FROM NULL', ''),
    ('account', '1 = 0', ''),
    ('account', 'NULL', ''),
    ('account', 'NOT true', ''),
    ('account', 'id = 5 AND 1 = 1', '{5}'),
    ('account', 'id = 5 OR 1 = 0', '{5}'),
    ('account', 'id = 5 OR true', 's1 s2 s3 s4'),
    ('account', '(id = 5) IS TRUE', '{5}'),
    ('account', '(id = 5) IS NOT TRUE', 's1 s2 s3 s4'),
    ('account', '(id <> 5) IS FALSE', '{5}'),
    ('account', 'NOT ((id = 5) IS NOT TRUE)', '{5}'),
    ('account', '(id = 5) IS UNKNOWN', 's1 s2 s3 s4'),
    ('account', 'id = branch', 's1 s2 s3 s4'),
    ('account', 'id = (random() * 10)::integer', 's1 s2 s3 s4'),
    ('account', 'id = (SELECT 5)', 's1 s2 s3 s4'),
    ('account', 'CASE WHEN id = 5 THEN true ELSE false END', 's1 s2 s3 s4'),
    ('account', '(id, branch) IN ((5, 1), (9, 2))', '{5,9}'),
    ('account', '(id, branch) = (5, 6)', '{5}'),
    ('account', 'ROW(id, branch) < ROW(5, 6)', 's1 s2 s3 s4'),
    ('account', 'id::text = ''5''', 's1 s2 s3 s4'),
    ('account', 'id % 2 = 1', 's1 s2 s3 s4'),
    ('account', '-id = 5', 's1 s2 s3 s4'),
    ('person', 'code = ''a''', '{a}'),
    ('person', 'code = ''a''::varchar', '{a}'),
    ('person', 'code COLLATE "C" = ''a''', '{a}'),
    ('person', 'code COLLATE folding = ''a''', 's1 s2 s3 s4'),
    ('person', 'code = ''a''::name', '{a}'),
    ('person', 'code = ''a ''::char(8)', '{a}'),
    ('person', 'code LIKE ''a''', 's1 s2 s3 s4'),
    ('person', 'nick = ''a''', 's1 s2 s3 s4'),
    ('tagged', 'tag = ''a''', '{a}'),
    ('tagged', 'tag = ''a   ''', '{a}'),
    ('tagged', 'tag::text = ''a''', '{a}'),
    ('tagged', 'tag = ''a ''::varchar', '{a }'),
    ('person', 'code::char(8) = ''a''', 's1 s2 s3 s4'),
    ('person', 'code::bpchar = ''a''', 's1 s2 s3 s4'),
    ('person', 'code::bpchar = ANY (''{a}''::bpchar[])', 's1 s2 s3 s4'),
    ('nick', 'nick = ''a''', '{a}'),
    ('nick', 'nick::text = ''a''::text', '{a}'),
    ('flag', 'flag', 's1'),
    ('flag', 'NOT flag', 's2'),
    ('flag', 'flag IS TRUE', 's1'),
    ('flag', 'flag = false', 's2'),
    ('flag', 'flag OR NOT flag', 's1 s2'),
    ('flag', 'flag IS NOT FALSE', 's1 s2 s3 s4'),
    ('event', 'at = timestamptz ''2024-01-01 00:00+00''', '{2024-01-01 00:00:00+00}'),
    ('event', 'at = timestamp ''2024-01-01''', 's1 s2 s3 s4'),
    ('event', 'at = now()', 's1 s2 s3 s4'),
    ('box', 'items = ARRAY[1, 2]', 'BOX'),
    ('box', 'items @> ARRAY[1]', 's1 s2 s3 s4'),
    ('log', 'true', 's1 s2'),
    ('log', 'day = ''2024-01-01''', 's2'),
    ('log', 'day = ''2025-06-01''', ''),
    ('log', 'day < ''2024-01-01''', 's1'),
    ('log', 'day <= ''2024-01-01''', 's1 s2'),
    ('log', 'day > ''2024-12-31''', 's1 s2'),
    ('log', 'day >= ''2025-01-01''', 's1'),
    ('log', 'day >= ''2027-01-01''', ''),
    ('log', 'day BETWEEN ''2024-02-01'' AND ''2024-03-01''', 's2'),
    ('log', 'day NOT BETWEEN ''2024-02-01'' AND ''2030-01-01''', 's1 s2'),
    ('log', 'day >= ''2024-02-01'' AND day < ''2026-01-01''', 's2'),
    ('log', 'day >= ''2025-02-01'' AND day < ''2026-01-01''', ''),
    ('log', '''2024-05-05'' > day', 's1 s2'),
    ('log', 'NOT day >= ''2024-01-01''', 's1'),
    ('log', 'day < ANY (''{2023-01-01,2020-01-02}''::date[])', 's1'),
    ('log', 'day < ALL (''{2023-01-01,2030-01-02}''::date[])', 's1'),
    ('log', 'day > ALL (''{2024-06-01,2025-01-02}''::date[])', 's1'),
    ('log', 'day < timestamp ''2023-01-01''', 's1 s2'),
    ('log', 'day IN (''2023-01-01'', ''2025-01-01'')', 's1'),
    ('log', 'day < NULL', ''),
    ('log', 'day <> ''2024-01-01''', 's1 s2'),
    ('log', 'day = ''2024-01-01'' OR line = 3', 's1 s2'),
    ('log', 'day = current_date', 's1 s2'),
    ('word', 'word < ''c''', 's1'),
    ('word', 'word >= ''p''', 's3'),
    ('word', 'word COLLATE "C" >= ''p''', 's1 s2 s3'),
    ('word', 'word = ''p''', 's3'),
    ('word', 'word ~<~ ''c''', 's1 s2 s3'),
    ('big', 'n < 100', 's1'),
    ('big', 'n < 100.5', 's1 s2'),
    ('big', 'n >= 100::bigint', 's2'),
    ('big', 'n = 5000000000', ''),
    ('big', 'n > 99.9 AND n < 100', 's1'),
    ('big', 'n::float8 < 5', 's1 s2'),
    ('span', 'length < ''1 day''', 's3'),
    ('span', 'length >= ''24 hours''', 's4'),
    ('paint', 'colour < ''blue''', 's1'),
    ('paint', 'colour = ''blue''', 's2'),
    ('tenant', 'tenant = ''acme''', 's1'),
    ('tenant', 'tenant = ''nobody''', ''),
    ('tenant', 'tenant IN (''acme'', ''initech'', ''nobody'')', 's1 s3'),
    ('tenant', 'tenant > ''a''', 's1 s2 s3 s4'),
    ('setting', 'true', 's2'),
    ('setting', 'name = ''x''', 's2'),
    ('setting', 'false', ''),
    ('region', 'true', 's1 s2 s3 s4'),
    ('region', 'region = ''x''', 's1 s2 s3 s4'),
    ('region', 'false', '');
-- {key}: the shards of these keys.
UPDATE condition c SET shards = (
    SELECT coalesce(string_agg(DISTINCT a67.shard_of(('place.' || c.relation)::regclass, k), ' '), '') FROM unnest(string_to_array(trim(c.shards, '{}'), ',')) k)
WHERE c.shards LIKE '{%';
UPDATE condition c SET shards = a67.shard_of('place.box', '{1,2}') WHERE c.shards = 'BOX';
SELECT is(array_to_string(a67_internal._shards_where(('place.' || c.relation)::regclass, c.condition), ' '), c.shards, c.relation || ': ' || c.condition)
FROM condition c ORDER BY c.place;

-- Sound: whatever is pruned away for a condition holds no key for which it is true.
CREATE FUNCTION pg_temp.unsound(condition text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    wrong bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM generate_series(-20, 1100) id, LATERAL (SELECT id %% 7) b (branch)
                    WHERE (%s) AND a67.shard_of(''place.account'', id::text) <> ALL (a67_internal._shards_where(''place.account'', %L))',
                   condition, condition) INTO wrong;
    RETURN wrong;
END
$$;
SELECT is(pg_temp.unsound(c.condition), 0::bigint, 'sound: ' || c.condition) FROM (VALUES
    ('id IN (1, 2, 3) AND NOT (id = 2 OR branch = 5)'), ('NOT (id <> 4 AND NOT id IN (7, 8, 9))'), ('(id = 1 OR branch = 1) AND (id = 8 OR id = 9)'),
    ('NOT ((id <> 5) IS TRUE)'), ('(id = 5) IS NOT FALSE'), ('NOT (id = 5) IS NOT TRUE'), ('id = ANY (ARRAY[1, NULL, 3]) OR id > 1090'),
    ('id IS NOT DISTINCT FROM 12 OR NOT id IS DISTINCT FROM 13'), ('id = 4.0 OR id::numeric IN (5.00, 6.5)')) c (condition);

-- ---- changes ----
CREATE FUNCTION pg_temp.log_shard() RETURNS text LANGUAGE sql AS $$SELECT a67.shard_of('place.log', '2024-06-01')$$;
SELECT is(pg_temp.log_shard(), 's2', 'before');
UPDATE a67_internal.shard_range SET shard_id = pg_temp.shard('s4') WHERE mapping = 'day' AND lower_bound = '2024-01-01';
SELECT is(pg_temp.log_shard(), 's4', 'a range that moved is seen at once');
SAVEPOINT a;
DELETE FROM a67_internal.shard_range WHERE mapping = 'day' AND lower_bound = '2024-01-01';
SELECT is(pg_temp.log_shard(), NULL, 'a range that is gone');
ROLLBACK TO a;
SELECT is(pg_temp.log_shard(), 's4', 'and is back');
SELECT is(a67.shard_of('place.tenant', 'newcomer'), NULL, 'a key that the directory lacks');
INSERT INTO a67_internal.shard_directory VALUES ('00000000-0000-0000-0000-00000000a67d', 'tenant', 'newcomer', pg_temp.shard('s3'));
SELECT is(a67.shard_of('place.tenant', 'newcomer'), 's3', 'is found when it is there');
UPDATE a67_internal.shard_directory SET shard_id = pg_temp.shard('s2') WHERE key = 'newcomer';
SELECT is(a67.shard_of('place.tenant', 'newcomer'), 's2', 'and where it went');

UPDATE a67_internal.database_shard SET weight = 20 WHERE shard_id = pg_temp.shard('s3');
SELECT is((SELECT mode() WITHIN GROUP (ORDER BY a67.shard_of('place.account', i::text)) FROM generate_series(1, 200) i), 's3', 'weights count at once');
UPDATE a67_internal.database_shard SET name = 's9' WHERE shard_id = pg_temp.shard('s3');
SELECT ok((SELECT bool_and(a67.shard_of('place.account', i::text) = (a67.ring_lookup(i::text, ARRAY['s1', 's2', 's9', 's4'], ARRAY[1, 1, 20, 1]))[1])
           FROM generate_series(1, 200) i), 'so do names');
ALTER FOREIGN TABLE place.setting OPTIONS (SET shard 's4');
SELECT is(a67.shard_of('place.setting', ''), 's4', 'and options of tables');

-- ---- tables that are not set up correctly ----
CREATE FUNCTION pg_temp.broken(change text, OUT state text, OUT message text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    PERFORM a67.shard_of('place.broken', '1');
    RAISE EXCEPTION 'it works' USING ERRCODE = 'XX000';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
END
$$;
SELECT is(concat_ws(' ', b.state, b.message, nullif(b.detail, '')), v.error, v.change)
FROM (VALUES
    ('strategy ''hash''', '42P16 virtual table "broken" is not set up correctly It has no option "key".'),
    ('key ''id''', '42P16 virtual table "broken" is not set up correctly It has no option "strategy".'),
    ('strategy ''hash'', key ''none''', '42P16 virtual table "broken" is not set up correctly Its shard key "none" is not a column.'),
    ('strategy ''hash'', key ''ctid''', '42P16 virtual table "broken" is not set up correctly Its shard key "ctid" is not a column.'),
    ('strategy ''hash'', key ''j''', '42P16 virtual table "broken" is not set up correctly Column "j" cannot be a shard key. Values of this type cannot be compared for equality by a hash.'),
    ('strategy ''hash'', key ''fold''', '42P16 virtual table "broken" is not set up correctly Column "fold" cannot be a shard key. Under a nondeterministic collation equal values can have different texts.'),
    ('strategy ''range'', key ''id''', '42P16 virtual table "broken" is not set up correctly It has no option "mapping".'),
    ('strategy ''directory'', key ''id''', '42P16 virtual table "broken" is not set up correctly It has no option "mapping".'),
    ('strategy ''local''', '42P16 virtual table "broken" is not set up correctly It has no option "shard".'),
    ('strategy ''local'', shard ''s7''', '42P16 virtual table "broken" is not set up correctly Its shard "s7" does not exist.')) v (change, error),
    pg_temp.broken(CASE WHEN v.change LIKE 'CREATE%' OR v.change LIKE 'INSERT%' OR v.change LIKE 'DELETE%' THEN v.change ELSE
        'CREATE FOREIGN TABLE place.broken (id integer, j json, fold text COLLATE folding) SERVER a67_place OPTIONS (' || v.change || ')' END) b;
SELECT * FROM finish();
ROLLBACK;
