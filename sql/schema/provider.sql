-- What is known of the providers of nodes and of regions; editable by administrators.

CREATE TABLE a67_internal.provider (
    name text PRIMARY KEY,
    title text NOT NULL,
    monthly_hours real,
    bandwidth_bytes bigint,
    disk_bytes bigint,
    idle_pause interval,
    restart_url text,
    restart_secret_sealed bytea,
    restart_hook boolean NOT NULL GENERATED ALWAYS AS (restart_url IS NOT NULL) STORED,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT provider_name_check CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT provider_quota_check CHECK (monthly_hours > 0 AND bandwidth_bytes > 0 AND disk_bytes > 0
                                           AND idle_pause >= interval '1 minute')
);
COMMENT ON TABLE a67_internal.provider IS 'Providers of nodes: free-tier quotas, sleep timer, hook that restarts a node';
COMMENT ON COLUMN a67_internal.provider.monthly_hours IS 'Hours a node may run in a calendar month; NULL: no limit, here and below';
COMMENT ON COLUMN a67_internal.provider.idle_pause IS 'Without a request for that long a node is put to sleep';
COMMENT ON COLUMN a67_internal.provider.restart_hook IS 'What users may know of restart_url';
COMMENT ON COLUMN a67_internal.provider.restart_url IS 'Webhook that is called, signed, when a node of the provider has failed';

CREATE TABLE a67_internal.region (
    name text PRIMARY KEY,
    latitude float8 NOT NULL,
    longitude float8 NOT NULL,
    CONSTRAINT region_latitude_check CHECK (latitude BETWEEN -90 AND 90),
    CONSTRAINT region_longitude_check CHECK (longitude BETWEEN -180 AND 180)
);
COMMENT ON TABLE a67_internal.region IS 'Where regions lie (degrees, WGS 84), for geographic selection';

ALTER TABLE a67_internal.provider ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.provider FORCE ROW LEVEL SECURITY;
CREATE POLICY provider_all ON a67_internal.provider FOR SELECT TO a67_user, a67_admin USING (true);
GRANT SELECT (name, title, monthly_hours, bandwidth_bytes, disk_bytes, idle_pause, restart_hook, updated_at)
    ON a67_internal.provider TO a67_user, a67_admin;
ALTER TABLE a67_internal.region ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.region FORCE ROW LEVEL SECURITY;
CREATE POLICY region_all ON a67_internal.region FOR SELECT TO a67_user, a67_admin USING (true);
GRANT SELECT ON a67_internal.region TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.provider', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.region', '');
