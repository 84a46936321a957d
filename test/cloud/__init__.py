"""A private a67 cloud for tests and the demo: one PostgreSQL with the extension, agents, apps.

Cluster is the server, Agent one node, Cloud the two together with the questions that tests ask.
Everything started here is recorded and ended at exit, also after an error or an interrupt, unless
the caller keeps it (the demo does). Standard library and psycopg only.
"""

from .agent import Agent
from .app import deterministic_tar, manifest, package_of, random_package
from .client import Client, Response
from .cloud import Cloud
from .server import Cluster
from .wait import wait_until

__all__ = [
    "Agent", "Client", "Cloud", "Cluster", "Response",
    "deterministic_tar", "manifest", "package_of", "random_package", "wait_until",
]
