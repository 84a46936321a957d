-- Secrets of users and env values of releases: kept sealed, handed out to the nodes that run what names them.
--
-- Nothing here reads a value. _env_seal (C) opens what one replica may know and seals it to the key of its node, within
-- one call; SQL sees only sealed bytes on both sides. A hand-out is audited in the transaction of the reconciler's plan,
-- which is committed before the request leaves. What a replica was given is known by its secrets_version; the reconciler
-- renews replicas whose version is not the current one.

-- NULL env: no env values. variables, secrets and labels belong together. Never says why something could not be opened.
CREATE OR REPLACE FUNCTION a67_internal._env_seal(node_key text, replica_id uuid, env bytea, env_label text,
    variables text[], secrets bytea[], labels text[]) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_env_seal' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION a67_internal._env_seal(text, uuid, bytea, text, text[], bytea[], text[]) IS
    'Env values and secrets of a replica, opened and sealed again to the key of its node (docs/protocol.md), base64';

CREATE OR REPLACE FUNCTION a67_internal._secret_label(owner_id uuid, name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT 'secret.sealed:' || owner_id || '/' || name
$$;

CREATE OR REPLACE FUNCTION a67_internal._env_label(deployment_id uuid, release integer) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT 'release.env_sealed:' || deployment_id || '/' || release
$$;

-- What a replica may be given in all, as JSON. Above the sum of what manifests and secrets can hold agents refuse it.
CREATE OR REPLACE FUNCTION a67_internal._env_max_bytes() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 262144';

-- ---- what owners do ----

CREATE OR REPLACE FUNCTION a67.secret_set(name text, value text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    size integer := octet_length(to_json(secret_set.value)::text) - 2;
    stored a67_internal.secret;
    burdened text;
BEGIN
    IF secret_set.name IS NULL OR secret_set.name !~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'name must be 1 to 63 lower-case letters, digits, ".", "_" and "-", a letter or digit at both ends'
            USING ERRCODE = '22023', DETAIL = 'Field: name.';
    ELSIF secret_set.value IS NULL OR size NOT BETWEEN 1 AND 65536 THEN
        RAISE EXCEPTION 'value must be a string of 1 to 65536 bytes'
            USING ERRCODE = '22023', DETAIL = 'Field: value.', HINT = 'Escaped characters count as they stand in JSON.';
    END IF;
    -- One at a time for each user, so that the number of secrets is exact.
    PERFORM FROM a67_internal."user" u WHERE u.user_id = caller FOR NO KEY UPDATE;
    INSERT INTO a67_internal.secret AS s (owner_id, name, sealed, size_bytes)
    VALUES (caller, secret_set.name, a67_internal._vault_seal(convert_to(secret_set.value, 'UTF8'),
                                                             a67_internal._secret_label(caller, secret_set.name)), size)
    ON CONFLICT ON CONSTRAINT secret_pkey DO UPDATE
    SET sealed = EXCLUDED.sealed, size_bytes = EXCLUDED.size_bytes, version = s.version + 1, updated_at = now()
    RETURNING * INTO stored;
    IF stored.version = 1 AND (SELECT count(*) FROM a67_internal.secret s WHERE s.owner_id = caller) > 1000 THEN
        RAISE EXCEPTION 'too many secrets' USING ERRCODE = '22023', DETAIL = 'Field: name. A user has at most 1000.';
    END IF;
    SELECT d.name INTO burdened FROM a67_internal.deployment d
    JOIN a67_internal.release m ON m.deployment_id = d.deployment_id AND m.number = d.release
    WHERE d.owner_id = caller AND stored.name = ANY (m.secrets)
      AND a67_internal._env_bytes(caller, m.manifest, octet_length(m.env_sealed)) > a67_internal._env_max_bytes()
    ORDER BY d.name LIMIT 1;
    IF burdened IS NOT NULL THEN
        RAISE EXCEPTION 'value is too long for deployment "%"', burdened USING ERRCODE = '22023',
            DETAIL = format('Field: value. Env values and secrets of a replica have at most %s bytes in all.',
                            a67_internal._env_max_bytes());
    END IF;
    PERFORM a67_internal._audit('secret.set', 'ok', format('secret "%s" version %s', stored.name, stored.version));
    PERFORM a67_internal._wake('reconciler');
    PERFORM set_config('response.status', CASE stored.version WHEN 1 THEN '201' ELSE '200' END, true);
    RETURN jsonb_build_object('name', stored.name, 'version', stored.version, 'updated_at', stored.updated_at);
END
$$;
COMMENT ON FUNCTION a67.secret_set(text, text) IS
    'Stores or replaces a secret; replicas of manifests that name it get the new value. No function gives it back';

CREATE OR REPLACE FUNCTION a67.secret_remove(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    users text;
BEGIN
    PERFORM FROM a67_internal.secret s WHERE s.owner_id = caller AND s.name = secret_remove.name FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'secret "%" does not exist', secret_remove.name USING ERRCODE = 'PT404';
    END IF;
    SELECT string_agg(u.name, ', ' ORDER BY u.name) INTO users
    FROM (SELECT d.name FROM a67_internal.deployment d
          WHERE d.owner_id = caller
            AND EXISTS (SELECT FROM a67_internal.release m
                        WHERE m.deployment_id = d.deployment_id AND m.secrets @> ARRAY[secret_remove.name]
                          AND (m.number = d.release AND d.desired_state <> 'removed'
                               OR EXISTS (SELECT FROM a67_internal.replica r WHERE r.deployment_id = m.deployment_id
                                          AND r.release = m.number AND r.desired_state = 'running')))
          ORDER BY d.name LIMIT 20) u;
    IF users IS NOT NULL THEN
        RAISE EXCEPTION 'secret "%" is in use', secret_remove.name
            USING ERRCODE = '23503', DETAIL = format('Deployments: %s.', users), HINT = 'Remove these deployments first.';
    END IF;
    DELETE FROM a67_internal.secret s WHERE s.owner_id = caller AND s.name = secret_remove.name;
    PERFORM a67_internal._audit('secret.remove', 'ok', format('secret "%s"', secret_remove.name));
END
$$;
COMMENT ON FUNCTION a67.secret_remove(text) IS 'Forgets a secret that no deployment names';

-- ---- what a release keeps ----

-- Bytes that a replica of this manifest gets: of its secrets as they are now, and of its env values.
CREATE OR REPLACE FUNCTION a67_internal._env_bytes(owner_id uuid, manifest jsonb, env_bytes integer) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(env_bytes, 0) + coalesce(sum(s.size_bytes + octet_length(v.key)), 0)
    FROM jsonb_each_text(manifest -> 'secrets') v
    JOIN a67_internal.secret s ON s.owner_id = _env_bytes.owner_id AND s.name = v.value
$$;

-- Refuses a normalised manifest that names secrets which this owner does not have. Keeps them from being removed or
-- replaced until the transaction ends; called before anything else is locked.
CREATE OR REPLACE FUNCTION a67_internal._secrets_check(owner_id uuid, manifest jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    missing text[];
BEGIN
    PERFORM FROM a67_internal.secret s
    WHERE s.owner_id = _secrets_check.owner_id
      AND s.name IN (SELECT v.value FROM jsonb_each_text(_secrets_check.manifest -> 'secrets') v)
    ORDER BY s.name FOR SHARE;
    SELECT array_agg(format('/secrets/%s: secret "%s" does not exist', v.key, v.value) ORDER BY v.key) INTO missing
    FROM jsonb_each_text(_secrets_check.manifest -> 'secrets') v
    WHERE NOT EXISTS (SELECT FROM a67_internal.secret s WHERE s.owner_id = _secrets_check.owner_id AND s.name = v.value);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'invalid manifest: %', missing[1]
            USING ERRCODE = '22023', DETAIL = array_to_string(missing[1:20], E'\n'),
                  HINT = 'Store it first with a67.secret_set().';
    END IF;
    IF a67_internal._env_bytes(owner_id, manifest, octet_length((manifest -> 'env')::text)) > a67_internal._env_max_bytes() THEN
        RAISE EXCEPTION 'invalid manifest: /secrets: together with env at most % bytes', a67_internal._env_max_bytes()
            USING ERRCODE = '22023', DETAIL = '/secrets: too long in all';
    END IF;
END
$$;

-- Stores a normalised manifest as a release: values of env sealed beside it, their names in it.
CREATE OR REPLACE FUNCTION a67_internal._release_add(deployment_id uuid, number integer, manifest jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    INSERT INTO a67_internal.release (deployment_id, number, manifest, package_digest, env_sealed, secrets)
    VALUES (_release_add.deployment_id, _release_add.number,
            jsonb_set(manifest, '{env}', (SELECT coalesce(jsonb_object_agg(name, NULL), '{}')
                                          FROM jsonb_object_keys(manifest -> 'env') name)),
            manifest ->> 'package',
            CASE WHEN manifest -> 'env' <> '{}' THEN a67_internal._vault_seal(convert_to((manifest -> 'env')::text, 'UTF8'),
                a67_internal._env_label(_release_add.deployment_id, _release_add.number)) END,
            ARRAY(SELECT DISTINCT v.value FROM jsonb_each_text(manifest -> 'secrets') v ORDER BY 1))
$$;

-- ---- handing out ----

-- What stands for the versions of the secrets that a release names.
CREATE OR REPLACE VIEW a67_internal.release_secrets AS
SELECT m.deployment_id, m.number AS release,
       left(encode(sha256(convert_to(string_agg(s.name || ' ' || s.version || ' ' || extract(epoch FROM s.created_at), E'\n'
                                                ORDER BY s.name), 'UTF8')), 'hex'), 32) AS version
FROM a67_internal.release m
JOIN a67_internal.deployment d USING (deployment_id)
CROSS JOIN LATERAL unnest(m.secrets) AS named (name)
JOIN a67_internal.secret s ON s.owner_id = d.owner_id AND s.name = named.name
WHERE m.secrets <> '{}'
GROUP BY m.deployment_id, m.number;

-- The same of one release; NULL when it names none.
CREATE OR REPLACE FUNCTION a67_internal._secrets_version(deployment_id uuid, release integer) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT v.version FROM a67_internal.release_secrets v
    WHERE v.deployment_id = _secrets_version.deployment_id AND v.release = _secrets_version.release
$$;

-- What the body of a replica's command carries in sealed_env, audited. NULL, and nothing audited, when it cannot be made:
-- the command then waits, and the others go on.
CREATE OR REPLACE FUNCTION a67_internal._env_hand_out(r a67_internal.replica) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    given record;
BEGIN
    SELECT m.env_sealed, m.secrets, n.public_key, n.name AS node, d.name AS deployment, s.* INTO STRICT given
    FROM a67_internal.release m
    JOIN a67_internal.deployment d USING (deployment_id)
    JOIN a67_internal.node n ON n.node_id = r.node_id,
    LATERAL (SELECT coalesce(array_agg(v.key), '{}') AS variables, coalesce(array_agg(s.name), '{}') AS names,
                    coalesce(array_agg(s.version), '{}') AS versions, coalesce(array_agg(s.sealed), '{}') AS sealed,
                    coalesce(array_agg(a67_internal._secret_label(s.owner_id, s.name)), '{}') AS labels
             FROM jsonb_each_text(m.manifest -> 'secrets') v
             JOIN a67_internal.secret s ON s.owner_id = d.owner_id AND s.name = v.value) s
    WHERE m.deployment_id = r.deployment_id AND m.number = r.release;
    IF NOT given.names @> given.secrets THEN
        RAISE EXCEPTION 'a secret that it names does not exist';
    END IF;
    PERFORM a67_internal._audit('secret.release', 'ok', format('secret "%s" version %s to replica %s of "%s" on node %s "%s"',
                                g.name, g.version, r.replica_id, given.deployment, r.node_id, given.node))
    FROM (SELECT DISTINCT u.name, u.version FROM unnest(given.names, given.versions) u (name, version) ORDER BY 1) g;
    RETURN a67_internal._env_seal(given.public_key, r.replica_id, given.env_sealed,
        a67_internal._env_label(r.deployment_id, r.release), given.variables, given.sealed, given.labels);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'could not seal the environment of replica %: %', r.replica_id, SQLERRM;
    RETURN NULL;
END
$$;

-- Makes replicas whose secrets have changed since they were given them due for a command. Where that restarts the app, one
-- replica of a deployment at a time, and only while all others run and none has failed since: the app keeps serving.
-- A new version of a secret is a command of the owner: failures are counted anew, and the status tells when it is done.
CREATE OR REPLACE FUNCTION a67_internal._reconciler_secrets(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    changed record;
BEGIN
    FOR changed IN
        SELECT d.deployment_id, d.owner_id, d.name, v.version, d.secrets_version IS NOT NULL AS again
        FROM a67_internal.deployment d
        JOIN a67_internal.release_secrets v ON v.deployment_id = d.deployment_id AND v.release = d.release
        WHERE d.secrets_version IS DISTINCT FROM v.version AND d.desired_state <> 'removed'
    LOOP
        UPDATE a67_internal.deployment d
        SET secrets_version = changed.version, generation = d.generation + changed.again::integer
        WHERE d.deployment_id = changed.deployment_id;
        IF changed.again THEN
            PERFORM a67_internal._event(changed.owner_id, 'deployment.changed', changed.deployment_id,
                jsonb_build_object('deployment', changed.name, 'command', 'secrets'));
        END IF;
    END LOOP;
    WITH concerned AS MATERIALIZED (
        SELECT DISTINCT r.deployment_id FROM a67_internal.replica r JOIN a67_internal.deployment d USING (deployment_id)
        WHERE r.desired_state = 'running' AND r.secrets_version <> d.secrets_version
    ), wanted AS (
        SELECT r.replica_id, r.deployment_id, v.version, r.created_at,
               r.secrets_version <> v.version AND r.pushed_generation = r.generation
                   AND o.status NOT IN ('suspect', 'failed', 'offline', 'removed') AS stale,
               r.state = 'running' AND m.manifest ->> 'on_secret_change' = 'restart' AS serves,
               (d.place_failures = 0 OR d.seen_generation <> d.generation)
                   -- A rollout replaces replicas within bounds of its own: nothing is restarted beside it.
                   AND NOT EXISTS (SELECT FROM a67_internal.rollout o WHERE o.deployment_id = r.deployment_id
                                   AND o.finished_at IS NULL AND o.state <> 'paused')
                   AND bool_and(r.state = 'running' AND r.pushed_generation = r.generation
                                AND r.observed_generation = r.generation) OVER (PARTITION BY r.deployment_id) AS settled
        FROM concerned c
        JOIN a67_internal.deployment d USING (deployment_id)
        JOIN a67_internal.replica r USING (deployment_id)
        JOIN a67_internal.release m ON m.deployment_id = r.deployment_id AND m.number = r.release
        JOIN a67_internal.node_observed o ON o.node_id = r.node_id AND r.cron_run_id IS NULL
        CROSS JOIN LATERAL (SELECT CASE r.release WHEN d.release THEN d.secrets_version
                                   ELSE a67_internal._secrets_version(r.deployment_id, r.release) END AS version) v
        WHERE r.desired_state = 'running'
    ), chosen AS (
        SELECT w.replica_id, w.version FROM wanted w WHERE w.stale AND NOT w.serves
        UNION ALL
        (SELECT DISTINCT ON (w.deployment_id) w.replica_id, w.version FROM wanted w
         WHERE w.stale AND w.serves AND w.settled ORDER BY w.deployment_id, w.created_at, w.replica_id)
    ), locked AS (
        SELECT r.replica_id FROM a67_internal.replica r JOIN chosen c USING (replica_id)
        WHERE r.desired_state = 'running' AND r.pushed_generation = r.generation
        FOR UPDATE OF r SKIP LOCKED
    )
    UPDATE a67_internal.replica r
    SET generation = r.generation + 1, epoch = r.epoch + 1, secrets_version = c.version, attempts = 0,
        next_push_at = _reconciler_secrets.now
    FROM locked l JOIN chosen c USING (replica_id) WHERE r.replica_id = l.replica_id;
END
$$;
