-- OAuth 2.0 credentials of users at their providers, and the client-side vault.

CREATE TABLE a67_internal.oauth_credential (
    credential_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid NOT NULL REFERENCES a67_internal."user",
    provider text NOT NULL,
    node_id uuid REFERENCES a67_internal.node ON DELETE SET NULL,
    token_url text,
    revocation_url text,
    client_id text,
    client_auth text NOT NULL DEFAULT 'basic',
    client_secret_sealed bytea,
    access_token_sealed bytea,
    refresh_token_sealed bytea,
    refreshable boolean NOT NULL GENERATED ALWAYS AS (refresh_token_sealed IS NOT NULL) STORED,
    token_type text NOT NULL DEFAULT 'Bearer',
    scopes text[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    status text NOT NULL DEFAULT 'active',
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT 'infinity',
    under_way boolean NOT NULL DEFAULT false,
    epoch bigint NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT oauth_credential_provider_check CHECK (provider ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT oauth_credential_client_auth_check CHECK (client_auth IN ('basic', 'post')),
    CONSTRAINT oauth_credential_refresh_check CHECK (refresh_token_sealed IS NULL
                                                     OR token_url IS NOT NULL AND client_id IS NOT NULL),
    CONSTRAINT oauth_credential_status_check CHECK (status IN ('active', 'failed', 'revoking', 'revoked')),
    CONSTRAINT oauth_credential_revoked_check CHECK (status <> 'revoked'
        OR num_nonnulls(client_secret_sealed, access_token_sealed, refresh_token_sealed) = 0)
);
COMMENT ON TABLE a67_internal.oauth_credential IS
    'Access of a user to a provider, for all nodes or for one: tokens (sealed), how they are refreshed, how that goes';
COMMENT ON COLUMN a67_internal.oauth_credential.client_auth IS 'How client id and secret are sent: Basic header, or in the body';
COMMENT ON COLUMN a67_internal.oauth_credential.expires_at IS 'End of the access token as far as it was told; NULL: unknown';
COMMENT ON COLUMN a67_internal.oauth_credential.next_attempt_at IS 'Nothing is sent before; also the lease of a request under way';
COMMENT ON COLUMN a67_internal.oauth_credential.under_way IS 'A request was handed out and has no answer yet';
COMMENT ON COLUMN a67_internal.oauth_credential.epoch IS
    'Grows with every change of the tokens; an answer to an older one is dropped';
COMMENT ON COLUMN a67_internal.oauth_credential.last_error IS
    'A registered OAuth error code or a fixed text: never what a provider wrote';
-- One that is in use for a provider and a node, or for a provider without a node; ended ones stay for a while beside it.
CREATE UNIQUE INDEX oauth_credential_key ON a67_internal.oauth_credential (owner_id, provider, node_id) NULLS NOT DISTINCT
    WHERE status IN ('active', 'failed');
-- The ids of the master keys that values are sealed under: rotation looks for old ones.
CREATE INDEX oauth_credential_client_secret_key_idx ON a67_internal.oauth_credential (substring(client_secret_sealed FROM 2 FOR 8));
CREATE INDEX oauth_credential_access_token_key_idx ON a67_internal.oauth_credential (substring(access_token_sealed FROM 2 FOR 8));
CREATE INDEX oauth_credential_refresh_token_key_idx ON a67_internal.oauth_credential (substring(refresh_token_sealed FROM 2 FOR 8));
-- For a user's list and his limit, and for what is forgotten.
CREATE INDEX oauth_credential_owner_id_idx ON a67_internal.oauth_credential (owner_id);
CREATE INDEX oauth_credential_revoked_idx ON a67_internal.oauth_credential (updated_at) WHERE status = 'revoked';
CREATE INDEX oauth_credential_node_id_idx ON a67_internal.oauth_credential (node_id);
CREATE INDEX oauth_credential_due_idx ON a67_internal.oauth_credential (next_attempt_at) WHERE status IN ('active', 'revoking');

CREATE TABLE a67_internal.vault_item (
    owner_id uuid NOT NULL REFERENCES a67_internal."user" ON DELETE CASCADE,
    name text NOT NULL,
    scheme text NOT NULL,
    kdf jsonb NOT NULL,
    salt bytea NOT NULL,
    iv bytea NOT NULL,
    tag bytea NOT NULL,
    ciphertext bytea NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, name),
    CONSTRAINT vault_item_name_check CHECK (octet_length(name) BETWEEN 1 AND 200),
    CONSTRAINT vault_item_sizes_check CHECK (octet_length(salt) = 16 AND octet_length(iv) = 12 AND octet_length(tag) = 16
                                             AND octet_length(ciphertext) <= 65536)
);
-- What is encrypted does not compress.
ALTER TABLE a67_internal.vault_item ALTER COLUMN ciphertext SET STORAGE EXTERNAL;
COMMENT ON TABLE a67_internal.vault_item IS
    'Blobs that clients encrypted: nothing here can open or check them (docs/vault-client.md)';
COMMENT ON COLUMN a67_internal.vault_item.version IS
    'The number of the put among all of its owner''s: no item has one twice, also after a removal';

CREATE TABLE a67_internal.vault_item_count (
    owner_id uuid PRIMARY KEY REFERENCES a67_internal."user" ON DELETE CASCADE,
    puts bigint NOT NULL
);
COMMENT ON TABLE a67_internal.vault_item_count IS 'How often a user has put vault items; its row lock orders his changes';

ALTER TABLE a67_internal.oauth_credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.oauth_credential FORCE ROW LEVEL SECURITY;
CREATE POLICY oauth_credential_own ON a67_internal.oauth_credential FOR SELECT TO a67_user
    USING (owner_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY oauth_credential_admin ON a67_internal.oauth_credential FOR SELECT TO a67_admin USING (true);
GRANT SELECT (credential_id, owner_id, provider, node_id, token_url, revocation_url, client_id, client_auth, refreshable, token_type,
        scopes, expires_at, status, attempts, next_attempt_at, last_error, created_at, refreshed_at, updated_at)
    ON a67_internal.oauth_credential TO a67_user, a67_admin;
ALTER TABLE a67_internal.vault_item ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.vault_item FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.vault_item_count ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.vault_item_count FORCE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.oauth_credential', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.vault_item', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.vault_item_count', '');
