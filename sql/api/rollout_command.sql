-- What owners command of releases: a new one, back to an old one, and how a rollout is to go on. Nothing here touches a replica; the
-- reconciler makes it true.

CREATE OR REPLACE FUNCTION a67_internal._rollout_order(state text, wanted text) RETURNS text
AS 'MODULE_PATHNAME', 'a67_sql_rollout_order' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION a67_internal._rollout_order(text, text) IS 'The state that an order leads a rollout to; NULL when it is refused';

CREATE OR REPLACE FUNCTION a67_internal._rollout_active(deployment_id uuid) RETURNS a67_internal.rollout
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT o FROM a67_internal.rollout o WHERE o.deployment_id = _rollout_active.deployment_id AND o.finished_at IS NULL
$$;

-- What commands about releases answer.
CREATE OR REPLACE FUNCTION a67_internal._rollout_answer(deployment_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('response.status', '202', true);
    SELECT jsonb_strip_nulls(jsonb_build_object('deployment_id', d.deployment_id, 'status', d.status, 'release', d.release,
        'rollout', CASE WHEN o.rollout_id IS NOT NULL THEN jsonb_build_object('id', o.rollout_id, 'from_release', o.from_release,
            'to_release', o.to_release, 'strategy', o.strategy ->> 'type', 'state', o.state, 'phase', o.phase, 'weight', o.weight) END))
    INTO answer
    FROM a67_internal.deployment d
    LEFT JOIN LATERAL (SELECT t.* FROM a67_internal.rollout t WHERE t.deployment_id = d.deployment_id
                       ORDER BY t.finished_at IS NULL DESC, t.created_at DESC LIMIT 1) o ON true
    WHERE d.deployment_id = _rollout_answer.deployment_id;
    RETURN answer;
END
$$;

-- Ends the rollout under way, if any, where it stands: a command took its place.
CREATE OR REPLACE FUNCTION a67_internal._rollout_end(d a67_internal.deployment, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    ended a67_internal.rollout;
BEGIN
    UPDATE a67_internal.rollout o
    SET state = 'aborted', phase = 'done', aborted = true, weight = 0, reason = _rollout_end.reason, epoch = o.epoch + 1,
        phase_at = now(), finished_at = now()
    WHERE o.deployment_id = d.deployment_id AND o.finished_at IS NULL RETURNING o.* INTO ended;
    IF FOUND THEN
        PERFORM a67_internal._rollout_event(d, ended, '{}');
        PERFORM a67_internal._alert_resolve('rollout-failed:' || d.deployment_id);
    END IF;
END
$$;

-- One rollout at a time: refused, unless the new one is to take the place of the other.
CREATE OR REPLACE FUNCTION a67_internal._rollout_free(d a67_internal.deployment, supersede boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    o a67_internal.rollout := a67_internal._rollout_active(d.deployment_id);
BEGIN
    IF o.rollout_id IS NOT NULL AND NOT coalesce(supersede, false) THEN
        RAISE EXCEPTION 'deployment "%" has a rollout under way', d.name
            USING ERRCODE = 'PT409', DETAIL = format('Rollout %s: %s.', o.rollout_id, a67_internal._rollout_text(o)),
                  HINT = 'Wait for its end, abort it with a67.deployment_abort(), or let this one take its place with supersede => true.';
    END IF;
    PERFORM a67_internal._rollout_end(d, 'superseded by another release');
END
$$;

-- Brings a stored release into use: by a rollout where something runs that it could replace, else at once. replicas NULL: as many as now.
CREATE OR REPLACE FUNCTION a67_internal._rollout_begin(d a67_internal.deployment, to_release integer, replicas integer, command text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    wanted jsonb;
    begun a67_internal.rollout;
BEGIN
    SELECT coalesce(m.manifest -> 'strategy', '{}') INTO wanted FROM a67_internal.release m
    WHERE m.deployment_id = d.deployment_id AND m.number = _rollout_begin.to_release;
    wanted := '{"type": "rolling", "max_surge": 1, "max_unavailable": 0}'::jsonb || wanted;
    UPDATE a67_internal.deployment t SET generation = t.generation + 1, updated_at = now() WHERE t.deployment_id = d.deployment_id;
    IF d.app_type = 'cron' OR d.desired_state <> 'running' THEN
        UPDATE a67_internal.deployment t
        SET release = _rollout_begin.to_release, replicas = coalesce(_rollout_begin.replicas, t.replicas),
            secrets_version = a67_internal._secrets_version(t.deployment_id, _rollout_begin.to_release)
        WHERE t.deployment_id = d.deployment_id RETURNING t.* INTO d;
        PERFORM a67_internal._cron_sync(d);
    ELSE
        INSERT INTO a67_internal.rollout (deployment_id, from_release, to_release, replicas, strategy, old_target)
        VALUES (d.deployment_id, d.release, _rollout_begin.to_release, _rollout_begin.replicas, wanted, d.replicas)
        RETURNING * INTO begun;
        PERFORM a67_internal._alert_resolve('rollout-failed:' || d.deployment_id);
        PERFORM a67_internal._rollout_event(d, begun, '{}');
    END IF;
    PERFORM a67_internal._event(d.owner_id, 'deployment.changed', d.deployment_id, jsonb_build_object('deployment', d.name,
        'command', command, 'release', to_release, 'replicas', coalesce(replicas, d.replicas)));
    RETURN a67_internal._rollout_answer(d.deployment_id);
END
$$;

-- Whose deployment that is, without a lock: secrets are locked before deployments.
CREATE OR REPLACE FUNCTION a67_internal._deployment_owner(deployment text) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    caller uuid := a67_internal._user_id();
    owner uuid;
BEGIN
    SELECT d.owner_id INTO owner FROM a67_internal.deployment d
    WHERE (d.name = _deployment_owner.deployment AND d.owner_id = caller
           OR d.deployment_id::text = lower(_deployment_owner.deployment) AND (d.owner_id = caller OR a67_internal._is_admin()))
      AND d.desired_state <> 'removed';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'deployment "%" does not exist', _deployment_owner.deployment USING ERRCODE = 'PT404';
    END IF;
    RETURN owner;
END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_update(deployment text, manifest jsonb, supersede boolean DEFAULT false) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner uuid := a67_internal._deployment_owner(deployment);
    normal jsonb := a67_internal._manifest_normal(manifest);
    d a67_internal.deployment;
    number integer;
BEGIN
    PERFORM a67_internal._secrets_check(owner, normal);
    PERFORM a67_internal._package_use(owner, normal ->> 'package');
    d := a67_internal._deployment_find(deployment);
    IF normal ->> 'name' <> d.name THEN
        RAISE EXCEPTION 'invalid manifest: /name: must be "%"', d.name
            USING ERRCODE = '22023', DETAIL = format('/name: must be "%s"', d.name), HINT = 'A deployment keeps its name.';
    ELSIF normal ->> 'app_type' <> d.app_type THEN
        RAISE EXCEPTION 'invalid manifest: /app_type: must be "%"', d.app_type
            USING ERRCODE = '22023', DETAIL = format('/app_type: must be "%s"', d.app_type),
                  HINT = 'A deployment keeps its kind: create another one.';
    END IF;
    PERFORM a67_internal._rollout_free(d, supersede);
    SELECT max(m.number) + 1 INTO number FROM a67_internal.release m WHERE m.deployment_id = d.deployment_id;
    PERFORM a67_internal._release_add(d.deployment_id, number, normal);
    PERFORM a67_internal._routes_claim(d.deployment_id, d.owner_id, normal);
    RETURN a67_internal._rollout_begin(d, number, CASE WHEN manifest ? 'replicas' THEN (normal ->> 'replicas')::integer END, 'update');
END
$$;
COMMENT ON FUNCTION a67.deployment_update(text, jsonb, boolean) IS
    'A new release, rolled out as its strategy says. Without replicas in the manifest their number stays. supersede: takes the place of a rollout under way';

CREATE OR REPLACE FUNCTION a67_internal._rollout_command(deployment text, wanted text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_find(deployment);
    o a67_internal.rollout := a67_internal._rollout_active(d.deployment_id);
    next text;
BEGIN
    IF o.rollout_id IS NULL THEN
        RAISE EXCEPTION 'deployment "%" has no rollout under way', d.name USING ERRCODE = 'PT409';
    END IF;
    next := a67_internal._rollout_order(o.state, wanted);
    IF next IS NULL THEN
        RAISE EXCEPTION 'cannot % the rollout of deployment "%": it goes back already', wanted, d.name
            USING ERRCODE = 'PT409', DETAIL = format('Rollout %s: %s.', o.rollout_id, a67_internal._rollout_text(o));
    END IF;
    -- What was counted or waited for before a command counts no more.
    UPDATE a67_internal.rollout t
    SET state = next, epoch = t.epoch + 1, failures = CASE wanted WHEN 'pause' THEN t.failures ELSE 0 END,
        next_place_at = CASE wanted WHEN 'pause' THEN t.next_place_at ELSE '-infinity' END,
        phase = CASE wanted WHEN 'abort' THEN 'restore' ELSE t.phase END, phase_at = now(), progress_at = now(), progress = 0,
        aborted = t.aborted OR wanted = 'abort' AND t.state <> 'rolling_back', promoted = t.promoted OR wanted = 'promote',
        tested = '{}', test_failures = 0, next_test_at = '-infinity',
        baseline = CASE WHEN wanted <> 'pause' AND t.phase = 'observe' THEN a67_internal._rollout_baseline(t) || '{"failures": 0}'
                        ELSE t.baseline END,
        reason = CASE wanted WHEN 'pause' THEN 'paused by its owner' WHEN 'abort' THEN 'aborted by its owner'
                             WHEN 'promote' THEN 'promoted by its owner' END
    WHERE t.rollout_id = o.rollout_id AND NOT (t.state = next AND wanted IN ('pause', 'resume', 'abort'))
    RETURNING t.* INTO o;
    IF FOUND THEN
        PERFORM a67_internal._rollout_event(d, o, '{}');
        IF next <> 'paused' THEN
            PERFORM a67_internal._alert_resolve('rollout-failed:' || d.deployment_id);
        END IF;
        PERFORM a67_internal._wake('reconciler');
    END IF;
    RETURN a67_internal._rollout_answer(d.deployment_id);
END
$$;

CREATE OR REPLACE FUNCTION a67.deployment_pause(deployment text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._rollout_command(deployment, 'pause')$$;
COMMENT ON FUNCTION a67.deployment_pause(text) IS
    'Holds a rollout where it is; what is lost is made good, and one that turns out to be bad still goes back';

CREATE OR REPLACE FUNCTION a67.deployment_resume(deployment text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._rollout_command(deployment, 'resume')$$;
COMMENT ON FUNCTION a67.deployment_resume(text) IS 'Lets a paused rollout go on; failures and times are counted anew';

CREATE OR REPLACE FUNCTION a67.deployment_abort(deployment text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._rollout_command(deployment, 'abort')$$;
COMMENT ON FUNCTION a67.deployment_abort(text) IS 'Takes a rollout back to the release before it';

CREATE OR REPLACE FUNCTION a67.deployment_promote(deployment text) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$SELECT a67_internal._rollout_command(deployment, 'promote')$$;
COMMENT ON FUNCTION a67.deployment_promote(text) IS
    'Brings a rollout to its end as fast as replicas become healthy: without tests, steps, observation or verdicts by requests';

-- The release that a deployment had before its present one.
CREATE OR REPLACE FUNCTION a67_internal._release_before(d a67_internal.deployment) RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT coalesce(
        (SELECT o.from_release FROM a67_internal.rollout o
         WHERE o.deployment_id = d.deployment_id AND o.to_release = d.release AND o.state = 'succeeded'
           AND EXISTS (SELECT FROM a67_internal.release m WHERE m.deployment_id = o.deployment_id AND m.number = o.from_release)
         ORDER BY o.finished_at DESC LIMIT 1),
        (SELECT max(m.number) FROM a67_internal.release m WHERE m.deployment_id = d.deployment_id AND m.number < d.release))
$$;

CREATE OR REPLACE FUNCTION a67.deployment_rollback(deployment text, release integer DEFAULT NULL, supersede boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    owner uuid := a67_internal._deployment_owner(deployment);
    d a67_internal.deployment;
    o a67_internal.rollout;
    wanted integer := deployment_rollback.release;
    kept jsonb;
BEGIN
    -- The secrets of the release are locked before the deployment is; which release it is, is looked up again then.
    SELECT m.manifest INTO kept FROM a67_internal.deployment t JOIN a67_internal.release m USING (deployment_id)
    WHERE t.owner_id = owner AND (t.name = deployment_rollback.deployment OR t.deployment_id::text = lower(deployment_rollback.deployment))
      AND m.number = coalesce(wanted, a67_internal._release_before(t));
    IF kept IS NOT NULL THEN
        PERFORM a67_internal._secrets_check(owner, kept);
        PERFORM a67_internal._package_use(owner, kept ->> 'package');
    END IF;
    d := a67_internal._deployment_find(deployment);
    o := a67_internal._rollout_active(d.deployment_id);
    IF o.rollout_id IS NOT NULL AND coalesce(wanted, o.from_release) = o.from_release THEN
        RETURN a67_internal._rollout_command(deployment, 'abort');
    END IF;
    wanted := coalesce(wanted, a67_internal._release_before(d));
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'deployment "%" has no release before this one', d.name USING ERRCODE = 'PT409';
    ELSIF wanted = d.release AND o.rollout_id IS NULL THEN
        RAISE EXCEPTION 'deployment "%" has release % already', d.name, wanted USING ERRCODE = 'PT409', DETAIL = 'Field: release.';
    END IF;
    SELECT m.manifest INTO kept FROM a67_internal.release m WHERE m.deployment_id = d.deployment_id AND m.number = wanted;
    IF kept IS NULL THEN
        RAISE EXCEPTION 'deployment "%" has no release %', d.name, wanted
            USING ERRCODE = '22023', DETAIL = 'Field: release.', HINT = 'a67.release lists those that are kept.';
    END IF;
    PERFORM a67_internal._rollout_free(d, supersede);
    PERFORM a67_internal._routes_claim(d.deployment_id, d.owner_id, kept);
    RETURN a67_internal._rollout_begin(d, wanted, NULL, 'rollback');
END
$$;
COMMENT ON FUNCTION a67.deployment_rollback(text, integer, boolean) IS
    'Back to a release that is kept (NULL: the one before), rolled out as that one''s strategy says. During a rollout: aborts it';
