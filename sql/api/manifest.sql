-- The manifest of a deployment: checked in one pass, all faults reported together, and normalised for the agent.

-- "64MB" (10^6), "64MiB" (2^20), or a plain number of bytes; NULL when it is neither.
CREATE OR REPLACE FUNCTION a67_internal._bytes(value jsonb) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    part text[] := regexp_match(value #>> '{}', '^([0-9]{1,12}(?:\.[0-9]{1,3})?) ?(|B|KB|MB|GB|TB|KIB|MIB|GIB|TIB)$', 'i');
BEGIN
    RETURN round(part[1]::numeric * CASE upper(part[2])
        WHEN 'KB' THEN 1e3 WHEN 'MB' THEN 1e6 WHEN 'GB' THEN 1e9 WHEN 'TB' THEN 1e12
        WHEN 'KIB' THEN 1024 WHEN 'MIB' THEN 1048576 WHEN 'GIB' THEN 1073741824 WHEN 'TIB' THEN 1099511627776
        ELSE 1 END);
END
$$;

-- "1s", "500ms", "2min", or a plain number of seconds; in ms, NULL when it is neither.
CREATE OR REPLACE FUNCTION a67_internal._duration_ms(value jsonb) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    part text[] := regexp_match(value #>> '{}', '^([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(|ms|s|m|min|h)$');
    ms numeric;
BEGIN
    ms := part[1]::numeric * CASE part[2]
        WHEN 'ms' THEN 1 WHEN 'm' THEN 60000 WHEN 'min' THEN 60000 WHEN 'h' THEN 3600000 ELSE 1000 END;
    RETURN CASE WHEN ms BETWEEN 1 AND 86400000 THEN ms END;
END
$$;

-- Faults of the env object, as "pointer: what is wrong".
CREATE OR REPLACE FUNCTION a67_internal._manifest_env_faults(env jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(env) <> 'object' THEN
        RETURN ARRAY['/env: must be an object of strings'];
    ELSIF (SELECT count(*) FROM jsonb_object_keys(env)) > 64 THEN
        RETURN ARRAY['/env: at most 64 variables'];
    ELSIF octet_length(env::text) > 65536 THEN
        RETURN ARRAY['/env: at most 65536 bytes in all'];
    END IF;
    RETURN coalesce((
        SELECT array_agg('/env/' || left(e.key, 64) || ': ' || CASE
                   WHEN e.key !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' THEN 'name must match [A-Za-z_][A-Za-z0-9_]* (128 at most)'
                   WHEN e.key = 'PORT' OR e.key ~ '^A67_' THEN 'name is reserved'
                   ELSE 'value must be a string of at most 4096 bytes' END ORDER BY e.key)
        FROM jsonb_each(env) e
        WHERE e.key !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' OR e.key = 'PORT' OR e.key ~ '^A67_'
           OR jsonb_typeof(e.value) <> 'string' OR octet_length(e.value #>> '{}') > 4096), '{}');
END
$$;

-- Faults of the secrets object; whether the secrets exist is asked when a deployment is made of it.
CREATE OR REPLACE FUNCTION a67_internal._manifest_secret_faults(secrets jsonb, env jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(secrets) <> 'object' THEN
        RETURN ARRAY['/secrets: must be an object of variables and the names of their secrets'];
    ELSIF (SELECT count(*) FROM jsonb_object_keys(secrets)) > 64 THEN
        RETURN ARRAY['/secrets: at most 64 variables'];
    END IF;
    RETURN coalesce((
        SELECT array_agg('/secrets/' || left(s.key, 64) || ': ' || CASE
                   WHEN s.key !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' THEN 'name must match [A-Za-z_][A-Za-z0-9_]* (128 at most)'
                   WHEN s.key = 'PORT' OR s.key ~ '^A67_' THEN 'name is reserved'
                   WHEN env ? s.key THEN 'name is in env too'
                   ELSE 'must be the name of a secret' END ORDER BY s.key)
        FROM jsonb_each(secrets) s
        WHERE s.key !~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$' OR s.key = 'PORT' OR s.key ~ '^A67_' OR env ? s.key
           OR jsonb_typeof(s.value) <> 'string' OR s.value #>> '{}' !~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$'), '{}');
END
$$;

-- Faults of health_check and resources.
CREATE OR REPLACE FUNCTION a67_internal._manifest_block_faults(manifest jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    faults text[] := '{}';
    health jsonb := manifest -> 'health_check';
    resources jsonb := manifest -> 'resources';
    field text;
BEGIN
    IF health IS NOT NULL AND jsonb_typeof(health) <> 'object' THEN
        faults := faults || '/health_check: must be an object'::text;
    ELSIF health IS NOT NULL THEN
        SELECT faults || coalesce(array_agg(format('/health_check/%s: unknown field', left(key, 64))), '{}') INTO faults
        FROM jsonb_object_keys(health) key WHERE key NOT IN ('path', 'interval', 'timeout', 'retries');
        IF coalesce(health ->> 'path', '') !~ '^/[!-~]{0,254}$' THEN
            faults := faults || '/health_check/path: must start with "/" (255 at most)'::text;
        END IF;
        FOREACH field IN ARRAY ARRAY['interval', 'timeout'] LOOP
            IF health ? field AND a67_internal._duration_ms(health -> field) IS NULL THEN
                faults := faults || format('/health_check/%s: must be a duration such as "1s", up to 24h', field);
            END IF;
        END LOOP;
        IF health ? 'retries' AND NOT coalesce(health ->> 'retries' ~ '^[1-9][0-9]?$', false) THEN
            faults := faults || '/health_check/retries: must be an integer from 1 to 99'::text;
        END IF;
    END IF;
    IF resources IS NOT NULL AND jsonb_typeof(resources) <> 'object' THEN
        faults := faults || '/resources: must be an object'::text;
    ELSIF resources IS NOT NULL THEN
        SELECT faults || coalesce(array_agg(format('/resources/%s: unknown field', left(key, 64))), '{}') INTO faults
        FROM jsonb_object_keys(resources) key WHERE key NOT IN ('memory', 'cpu');
        IF resources ? 'memory' AND coalesce(a67_internal._bytes(resources -> 'memory'), 0) < 1048576 THEN
            faults := faults || '/resources/memory: must be a size such as "64MB", at least 1 MiB'::text;
        END IF;
        IF resources ? 'cpu' AND NOT coalesce(resources ->> 'cpu' ~ '^[0-9]{1,3}(\.[0-9]{1,3})?$', false) THEN
            faults := faults || '/resources/cpu: must be a number of cores such as 0.5'::text;
        END IF;
    END IF;
    RETURN faults;
END
$$;

-- All faults of a manifest, one text each; empty when it is good.
CREATE OR REPLACE FUNCTION a67_internal._manifest_faults(manifest jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    faults text[] := '{}';
    entrypoint jsonb := manifest -> 'entrypoint';
BEGIN
    IF jsonb_typeof(manifest) IS DISTINCT FROM 'object' THEN
        RETURN ARRAY['/: must be an object'];
    END IF;
    SELECT faults || coalesce(array_agg(format('/%s: unknown field', left(key, 64))), '{}') INTO faults
    FROM jsonb_object_keys(manifest) key
    WHERE key NOT IN ('name', 'app_type', 'runtime', 'entrypoint', 'package', 'resources', 'replicas', 'env',
                      'secrets', 'on_secret_change', 'health_check', 'stop_grace');
    IF coalesce(manifest ->> 'name', '') !~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$' THEN
        faults := faults || '/name: must be lower-case letters, digits and "-", starting with a letter (63 at most)'::text;
    END IF;
    IF manifest ? 'app_type' AND coalesce(manifest ->> 'app_type', '') NOT IN ('backend', 'worker') THEN
        faults := faults || '/app_type: must be "backend" or "worker"'::text;
    END IF;
    IF manifest ? 'runtime' AND coalesce(manifest ->> 'runtime', '') <> 'executable' THEN
        faults := faults || '/runtime: must be "executable"'::text;
    END IF;
    IF jsonb_typeof(entrypoint) IS DISTINCT FROM 'array' OR jsonb_array_length(entrypoint) NOT BETWEEN 1 AND 64
       OR EXISTS (SELECT FROM jsonb_array_elements(entrypoint) a
                  WHERE jsonb_typeof(a) <> 'string' OR octet_length(a #>> '{}') > 4096)
       OR entrypoint ->> 0 = '' THEN
        faults := faults || '/entrypoint: must be an array of 1 to 64 strings, the program first'::text;
    END IF;
    IF coalesce(manifest ->> 'package', '') !~ '^[0-9a-f]{64}$' THEN
        faults := faults || '/package: must be the digest that a67.package_put() returned (64 hex digits)'::text;
    END IF;
    IF manifest ? 'replicas' AND NOT (jsonb_typeof(manifest -> 'replicas') = 'number'
                                      AND manifest ->> 'replicas' ~ '^([0-9]{1,3}|1000)$') THEN
        faults := faults || '/replicas: must be an integer from 0 to 1000'::text;
    END IF;
    IF manifest ? 'stop_grace' AND coalesce(a67_internal._duration_ms(manifest -> 'stop_grace'), 300001) > 300000 THEN
        faults := faults || '/stop_grace: must be a duration up to 5min'::text;
    END IF;
    IF manifest ? 'env' THEN
        faults := faults || a67_internal._manifest_env_faults(manifest -> 'env');
    END IF;
    IF manifest ? 'secrets' THEN
        faults := faults || a67_internal._manifest_secret_faults(manifest -> 'secrets',
            CASE jsonb_typeof(manifest -> 'env') WHEN 'object' THEN manifest -> 'env' ELSE '{}' END);
    END IF;
    IF manifest ? 'on_secret_change'
       AND coalesce(manifest ->> 'on_secret_change', '') NOT IN ('restart', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'none') THEN
        faults := faults || '/on_secret_change: must be "restart", "SIGHUP", "SIGUSR1", "SIGUSR2" or "none"'::text;
    END IF;
    RETURN faults || a67_internal._manifest_block_faults(manifest);
END
$$;

CREATE OR REPLACE FUNCTION a67.manifest_check(manifest jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT unnest(a67_internal._manifest_faults(manifest))
$$;
COMMENT ON FUNCTION a67.manifest_check(jsonb) IS 'Every fault of a manifest as "JSON pointer: what is wrong"; no rows when it is good';

-- The manifest with every default filled in and every unit resolved: what a release keeps, apart from the values of env.
CREATE OR REPLACE FUNCTION a67_internal._manifest_normal(manifest jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    faults text[] := a67_internal._manifest_faults(manifest);
    health jsonb := manifest -> 'health_check';
BEGIN
    IF cardinality(faults) > 0 THEN
        RAISE EXCEPTION 'invalid manifest: %', faults[1]
            USING ERRCODE = '22023', DETAIL = array_to_string(faults[1:20], E'\n'),
                  HINT = 'a67.manifest_check() lists every fault.';
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'name', manifest ->> 'name',
        'app_type', coalesce(manifest ->> 'app_type', 'backend'),
        'runtime', 'executable',
        'entrypoint', manifest -> 'entrypoint',
        'package', manifest ->> 'package',
        'replicas', coalesce((manifest ->> 'replicas')::integer, 1),
        'env', coalesce(manifest -> 'env', '{}'),
        'secrets', nullif(manifest -> 'secrets', '{}'),
        'on_secret_change', CASE WHEN nullif(manifest -> 'secrets', '{}') IS NOT NULL
                                 THEN coalesce(manifest ->> 'on_secret_change', 'restart') END,
        'health_check', CASE WHEN health IS NOT NULL THEN jsonb_build_object(
            'path', health ->> 'path',
            'interval_ms', coalesce(a67_internal._duration_ms(health -> 'interval'), 10000),
            'timeout_ms', coalesce(a67_internal._duration_ms(health -> 'timeout'), 5000),
            'retries', coalesce((health ->> 'retries')::integer, 3)) END,
        'resources', jsonb_build_object(
            'memory_bytes', coalesce(a67_internal._bytes(manifest #> '{resources,memory}'), 67108864),
            'cpu', coalesce((manifest #>> '{resources,cpu}')::numeric, 0.1)),
        'stop_grace_ms', coalesce(a67_internal._duration_ms(manifest -> 'stop_grace'), 10000)));
END
$$;
