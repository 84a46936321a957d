-- Deployments: what owners command. Nothing here talks to a node; the reconciler makes it true.

CREATE OR REPLACE FUNCTION a67_internal._deployment_find(deployment text) RETURNS a67_internal.deployment
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    found_deployment a67_internal.deployment;
BEGIN
    SELECT * INTO found_deployment FROM a67_internal.deployment d
    WHERE (d.name = _deployment_find.deployment AND d.owner_id = caller
           OR d.deployment_id::text = lower(_deployment_find.deployment)
              AND (d.owner_id = caller OR a67_internal._is_admin()))
      AND d.desired_state <> 'removed'
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'deployment "%" does not exist', _deployment_find.deployment USING ERRCODE = 'PT404';
    END IF;
    RETURN found_deployment;
END
$$;

-- What is to run as a whole or not at all must fit as a whole.
CREATE OR REPLACE FUNCTION a67_internal._capacity_whole(owner_id uuid, normal jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    replicas integer := (normal ->> 'replicas')::integer;
    rule record := a67_internal._place_barred(owner_id, normal);
    shortage text;
BEGIN
    IF replicas = 0 THEN
        RETURN;
    END IF;
    SELECT max(p.shortage) INTO shortage
    FROM a67_internal._place(owner_id, replicas, (normal #>> '{resources,memory_bytes}')::bigint, (normal #>> '{resources,cpu}')::float8,
        coalesce((normal #>> '{resources,disk_bytes}')::bigint, 0), '{}', '{}', '{}', rule.barred, now(), 0) p;
    IF shortage IS NOT NULL THEN
        RAISE EXCEPTION 'insufficient capacity for % replicas', replicas
            USING ERRCODE = '53000', DETAIL = concat_ws(' ', shortage, rule.note),
                  HINT = 'The manifest asks for all of them or none (atomic).';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_create(manifest jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    normal jsonb := a67_internal._manifest_normal(manifest);
    new_id uuid;
BEGIN
    PERFORM a67_internal._secrets_check(caller, normal);
    PERFORM a67_internal._package_use(caller, normal ->> 'package');
    INSERT INTO a67_internal.deployment (owner_id, name, app_type, replicas)
    VALUES (caller, normal ->> 'name', normal ->> 'app_type', (normal ->> 'replicas')::integer)
    ON CONFLICT ON CONSTRAINT deployment_owner_name_key DO NOTHING RETURNING deployment_id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION 'deployment "%" already exists', normal ->> 'name'
            USING ERRCODE = '23505', DETAIL = '/name: taken';
    END IF;
    PERFORM a67_internal._capacity_check(caller,
        CASE normal ->> 'app_type' WHEN 'cron' THEN 1 ELSE (normal ->> 'replicas')::integer END,
        (normal #>> '{resources,memory_bytes}')::bigint, (normal #>> '{resources,cpu}')::float8,
        (normal #>> '{resources,disk_bytes}')::bigint, b.barred, coalesce(b.note, ''))
    FROM a67_internal._place_barred(caller, normal) b;
    IF normal -> 'atomic' = 'true' THEN
        PERFORM a67_internal._capacity_whole(caller, normal);
    END IF;
    PERFORM a67_internal._release_add(new_id, 1, normal);
    PERFORM a67_internal._routes_claim(new_id, caller, normal);
    IF normal ->> 'app_type' = 'cron' THEN
        PERFORM a67_internal._cron_sync(d) FROM a67_internal.deployment d WHERE d.deployment_id = new_id;
    END IF;
    PERFORM a67_internal._event(caller, 'deployment.changed', new_id,
        jsonb_build_object('deployment', normal ->> 'name', 'command', 'create', 'replicas', normal -> 'replicas'));
    PERFORM set_config('response.status', '202', true);
    RETURN jsonb_build_object('deployment_id', new_id, 'status', 'pending');
END
$$;
COMMENT ON FUNCTION a67.deployment_create(jsonb) IS
    'Takes a manifest; the reconciler then places and starts its replicas. Best effort: one replica that fits is enough';

-- Writes one command of the owner: the desired columns, a new generation, an event. The trigger wakes the reconciler. What stops a
-- deployment ends its rollout.
CREATE OR REPLACE FUNCTION a67_internal._deployment_command(d a67_internal.deployment, command text, desired_state text,
    replicas integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    changed a67_internal.deployment;
BEGIN
    IF desired_state <> 'running' THEN
        PERFORM a67_internal._rollout_end(d, format('ended by %s', command));
    END IF;
    UPDATE a67_internal.deployment t
    SET desired_state = _deployment_command.desired_state, replicas = _deployment_command.replicas,
        generation = t.generation + 1, updated_at = now()
    WHERE t.deployment_id = d.deployment_id RETURNING t.* INTO changed;
    UPDATE a67_internal.rollout o SET replicas = _deployment_command.replicas
    WHERE o.deployment_id = d.deployment_id AND o.finished_at IS NULL AND o.replicas IS NOT NULL;
    IF d.app_type = 'cron' THEN
        PERFORM a67_internal._cron_sync(changed);
    END IF;
    PERFORM a67_internal._event(d.owner_id, 'deployment.changed', d.deployment_id,
        jsonb_build_object('deployment', d.name, 'command', command, 'replicas', replicas));
    PERFORM set_config('response.status', '202', true);
    RETURN jsonb_build_object('deployment_id', d.deployment_id, 'status', changed.status);
END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_scale(deployment text, replicas integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_find(deployment);
BEGIN
    IF replicas IS NULL OR replicas NOT BETWEEN 0 AND 1000 THEN
        RAISE EXCEPTION 'replicas must be an integer from 0 to 1000' USING ERRCODE = '22023', DETAIL = 'Field: replicas.';
    ELSIF d.app_type = 'cron' THEN
        RAISE EXCEPTION 'deployment "%" has no replicas but its runs', d.name
            USING ERRCODE = '22023', DETAIL = 'Field: deployment.', HINT = 'A cron app is started by its schedule.';
    END IF;
    RETURN a67_internal._deployment_command(d, 'scale', d.desired_state, deployment_scale.replicas);
END
$$;
COMMENT ON FUNCTION a67.deployment_scale(text, integer) IS 'Asks for another number of replicas (deployment by name or id)';

CREATE OR REPLACE FUNCTION a67.deployment_stop(deployment text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_find(deployment);
BEGIN
    RETURN a67_internal._deployment_command(d, 'stop', 'stopped', d.replicas);
END
$$;
COMMENT ON FUNCTION a67.deployment_stop(text) IS 'Stops every replica; a67.deployment_start() brings them back';

CREATE OR REPLACE FUNCTION a67.deployment_start(deployment text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_find(deployment);
BEGIN
    RETURN a67_internal._deployment_command(d, 'start', 'running', d.replicas);
END
$$;
COMMENT ON FUNCTION a67.deployment_start(text) IS 'Starts a stopped deployment, or tries a failed one again';

CREATE OR REPLACE FUNCTION a67.deployment_remove(deployment text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_find(deployment);
BEGIN
    RETURN a67_internal._deployment_command(d, 'remove', 'removed', 0);
END
$$;
COMMENT ON FUNCTION a67.deployment_remove(text) IS
    'Stops every replica, then forgets the deployment; its name is free once every node has confirmed';

CREATE OR REPLACE TRIGGER deployment_wake AFTER INSERT OR UPDATE OF generation ON a67_internal.deployment
FOR EACH STATEMENT EXECUTE FUNCTION a67_internal._wake_trigger('reconciler');
