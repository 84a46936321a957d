-- Roles of a virtual database. Two NOLOGIN roles hold the rights on its schema: a67_NAME_write, which SQL of the API runs as too
-- (database_query.sql), and a67_NAME_read. Neither is a member of any role, so nothing that runs as one can become another.
-- Applications log in with roles that are members of one of the two. Tables that are made later are covered by default privileges
-- of the schema's owner.

CREATE OR REPLACE FUNCTION a67_internal._database_role_name(database a67_internal.database, kind text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT format('a67_%s_%s', database.name, kind)
$$;

-- A role without rights, members and memberships. One that an earlier database of this name has left behind is taken over, unless
-- something outside of this database knows it.
CREATE OR REPLACE FUNCTION a67_internal._database_role_make(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    old oid := (SELECT r.oid FROM pg_authid r WHERE r.rolname = role_name);
    other record;
BEGIN
    IF old IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', role_name);
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = old
               AND s.dbid NOT IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))) THEN
        RAISE EXCEPTION 'role "%" is in use in another database of this server', role_name
            USING ERRCODE = '23505', HINT = 'Choose another name for the virtual database, or drop the role.';
    END IF;
    FOR other IN
        SELECT g.rolname AS granted, m.rolname AS member FROM pg_auth_members a
        JOIN pg_authid g ON g.oid = a.roleid JOIN pg_authid m ON m.oid = a.member WHERE old IN (a.roleid, a.member)
    LOOP
        EXECUTE format('REVOKE %I FROM %I', other.granted, other.member);
    END LOOP;
    EXECUTE format('DROP OWNED BY %I', role_name);
    EXECUTE format('ALTER ROLE %I NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD NULL',
                   role_name);
    EXECUTE format('ALTER ROLE %I RESET ALL', role_name);
END
$$;
COMMENT ON FUNCTION a67_internal._database_role_make(text) IS 'A NOLOGIN role that nothing is granted to and that nobody is a member of';

-- Rights on what is in the schema, and on what its owner will make there.
CREATE OR REPLACE FUNCTION a67_internal._database_role_grant(schema_name text, role_name text, tables text, sequences text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner_name text := (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = schema_name);
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema_name, role_name);
    EXECUTE format('GRANT %s ON ALL TABLES IN SCHEMA %I TO %I', tables, schema_name, role_name);
    EXECUTE format('GRANT %s ON ALL SEQUENCES IN SCHEMA %I TO %I', sequences, schema_name, role_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT %s ON TABLES TO %I',
                   owner_name, schema_name, tables, role_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT %s ON SEQUENCES TO %I',
                   owner_name, schema_name, sequences, role_name);
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._database_frame_create(database a67_internal.database) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    reader text := a67_internal._database_role_name(database, 'read');
    writer text := a67_internal._database_role_name(database, 'write');
BEGIN
    PERFORM a67_internal._database_role_make(reader), a67_internal._database_role_make(writer);
    PERFORM a67_internal._database_role_grant(database.name, reader, 'SELECT', 'SELECT');
    PERFORM a67_internal._database_role_grant(database.name, writer, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE', 'USAGE, SELECT');
END
$$;
COMMENT ON FUNCTION a67_internal._database_frame_create(a67_internal.database) IS
    'Makes the roles that hold the rights on a virtual database, once its schema is there and belongs to its owner';

CREATE OR REPLACE FUNCTION a67_internal._database_frame_drop(database a67_internal.database) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    role_name text;
BEGIN
    FOR role_name IN SELECT r.name FROM a67_internal._database_roles(database) r LOOP
        PERFORM a67_internal._database_role_remove(role_name);
    END LOOP;
    FOREACH role_name IN ARRAY ARRAY['read', 'write'] LOOP
        role_name := a67_internal._database_role_name(database, role_name);
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name);
        PERFORM a67_internal._database_role_remove(role_name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION a67_internal._database_frame_drop(a67_internal.database) IS
    'Ends the sessions of all roles of a virtual database and drops the roles; before or after its schema';

-- ---- roles of applications ----

CREATE OR REPLACE FUNCTION a67_internal._database_roles(database a67_internal.database)
RETURNS TABLE (name text, read_only boolean, sessions bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT m.rolname::text, g.rolname = a67_internal._database_role_name(database, 'read'),
           (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = m.oid)
    FROM pg_auth_members a JOIN pg_authid g ON g.oid = a.roleid JOIN pg_authid m ON m.oid = a.member
    WHERE m.rolcanlogin AND NOT m.rolsuper
      AND g.rolname IN (a67_internal._database_role_name(database, 'read'), a67_internal._database_role_name(database, 'write'))
$$;

-- With its sessions, and everything that it owns or may do in this database.
CREATE OR REPLACE FUNCTION a67_internal._database_role_remove(role_name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    -- Nobody logs in any more once this is committed; until then who does is found by the drop.
    PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.usename = role_name AND a.pid <> pg_backend_pid();
    EXECUTE format('DROP OWNED BY %I', role_name);
    EXECUTE format('DROP ROLE %I', role_name);
END
$$;

CREATE OR REPLACE FUNCTION a67.database_role_create(database text, name text, read_only boolean DEFAULT false,
    password text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database, true);
    chosen text := coalesce(password, a67_internal._base64url(a67_internal._random_bytes(24)));
    setting text;
BEGIN
    IF name IS NULL OR name !~ '^[a-z][a-z0-9_]{0,62}$' OR name ~ '^(pg_|a67)' OR name IN ('public', 'none') THEN
        RAISE EXCEPTION 'name must be 1 to 63 lower-case letters, digits and "_", a letter first, and not begin with "pg_" or "a67"'
            USING ERRCODE = '22023', DETAIL = 'Field: name.';
    ELSIF NOT a67_internal._is_admin() AND NOT starts_with(name, d.name || '_') THEN
        -- Names of roles are known to all of the server, to its pg_hba.conf too.
        RAISE EXCEPTION 'name must begin with "%_"', d.name
            USING ERRCODE = '22023', DETAIL = 'Field: name.', HINT = 'Only administrators give other names.';
    ELSIF read_only IS NULL THEN
        RAISE EXCEPTION 'read_only must not be null' USING ERRCODE = '22023', DETAIL = 'Field: read_only.';
    ELSIF length(password) NOT BETWEEN 8 AND 256 OR password ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'password must be 8 to 256 characters' USING ERRCODE = '22023', DETAIL = 'Field: password.';
    ELSIF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = database_role_create.name) THEN
        RAISE EXCEPTION 'role "%" already exists', name USING ERRCODE = '23505', DETAIL = 'Field: name.';
    ELSIF (SELECT count(*) FROM a67_internal._database_roles(d)) >= 100 THEN
        RAISE EXCEPTION 'too many roles' USING ERRCODE = '22023', DETAIL = 'A database has at most 100.';
    END IF;
    EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT 50 PASSWORD %L IN ROLE %I', name, chosen,
                   a67_internal._database_role_name(d, CASE WHEN read_only THEN 'read' ELSE 'write' END));
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
    FOREACH setting IN ARRAY ARRAY[format('search_path = %I', d.name), 'statement_timeout = ''30s''',
                                   'idle_in_transaction_session_timeout = ''1min''', 'temp_file_limit = ''1GB''']
    LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %s', name, current_database(), setting);
    END LOOP;
    PERFORM a67_internal._audit('database_role.create', 'ok', format('role "%s" of database "%s"', name, d.name));
    RETURN jsonb_strip_nulls(jsonb_build_object('database', d.name, 'role', name, 'read_only', read_only,
                                                'password', CASE WHEN password IS NULL THEN chosen END));
END
$$;
COMMENT ON FUNCTION a67.database_role_create(text, text, boolean, text) IS
    'A role that logs in and may read and write one virtual database and nothing else; without a password it gets one, shown this once';

CREATE OR REPLACE FUNCTION a67.database_role_drop(database text, name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database, true);
BEGIN
    IF NOT EXISTS (SELECT FROM a67_internal._database_roles(d) r WHERE r.name = database_role_drop.name) THEN
        RAISE EXCEPTION 'role "%" of database "%" does not exist', name, d.name USING ERRCODE = 'PT404';
    END IF;
    PERFORM a67_internal._database_role_remove(name);
    PERFORM a67_internal._audit('database_role.drop', 'ok', format('role "%s" of database "%s"', name, d.name));
END
$$;
COMMENT ON FUNCTION a67.database_role_drop(text, text) IS 'Ends the sessions of a role of a virtual database and drops it';

CREATE OR REPLACE FUNCTION a67.database_role_list(database text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.database := a67_internal._database_find(database);
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('role', r.name, 'read_only', r.read_only, 'sessions', r.sessions)
                                      ORDER BY r.name), '[]')
            FROM a67_internal._database_roles(d) r);
END
$$;
COMMENT ON FUNCTION a67.database_role_list(text) IS 'The roles that log in to a virtual database';
