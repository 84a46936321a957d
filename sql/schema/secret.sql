-- Secrets of users: named values that manifests refer to. The values are sealed; nothing reads them but what hands them
-- to a node, sealed again to that node's key.

CREATE TABLE a67_internal.secret (
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    name text NOT NULL,
    sealed bytea NOT NULL,
    size_bytes integer NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, name),
    CONSTRAINT secret_name_check CHECK (name ~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$')
);
COMMENT ON TABLE a67_internal.secret IS 'Named secrets that manifests refer to; only the newest version is kept';
COMMENT ON COLUMN a67_internal.secret.sealed IS 'The value, sealed with the label secret.sealed:OWNER_ID/NAME';
COMMENT ON COLUMN a67_internal.secret.size_bytes IS 'Of the value as a JSON string, which is how it travels';
COMMENT ON COLUMN a67_internal.secret.version IS 'Grows with every new value; begins at 1 again when the secret was removed';
CREATE INDEX secret_sealed_idx ON a67_internal.secret (substring(sealed FROM 2 FOR 8));

ALTER TABLE a67_internal.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY secret_own ON a67_internal.secret FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY secret_admin ON a67_internal.secret FOR SELECT TO a67_admin USING (true);
GRANT SELECT (owner_id, name, size_bytes, version, created_at, updated_at) ON a67_internal.secret TO a67_user, a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.secret', '');
