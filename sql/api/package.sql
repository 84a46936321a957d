-- Application packages: tar.gz by SHA-256, kept while a release names them and for a day after that.

CREATE OR REPLACE FUNCTION a67_internal._package_check(content bytea, OUT files integer, OUT unpacked_bytes bigint) RETURNS record
AS 'MODULE_PATHNAME', 'a67_sql_package_check' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._package_check(bytea) IS 'Refuses what agents would not unpack (22023); counts what is in it';

-- How long a package stays that no release names.
CREATE OR REPLACE FUNCTION a67_internal._package_grace() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT interval '1 day' $$;

-- Stores a package; one that is there already counts as new.
CREATE OR REPLACE FUNCTION a67_internal._package_store(owner_id uuid, content bytea) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    new_digest text := encode(sha256(content), 'hex');
    inside record;
BEGIN
    UPDATE a67_internal.package p SET used_at = now()
    WHERE p.owner_id = _package_store.owner_id AND p.digest = new_digest;
    IF NOT FOUND THEN
        inside := a67_internal._package_check(content);
        INSERT INTO a67_internal.package (owner_id, digest, size_bytes, unpacked_bytes, files, content)
        VALUES (_package_store.owner_id, new_digest, length(content), inside.unpacked_bytes, inside.files, content)
        ON CONFLICT ON CONSTRAINT package_pkey DO UPDATE SET used_at = now();
    END IF;
    PERFORM set_config('response.status', '201', true);
    RETURN new_digest;
END
$$;

CREATE OR REPLACE FUNCTION a67.package_put(content bytea, OUT digest text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    max_bytes bigint := pg_size_bytes(current_setting('a67.package_max_size'));
BEGIN
    IF content IS NULL OR length(content) < 3 OR substr(content, 1, 2) <> '\x1f8b' THEN
        RAISE EXCEPTION 'package is not a gzip file' USING ERRCODE = '22023', DETAIL = 'Field: content.';
    ELSIF length(content) > max_bytes THEN
        RAISE EXCEPTION 'package is larger than % bytes', max_bytes
            USING ERRCODE = 'PT413', HINT = 'See the setting a67.package_max_size.';
    END IF;
    package_put.digest := a67_internal._package_store(a67_internal._user_id(), content);
END
$$;
COMMENT ON FUNCTION a67.package_put(bytea) IS 'Stores an application package (tar.gz); returns its digest, SHA-256 in hex';

-- Read in slices, so that no process ever holds a whole package.
CREATE OR REPLACE FUNCTION a67_internal._package_slices(owner_id uuid, digest text) RETURNS SETOF bytea
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT substr(p.content, at::integer, 262144)
    FROM a67_internal.package p, generate_series(1, p.size_bytes, 262144) at
    WHERE p.owner_id = _package_slices.owner_id AND p.digest = _package_slices.digest
$$;

CREATE OR REPLACE FUNCTION a67.package_get(digest text) RETURNS SETOF bytea
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner uuid;
    node_claim uuid;
BEGIN
    IF nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' = 'a67_node' THEN
        node_claim := a67_internal._node_id();
        SELECT n.owner_id INTO owner FROM a67_internal.node n
        WHERE n.node_id = node_claim AND n.desired_state <> 'removed';
    ELSE
        owner := a67_internal._user_id();
    END IF;
    IF owner IS NOT NULL AND a67_internal._is_admin() THEN
        -- Whoever of its owners: the content is the same.
        SELECT p.owner_id INTO owner FROM a67_internal.package p WHERE p.digest = package_get.digest
        ORDER BY p.owner_id = owner DESC LIMIT 1;
    END IF;
    IF NOT EXISTS (SELECT FROM a67_internal.package p WHERE p.owner_id = owner AND p.digest = package_get.digest) THEN
        RAISE EXCEPTION 'package "%" does not exist', digest USING ERRCODE = 'PT404';
    END IF;
    PERFORM set_config('response.headers', '[{"Content-Type": "application/gzip"}]', true);
    RETURN QUERY SELECT * FROM a67_internal._package_slices(owner, package_get.digest);
END
$$;
COMMENT ON FUNCTION a67.package_get(text) IS 'The bytes of a package, in slices of 256 kB';

CREATE OR REPLACE FUNCTION a67.package_list("limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.created_at DESC, p.digest), '[]')
    FROM (SELECT t.digest, t.size_bytes, t.unpacked_bytes, t.files, t.deployments, t.created_at, t.expires_at FROM a67.package t
          ORDER BY t.created_at DESC, t.digest LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) p
$$;
COMMENT ON FUNCTION a67.package_list(integer, integer) IS 'Your packages, newest first, and which deployments name them';

CREATE OR REPLACE FUNCTION a67.package_remove(digest text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    users text;
BEGIN
    -- Whoever is naming the package has its row locked until he has committed, and is seen by the next statement.
    PERFORM FROM a67_internal.package p WHERE p.owner_id = caller AND p.digest = package_remove.digest FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'package "%" does not exist', package_remove.digest USING ERRCODE = 'PT404';
    END IF;
    SELECT string_agg(format('%s (release %s)', u.name, u.releases), ', ' ORDER BY u.name) INTO users
    FROM (SELECT d.name, string_agg(m.number::text, ', ' ORDER BY m.number) AS releases
          FROM a67_internal.deployment d JOIN a67_internal.release m USING (deployment_id)
          WHERE d.owner_id = caller AND m.package_digest = package_remove.digest
          GROUP BY d.name ORDER BY d.name LIMIT 20) u;
    IF users IS NOT NULL THEN
        RAISE EXCEPTION 'package "%" is in use', package_remove.digest
            USING ERRCODE = '23503', DETAIL = format('Deployments: %s.', users),
                  HINT = 'Releases that are no longer kept give their packages back by themselves.';
    END IF;
    DELETE FROM a67_internal.package p WHERE p.owner_id = caller AND p.digest = package_remove.digest;
    PERFORM a67_internal._audit('package.remove', 'ok', format('package "%s"', package_remove.digest));
END
$$;
COMMENT ON FUNCTION a67.package_remove(text) IS 'Forgets a package that no release names';

-- Refuses a digest that this owner has not stored. Until the transaction ends nobody takes the package away.
CREATE OR REPLACE FUNCTION a67_internal._package_use(owner_id uuid, digest text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM FROM a67_internal.package p WHERE p.owner_id = _package_use.owner_id AND p.digest = _package_use.digest FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'package "%" does not exist', digest
            USING ERRCODE = '22023', DETAIL = '/package: no such package',
                  HINT = 'Store it first with a67.package_put() or a67.package_build().';
    END IF;
END
$$;

-- ---- what is no longer needed -------------------------------------------------------------------------------------------

-- The day of grace begins when the last release goes that names a package.
CREATE OR REPLACE FUNCTION a67_internal._release_gone() RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    UPDATE a67_internal.package p SET used_at = now() FROM (SELECT DISTINCT g.package_digest FROM gone g) g
    WHERE p.digest = g.package_digest AND p.used_at < now();
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER release_gone AFTER DELETE ON a67_internal.release REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._release_gone();

CREATE OR REPLACE FUNCTION a67_internal._package_is_named(owner_id uuid, digest text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM a67_internal.release m JOIN a67_internal.deployment d USING (deployment_id)
                   WHERE m.package_digest = digest AND d.owner_id = _package_is_named.owner_id)
$$;

-- Forgets releases beyond the kept ones, then packages that no release names and whose grace is over: a bounded number of each. Never a
-- release that is stable, runs anywhere, or takes part in a rollout.
CREATE OR REPLACE FUNCTION a67_internal._package_prune(now timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    unused tid[];
    pruned integer;
    released integer;
BEGIN
    WITH surplus AS (
        SELECT m.deployment_id, m.number
        FROM a67_internal.deployment d
        CROSS JOIN LATERAL (SELECT r.deployment_id, r.number FROM a67_internal.release r
                            WHERE r.deployment_id = d.deployment_id AND r.number <> d.release
                            ORDER BY r.number DESC OFFSET current_setting('a67.releases_kept')::integer) m
        WHERE NOT EXISTS (SELECT FROM a67_internal.replica r WHERE r.deployment_id = m.deployment_id AND r.release = m.number)
          AND NOT EXISTS (SELECT FROM a67_internal.rollout o WHERE o.deployment_id = m.deployment_id AND o.finished_at IS NULL
                          AND m.number IN (o.from_release, o.to_release))
          AND NOT EXISTS (SELECT FROM a67_internal.cron_run c WHERE c.deployment_id = m.deployment_id AND c.release = m.number
                          AND c.finished_at IS NULL)
        LIMIT 100
    ), locked AS (
        -- A command of the owner may make one of them stable at this moment: it is left alone until the next time.
        SELECT s.deployment_id, s.number FROM surplus s JOIN a67_internal.deployment d USING (deployment_id)
        FOR UPDATE OF d SKIP LOCKED)
    DELETE FROM a67_internal.release m USING locked l, a67_internal.deployment d
    WHERE m.deployment_id = l.deployment_id AND m.number = l.number AND d.deployment_id = m.deployment_id AND d.release <> m.number;
    GET DIAGNOSTICS released = ROW_COUNT;
    -- First locked, then looked at again: who names one of them at this moment is either skipped or seen by the second statement.
    SELECT array_agg(u.ctid) INTO unused
    FROM (SELECT p.ctid FROM a67_internal.package p
          WHERE p.used_at <= _package_prune.now - a67_internal._package_grace() AND NOT a67_internal._package_is_named(p.owner_id, p.digest)
          ORDER BY p.used_at LIMIT 20 FOR UPDATE SKIP LOCKED) u;
    DELETE FROM a67_internal.package p WHERE p.ctid = ANY (unused) AND NOT a67_internal._package_is_named(p.owner_id, p.digest);
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN released + pruned;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._package_tick(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF a67_internal._minute_due('package', now) THEN
        PERFORM a67_internal._package_prune(now);
    END IF;
END
$$;
