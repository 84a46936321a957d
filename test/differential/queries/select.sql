-- Single tables: projections, filters, expressions, order and limits. The flag `foreign`: PostgreSQL's parser takes no foreign table there.
SELECT * FROM customers;

SELECT * FROM customers WHERE customer_id = 42;

SELECT name, region FROM customers WHERE customer_id IN (1, 2, 3, 150, 299, 1000);

SELECT name FROM customers WHERE customer_id = ANY (ARRAY[5, 6, NULL, 7]);

SELECT count(*) FROM customers WHERE customer_id <> ALL (ARRAY[5, 6, 7]);

SELECT customer_id FROM customers WHERE customer_id BETWEEN 10 AND 20;

SELECT customer_id FROM customers WHERE customer_id > 290 OR customer_id = 3;

SELECT customer_id FROM customers WHERE customer_id IS NULL;

SELECT customer_id FROM customers WHERE NOT (customer_id > 5);

SELECT customer_id FROM customers WHERE customer_id = 5 AND customer_id = 6;

SELECT customer_id FROM customers WHERE customer_id = 5 AND region IS NOT NULL OR customer_id = 6 AND tier = 'pro';

SELECT customer_id FROM customers WHERE customer_id = 5.0;

SELECT customer_id FROM customers WHERE customer_id = 5.5;

SELECT customer_id FROM customers WHERE customer_id = 5::bigint;

SELECT customer_id FROM customers WHERE customer_id = '7';

SELECT customer_id FROM customers WHERE customer_id = 3 + 4;

SELECT customer_id FROM customers WHERE customer_id + 1 = 8;

SELECT customer_id FROM customers WHERE customer_id = (SELECT 8);

SELECT customer_id FROM customers WHERE customer_id = (SELECT max(customer_id) FROM customers);

SELECT customer_id FROM customers WHERE (customer_id, name) = (5, 'Customer F5');

SELECT customer_id FROM customers WHERE false;

SELECT customer_id FROM customers WHERE NULL::boolean;

SELECT customer_id FROM customers WHERE customer_id = NULL;

SELECT customer_id, name FROM customers WHERE region IS NULL;

SELECT customer_id FROM customers WHERE region IS DISTINCT FROM 'r1' AND customer_id < 40;

SELECT customer_id FROM customers WHERE customer_id IS NOT DISTINCT FROM 9;

SELECT customer_id FROM customers WHERE tier = 'pro' AND active;

SELECT customer_id FROM customers WHERE tier > 'basic' AND NOT active;

SELECT customer_id FROM customers WHERE tier IN ('free', 'enterprise') AND customer_id < 30;

SELECT customer_id FROM customers WHERE name LIKE 'Customer A%';

SELECT customer_id FROM customers WHERE name ~ '[BC]1[0-9]?$';

SELECT customer_id FROM customers WHERE name ILIKE '%customer z%';

SELECT customer_id, upper(name), lower(name), length(name), substring(name FROM 10), name || '/' || coalesce(region, '-') FROM customers WHERE customer_id <= 25;

SELECT customer_id, CASE WHEN credit > 500 THEN 'rich' WHEN credit IS NULL THEN 'unknown' ELSE 'poor' END FROM customers;

SELECT customer_id, credit * 2, credit / 3, round(credit, 1), trunc(credit), credit % 7, abs(credit - 500) FROM customers WHERE customer_id < 60;

SELECT customer_id, rating * 2, rating / 3, sqrt(rating), floor(rating), ceil(rating), rating::int FROM customers WHERE customer_id < 60;

SELECT customer_id, nullif(region, 'r1'), greatest(customer_id, 50), least(customer_id, 50), coalesce(credit, 0) FROM customers WHERE customer_id < 70;

SELECT customer_id, born, born + 30, extract(year FROM born), to_char(born, 'YYYY-MM'), date_trunc('month', born), age(date '2026-01-01', born) FROM customers WHERE customer_id < 50;

SELECT customer_id FROM customers WHERE born BETWEEN '1960-01-01' AND '1970-12-31';

SELECT customer_id FROM customers WHERE tags @> ARRAY['t1'];

SELECT customer_id, tags[1], array_length(tags, 1), tags || 'x'::text, cardinality(tags) FROM customers WHERE customer_id < 30;

SELECT customer_id FROM customers WHERE 't2' = ANY (tags);

SELECT customer_id, unnest(tags) FROM customers WHERE customer_id < 40;

SELECT customer_id, profile, profile->'age', profile->>'langs', profile #>> '{langs,1}', jsonb_typeof(profile) FROM customers WHERE customer_id < 40;

SELECT customer_id FROM customers WHERE profile @> '{"age": 12}';

SELECT customer_id FROM customers WHERE profile ? 'age' AND (profile->>'age')::int > 70;

SELECT customer_id, jsonb_array_elements_text(profile->'langs') FROM customers WHERE customer_id < 20;

SELECT customer_id FROM customers WHERE jsonb_path_exists(profile, '$.age ? (@ > 75)');

SELECT email FROM customers WHERE email LIKE 'u1%';

SELECT c FROM customers c WHERE customer_id = 17;

SELECT c.* FROM customers AS c (id, nm) WHERE id < 4;

SELECT row(customer_id, name) FROM customers WHERE customer_id < 9;

SELECT row_to_json(c) FROM customers c WHERE customer_id < 9;

SELECT to_jsonb(c) - 'profile' FROM customers c WHERE customer_id < 9;

--: ordered
SELECT customer_id, name FROM customers ORDER BY customer_id LIMIT 10;

--: ordered
SELECT customer_id, name FROM customers ORDER BY customer_id DESC LIMIT 10 OFFSET 5;

--: ordered
SELECT name, customer_id FROM customers ORDER BY name, customer_id LIMIT 25;

--: ordered
SELECT region, customer_id FROM customers ORDER BY region NULLS FIRST, customer_id DESC LIMIT 40;

--: ordered
SELECT region, customer_id FROM customers ORDER BY region DESC NULLS LAST, customer_id LIMIT 40 OFFSET 100;

--: ordered
SELECT customer_id FROM customers ORDER BY credit NULLS FIRST, customer_id;

--: ordered
SELECT customer_id FROM customers ORDER BY rating DESC, 1 LIMIT 30;

--: ordered
SELECT customer_id, tier FROM customers ORDER BY tier DESC, customer_id LIMIT 30;

--: ordered
SELECT customer_id FROM customers ORDER BY customer_id % 7, customer_id LIMIT 30;

--: ordered
SELECT name FROM customers ORDER BY customer_id LIMIT 5;

--: ordered
SELECT customer_id FROM customers ORDER BY customer_id OFFSET 290;

--: ordered
SELECT customer_id FROM customers ORDER BY customer_id FETCH FIRST 3 ROWS ONLY;

--: ordered
SELECT region FROM customers ORDER BY region FETCH FIRST 1 ROW WITH TIES;

SELECT customer_id FROM customers LIMIT 0;

--: ordered
SELECT customer_id FROM customers ORDER BY customer_id LIMIT NULL;

--: ordered
SELECT customer_id FROM customers ORDER BY customer_id LIMIT (SELECT 4) OFFSET (SELECT count(*) FROM regions);

--: ordered
SELECT customer_id FROM customers WHERE customer_id > 20 ORDER BY name DESC, customer_id LIMIT 3 OFFSET 290;

SELECT * FROM customers ORDER BY customer_id LIMIT -1;

SELECT DISTINCT region FROM customers;

SELECT DISTINCT region, tier FROM customers;

--: ordered
SELECT DISTINCT region FROM customers ORDER BY region LIMIT 3;

SELECT DISTINCT customer_id FROM orders;

SELECT DISTINCT customer_id, status FROM orders WHERE customer_id < 100;

--: ordered
SELECT DISTINCT ON (region) region, customer_id, name FROM customers ORDER BY region, customer_id;

--: ordered
SELECT DISTINCT ON (customer_id) customer_id, order_id, total FROM orders ORDER BY customer_id, order_id DESC LIMIT 50;

--: ordered
SELECT DISTINCT ON (region, tier) region, tier, credit, customer_id FROM customers ORDER BY region, tier, credit DESC NULLS LAST, customer_id;

SELECT DISTINCT ON (region) region FROM customers;

SELECT 1 FROM customers WHERE customer_id < 5;

SELECT FROM customers WHERE customer_id < 5;

SELECT count(*) FROM (SELECT FROM customers) x;

SELECT *, 1 AS one, 'x' AS x, NULL AS nothing FROM regions;

SELECT region AS "Region", title AS "Weird ""name""" FROM regions;

SELECT * FROM regions WHERE region = 'r3';

SELECT * FROM options;

SELECT * FROM options WHERE name = 'option4';

SELECT * FROM visits WHERE day = '2026-02-01';

SELECT count(*) FROM visits WHERE day >= '2026-02-01' AND day < '2026-03-01';

SELECT visit_id FROM visits WHERE day < '2026-01-03';

SELECT count(*) FROM visits WHERE day BETWEEN '2026-01-19' AND '2026-01-21' OR day = '2026-04-20';

SELECT count(*) FROM visits WHERE day IN ('2026-01-20', '2026-02-14', '2026-02-15', '2026-04-01', '1999-01-01');

SELECT * FROM visits WHERE day = date '2026-01-19' + 1;

SELECT * FROM seats WHERE tenant = 'tenant3';

SELECT * FROM seats WHERE tenant = 'nobody';

SELECT count(*) FROM seats WHERE tenant IN ('tenant1', 'tenant2', 'nobody');

SELECT * FROM seats WHERE tenant > 'tenant3' AND seat < 40;

SELECT * FROM products WHERE sku = 'sku7';

SELECT sku, price * weight, weight::numeric, lower(period), upper(period), period @> date '2026-02-10' FROM products;

SELECT sku FROM products WHERE period && daterange('2026-02-01', '2026-02-03');

SELECT sku, attrs->>'color' FROM products WHERE attrs->>'color' = 'red' OR attrs IS NULL;

SELECT * FROM numbers WHERE n = -50;

SELECT n, i, s, f, d, t, c, ts, tz, b, u, iv, bl, ip, tm FROM numbers WHERE n BETWEEN -20 AND 20;

SELECT n, i + s, i - s, i * s, i / nullif(s, 0), i % nullif(s, 0), -i, i & s, i | s, i # s, i << 2 FROM numbers WHERE n < 0;

SELECT n, f::text, d::text, ts::text, tz::text, iv::text, b::text, bl::text FROM numbers WHERE n BETWEEN -90 AND -70;

SELECT n, ts::date, tz::date, tz AT TIME ZONE 'Europe/Vienna', ts AT TIME ZONE 'America/New_York', date_trunc('day', tz), extract(epoch FROM tz) FROM numbers;

SELECT n FROM numbers WHERE ts >= '2026-03-29 00:00' AND ts < '2026-03-29 12:00';

SELECT n FROM numbers WHERE tz > timestamptz '2026-03-29 01:30+02';

SELECT n FROM numbers WHERE c = 'c3';

SELECT n, c || '|', length(c), c::text || '|' FROM numbers WHERE n < -80;

SELECT n, encode(b, 'hex'), substring(b FROM 1 FOR 2), length(b), sha256(b) FROM numbers WHERE n < -90;

SELECT n FROM numbers WHERE u = md5('7')::uuid;

SELECT n, iv * 2, iv + interval '1 hour', justify_days(iv), extract(hour FROM iv) FROM numbers WHERE n < -70;

SELECT n FROM numbers WHERE bl IS TRUE AND i IS NOT NULL;

SELECT n FROM numbers WHERE bl IS NOT TRUE;

SELECT n FROM numbers WHERE bl IS UNKNOWN;

SELECT n, host(ip), masklen(ip), ip << inet '10.0.1.0/24', family(ip) FROM numbers WHERE n < -80;

SELECT n, tm + interval '1 hour', extract(minute FROM tm) FROM numbers WHERE n < -80;

SELECT n, round(f::numeric, 3), f::int, d::int, d::float8, i::text, n::int FROM numbers WHERE n > 100;

SELECT n / 0 FROM numbers WHERE n = 5;

SELECT i / (n - n) FROM numbers WHERE i IS NOT NULL;

SELECT t::int FROM numbers WHERE t IS NOT NULL;

SELECT nothing FROM customers;

SELECT * FROM no_such_table;

SELECT no_such_function(customer_id) FROM customers;

SELECT customer_id FROM customers WHERE name = 5;

--: foreign
SELECT customer_id, name FROM customers GROUP BY customer_id;

SELECT * FROM customers WHERE region > ALL (SELECT region FROM regions WHERE region < 'r2');

SELECT format('%s-%s', customer_id, name), md5(name), reverse(name), repeat('x', customer_id % 4), lpad(name, 20, '.'), split_part(name, ' ', 2), initcap(name), strpos(name, 'o'), translate(name, 'abc', 'xyz') FROM customers WHERE customer_id < 30;

SELECT regexp_replace(name, '[0-9]+', '#'), regexp_match(name, '([A-Z])([0-9]+)$'), string_to_array(name, ' ') FROM customers WHERE customer_id < 30;

SELECT customer_id FROM customers WHERE name COLLATE "C" < 'Customer C';

--: ordered
SELECT name, customer_id FROM customers ORDER BY name COLLATE "C" DESC, customer_id LIMIT 10;

SELECT add_tax(credit), customer_id FROM customers WHERE customer_id < 30;

SELECT customer_id FROM customers WHERE add_tax(credit) > 900;

SELECT order_count(customer_id), customer_id FROM customers WHERE customer_id < 12;

SELECT * FROM orders_of(15);

SELECT * FROM loop_totals();

SELECT * FROM big_order WHERE customer_id < 100;

SELECT * FROM customer_total WHERE customer_id IN (1, 50, 99);

SELECT * FROM region_total;

SELECT ctid IS NOT NULL FROM customers WHERE customer_id = 3;

SELECT tableoid::regclass::text FROM customers WHERE customer_id = 3;

SELECT now() = transaction_timestamp(), current_date = now()::date FROM customers WHERE customer_id = 3;

SELECT count(*) FROM orders WHERE placed < now();

SELECT count(*) FROM orders WHERE placed > now() - interval '100 years';

SELECT current_user = session_user, region FROM regions WHERE region = 'r1';

SELECT count(*) FROM customers WHERE random() < 2;

SELECT count(*) FROM (SELECT random() AS r FROM customers) x WHERE r >= 0;

SELECT pg_typeof(customer_id), pg_typeof(tier), pg_typeof(email), pg_typeof(credit) FROM customers WHERE customer_id = 3;

VALUES (1, 'a'), (2, 'b');

TABLE regions;

SELECT generate_series(1, 3), region FROM regions;

SELECT customer_id, generate_series(1, customer_id % 3) FROM customers WHERE customer_id < 10;

--: foreign
SELECT customer_id FROM customers TABLESAMPLE SYSTEM (100) WHERE customer_id < 5;
