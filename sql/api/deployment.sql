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

CREATE OR REPLACE FUNCTION a67.deployment_create(manifest jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    normal jsonb := a67_internal._manifest_normal(manifest);
    new_id uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM a67_internal.package p WHERE p.owner_id = caller AND p.digest = normal ->> 'package') THEN
        RAISE EXCEPTION 'package "%" does not exist', normal ->> 'package'
            USING ERRCODE = '22023', DETAIL = '/package: no such package', HINT = 'Store it first with a67.package_put().';
    END IF;
    PERFORM a67_internal._secrets_check(caller, normal);
    INSERT INTO a67_internal.deployment (owner_id, name, replicas)
    VALUES (caller, normal ->> 'name', (normal ->> 'replicas')::integer)
    ON CONFLICT ON CONSTRAINT deployment_owner_name_key DO NOTHING RETURNING deployment_id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION 'deployment "%" already exists', normal ->> 'name'
            USING ERRCODE = '23505', DETAIL = '/name: taken';
    END IF;
    PERFORM a67_internal._capacity_check(caller, (normal ->> 'replicas')::integer,
        (normal #>> '{resources,memory_bytes}')::bigint, (normal #>> '{resources,cpu}')::float8);
    PERFORM a67_internal._release_add(new_id, 1, normal);
    PERFORM a67_internal._event(caller, 'deployment.changed', new_id,
        jsonb_build_object('deployment', normal ->> 'name', 'command', 'create', 'replicas', normal -> 'replicas'));
    PERFORM set_config('response.status', '202', true);
    RETURN jsonb_build_object('deployment_id', new_id, 'status', 'pending');
END
$$;
COMMENT ON FUNCTION a67.deployment_create(jsonb) IS
    'Takes a manifest; the reconciler then places and starts its replicas. Best effort: one replica that fits is enough';

-- Writes one command of the owner: the desired columns, a new generation, an event. The trigger wakes the reconciler.
CREATE OR REPLACE FUNCTION a67_internal._deployment_command(d a67_internal.deployment, command text, desired_state text,
    replicas integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    observed text;
BEGIN
    UPDATE a67_internal.deployment t
    SET desired_state = _deployment_command.desired_state, replicas = _deployment_command.replicas,
        generation = t.generation + 1, updated_at = now()
    WHERE t.deployment_id = d.deployment_id RETURNING t.status INTO observed;
    PERFORM a67_internal._event(d.owner_id, 'deployment.changed', d.deployment_id,
        jsonb_build_object('deployment', d.name, 'command', command, 'replicas', replicas));
    PERFORM set_config('response.status', '202', true);
    RETURN jsonb_build_object('deployment_id', d.deployment_id, 'status', observed);
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
