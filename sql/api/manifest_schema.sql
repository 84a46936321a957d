-- What a manifest may say: a JSON Schema (2020-12), the one source of the checker, of the defaults and of docs/manifest.schema.json.
--
-- Beside the standard's keywords, which every validator knows, the checker obeys a few of its own that others ignore:
--   x-allowed    what is allowed, for messages; where it is missing, the other keywords tell
--   x-problem    what is wrong, for messages
--   x-private    values are not shown in messages
--   x-unit       bytes, ms or cores: a text with a unit; x-minimum and x-maximum bound it in that unit
--   x-max-bytes  length of a string, or of the JSON text of an object
--   x-name       the field's name in the normal form
-- "default" is what the normal form has when the field is missing. What no schema can say is in _manifest_rules().

CREATE OR REPLACE FUNCTION a67_internal._manifest_schema() RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT $schema$
{
"$schema": "https://json-schema.org/draft/2020-12/schema",
"$id": "https://automator67.dev/manifest.schema.json",
"title": "Automator67 manifest",
"description": "What an owner wants to run: the body of POST /api/v1/deployments, the argument of a67.deployment_create().",
"type": "object",
"required": ["name", "package"],
"additionalProperties": false,
"properties": {
  "name": {
    "description": "Name of the deployment, unique among those of its owner.",
    "type": "string", "pattern": "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
    "x-allowed": "lower-case letters, digits and \"-\", starting with a letter (63 at most)"},
  "app_type": {
    "description": "A backend serves requests on its port, a worker has no port, a cron app runs to its end when its schedule says so. The same in every release.",
    "enum": ["backend", "worker", "cron"], "default": "backend"},
  "runner": {
    "description": "How nodes run it: as a process of their own, or in a container by crun.",
    "enum": ["process", "container"], "default": "process"},
  "runtime": {
    "description": "What runs the entrypoint: nothing (it is a program), python3, node, or the agent's server of static files.",
    "enum": ["executable", "python", "node", "static"], "default": "executable"},
  "entrypoint": {
    "description": "The program with its arguments; for python and node the script with its arguments; for static at most the directory to serve.",
    "type": "array", "maxItems": 64, "items": {"$ref": "#/$defs/argument"}, "default": [],
    "x-private": true, "x-allowed": "an array of 1 to 64 strings, the program first"},
  "package": {
    "description": "Digest of the application package, as a67.package_put() or a67.package_build() returned it.",
    "type": "string", "pattern": "^[0-9a-f]{64}$",
    "x-allowed": "the digest that a67.package_put() returned (64 hex digits)"},
  "resources": {
    "description": "What each replica needs: promised on its node, and its limits there.",
    "type": "object", "additionalProperties": false, "default": {},
    "properties": {
      "memory": {
        "description": "Memory, as a number of bytes or with a unit: kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024).",
        "$ref": "#/$defs/size", "x-minimum": 1048576, "x-maximum": 1125899906842624, "default": "64MiB", "x-name": "memory_bytes",
        "x-allowed": "a size such as \"64MB\", from 1 MiB to 1 PiB"},
      "cpu": {
        "description": "Cores: 0.5, \"0.5\" or \"500m\".",
        "type": ["number", "string"], "pattern": "^([0-9]{1,4}(\\.[0-9]{1,3})?|[0-9]{1,7}m)$", "x-unit": "cores",
        "x-minimum": 0, "x-maximum": 1024, "default": 0.1,
        "x-allowed": "a number of cores such as 0.5 or \"500m\", from 0 to 1024"},
      "storage": {
        "description": "Room on the node's disk, in units as memory. 0: none promised, no limit.",
        "$ref": "#/$defs/size", "x-minimum": 0, "x-maximum": 1125899906842624, "default": 0, "x-name": "disk_bytes",
        "x-allowed": "a size such as \"1GiB\", up to 1 PiB"},
      "pids": {
        "description": "Processes and threads at the same time.",
        "type": "integer", "minimum": 1, "maximum": 65536, "default": 1024}}},
  "replicas": {
    "description": "Copies that run at the same time.",
    "type": "integer", "minimum": 0, "maximum": 1000, "default": 1},
  "env": {
    "description": "Environment variables of the app. Values are kept sealed and are never shown again.",
    "type": "object", "maxProperties": 64, "propertyNames": {"$ref": "#/$defs/variable"}, "x-max-bytes": 65536, "x-private": true,
    "additionalProperties": {"type": "string", "maxLength": 4096, "x-max-bytes": 4096, "x-allowed": "a string of at most 4096 bytes"},
    "default": {}, "x-allowed": "an object of at most 64 variables and their values, at most 65536 bytes in all"},
  "secrets": {
    "description": "Environment variables that get the value of a secret: their names, and those of the secrets (a67.secret_set()).",
    "type": "object", "maxProperties": 64, "propertyNames": {"$ref": "#/$defs/variable"}, "x-private": true,
    "additionalProperties": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", "x-allowed": "the name of a secret"},
    "default": {}, "x-allowed": "an object of at most 64 variables and the names of their secrets"},
  "on_secret_change": {
    "description": "What a running replica gets when a secret of it has a new value: a restart, a signal, or only new files.",
    "enum": ["restart", "SIGHUP", "SIGUSR1", "SIGUSR2", "none"], "default": "restart"},
  "health_check": {
    "description": "How nodes ask whether a replica is well: a path to GET on its port, a connection to its port, or a command that ends with 0. Without it: a connection for a backend, a living process for a worker.",
    "type": "object", "additionalProperties": false,
    "properties": {
      "path": {"description": "Answered with 2xx or 3xx when all is well.", "$ref": "#/$defs/path"},
      "tcp": {"description": "The port accepts connections when all is well.", "const": true},
      "command": {
        "description": "Run in the app's directory with its environment; ends with 0 when all is well.",
        "type": "array", "minItems": 1, "maxItems": 64, "items": {"$ref": "#/$defs/argument"}, "x-private": true,
        "x-allowed": "an array of 1 to 64 strings, the program first"},
      "interval": {
        "description": "From one check to the next.",
        "$ref": "#/$defs/duration", "x-minimum": 100, "x-maximum": 3600000, "default": "10s", "x-name": "interval_ms",
        "x-allowed": "a duration such as \"10s\", from 100ms to 1h"},
      "timeout": {
        "description": "How long an answer may take; not longer than the interval. Without it 5s, or the interval if that is shorter.",
        "$ref": "#/$defs/duration", "x-minimum": 100, "x-maximum": 3600000, "x-name": "timeout_ms",
        "x-allowed": "a duration such as \"1s\", from 100ms to the interval"},
      "retries": {
        "description": "Failed checks in a row after which a replica is unhealthy.",
        "type": "integer", "minimum": 1, "maximum": 99, "default": 3}},
    "oneOf": [{"required": ["path"]}, {"required": ["tcp"]}, {"required": ["command"]}],
    "x-allowed": "an object with one of \"path\", \"tcp\" and \"command\""},
  "stop_grace": {
    "description": "From SIGTERM to SIGKILL.",
    "$ref": "#/$defs/duration", "x-minimum": 1, "x-maximum": 300000, "default": "10s", "x-name": "stop_grace_ms",
    "x-allowed": "a duration such as \"10s\", up to 5min"},
  "on_partition": {
    "description": "What a replica does whose node cannot reach the controller: it goes on, or stops itself after partition_deadline (for apps of which there must not be two).",
    "enum": ["continue", "stop"], "default": "continue"},
  "partition_deadline": {
    "description": "How long a node may be cut off before a replica with \"on_partition\": \"stop\" ends.",
    "$ref": "#/$defs/duration", "x-minimum": 1000, "x-maximum": 86400000, "default": "1min", "x-name": "partition_deadline_ms",
    "x-allowed": "a duration such as \"1min\", from 1s to 24h"},
  "run_timeout": {
    "description": "A run of a cron app that takes longer is ended and has failed.",
    "$ref": "#/$defs/duration", "x-minimum": 1000, "x-maximum": 86400000, "default": "1h", "x-name": "run_timeout_ms",
    "x-allowed": "a duration such as \"1h\", from 1s to 24h"},
  "atomic": {
    "description": "Whether a deployment of which not all replicas come to run is taken back whole. Otherwise those that run stay.",
    "type": "boolean", "default": false},
  "strategy": {
    "description": "How a new release takes the place of the old one.",
    "type": "object", "additionalProperties": false, "default": {},
    "properties": {
      "type": {
        "description": "rolling: a few replicas at a time. recreate: all old ones stop first. blue_green: all new ones beside the old, then the switch. canary: a growing share of the requests.",
        "enum": ["rolling", "recreate", "blue_green", "canary"], "default": "rolling"},
      "max_surge": {
        "description": "rolling: how many replicas may be there beyond the number wanted, as a number or a percentage (rounded up).",
        "$ref": "#/$defs/share", "default": 1},
      "max_unavailable": {
        "description": "rolling: how many may be missing, as a number or a percentage (rounded down). Not 0 together with max_surge.",
        "$ref": "#/$defs/share", "default": 0},
      "auto_rollback": {
        "description": "Whether a rollout that fails goes back to the old release by itself; otherwise it stops where it is.",
        "type": "boolean", "default": true},
      "test": {
        "description": "blue_green: what the new replicas must pass before the switch.",
        "type": "object", "additionalProperties": false,
        "properties": {
          "path": {"description": "Answered with 2xx or 3xx.", "$ref": "#/$defs/path"},
          "command": {
            "description": "Ends with 0.",
            "type": "array", "minItems": 1, "maxItems": 64, "items": {"$ref": "#/$defs/argument"}, "x-private": true,
            "x-allowed": "an array of 1 to 64 strings, the program first"}},
        "oneOf": [{"required": ["path"]}, {"required": ["command"]}],
        "x-allowed": "an object with either \"path\" or \"command\""},
      "observe": {
        "description": "blue_green: how long the old replicas are kept after the switch, to go back to.",
        "$ref": "#/$defs/duration", "x-minimum": 0, "x-maximum": 86400000, "default": "5min", "x-name": "observe_ms",
        "x-allowed": "a duration such as \"5min\", up to 24h"},
      "steps": {
        "description": "canary: percentages of the requests that the new release gets, one after the other.",
        "type": "array", "minItems": 1, "maxItems": 20, "items": {"type": "integer", "minimum": 1, "maximum": 100}, "contains": {"const": 100},
        "uniqueItems": true, "default": [10, 25, 50, 75, 100],
        "x-allowed": "an array of 1 to 20 rising integers from 1 to 100, the last one 100"},
      "step_interval": {
        "description": "canary: how long each step is watched.",
        "$ref": "#/$defs/duration", "x-minimum": 1000, "x-maximum": 86400000, "default": "1min", "x-name": "step_interval_ms",
        "x-allowed": "a duration such as \"1min\", from 1s to 24h"},
      "max_error_rate": {
        "description": "canary: by how many percentage points of failed requests the new release may be worse than the old one.",
        "type": "number", "minimum": 0, "maximum": 100, "default": 5},
      "max_latency_ratio": {
        "description": "canary: how many times slower its answers may be on average.",
        "type": "number", "minimum": 1, "maximum": 1000, "default": 2},
      "min_requests": {
        "description": "canary: requests to the new release without which a step is not judged.",
        "type": "integer", "minimum": 0, "maximum": 1000000, "default": 20}},
    "allOf": [
      {"if": {"required": ["type"], "properties": {"type": {"const": "canary"}}},
       "else": {"properties": {"steps": {"$ref": "#/$defs/canary"}, "step_interval": {"$ref": "#/$defs/canary"}, "max_error_rate": {"$ref": "#/$defs/canary"},
                               "max_latency_ratio": {"$ref": "#/$defs/canary"}, "min_requests": {"$ref": "#/$defs/canary"}}}},
      {"if": {"required": ["type"], "properties": {"type": {"const": "blue_green"}}},
       "else": {"properties": {"test": {"$ref": "#/$defs/blue_green"}, "observe": {"$ref": "#/$defs/blue_green"}}}},
      {"if": {"properties": {"type": {"const": "rolling"}}},
       "else": {"properties": {"max_surge": {"$ref": "#/$defs/rolling"}, "max_unavailable": {"$ref": "#/$defs/rolling"}}}}]},
  "balance": {
    "description": "To which replica a request goes: to one with the fewest connections, in turns, or in turns by the score of its node.",
    "enum": ["leastconn", "roundrobin", "weighted"], "default": "leastconn"},
  "routes": {
    "description": "Which requests come here: those to the host (any, when it is missing) whose path begins with the path. No two deployments share a route.",
    "type": "array", "maxItems": 32, "uniqueItems": true, "default": [], "x-allowed": "an array of at most 32 different objects with \"host\", \"path\" or both",
    "items": {
      "type": "object", "additionalProperties": false, "minProperties": 1,
      "properties": {
        "host": {
          "description": "As in the Host header, without a port.",
          "type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
          "x-allowed": "a host name in lower case"},
        "path": {
          "description": "First part of the path.",
          "type": "string", "maxLength": 255, "pattern": "^/[A-Za-z0-9._~/-]*$",
          "x-allowed": "a path that starts with \"/\", of letters, digits, \".\", \"_\", \"~\", \"-\" and \"/\" (255 at most)"}},
      "x-allowed": "an object with \"host\", \"path\" or both"}},
  "schedule": {
    "description": "When a cron app runs, in UTC: minute, hour, day of the month, month, day of the week, as crontab(5) has them; or @hourly, @daily, @weekly, @monthly, @yearly.",
    "type": "string", "maxLength": 100,
    "x-allowed": "a schedule such as \"*/5 * * * *\" (minute, hour, day of month, month, day of week) or \"@daily\""},
  "overlap": {
    "description": "A run comes due while the one before it still goes on: it is left out, runs beside it, or takes its place.",
    "enum": ["forbid", "allow", "replace"], "default": "forbid"},
  "labels": {
    "description": "Labels of the deployment, for those who read them; they decide nothing.",
    "$ref": "#/$defs/labels", "default": {}, "x-allowed": "an object of at most 16 labels"},
  "affinity": {
    "description": "Which nodes may run it: those to which all of this applies. Missing or empty: any.",
    "type": "object", "additionalProperties": false, "default": {},
    "properties": {
      "labels": {
        "description": "The node has all of these labels, with these values.",
        "$ref": "#/$defs/labels", "default": {}, "x-allowed": "an object of at most 16 labels"},
      "regions": {"description": "It is in one of these regions.", "$ref": "#/$defs/words", "default": []},
      "providers": {"description": "It is of one of these providers.", "$ref": "#/$defs/words", "default": []},
      "tiers": {"description": "It is of one of these tiers.", "$ref": "#/$defs/words", "default": []},
      "nodes": {"description": "It is one of these, by name or id.", "$ref": "#/$defs/words", "default": []}}},
  "volumes": {
    "description": "Not supported: a replica's disk does not outlive it.",
    "not": {}, "x-problem": "is not supported", "x-allowed": "left out: keep data in a database or in files (a67.file_put)"}},
"allOf": [
  {"if": {"required": ["app_type"], "properties": {"app_type": {"const": "cron"}}},
   "then": {
     "required": ["schedule"],
     "properties": {"replicas": {"$ref": "#/$defs/not_cron"}, "atomic": {"$ref": "#/$defs/not_cron"}, "strategy": {"$ref": "#/$defs/not_cron"},
                    "health_check": {"$ref": "#/$defs/not_cron"}, "on_secret_change": {"$ref": "#/$defs/not_cron"},
                    "runtime": {"not": {"const": "static"}, "x-problem": "does not end by itself", "x-allowed": "\"executable\", \"python\" or \"node\" for a cron app"}}},
   "else": {"properties": {"schedule": {"$ref": "#/$defs/cron"}, "overlap": {"$ref": "#/$defs/cron"}, "run_timeout": {"$ref": "#/$defs/cron"}}}},
  {"if": {"properties": {"app_type": {"const": "backend"}}},
   "else": {"properties": {"routes": {"$ref": "#/$defs/backend"}, "balance": {"$ref": "#/$defs/backend"}}}},
  {"if": {"required": ["app_type"], "properties": {"app_type": {"const": "worker"}}},
   "then": {
     "properties": {
       "runtime": {"not": {"const": "static"}, "x-problem": "serves on a port", "x-allowed": "\"executable\", \"python\" or \"node\" for a worker"},
       "health_check": {
         "properties": {"path": {"$ref": "#/$defs/backend"}, "tcp": {"$ref": "#/$defs/backend"}}},
       "strategy": {
         "properties": {"type": {"not": {"enum": ["blue_green", "canary"]}, "x-problem": "decides by requests", "x-allowed": "\"rolling\" or \"recreate\" for a worker"}}}}}},
  {"if": {"required": ["runtime"], "properties": {"runtime": {"const": "static"}}},
   "then": {
     "properties": {
       "runner": {"not": {"const": "container"}, "x-problem": "is done by the agent itself", "x-allowed": "\"process\" for the runtime \"static\""},
       "entrypoint": {"maxItems": 1, "x-allowed": "an array of at most one directory for the runtime \"static\""}}},
   "else": {"required": ["entrypoint"],
            "properties": {"entrypoint": {"minItems": 1, "x-private": true, "x-allowed": "an array of 1 to 64 strings, the program first"}}}}],
"$defs": {
  "argument": {"type": "string", "maxLength": 4096, "x-max-bytes": 4096, "x-private": true, "x-allowed": "a string of at most 4096 bytes"},
  "variable": {
    "pattern": "^(?!PORT$)(?!A67_)[A-Za-z_][A-Za-z0-9_]{0,127}$", "x-problem": "is not a name that a variable can have",
    "x-allowed": "letters, digits and \"_\", starting with no digit (128 at most), other than PORT and A67_..."},
  "path": {
    "type": "string", "maxLength": 255, "pattern": "^/[!-~]*$", "x-allowed": "a path that starts with \"/\", of printable ASCII characters (255 at most)"},
  "size": {
    "type": ["string", "number"], "pattern": "^[0-9]{1,15}(\\.[0-9]{1,3})? ?([kKmMgGtT]?[bB]|[kKmMgGtT][iI][bB])?$", "x-unit": "bytes"},
  "duration": {
    "type": ["string", "number"], "pattern": "^[0-9]{1,9}(\\.[0-9]{1,3})? ?(ms|s|m|min|h)?$", "x-unit": "ms"},
  "share": {
    "type": ["integer", "string"], "minimum": 0, "maximum": 1000, "pattern": "^(100|[1-9]?[0-9])%$",
    "x-allowed": "an integer from 0 to 1000, or a percentage such as \"25%\""},
  "labels": {
    "type": "object", "maxProperties": 16,
    "propertyNames": {
      "pattern": "^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$", "x-problem": "is not a name that a label can have",
      "x-allowed": "lower-case letters, digits, \".\", \"_\", \"-\" and \"/\", a letter or digit at both ends (63 at most)"},
    "additionalProperties": {"type": "string", "maxLength": 128, "x-allowed": "a string of at most 128 characters"}},
  "words": {
    "type": "array", "maxItems": 64, "uniqueItems": true, "x-allowed": "an array of at most 64 different names",
    "items": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$",
              "x-allowed": "a name of lower-case letters, digits, \".\", \"_\" and \"-\" (63 at most)"}},
  "not_cron": {"not": {}, "x-problem": "does not apply to cron apps", "x-allowed": "left out"},
  "cron": {"not": {}, "x-problem": "applies to cron apps only", "x-allowed": "left out"},
  "backend": {"not": {}, "x-problem": "applies to backends only", "x-allowed": "left out"},
  "canary": {"not": {}, "x-problem": "applies to the strategy \"canary\" only", "x-allowed": "left out"},
  "blue_green": {"not": {}, "x-problem": "applies to the strategy \"blue_green\" only", "x-allowed": "left out"},
  "rolling": {"not": {}, "x-problem": "applies to the strategy \"rolling\" only", "x-allowed": "left out"}}
}
$schema$::jsonb
$function$;
COMMENT ON FUNCTION a67_internal._manifest_schema() IS 'The JSON Schema of manifests, the one source of what they may say';
