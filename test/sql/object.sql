\set ECHO none
\set QUIET 1
\pset format unaligned
\pset tuples_only true
-- The complete list of what the extension owns. A change here is a change of what users and upgrades see.
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'a67')
ORDER BY object;
