-- Aggregates, grouping, having, grouping sets, windows.
SELECT count(*) FROM customers;

SELECT count(*), count(region), count(DISTINCT region), min(customer_id), max(customer_id) FROM customers;

SELECT sum(customer_id), avg(customer_id), sum(credit), avg(credit), min(credit), max(credit) FROM customers;

SELECT sum(rating), avg(rating), min(rating), max(rating), sum(rating::real) FROM customers;

SELECT stddev(customer_id), stddev_pop(customer_id), variance(customer_id), var_pop(customer_id), var_samp(customer_id), stddev_samp(customer_id) FROM customers;

SELECT stddev(credit), stddev_pop(credit), variance(credit), var_pop(credit) FROM customers;

SELECT stddev(rating), stddev_pop(rating), variance(rating), var_pop(rating) FROM customers;

SELECT stddev(i), variance(s), stddev(n), var_pop(d), stddev_pop(f) FROM numbers;

SELECT corr(f, i), covar_pop(f, i), covar_samp(f, i), regr_slope(f, i), regr_intercept(f, i), regr_r2(f, i), regr_count(f, i), regr_avgx(f, i), regr_sxx(f, i), regr_sxy(f, i) FROM numbers;

SELECT bool_and(active), bool_or(active), every(active) FROM customers;

SELECT bit_and(i), bit_or(i), bit_xor(i) FROM numbers;

SELECT min(name), max(name), min(born), max(born), min(tier), max(tier), min(tags), max(tags) FROM customers;

SELECT min(ts), max(tz), min(iv), max(iv), sum(iv), avg(iv), min(ip), max(ip), min(tm), max(c) FROM numbers;

SELECT sum(n), sum(i), sum(s), sum(d), sum(f), avg(n), avg(i), avg(s), avg(d), avg(f) FROM numbers;

SELECT count(*) FROM customers WHERE false;

SELECT sum(credit), avg(credit), min(credit), count(credit), bool_and(active), stddev(credit) FROM customers WHERE customer_id < 0;

SELECT region, count(*) FROM customers GROUP BY region;

SELECT region, tier, count(*), sum(credit), avg(rating) FROM customers GROUP BY region, tier;

SELECT region, count(*) FROM customers GROUP BY region HAVING count(*) > 50;

SELECT region, sum(credit) FROM customers GROUP BY region HAVING sum(credit) > 20000 AND region IS NOT NULL;

SELECT region FROM customers GROUP BY region HAVING max(customer_id) > 297;

SELECT count(*) FROM customers HAVING count(*) > 1000;

--: ordered
SELECT region, count(*) AS n FROM customers GROUP BY region ORDER BY n DESC, region LIMIT 3;

--: ordered
SELECT tier, avg(credit) FROM customers GROUP BY tier ORDER BY avg(credit) DESC LIMIT 2 OFFSET 1;

--: ordered
SELECT region FROM customers GROUP BY region ORDER BY sum(credit), region;

SELECT customer_id, count(*), sum(total), avg(total), max(placed) FROM orders GROUP BY customer_id;

SELECT customer_id, count(*) FROM orders GROUP BY customer_id HAVING count(*) > 3;

--: ordered
SELECT customer_id, sum(total) FROM orders GROUP BY customer_id ORDER BY sum(total) DESC NULLS LAST, customer_id LIMIT 10;

SELECT customer_id, status, count(*) FROM orders GROUP BY customer_id, status;

SELECT customer_id, count(DISTINCT status), string_agg(status, ',' ORDER BY order_id) FROM orders GROUP BY customer_id;

SELECT customer_id % 5 AS m, count(*), sum(total) FROM orders GROUP BY m;

SELECT customer_id % 5, customer_id / 100, count(*) FROM orders GROUP BY 1, 2;

SELECT date_trunc('month', placed) AS month, count(*), sum(total) FROM orders GROUP BY month;

SELECT extract(dow FROM placed), avg(total) FROM orders GROUP BY 1;

SELECT status, count(*) * 2 + 1, sum(total) / count(*), round(avg(total), 2) FROM orders GROUP BY status;

SELECT status || '!', count(*) FROM orders GROUP BY status;

SELECT upper(status), count(*) FROM orders GROUP BY upper(status);

SELECT CASE WHEN total > 5000 THEN 'big' ELSE 'small' END AS size, count(*) FROM orders GROUP BY size;

SELECT status, count(*) FILTER (WHERE total > 5000), sum(total) FILTER (WHERE note IS NULL) FROM orders GROUP BY status;

SELECT count(DISTINCT status), count(DISTINCT customer_id), count(DISTINCT total) FROM orders;

SELECT status, count(DISTINCT customer_id) FROM orders GROUP BY status;

SELECT status, count(DISTINCT customer_id), count(*), sum(total) FROM orders GROUP BY status;

SELECT status, sum(DISTINCT customer_id), avg(DISTINCT customer_id) FROM orders GROUP BY status;

SELECT count(DISTINCT (customer_id, status)) FROM orders;

SELECT count(DISTINCT region) FILTER (WHERE active) FROM customers;

SELECT string_agg(region, ',' ORDER BY region) FROM regions;

SELECT string_agg(name, ';' ORDER BY customer_id) FROM customers WHERE customer_id < 20;

SELECT array_agg(customer_id ORDER BY customer_id DESC) FROM customers WHERE region = 'r1';

SELECT tier, array_agg(DISTINCT region ORDER BY region) FROM customers GROUP BY tier;

SELECT jsonb_agg(customer_id ORDER BY customer_id), json_object_agg(customer_id, name ORDER BY customer_id) FROM customers WHERE customer_id < 10;

SELECT jsonb_object_agg(customer_id, name) FROM customers WHERE customer_id < 10;

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY credit), percentile_disc(0.9) WITHIN GROUP (ORDER BY credit) FROM customers;

SELECT region, percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY rating) FROM customers GROUP BY region;

SELECT mode() WITHIN GROUP (ORDER BY region) FROM customers WHERE region IN ('r1', 'r2') AND customer_id < 100;

SELECT rank(500.0) WITHIN GROUP (ORDER BY credit), dense_rank(500.0) WITHIN GROUP (ORDER BY credit) FROM customers;

SELECT region, tier, count(*) FROM customers GROUP BY GROUPING SETS ((region, tier), (region), ());

SELECT region, tier, count(*), grouping(region, tier) FROM customers GROUP BY ROLLUP (region, tier);

SELECT region, tier, sum(credit) FROM customers GROUP BY CUBE (region, tier);

SELECT region, active, avg(rating) FROM customers GROUP BY region, ROLLUP (active) HAVING count(*) > 2;

SELECT customer_id, status, count(*) FROM orders WHERE customer_id < 20 GROUP BY ROLLUP (customer_id, status);

SELECT region, count(*) FROM customers GROUP BY DISTINCT ROLLUP (region), ROLLUP (region);

SELECT region, count(*) FROM customers GROUP BY GROUPING SETS (region, region);

SELECT r.title, count(*), sum(o.total) FROM customers c JOIN orders o USING (customer_id) JOIN regions r USING (region) GROUP BY r.title;

SELECT c.region, count(*), count(DISTINCT c.customer_id) FROM customers c JOIN orders o USING (customer_id) GROUP BY c.region;

SELECT c.customer_id, c.name, sum(o.total) FROM customers c JOIN orders o USING (customer_id) GROUP BY c.customer_id, c.name;

SELECT c.tier, o.status, count(*) FROM customers c LEFT JOIN orders o USING (customer_id) GROUP BY 1, 2;

SELECT p.sku, sum(i.quantity * i.price) FROM products p JOIN items i USING (sku) GROUP BY p.sku;

SELECT day, count(*), avg(ms) FROM visits GROUP BY day HAVING count(*) > 6;

SELECT tenant, count(*), min(since), max(since) FROM seats GROUP BY tenant;

SELECT path, count(*), max(ms), min(ms) FROM visits WHERE day >= '2026-02-01' GROUP BY path;

SELECT avg(n) FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) x;

SELECT n, count(*) FROM (SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id) x GROUP BY n;

SELECT max(s) FROM (SELECT region, sum(credit) AS s FROM customers GROUP BY region) x;

SELECT sum(n) FROM (SELECT DISTINCT region, 1 AS n FROM customers) x;

SELECT count(*) FROM (SELECT DISTINCT customer_id FROM orders) x;

SELECT count(*) FROM (SELECT customer_id FROM orders ORDER BY total DESC NULLS LAST, order_id LIMIT 17) x;

SELECT any_match, count(*) FROM (SELECT region = ANY (ARRAY['r1', 'r2']) AS any_match FROM customers) x GROUP BY any_match;

SELECT sum(customer_id)::int / 7, -max(customer_id) FROM customers;

SELECT coalesce(sum(credit), 0) + count(*) FROM customers WHERE region = 'nowhere';

SELECT sum(9223372036854775807::bigint) FROM customers;

SELECT sum(customer_id::bigint * 9000000000000000)::bigint FROM customers;

--: foreign
SELECT region, count(*) FROM customers GROUP BY customer_id;

SELECT sum(name) FROM customers;

SELECT sum(count(*)) FROM customers;

SELECT customer_id, row_number() OVER (ORDER BY customer_id) FROM customers WHERE customer_id < 50;

SELECT customer_id, rank() OVER (PARTITION BY region ORDER BY credit), dense_rank() OVER (PARTITION BY region ORDER BY tier) FROM customers;

SELECT customer_id, order_id, sum(total) OVER (PARTITION BY customer_id ORDER BY order_id) FROM orders;

SELECT customer_id, order_id, row_number() OVER (PARTITION BY customer_id ORDER BY total DESC NULLS LAST, order_id) AS r FROM orders;

SELECT * FROM (SELECT customer_id, order_id, row_number() OVER (PARTITION BY customer_id ORDER BY order_id DESC) AS r FROM orders) x WHERE r = 1;

SELECT * FROM (SELECT region, customer_id, row_number() OVER (PARTITION BY region ORDER BY customer_id) AS r FROM customers) x WHERE r <= 2;

SELECT customer_id, lag(credit) OVER w, lead(name, 2, 'none') OVER w, first_value(credit) OVER w, last_value(credit) OVER w FROM customers WINDOW w AS (PARTITION BY tier ORDER BY customer_id);

SELECT order_id, avg(total) OVER (ORDER BY order_id ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING) FROM orders;

SELECT order_id, count(*) OVER (ORDER BY placed RANGE BETWEEN interval '1 day' PRECEDING AND CURRENT ROW) FROM orders;

SELECT customer_id, ntile(4) OVER (ORDER BY customer_id), percent_rank() OVER (ORDER BY credit), cume_dist() OVER (ORDER BY credit) FROM customers;

SELECT customer_id, count(*) OVER (), sum(credit) OVER (PARTITION BY region) FROM customers WHERE customer_id < 100;

SELECT region, count(*), sum(count(*)) OVER (ORDER BY region) FROM customers GROUP BY region;

SELECT customer_id, sum(total), rank() OVER (ORDER BY sum(total) DESC NULLS LAST, customer_id) FROM orders GROUP BY customer_id;

SELECT customer_id, nth_value(order_id, 2) OVER (PARTITION BY customer_id ORDER BY order_id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM orders;

--: ordered
SELECT customer_id, row_number() OVER (ORDER BY name, customer_id) AS r FROM customers ORDER BY r DESC LIMIT 10;

SELECT DISTINCT region, count(*) OVER (PARTITION BY region) FROM customers;

SELECT customer_id, sum(credit) FILTER (WHERE active) OVER (PARTITION BY tier) FROM customers;

SELECT width_bucket(credit, 0, 1000, 5), count(*) FROM customers GROUP BY 1;

SELECT array_agg(x ORDER BY x) FROM (SELECT DISTINCT unnest(tags) AS x FROM customers) y;

SELECT tag, count(*) FROM customers, unnest(tags) AS tag GROUP BY tag;

SELECT range_agg(period) FROM products WHERE period IS NOT NULL;

SELECT count(*), count(i), sum(i), avg(i)::numeric(10,3), max(t), min(t) FROM numbers GROUP BY bl;

SELECT bl, i, count(*) FROM numbers GROUP BY bl, i HAVING count(*) > 3;

SELECT sum(f), count(*) FROM numbers WHERE f > 'NaN'::float8;

SELECT max(n) - min(n), count(*) FILTER (WHERE n > 0)::numeric / count(*) FROM numbers;
