-- Cron apps: schedules come due, runs are placed once and recorded.
--
-- A schedule in force has a row in cron_app, and a job in pg_cron where that runs in this database: the job only says that it
-- is time (_cron_due). The reconciler (_cron_tick) is the timer where there is no pg_cron, and steps in where pg_cron is late.
-- Whoever is first adds the row of cron_run for that minute; the other finds it there. A run is one replica: it is placed as
-- others are, and its end is the end of the run. What may have begun is never begun again.

-- A run that could not begin within this time is missed, and not begun later.
CREATE OR REPLACE FUNCTION a67_internal._cron_late() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT interval '1 minute' $$;

-- How long the reconciler leaves it to pg_cron to begin a run.
CREATE OR REPLACE FUNCTION a67_internal._cron_patience() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT interval '20 seconds' $$;

-- ---- pg_cron ------------------------------------------------------------------------------------------------------------

-- Why pg_cron cannot time the schedules; NULL when it can.
CREATE OR REPLACE FUNCTION a67_internal._cron_obstacle() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    zone text := nullif(current_setting('cron.timezone', true), '');
BEGIN
    IF to_regprocedure('cron.schedule(text, text, text)') IS NULL THEN
        RETURN 'the extension pg_cron is not in this database';
    ELSIF NOT EXISTS (SELECT FROM pg_stat_activity s WHERE s.backend_type = 'pg_cron launcher') THEN
        RETURN 'pg_cron is not running';
    ELSIF current_setting('cron.database_name', true) <> current_database() THEN
        RETURN format('pg_cron watches the database "%s"', current_setting('cron.database_name', true));
    ELSIF zone NOT IN ('GMT', 'UTC', 'Etc/UTC', 'Etc/GMT') THEN
        RETURN format('the time zone of pg_cron is "%s"', zone);
    END IF;
    RETURN NULL;
END
$$;

-- The job of a schedule in pg_cron, made or changed; NULL when there can be none.
CREATE OR REPLACE FUNCTION a67_internal._cron_job(deployment_id uuid, schedule text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    job bigint;
BEGIN
    IF a67_internal._cron_obstacle() IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job
    USING 'a67 ' || deployment_id, a67_internal._cron_expand(schedule), format('SELECT a67_internal._cron_due(%L)', deployment_id);
    RETURN job;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'could not give a schedule to pg_cron: %', SQLERRM;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION a67_internal._cron_unjob(job_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF to_regclass('cron.job') IS NOT NULL THEN
        EXECUTE 'SELECT cron.unschedule(j.jobid) FROM cron.job j WHERE j.jobid = $1' USING job_id;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'could not take a schedule from pg_cron: %', SQLERRM;
END
$$;

-- Brings the jobs of all schedules up to date, once a minute: pg_cron may have come, gone, or lost one. Who is the timer is said in the
-- log when it changes.
CREATE OR REPLACE FUNCTION a67_internal._cron_jobs(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    obstacle text;
BEGIN
    IF NOT EXISTS (SELECT FROM a67_internal.cron_app) OR NOT a67_internal._minute_due('cron', now) THEN
        RETURN;
    END IF;
    obstacle := a67_internal._cron_obstacle();
    IF current_setting('a67_internal.cron_timer', true) IS DISTINCT FROM coalesce(obstacle, 'pg_cron') THEN
        PERFORM set_config('a67_internal.cron_timer', coalesce(obstacle, 'pg_cron'), false);
        RAISE LOG 'schedules of cron apps are timed by %', CASE WHEN obstacle IS NULL THEN 'pg_cron'
            ELSE format('the reconciler: %s', obstacle) END;
    END IF;
    IF obstacle IS NOT NULL THEN
        UPDATE a67_internal.cron_app a SET job_id = NULL WHERE a.job_id IS NOT NULL;
        RETURN;
    END IF;
    EXECUTE 'UPDATE a67_internal.cron_app a SET job_id = a67_internal._cron_job(a.deployment_id, a.schedule)
             WHERE NOT EXISTS (SELECT FROM cron.job j WHERE j.jobid = a.job_id AND j.active AND j.schedule = a67_internal._cron_expand(a.schedule))';
    -- Of apps that were removed or stopped while pg_cron was away.
    EXECUTE 'SELECT count(cron.unschedule(j.jobid)) FROM cron.job j
             WHERE j.jobname LIKE ''a67 %'' AND j.database = current_database()
               AND NOT EXISTS (SELECT FROM a67_internal.cron_app a WHERE j.jobname = ''a67 '' || a.deployment_id)';
END
$$;

-- ---- runs ---------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67_internal._cron_event(run a67_internal.cron_run) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
    SELECT a67_internal._event(d.owner_id, 'run.changed', d.deployment_id, jsonb_build_object('deployment', d.name,
        'run', run.cron_run_id, 'scheduled_at', run.scheduled_at, 'state', run.state, 'exit_code', run.exit_code,
        'duration_ms', run.duration_ms, 'error', run.error, 'node', (SELECT n.name FROM a67_internal.node n WHERE n.node_id = run.node_id)))
    FROM a67_internal.deployment d WHERE d.deployment_id = run.deployment_id
$$;

-- The end of a run: kept with the last hundred of its app, told to its owner; three failures in a row are worth an alert.
CREATE OR REPLACE FUNCTION a67_internal._cron_finish(run_id bigint, now timestamptz, state text, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    run a67_internal.cron_run;
    failed integer;
BEGIN
    UPDATE a67_internal.cron_run c
    SET state = _cron_finish.state, finished_at = _cron_finish.now, error = left(coalesce(_cron_finish.error, p.error), 500),
        started_at = coalesce(p.started_at, c.started_at), exit_code = p.exit_code, duration_ms = p.duration_ms, log_tail = p.log_tail
    FROM (SELECT 1) one LEFT JOIN a67_internal.replica p
        ON p.replica_id = (SELECT t.replica_id FROM a67_internal.cron_run t WHERE t.cron_run_id = _cron_finish.run_id)
    WHERE c.cron_run_id = _cron_finish.run_id AND c.finished_at IS NULL RETURNING c.* INTO run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM a67_internal._replicas_give_up(ARRAY(SELECT r.replica_id FROM a67_internal.replica r WHERE r.cron_run_id = run_id), now, NULL, NULL);
    PERFORM a67_internal._cron_event(run);
    DELETE FROM a67_internal.cron_run c
    WHERE c.deployment_id = run.deployment_id AND c.finished_at IS NOT NULL AND c.cron_run_id <= (
        SELECT t.cron_run_id FROM a67_internal.cron_run t WHERE t.deployment_id = run.deployment_id
        ORDER BY t.cron_run_id DESC OFFSET 100 LIMIT 1);
    IF state IN ('succeeded', 'failed') THEN
        UPDATE a67_internal.cron_app a SET failures = CASE _cron_finish.state WHEN 'failed' THEN a.failures + 1 ELSE 0 END
        WHERE a.deployment_id = run.deployment_id RETURNING a.failures INTO failed;
        IF failed >= 3 THEN
            PERFORM a67_internal._alert_raise(d.owner_id, 'warning', d.deployment_id, 'cron-failed:' || d.deployment_id,
                format('deployment "%s": the last %s runs failed', d.name, failed))
            FROM a67_internal.deployment d WHERE d.deployment_id = run.deployment_id;
        ELSIF failed = 0 THEN
            PERFORM a67_internal._alert_resolve('cron-failed:' || run.deployment_id);
        END IF;
    END IF;
END
$$;

-- A run comes due. The caller has the deployment's row locked, so that one run at a time meets those before it. NULL when it is there
-- already, whoever was first.
CREATE OR REPLACE FUNCTION a67_internal._cron_begin(d a67_internal.deployment, scheduled_at timestamptz, now timestamptz, by_hand boolean)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    run a67_internal.cron_run;
    other record;
    overlap text;
    reason text;
BEGIN
    INSERT INTO a67_internal.cron_run (deployment_id, release, scheduled_at, by_hand, created_at)
    VALUES (d.deployment_id, d.release, _cron_begin.scheduled_at, _cron_begin.by_hand, _cron_begin.now)
    ON CONFLICT ON CONSTRAINT cron_run_deployment_id_scheduled_at_key DO NOTHING RETURNING * INTO run;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT count(*) AS runs, max(c.scheduled_at) AS latest, array_agg(c.cron_run_id) AS ids INTO other FROM a67_internal.cron_run c
    WHERE c.deployment_id = d.deployment_id AND c.finished_at IS NULL AND c.cron_run_id <> run.cron_run_id;
    SELECT m.manifest ->> 'overlap' INTO overlap FROM a67_internal.release m
    WHERE m.deployment_id = d.deployment_id AND m.number = d.release;
    reason := CASE WHEN other.runs = 0 THEN NULL
                   WHEN overlap = 'forbid' THEN format('the run of %s was still going on',
                       to_char(other.latest AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
                   WHEN overlap = 'allow' AND other.runs >= 10 THEN 'ten runs were still going on' END;
    IF reason IS NOT NULL THEN
        PERFORM a67_internal._cron_finish(run.cron_run_id, now, 'skipped', reason);
        RETURN run.cron_run_id;
    ELSIF overlap = 'replace' AND other.runs > 0 THEN
        PERFORM a67_internal._cron_finish(id, now, 'replaced', format('replaced by the run of %s',
            to_char(_cron_begin.scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
        FROM unnest(other.ids) id;
    END IF;
    PERFORM a67_internal._cron_event(run);
    PERFORM a67_internal._wake('reconciler');
    RETURN run.cron_run_id;
END
$$;

-- What a job of pg_cron runs.
CREATE OR REPLACE FUNCTION a67_internal._cron_due(deployment_id uuid, now timestamptz DEFAULT clock_timestamp()) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment;
    due timestamptz;
BEGIN
    SELECT t.* INTO d FROM a67_internal.deployment t
    WHERE t.deployment_id = _cron_due.deployment_id AND t.desired_state = 'running' FOR NO KEY UPDATE;
    SELECT a67_internal._cron_previous(a.schedule, _cron_due.now) INTO due FROM a67_internal.cron_app a
    WHERE a.deployment_id = d.deployment_id;
    -- Started late it may be another minute, or one of a schedule that is no longer in force; the reconciler records what is missed.
    IF due >= now - a67_internal._cron_late() THEN
        RETURN a67_internal._cron_begin(d, due, now, false);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION a67_internal._cron_due(uuid, timestamptz) IS 'It is time for a run of this cron app; says so once for each time';

-- Puts the schedule of a deployment into force as its row and release say, or out of force.
CREATE OR REPLACE FUNCTION a67_internal._cron_sync(d a67_internal.deployment) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    wanted text;
    job bigint;
BEGIN
    IF d.app_type <> 'cron' THEN
        RETURN;
    ELSIF d.desired_state = 'running' THEN
        SELECT m.manifest ->> 'schedule' INTO STRICT wanted FROM a67_internal.release m
        WHERE m.deployment_id = d.deployment_id AND m.number = d.release;
        job := a67_internal._cron_job(d.deployment_id, wanted);
        INSERT INTO a67_internal.cron_app AS a (deployment_id, schedule, next_at, job_id)
        VALUES (d.deployment_id, wanted, a67_internal._cron_next(wanted, now()), job)
        ON CONFLICT (deployment_id) DO UPDATE
        SET schedule = EXCLUDED.schedule, job_id = EXCLUDED.job_id,
            next_at = CASE a.schedule WHEN EXCLUDED.schedule THEN a.next_at ELSE EXCLUDED.next_at END;
        RETURN;
    END IF;
    DELETE FROM a67_internal.cron_app a WHERE a.deployment_id = d.deployment_id RETURNING a.job_id INTO job;
    IF job IS NOT NULL THEN
        PERFORM a67_internal._cron_unjob(job);
    END IF;
    PERFORM a67_internal._cron_finish(c.cron_run_id, now(), 'stopped', 'the deployment was stopped')
    FROM a67_internal.cron_run c WHERE c.deployment_id = d.deployment_id AND c.finished_at IS NULL;
    PERFORM a67_internal._alert_resolve('cron-failed:' || d.deployment_id);
END
$$;

-- ---- what the reconciler does -------------------------------------------------------------------------------------------

-- A run whose replica has come to an end without having begun: another node, if it has not been to three.
CREATE OR REPLACE FUNCTION a67_internal._cron_retry(run a67_internal.cron_run, now timestamptz, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    IF cardinality(run.tried_nodes) >= 2 THEN
        PERFORM a67_internal._cron_finish(run.cron_run_id, now, 'failed', error);
        RETURN;
    END IF;
    UPDATE a67_internal.cron_run c
    SET state = 'pending', replica_id = NULL, node_id = NULL, error = left(_cron_retry.error, 500), tried_nodes = c.tried_nodes || c.node_id,
        next_place_at = _cron_retry.now + interval '1 second'
    WHERE c.cron_run_id = run.cron_run_id;
    PERFORM a67_internal._replicas_give_up(ARRAY[run.replica_id], now, 'failed', error);
END
$$;

-- What became of the runs under way. A replica that its node reports as failed is seen here before the reconciler gives it up.
CREATE OR REPLACE FUNCTION a67_internal._cron_settle(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
    run a67_internal.cron_run;
BEGIN
    FOR item IN
        SELECT c AS run, c.cron_run_id, c.state AS old_state, p.replica_id, p.state, p.desired_state, p.error, p.exit_code, p.started_at,
               p.handed = 0 OR p.state = 'failed' AND p.desired_state = 'running' AND p.started_at IS NULL AS unbegun
        FROM a67_internal.cron_run c LEFT JOIN a67_internal.replica p USING (replica_id)
        WHERE c.finished_at IS NULL AND c.replica_id IS NOT NULL
        ORDER BY c.cron_run_id
    LOOP
        IF item.replica_id IS NULL THEN
            PERFORM a67_internal._cron_finish(item.cron_run_id, now, 'failed', 'node lost');
        ELSIF item.state = 'finished' THEN
            PERFORM a67_internal._cron_finish(item.cron_run_id, now, CASE item.exit_code WHEN 0 THEN 'succeeded' ELSE 'failed' END,
                CASE WHEN item.exit_code <> 0 THEN coalesce(item.error, format('ended with exit code %s', item.exit_code)) END);
        ELSIF item.state = 'lost' AND item.desired_state = 'running' THEN
            CONTINUE; -- not given up before it has certainly stopped
        ELSIF (item.desired_state = 'stopped' OR item.state = 'failed') AND item.unbegun THEN
            PERFORM a67_internal._cron_retry(item.run, now, item.error);
        ELSIF item.state = 'lost' THEN
            PERFORM a67_internal._cron_finish(item.cron_run_id, now, 'failed', format('node lost: %s', item.error));
        ELSIF item.desired_state = 'stopped' OR item.state = 'failed' THEN
            PERFORM a67_internal._cron_finish(item.cron_run_id, now, 'failed', item.error);
        ELSIF item.old_state = 'pending' AND item.state IN ('running', 'unhealthy') THEN
            UPDATE a67_internal.cron_run c SET state = 'running', started_at = coalesce(item.started_at, _cron_settle.now)
            WHERE c.cron_run_id = item.cron_run_id RETURNING c.* INTO run;
            PERFORM a67_internal._cron_event(run);
        END IF;
    END LOOP;
END
$$;

-- Records due minutes that nobody has seen in time, up to the last one: the latest ten, each once.
CREATE OR REPLACE FUNCTION a67_internal._cron_missed(d a67_internal.deployment, app a67_internal.cron_app, last timestamptz, now timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    due timestamptz := last;
    minutes timestamptz[] := '{}';
    run a67_internal.cron_run;
BEGIN
    WHILE due >= app.next_at AND cardinality(minutes) < 10 LOOP
        minutes := due || minutes;
        due := a67_internal._cron_previous(app.schedule, due - interval '1 minute');
    END LOOP;
    FOREACH due IN ARRAY minutes LOOP
        INSERT INTO a67_internal.cron_run (deployment_id, release, scheduled_at, state, created_at, finished_at, error)
        VALUES (d.deployment_id, d.release, due, 'missed', _cron_missed.now, _cron_missed.now,
                CASE WHEN due = minutes[1] AND a67_internal._cron_previous(app.schedule, due - interval '1 minute') >= app.next_at
                     THEN format('nobody was there to begin it, nor any since %s',
                                 to_char(app.next_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
                     ELSE 'nobody was there to begin it' END)
        ON CONFLICT ON CONSTRAINT cron_run_deployment_id_scheduled_at_key DO NOTHING RETURNING * INTO run;
        IF FOUND THEN
            PERFORM a67_internal._cron_event(run);
        END IF;
    END LOOP;
END
$$;

-- The timer: begins what is due and what pg_cron has not begun, records what was missed.
CREATE OR REPLACE FUNCTION a67_internal._cron_clock(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
    due timestamptz;
    last timestamptz;
BEGIN
    FOR item IN
        SELECT d AS deployment, a AS app, a.schedule, a.next_at,
               CASE WHEN a.job_id IS NULL THEN interval '0' ELSE a67_internal._cron_patience() END AS patience
        FROM a67_internal.cron_app a JOIN a67_internal.deployment d USING (deployment_id)
        WHERE a.next_at <= _cron_clock.now AND d.desired_state = 'running'
        ORDER BY d.deployment_id FOR NO KEY UPDATE OF d SKIP LOCKED
    LOOP
        due := item.next_at;
        last := a67_internal._cron_previous(item.schedule, now - a67_internal._cron_late() - interval '1 microsecond');
        IF last >= due THEN
            PERFORM a67_internal._cron_missed(item.deployment, item.app, last, now);
            due := a67_internal._cron_next(item.schedule, last);
        END IF;
        WHILE due <= now LOOP
            EXIT WHEN due > now - item.patience AND NOT EXISTS (
                SELECT FROM a67_internal.cron_run c WHERE c.deployment_id = (item.app).deployment_id AND c.scheduled_at = due);
            PERFORM a67_internal._cron_begin(item.deployment, due, now, false);
            due := a67_internal._cron_next(item.schedule, due);
        END LOOP;
        UPDATE a67_internal.cron_app a SET next_at = due
        WHERE a.deployment_id = (item.app).deployment_id AND a.next_at <> due;
    END LOOP;
END
$$;

-- Finds nodes for runs that have none. Unless they may overlap, a run waits for the end of those before it.
CREATE OR REPLACE FUNCTION a67_internal._cron_place(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    item record;
    d a67_internal.deployment;
    shortage text;
BEGIN
    FOR item IN
        SELECT c.*, t AS deployment FROM a67_internal.cron_run c
        JOIN a67_internal.deployment t USING (deployment_id)
        JOIN a67_internal.release m ON m.deployment_id = c.deployment_id AND m.number = c.release
        WHERE c.finished_at IS NULL AND c.replica_id IS NULL AND c.next_place_at <= _cron_place.now
          AND (m.manifest ->> 'overlap' = 'allow' OR NOT EXISTS (
                SELECT FROM a67_internal.replica r WHERE r.deployment_id = c.deployment_id AND r.cron_run_id <> c.cron_run_id
                AND r.state NOT IN ('finished', 'failed', 'stopped', 'lost')))
        ORDER BY c.cron_run_id FOR UPDATE OF c SKIP LOCKED
    LOOP
        d := item.deployment;
        d.avoid_nodes := item.tried_nodes;
        BEGIN
            shortage := a67_internal._deployment_place(d, item.release, 1, now, item.cron_run_id);
        EXCEPTION WHEN OTHERS THEN
            shortage := SQLERRM;
        END;
        IF shortage IS NULL THEN
            UPDATE a67_internal.cron_run c SET replica_id = r.replica_id, node_id = r.node_id, error = NULL
            FROM a67_internal.replica r
            WHERE c.cron_run_id = item.cron_run_id AND r.cron_run_id = c.cron_run_id AND r.desired_state = 'running';
        ELSIF item.created_at + current_setting('a67.deploy_timeout')::interval <= now THEN
            PERFORM a67_internal._cron_finish(item.cron_run_id, now, 'failed', shortage);
        ELSE
            UPDATE a67_internal.cron_run c SET error = left(shortage, 500), next_place_at = _cron_place.now + interval '2 seconds'
            WHERE c.cron_run_id = item.cron_run_id;
        END IF;
    END LOOP;
END
$$;

-- Called by every plan of the reconciler, before it gives up what has failed.
CREATE OR REPLACE FUNCTION a67_internal._cron_tick(now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
BEGIN
    PERFORM a67_internal._cron_jobs(_cron_tick.now);
    PERFORM a67_internal._cron_settle(_cron_tick.now);
    PERFORM a67_internal._cron_clock(_cron_tick.now);
    PERFORM a67_internal._cron_place(_cron_tick.now);
END
$$;

-- ---- what owners do -----------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION a67.deployment_run(deployment text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    d a67_internal.deployment := a67_internal._deployment_find(deployment);
    run_id bigint;
    run a67_internal.cron_run;
BEGIN
    IF d.app_type <> 'cron' THEN
        RAISE EXCEPTION 'deployment "%" is no cron app', d.name USING ERRCODE = '22023', DETAIL = 'Field: deployment.';
    ELSIF d.desired_state <> 'running' THEN
        RAISE EXCEPTION 'deployment "%" is stopped', d.name USING ERRCODE = 'PT409', HINT = 'Start it with a67.deployment_start().';
    END IF;
    run_id := a67_internal._cron_begin(d, clock_timestamp(), clock_timestamp(), true);
    SELECT c.* INTO run FROM a67_internal.cron_run c WHERE c.cron_run_id = run_id;
    IF run.state = 'skipped' THEN
        RAISE EXCEPTION 'deployment "%" is running already', d.name
            USING ERRCODE = 'PT409', DETAIL = format('Its field "overlap" forbids another run: %s.', run.error);
    END IF;
    PERFORM set_config('response.status', '202', true);
    RETURN jsonb_build_object('deployment_id', d.deployment_id, 'run_id', run.cron_run_id, 'state', run.state);
END
$$;
COMMENT ON FUNCTION a67.deployment_run(text) IS 'Runs a cron app now, beside its schedule; its overlap policy counts';
