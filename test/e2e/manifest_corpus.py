"""Manifests by the thousand: good ones, and random mutations of them, the same for the same seed."""

import copy
import random

PACKAGE = "ab" * 32

GOOD = [
    {"name": "shop", "package": PACKAGE, "entrypoint": ["./run"]},
    {"name": "web", "package": PACKAGE, "entrypoint": ["python3", "app.py"], "app_type": "backend", "replicas": 3, "atomic": True,
     "resources": {"memory": "512MB", "cpu": "0.5", "storage": "1GiB", "pids": 100}, "env": {"A": "1", "_b": ""},
     "secrets": {"PASSWORD": "db-password"}, "on_secret_change": "SIGHUP", "stop_grace": "30s", "on_partition": "stop",
     "health_check": {"path": "/health?x=1", "interval": "5s", "timeout": "2s", "retries": 2}, "partition_deadline": "90s",
     "balance": "weighted", "routes": [{"host": "shop.example.org"}, {"path": "/shop"}, {"host": "a.b", "path": "/x/y.z"}],
     "labels": {"team": "web"}, "affinity": {"labels": {"gpu": "yes"}, "regions": ["eu-1"], "providers": ["fly", "render"],
                                             "tiers": ["free"], "nodes": ["oak", "11111111-2222-4333-8444-555555555555"]},
     "strategy": {"type": "rolling", "max_surge": "25%", "max_unavailable": 1, "auto_rollback": False}},
    {"name": "b-g", "package": PACKAGE, "entrypoint": ["a"], "runner": "container",
     "strategy": {"type": "blue_green", "test": {"command": ["./check", "all"]}, "observe": "0s"}},
    {"name": "can", "package": PACKAGE, "runtime": "node", "entrypoint": ["app.js"], "health_check": {"tcp": True},
     "strategy": {"type": "canary", "steps": [1, 50, 100], "step_interval": 30, "max_error_rate": 1.5, "max_latency_ratio": 1,
                  "min_requests": 0}},
    {"name": "files", "package": PACKAGE, "runtime": "static", "entrypoint": ["public"]},
    {"name": "queue", "package": PACKAGE, "app_type": "worker", "runtime": "python", "entrypoint": ["work.py", "-v"], "replicas": 0,
     "health_check": {"command": ["./alive"], "interval": 30, "retries": 99}, "strategy": {"type": "recreate"}},
    {"name": "nightly", "package": PACKAGE, "app_type": "cron", "entrypoint": ["./job"], "schedule": "0 3 * * mon-fri", "overlap": "replace",
     "run_timeout": "2h", "resources": {"memory": 1048576, "cpu": 1}},
]
VALUES = [None, True, False, 0, 1, -1, 1.5, 2.0, 100, 1001, 10 ** 30, "", "x", "UP", "a b", "1s", "0s", "500ms", "25h", "10", "0.5", "500m", "64MiB", "1kB",
          "25%", "101%", "*/5 * * * *", "@daily", "* * *", "/", "/a b", "path", "a" * 300, "é" * 3000, [], {}, [1], ["a"], [""], ["a", "a"], [10, 100],
          {"path": "/"}, {"tcp": True}, {"command": ["a"]}, {"A": "x"}, {"PORT": "1"}, {"type": "canary"}, {"type": "recreate"}, "cron", "worker",
          "backend", "static", "container", "rolling", [{"host": "a"}], [{}], [{"path": "/"}, {"path": "/"}]]
NAMES = ["surprise", "volumes", "a/b~c", "", "name", "app_type", "schedule", "overlap", "replicas", "strategy", "routes", "health_check", "steps",
         "max_surge", "test", "path", "tcp", "runtime", "env", "secrets", "PASSWORD", "A67_X", "9", "run_timeout", "atomic", "affinity", "entrypoint"]


def _places(value, path=()):
    """Every container inside value, value itself first."""
    if isinstance(value, (dict, list)):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _places(part)


def _mutate(dice, manifest):
    place = dice.choice(list(_places(manifest)))
    if isinstance(place, dict):
        keys = sorted(place)
        action = dice.random()
        if action < 0.2 and keys:
            del place[dice.choice(keys)]
        elif action < 0.6 and keys:
            place[dice.choice(keys)] = copy.deepcopy(dice.choice(VALUES))
        else:
            place[dice.choice(NAMES)] = copy.deepcopy(dice.choice(VALUES))
    elif place and dice.random() < 0.5:
        place[dice.randrange(len(place))] = copy.deepcopy(dice.choice(VALUES))
    else:
        place.append(copy.deepcopy(dice.choice(VALUES)))


def corpus(seed, count):
    dice = random.Random(seed)
    yield from copy.deepcopy(GOOD)
    for _ in range(count):
        manifest = copy.deepcopy(dice.choice(GOOD))
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            _mutate(dice, manifest)
        yield manifest
