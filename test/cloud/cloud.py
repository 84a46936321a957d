"""Cloud: one cluster and its agents, with the questions that tests and the demo ask of it."""

import json

from .agent import Agent
from .app import manifest, package_of
from .client import Client
from .server import Cluster
from .wait import wait_until

JOIN_TIMEOUT = 20
RUN_TIMEOUT = 40


class Cloud:
    """Use as a context manager: agents end first, then the server."""

    def __init__(self, **cluster_options):
        self.cluster = Cluster(**cluster_options)
        self.agents = {}

    def __enter__(self):
        self.cluster.__enter__()
        return self

    def __exit__(self, *_):
        self.destroy()

    def destroy(self):
        for agent in self.agents.values():
            agent.destroy()
        self.cluster.destroy()

    def mark(self):
        """A test begins: reports from here on leave out what was logged before."""
        self.cluster.mark()
        for agent in self.agents.values():
            agent.mark()

    def report(self):
        return "\n".join([self.cluster.report(), *(one.report() for one in self.agents.values())])

    # -- nodes ---------------------------------------------------------------------------------

    def join_token(self, **options):
        """A fresh join token of the operator's."""
        named = ", ".join(f"{name} => %s" for name in options)
        return self.cluster.value(f"SELECT a67.join_token_create({named}) ->> 'token'",
                                  *options.values())

    def start_agent(self, name, token=None, *options):
        """Starts an agent that joins; does not wait."""
        agent = Agent(name, self.cluster.folder / "nodes", keep=self.cluster.keep)
        self.agents[name] = agent
        return agent.join(self.cluster.listener_url(), token or self.join_token(),
                          "--name", name, *options)

    def join(self, *names):
        """Starts agents that join and waits until all are ready; returns them."""
        agents = [self.start_agent(name) for name in names]
        self.wait_nodes("ready", *names, timeout=JOIN_TIMEOUT)
        return agents

    def node(self, name):
        return self.cluster.row("SELECT * FROM a67.node WHERE name = %s", name)

    def statuses(self, *names):
        rows = self.cluster.rows("SELECT name, status FROM a67.node ORDER BY name")
        return {row["name"]: row["status"] for row in rows if not names or row["name"] in names}

    def wait_nodes(self, status, *names, timeout=RUN_TIMEOUT):
        """Waits until the named nodes have the status; on a busy machine ready ones are busy."""
        wanted = ("ready", "busy") if status == "ready" else (status,)
        return wait_until(f"nodes {', '.join(names)} become {status}",
                          lambda: self.statuses(*names), timeout,
                          until=lambda now: len(now) == len(names)
                          and all(one in wanted for one in now.values()))

    # -- deployments ---------------------------------------------------------------------------

    def put_package(self, content=None):
        """Stores a package (the hello app by default) and returns its digest."""
        return self.cluster.value("SELECT a67.package_put(%s)", content or package_of())

    def create(self, whole):
        """Creates a deployment from a whole manifest; returns its id."""
        return self.cluster.value(
            "SELECT a67.deployment_create(%s::jsonb) ->> 'deployment_id'", json.dumps(whole))

    def deploy(self, name, replicas=1, timeout=RUN_TIMEOUT, **changes):
        """Deploys hello and waits until every replica serves; returns the id."""
        package = changes.pop("package", None) or self.put_package()
        found = self.create(manifest(name, package, replicas=replicas, **changes))
        self.wait_serving(name, replicas, timeout)
        return found

    def deployment(self, name):
        return self.cluster.row("SELECT * FROM a67.deployment WHERE name = %s", name)

    def wait_deployment(self, name, status, timeout=RUN_TIMEOUT):
        return wait_until(f"deployment {name} becomes {status}", lambda: self.deployment(name),
                          timeout, until=lambda row: row["status"] == status)

    def replicas(self, name):
        """Rows of a67.replica of one deployment."""
        return self.cluster.rows("SELECT * FROM a67.replica WHERE deployment = %s", name)

    def endpoints(self, name):
        """Where the deployment's replicas answer, as view a67.endpoint has it."""
        return self.cluster.rows("SELECT url, node FROM a67.endpoint WHERE deployment = %s AND kind = 'replica' "
                                 "ORDER BY node, url", name)

    def answers(self, name):
        """{url: answer} of an HTTP GET to each endpoint, or what went wrong in its place."""
        found = {}
        for endpoint in self.endpoints(name):
            try:
                answer = Client(endpoint["url"], timeout=2).get()
                good = answer.status == 200
                found[endpoint["url"]] = answer.text.strip() if good else f"HTTP {answer.status}"
            except OSError as error:
                found[endpoint["url"]] = f"no answer: {error}"
        return found

    def wait_serving(self, name, count, timeout=RUN_TIMEOUT):
        """Waits until exactly count endpoints answer 200; returns {url: answer}."""
        return wait_until(
            f"{count} endpoints of {name} answer", lambda: self.answers(name), timeout,
            until=lambda found: len(found) == count and all(
                " from " in text for text in found.values()))

    def apps(self):
        """{node name: {replica id: [pid]}} of the app processes that really live."""
        return {name: agent.apps() for name, agent in self.agents.items()}

    def processes(self, name):
        """{replica id: [pid]} of the living processes of one deployment, over all nodes."""
        ids = {str(row["replica_id"]) for row in self.replicas(name)}
        return {replica: pids for apps in self.apps().values() for replica, pids in apps.items()
                if replica in ids}

    def wait_nothing_runs(self, timeout=RUN_TIMEOUT):
        """Waits until no node has an app process any more."""
        return wait_until("no app process is left", self.apps, timeout,
                          until=lambda apps: not any(apps.values()))
