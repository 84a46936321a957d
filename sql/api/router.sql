-- The C side of virtual databases: wrapper a67_fdw, keys and their shards, state of endpoints.

CREATE OR REPLACE FUNCTION a67_internal._fdw_handler() RETURNS fdw_handler
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'a67_sql_fdw_handler';
COMMENT ON FUNCTION a67_internal._fdw_handler() IS 'Scans and changes of virtual tables';

CREATE OR REPLACE FUNCTION a67_internal._fdw_validator(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'a67_sql_fdw_validator';
COMMENT ON FUNCTION a67_internal._fdw_validator(text[], oid) IS 'Refuses options that servers and tables of a67_fdw do not have';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwname = 'a67_fdw') THEN
        CREATE FOREIGN DATA WRAPPER a67_fdw HANDLER a67_internal._fdw_handler VALIDATOR a67_internal._fdw_validator;
        COMMENT ON FOREIGN DATA WRAPPER a67_fdw IS 'Virtual databases: tables whose rows are on shards';
    END IF;
END
$$;

-- ---- keys and their shards ----

CREATE OR REPLACE FUNCTION a67.shard_key_text(key anyelement) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'a67_sql_shard_key_text';
COMMENT ON FUNCTION a67.shard_key_text(anyelement) IS
    'The canonical text of a shard key: the same for equal values of any integer or text type, under any settings';

CREATE OR REPLACE FUNCTION a67.shard_hash(key anyelement) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'a67_sql_shard_hash';
COMMENT ON FUNCTION a67.shard_hash(anyelement) IS 'MurmurHash3 of the canonical text of a shard key: its place on the ring';

CREATE OR REPLACE FUNCTION a67.shard_of(relation regclass, key text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'a67_sql_shard_of';
COMMENT ON FUNCTION a67.shard_of(regclass, text) IS
    'The shard on which rows of a virtual table with this key are; NULL: no range or directory entry has it';

CREATE OR REPLACE FUNCTION a67_internal._shards_where(relation regclass, condition text) RETURNS text[]
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'a67_sql_shards_where';
COMMENT ON FUNCTION a67_internal._shards_where(regclass, text) IS
    'The shards that can hold rows of a virtual table for which a condition, written as in WHERE, is true; for tests';

CREATE OR REPLACE FUNCTION a67_internal._shard_try(connection text, shard text, sql text, trusted boolean) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'a67_sql_shard_try';
COMMENT ON FUNCTION a67_internal._shard_try(text, text, text, boolean) IS
    'The first value that a query answers with over a connection of its own; not trusted: the string may not say everything';

-- ---- what processes cache of databases ----

CREATE OR REPLACE FUNCTION a67_internal._database_changed(database text) RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'a67_sql_database_changed';
COMMENT ON FUNCTION a67_internal._database_changed(text) IS
    'At commit all processes forget what they know of the virtual database, plans included';

-- Whoever writes these rows, nobody has to remember to tell.
CREATE OR REPLACE FUNCTION a67_internal._database_row_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF TG_TABLE_NAME = 'shard_replica' THEN
        PERFORM a67_internal._database_changed(d.name)
        FROM a67_internal.database_shard s JOIN a67_internal.database d USING (database_id)
        WHERE s.shard_id IN (OLD.shard_id, NEW.shard_id);
    ELSE
        PERFORM a67_internal._database_changed(d.name)
        FROM a67_internal.database d WHERE d.database_id IN (OLD.database_id, NEW.database_id);
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER database_changed AFTER UPDATE ON a67_internal.database
FOR EACH ROW EXECUTE FUNCTION a67_internal._database_row_changed();
CREATE OR REPLACE TRIGGER database_changed AFTER INSERT OR DELETE OR UPDATE OF name, weight, connection_sealed, server_version,
    server_encoding, lc_collate, lc_ctype, collation_version ON a67_internal.database_shard
FOR EACH ROW EXECUTE FUNCTION a67_internal._database_row_changed();
CREATE OR REPLACE TRIGGER database_changed AFTER INSERT OR DELETE OR UPDATE OF connection_sealed ON a67_internal.shard_replica
FOR EACH ROW EXECUTE FUNCTION a67_internal._database_row_changed();
CREATE OR REPLACE TRIGGER database_changed AFTER INSERT OR DELETE OR UPDATE ON a67_internal.shard_range
FOR EACH ROW EXECUTE FUNCTION a67_internal._database_row_changed();
CREATE OR REPLACE TRIGGER database_changed AFTER INSERT OR DELETE OR UPDATE ON a67_internal.shard_directory
FOR EACH ROW EXECUTE FUNCTION a67_internal._database_row_changed();

-- ---- connections ----

CREATE OR REPLACE FUNCTION a67_internal._shard_endpoints()
RETURNS TABLE (shard_id integer, replica_id integer, state text, connections integer, waiting integer, failures integer,
    failures_total bigint, last_error text, last_error_at timestamptz, retry_at timestamptz)
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'a67_sql_shard_endpoints';
COMMENT ON FUNCTION a67_internal._shard_endpoints() IS 'What the processes of the server know of the endpoints that they used; replica 0 is the shard itself';

-- Definer: shared memory knows no owners.
CREATE OR REPLACE FUNCTION a67_internal._shard_endpoint_list()
RETURNS TABLE (database text, shard text, replica_id integer, state text, connections integer, waiting integer, failures integer,
    failures_total bigint, last_error text, last_error_at timestamptz, retry_at timestamptz)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT d.name, s.name, r.replica_id, coalesce(e.state, 'closed'), coalesce(e.connections, 0), coalesce(e.waiting, 0),
           coalesce(e.failures, 0), coalesce(e.failures_total, 0), e.last_error, e.last_error_at, e.retry_at
    FROM a67_internal.database d JOIN a67_internal.database_shard s USING (database_id)
    CROSS JOIN LATERAL (SELECT NULL::integer AS replica_id
                        UNION ALL SELECT c.replica_id FROM a67_internal.shard_replica c WHERE c.shard_id = s.shard_id) r
    LEFT JOIN a67_internal._shard_endpoints() e ON e.shard_id = s.shard_id AND e.replica_id = coalesce(r.replica_id, 0)
    WHERE a67_internal._is_admin() OR d.owner_id = a67_internal._claims_user_id()
$$;

CREATE OR REPLACE VIEW a67.shard_endpoint WITH (security_invoker = true) AS
SELECT e.database, e.shard, e.replica_id, e.state, e.connections, e.waiting, e.failures, e.failures_total, e.last_error,
       e.last_error_at, e.retry_at
FROM a67_internal._shard_endpoint_list() e;
COMMENT ON VIEW a67.shard_endpoint IS
    'The servers behind your shards (replica_id: of a replica) as this server finds them: circuit breaker, connections, failures in a row, last SQLSTATE';

-- ---- what shards computed, put together ----

CREATE OR REPLACE FUNCTION a67_internal._remote(VARIADIC "any") RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'a67_sql_remote';
COMMENT ON FUNCTION a67_internal._remote("any") IS
    'Stands in queries for what shards compute, until the planner puts a scan in its place';

-- PostgreSQL's own formula and digits: a quotient of sums, whose root has as many digits as the quotient.
CREATE OR REPLACE FUNCTION a67_internal._variance(n numeric, sum numeric, squares numeric, sample boolean, root boolean) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT CASE WHEN root AND v <> 'NaN' THEN round(sqrt(round(v, scale(v) + 30)), scale(v)) ELSE v END
    FROM (SELECT CASE WHEN n <= sample::integer THEN NULL
                      WHEN n * squares - sum * sum <= 0 THEN 0
                      ELSE (n * squares - sum * sum) / (n * (n - sample::integer)) END) q (v)
);
COMMENT ON FUNCTION a67_internal._variance(numeric, numeric, numeric, boolean, boolean) IS
    'Variance, or its root, of n numbers from their sum and the sum of their squares';

CREATE OR REPLACE AGGREGATE a67_internal._combine_float8(double precision[]) (
    SFUNC = float8_combine, STYPE = double precision[], INITCOND = '{0,0,0}', COMBINEFUNC = float8_combine, PARALLEL = SAFE
);
COMMENT ON AGGREGATE a67_internal._combine_float8(double precision[]) IS
    'Count, sum and squared deviations of numbers from those of their parts';

CREATE OR REPLACE AGGREGATE a67_internal._combine_regr(double precision[]) (
    SFUNC = float8_regr_combine, STYPE = double precision[], INITCOND = '{0,0,0,0,0,0}', COMBINEFUNC = float8_regr_combine,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE a67_internal._combine_regr(double precision[]) IS
    'Count, sums and deviations of pairs of numbers from those of their parts';
