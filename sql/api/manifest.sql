-- The normal form of a manifest: every default filled in, every unit resolved. What a release keeps, apart from the values of env.

-- Defaults and units as the schema has them; NULL for what is neither given nor has a default.
CREATE OR REPLACE FUNCTION a67_internal._manifest_fill(schema jsonb, value jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    s jsonb := a67_internal._manifest_resolve(schema);
    given jsonb := coalesce(value, s -> 'default');
BEGIN
    RETURN CASE
        WHEN given IS NULL THEN NULL
        WHEN s ? 'x-unit' THEN to_jsonb(trim_scale(a67_internal._manifest_quantity(given, s ->> 'x-unit')))
        WHEN jsonb_typeof(given) = 'number' THEN to_jsonb(trim_scale((given #>> '{}')::numeric))
        WHEN s ? 'properties' THEN (
            SELECT coalesce(jsonb_object_agg(f.name, f.value), '{}')
            FROM (SELECT coalesce(p.value ->> 'x-name', p.key) AS name,
                         a67_internal._manifest_fill(p.value, given -> p.key) AS value
                  FROM jsonb_each(s -> 'properties') p) f
            WHERE f.value IS NOT NULL)
        ELSE given END;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._manifest_normal(manifest jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    faults text[] := ARRAY(SELECT format('%s: %s, must be %s', coalesce(nullif(f.pointer, ''), 'manifest'), f.problem, f.allowed)
                           FROM a67_internal._manifest_faults(manifest) f);
    normal jsonb;
BEGIN
    IF cardinality(faults) > 0 THEN
        RAISE EXCEPTION 'invalid manifest: %', faults[1]
            USING ERRCODE = '22023', DETAIL = array_to_string(faults[1:50], E'\n'),
                  HINT = 'a67.manifest_check() lists every fault; docs/manifest.md tells what each field may be.';
    END IF;
    normal := a67_internal._manifest_fill(a67_internal._manifest_schema(), manifest);
    IF normal ? 'health_check' AND normal #> '{health_check,timeout_ms}' IS NULL THEN
        normal := jsonb_set(normal, '{health_check,timeout_ms}',
                            to_jsonb(least(5000, (normal #>> '{health_check,interval_ms}')::integer)));
    END IF;
    IF normal ->> 'app_type' = 'cron' THEN
        -- Its runs are its only replicas, and a run that has begun is left alone.
        RETURN (normal - 'strategy') || '{"replicas": 0, "on_secret_change": "none"}';
    END IF;
    RETURN normal - ARRAY['schedule', 'overlap', 'run_timeout_ms'];
END
$$;
