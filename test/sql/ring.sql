\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
BEGIN;
SELECT plan(23);

-- Reference vectors of MurmurHash3 x86_32 (SMHasher and other implementations agree on these).
SELECT is(a67.murmur3(''), 0::bigint, 'empty key, seed 0');
SELECT is(a67.murmur3('', 1), 1364076727::bigint, 'empty key, seed 1');
SELECT is(a67.murmur3('test'), 3127628307::bigint, 'four bytes');
SELECT is(a67.murmur3('Hello, world!'), 3224780355::bigint, 'thirteen bytes');
SELECT is(a67.murmur3('The quick brown fox jumps over the lazy dog'), 776992547::bigint, 'a long key');
SELECT is(a67.murmur3(NULL), NULL, 'no key, no hash');

SELECT is(a67.ring_lookup('user-1', ARRAY['s1', 's2', 's3']), a67.ring_lookup('user-1', ARRAY['s3', 's1', 's2']),
    'the order of names does not matter');
SELECT is(cardinality(a67.ring_lookup('user-1', ARRAY['s1', 's2', 's3'], NULL, 2)), 2, 'two distinct owners');
SELECT is(cardinality(a67.ring_lookup('user-1', ARRAY['s1', 's2', 's3'], NULL, 9)), 3, 'never more owners than there are');
SELECT is((SELECT count(*) FROM a67.ring_points(ARRAY['a', 'b'])), 300::bigint, '150 points each');
SELECT is((SELECT count(*) FROM a67.ring_points(ARRAY['a', 'b'], ARRAY[1, 0.5])), 225::bigint, 'points follow the weight');
SELECT is((SELECT hash FROM a67.ring_points(ARRAY['a']) WHERE hash = a67.murmur3('a#0')), a67.murmur3('a#0'),
    'a point is the hash of name#i');
SELECT ok((SELECT abs(sum(share) - 1) < 1e-9 FROM a67.ring_shares(ARRAY['a', 'b', 'c'])), 'shares make a whole');
SELECT is((SELECT count(*) FROM a67.ring_diff(ARRAY['a', 'b'], NULL, ARRAY['b', 'a'], NULL)), 0::bigint, 'same ring, no move');
SELECT is((SELECT string_agg(DISTINCT to_name, ',') FROM a67.ring_diff(ARRAY['a', 'b'], NULL, ARRAY['a', 'b', 'c'], NULL)), 'c',
    'keys move to the new owner only');
SELECT ok((SELECT bool_and((a67.ring_lookup('k' || i, ARRAY['a', 'b', 'c']))[1]
                           IN ((a67.ring_lookup('k' || i, ARRAY['a', 'b']))[1], 'c')) FROM generate_series(1, 1000) i),
    'a key stays or goes to the new owner');

SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY[]::text[])$$, '22023', NULL, 'no names');
SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY['a', 'a'])$$, '22023', NULL, 'a name twice');
SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY['a', NULL])$$, '22023', NULL, 'a null name');
SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY['a', 'b'], ARRAY[1.0::float8])$$, '22023', NULL, 'weights of another length');
SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY['a'], ARRAY[0::float8])$$, '22023', NULL, 'a weight of 0');
SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY['a'], ARRAY['NaN'::float8])$$, '22023', NULL, 'a weight of NaN');
SELECT throws_ok($$SELECT a67.ring_lookup('k', ARRAY['a'], NULL, 0)$$, '22023', NULL, 'n below 1');

SELECT * FROM finish();
ROLLBACK;
