"""The schema of manifests says the same as their checker, and the examples of the manual are good."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from manifest_corpus import GOOD, corpus

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
COUNT = 800

# What the checker finds and no JSON Schema can say (docs/manifest.md): quantities out of bounds, lengths in bytes, what two fields
# say together, and what a schedule is.
BEYOND = re.compile(r"/resources/(memory|cpu|storage)|/health_check/(interval|timeout)|/stop_grace|/partition_deadline|/run_timeout"
                    r"|/strategy/(observe|step_interval|steps|max_surge)|/schedule|/env(/.*)?|/secrets/.*|/entrypoint/\d+"
                    r"|(/health_check|/strategy/test)/command/\d+")


@pytest.fixture(scope="module")
def schema(shared):
    return shared.cluster.value("SELECT a67.manifest_schema()")


@pytest.fixture(scope="module")
def validator(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check(cluster, manifests):
    """The faults of each: [[pointer, problem, allowed]…]. A few at a time: a statement has its time-out."""
    if len(manifests) > 100:
        return check(cluster, manifests[:100]) + check(cluster, manifests[100:])
    return cluster.value(
        "SELECT jsonb_agg((SELECT coalesce(jsonb_agg(jsonb_build_array(f.pointer, f.problem, f.allowed)), '[]') FROM a67.manifest_check(m) f)"
        " ORDER BY n) FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY e (m, n)", json.dumps(manifests))


def pointer(error):
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.absolute_path)


def test_published_file_is_the_schema(schema):
    assert json.loads((DOCS / "manifest.schema.json").read_text()) == schema


def test_good_manifests_are_good(shared, validator):
    for manifest, faults in zip(GOOD, check(shared.cluster, GOOD)):
        assert faults == [] and list(validator.iter_errors(manifest)) == [], manifest


def test_schema_and_checker_agree(shared, validator):
    manifests = list(corpus(67, COUNT))
    good = bad = beyond = 0
    for manifest, faults in zip(manifests, check(shared.cluster, manifests)):
        errors = [pointer(error) for error in validator.iter_errors(manifest)]
        if errors:
            bad += 1
            assert faults, f"the schema refuses {errors}, the checker nothing: {manifest}"
        elif faults:
            beyond += 1
            assert all(BEYOND.fullmatch(fault[0]) for fault in faults), f"only the checker refuses {faults}: {manifest}"
        else:
            good += 1
        for where, problem, allowed in faults:
            assert problem and allowed and len(problem) < 200, (where, problem, allowed)
    assert good > COUNT / 20 and bad > COUNT / 2 and beyond > 3, (good, bad, beyond)


def test_what_is_good_has_a_normal_form(shared):
    manifests = list(corpus(68, COUNT // 4))
    manifests = [one for one, faults in zip(manifests, check(shared.cluster, manifests)) if not faults]
    normal = shared.cluster.value("SELECT jsonb_agg(a67_internal._manifest_normal(m)) FROM jsonb_array_elements(%s::jsonb) m",
                                  json.dumps(manifests))
    assert len(normal) == len(manifests) > COUNT / 80
    for one in normal:
        assert isinstance(one["replicas"], int) and one["resources"]["memory_bytes"] >= 1048576
        assert ("strategy" in one) == (one["app_type"] != "cron") == ("schedule" not in one)


def examples():
    """Every JSON block of the manual that is a whole manifest."""
    text = (DOCS / "manifest.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.S) if '"package"' in block]


def test_examples_of_the_manual(shared, validator):
    found = examples()
    assert len(found) >= 5
    for manifest, faults in zip(found, check(shared.cluster, found)):
        assert faults == [], (manifest["name"], faults)
        assert list(validator.iter_errors(manifest)) == []


def test_manual_names_every_field(schema):
    text = (DOCS / "manifest.md").read_text()

    def fields(part):
        for name, sub in part.get("properties", {}).items():
            if "not" not in sub:
                yield name
                yield from fields(sub)
                yield from fields(sub.get("items", {}))

    assert [name for name in fields(schema) if f"`{name}`" not in text] == []


def test_routes(shared):
    token = shared.cluster.value("SELECT a67.token_create(a67_internal._operator_id())")
    client = shared.cluster.client(token)
    answer = client.post("/api/v1/manifests/check", {"name": "X", "a/b": 1})
    assert answer.status == 200, answer.text
    assert {fault["pointer"] for fault in answer.json()} == {"/name", "/a~1b", "/entrypoint", "/package"}
    assert client.post("/api/v1/manifests/check", GOOD[0]).json() == []
    assert client.get("/api/v1/manifests/schema").json()["title"] == "Automator67 manifest"
    assert shared.cluster.client().get("/api/v1/manifests/schema").status == 401
