"""a67-agent alone: joining, heartbeats, commands, the life of a replica. The controller is played."""

import json
import signal
import stat
import threading
import time

import pytest
from agent_alone import desired, new_id
from agent_fault import Clock, preload
from cloud import wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_controller import ask_app, base64url, sign


# -- joining -----------------------------------------------------------------------------------


def test_join_registers_and_beats(alone):
    alone.start()
    sent = alone.controller.registrations[0]
    assert sent["name"] == "solo" and sent["join_token"] == alone.controller.join_token()
    assert sent["endpoint"] == alone.ready_line.rsplit("listen=", 1)[1]
    assert set(sent["capabilities"]) == {"cpu_cores", "memory_gb", "disk_gb",
                                         "network_bandwidth_mbps", "max_concurrent_requests", "runners"}
    beat = alone.controller.wait_beat(2)
    assert beat["status"] == "ok" and beat["replicas"] == []
    assert set(beat["metrics"]) == {"cpu_percent", "memory_percent", "memory_free_bytes",
                                    "memory_total_bytes", "disk_percent", "load1", "uptime_s",
                                    "active_requests", "latency_ms", "network_bytes", "chunk_count",
                                    "chunk_bytes", "chunk_quota_bytes", "chunk_rotten"}
    assert beat["metrics"]["memory_total_bytes"] > beat["metrics"]["memory_free_bytes"] > 0
    numbers = [one["seq"] for one in alone.controller.beats]
    assert numbers == sorted(set(numbers)) and len({b["boot_id"] for b in alone.controller.beats}) == 1


def test_state_is_private_and_the_log_free_of_secrets(alone):
    alone.start()
    alone.controller.wait_beat()
    for name in ("node.key", "node.json"):
        assert stat.S_IMODE((alone.state / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(alone.state.stat().st_mode) == 0o700
    text = alone.text()
    node = json.loads((alone.state / "node.json").read_text())
    assert node["node_token"] not in text
    assert base64url(alone.controller.join_secret) not in text
    assert (alone.state / "node.key").read_text().strip() not in text


def test_join_again_only_runs(alone):
    alone.start()
    alone.kill()
    alone.start()
    assert len(alone.controller.registrations) == 1


def test_token_from_a_file(alone):
    path = alone.folder / "token"
    path.write_text(alone.controller.join_token() + "\n")
    alone.start("join", alone.controller.url, f"@{path}")


@pytest.mark.parametrize("status", [400, 401, 409])
def test_refused_registration_is_final(alone, status):
    alone.controller.statuses["/api/v1/nodes/register"] = status
    alone.start(*("join", alone.controller.url, alone.controller.join_token()), wait=False)
    assert alone.status() == 111
    assert f"registration was answered {status}: said the test" in alone.text()


def test_unreachable_controller_is_tried_again(alone):
    alone.controller.statuses["/api/v1/nodes/register"] = 503
    alone.start("join", alone.controller.url, alone.controller.join_token(), wait=False)
    wait_until("two attempts", lambda: len(alone.controller.seen), until=lambda n: n >= 2)
    del alone.controller.statuses["/api/v1/nodes/register"]
    alone.wait_ready()


def test_controller_without_the_pinned_key_is_refused(alone):
    token = alone.controller.join_token(Ed25519PrivateKey.generate())
    alone.start("join", alone.controller.url, token, wait=False)
    assert alone.status() == 111
    assert "not this token's controller" in alone.text()
    assert not (alone.state / "node.json").exists()


@pytest.mark.parametrize("arguments, status", [
    ((), 100), (("dance",), 100), (("join",), 100), (("join", "http://127.0.0.1:1"), 100),
    (("run", "extra"), 100), (("run", "--listen", "nowhere"), 100),
    (("run", "--heartbeat-interval", "0"), 100), (("run", "--colour", "red"), 100),
    (("run", "--name"), 100), (("run", "--log-level=loud"), 100), (("run",), 111),
    (("join", "http://127.0.0.1:1", "a67j.short.key"), 100),
    (("join", "ftp://127.0.0.1", "TOKEN"), 100), (("join", "http://127.0.0.1:1", "@/nowhere"), 111),
])
def test_wrong_usage(alone, arguments, status):
    arguments = [alone.controller.join_token() if word == "TOKEN" else word for word in arguments]
    if arguments:
        alone.start(*arguments, wait=False)
        assert alone.status() == status
        assert alone.text().count("\n") in (1, 2)


def test_two_agents_never_share_a_state_directory(alone):
    alone.start()
    first = alone.popen
    alone.start("run", wait=False)
    assert alone.status() == 111
    assert "another agent uses state directory" in alone.text()
    assert first.poll() is None
    alone.popen = first


def test_another_controllers_state_is_not_taken_over(alone):
    alone.start()
    alone.kill()
    token = alone.controller.join_token(Ed25519PrivateKey.generate())
    alone.start("join", alone.controller.url, token, wait=False)
    assert alone.status() == 111
    assert "node of another controller" in alone.text()


# -- the link to the controller ------------------------------------------------------------------


def test_last_beat_says_stopping_and_apps_go_on(alone):
    alone.start()
    replica = alone.deploy()
    before = alone.pids(replica)
    assert alone.terminate() == 0
    assert alone.controller.last_beat()["status"] == "stopping"
    assert alone.pids(replica) == before
    alone.run_again()
    assert alone.pids(replica) == before


def test_stop_apps_ends_them_and_the_next_start_brings_them_back(alone):
    alone.start("join", alone.controller.url, alone.controller.join_token(), "--stop-apps")
    replica = alone.deploy()
    assert alone.terminate() == 0
    assert alone.processes() == []
    last = alone.controller.last_beat()
    assert last["status"] == "stopping" and last["replicas"][0]["state"] == "stopped"
    alone.run_again()
    alone.controller.wait_state(replica, "running")


def test_removed_node_stops_its_apps_and_leaves_nothing(alone):
    alone.start()
    alone.deploy()
    alone.controller.statuses["/api/v1/nodes/heartbeat"] = 410
    assert alone.status() == 0
    assert alone.processes() == []
    assert sorted(path.name for path in alone.state.iterdir()) == ["lock", "trash"]
    assert list((alone.state / "trash").iterdir()) == []


def test_refused_token_is_renewed(alone):
    alone.start()
    alone.controller.wait_beat()
    alone.controller.secret = b"rotated"
    wait_until("a renewal", lambda: alone.controller.seen.count("/rpc/node_token_renew"))
    # The renewal is refused too, and the agent keeps trying both; with the key back it recovers.
    # With a lost key the renewal is refused as well; both are tried until the controller knows us.
    alone.controller._known = lambda headers: True
    alone.controller.wait_beat()


def test_token_is_renewed_after_two_thirds_of_its_life(alone):
    alone.controller.token_life = 3
    alone.start()
    before = json.loads((alone.state / "node.json").read_text())["node_token"]
    wait_until("a new token in node.json",
               lambda: json.loads((alone.state / "node.json").read_text())["node_token"],
               until=lambda token: token != before)
    assert alone.controller.wait_beat(2)["status"] == "ok"


def test_slow_controller_does_not_stop_the_agent(alone):
    alone.start()
    replica = alone.deploy()
    alone.controller.hold = threading.Event()
    started = time.monotonic()
    assert alone.commands.get("/health").status == 200
    assert alone.commands.list()[0]["state"] == "running"
    assert time.monotonic() - started < 1
    alone.processes(replica)[0].kill()
    wait_until("restart without controller", lambda: alone.commands.list()[0],
               until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    alone.controller.hold.set()
    alone.controller.hold = None
    wait_until("the news arrive", lambda: alone.controller.replica(replica)["restarts"],
               until=lambda count: count == 1)


def test_controller_that_is_back_is_seen_soon(alone):
    alone.start()
    alone.controller.wait_beat()
    alone.controller.statuses["/api/v1/nodes/heartbeat"] = 503
    wait_until("several failures", lambda: len(alone.controller.seen), until=lambda n: n > 8)
    del alone.controller.statuses["/api/v1/nodes/heartbeat"]
    alone.controller.wait_beat(timeout=10 * alone.controller.interval + 2)


def test_change_is_told_at_once_although_the_interval_is_long(alone):
    alone.controller.interval = 600
    alone.start()
    alone.deploy()


def test_agent_keeps_its_port(alone):
    alone.start()
    before = alone.ready_line
    alone.kill()
    alone.run_again()
    assert alone.ready_line == before


# -- commands --------------------------------------------------------------------------------------


def test_health_and_metrics_need_no_token(shared_agent):
    health = shared_agent.commands.get("/health")
    assert health.status == 200 and health.json()["node_id"] == shared_agent.controller.node_id
    text = shared_agent.commands.get("/metrics").text
    assert "a67_agent_info{node_id=" in text and "# TYPE a67_agent_heartbeats_total counter" in text


def forged(commands, method, path, body, kind):
    key = commands.controller.key
    now = int(time.time())
    change = {
        "another node": {"aud": new_id()}, "another method": {"method": "GET"},
        "another path": {"path": path + "?x=1"}, "another body": {"body_sha256": "0" * 64},
        "expired": {"iat": now - 120, "exp": now - 60}, "future": {"iat": now + 90, "exp": now + 120},
        "too long a life": {"exp": now + 3600}, "no life": {"exp": now}, "no jti": {"jti": None},
        "empty jti": {"jti": ""}, "no audience": {"aud": None}, "text times": {"exp": str(now + 30)},
    }.get(kind, {})
    claims = commands.claims(method, path, body, **change)
    header = {"HS256": {"alg": "HS256"}, "none": {"alg": "none"}, "no algorithm": {"typ": "JWT"},
              "critical": {"alg": "EdDSA", "crit": ["x"]}}.get(kind)
    token = sign(claims, Ed25519PrivateKey.generate() if kind == "another key" else key, header)
    if kind == "cut":
        return token[:-4]
    if kind == "unsigned":
        return token.rsplit(".", 1)[0] + "."
    if kind == "changed claims":
        head, _, signature = token.split(".")
        claims["path"] = "/v1/replicas"
        return f"{head}.{base64url(json.dumps(claims).encode())}.{signature}"
    if kind == "garbage":
        return "x" * 100
    return token


@pytest.mark.parametrize("kind", [
    "another node", "another method", "another path", "another body", "expired", "future",
    "too long a life", "no life", "no jti", "empty jti", "no audience", "text times", "HS256", "none",
    "no algorithm", "critical", "another key", "cut", "unsigned", "changed claims", "garbage"])
def test_forged_commands_are_refused(shared_agent, kind):
    replica = new_id()
    path = f"/v1/replicas/{replica}"
    body = json.dumps(desired(shared_agent.app)).encode()
    answer = shared_agent.commands.send("PUT", path, body, forged(shared_agent.commands, "PUT", path, body, kind))
    assert answer.status == 401
    assert set(answer.json()) == {"code", "message", "details", "hint"}
    assert replica not in [one["id"] for one in shared_agent.commands.list()]


def test_command_without_a_token(shared_agent):
    assert shared_agent.commands.get("/v1/replicas").status == 401


def test_command_is_obeyed_once(shared_agent):
    token = sign(shared_agent.commands.claims("GET", "/v1/replicas"), shared_agent.controller.key)
    assert shared_agent.commands.send("GET", "/v1/replicas", token=token).status == 200
    again = shared_agent.commands.send("GET", "/v1/replicas", token=token)
    assert again.status == 401 and "used already" in again.json()["message"]


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("GET", "/v1", 404), ("GET", "/v1/replicas/", 404), ("POST", "/v1/replicas", 405),
    ("PUT", "/v1/replicas/not-an-id", 404), ("DELETE", "/health", 405),
    ("GET", "/v1/replicas/{id}/logs", 404), ("DELETE", "/v1/replicas/{id}?generation=1", 404),
    ("DELETE", "/v1/replicas/{id}", 404), ("DELETE", "/v1/replicas/{id}?generation=-1", 400),
    ("DELETE", "/v1/replicas/{id}?generation=", 400), ("GET", "/v1/replicas/{id}/logs?tail=all", 400)])
def test_unknown_things(shared_agent, method, path, status):
    assert shared_agent.commands.send(method, path.replace("{id}", new_id())).status == status


BAD = [
    ({"generation": "1"}, "generation"), ({"generation": -1}, "generation"), ({"generation": None}, "generation"),
    ({"colour": "red"}, "colour"), ({"app_type": "daemon"}, "app_type"), ({"entrypoint": []}, "entrypoint"),
    ({"entrypoint": "python3 app.py"}, "entrypoint"), ({"entrypoint": [""]}, "entrypoint"),
    ({"package": {"digest": "ABC", "path": "/x"}}, "package.digest"),
    ({"package": {"digest": "a" * 64, "path": "x y"}}, "package.path"),
    ({"package": {"digest": "a" * 64}}, "package.path"), ({"package": None}, "package"),
    ({"sealed_env": 1, "env_version": None}, "sealed_env"), ({"sealed_env": ""}, "sealed_env"),
    ({"env_version": 1}, "env_version"), ({"env_version": ""}, "env_version"),
    ({"env": None, "env_version": "1"}, "sealed_env"), ({"on_secret_change": "SIGKILL"}, "on_secret_change"),
    ({"on_secret_change": 1}, "on_secret_change"), ({"health_check": {"path": "here"}}, "health_check.path"),
    ({"health_check": {"interval_ms": 1}}, "health_check.interval_ms"),
    ({"health_check": {"every": 1}}, "health_check.every"),
    ({"resources": {"memory_bytes": -1}}, "resources.memory_bytes"),
    ({"resources": {"cpu": "much"}}, "resources.cpu"), ({"stop_grace_ms": 1e9}, "stop_grace_ms"),
    ({"deployment": ""}, "deployment"), ({"release": 1.5}, "release"),
]


@pytest.mark.parametrize("change, field", BAD)
def test_wrong_desired_state_names_the_field(shared_agent, change, field):
    answer = shared_agent.commands.put(new_id(), desired(shared_agent.app, **change))
    assert answer.status == 400 and f'"{field}"' in answer.json()["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"generation":1,"generation":2}', b"x" * 1048577])
def test_bodies_that_are_no_desired_state(shared_agent, body):
    assert shared_agent.commands.send("PUT", f"/v1/replicas/{new_id()}", body).status in (400, 413)


# -- the life of a replica ---------------------------------------------------------------------------


def test_deploy_serve_and_remove(shared_agent):
    replica = shared_agent.deploy()
    seen = shared_agent.controller.replica(replica)
    assert seen["generation"] == 1 and seen["restarts"] == 0 and seen["error"] is None
    assert ask_app(seen["port"])[1] == "ok"
    for name, value in {"GREETING": "hi", "A67_NODE": "solo", "A67_REPLICA": replica,
                        "A67_NODE_ID": shared_agent.controller.node_id, "A67_DEPLOYMENT": "hello",
                        "A67_RELEASE": "1", "PORT": str(seen["port"]), "A67_STATE_DIR": "-"}.items():
        assert ask_app(seen["port"], f"/env/{name}")[1] == value
    assert f"hello from {replica}" in shared_agent.commands.logs(replica).text
    assert len(shared_agent.commands.logs(replica, 5).body) == 5
    assert f'a67_replica_up{{replica="{replica}",deployment="hello"}} 1' in shared_agent.commands.get("/metrics").text
    assert shared_agent.commands.delete(replica, 1).status in (202, 204)
    wait_until("it is gone", lambda: shared_agent.commands.delete(replica, 1).status, until=lambda s: s == 204)
    assert shared_agent.processes(replica) == []
    assert not (shared_agent.state / "apps" / replica).exists()
    assert not (shared_agent.state / "logs" / f"{replica}.log").exists()


def test_same_desired_state_changes_nothing(shared_agent):
    replica = shared_agent.deploy()
    pid = shared_agent.controller.replica(replica)["pid"]
    for generation in (1, 1, 2):
        answer = shared_agent.commands.put(replica, desired(shared_agent.app, generation))
        assert answer.status == 202 and answer.json()["pid"] == pid
        assert answer.json()["generation"] == generation
    assert shared_agent.commands.put(replica, desired(shared_agent.app, 1)).status == 409
    other = shared_agent.commands.put(replica, desired(shared_agent.app, 2, release=7))
    assert other.status == 409 and "other content" in other.json()["message"]
    shared_agent.commands.delete(replica, 2)


def test_other_content_replaces_the_process(shared_agent):
    replica = shared_agent.deploy()
    before = shared_agent.controller.replica(replica)
    assert shared_agent.commands.put(replica, desired(shared_agent.app, 2, env={"GREETING": "new"})).status == 202
    after = wait_until("the new one runs", lambda: shared_agent.controller.replica(replica),
                       until=lambda one: one["state"] == "running" and one["pid"] != before["pid"])
    assert after["generation"] == 2 and after["restarts"] == 0
    assert ask_app(after["port"], "/env/GREETING")[1] == "new"
    assert len(shared_agent.processes(replica)) == 1
    assert [path.name for path in (shared_agent.state / "apps" / replica).iterdir() if path.name.isdigit()] == ["2"]
    shared_agent.commands.delete(replica, 2)


def test_deleted_generation_never_comes_back(shared_agent):
    replica = shared_agent.deploy(generation=5)
    assert shared_agent.commands.delete(replica, 4).status == 409
    assert shared_agent.commands.delete(replica, 6).status in (202, 204)
    assert shared_agent.commands.put(replica, desired(shared_agent.app, 6)).status == 409
    wait_until("gone", lambda: shared_agent.processes(replica), until=lambda left: not left)
    assert shared_agent.deploy(replica, generation=7) == replica
    shared_agent.commands.delete(replica, 8)


def test_delete_without_a_generation_means_any(shared_agent):
    replica = shared_agent.deploy(generation=9)
    assert shared_agent.commands.send("DELETE", f"/v1/replicas/{replica}").status == 202
    wait_until("gone", lambda: shared_agent.commands.send("DELETE", f"/v1/replicas/{replica}").status,
               until=lambda status: status == 204)
    assert shared_agent.commands.put(replica, desired(shared_agent.app, 9)).status == 409


def test_worker_runs_without_a_port_check(shared_agent):
    replica = shared_agent.deploy(app_type="worker", entrypoint=["sleep", "1000"], health_check=None)
    assert shared_agent.controller.replica(replica)["state"] == "running"
    shared_agent.commands.delete(replica, 1)


def test_backend_without_health_check_needs_its_port(shared_agent):
    shared_agent.commands.delete(shared_agent.deploy(health_check=None), 1)


def test_killed_app_is_restarted_on_its_port(shared_agent):
    replica = shared_agent.deploy()
    before = shared_agent.controller.replica(replica)
    shared_agent.processes(replica)[0].kill()
    after = wait_until("restart", lambda: shared_agent.controller.replica(replica),
                       until=lambda one: one["restarts"] == 1 and one["state"] == "running")
    assert after["pid"] != before["pid"] and after["port"] == before["port"]
    shared_agent.commands.delete(replica, 1)


def test_sick_app_is_restarted(shared_agent):
    replica = shared_agent.deploy()
    ask_app(shared_agent.controller.replica(replica)["port"], "/sicken")
    states = []

    def healed():
        one = shared_agent.controller.replica(replica)
        states.append((one["state"], one["error"]))
        return one["state"] == "running" and one["restarts"] == 1
    wait_until("restart", healed, interval=0.005)
    assert ("unhealthy", "health check answered 503") in states
    shared_agent.commands.delete(replica, 1)


def test_crash_loop_is_given_up_with_last_words(alone):
    clock = Clock(alone.folder / "clock")
    alone.start("join", alone.controller.url, alone.controller.join_token(), **preload(clock=clock.path))
    replica = new_id()
    alone.commands.put(replica, desired(alone.app, env={"MODE": "crash"}))
    seen = clock.hurry(alone, replica, "failed")
    assert seen["restarts"] == 5 and seen["pid"] is None
    assert seen["error"] == "process exited with status 3" and "last words" in seen["log_tail"]
    assert alone.commands.put(replica, desired(alone.app, 2)).status == 202
    assert alone.controller.wait_state(replica, "running")["error"] is None


@pytest.mark.parametrize("entrypoint, words", [
    (["no-such-program"], "was not found in PATH"), (["./app.py"], "not an executable file"),
    (["./nowhere"], "not an executable file"), (["../../../../../bin/nothing"], "not an executable file")])
def test_program_that_cannot_run(shared_agent, entrypoint, words):
    replica = shared_agent.deploy(state="failed", entrypoint=entrypoint)
    assert words in shared_agent.controller.replica(replica)["error"]
    shared_agent.commands.delete(replica, 1)


def test_stubborn_app_is_killed_after_its_grace(shared_agent):
    replica = shared_agent.deploy(env={"MODE": "stubborn"}, stop_grace_ms=300)
    assert shared_agent.commands.delete(replica, 1).status == 202
    shared_agent.controller.wait_state(replica, "stopped")
    assert shared_agent.processes(replica) == []


def test_the_whole_family_ends(shared_agent):
    replica = shared_agent.deploy(env={"MODE": "family"})
    wait_until("three processes", lambda: len(shared_agent.processes(replica)), until=lambda n: n == 3)
    shared_agent.commands.delete(replica, 1)
    wait_until("none", lambda: shared_agent.processes(replica), until=lambda left: not left)


def test_many_replicas_of_one_package(shared_agent):
    ids = [new_id() for _ in range(8)]
    for replica in ids:
        assert shared_agent.commands.put(replica, desired(shared_agent.app)).status == 202
    for replica in ids:
        shared_agent.controller.wait_state(replica, "running", timeout=60)
    assert len({shared_agent.controller.replica(replica)["port"] for replica in ids}) == len(ids)
    for replica in ids:
        shared_agent.commands.delete(replica, 1)
    wait_until("none", shared_agent.processes, until=lambda left: not left)


def test_signal_during_join_ends_it(alone):
    alone.controller.statuses["/api/v1/nodes/register"] = 503
    alone.start("join", alone.controller.url, alone.controller.join_token(), wait=False)
    wait_until("an attempt", lambda: alone.controller.seen)
    alone.popen.send_signal(signal.SIGINT)
    assert alone.status() == 0
