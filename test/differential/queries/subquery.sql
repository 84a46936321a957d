-- Subqueries, correlated or not, CTEs, set operations.
SELECT customer_id FROM customers WHERE customer_id IN (SELECT customer_id FROM orders WHERE total > 9000);

SELECT customer_id FROM customers WHERE customer_id NOT IN (SELECT customer_id FROM orders WHERE customer_id < 250);

SELECT customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND o.status = 'new');

SELECT customer_id FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id);

SELECT customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM items i WHERE i.quantity = c.customer_id);

SELECT customer_id, (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id) FROM customers c WHERE customer_id < 60;

SELECT customer_id, (SELECT max(total) FROM orders) FROM customers WHERE customer_id < 10;

SELECT customer_id, (SELECT title FROM regions r WHERE r.region = c.region) FROM customers c;

SELECT region, (SELECT count(*) FROM customers c WHERE c.region = r.region) FROM regions r;

SELECT order_id FROM orders o WHERE total > (SELECT avg(total) FROM orders p WHERE p.customer_id = o.customer_id);

SELECT order_id FROM orders o WHERE total > (SELECT avg(total) FROM orders);

SELECT order_id FROM orders o WHERE total = (SELECT max(total) FROM orders p WHERE p.status = o.status);

SELECT customer_id FROM customers WHERE credit > ALL (SELECT credit FROM customers WHERE region = 'r1' AND credit < 700);

SELECT customer_id FROM customers WHERE credit < ANY (SELECT total FROM orders WHERE total < 100);

SELECT customer_id FROM customers WHERE (region, tier) IN (SELECT region, tier FROM customers WHERE customer_id < 4);

SELECT customer_id FROM customers WHERE region IN (SELECT region FROM regions WHERE manager > 20);

SELECT customer_id FROM customers WHERE region NOT IN (SELECT region FROM regions WHERE manager > 20);

SELECT sku FROM products p WHERE NOT EXISTS (SELECT FROM items i WHERE i.sku = p.sku);

SELECT c.customer_id FROM customers c WHERE c.customer_id IN (SELECT o.customer_id FROM orders o WHERE o.order_id IN (SELECT i.order_id FROM items i WHERE i.quantity > 8));

SELECT customer_id FROM customers WHERE customer_id = (SELECT customer_id FROM orders WHERE order_id = 77);

SELECT customer_id FROM customers WHERE customer_id = (SELECT customer_id FROM orders);

SELECT (SELECT name FROM customers WHERE customer_id = o.customer_id), order_id FROM orders o WHERE order_id < 30;

SELECT ARRAY(SELECT order_id FROM orders o WHERE o.customer_id = c.customer_id ORDER BY 1), customer_id FROM customers c WHERE customer_id < 30;

SELECT customer_id, EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND total > 8000) FROM customers c;

SELECT * FROM (SELECT customer_id, name FROM customers WHERE active) x WHERE customer_id = 33;

SELECT * FROM (SELECT customer_id AS id, sum(total) AS t FROM orders GROUP BY customer_id) x WHERE id = 43;

SELECT * FROM (SELECT customer_id AS id, sum(total) AS t FROM orders GROUP BY customer_id) x WHERE t > 15000;

SELECT * FROM (SELECT * FROM customers ORDER BY customer_id LIMIT 5) x WHERE region = 'r1';

SELECT x.region, x.n FROM (SELECT region, count(*) AS n FROM customers GROUP BY region) x WHERE x.n > 40;

SELECT a.n + b.n FROM (SELECT count(*) AS n FROM customers) a, (SELECT count(*) AS n FROM orders) b;

SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM orders) AS total;

SELECT customer_id FROM customers c WHERE (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id) > 3;

SELECT region FROM regions r WHERE (SELECT sum(credit) FROM customers c WHERE c.region = r.region) > 25000;

--: ordered
SELECT customer_id FROM customers c ORDER BY (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id) DESC, customer_id LIMIT 12;

SELECT region, (SELECT array_agg(customer_id ORDER BY customer_id) FROM (SELECT customer_id FROM customers c WHERE c.region = r.region ORDER BY customer_id LIMIT 3) y) FROM regions r;

SELECT count(*) FROM orders o WHERE customer_id IN (SELECT customer_id FROM memo);

SELECT memo_id FROM memo m WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = m.customer_id AND o.total > 5000);

SELECT memo_id, (SELECT name FROM customers c WHERE c.customer_id = m.customer_id) FROM memo m;

SELECT n FROM numbers WHERE i IN (SELECT customer_id FROM customers WHERE region = 'r1');

SELECT n FROM numbers x WHERE f > (SELECT avg(f) + 0.001 FROM numbers y WHERE y.s = x.s);

WITH c AS (SELECT * FROM customers WHERE region = 'r2') SELECT c.customer_id, o.order_id FROM c JOIN orders o USING (customer_id);

WITH c AS MATERIALIZED (SELECT * FROM customers WHERE region = 'r2') SELECT count(*) FROM c JOIN orders o USING (customer_id);

WITH c AS NOT MATERIALIZED (SELECT * FROM customers) SELECT name FROM c WHERE customer_id = 12;

WITH t AS (SELECT customer_id, sum(total) AS s FROM orders GROUP BY customer_id) SELECT count(*), avg(s), max(s) FROM t;

WITH t AS (SELECT customer_id, sum(total) AS s FROM orders GROUP BY customer_id), u AS (SELECT avg(s) AS a FROM t) SELECT customer_id FROM t, u WHERE s > a * 2;

WITH t AS (SELECT region, count(*) AS n FROM customers GROUP BY region) SELECT a.region, b.region FROM t a JOIN t b ON a.n = b.n AND a.region < b.region;

WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT customer_id FROM customers, b WHERE customer_id = b.x;

WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT n, name FROM r LEFT JOIN customers ON customer_id = n;

WITH RECURSIVE chain(id, depth) AS (SELECT 200, 0 UNION ALL SELECT c.customer_id, depth + 1 FROM chain JOIN customers c ON c.customer_id = chain.id / 2 WHERE depth < 20) SELECT * FROM chain;

WITH RECURSIVE walk AS (SELECT customer_id, region FROM customers WHERE customer_id = 1 UNION SELECT c.customer_id, c.region FROM walk w JOIN customers c ON c.customer_id = w.customer_id + 5 WHERE c.customer_id < 100) SELECT * FROM walk;

WITH c AS (SELECT * FROM customers WHERE customer_id = 30) SELECT c.name, (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id) FROM c;

WITH unused AS (SELECT 1 / 0 FROM customers) SELECT count(*) FROM regions;

SELECT customer_id FROM customers WHERE customer_id < 5 UNION SELECT customer_id FROM orders WHERE customer_id < 8;

SELECT customer_id FROM customers WHERE customer_id < 5 UNION ALL SELECT customer_id FROM orders WHERE customer_id < 8;

SELECT customer_id FROM customers INTERSECT SELECT customer_id FROM orders;

SELECT customer_id FROM customers EXCEPT SELECT customer_id FROM orders;

SELECT customer_id FROM orders EXCEPT ALL SELECT customer_id FROM customers;

SELECT region FROM customers INTERSECT ALL SELECT region FROM regions;

SELECT region FROM customers UNION SELECT region FROM regions UNION SELECT 'r99';

--: ordered
SELECT customer_id, 'c' AS k FROM customers WHERE customer_id < 6 UNION ALL SELECT order_id, 'o' FROM orders WHERE order_id < 6 ORDER BY 1, 2;

--: ordered
(SELECT customer_id FROM customers ORDER BY customer_id LIMIT 3) UNION ALL (SELECT order_id FROM orders ORDER BY order_id DESC LIMIT 3) ORDER BY 1;

--: ordered
SELECT customer_id FROM customers UNION SELECT order_id FROM orders ORDER BY 1 LIMIT 7 OFFSET 250;

SELECT count(*) FROM (SELECT customer_id FROM customers UNION SELECT customer_id FROM orders) x;

SELECT region, count(*) FROM customers GROUP BY region UNION ALL SELECT 'all', count(*) FROM customers;

SELECT name FROM customers WHERE customer_id = 4 UNION SELECT name FROM customers WHERE customer_id = 4;

SELECT customer_id FROM customers WHERE customer_id = 4 UNION ALL SELECT customer_id FROM orders WHERE customer_id = 4 UNION ALL SELECT customer_id FROM items WHERE customer_id = 4;

SELECT customer_id::bigint FROM customers WHERE customer_id < 4 UNION ALL SELECT n FROM numbers WHERE n BETWEEN 1 AND 5;

SELECT x.customer_id, c.name FROM (SELECT customer_id FROM customers WHERE tier = 'pro' INTERSECT SELECT customer_id FROM orders) x JOIN customers c USING (customer_id);

(SELECT customer_id FROM customers EXCEPT SELECT customer_id FROM orders WHERE status = 'new') INTERSECT SELECT customer_id FROM items;

SELECT credit FROM customers WHERE customer_id < 3 UNION SELECT NULL;

SELECT * FROM (VALUES (1, 'one'), (2, 'two')) v(id, word) UNION ALL SELECT customer_id, name FROM customers WHERE customer_id < 3;

SELECT c.customer_id FROM customers c WHERE c.customer_id < 50 AND c.credit > (SELECT avg(d.credit) FROM customers d WHERE d.region = c.region);

SELECT c.customer_id, (SELECT string_agg(x.status, ',' ORDER BY x.status) FROM (SELECT DISTINCT o.status FROM orders o WHERE o.customer_id = c.customer_id) x) FROM customers c WHERE c.customer_id < 40;

SELECT count(*) FROM customers c WHERE c.customer_id IN (SELECT i.customer_id FROM items i JOIN products p USING (sku) WHERE p.price > 40);

SELECT o.status, (SELECT count(*) FROM items i WHERE i.customer_id = o.customer_id AND i.order_id = o.order_id) AS n, count(*) FROM orders o GROUP BY 1, 2;

SELECT r.region FROM regions r WHERE r.region = ANY (SELECT c.region FROM customers c WHERE c.tier = 'pro' AND c.customer_id < 30);

SELECT customer_id FROM customers WHERE row(customer_id, region) IN (SELECT 5, 'r0' UNION SELECT 6, 'r1');

SELECT count(*) FROM orders WHERE (customer_id, order_id) IN (SELECT customer_id, order_id FROM items WHERE quantity = 3);

SELECT count(*) FROM orders o WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.customer_id = o.customer_id AND i.order_id = o.order_id AND i.quantity > 4);

WITH w AS (SELECT customer_id, row_number() OVER (ORDER BY credit DESC NULLS LAST, customer_id) AS r FROM customers) SELECT w.r, o.order_id FROM w JOIN orders o USING (customer_id) WHERE w.r <= 5;

SELECT s.tenant, (SELECT count(*) FROM seats t WHERE t.tenant = s.tenant AND t.seat < s.seat) FROM seats s WHERE s.seat < 20;

SELECT day, count(*) FROM visits v WHERE EXISTS (SELECT 1 FROM visits w WHERE w.day = v.day AND w.ms > 1900) GROUP BY day;

SELECT CASE WHEN EXISTS (SELECT 1 FROM customers WHERE customer_id = 3) THEN 'yes' ELSE 'no' END;

SELECT * FROM customers c WHERE c.customer_id = 3 AND EXISTS (SELECT 1 FROM customers d WHERE d.customer_id = 4);

SELECT count(*) FROM (SELECT c.customer_id FROM customers c JOIN orders o USING (customer_id) EXCEPT SELECT customer_id FROM memo) x;

SELECT y.k, sum(y.v) FROM (SELECT 'c' AS k, credit AS v FROM customers UNION ALL SELECT 'o', total FROM orders UNION ALL SELECT 'i', price FROM items) y GROUP BY y.k;
