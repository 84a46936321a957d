\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(117);
-- Keys are placed by these texts and hashes for ever: a row here may be added, never changed. The hashes were computed by another
-- implementation (Python) from the texts alone.
CREATE TYPE colour AS ENUM ('red', 'blue');
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE DOMAIN word AS varchar(10);
CREATE TYPE pair AS (a numeric, b text, c text);
CREATE TABLE golden (place serial, expression text, text text, hash bigint);
INSERT INTO golden (expression, text, hash) VALUES
    ('0::int4', '0', 3530670207),
    ('42::int2', '42', 3159925814),
    ('42::int4', '42', 3159925814),
    ('42::int8', '42', 3159925814),
    ('42.00::numeric', '42', 3159925814),
    ('-1', '-1', 1908024458),
    ('(-9223372036854775808)::int8', '-9223372036854775808', 868142273),
    ('9223372036854775807', '9223372036854775807', 177519188),
    ('1.50', '1.5', 4025916689),
    ('-0.00', '0', 3530670207),
    ('1e25::numeric', '10000000000000000000000000', 3844237640),
    ('0.000000001', '0.000000001', 1215146346),
    ('''NaN''::numeric', 'NaN', 4134299116),
    ('''-Infinity''::numeric', '-Infinity', 3127134693),
    ('1::float8', '1', 2484513939),
    ('0.1::float8', '0.1', 4292301820),
    ('0.5::float4', '0.5', 2058320797),
    ('0.1::float4', '0.10000000149011612', 2951899376),
    ('''-0''::float8', '0', 3530670207),
    ('1e20::float8', '1e+20', 3061720206),
    ('1e-7::float8', '1e-07', 1899384485),
    ('123456789012345680::float8', '1.2345678901234568e+17', 2370256858),
    ('''NaN''::float8', 'NaN', 4134299116),
    ('''-Infinity''::float4', '-Infinity', 3127134693),
    ('''user-1''::text', 'user-1', 4171401059),
    ('''user-1''::varchar(20)', 'user-1', 4171401059),
    ('''user-1''::char(20)', 'user-1', 4171401059),
    ('''user-1''::name', 'user-1', 4171401059),
    ('''''::text', '', 0),
    ('''a ''::text', 'a ', 1099786039),
    (''' a''::char(5)', ' a', 3964953791),
    ('''Grüße, 世界''::text', 'Grüße, 世界', 4152016249),
    ('''x''::"char"', 'x', 1050319643),
    ('true', 'true', 888000370),
    ('false', 'false', 3579944471),
    ('''A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11''::uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 624531118),
    ('''\xDEADbeef''::bytea', '\xdeadbeef', 1724772302),
    ('''''::bytea', '\x', 4062547115),
    ('date ''2024-02-29''', '2024-02-29', 92323068),
    ('date ''0044-03-15 BC''', '0044-03-15 BC', 2335893608),
    ('date ''12024-01-01''', '12024-01-01', 4208321805),
    ('date ''infinity''', 'infinity', 2073998089),
    ('time ''04:05:06.700''', '04:05:06.7', 720760103),
    ('time ''24:00''', '24:00:00', 1473205802),
    ('timetz ''04:05:06+05:30''', '04:05:06+05:30', 3636767511),
    ('timetz ''04:05:06-08''', '04:05:06-08', 1434950452),
    ('timestamp ''2024-02-29 12:34:56.789000''', '2024-02-29 12:34:56.789', 2166321061),
    ('timestamp ''-infinity''', '-infinity', 1287997792),
    ('timestamptz ''2024-02-29 12:34:56+02''', '2024-02-29 10:34:56+00', 1032977701),
    ('timestamptz ''2024-02-29 10:34:56.000001 UTC''', '2024-02-29 10:34:56.000001+00', 2839466846),
    ('timestamptz ''0044-03-15 00:00 UTC BC''', '0044-03-15 00:00:00+00 BC', 1800599632),
    ('interval ''1 day''', '86400000000', 2019221384),
    ('interval ''24 hours''', '86400000000', 2019221384),
    ('interval ''1 month -30 days 1 microsecond''', '1', 2484513939),
    ('interval ''-1 year''', '-31104000000000', 1718406106),
    ('interval ''178000000 years''', '5536512000000000000000', 3318739692),
    ('inet ''10.0.0.1''', '10.0.0.1', 3963167075),
    ('cidr ''10.0.0.1/32''', '10.0.0.1', 3963167075),
    ('inet ''10.0.0.1/8''', '10.0.0.1/8', 2576403432),
    ('cidr ''10.0.0.0/8''', '10.0.0.0/8', 1732571336),
    ('inet ''2001:DB8::1''', '2001:db8::1', 3320267662),
    ('macaddr ''08-00-2B-01-02-03''', '08:00:2b:01:02:03', 1306000176),
    ('macaddr8 ''08-00-2B-01-02-03-04-05''', '08:00:2b:01:02:03:04:05', 913700139),
    ('42::oid', '42', 3159925814),
    ('''16/B374D848''::pg_lsn', '16/B374D848', 450254166),
    ('''7''::xid8', '7', 602572328),
    ('''(1,2)''::tid', '(1,2)', 3087384167),
    ('''1 2''::oidvector', '1 2', 3507902569),
    ('''blue''::colour', 'blue', 3905155331),
    ('42::positive', '42', 3159925814),
    ('''ab''::word', 'ab', 2613040991),
    ('ARRAY[1.50, NULL, 2]', '{1.5,NULL,2}', 1386499377),
    ('ARRAY[1, 2]::int8[]', '{1,2}', 2755300406),
    ('ARRAY[''a b'', ''NULL'', '''', ''x"y'']', '{"a b","NULL","","x\"y"}', 3914363135),
    ('''[2:3]={1,2}''::int4[]', '[2:3]={1,2}', 1993372389),
    ('''{}''::text[]', '{}', 2315792072),
    ('ARRAY[[1.0, 2], [3, 4]]', '{{1,2},{3,4}}', 2954527251),
    ('ARRAY[timestamptz ''2024-01-01 00:00+02'']', '{"2023-12-31 22:00:00+00"}', 112535367),
    ('numrange(1.0, 2.50)', '[1,2.5)', 3934293849),
    ('int4range(1, 5, ''[]'')', '[1,6)', 2440352843),
    ('int4range(1, NULL)', '[1,)', 2000249976),
    ('''empty''::int4range', 'empty', 701244274),
    ('tsrange(''2024-01-01'', ''2024-01-02'')', '["2024-01-01 00:00:00","2024-01-02 00:00:00")', 2681401449),
    ('nummultirange(numrange(1.0, 2.0), numrange(3, 4))', '{[1,2),[3,4)}', 299685270),
    ('ROW(1.0, ''a, b'', NULL)::pair', '(1,"a, b",)', 1861610163),
    ('ROW(NULL, ''x"\'', '''')::pair', '(,"x""\\","")', 2678148083),
    ('''{"b": 1.50, "aa": [1.0, "x", null, true]}''::jsonb', '{"b": 1.5, "aa": [1, "x", null, true]}', 253506943),
    ('''2.0''::jsonb', '2', 19522071),
    ('''[2.0]''::jsonb', '[2]', 2893082556);
CREATE FUNCTION key_of(expression text, OUT text text, OUT hash bigint) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT a67.shard_key_text(%1$s), a67.shard_hash(%1$s)', expression) INTO text, hash;
END
$$;
SELECT is(ROW(k.text, k.hash)::text, ROW(g.text, g.hash)::text, g.expression) FROM golden g, key_of(g.expression) k ORDER BY g.place;

-- No setting of the reader's changes a text.
SET LOCAL DateStyle = 'SQL, DMY';
SET LOCAL IntervalStyle = 'iso_8601';
SET LOCAL TimeZone = 'America/New_York';
SET LOCAL bytea_output = 'escape';
SET LOCAL extra_float_digits = -5;
SET LOCAL quote_all_identifiers = on;
SELECT is((SELECT count(*) FROM golden g, key_of(g.expression) k WHERE g.expression !~ 'timetz|array.*timestamptz' AND k.text <> g.text), 0::bigint,
    'other settings, same texts');
RESET DateStyle;
RESET IntervalStyle;
RESET TimeZone;
RESET bytea_output;
RESET extra_float_digits;
RESET quote_all_identifiers;

-- Equal values of a family have equal texts; a compressed or stored value is no other one.
SELECT ok(bool_and(a67.shard_hash(i) = a67.shard_hash(i::int8) AND a67.shard_hash(i) = a67.shard_hash(i::numeric(20, 5))
                   AND a67.shard_hash(i) = a67.shard_hash(i::text)), 'integers, numeric and their text agree')
FROM generate_series(-500, 500) i;
SELECT ok(bool_and(a67.shard_hash(s) = a67.murmur3(s) AND a67.shard_hash(s) = a67.shard_hash(s::varchar)), 'a text''s hash is that of its bytes')
FROM (SELECT repeat('ä', i) AS s FROM generate_series(0, 70) i) t;
CREATE TABLE stored (s text);
ALTER TABLE stored ALTER s SET STORAGE EXTERNAL;
INSERT INTO stored VALUES (repeat('0123456789', 1000)), (repeat('0123456789', 100000));
ALTER TABLE stored ALTER s SET STORAGE EXTENDED;
INSERT INTO stored VALUES (repeat('0123456789', 1001)), ('short'), ('');
SELECT ok(bool_and(a67.shard_hash(s) = a67.murmur3(s || '')), 'stored out of line, compressed, short') FROM stored;
SELECT is(a67.shard_key_text(repeat('x', 100000)), repeat('x', 100000), 'a long text');
SELECT is(a67.shard_key_text(NULL::integer), NULL, 'no key, no text');
SELECT is(a67.shard_hash(NULL::text), NULL, 'no key, no hash');
SELECT is(a67.shard_hash(-0.0::float8), a67.shard_hash(0.0::float8), 'both zeros are one');
SELECT is(a67.shard_hash('NaN'::float4), a67.shard_hash('NaN'::float8), 'NaN is itself');
SELECT is(a67.shard_hash('1 mon'::interval), a67.shard_hash('30 days'::interval), 'intervals that are equal');
SELECT is(a67.shard_hash('{"a": 1}'::jsonb), a67.shard_hash('{"a": 1.000}'::jsonb), 'jsonb that is equal');

-- What cannot be a key says why.
CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE folded AS RANGE (subtype = text, collation = folding);
CREATE TYPE places AS (at point);
CREATE TABLE bad (place serial, expression text, why text);
INSERT INTO bad (expression, why) VALUES
    ($$1::money$$, 'hash'), ($$'(1,2)'::point$$, 'hash'), ($$B'01'$$, 'hash'), ($$'<a/>'::xml$$, 'hash'), ($$'a'::tsvector$$, 'hash'), ($$'{}'::json$$, 'hash'),
    ($$'{1}'::money[]$$, 'hash'), ($$'pg_class'::regclass$$, 'texts'), ($$ROW(1, 2)$$, 'hash'), ($$ROW('(1,2)')::places$$, 'hash'),
    ($$'[a,b]'::folded$$, 'nondeterministic'), ($$(SELECT relacl[1] FROM pg_class WHERE relacl IS NOT NULL LIMIT 1)$$, 'texts');
CREATE FUNCTION refusal(expression text, OUT state text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM key_of(expression);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
END
$$;
SELECT ok(r.state = '0A000' AND r.detail LIKE '%' || b.why || '%', format('%s: %s %s', b.expression, r.state, r.detail))
FROM bad b, refusal(b.expression) r ORDER BY b.place;
SELECT throws_ok($$SELECT a67.shard_key_text('x')$$, '42804', NULL, 'a literal of no type');
SELECT throws_ok($$SELECT a67.shard_hash(timestamp '294276-12-31 23:59:59' + interval '1 day')$$, '22008', NULL, 'a value that is none');
SELECT hasnt_function('a67', 'shard_hash', ARRAY['text'], 'one function for all types');
SELECT function_privs_are('a67', 'shard_hash', ARRAY['anyelement'], 'a67_anon', '{}', 'nothing for strangers');
SELECT volatility_is('a67', 'shard_hash', ARRAY['anyelement'], 'immutable', 'fit for an index');
SELECT * FROM finish();
ROLLBACK;
