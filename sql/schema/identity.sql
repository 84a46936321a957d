-- Users and signing keys.

CREATE TABLE a67_internal."user" (
    user_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email text NOT NULL,
    role text NOT NULL DEFAULT 'a67_user',
    is_operator boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_email_key UNIQUE (email),
    CONSTRAINT user_email_check CHECK (email = lower(email) AND email ~ '^[^@[:space:]]+@[^@[:space:]]+$'
                                       AND length(email) <= 254),
    CONSTRAINT user_role_check CHECK (role IN ('a67_user', 'a67_admin'))
);
COMMENT ON TABLE a67_internal."user" IS 'People who own nodes and deployments';
COMMENT ON COLUMN a67_internal."user".is_operator IS 'The built-in user on whose behalf a superuser acts in psql';
CREATE UNIQUE INDEX user_operator_key ON a67_internal."user" (is_operator) WHERE is_operator;

CREATE TABLE a67_internal.signing_key (
    kid text PRIMARY KEY,
    kind text NOT NULL,
    public_key bytea,
    sealed bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at timestamptz,
    handover text,
    CONSTRAINT signing_key_kind_check CHECK (kind IN ('hs256', 'ed25519')),
    CONSTRAINT signing_key_public_key_check CHECK ((kind = 'ed25519') = (public_key IS NOT NULL)),
    CONSTRAINT signing_key_sealed_check CHECK (sealed IS NOT NULL OR retired_at IS NOT NULL)
);
COMMENT ON TABLE a67_internal.signing_key IS 'Keys for tokens; the secret half is sealed, and erased when the key is retired';
COMMENT ON COLUMN a67_internal.signing_key.retired_at IS
    'HS256: accepted until then, another key signs. Ed25519: signs until then, agents know the next one';
COMMENT ON COLUMN a67_internal.signing_key.handover IS 'A token signed by this Ed25519 key that names the public half of the next one';

ALTER TABLE a67_internal."user" ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal."user" FORCE ROW LEVEL SECURITY;
CREATE POLICY user_own ON a67_internal."user" FOR SELECT TO a67_user
    USING (user_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY user_admin ON a67_internal."user" FOR SELECT TO a67_admin USING (true);
GRANT SELECT ON a67_internal."user" TO a67_user, a67_admin;
ALTER TABLE a67_internal.signing_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.signing_key FORCE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('a67_internal."user"', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.signing_key', '');
