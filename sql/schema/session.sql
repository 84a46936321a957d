-- How users prove who they are: credentials, sessions, recovery codes; and the audit trail of all that matters to security.

CREATE TABLE a67_internal.credential (
    user_id uuid PRIMARY KEY REFERENCES a67_internal."user" ON DELETE CASCADE,
    password_hash text NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    locked_until timestamptz NOT NULL DEFAULT '-infinity',
    totp_sealed bytea,
    totp_confirmed_at timestamptz,
    totp_last_step bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX credential_totp_key_idx ON a67_internal.credential (substring(totp_sealed FROM 2 FOR 8))
    WHERE totp_sealed IS NOT NULL;
COMMENT ON TABLE a67_internal.credential IS 'Password (Argon2id) and one-time-password seed (sealed) of a user; readable by nobody but the owner';
COMMENT ON COLUMN a67_internal.credential.failures IS 'Wrong passwords or codes since the last success';
COMMENT ON COLUMN a67_internal.credential.totp_last_step IS 'The time step of the last accepted code: none is accepted twice';

CREATE TABLE a67_internal.recovery_code (
    user_id uuid NOT NULL REFERENCES a67_internal.credential ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, code_hash)
);
COMMENT ON TABLE a67_internal.recovery_code IS 'SHA-256 of single-use codes that stand in for a one-time password; each has 80 random bits';

CREATE TABLE a67_internal.session (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES a67_internal."user" ON DELETE CASCADE,
    refresh_id uuid NOT NULL DEFAULT gen_random_uuid(),
    address text,
    created_at timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
COMMENT ON TABLE a67_internal.session IS 'One login and the family of refresh tokens that followed from it';
COMMENT ON COLUMN a67_internal.session.refresh_id IS 'The one refresh token of the family that is still good';
CREATE INDEX session_user_id_idx ON a67_internal.session (user_id);
CREATE INDEX session_expires_at_idx ON a67_internal.session (expires_at);

CREATE TABLE a67_internal.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_id uuid,
    actor_role text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    subject text,
    address text,
    request_id text,
    CONSTRAINT audit_outcome_check CHECK (outcome IN ('ok', 'refused'))
);
COMMENT ON TABLE a67_internal.audit IS 'Security-relevant acts, append-only; no secret stands in it';
CREATE INDEX audit_at_idx ON a67_internal.audit USING brin (at);

-- Append-only for everybody, the owner included; rows older than a year may be pruned.
CREATE FUNCTION a67_internal._audit_keep() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < now() - interval '1 year' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER audit_keep BEFORE UPDATE OR DELETE ON a67_internal.audit
FOR EACH ROW EXECUTE FUNCTION a67_internal._audit_keep();
CREATE TRIGGER audit_keep_all BEFORE TRUNCATE ON a67_internal.audit
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._audit_keep();

ALTER TABLE a67_internal.credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.credential FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.recovery_code ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.recovery_code FORCE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.session FORCE ROW LEVEL SECURITY;
CREATE POLICY session_own ON a67_internal.session FOR SELECT TO a67_user
    USING (user_id = (SELECT a67_internal._claims_user_id()));
CREATE POLICY session_admin ON a67_internal.session FOR SELECT TO a67_admin USING (true);
ALTER TABLE a67_internal.audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.audit FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_admin ON a67_internal.audit FOR SELECT TO a67_admin USING (true);
GRANT SELECT (session_id, user_id, address, created_at, refreshed_at, expires_at, revoked_at)
    ON a67_internal.session TO a67_user, a67_admin;
GRANT SELECT ON a67_internal.audit TO a67_admin;

SELECT pg_catalog.pg_extension_config_dump('a67_internal.credential', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.recovery_code', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.session', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.audit', '');
SELECT pg_catalog.pg_extension_config_dump('a67_internal.audit_audit_id_seq', '');
