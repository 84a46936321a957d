-- Packages made of files given in SQL.

CREATE OR REPLACE FUNCTION a67_internal._package_pack(names text[], contents bytea[], programs boolean[]) RETURNS bytea
AS 'MODULE_PATHNAME', 'a67_sql_package_pack' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION a67_internal._package_pack(text[], bytea[], boolean[]) IS 'Files as a tar.gz, the same bytes for the same files';

-- Faults of one file as package_build() takes it: a text, or an object with text or base64, and mode.
CREATE OR REPLACE FUNCTION a67_internal._package_file_fault(file jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    field text;
    content bytea;
BEGIN
    IF jsonb_typeof(file) = 'string' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(file) <> 'object' THEN
        RETURN 'must be a text, or an object with "text" or "base64"';
    END IF;
    FOR field IN SELECT key FROM jsonb_object_keys(file) key LOOP
        IF field NOT IN ('text', 'base64', 'mode') THEN
            RETURN format('has an unknown field "%s"', left(field, 64));
        ELSIF jsonb_typeof(file -> field) <> 'string' THEN
            RETURN format('field "%s" must be a string', field);
        END IF;
    END LOOP;
    IF (file ? 'text') = (file ? 'base64') THEN
        RETURN 'must have either "text" or "base64"';
    ELSIF coalesce(file ->> 'mode', '644') NOT IN ('644', '755') THEN
        RETURN 'field "mode" must be "644" or "755"';
    END IF;
    IF file ? 'base64' THEN
        content := decode(file ->> 'base64', 'base64');
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN 'field "base64" is not base64';
END
$$;

CREATE OR REPLACE FUNCTION a67.package_build(files jsonb, OUT digest text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, a67, a67_internal, pg_temp
AS $$
DECLARE
    faults text[];
    names text[];
    contents bytea[];
    programs boolean[];
BEGIN
    IF files IS NULL OR jsonb_typeof(files) <> 'object' OR files = '{}' THEN
        RAISE EXCEPTION 'files must be an object of names and contents' USING ERRCODE = '22023', DETAIL = 'Field: files.';
    END IF;
    SELECT array_agg(format('%s: %s', a67_internal._manifest_pointer('', f.key), f.fault) ORDER BY f.key COLLATE "C") INTO faults
    FROM (SELECT e.key, a67_internal._package_file_fault(e.value) AS fault FROM jsonb_each(files) e) f WHERE f.fault IS NOT NULL;
    IF faults IS NOT NULL THEN
        RAISE EXCEPTION 'invalid file %', faults[1]
            USING ERRCODE = '22023', DETAIL = 'Field: files. ' || array_to_string(faults[1:20], E'\n');
    END IF;
    -- A text that begins with #! is a program unless its mode says otherwise.
    SELECT array_agg(f.name), array_agg(f.content), array_agg(coalesce(f.mode = '755', substr(f.content, 1, 2) = '#!'))
    INTO names, contents, programs
    FROM (SELECT e.key AS name, e.value ->> 'mode' AS mode,
                 CASE WHEN jsonb_typeof(e.value) = 'string' THEN convert_to(e.value #>> '{}', 'UTF8')
                      WHEN e.value ? 'text' THEN convert_to(e.value ->> 'text', 'UTF8')
                      ELSE decode(e.value ->> 'base64', 'base64') END AS content
          FROM jsonb_each(files) e ORDER BY e.key COLLATE "C") f;
    package_build.digest := a67_internal._package_store(a67_internal._user_id(),
                                                        a67_internal._package_pack(names, contents, programs));
END
$$;
COMMENT ON FUNCTION a67.package_build(jsonb) IS
    'Packs and stores files, {"name": "text" or {"base64" or "text", "mode"}}; returns the digest, the same for the same files';
