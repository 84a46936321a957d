-- DDL that runs on all shards and keeps the local foreign tables in step.
-- src/router/ddl.h says how; here is who may do it, and what follows from it.

CREATE OR REPLACE FUNCTION a67_internal._ddl_run(server text, sql text, mode text, strategy text, key text, mapping text,
    shard text, default_strategy text, default_key text) RETURNS SETOF text
AS 'MODULE_PATHNAME', 'a67_sql_ddl_run' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._ddl_run(text, text, text, text, text, text, text, text, text) IS
    'Runs definitions here and on shards, answers the command of each; modes: any, create (one CREATE TABLE), adopt (of a table that shards have)';

CREATE OR REPLACE FUNCTION a67_internal._shard_ask(server text, sql text, only_shard text, OUT shard text, OUT answer text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'a67_sql_shard_ask' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._shard_ask(text, text, text) IS
    'First column of the rows of a query on all shards, or on one, inside of their transactions';

CREATE OR REPLACE FUNCTION a67_internal._shard_tell(server text, sql text, only_shard text) RETURNS void
AS 'MODULE_PATHNAME', 'a67_sql_shard_tell' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._shard_tell(text, text, text) IS
    'Runs a statement on all shards, or on one, inside of their transactions';

CREATE OR REPLACE FUNCTION a67.database_ddl(database text, sql text) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database_ddl.database, true);
BEGIN
    IF sql IS NULL OR octet_length(sql) > 1048576 THEN
        RAISE EXCEPTION 'invalid text of statements' USING ERRCODE = '22023', DETAIL = 'Field: sql.',
            HINT = 'It must have at most 1048576 bytes.';
    END IF;
    RETURN QUERY SELECT a67_internal._ddl_run('a67_' || d.name, database_ddl.sql, 'any', NULL, NULL, NULL, NULL, d.strategy, d.key);
    PERFORM a67_internal._mapping_tidy(d), a67_internal._database_event(d, 'schema');
END
$$;
COMMENT ON FUNCTION a67.database_ddl(text, text) IS
    'Runs CREATE, ALTER, DROP … of tables, indexes, types, views and sequences on a virtual database, all or none; answers the command of each';
