-- The OpenAPI 3.1 description, made from the catalog: arguments, types and COMMENT ON texts.

CREATE OR REPLACE FUNCTION a67_internal._openapi_type(type oid) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE
        WHEN t.typcategory = 'A' THEN jsonb_build_object('type', 'array', 'items', a67_internal._openapi_type(t.typelem))
        WHEN type = 'boolean'::regtype THEN '{"type": "boolean"}'
        WHEN type IN ('integer'::regtype, 'bigint'::regtype) THEN '{"type": "integer"}'
        WHEN t.typcategory = 'N' THEN '{"type": "number"}'
        WHEN type = 'uuid'::regtype THEN '{"type": "string", "format": "uuid"}'
        WHEN type = 'timestamptz'::regtype THEN '{"type": "string", "format": "date-time"}'
        WHEN type IN ('json'::regtype, 'jsonb'::regtype) THEN '{}'
        ELSE '{"type": "string"}' END::jsonb
    FROM pg_type t WHERE t.oid = type
$$;

-- Input arguments of a public function, in order.
CREATE OR REPLACE FUNCTION a67_internal._openapi_arguments(function oid)
RETURNS TABLE (name text, schema jsonb, required boolean, ordinal bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT p.proargnames[i], a67_internal._openapi_type(p.proargtypes[i - 1]), i <= p.pronargs - p.pronargdefaults, i
    FROM pg_proc p, generate_series(1, p.pronargs) i WHERE p.oid = function ORDER BY i
$$;

-- One operation. route: {"method","path","function","body": "json" | "whole" | "raw" | "bearer" | "none","auth": boolean}.
CREATE OR REPLACE FUNCTION a67_internal._openapi_operation(function pg_proc, route jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH argument AS (
        SELECT a.*, position('{' || a.name || '}' IN route ->> 'path') > 0 AS in_path
        FROM a67_internal._openapi_arguments(function.oid) a
    ), parameters AS (
        SELECT jsonb_agg(jsonb_build_object('name', a.name, 'in', CASE WHEN a.in_path THEN 'path' ELSE 'query' END,
                                            'required', a.in_path OR a.required, 'schema', a.schema) ORDER BY a.ordinal) AS list
        FROM argument a WHERE a.in_path OR route ->> 'body' = 'none'
    ), body AS (
        SELECT CASE route ->> 'body'
            WHEN 'json' THEN jsonb_build_object('application/json', jsonb_build_object('schema', jsonb_strip_nulls(jsonb_build_object(
                'type', 'object', 'additionalProperties', false, 'properties', coalesce(jsonb_object_agg(a.name, a.schema), '{}'),
                'required', jsonb_agg(a.name ORDER BY a.ordinal) FILTER (WHERE a.required)))))
            WHEN 'whole' THEN '{"application/json": {"schema": {"type": "object"}}}'
            WHEN 'raw' THEN '{"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}' END::jsonb AS content,
            coalesce(bool_or(a.required), false) AS required
        FROM argument a WHERE NOT a.in_path)
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'operationId', lower(route ->> 'method') || '_' || regexp_replace(btrim(route ->> 'path', '/'), '[^A-Za-z0-9]+', '_', 'g'),
        'summary', obj_description(function.oid, 'pg_proc'),
        'tags', jsonb_build_array(split_part(function.proname::text, '_', 1)),
        'parameters', (SELECT list FROM parameters),
        'requestBody', (SELECT jsonb_build_object('required', required, 'content', content) FROM body WHERE content IS NOT NULL),
        'security', CASE WHEN (route ->> 'auth')::boolean THEN '[{"bearer": []}]'::jsonb END)
        || '{"responses": {"2XX": {"description": "Done."}, "default": {"$ref": "#/components/responses/Error"}}}'::jsonb)
$$;

-- The routes as given, if they are few enough: strangers may ask.
CREATE OR REPLACE FUNCTION a67_internal._openapi_routes(routes jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(routes) IS DISTINCT FROM 'array' OR jsonb_array_length(routes) > 500 THEN
        RAISE EXCEPTION 'routes must be an array of at most 500' USING ERRCODE = '22023', DETAIL = 'Field: routes.';
    END IF;
    RETURN routes;
END
$$;

CREATE OR REPLACE FUNCTION a67.openapi(routes jsonb DEFAULT '[]') RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    WITH rpc AS (
        SELECT jsonb_build_object('method', 'POST', 'path', '/rpc/' || p.proname, 'function', p.proname, 'body', 'json',
                                  'auth', NOT has_function_privilege('a67_anon', p.oid, 'EXECUTE')) AS route
        FROM pg_proc p WHERE p.pronamespace = 'a67'::regnamespace
          -- JSON does not say which type a polymorphic argument has.
          AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a (type) JOIN pg_type t ON t.oid = a.type WHERE t.typtype = 'p')
    ), operation AS (
        SELECT r.route ->> 'path' AS path, lower(r.route ->> 'method') AS method,
               a67_internal._openapi_operation(p, r.route) AS description
        FROM (SELECT route FROM rpc UNION ALL SELECT * FROM jsonb_array_elements(a67_internal._openapi_routes(routes))) r
        JOIN pg_proc p ON p.pronamespace = 'a67'::regnamespace AND p.proname = r.route ->> 'function'
    ), path AS (
        SELECT o.path, jsonb_object_agg(o.method, o.description) AS item FROM operation o GROUP BY o.path)
    SELECT jsonb_build_object(
        'openapi', '3.1.0',
        'info', jsonb_build_object('title', 'Automator67', 'version', a67.version(),
            'description', 'Control plane of a personal cloud. Every operation is an SQL function of schema a67.'),
        'paths', (SELECT jsonb_object_agg(p.path, p.item) FROM path p),
        'components', '{"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {"Error": {"type": "object", "required": ["code", "message"], "properties": {"code": {"type": "string"},
                "message": {"type": "string"}, "details": {"type": ["string", "null"]}, "hint": {"type": ["string", "null"]}}}},
            "responses": {"Error": {"description": "What went wrong.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}}}'::jsonb)
$$;
COMMENT ON FUNCTION a67.openapi(jsonb) IS 'OpenAPI 3.1 description of this API, with the routes given';
