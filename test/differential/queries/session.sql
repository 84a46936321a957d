-- Prepared statements, cursors, savepoints, settings, functions that write.
PREPARE p(int) AS SELECT name FROM customers WHERE customer_id = $1;
EXECUTE p(5);
EXECUTE p(6);
EXECUTE p(7);
EXECUTE p(8);
EXECUTE p(9);
EXECUTE p(10);
EXECUTE p(11);
EXECUTE p(NULL);
EXECUTE p(100000);
DEALLOCATE p;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE g(int) AS SELECT c.name, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE c.customer_id = $1;
EXECUTE g(8);
EXECUTE g(15);
EXECUTE g(NULL);
DEALLOCATE g;

SET LOCAL plan_cache_mode = force_custom_plan;
PREPARE g2(int) AS SELECT c.name, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE c.customer_id = $1;
EXECUTE g2(8);
EXECUTE g2(15);
DEALLOCATE g2;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE two(int, int) AS SELECT a.name, b.name FROM customers a, customers b WHERE a.customer_id = $1 AND b.customer_id = $2;
EXECUTE two(8, 8);
EXECUTE two(8, 9);
DEALLOCATE two;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE many(int[]) AS SELECT customer_id, name FROM customers WHERE customer_id = ANY ($1);
EXECUTE many('{1,2,3,250}');
EXECUTE many('{}');
EXECUTE many(NULL);
EXECUTE many('{NULL,4}');
DEALLOCATE many;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE span(date, date) AS SELECT count(*) FROM visits WHERE day BETWEEN $1 AND $2;
EXECUTE span('2026-01-01', '2026-01-05');
EXECUTE span('2026-02-20', '2026-01-05');
EXECUTE span('2026-01-15', '2026-04-15');
DEALLOCATE span;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE agg(text, numeric) AS SELECT region, count(*), sum(credit + $2) FROM customers WHERE region > $1 GROUP BY region;
EXECUTE agg('r1', 10);
EXECUTE agg('r3', 0.5);
DEALLOCATE agg;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE lim(int, int) AS SELECT customer_id FROM customers ORDER BY customer_id LIMIT $1 OFFSET $2;
EXECUTE lim(3, 2);
EXECUTE lim(NULL, 295);
DEALLOCATE lim;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE ins(int, text, tier, text[]) AS INSERT INTO customers (customer_id, name, tier, tags) VALUES ($1, $2, $3, $4) RETURNING *;
EXECUTE ins(1001, 'x', 'pro', '{a}');
EXECUTE ins(1002, NULL, 'pro', '{a}');

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE up(int, numeric) AS UPDATE customers SET credit = $2 WHERE customer_id = $1 RETURNING customer_id, credit;
EXECUTE up(5, 1);
EXECUTE up(NULL, 1);
EXECUTE up(6, NULL);
DEALLOCATE up;

SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE seat(text) AS SELECT seat FROM seats WHERE tenant = $1;
EXECUTE seat('tenant2');
EXECUTE seat('nobody');
EXECUTE seat(NULL);
DEALLOCATE seat;

PREPARE tz(timestamptz) AS SELECT count(*) FROM orders WHERE placed < $1;
EXECUTE tz('2026-05-01');
EXECUTE tz('2026-05-01 12:00+05');
DEALLOCATE tz;

DECLARE c CURSOR FOR SELECT customer_id FROM customers ORDER BY customer_id;
FETCH 3 FROM c;
FETCH 2 FROM c;
MOVE 10 IN c;
FETCH 1 FROM c;
SELECT count(*) FROM orders;
FETCH 2 FROM c;
CLOSE c;

DECLARE s SCROLL CURSOR FOR SELECT customer_id FROM customers WHERE customer_id < 20 ORDER BY customer_id;
FETCH LAST FROM s;
FETCH PRIOR FROM s;
FETCH ABSOLUTE 4 FROM s;
FETCH FIRST FROM s;
FETCH BACKWARD 1 FROM s;

DECLARE a CURSOR FOR SELECT order_id FROM orders WHERE customer_id = 15 ORDER BY order_id;
DECLARE b CURSOR FOR SELECT order_id FROM orders WHERE customer_id = 15 ORDER BY order_id DESC;
FETCH 1 FROM a;
FETCH 1 FROM b;
FETCH ALL FROM a;
FETCH ALL FROM b;

SAVEPOINT one;
INSERT INTO customers (customer_id, name) VALUES (1001, 'x');
SAVEPOINT two;
UPDATE customers SET name = 'y' WHERE customer_id = 1001;
ROLLBACK TO two;
SELECT name FROM customers WHERE customer_id = 1001;
ROLLBACK TO one;
SELECT count(*) FROM customers WHERE customer_id = 1001;
RELEASE one;
SELECT count(*) FROM customers;

--: goes-on
SAVEPOINT one;
INSERT INTO customers (customer_id, name) VALUES (5, 'duplicate');
ROLLBACK TO one;
SELECT name FROM customers WHERE customer_id = 5;
INSERT INTO customers (customer_id, name) VALUES (1001, 'x');
SELECT count(*) FROM customers;

--: goes-on
INSERT INTO customers (customer_id, name) VALUES (1001, 'before');
SAVEPOINT one;
SELECT 1 / (customer_id - 5) FROM customers WHERE customer_id = 5;
ROLLBACK TO one;
SELECT name FROM customers WHERE customer_id = 1001;

DELETE FROM orders WHERE customer_id < 100;
SAVEPOINT a;
DELETE FROM orders;
SELECT count(*) FROM orders;
ROLLBACK TO a;
SELECT count(*) FROM orders;

SET LOCAL timezone = 'America/New_York';
SELECT order_id, placed::date, placed::text, date_trunc('day', placed), extract(hour FROM placed) FROM orders WHERE customer_id < 20;
SELECT placed::date, count(*) FROM orders GROUP BY 1;
SELECT count(*) FROM orders WHERE placed < '2026-03-01';
SELECT count(*) FROM orders WHERE placed::time < '12:00';
SELECT n FROM numbers WHERE tz < ts;

SET LOCAL timezone = 'Asia/Kathmandu';
SELECT n, tz, tz::timestamp, ts::timestamptz FROM numbers WHERE n < -60;
INSERT INTO orders VALUES (1, 90001, '2026-07-01 12:00', 1, 'new', NULL) RETURNING placed;

SET LOCAL datestyle = 'German, DMY';
SET LOCAL intervalstyle = 'sql_standard';
SELECT n, ts::text, tz::text, iv::text FROM numbers WHERE n < -60;
SELECT count(*) FROM visits WHERE day = '20.01.2026';
SELECT count(*) FROM visits WHERE day::text LIKE '2%';
SELECT max(ts::text), min(iv::text) FROM numbers;

SET LOCAL datestyle = 'SQL, MDY';
SET LOCAL extra_float_digits = -2;
SET LOCAL bytea_output = 'escape';
SELECT n, f::text, b::text, ts::text FROM numbers WHERE n < -60;
SELECT sum(length(f::text)), sum(length(b::text)) FROM numbers;

SET LOCAL intervalstyle = 'iso_8601';
SELECT iv::text, iv + interval '1 day' FROM numbers WHERE n < -80;
INSERT INTO numbers (n, iv) VALUES (9001, '-1 year 2 days -3:04:05');
SELECT iv::text, iv * 2 FROM numbers WHERE n = 9001;

SET LOCAL search_path = pg_catalog;
SELECT count(*) FROM shop.customers c JOIN shop.orders o USING (customer_id);
SELECT shop.add_tax(credit) FROM shop.customers WHERE customer_id < 10;
SELECT customer_id FROM shop.customers WHERE tier = 'pro'::shop.tier AND customer_id < 30;

CREATE FUNCTION bump(who integer, by numeric) RETURNS numeric LANGUAGE plpgsql AS 'DECLARE r numeric; BEGIN UPDATE customers SET credit = coalesce(credit, 0) + by WHERE customer_id = who RETURNING credit INTO r; RETURN r; END';
SELECT bump(5, 10);
SELECT bump(5, 10), bump(6, 1);
SELECT customer_id, credit FROM customers WHERE customer_id IN (5, 6);

CREATE FUNCTION careful(who integer) RETURNS text LANGUAGE plpgsql AS 'BEGIN INSERT INTO customers (customer_id, name) VALUES (who, ''new''); RETURN ''made''; EXCEPTION WHEN unique_violation THEN RETURN ''there''; END';
SELECT careful(1001);
SELECT careful(1001);
SELECT careful(5);
SELECT count(*) FROM customers WHERE customer_id IN (5, 1001);

CREATE FUNCTION every_customer() RETURNS integer LANGUAGE plpgsql AS 'DECLARE r record; n integer := 0; BEGIN FOR r IN SELECT * FROM customers WHERE customer_id < 50 LOOP PERFORM 1 FROM orders WHERE customer_id = r.customer_id; IF FOUND THEN n := n + 1; END IF; END LOOP; RETURN n; END';
SELECT every_customer();

SELECT * FROM customers WHERE customer_id = 5 FOR UPDATE;
UPDATE customers SET credit = 3 WHERE customer_id = 5;
SELECT credit FROM customers WHERE customer_id = 5 FOR SHARE;

SELECT customer_id FROM customers WHERE region = 'r1' FOR UPDATE;

SELECT c.customer_id, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE c.customer_id = 15 FOR UPDATE OF c;

SELECT customer_id FROM customers WHERE customer_id < 10 ORDER BY customer_id FOR UPDATE SKIP LOCKED;

CREATE TEMP TABLE mine AS SELECT customer_id, name FROM customers WHERE customer_id < 10;
SELECT * FROM mine JOIN orders USING (customer_id);
INSERT INTO mine SELECT customer_id, name FROM customers WHERE region = 'r4';
SELECT count(*) FROM mine;
DELETE FROM customers WHERE customer_id IN (SELECT customer_id FROM mine);
SELECT count(*) FROM customers;

CREATE TABLE copy_of AS TABLE orders;
SELECT count(*), sum(total) FROM copy_of;

CREATE MATERIALIZED VIEW mv AS SELECT region, count(*) AS n FROM customers GROUP BY region;
SELECT * FROM mv;
UPDATE customers SET region = 'r0';
REFRESH MATERIALIZED VIEW mv;
SELECT * FROM mv;

DO 'BEGIN FOR i IN 1..5 LOOP INSERT INTO customers (customer_id, name) VALUES (1000 + i, ''do '' || i); END LOOP; END';
SELECT customer_id, name FROM customers WHERE customer_id > 1000;

SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SELECT m.memo_id, c.name FROM memo m JOIN customers c USING (customer_id);
SELECT n.n, c.name FROM numbers n JOIN customers c ON c.customer_id = n.i;
SELECT count(*) FROM customers a JOIN customers b USING (region) WHERE a.customer_id < 20 AND b.customer_id < 20;

SET LOCAL work_mem = '64kB';
SELECT customer_id, order_id FROM orders ORDER BY note NULLS LAST, order_id DESC;
SELECT count(*) FROM orders a JOIN orders b ON a.status = b.status;

SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM customers;
INSERT INTO customers (customer_id, name) VALUES (1001, 'x');
SELECT count(*) FROM customers;

SET TRANSACTION READ ONLY;
SELECT count(*) FROM customers;
INSERT INTO customers (customer_id, name) VALUES (1001, 'x');

SET LOCAL transaction_read_only = on;
UPDATE customers SET name = 'x' WHERE customer_id = 3;
