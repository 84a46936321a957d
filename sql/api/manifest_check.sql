-- What is wrong with a manifest: its schema applied to it, all faults in one pass, and the rules that no schema can say.

CREATE OR REPLACE FUNCTION a67_internal._cron_fault(schedule text) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_cron_fault' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._cron_fault(text) IS 'What is wrong with a schedule; NULL when it is one';

CREATE OR REPLACE FUNCTION a67_internal._cron_expand(schedule text) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_cron_expand' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._cron_expand(text) IS 'A schedule in its five fields';

CREATE OR REPLACE FUNCTION a67_internal._cron_next(schedule text, after timestamptz) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'a67_sql_cron_next' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._cron_next(text, timestamptz) IS 'When a schedule comes due next (UTC)';

CREATE OR REPLACE FUNCTION a67_internal._cron_previous(schedule text, at timestamptz) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'a67_sql_cron_previous' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._cron_previous(text, timestamptz) IS 'When it came due last, this minute included (UTC)';

-- A quantity with its unit: bytes ("64MiB"), ms ("1s"; a plain number is seconds) or cores ("500m"). NULL when it is none.
CREATE OR REPLACE FUNCTION a67_internal._manifest_quantity(value jsonb, unit text) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    part text[] := regexp_match(value #>> '{}', '^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$');
    factor numeric;
BEGIN
    IF unit = 'bytes' THEN
        factor := CASE upper(part[2])
            WHEN '' THEN 1 WHEN 'B' THEN 1 WHEN 'KB' THEN 1e3 WHEN 'MB' THEN 1e6 WHEN 'GB' THEN 1e9 WHEN 'TB' THEN 1e12
            WHEN 'KIB' THEN 2 ^ 10 WHEN 'MIB' THEN 2 ^ 20 WHEN 'GIB' THEN 2 ^ 30 WHEN 'TIB' THEN 2 ^ 40 END;
        RETURN round(part[1]::numeric * factor);
    ELSIF unit = 'ms' THEN
        factor := CASE part[2]
            WHEN '' THEN 1000 WHEN 'ms' THEN 1 WHEN 's' THEN 1000 WHEN 'm' THEN 60000 WHEN 'min' THEN 60000 WHEN 'h' THEN 3600000 END;
        RETURN round(part[1]::numeric * factor);
    END IF;
    RETURN round(part[1]::numeric * CASE part[2] WHEN '' THEN 1 WHEN 'm' THEN 0.001 END, 3);
END
$$;

-- A reference into the schema, resolved; what stands beside it wins.
CREATE OR REPLACE FUNCTION a67_internal._manifest_resolve(schema jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN schema ? '$ref'
                THEN (a67_internal._manifest_schema() #> string_to_array(substr(schema ->> '$ref', 3), '/')) || (schema - '$ref')
                ELSE schema END;
END
$$;

-- "an integer from 0 to 1000": what a schema allows, for messages.
CREATE OR REPLACE FUNCTION a67_internal._manifest_allowed(schema jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    choices text[] := ARRAY(SELECT to_json(e)::text FROM jsonb_array_elements_text(schema -> 'enum') e);
    last integer := cardinality(choices);
BEGIN
    RETURN coalesce(schema ->> 'x-allowed', CASE
        WHEN last > 0 THEN array_to_string(choices[1:last - 1], ', ') || ' or ' || choices[last]
        WHEN schema ? 'const' THEN schema ->> 'const'
        WHEN schema ->> 'type' IN ('integer', 'number') THEN
            format('%s from %s to %s', CASE schema ->> 'type' WHEN 'integer' THEN 'an integer' ELSE 'a number' END,
                   schema ->> 'minimum', schema ->> 'maximum')
        WHEN schema ->> 'type' = 'boolean' THEN 'true or false'
        WHEN schema ->> 'type' = 'object' THEN 'an object'
        ELSE schema ->> 'type' END);
END
$$;

-- A value for messages: nothing long, and nothing of what is private. wanted is the type that it should have.
CREATE OR REPLACE FUNCTION a67_internal._manifest_shown(value jsonb, wanted text, private boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    kind text := jsonb_typeof(value);
BEGIN
    IF kind IN ('array', 'object') THEN
        RETURN CASE WHEN value IN ('[]', '{}') THEN 'is empty'
                    WHEN kind IS DISTINCT FROM wanted THEN 'is an ' || kind
                    WHEN kind = 'array' THEN format('has %s elements', jsonb_array_length(value))
                    ELSE format('has %s members', (SELECT count(*) FROM jsonb_object_keys(value))) END;
    ELSIF kind = 'null' OR NOT private THEN
        RETURN 'is ' || CASE WHEN length(value::text) > 60 THEN left(value::text, 60) || '...' ELSE value::text END;
    END IF;
    RETURN 'is a ' || kind;
END
$$;

-- Whether the value itself is as the schema wants it, its parts apart.
CREATE OR REPLACE FUNCTION a67_internal._manifest_fits(schema jsonb, given jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    kind text := jsonb_typeof(given);
    types jsonb := CASE jsonb_typeof(schema -> 'type') WHEN 'string' THEN jsonb_build_array(schema -> 'type') ELSE schema -> 'type' END;
    content text := given #>> '{}';
    size bigint;
BEGIN
    IF types IS NOT NULL AND NOT types ? kind AND NOT (types ? 'integer' AND kind = 'number' AND content::numeric % 1 = 0) THEN
        RETURN false;
    ELSIF schema ? 'enum' AND NOT EXISTS (SELECT FROM jsonb_array_elements(schema -> 'enum') e WHERE e = given) THEN
        RETURN false;
    ELSIF schema ? 'const' AND schema -> 'const' <> given THEN
        RETURN false;
    ELSIF kind = 'string' AND (content !~ (schema ->> 'pattern') OR length(content) > (schema ->> 'maxLength')::integer) THEN
        RETURN false;
    ELSIF kind IN ('string', 'object') AND octet_length(content) > (schema ->> 'x-max-bytes')::integer THEN
        RETURN false;
    ELSIF kind = 'number' AND (content::numeric < (schema ->> 'minimum')::numeric OR content::numeric > (schema ->> 'maximum')::numeric) THEN
        RETURN false;
    ELSIF schema ? 'x-unit' AND NOT coalesce(a67_internal._manifest_quantity(given, schema ->> 'x-unit')
              BETWEEN (schema ->> 'x-minimum')::numeric AND (schema ->> 'x-maximum')::numeric, false) THEN
        RETURN false;
    ELSIF kind = 'object' AND (schema ? 'minProperties' OR schema ? 'maxProperties') THEN
        size := (SELECT count(*) FROM jsonb_object_keys(given));
        RETURN size BETWEEN coalesce((schema ->> 'minProperties')::bigint, 0) AND coalesce((schema ->> 'maxProperties')::bigint, size);
    ELSIF kind = 'array' THEN
        size := jsonb_array_length(given);
        RETURN size BETWEEN coalesce((schema ->> 'minItems')::bigint, 0) AND coalesce((schema ->> 'maxItems')::bigint, size)
           AND (NOT schema ? 'uniqueItems' OR (SELECT count(DISTINCT e) = size FROM jsonb_array_elements(given) e))
           AND (NOT schema ? 'contains' OR EXISTS (SELECT FROM jsonb_array_elements(given) e WHERE e = schema #> '{contains,const}'));
    END IF;
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._manifest_pointer(parent text, key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT parent || '/' || replace(replace(left(key, 128), '~', '~0'), '/', '~1')
$$;
COMMENT ON FUNCTION a67_internal._manifest_pointer(text, text) IS 'A JSON pointer one step further (RFC 6901)';

-- The faults of an object's members: missing ones, ones that are not known, names, and what is wrong within.
CREATE OR REPLACE FUNCTION a67_internal._manifest_walk_object(schema jsonb, given jsonb, pointer text, private boolean)
RETURNS TABLE (at text, problem text, allowed text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    names jsonb := a67_internal._manifest_resolve(schema -> 'propertyNames');
    member record;
BEGIN
    FOR member IN SELECT r AS key FROM jsonb_array_elements_text(schema -> 'required') r WHERE NOT given ? r LOOP
        RETURN QUERY SELECT a67_internal._manifest_pointer(pointer, member.key), 'is missing',
            a67_internal._manifest_allowed(coalesce(
                a67_internal._manifest_resolve(schema #> ARRAY['properties', member.key]),
                a67_internal._manifest_resolve(a67_internal._manifest_schema() #> ARRAY['properties', member.key])));
    END LOOP;
    FOR member IN SELECT e.key, e.value, schema #> ARRAY['properties', e.key] AS schema FROM jsonb_each(given) e LOOP
        IF member.schema IS NOT NULL THEN
            RETURN QUERY SELECT * FROM a67_internal._manifest_walk(member.schema, member.value,
                a67_internal._manifest_pointer(pointer, member.key), private);
        ELSIF schema -> 'additionalProperties' = 'false' THEN
            RETURN QUERY SELECT a67_internal._manifest_pointer(pointer, member.key), 'is not a field', 'one of '
                || (SELECT string_agg(p.key, ', ' ORDER BY p.key) FROM jsonb_each(schema -> 'properties') p WHERE NOT p.value ? 'not');
        ELSIF names IS NOT NULL AND NOT a67_internal._manifest_fits(names, to_jsonb(member.key)) THEN
            RETURN QUERY SELECT a67_internal._manifest_pointer(pointer, member.key), names ->> 'x-problem', names ->> 'x-allowed';
        ELSIF schema ? 'additionalProperties' THEN
            RETURN QUERY SELECT * FROM a67_internal._manifest_walk(schema -> 'additionalProperties', member.value,
                a67_internal._manifest_pointer(pointer, member.key), private);
        END IF;
    END LOOP;
END
$$;

-- The faults that a schema finds in a value.
CREATE OR REPLACE FUNCTION a67_internal._manifest_walk(schema jsonb, given jsonb, pointer text, private boolean)
RETURNS TABLE (at text, problem text, allowed text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    s jsonb := a67_internal._manifest_resolve(schema);
    hidden boolean := private OR s ? 'x-private';
    part record;
BEGIN
    IF s ? 'not' AND NOT EXISTS (SELECT FROM a67_internal._manifest_walk(s -> 'not', given, pointer, private)) THEN
        RETURN QUERY SELECT pointer, s ->> 'x-problem', a67_internal._manifest_allowed(s);
        RETURN;
    ELSIF NOT a67_internal._manifest_fits(s, given)
          OR s ? 'oneOf' AND 1 <> (SELECT count(*) FROM jsonb_array_elements(s -> 'oneOf') o WHERE given ?& ARRAY(
                SELECT jsonb_array_elements_text(o -> 'required'))) THEN
        RETURN QUERY SELECT pointer, a67_internal._manifest_shown(given, s ->> 'type', hidden), a67_internal._manifest_allowed(s);
    END IF;
    IF jsonb_typeof(given) = 'object' THEN
        RETURN QUERY SELECT * FROM a67_internal._manifest_walk_object(s, given, pointer, hidden);
    ELSIF jsonb_typeof(given) = 'array' AND s ? 'items' THEN
        FOR part IN SELECT e.value, e.ordinality - 1 AS index FROM jsonb_array_elements(given) WITH ORDINALITY e LIMIT 1000 LOOP
            RETURN QUERY SELECT * FROM a67_internal._manifest_walk(s -> 'items', part.value, pointer || '/' || part.index, hidden);
        END LOOP;
    END IF;
    FOR part IN SELECT a.value AS schema FROM jsonb_array_elements(s -> 'allOf') a LOOP
        IF NOT EXISTS (SELECT FROM a67_internal._manifest_walk(part.schema -> 'if', given, pointer, hidden)) THEN
            s := part.schema -> 'then';
        ELSE
            s := part.schema -> 'else';
        END IF;
        IF s IS NOT NULL THEN
            RETURN QUERY SELECT * FROM a67_internal._manifest_walk(s, given, pointer, hidden);
        END IF;
    END LOOP;
END
$$;

-- What no schema can say, of parts that are right for themselves.
CREATE OR REPLACE FUNCTION a67_internal._manifest_rules(manifest jsonb) RETURNS TABLE (at text, problem text, allowed text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    health jsonb := manifest -> 'health_check';
    strategy jsonb := manifest -> 'strategy';
    steps jsonb := strategy -> 'steps';
    reason text;
BEGIN
    IF manifest #>> '{entrypoint,0}' = '' THEN
        RETURN QUERY SELECT '/entrypoint/0', 'is empty', 'the program, script or directory';
    END IF;
    IF a67_internal._manifest_quantity(health -> 'timeout', 'ms')
       > a67_internal._manifest_quantity(coalesce(health -> 'interval', '"10s"'), 'ms') THEN
        RETURN QUERY SELECT '/health_check/timeout', 'is longer than the interval', 'a duration up to that of the interval';
    END IF;
    IF jsonb_typeof(manifest -> 'secrets') = 'object' AND jsonb_typeof(manifest -> 'env') = 'object' THEN
        RETURN QUERY SELECT a67_internal._manifest_pointer('/secrets', k), 'is in env too', 'in either of them'
        FROM jsonb_object_keys(manifest -> 'secrets') k WHERE manifest -> 'env' ? k;
    END IF;
    IF coalesce(strategy ->> 'max_surge', '1') IN ('0', '0%') AND coalesce(strategy ->> 'max_unavailable', '0') IN ('0', '0%') THEN
        RETURN QUERY SELECT '/strategy/max_surge', 'is 0, as max_unavailable is', 'at least 1, or let max_unavailable be';
    END IF;
    IF manifest ->> 'on_partition' = 'stop' AND strategy ->> 'type' IN ('blue_green', 'canary') THEN
        RETURN QUERY SELECT '/strategy/type', 'runs both releases at once, which on_partition "stop" rules out', '"rolling" or "recreate"';
    END IF;
    IF jsonb_typeof(steps) = 'array' AND (steps -> -1 <> '100' OR steps <> (
            SELECT coalesce(jsonb_agg(DISTINCT e ORDER BY e), '[]') FROM jsonb_array_elements(steps) e)) THEN
        RETURN QUERY SELECT '/strategy/steps', 'does not rise to 100',
            a67_internal._manifest_allowed(a67_internal._manifest_schema() #> '{properties,strategy,properties,steps}');
    END IF;
    reason := CASE jsonb_typeof(manifest -> 'schedule') WHEN 'string' THEN a67_internal._cron_fault(manifest ->> 'schedule') END;
    IF reason IS NOT NULL THEN
        RETURN QUERY SELECT '/schedule', reason, a67_internal._manifest_schema() #>> '{properties,schedule,x-allowed}';
    END IF;
END
$$;

-- Every fault, at most one for each place.
CREATE OR REPLACE FUNCTION a67_internal._manifest_faults(manifest jsonb) RETURNS TABLE (pointer text, problem text, allowed text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT DISTINCT ON (f.at COLLATE "C") f.at, f.problem, f.allowed
    FROM (SELECT 1 AS rank, w.* FROM a67_internal._manifest_walk(a67_internal._manifest_schema(), coalesce(manifest, 'null'), '', false) w
          UNION ALL
          SELECT 2, r.* FROM a67_internal._manifest_rules(manifest) r WHERE jsonb_typeof(manifest) = 'object') f
    ORDER BY f.at COLLATE "C", f.rank
$$;

CREATE OR REPLACE FUNCTION a67.manifest_check(manifest jsonb) RETURNS TABLE (pointer text, problem text, allowed text)
LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT * FROM a67_internal._manifest_faults(manifest)
$$;
COMMENT ON FUNCTION a67.manifest_check(jsonb) IS
    'Every fault of a manifest: where (a JSON pointer), what is wrong, what is allowed; no rows when it is good';

CREATE OR REPLACE FUNCTION a67.manifest_schema() RETURNS jsonb
LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._manifest_schema()
$$;
COMMENT ON FUNCTION a67.manifest_schema() IS 'The JSON Schema (2020-12) of manifests, for editors and other programs';
