-- SQL that arrives through the API. It is hostile: _query_run runs it with the rights of one role that may use one schema and
-- nothing else, in a frame that it cannot leave (src/router/query.c).

CREATE OR REPLACE FUNCTION a67_internal._query_run(schema name, role name, query text, params jsonb) RETURNS jsonb
AS 'MODULE_PATHNAME', 'a67_sql_query_run' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._query_run(name, name, text, jsonb) IS
    'Runs one statement as the role, on tables of the schema alone, within limits of time, memory and size';

CREATE OR REPLACE FUNCTION a67_internal._query_is_ddl(query text) RETURNS boolean
AS 'MODULE_PATHNAME', 'a67_sql_query_is_ddl' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION a67_internal._query_is_ddl(text) IS
    'Whether the statement is DDL on tables rather than a query; raises an error for anything else and for several';

-- options: the same as an object of consistency, token and allow_partial.
CREATE OR REPLACE FUNCTION a67.database_query(database text, query text, params jsonb DEFAULT NULL, options jsonb DEFAULT NULL,
    consistency text DEFAULT NULL, token text DEFAULT NULL, allow_partial boolean DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
-- What is set inside is undone at the end.
SET a67.allow_partial = off
SET a67.shard_replicas = off
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database);
    began timestamptz := clock_timestamp();
BEGIN
    IF query IS NULL OR btrim(query, E' \t\r\n') = '' THEN
        RAISE EXCEPTION 'query must not be empty' USING ERRCODE = '22023', DETAIL = 'Field: query.';
    ELSIF options IS NOT NULL THEN
        PERFORM a67_internal._changes_check(options, 'options', ARRAY['consistency', 'token', 'allow_partial']);
        consistency := coalesce(consistency, options ->> 'consistency');
        token := coalesce(token, options ->> 'token');
        IF jsonb_typeof(options -> 'allow_partial') NOT IN ('boolean', 'null') THEN
            RAISE EXCEPTION 'allow_partial must be true or false' USING ERRCODE = '22023', DETAIL = 'Field: options.allow_partial.';
        END IF;
        allow_partial := coalesce(allow_partial, (options ->> 'allow_partial')::boolean);
    END IF;
    IF coalesce(consistency, 'strong') NOT IN ('strong', 'eventual') THEN
        RAISE EXCEPTION 'unknown consistency "%"', left(consistency, 64)
            USING ERRCODE = '22023', DETAIL = 'Field: consistency.', HINT = 'It is strong or eventual.';
    ELSIF token IS NOT NULL THEN
        RAISE EXCEPTION 'unknown token' USING ERRCODE = '22023', DETAIL = 'Field: token.',
            HINT = 'Answers carry no token while every read sees all writes; send null.';
    END IF;
    IF a67_internal._query_is_ddl(query) THEN
        IF jsonb_array_length(nullif(params, 'null')) > 0 THEN
            RAISE EXCEPTION 'DDL takes no parameters' USING ERRCODE = '22023', DETAIL = 'Field: params.';
        END IF;
        PERFORM a67.database_ddl(d.name, query);
        RETURN jsonb_build_object('query', query, 'rows_returned', 0, 'columns', '[]'::jsonb, 'data', '[]'::jsonb, 'token', NULL,
            'execution_time_ms', round(extract(epoch FROM clock_timestamp() - began) * 1000, 3),
            'shards_queried', (SELECT count(*) FROM a67_internal.database_shard s WHERE s.database_id = d.database_id));
    END IF;
    -- Replicas may be behind: who wants to see all that is committed is answered by primaries alone.
    PERFORM set_config('a67.allow_partial', coalesce(allow_partial, false)::text, true),
            set_config('a67.shard_replicas', (coalesce(consistency, 'strong') = 'eventual')::text, true);
    RETURN a67_internal._query_run(d.name, a67_internal._database_role_name(d, 'write'), query, nullif(params, 'null'));
END
$$;
COMMENT ON FUNCTION a67.database_query(text, text, jsonb, jsonb, text, text, boolean) IS
    'Runs one statement on a virtual database (name or id): SELECT, INSERT, UPDATE, DELETE, EXPLAIN or DDL; params are the values of $1, $2 …';
