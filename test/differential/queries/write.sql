-- INSERT, UPDATE, DELETE and what is in the tables afterwards.
INSERT INTO customers (customer_id, name) VALUES (1001, 'New');
SELECT * FROM customers WHERE customer_id > 1000;

INSERT INTO customers (customer_id, name, region, tier, tags, profile) VALUES (1001, 'A', 'r1', 'pro', '{a,b}', '{"x": 1}'), (1002, 'B', NULL, NULL, NULL, NULL), (1003, 'C', 'r9', 'free', '{}', '[]');
SELECT * FROM customers WHERE customer_id > 1000;

INSERT INTO customers (customer_id, name) VALUES (1001, 'New') RETURNING *;

INSERT INTO customers (customer_id, name, credit) VALUES (1001, 'New', 5), (1002, 'Newer', 6) RETURNING customer_id, credit * 2 AS twice, upper(name), active;

INSERT INTO customers VALUES (5, 'Duplicate');

INSERT INTO customers (customer_id, name) VALUES (1001, NULL);

INSERT INTO customers (customer_id, name) VALUES (NULL, 'x');

INSERT INTO customers (name) VALUES ('x');

INSERT INTO customers (customer_id, name, email) VALUES (1001, 'x', 'no at sign');

INSERT INTO customers (customer_id, name, tier) VALUES (1001, 'x', 'golden');

INSERT INTO customers (customer_id, name, credit) VALUES (1001, 'x', 99999999999);

INSERT INTO customers (customer_id, name) VALUES (1001, 'x'), (1001, 'y');

INSERT INTO customers (customer_id, name) SELECT customer_id + 2000, upper(name) FROM customers WHERE customer_id <= 50;
SELECT * FROM customers WHERE customer_id > 2000;

INSERT INTO customers (customer_id, name) SELECT i, 'gen ' || i FROM generate_series(3000, 3100) i;
SELECT count(*), min(name), max(name) FROM customers WHERE customer_id >= 3000;

INSERT INTO orders SELECT customer_id, order_id + 5000, placed, total, status, note FROM orders;
SELECT count(*), sum(total) FROM orders;

INSERT INTO orders (customer_id, order_id, placed, status) SELECT order_id, customer_id + 10000, now(), 'x' FROM orders WHERE order_id < 100;
SELECT customer_id, order_id, status FROM orders WHERE status = 'x';

INSERT INTO memo SELECT customer_id + 1000, customer_id, name FROM customers WHERE customer_id < 20;
SELECT * FROM memo WHERE memo_id > 1000;

INSERT INTO customers (customer_id, name) SELECT memo_id + 4000, body FROM memo WHERE memo_id < 10 RETURNING customer_id;

INSERT INTO customers (customer_id, name) VALUES (5, 'x'), (1001, 'y') ON CONFLICT DO NOTHING;
SELECT * FROM customers WHERE customer_id IN (5, 1001);

INSERT INTO customers (customer_id, name) VALUES (5, 'x'), (1001, 'y') ON CONFLICT (customer_id) DO NOTHING RETURNING customer_id;

INSERT INTO customers (customer_id, name, credit) VALUES (5, 'x', 1), (1001, 'y', 2) ON CONFLICT (customer_id) DO UPDATE SET name = excluded.name, credit = customers.credit + excluded.credit RETURNING *;

INSERT INTO customers AS c (customer_id, name) VALUES (5, 'x'), (6, 'y') ON CONFLICT (customer_id) DO UPDATE SET name = c.name || excluded.name WHERE c.customer_id = 6;
SELECT * FROM customers WHERE customer_id IN (5, 6);

INSERT INTO customers (customer_id, name) SELECT customer_id, 'again' FROM customers WHERE customer_id < 30 ON CONFLICT (customer_id) DO UPDATE SET name = excluded.name;
SELECT customer_id, name FROM customers WHERE customer_id < 35;

INSERT INTO customers (customer_id, name) VALUES (5, 'x') ON CONFLICT (name) DO NOTHING;

INSERT INTO regions VALUES ('r77', 'New region', 1) RETURNING *;
SELECT * FROM regions;

INSERT INTO regions SELECT 'x' || region, title FROM regions;
SELECT r.region, c.customer_id FROM regions r LEFT JOIN customers c ON c.customer_id = length(r.region);

INSERT INTO visits VALUES ('2026-01-19', 9001, 1, '/a', 1), ('2026-01-20', 9002, 1, '/b', 2), ('2026-06-01', 9003, NULL, '/c', NULL) RETURNING day, visit_id;
SELECT * FROM visits WHERE visit_id > 9000;

INSERT INTO seats VALUES ('tenant1', 900, 'x', now()), ('tenant7', 901, NULL, NULL);
SELECT tenant, seat, holder FROM seats WHERE seat >= 900;

INSERT INTO options VALUES ('new', 'value') RETURNING value;
SELECT * FROM options;

INSERT INTO numbers (n, f, d, t, ts, tz, b, u, iv, bl, ip, tm) VALUES (9000, 'NaN', 1e40, E'tab\tand ''quote'' \\ back', 'infinity', '-infinity', '\xdeadbeef', md5('x')::uuid, '-1 year 2 days -3:04:05.678', true, '::1/64', '23:59:59.999999'), (9001, '-Infinity', 'NaN', 'ünïcödé ☃', '0044-03-15 BC', '2026-03-29 02:30+01', '', NULL, '0', false, '1.2.3.4/8', '24:00');
SELECT * FROM numbers WHERE n >= 9000;

INSERT INTO numbers (n, f) VALUES (9000, 0.1 + 0.2), (9001, 1e308), (9002, 5e-324);
SELECT n, f = 0.30000000000000004, f > 1e307, f = 5e-324 FROM numbers WHERE n >= 9000;

INSERT INTO numbers (n) VALUES (9000.4);
SELECT n FROM numbers WHERE n >= 9000;

INSERT INTO numbers (n, s) VALUES (9000, 40000);

INSERT INTO numbers (n, i) SELECT i, 1 / (9010 - i) FROM generate_series(9000, 9020) i;

INSERT INTO customers DEFAULT VALUES;

INSERT INTO customers (customer_id, name, active) VALUES (1001, 'x', DEFAULT), (1002, 'y', false);
SELECT customer_id, active FROM customers WHERE customer_id > 1000;

UPDATE customers SET credit = credit + 1 WHERE customer_id = 7;
SELECT * FROM customers WHERE customer_id = 7;

UPDATE customers SET credit = credit * 2, name = name || '!' WHERE customer_id < 50;
SELECT customer_id, credit, name FROM customers WHERE customer_id < 55;

UPDATE customers SET region = 'r8' WHERE region = 'r1' RETURNING customer_id, region;

UPDATE customers SET active = NOT active;
SELECT active, count(*) FROM customers GROUP BY active;

UPDATE customers SET tier = 'pro', tags = tags || 'z'::text, profile = profile || '{"k": 2}' WHERE customer_id IN (3, 4, 5) RETURNING *;

UPDATE customers SET credit = NULL WHERE customer_id > 100000;

UPDATE customers SET name = NULL WHERE customer_id = 3;

UPDATE customers SET name = NULL;

UPDATE customers SET email = 'broken' WHERE customer_id = 3;

UPDATE customers SET credit = 1 / (customer_id - 100);

UPDATE customers SET (name, credit) = ('x', 1) WHERE customer_id = 9 RETURNING name, credit;

UPDATE customers c SET (name, credit) = (SELECT min(o.status), max(o.total) FROM orders o WHERE o.customer_id = c.customer_id) WHERE customer_id BETWEEN 1 AND 20 AND EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id);
SELECT customer_id, name, credit FROM customers WHERE customer_id < 25;

UPDATE customers c SET credit = o.s FROM (SELECT customer_id, sum(total) AS s FROM orders WHERE total < 1000 GROUP BY customer_id) o WHERE o.customer_id = c.customer_id;
SELECT customer_id, credit FROM customers;

UPDATE orders o SET note = c.name FROM customers c WHERE c.customer_id = o.customer_id AND c.region = 'r3';
SELECT customer_id, order_id, note FROM orders;

UPDATE items i SET price = p.price FROM products p WHERE p.sku = i.sku AND p.price IS NOT NULL;
SELECT sku, sum(price) FROM items GROUP BY sku;

UPDATE customers SET name = r.title FROM regions r WHERE r.region = customers.region AND customer_id < 40 RETURNING customer_id, r.manager;

UPDATE customers SET name = m.body FROM memo m WHERE m.customer_id = customers.customer_id;
SELECT customer_id, name FROM customers;

UPDATE memo SET body = c.name FROM customers c WHERE c.customer_id = memo.customer_id;
SELECT * FROM memo;

UPDATE customers SET credit = add_tax(credit) WHERE customer_id < 30;
SELECT customer_id, credit FROM customers WHERE customer_id < 35;

UPDATE customers SET credit = order_count(customer_id) WHERE customer_id < 30 RETURNING customer_id, credit;

UPDATE customers SET born = current_date WHERE customer_id = 4;
SELECT born = current_date FROM customers WHERE customer_id = 4;

UPDATE customers SET customer_id = customer_id + 5000 WHERE customer_id < 40;
SELECT customer_id, name, tags, profile FROM customers WHERE customer_id > 5000 OR customer_id < 45;

UPDATE customers SET customer_id = 5000 WHERE customer_id = 8 RETURNING *;
SELECT name FROM customers WHERE customer_id IN (8, 5000);

UPDATE customers SET customer_id = 9 WHERE customer_id = 8;

UPDATE customers SET customer_id = NULL WHERE customer_id = 8;

UPDATE visits SET day = day + 30 WHERE day = '2026-01-19';
SELECT day, visit_id FROM visits WHERE day IN ('2026-01-19', '2026-02-18');

UPDATE seats SET tenant = 'tenant7' WHERE tenant = 'tenant1' AND seat < 30;
SELECT tenant, seat FROM seats;

UPDATE regions SET manager = manager + 1 RETURNING region, manager;
SELECT c.customer_id, r.manager FROM customers c JOIN regions r USING (region);

UPDATE options SET value = 'x' || value WHERE name LIKE '%1' RETURNING *;

UPDATE visits SET ms = ms + 1 WHERE day > '2026-02-01' AND path = '/p3';
SELECT sum(ms) FROM visits;

UPDATE customers SET credit = (SELECT max(total) FROM orders) WHERE customer_id = 3 RETURNING credit;

UPDATE customers SET credit = 0 WHERE customer_id IN (SELECT customer_id FROM orders WHERE total > 9000);
SELECT count(*) FROM customers WHERE credit = 0;

UPDATE customers SET credit = 0 WHERE region = (SELECT region FROM customers WHERE customer_id = 6);
SELECT count(*) FROM customers WHERE credit = 0;

UPDATE no_such_table SET a = 1;

UPDATE customers SET nothing = 1;

DELETE FROM customers WHERE customer_id = 7 RETURNING *;

DELETE FROM orders WHERE customer_id = 22;
SELECT count(*) FROM orders;

DELETE FROM orders WHERE status = 'new' RETURNING customer_id, order_id;
SELECT status, count(*) FROM orders GROUP BY status;

DELETE FROM orders;
SELECT count(*) FROM orders;

DELETE FROM orders o USING customers c WHERE c.customer_id = o.customer_id AND c.region = 'r2';
SELECT count(*), sum(total) FROM orders;

DELETE FROM items i USING products p WHERE p.sku = i.sku AND p.price > 30 RETURNING i.order_id, p.title;

DELETE FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id);
SELECT count(*) FROM customers;

DELETE FROM customers WHERE customer_id IN (SELECT customer_id FROM memo) RETURNING customer_id;

DELETE FROM regions WHERE region = 'r5';
SELECT * FROM regions;

DELETE FROM visits WHERE day < '2026-02-01';
SELECT count(*) FROM visits;

DELETE FROM seats WHERE tenant IN ('tenant1', 'tenant5') RETURNING seat;

DELETE FROM customers WHERE order_count(customer_id) = 0 AND customer_id < 60 RETURNING customer_id;

WITH moved AS (DELETE FROM orders WHERE status = 'done' RETURNING *) SELECT count(*), sum(total) FROM moved;
SELECT count(*) FROM orders;

WITH moved AS (DELETE FROM orders WHERE customer_id < 20 RETURNING *) INSERT INTO orders SELECT customer_id + 1000, order_id, placed, total, status, note FROM moved;
SELECT customer_id, order_id FROM orders WHERE customer_id > 1000 OR customer_id < 20;

WITH ins AS (INSERT INTO customers (customer_id, name) VALUES (1001, 'x'), (1002, 'y') RETURNING customer_id) INSERT INTO orders (customer_id, order_id, placed, status) SELECT customer_id, 1, '2026-01-01', 'new' FROM ins RETURNING customer_id;
SELECT c.customer_id, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE c.customer_id > 1000;

WITH up AS (UPDATE customers SET credit = 1 WHERE region = 'r3' RETURNING customer_id) SELECT count(*) FROM up JOIN orders USING (customer_id);

WITH ins AS (INSERT INTO memo VALUES (999, 5, 'z') RETURNING customer_id) SELECT c.name FROM customers c JOIN ins USING (customer_id);

TRUNCATE orders;
SELECT count(*) FROM orders;

TRUNCATE orders, items;
SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM items);

INSERT INTO orders VALUES (1, 90001, now(), 1, 'new', NULL);
UPDATE orders SET total = 2 WHERE order_id = 90001;
DELETE FROM orders WHERE customer_id = 1 AND order_id = 90001 RETURNING total;
SELECT count(*) FROM orders WHERE order_id = 90001;

INSERT INTO customer_total VALUES (1, 1, 1);

INSERT INTO big_order VALUES (3, 90001, 6000);

UPDATE big_order SET total = total + 1 WHERE customer_id < 50 RETURNING *;

DELETE FROM big_order WHERE customer_id = 15 RETURNING order_id;
