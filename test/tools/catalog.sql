-- Everything that the extension a67 consists of, one line an object or property, sorted, without OIDs: two
-- databases with the same listing cannot be told apart by any use of the extension. The upgrade gate compares a
-- fresh installation with an upgraded one. Run by psql -XAtq; the caller sorts nothing, each part is ordered.

\set ON_ERROR_STOP on
SET search_path = pg_catalog;
SET TimeZone = 'UTC';

CREATE TEMP VIEW ours AS
SELECT n.oid, n.nspname
FROM pg_namespace n
WHERE n.nspname IN ('a67', 'a67_internal');

-- Privileges as a sorted list: the order of grants is history.
CREATE FUNCTION pg_temp.privileges(acl aclitem[]) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(item::text, ' ' ORDER BY item::text), 'default') FROM unnest(acl) AS item
$$;

-- Minor releases since 15.20 keep a counter of their own among a column's options: it differs everywhere.
CREATE FUNCTION pg_temp.options(options text[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(item, ',' ORDER BY item) FROM unnest(options) AS item WHERE item NOT LIKE 'pg\_attver=%'
$$;

\echo == extension
SELECT extname, extversion, extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = 'a67';
SELECT 'configuration table', t.oid::regclass, t.condition
FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS t(oid, condition)
WHERE e.extname = 'a67' ORDER BY t.oid::regclass::text;

\echo == members
SELECT i.type, i.identity
FROM pg_depend d
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'a67',
LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) AS i
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
ORDER BY i.type COLLATE "C", i.identity COLLATE "C";

\echo == strays: objects in our schemas that do not belong to the extension
SELECT i.type, i.identity
FROM (
    SELECT 'pg_class'::regclass AS classid, oid FROM pg_class
    WHERE relnamespace IN (SELECT oid FROM ours) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = pg_class.oid
                      AND d.deptype IN ('i', 'a') AND d.objsubid = 0 AND d.refclassid = 'pg_class'::regclass)
      AND NOT (relkind = 'c')
    UNION ALL
    SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'pg_type'::regclass, oid FROM pg_type
    WHERE typnamespace IN (SELECT oid FROM ours) AND typtype IN ('e', 'd')
) AS o, LATERAL pg_identify_object(o.classid, o.oid, 0) AS i
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e')
ORDER BY 1, 2;

\echo == schemas
SELECT nspname, pg_get_userbyid(nspowner), pg_temp.privileges(nspacl)
FROM pg_namespace WHERE oid IN (SELECT oid FROM ours) ORDER BY nspname;

\echo == relations
SELECT relkind, c.oid::regclass, pg_get_userbyid(relowner), relpersistence, relrowsecurity, relforcerowsecurity,
       relreplident, reloptions, coalesce(am.amname, '-'), pg_temp.privileges(relacl),
       pg_get_expr(relpartbound, c.oid), CASE relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END
FROM pg_class c LEFT JOIN pg_am am ON am.oid = c.relam
WHERE relnamespace IN (SELECT oid FROM ours) AND relkind NOT IN ('i', 'I', 't')
ORDER BY c.oid::regclass::text COLLATE "C";

\echo == columns
SELECT a.attrelid::regclass, row_number() OVER (PARTITION BY a.attrelid ORDER BY attnum), attname,
       format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage, attcompression,
       attstattarget, pg_temp.options(attoptions), attcollation::regcollation, pg_get_expr(adbin, adrelid), pg_temp.privileges(attacl)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace IN (SELECT oid FROM ours) AND c.relkind NOT IN ('i', 'I', 't')
  AND attnum > 0 AND NOT attisdropped
ORDER BY a.attrelid::regclass::text COLLATE "C", attnum;

\echo == sequences
SELECT seqrelid::regclass, format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle,
       (SELECT refobjid::regclass || '.' || attname FROM pg_depend
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE classid = 'pg_class'::regclass AND objid = seqrelid AND deptype IN ('a', 'i') LIMIT 1)
FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid
WHERE c.relnamespace IN (SELECT oid FROM ours) ORDER BY seqrelid::regclass::text COLLATE "C";

\echo == inheritance
SELECT inhrelid::regclass, inhparent::regclass, inhseqno
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid AND c.relkind NOT IN ('i', 'I')
WHERE c.relnamespace IN (SELECT oid FROM ours) ORDER BY 1, 3;

\echo == indexes
SELECT pg_get_indexdef(indexrelid), indisprimary, indisvalid, indisreplident, indisclustered
FROM pg_index JOIN pg_class c ON c.oid = indexrelid
WHERE c.relnamespace IN (SELECT oid FROM ours) ORDER BY 1;

\echo == constraints
SELECT coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text), conname, contype,
       pg_get_constraintdef(oid), condeferrable, condeferred, convalidated, connoinherit
FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ours) ORDER BY 1, 2;

\echo == views
SELECT oid::regclass, pg_get_viewdef(oid)
FROM pg_class WHERE relnamespace IN (SELECT oid FROM ours) AND relkind IN ('v', 'm')
ORDER BY oid::regclass::text COLLATE "C";

\echo == rules
SELECT ev_class::regclass, pg_get_ruledef(r.oid)
FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class
WHERE c.relnamespace IN (SELECT oid FROM ours) AND rulename <> '_RETURN' ORDER BY 1, 2;

\echo == triggers
SELECT tgrelid::regclass, pg_get_triggerdef(t.oid), tgenabled
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
WHERE c.relnamespace IN (SELECT oid FROM ours) AND NOT tgisinternal ORDER BY 1, 2;
SELECT evtname, evtevent, evtfoid::regprocedure, evtenabled, evttags
FROM pg_event_trigger JOIN pg_proc p ON p.oid = evtfoid
WHERE p.pronamespace IN (SELECT oid FROM ours) ORDER BY 1;

\echo == policies
SELECT polrelid::regclass, polname, polcmd, polpermissive,
       (SELECT string_agg(CASE role WHEN 0 THEN 'public' ELSE pg_get_userbyid(role) END, ',' ORDER BY role::regrole::text)
        FROM unnest(polroles) AS role),
       pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
FROM pg_policy JOIN pg_class c ON c.oid = polrelid
WHERE c.relnamespace IN (SELECT oid FROM ours) ORDER BY polrelid::regclass::text COLLATE "C", polname;

\echo == statistics
SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM ours) ORDER BY 1;

\echo == types
SELECT oid::regtype, typtype, pg_get_userbyid(typowner), format_type(nullif(typbasetype, 0), typtypmod), typnotnull,
       typdefault, pg_temp.privileges(typacl),
       (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid)
FROM pg_type WHERE typnamespace IN (SELECT oid FROM ours) AND typcategory <> 'A'
ORDER BY oid::regtype::text COLLATE "C";

\echo == functions
SELECT p.oid::regprocedure, pg_get_userbyid(proowner), pg_temp.privileges(proacl), prokind,
       CASE WHEN prokind = 'a' THEN (SELECT aggtransfn || ' ' || aggfinalfn || ' ' || coalesce(agginitval, '')
                                     FROM pg_aggregate WHERE aggfnoid = p.oid)
            ELSE pg_get_functiondef(p.oid) END
FROM pg_proc p WHERE pronamespace IN (SELECT oid FROM ours) ORDER BY p.oid::regprocedure::text COLLATE "C";

\echo == operators
SELECT oid::regoperator, oprcode, oprcom::regoperator, oprnegate::regoperator, oprrest, oprjoin
FROM pg_operator WHERE oprnamespace IN (SELECT oid FROM ours) ORDER BY oid::regoperator::text COLLATE "C";

\echo == foreign data
SELECT fdwname, fdwhandler::regproc, fdwvalidator::regproc, fdwoptions, pg_temp.privileges(fdwacl)
FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'a67%' ORDER BY 1;
SELECT srvname, srvoptions, pg_temp.privileges(srvacl) FROM pg_foreign_server WHERE srvname LIKE 'a67%' ORDER BY 1;

\echo == default privileges
SELECT pg_get_userbyid(defaclrole), coalesce(nullif(defaclnamespace, 0)::regnamespace::text, '-'), defaclobjtype,
       pg_temp.privileges(defaclacl)
FROM pg_default_acl ORDER BY 1, 2, 3;

\echo == privileges that pg_dump leaves to the extension
SELECT i.type, i.identity, p.privtype, pg_temp.privileges(p.initprivs)
FROM pg_init_privs p, LATERAL pg_identify_object(p.classoid, p.objoid, p.objsubid) AS i
WHERE i.schema IN ('a67', 'a67_internal') OR i.name IN ('a67', 'a67_internal')
ORDER BY i.type COLLATE "C", i.identity COLLATE "C";

\echo == comments
SELECT i.type, i.identity, d.description
FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
WHERE i.schema IN ('a67', 'a67_internal') OR (i.type, i.name) IN (('schema', 'a67'), ('schema', 'a67_internal'))
   OR (i.type, i.identity) = ('extension', 'a67')
ORDER BY i.type COLLATE "C", i.identity COLLATE "C";

\echo == roles
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
       rolconnlimit, rolconfig, shobj_description(oid, 'pg_authid')
FROM pg_roles WHERE rolname LIKE 'a67%' ORDER BY 1;
SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), admin_option
FROM pg_auth_members WHERE pg_get_userbyid(roleid) LIKE 'a67%' OR pg_get_userbyid(member) LIKE 'a67%' ORDER BY 1, 2;
