-- The vault: which master key secrets are sealed under, and how it changes. The keys themselves are never here.

CREATE TABLE a67_internal.vault (
    vault_id boolean PRIMARY KEY DEFAULT true,
    key_id bytea NOT NULL,
    old_key_ids bytea[] NOT NULL DEFAULT '{}',
    retired_key_ids bytea[] NOT NULL DEFAULT '{}',
    kdf_salt bytea,
    kdf_iterations integer,
    kdf_memory_kb integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    rotated_at timestamptz,
    finished_at timestamptz,
    rewrapped bigint NOT NULL DEFAULT 0,
    CONSTRAINT vault_one_row_check CHECK (vault_id),
    CONSTRAINT vault_key_id_check CHECK (length(key_id) = 8),
    CONSTRAINT vault_kdf_check CHECK (num_nulls(kdf_salt, kdf_iterations, kdf_memory_kb) IN (0, 3))
);
COMMENT ON TABLE a67_internal.vault IS 'One row: the master key of this database, by a name that says nothing about it';
COMMENT ON COLUMN a67_internal.vault.key_id IS 'The key that new values are sealed under';
COMMENT ON COLUMN a67_internal.vault.old_key_ids IS 'Keys that some values may still be sealed under: a rotation is under way';
COMMENT ON COLUMN a67_internal.vault.retired_key_ids IS 'Keys that nothing needs any more, the last ones at the end';
COMMENT ON COLUMN a67_internal.vault.kdf_salt IS 'When the key was derived from a passphrase (Argon2id): its salt';
COMMENT ON COLUMN a67_internal.vault.rewrapped IS 'Values that the latest rotation has wrapped anew';

ALTER TABLE a67_internal.vault ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.vault FORCE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.vault', '');
