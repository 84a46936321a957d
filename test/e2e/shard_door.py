"""A TCP port in front of a server that listens on a Unix socket only: what users of the API can name as a shard."""

import socket
import threading


class ShardDoor:
    """Use as a context manager; passes every connection on to the socket of a Cluster."""

    def __init__(self, server):
        self.path = f"{server.socket}/.s.PGSQL.5432"
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listening.close()

    def connection(self, database, **more):
        """A URI, as users have it."""
        options = "".join(f"&{name}={value}" for name, value in more.items())
        return f"postgresql://shopper:sesame@127.0.0.1:{self.port}/{database}?sslmode=prefer{options}"

    def _accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.path)
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for one in (source, sink):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
