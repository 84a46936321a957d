"""Provider: an OAuth 2.0 server in a process of its own (npm's oauth2-mock-server, driven by
test/e2e/npm/provider.js), which answers as the test tells it to.
"""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from . import process
from .client import Client

SCRIPT = Path(__file__).resolve().parent.parent / "e2e" / "npm" / "provider.js"


def missing():
    """Why there can be no provider here; None when there can."""
    if shutil.which("node") is None:
        return "there is no node on PATH"
    modules = os.environ.get("A67_NPM_MODULES")
    if not modules or not (Path(modules) / "oauth2-mock-server").is_dir():
        return "oauth2-mock-server is not installed (test/tools/npm-modules)"
    return None


class Provider:
    """Use as a context manager, or start() and stop(). It keeps its port over a restart."""

    def __init__(self, log):
        self.log = Path(log)
        self.port = 0
        self.popen = None
        self.control = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        with open(self.log, "ab") as errors:
            self.popen = subprocess.Popen(
                [shutil.which("node"), str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, start_new_session=True, cwd="/",
                env=process.plain_environment(
                    A67_NPM_MODULES=os.environ["A67_NPM_MODULES"],
                    A67_OAUTH_PORT=str(self.port)),
                **process.identity())
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"the provider did not start:\n{process.tail(self.log)}")
        ports = json.loads(line)
        self.port = ports["provider"]
        self.control = Client(f"http://127.0.0.1:{ports['control']}")
        return self

    def stop(self):
        if self.popen is None:
            return
        self.popen.send_signal(signal.SIGCONT)
        self.popen.kill()
        self.popen.wait(timeout=10)
        self.popen.stdin.close()
        self.popen.stdout.close()
        self.popen = None

    def freeze(self):
        """It takes connections and says nothing more, until thaw()."""
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.popen.send_signal(signal.SIGCONT)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    # -- what it answers, and what it was asked ------------------------------------------------

    def next(self, *answers):
        """The next answers of the token endpoint: {"status", "body"} or {"raw"}; {} is a good one."""
        self.control.put("/next", list(answers))

    def always(self, **answer):
        """All answers after those."""
        self.control.put("/always", answer)

    def revocations(self, *statuses):
        """The next statuses of the revocation endpoint; 200 after that."""
        self.control.put("/revoke", list(statuses))

    def plain(self):
        """Whatever was ordered before, from here on it answers well."""
        self.next()
        self.always()
        self.revocations()

    def seen(self, token, path="/token"):
        """The requests so far for one path that carried a token beginning like this."""
        return [one for one in self.control.get("/seen").json() if one["path"] == path
                and one["form"].get("refresh_token", one["form"].get("token", "")).startswith(token)]
