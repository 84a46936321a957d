-- Application packages: tar.gz by SHA-256.

CREATE OR REPLACE FUNCTION a67.package_put(content bytea, OUT digest text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    max_bytes bigint := pg_size_bytes(current_setting('a67.package_max_size'));
BEGIN
    IF content IS NULL OR length(content) < 3 OR substr(content, 1, 2) <> '\x1f8b' THEN
        RAISE EXCEPTION 'package is not a gzip file' USING ERRCODE = '22023', DETAIL = 'Field: content.';
    END IF;
    IF length(content) > max_bytes THEN
        RAISE EXCEPTION 'package is larger than % bytes', max_bytes
            USING ERRCODE = 'PT413', HINT = 'See the setting a67.package_max_size.';
    END IF;
    package_put.digest := encode(sha256(package_put.content), 'hex');
    INSERT INTO a67_internal.package (owner_id, digest, size_bytes, content)
    VALUES (a67_internal._user_id(), package_put.digest, length(package_put.content), package_put.content)
    ON CONFLICT DO NOTHING;
    PERFORM set_config('response.status', '201', true);
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
