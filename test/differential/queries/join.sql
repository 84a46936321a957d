-- Joins of every kind between tables that are and are not colocated.
SELECT c.name, o.order_id FROM customers c JOIN orders o ON c.customer_id = o.customer_id;

SELECT c.name, o.order_id FROM customers c JOIN orders o USING (customer_id) WHERE customer_id = 71;

SELECT c.name, o.order_id, i.line FROM customers c JOIN orders o USING (customer_id) JOIN items i USING (customer_id, order_id) WHERE c.customer_id = 8;

SELECT c.name, o.order_id, i.line FROM customers c JOIN orders o USING (customer_id) JOIN items i USING (customer_id, order_id) WHERE i.quantity > 6;

SELECT * FROM customers NATURAL JOIN orders WHERE customer_id < 20;

SELECT c.customer_id, o.order_id FROM customers c LEFT JOIN orders o USING (customer_id);

SELECT c.customer_id, o.order_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND o.status = 'new' WHERE c.customer_id < 40;

SELECT c.customer_id, o.order_id, o.customer_id FROM customers c RIGHT JOIN orders o USING (customer_id);

SELECT c.customer_id, o.order_id FROM customers c FULL JOIN orders o USING (customer_id);

SELECT customer_id, count(*) FROM customers c FULL JOIN orders o USING (customer_id) GROUP BY customer_id;

SELECT c.customer_id FROM customers c LEFT JOIN orders o USING (customer_id) WHERE o.order_id IS NULL;

SELECT o.order_id FROM orders o LEFT JOIN customers c USING (customer_id) WHERE c.customer_id IS NULL;

SELECT o.order_id, i.sku, p.title FROM orders o JOIN items i USING (customer_id, order_id) JOIN products p USING (sku) WHERE o.customer_id < 30;

SELECT p.title, count(*) FROM items i JOIN products p USING (sku) GROUP BY p.title;

SELECT p.sku, i.order_id FROM products p LEFT JOIN items i USING (sku) WHERE p.sku IN ('sku1', 'sku46', 'sku49');

SELECT c.name, r.title FROM customers c JOIN regions r USING (region) WHERE c.customer_id < 30;

SELECT c.name, r.title FROM customers c LEFT JOIN regions r USING (region) WHERE c.customer_id < 30;

SELECT r.region, c.customer_id FROM regions r LEFT JOIN customers c USING (region);

SELECT r.region, c.customer_id FROM regions r LEFT JOIN customers c ON c.region = r.region AND c.customer_id = 5;

SELECT r.region, c.customer_id FROM customers c RIGHT JOIN regions r USING (region) WHERE c.customer_id IS NULL OR c.customer_id < 9;

SELECT r.region, c.customer_id FROM regions r FULL JOIN customers c USING (region);

SELECT r.region, q.region FROM regions r CROSS JOIN regions q;

SELECT r.region, s.region FROM regions r JOIN regions s ON r.manager < s.manager;

SELECT c.customer_id, d.customer_id FROM customers c JOIN customers d ON c.customer_id = d.customer_id + 1 WHERE c.customer_id < 30;

SELECT c.customer_id, d.customer_id FROM customers c JOIN customers d ON c.customer_id = d.customer_id WHERE c.region = 'r2';

SELECT c.customer_id, d.customer_id FROM customers c JOIN customers d ON c.region = d.region AND c.tier = d.tier AND c.customer_id < d.customer_id WHERE c.customer_id < 25;

SELECT a.customer_id, b.customer_id FROM customers a, customers b WHERE a.customer_id = 3 AND b.customer_id = 4;

SELECT a.customer_id, b.customer_id FROM customers a, customers b WHERE a.customer_id = 3 AND b.customer_id = 3;

SELECT a.customer_id, b.order_id FROM customers a, orders b WHERE a.customer_id = 15 AND b.customer_id = 22;

SELECT c.customer_id, m.body FROM customers c JOIN memo m USING (customer_id);

SELECT m.memo_id, c.name FROM memo m LEFT JOIN customers c USING (customer_id);

SELECT c.customer_id, m.body FROM customers c LEFT JOIN memo m USING (customer_id) WHERE c.customer_id < 60;

SELECT c.name, s.value FROM customers c JOIN options s ON s.name = 'option' || c.customer_id;

SELECT s.name, r.title FROM options s LEFT JOIN regions r ON r.region = 'r' || length(s.value);

SELECT v.day, c.name FROM visits v JOIN customers c USING (customer_id) WHERE v.day = '2026-01-25';

SELECT v.day, v.visit_id, w.visit_id FROM visits v JOIN visits w USING (day) WHERE v.visit_id < w.visit_id AND v.day < '2026-01-10';

SELECT s.tenant, s.seat, t.seat FROM seats s JOIN seats t USING (tenant) WHERE s.seat < t.seat AND s.tenant = 'tenant2' AND s.seat < 30;

SELECT s.tenant, c.name FROM seats s JOIN customers c ON c.customer_id = s.seat;

SELECT n.n, c.customer_id FROM numbers n JOIN customers c ON c.customer_id = n.n;

SELECT n.n, o.order_id FROM numbers n LEFT JOIN orders o ON o.customer_id = n.n WHERE n.n BETWEEN -3 AND 12;

SELECT c.customer_id, n.i FROM customers c JOIN numbers n ON n.i = c.customer_id;

SELECT c.customer_id, x.n FROM customers c CROSS JOIN generate_series(1, 2) x(n) WHERE c.customer_id < 10;

SELECT x.n, c.name FROM generate_series(1, 400, 40) x(n) LEFT JOIN customers c ON c.customer_id = x.n;

SELECT v.id, c.name FROM (VALUES (1), (5), (900)) v(id) JOIN customers c ON c.customer_id = v.id;

SELECT c.customer_id, l.order_id FROM customers c, LATERAL (SELECT o.order_id FROM orders o WHERE o.customer_id = c.customer_id ORDER BY o.order_id DESC LIMIT 2) l WHERE c.customer_id < 60;

SELECT c.customer_id, l.n FROM customers c LEFT JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.customer_id = c.customer_id) l ON true WHERE c.customer_id < 60;

SELECT c.customer_id, l.sku FROM customers c CROSS JOIN LATERAL (SELECT i.sku FROM items i WHERE i.quantity = c.customer_id AND i.line = 1 ORDER BY i.sku, i.order_id LIMIT 1) l;

SELECT r.region, l.name FROM regions r, LATERAL (SELECT c.name, c.customer_id FROM customers c WHERE c.region = r.region ORDER BY c.customer_id LIMIT 2) l;

SELECT m.memo_id, l.total FROM memo m, LATERAL (SELECT sum(total) AS total FROM orders o WHERE o.customer_id = m.customer_id) l;

SELECT c.customer_id, t.tag FROM customers c, unnest(c.tags) AS t(tag) WHERE c.customer_id < 30;

SELECT c.customer_id, t.tag, t.at FROM customers c LEFT JOIN unnest(c.tags) WITH ORDINALITY AS t(tag, at) ON true WHERE c.customer_id < 20;

SELECT c.customer_id, e.key, e.value FROM customers c, jsonb_each(c.profile) e WHERE c.customer_id < 20;

SELECT count(*) FROM customers c JOIN orders o ON c.customer_id > o.customer_id WHERE c.customer_id < 20 AND o.customer_id < 20;

SELECT count(*) FROM orders o JOIN items i ON o.order_id = i.order_id;

SELECT count(*) FROM orders o JOIN items i ON o.order_id = i.order_id AND o.customer_id = i.customer_id;

SELECT c.customer_id, count(o.order_id), count(i.line) FROM customers c LEFT JOIN (orders o JOIN items i USING (customer_id, order_id)) ON c.customer_id = o.customer_id GROUP BY c.customer_id;

SELECT c.customer_id, o.n FROM customers c JOIN (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) o USING (customer_id);

SELECT c.customer_id, o.n FROM customers c LEFT JOIN (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id HAVING count(*) > 3) o USING (customer_id) WHERE c.customer_id < 50;

SELECT r.title, x.n FROM regions r JOIN (SELECT region, count(*) AS n FROM customers GROUP BY region) x USING (region);

SELECT c.customer_id, x.n FROM customers c JOIN (SELECT region, count(*) AS n FROM customers GROUP BY region) x USING (region) WHERE c.customer_id < 30;

SELECT c.customer_id, x.order_id FROM customers c JOIN (SELECT * FROM orders ORDER BY order_id LIMIT 20) x USING (customer_id);

SELECT c.customer_id, x.order_id FROM customers c JOIN (SELECT DISTINCT ON (customer_id) * FROM orders ORDER BY customer_id, order_id DESC) x USING (customer_id);

SELECT x.customer_id, y.n FROM (SELECT customer_id FROM customers WHERE active) x JOIN (SELECT customer_id, sum(quantity) AS n FROM items GROUP BY 1) y ON x.customer_id = y.customer_id;

SELECT c.name, t.n, t.total FROM customers c JOIN customer_total t USING (customer_id) WHERE c.tier = 'pro';

SELECT c.name, b.total FROM customers c LEFT JOIN big_order b USING (customer_id) WHERE c.customer_id < 80;

--: ordered
SELECT c.name, o.order_id, o.total FROM customers c JOIN orders o USING (customer_id) ORDER BY o.total DESC NULLS LAST, o.order_id LIMIT 15;

--: ordered
SELECT c.region, o.order_id FROM customers c LEFT JOIN orders o USING (customer_id) ORDER BY c.region, o.order_id NULLS FIRST, c.customer_id LIMIT 20 OFFSET 10;

SELECT o.order_id FROM orders o, regions r, customers c WHERE o.customer_id = c.customer_id AND c.region = r.region AND r.title = 'Region 3';

SELECT count(*) FROM customers c JOIN orders o USING (customer_id) JOIN regions r USING (region) LEFT JOIN products p ON p.sku = 'sku' || o.order_id;

SELECT c.customer_id FROM customers c JOIN orders o ON o.customer_id = c.customer_id AND o.customer_id = 15;

SELECT c.customer_id, o.order_id FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND c.customer_id = 15 WHERE c.customer_id < 20;

SELECT c.customer_id, o.order_id FROM customers c JOIN orders o ON o.customer_id = c.customer_id AND c.customer_id IN (15, 16, 22);

SELECT c.customer_id, p.sku FROM customers c JOIN products p ON p.sku = 'sku' || c.customer_id WHERE c.customer_id < 60;

SELECT count(*) FROM customers c JOIN products p ON (p.attrs->>'size')::int = c.customer_id % 7;

SELECT n.n, m.n FROM numbers n JOIN numbers m ON n.n = m.i WHERE n.n > 0;

SELECT n.u, count(*) FROM numbers n JOIN numbers m USING (u) GROUP BY n.u;

SELECT count(*) FROM customers a JOIN customers b USING (region) JOIN customers c USING (region) WHERE a.customer_id < 10 AND b.customer_id < 10 AND c.customer_id < 10;
