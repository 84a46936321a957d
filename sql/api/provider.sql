-- Providers and regions: the catalogue that a new installation starts with, and how administrators edit it.
--
-- A node's provider and region are free text; a row here adds what is known of them: quotas of the provider's free tier
-- (counted in usage.sql), when it puts a node to sleep, how to restart one, and where a region lies.

-- An object whose fields are all among known, or an error that names the field.
CREATE OR REPLACE FUNCTION a67_internal._changes_check(changes jsonb, argument text, known text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    unknown text;
BEGIN
    IF jsonb_typeof(changes) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION '% must be an object', argument USING ERRCODE = '22023', DETAIL = format('Field: %s.', argument);
    END IF;
    SELECT key INTO unknown FROM jsonb_object_keys(changes) key WHERE key <> ALL (known) ORDER BY key LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown field "%"', unknown
            USING ERRCODE = '22023', DETAIL = format('Field: %s.', unknown),
                HINT = format('Known are %s.', array_to_string(known, ', '));
    END IF;
END
$$;

-- The text of a field; NULL for null or none. Anything that is no text within the limits is an error.
CREATE OR REPLACE FUNCTION a67_internal._text_field(object jsonb, field text, longest integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := nullif(object -> field, 'null');
BEGIN
    IF jsonb_typeof(value) <> 'string' OR length(value #>> '{}') NOT BETWEEN 1 AND longest
       OR (value #>> '{}') ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION '% must be a text of 1 to % characters', field, longest
            USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    RETURN value #>> '{}';
END
$$;

-- A number of a field above 0 and up to highest; NULL for null or none.
CREATE OR REPLACE FUNCTION a67_internal._positive_field(object jsonb, field text, highest numeric) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := nullif(object -> field, 'null');
BEGIN
    IF value IS NULL THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(value) <> 'number' OR value::numeric <= 0 OR value::numeric > highest THEN
        RAISE EXCEPTION '% must be a number above 0 and at most %', field, highest
            USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    RETURN value::numeric;
END
$$;

-- The names of providers, regions and tiers: lower case, short, safe in a key or URL.
CREATE OR REPLACE FUNCTION a67_internal._word_check(word text, field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF word !~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'invalid % "%"', field, left(word, 100) USING ERRCODE = '22023', DETAIL = format('Field: %s.', field),
            HINT = 'Use lower-case letters, digits, ".", "_" and "-", at most 63.';
    END IF;
    RETURN word;
END
$$;

-- A time as a text that PostgreSQL reads as an interval, or as seconds.
CREATE OR REPLACE FUNCTION a67_internal._idle_pause(object jsonb) RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    value jsonb := nullif(object -> 'idle_pause', 'null');
    pause interval;
BEGIN
    pause := CASE jsonb_typeof(value) WHEN 'string' THEN (value #>> '{}')::interval
                                      WHEN 'number' THEN make_interval(secs => value::float8) END;
    IF value IS NOT NULL AND (pause IS NULL OR pause NOT BETWEEN interval '1 minute' AND interval '365 days') THEN
        RAISE numeric_value_out_of_range;
    END IF;
    RETURN pause;
EXCEPTION WHEN data_exception THEN
    RAISE EXCEPTION 'idle_pause must be an interval from 1 minute to 365 days'
        USING ERRCODE = '22023', DETAIL = 'Field: idle_pause.';
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._restart_url(object jsonb) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    url text := a67_internal._text_field(object, 'restart_url', 2000);
BEGIN
    -- No user and password, which would be stored and shown in errors: the secret is what proves the sender.
    IF url !~ '^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?([/?][!-~]*)?$' THEN
        RAISE EXCEPTION 'restart_url must be http(s)://host[:port][/path], without user and password'
            USING ERRCODE = '22023', DETAIL = 'Field: restart_url.';
    END IF;
    IF url LIKE 'http:%' AND NOT current_setting('a67.outbound_private')::boolean THEN
        RAISE EXCEPTION 'restart_url must begin with https://' USING ERRCODE = '22023', DETAIL = 'Field: restart_url.',
            HINT = 'Plain http is for private networks only: see the setting a67.outbound_private.';
    END IF;
    RETURN url;
END
$$;

CREATE OR REPLACE FUNCTION a67.provider_set(name text, changes jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted text := a67_internal._word_check(provider_set.name, 'name');
    secret text;
    p a67_internal.provider;
BEGIN
    IF wanted IS NULL OR wanted !~ '^[a-z0-9-]*$' THEN
        RAISE EXCEPTION 'invalid provider name "%"', wanted USING ERRCODE = '22023', DETAIL = 'Field: name.',
            HINT = 'Use lower-case letters, digits and "-".';
    END IF;
    PERFORM a67_internal._changes_check(changes, 'changes', ARRAY['title', 'monthly_hours', 'bandwidth_bytes', 'disk_bytes',
        'idle_pause', 'restart_url', 'restart_secret']);
    INSERT INTO a67_internal.provider AS t (name, title) VALUES (wanted, wanted)
    ON CONFLICT (name) DO UPDATE SET updated_at = clock_timestamp()
    RETURNING t.* INTO p;
    IF changes ? 'title' THEN
        p.title := coalesce(a67_internal._text_field(changes, 'title', 100), wanted);
    END IF;
    IF changes ? 'monthly_hours' THEN
        p.monthly_hours := a67_internal._positive_field(changes, 'monthly_hours', 1e5);
    END IF;
    IF changes ? 'bandwidth_bytes' THEN
        p.bandwidth_bytes := ceil(a67_internal._positive_field(changes, 'bandwidth_bytes', 1e18));
    END IF;
    IF changes ? 'disk_bytes' THEN
        p.disk_bytes := ceil(a67_internal._positive_field(changes, 'disk_bytes', 1e18));
    END IF;
    IF changes ? 'idle_pause' THEN
        p.idle_pause := a67_internal._idle_pause(changes);
    END IF;
    IF changes ? 'restart_url' THEN
        p.restart_url := a67_internal._restart_url(changes);
    END IF;
    IF changes ? 'restart_secret' THEN
        secret := a67_internal._text_field(changes, 'restart_secret', 256);
        IF length(secret) < 16 THEN
            RAISE EXCEPTION 'restart_secret must have at least 16 characters'
                USING ERRCODE = '22023', DETAIL = 'Field: restart_secret.';
        END IF;
        p.restart_secret_sealed := a67_internal._vault_seal(convert_to(secret, 'UTF8'), 'provider.restart_secret_sealed:' || wanted);
    END IF;
    IF p.restart_url IS NULL AND secret IS NOT NULL THEN
        RAISE EXCEPTION 'restart_secret without restart_url' USING ERRCODE = '22023', DETAIL = 'Field: restart_secret.',
            HINT = 'Give both.';
    END IF;
    IF p.restart_url IS NULL THEN
        p.restart_secret_sealed := NULL;
    END IF;
    UPDATE a67_internal.provider t
    SET title = p.title, monthly_hours = p.monthly_hours, bandwidth_bytes = p.bandwidth_bytes, disk_bytes = p.disk_bytes,
        idle_pause = p.idle_pause, restart_url = p.restart_url, restart_secret_sealed = p.restart_secret_sealed,
        updated_at = clock_timestamp()
    WHERE t.name = wanted;
    PERFORM a67_internal._audit('provider.set', 'ok', wanted);
    RETURN (SELECT a67_internal._provider_json(v) FROM a67.provider v WHERE v.name = wanted);
END
$$;
COMMENT ON FUNCTION a67.provider_set(text, jsonb) IS
    'Makes or changes a provider: title, monthly_hours, bandwidth_bytes, disk_bytes, idle_pause, restart_url, restart_secret; null clears a field';

CREATE OR REPLACE FUNCTION a67.provider_remove(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    DELETE FROM a67_internal.provider p WHERE p.name = provider_remove.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'provider "%" does not exist', provider_remove.name USING ERRCODE = 'PT404';
    END IF;
    PERFORM a67_internal._audit('provider.remove', 'ok', provider_remove.name);
END
$$;
COMMENT ON FUNCTION a67.provider_remove(text) IS 'Forgets what is known of a provider; its nodes stay, without quotas';

CREATE OR REPLACE FUNCTION a67.region_set(name text, latitude float8, longitude float8) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF a67_internal._word_check(region_set.name, 'name') IS NULL THEN
        RAISE EXCEPTION 'region name is missing' USING ERRCODE = '22023', DETAIL = 'Field: name.';
    END IF;
    -- NaN is above all numbers, so that this refuses it too.
    IF latitude BETWEEN -90 AND 90 IS NOT TRUE THEN
        RAISE EXCEPTION 'latitude must be between -90 and 90' USING ERRCODE = '22023', DETAIL = 'Field: latitude.';
    END IF;
    IF longitude BETWEEN -180 AND 180 IS NOT TRUE THEN
        RAISE EXCEPTION 'longitude must be between -180 and 180' USING ERRCODE = '22023', DETAIL = 'Field: longitude.';
    END IF;
    INSERT INTO a67_internal.region AS r VALUES (region_set.name, region_set.latitude, region_set.longitude)
    ON CONFLICT ON CONSTRAINT region_pkey DO UPDATE SET latitude = excluded.latitude, longitude = excluded.longitude;
    PERFORM a67_internal._audit('region.set', 'ok', region_set.name);
END
$$;
COMMENT ON FUNCTION a67.region_set(text, float8, float8) IS 'Says where a region lies, in degrees; makes it if need be';

CREATE OR REPLACE FUNCTION a67.region_remove(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    DELETE FROM a67_internal.region r WHERE r.name = region_remove.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'region "%" does not exist', region_remove.name USING ERRCODE = 'PT404';
    END IF;
    PERFORM a67_internal._audit('region.remove', 'ok', region_remove.name);
END
$$;
COMMENT ON FUNCTION a67.region_remove(text) IS 'Forgets where a region lies; geographic selection then puts its nodes last';

-- What a new installation starts with; each table only when it is empty, so that what administrators changed stays.
--
-- Quotas are those of the free tiers as the providers' public pages gave them up to the middle of 2025. They change
-- without notice and are often counted for an account, not for a node: operators edit them. NULL: no such limit, or
-- none that is counted in these units (credits, processor time). Nodes that wake by themselves when their database is
-- queried, and pay for being awake, have no idle_pause: pinging them would cost what it should save.
CREATE OR REPLACE FUNCTION a67_internal._provider_seed() RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    INSERT INTO a67_internal.provider (name, title, monthly_hours, bandwidth_bytes, disk_bytes, idle_pause)
    SELECT v.name, v.title, v.hours, v.bandwidth_gb * 1000000000, v.disk_gb * 1000000000, v.idle_pause
    FROM (VALUES
        -- name      title            hours  GB a month  GB disk  asleep after
        ('generic',  'Any machine',     NULL::real, NULL::bigint, NULL::numeric, NULL::interval),
        ('render',   'Render',           750,   100,   NULL,  interval '15 minutes'),
        ('railway',  'Railway',         NULL,  NULL,    0.5,  NULL),
        ('flyio',    'Fly.io',          NULL,   100,      3,  NULL),
        ('vercel',   'Vercel',          NULL,   100,   NULL,  NULL),
        ('netlify',  'Netlify',         NULL,   100,     10,  NULL),
        ('supabase', 'Supabase',        NULL,     5,    0.5,  interval '7 days'),
        ('neon',     'Neon',            NULL,     5,    0.5,  NULL),
        ('koyeb',    'Koyeb',           NULL,   100,      2,  interval '1 hour'),
        ('oracle',   'Oracle Cloud',    NULL, 10000,    200,  NULL),
        ('gcp',      'Google Cloud',    NULL,     1,     30,  NULL),
        ('aws',      'AWS',              750,   100,     30,  NULL),
        ('azure',    'Microsoft Azure',  750,   100,    128,  NULL)
    ) v (name, title, hours, bandwidth_gb, disk_gb, idle_pause)
    WHERE NOT EXISTS (SELECT FROM a67_internal.provider)
    ON CONFLICT DO NOTHING;

    INSERT INTO a67_internal.region (name, latitude, longitude)
    SELECT v.* FROM (VALUES
        -- Amazon's names, which Supabase, Neon and others use as well
        ('us-east-1', 38.95, -77.45), ('us-east-2', 39.96, -83.00), ('us-west-1', 37.35, -121.96), ('us-west-2', 45.84, -119.70),
        ('ca-central-1', 45.50, -73.57), ('sa-east-1', -23.55, -46.63), ('eu-west-1', 53.35, -6.26), ('eu-west-2', 51.51, -0.13),
        ('eu-west-3', 48.86, 2.35), ('eu-central-1', 50.11, 8.68), ('eu-central-2', 47.38, 8.54), ('eu-north-1', 59.33, 18.07),
        ('eu-south-1', 45.46, 9.19), ('ap-south-1', 19.08, 72.88), ('ap-southeast-1', 1.35, 103.82), ('ap-southeast-2', -33.87, 151.21),
        ('ap-northeast-1', 35.68, 139.69), ('ap-northeast-2', 37.57, 126.98), ('ap-east-1', 22.32, 114.17), ('me-south-1', 26.07, 50.56),
        ('af-south-1', -33.92, 18.42),
        -- Google's
        ('us-central1', 41.26, -95.86), ('us-east1', 33.20, -80.01), ('us-east4', 39.04, -77.49), ('us-west1', 45.60, -121.18),
        ('europe-west1', 50.47, 3.87), ('europe-west3', 50.11, 8.68), ('europe-west4', 53.44, 6.83), ('asia-east1', 24.05, 120.52),
        ('asia-southeast1', 1.35, 103.82), ('asia-northeast1', 35.68, 139.69),
        -- Render's
        ('oregon', 45.84, -119.70), ('ohio', 39.96, -83.00), ('virginia', 38.95, -77.45), ('frankfurt', 50.11, 8.68),
        ('singapore', 1.35, 103.82),
        -- Fly.io's, named after airports
        ('ams', 52.37, 4.90), ('arn', 59.33, 18.07), ('bom', 19.08, 72.88), ('cdg', 48.86, 2.35), ('dfw', 32.78, -96.80),
        ('ewr', 40.74, -74.17), ('fra', 50.11, 8.68), ('gru', -23.55, -46.63), ('iad', 38.95, -77.45), ('jnb', -26.20, 28.05),
        ('lax', 34.05, -118.24), ('lhr', 51.51, -0.13), ('nrt', 35.68, 139.69), ('ord', 41.88, -87.63), ('sin', 1.35, 103.82),
        ('sjc', 37.35, -121.96), ('syd', -33.87, 151.21), ('yyz', 43.65, -79.38)
    ) v (name, latitude, longitude)
    WHERE NOT EXISTS (SELECT FROM a67_internal.region)
    ON CONFLICT DO NOTHING;
$$;
