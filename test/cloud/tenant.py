"""Tenants: users of one a67 who each have a virtual database, on shards that ask for a password over TCP.

Databases of users, not of the operator: their connection strings name hosts and passwords, and everything of theirs comes
through the API or with roles that database_role_create has made.
"""

import random

import psycopg

from .api import Api
from .server import DATABASE, Cluster
from .shards import Shards

# In every connection string: must never be seen again.
CANARY = "canary-of-a-shard-password"

SETTINGS = {"a67.outbound_private": "on", "a67.api_workers": "4"}


class Tenant:
    """One user and her database."""

    def __init__(self, person, name, shards):
        self.person = person
        self.name = name
        self.shards = shards

    def post(self, path, body):
        return self.person.client.post(f"/api/v1/databases/{self.name}{path}", body)

    def ask(self, query, *params, **more):
        """The answer to a query, whatever it is."""
        return self.post("/query", {"query": query, "params": list(params), **more})

    def data(self, query, *params, **more):
        """Rows of a query that must succeed."""
        answer = self.ask(query, *params, **more)
        assert answer.status == 200, (query, answer.status, answer.text)
        return answer.json()["data"]


class Tenants:
    """Use as a context manager. tenants maps a name to how many shards its database has."""

    def __init__(self, tenants=None, settings=None):
        self.wanted = tenants or {"shop": 2, "rival": 1}
        self.address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        self.shards = Shards(sum(self.wanted.values()), settings={"listen_addresses": self.address})
        self.cluster = Cluster(settings={**SETTINGS, **(settings or {})})

    def __enter__(self):
        try:
            self.shards.__enter__()
            self._ask_for_passwords()
            self.cluster.create()
            token = self.cluster.value("SELECT a67.token_create(a67_internal._operator_id(), '2 hours')")
            self.api = Api("listener", self.cluster.listener_url(), token)
            names = iter(self.shards.names)
            for name, count in self.wanted.items():
                setattr(self, name, self._tenant(name, [next(names) for _ in range(count)]))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.cluster.destroy()
        self.shards.__exit__()

    def _ask_for_passwords(self):
        server = self.shards.servers[0]
        rules = server.data / "pg_hba.conf"
        rules.write_text("host all tenant 127.0.0.0/8 scram-sha-256\n" + rules.read_text())
        server.execute(f"CREATE ROLE tenant LOGIN PASSWORD '{CANARY}'")
        server.execute("SELECT pg_reload_conf()")
        for name in self.shards.names:
            server.execute(f"ALTER DATABASE {name} OWNER TO tenant")

    def connection(self, shard):
        return psycopg.conninfo.make_conninfo(host=self.address, port=5432, user="tenant", password=CANARY, dbname=shard)

    def _tenant(self, name, shards):
        person = self.api.person(name)
        answer = person.client.post("/api/v1/databases", {
            "name": name, "sharding": {"strategy": "hash", "key": "id"},
            "shards": [{"name": shard, "connection": self.connection(shard)} for shard in shards]})
        assert answer.status == 201, (answer.status, answer.text)
        return Tenant(person, name, shards)

    def connect(self, role, password, **more):
        """As an application does it."""
        return psycopg.connect(host=str(self.cluster.socket), port=5432, dbname=DATABASE, user=role, password=password,
                               autocommit=True, **more)
