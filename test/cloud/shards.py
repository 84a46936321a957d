"""Shards: plain PostgreSQL databases, without the extension, that virtual databases are made of.

They are databases of one server, or each has a server of its own (apart=True), which can be killed alone. `plain` is one
more database beside the first shard: what is compared with the virtual one.
"""

import json

import psycopg

from .server import SUPERUSER, Cluster

PLAIN = "plain"


class Shards:
    """Use as a context manager. names are those of databases and shards: s1, s2 …"""

    def __init__(self, count=4, apart=False, settings=None):
        self.names = [f"s{number + 1}" for number in range(count)]
        plain = {"shared_preload_libraries": "", "max_connections": "200", **(settings or {})}
        self.servers = [Cluster(settings=plain) for _ in range(count if apart else 1)]

    def __enter__(self):
        try:
            for server in self.servers:
                # Nothing of a67 is there to be configured.
                server.settings = {name: value for name, value in server.settings.items() if not name.startswith("a67.")}
                server.create(extension=False)
            for name in [*self.names, PLAIN]:
                self.server(name).execute(f"CREATE DATABASE {name}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.destroy()

    def server(self, name):
        """The Cluster that a shard is in."""
        at = 0 if name == PLAIN else self.names.index(name)
        return self.servers[at % len(self.servers)]

    def connection(self, name, **more):
        """libpq's connection string of a shard."""
        return psycopg.conninfo.make_conninfo(host=str(self.server(name).socket), port=5432, user=SUPERUSER,
                                              dbname=name, **more)

    def connect(self, name):
        return psycopg.connect(self.connection(name), autocommit=True)

    def execute(self, query, names=None):
        """Runs a statement on all shards, or on some."""
        for name in names or self.names:
            with self.connect(name) as connection:
                connection.execute(query)

    def specification(self, **more):
        """The `shards` of database_create; more is added to each."""
        return [{"name": name, "connection": self.connection(name), **more} for name in self.names]

    def create_database(self, cluster, name, sharding=None):
        """A virtual database over all of them, made in psql's way; returns what database_create does."""
        return cluster.value("SELECT a67.database_create(%s, %s::jsonb, %s::jsonb)", name,
                             json.dumps(self.specification()), json.dumps(sharding or {"strategy": "hash"}))
