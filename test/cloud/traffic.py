"""Traffic: requests to a deployment without a pause, as its users send them."""

import threading

from .client import Client


class Traffic:
    """Use as a context manager: a thread asks every endpoint of a deployment, again and again.

    least is the number of endpoints that are to be listed all the time. troubles holds what a user
    would have suffered; elsewhere counts requests to an endpoint that was taken out after the list
    was read: it has the right to be gone, and whoever asks takes another.
    """

    def __init__(self, cloud, name, least):
        self.cloud, self.name, self.least = cloud, name, least
        self.requests, self.elsewhere, self.troubles = 0, 0, []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ended.is_set():
            endpoints = self.listed()
            if len(endpoints) < self.least:
                self.troubles.append(f"{len(endpoints)} endpoints")
            for url in endpoints:
                self.requests += 1
                trouble = self.ask(url)
                if trouble and url in self.listed():
                    self.troubles.append(f"{url}: {trouble}")
                elif trouble:
                    self.elsewhere += 1

    def listed(self):
        return [row["url"] for row in self.cloud.endpoints(self.name)]

    @staticmethod
    def ask(url):
        try:
            answer = Client(url, timeout=5).get()
            return None if answer.status == 200 else f"HTTP {answer.status}"
        except OSError as error:
            return repr(error)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
