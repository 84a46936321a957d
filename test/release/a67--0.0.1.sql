\echo Use "CREATE EXTENSION a67" to load this file. \quit

-- sql/schema/base.sql

-- Schemas, roles and the one function that row-level security is built on. Run once, before every other module.
-- Roles belong to the cluster, not to the extension: they outlive DROP EXTENSION and may exist already.

CREATE SCHEMA a67;
COMMENT ON SCHEMA a67 IS 'Automator67: public functions and views';
CREATE SCHEMA a67_internal;
COMMENT ON SCHEMA a67_internal IS 'Automator67: tables and private functions; written by their owner only';

DO $roles$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['a67_anon', 'a67_user', 'a67_node', 'a67_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN NOINHERIT', role_name);
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'a67_authenticator') THEN
        CREATE ROLE a67_authenticator LOGIN NOINHERIT;
    END IF;
    FOREACH role_name IN ARRAY ARRAY['a67_anon', 'a67_user', 'a67_node', 'a67_admin'] LOOP
        IF NOT pg_catalog.pg_has_role('a67_authenticator', role_name, 'MEMBER') THEN
            EXECUTE pg_catalog.format('GRANT %I TO a67_authenticator', role_name);
        END IF;
    END LOOP;
END
$roles$;

GRANT USAGE ON SCHEMA a67 TO a67_anon, a67_user, a67_node, a67_admin;
GRANT USAGE ON SCHEMA a67_internal TO a67_user, a67_admin;

-- Who is asking: the subject of the verified token, or nobody. Policies call it once a query and table. The body is
-- parsed here and now, so it needs no search path of its own and can be inlined.
CREATE FUNCTION a67_internal._claims_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
