-- Restarting a failed node through its provider's hook: a signed webhook, once per failure, less often while it keeps failing.

-- When the next restart of a node may be tried: 5 minutes after the first, twice as long each time, 6 hours at most.
CREATE OR REPLACE FUNCTION a67_internal._restart_pause(attempt integer) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT least(interval '5 minutes' * (2 ^ least(greatest(attempt - 1, 0), 10)), interval '6 hours')
$$;

CREATE OR REPLACE FUNCTION a67_internal._restart_send(here a67_internal.node, p a67_internal.provider, attempt integer,
    failed_at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    secret bytea;
BEGIN
    IF p.restart_secret_sealed IS NOT NULL THEN
        secret := a67_internal._vault_open(p.restart_secret_sealed, 'provider.restart_secret_sealed:' || p.name);
    END IF;
    -- The hook is the administrators', not the node's owner's: so are its outbox row and its errors.
    PERFORM a67_internal._hook_send(a67_internal._operator_id(), here.node_id, p.restart_url, secret, jsonb_build_object(
        'type', 'node.restart', 'node_id', here.node_id, 'node', here.name, 'provider', here.provider, 'region', here.region,
        'endpoint', here.endpoint, 'failed_at', failed_at, 'attempt', attempt));
    PERFORM a67_internal._event(here.owner_id, 'node.restart', here.node_id,
        jsonb_build_object('node', here.name, 'provider', here.provider, 'attempt', attempt));
END
$$;

-- Asks providers to restart the nodes that failed. While the vault is sealed they wait: the outbox seals what it keeps.
CREATE OR REPLACE FUNCTION a67_internal._restart_plan(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    due record;
    attempt integer;
BEGIN
    FOR due IN
        SELECT n AS node, p AS provider, n.name, o.node_id, o.restart_due_at,
               -- A day after the last one the count starts anew.
               CASE WHEN o.restart_not_before > _restart_plan.now - interval '1 day' THEN o.restarts ELSE 0 END AS restarts
        FROM a67_internal.node_observed o
        JOIN a67_internal.node n USING (node_id)
        JOIN a67_internal.provider p ON p.name = n.provider
        WHERE o.restart_due_at IS NOT NULL AND o.status = 'failed' AND o.restart_not_before <= _restart_plan.now
          AND p.restart_url IS NOT NULL AND NOT a67_internal._vault_is_sealed()
        ORDER BY o.restart_due_at LIMIT 64
        FOR UPDATE OF o SKIP LOCKED
    LOOP
        attempt := due.restarts + 1;
        UPDATE a67_internal.node_observed o
        SET restart_due_at = NULL, restarts = attempt,
            restart_not_before = _restart_plan.now + a67_internal._restart_pause(attempt)
        WHERE o.node_id = due.node_id;
        BEGIN
            PERFORM a67_internal._restart_send(due.node, due.provider, attempt, due.restart_due_at);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'could not ask provider to restart node "%": %', due.name, SQLERRM;
        END;
    END LOOP;
END
$$;
