-- The client-side vault: blobs that clients encrypt and decrypt themselves (docs/vault-client.md). They are kept for their
-- user and given back; nothing here could open or check one, only its sizes are known.

-- Whose items this session may see: the token's subject, or the operator's for an administrator in psql.
CREATE OR REPLACE FUNCTION a67_internal._vault_item_owner() RETURNS uuid
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(a67_internal._claims_user_id(),
        (SELECT u.user_id FROM a67_internal."user" u WHERE u.is_operator AND a67_internal._is_admin()))
$$;

-- The parameters that a scheme fixes. A scheme never changes; another way to encrypt is another scheme.
CREATE OR REPLACE FUNCTION a67_internal._vault_item_kdf(scheme text) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT CASE scheme WHEN 'argon2id-aes256gcm-1' THEN '{"algorithm": "argon2id", "version": 19, "memory_kib": 65536,
        "iterations": 3, "parallelism": 4, "key_bytes": 32}'::jsonb END
$$;

-- Octets from base64 (RFC 4648 section 4, with padding): exactly, or at most, so many.
CREATE OR REPLACE FUNCTION a67_internal._vault_item_bytes(field text, value text, least_bytes integer, most_bytes integer)
RETURNS bytea
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    bytes bytea;
BEGIN
    IF value IS NULL OR length(value) % 4 <> 0 OR value !~ '^[A-Za-z0-9+/]*={0,2}$' THEN
        RAISE EXCEPTION '% must be base64', field USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    IF length(value) / 4 * 3 - 2 <= most_bytes THEN
        bytes := decode(value, 'base64');
    END IF;
    IF bytes IS NULL OR octet_length(bytes) NOT BETWEEN least_bytes AND most_bytes THEN
        RAISE EXCEPTION '% must be % bytes', field,
            CASE WHEN least_bytes = most_bytes THEN most_bytes::text ELSE format('%s to %s', least_bytes, most_bytes) END
            USING ERRCODE = '22023', DETAIL = format('Field: %s.', field);
    END IF;
    RETURN bytes;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._base64(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT translate(encode(bytes, 'base64'), E'\n', '')
$$;

-- An item that was changed meanwhile, or is there when it should not be.
CREATE OR REPLACE FUNCTION a67_internal._vault_item_version_check(name text, version bigint, if_version bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF if_version IS DISTINCT FROM coalesce(version, 0) THEN
        RAISE EXCEPTION 'vault item "%" has another version', name USING ERRCODE = 'PT409',
            DETAIL = format('Version: %s.', coalesce(version, 0)), HINT = 'Get it again, and decide what becomes of that version.';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67.vault_item_put(name text, ciphertext text, salt text, iv text, tag text,
    if_version bigint DEFAULT NULL, scheme text DEFAULT 'argon2id-aes256gcm-1') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner uuid := a67_internal._user_id();
    kdf jsonb := a67_internal._vault_item_kdf(vault_item_put.scheme);
    known a67_internal.vault_item;
    next_version bigint;
BEGIN
    IF vault_item_put.name IS NULL OR octet_length(vault_item_put.name) NOT BETWEEN 1 AND 200
       OR vault_item_put.name ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'name must be 1 to 200 bytes without control characters' USING ERRCODE = '22023', DETAIL = 'Field: name.';
    END IF;
    IF kdf IS NULL THEN
        RAISE EXCEPTION 'unknown scheme "%"', vault_item_put.scheme
            USING ERRCODE = '22023', DETAIL = 'Field: scheme.', HINT = 'Use argon2id-aes256gcm-1.';
    END IF;
    -- From here on no other change of this user's.
    INSERT INTO a67_internal.vault_item_count AS c (owner_id, puts) VALUES (owner, 1)
    ON CONFLICT ON CONSTRAINT vault_item_count_pkey DO UPDATE SET puts = c.puts + 1 RETURNING puts INTO next_version;
    SELECT * INTO known FROM a67_internal.vault_item v WHERE v.owner_id = owner AND v.name = vault_item_put.name;
    IF if_version IS NOT NULL THEN
        PERFORM a67_internal._vault_item_version_check(vault_item_put.name, known.version, if_version);
    END IF;
    IF known.version IS NULL AND (SELECT count(*) FROM a67_internal.vault_item v WHERE v.owner_id = owner) >= 1000 THEN
        RAISE EXCEPTION 'a user can have at most 1000 vault items' USING ERRCODE = 'PT409', HINT = 'Remove some.';
    END IF;
    INSERT INTO a67_internal.vault_item AS v (owner_id, name, scheme, kdf, salt, iv, tag, ciphertext, version)
    VALUES (owner, vault_item_put.name, vault_item_put.scheme, kdf,
            a67_internal._vault_item_bytes('salt', vault_item_put.salt, 16, 16),
            a67_internal._vault_item_bytes('iv', vault_item_put.iv, 12, 12),
            a67_internal._vault_item_bytes('tag', vault_item_put.tag, 16, 16),
            a67_internal._vault_item_bytes('ciphertext', vault_item_put.ciphertext, 0, 65536), next_version)
    ON CONFLICT ON CONSTRAINT vault_item_pkey DO UPDATE
    SET scheme = excluded.scheme, kdf = excluded.kdf, salt = excluded.salt, iv = excluded.iv, tag = excluded.tag,
        ciphertext = excluded.ciphertext, version = excluded.version, updated_at = now();
    PERFORM set_config('response.status', CASE WHEN known.version IS NULL THEN '201' ELSE '200' END, true);
    RETURN jsonb_build_object('name', vault_item_put.name, 'version', next_version);
END
$$;
COMMENT ON FUNCTION a67.vault_item_put(text, text, text, text, text, bigint, text) IS
    'Stores a blob that its client encrypted, all parts in base64. if_version: only over that version; 0: only a new one';

CREATE OR REPLACE FUNCTION a67.vault_item_get(name text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item a67_internal.vault_item;
BEGIN
    SELECT * INTO item FROM a67_internal.vault_item v
    WHERE v.owner_id = a67_internal._vault_item_owner() AND v.name = vault_item_get.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'vault item "%" does not exist', vault_item_get.name USING ERRCODE = 'PT404';
    END IF;
    RETURN jsonb_build_object('name', item.name, 'version', item.version, 'scheme', item.scheme, 'kdf', item.kdf,
        'salt', a67_internal._base64(item.salt), 'iv', a67_internal._base64(item.iv), 'tag', a67_internal._base64(item.tag),
        'ciphertext', a67_internal._base64(item.ciphertext), 'created_at', item.created_at, 'updated_at', item.updated_at);
END
$$;
COMMENT ON FUNCTION a67.vault_item_get(text) IS 'One of your vault items, as its client encrypted it';

CREATE OR REPLACE FUNCTION a67.vault_item_list("limit" integer DEFAULT 100, "offset" integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', v.name, 'version', v.version, 'scheme', v.scheme,
                   'size_bytes', octet_length(v.ciphertext), 'created_at', v.created_at, 'updated_at', v.updated_at)
                   ORDER BY v.name), '[]')
        FROM (SELECT t.* FROM a67_internal.vault_item t WHERE t.owner_id = a67_internal._vault_item_owner()
              ORDER BY t.name LIMIT a67_internal._page_size("limit") OFFSET greatest("offset", 0)) v);
END
$$;
COMMENT ON FUNCTION a67.vault_item_list(integer, integer) IS 'Names, versions and sizes of your vault items';

CREATE OR REPLACE FUNCTION a67.vault_item_remove(name text, if_version bigint DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner uuid := a67_internal._user_id();
    known bigint;
BEGIN
    PERFORM 1 FROM a67_internal.vault_item_count c WHERE c.owner_id = owner FOR UPDATE;
    SELECT v.version INTO known FROM a67_internal.vault_item v WHERE v.owner_id = owner AND v.name = vault_item_remove.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'vault item "%" does not exist', vault_item_remove.name USING ERRCODE = 'PT404';
    END IF;
    IF if_version IS NOT NULL THEN
        PERFORM a67_internal._vault_item_version_check(vault_item_remove.name, known, if_version);
    END IF;
    DELETE FROM a67_internal.vault_item v WHERE v.owner_id = owner AND v.name = vault_item_remove.name;
END
$$;
COMMENT ON FUNCTION a67.vault_item_remove(text, bigint) IS 'Removes one of your vault items; if_version: only that version';
