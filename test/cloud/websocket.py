"""A small WebSocket client (RFC 6455) for tests: text messages, one socket, nothing retried.

Strict about what the server sends: a frame that is masked, fragmented or of reserved kind fails the
test. Raw bytes can be sent, so that the server's strictness can be tested too.
"""

import base64
import collections
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import time
from urllib.parse import urlsplit

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Refused(Exception):
    """The server answered the handshake with something else than 101."""

    def __init__(self, status, head):
        super().__init__(f"handshake refused with {status}")
        self.status = status
        self.head = head


class Closed(Exception):
    """The server has closed; code 1006 when it did so without a close frame."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}")
        self.code = code
        self.reason = reason


class WebSocket:
    """One connection. A token is offered as subprotocol; tls is the context for https URLs."""

    def __init__(self, base, token=None, timeout=10.0, headers=(), receive_buffer=None, tls=None):
        url = urlsplit(base)
        self.timeout = timeout
        self.buffer = b""
        self.messages = collections.deque()
        self.pings = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect((url.hostname, url.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                self.socket = tls.wrap_socket(self.socket, server_hostname=url.hostname)
            self._shake(url, f"bearer.{token}" if token else None, headers)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _shake(self, url, protocol, headers):
        key = base64.b64encode(os.urandom(16))
        lines = [f"GET {url.path.rstrip('/')}/ws HTTP/1.1", f"Host: {url.netloc}", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 f"Sec-WebSocket-Key: {key.decode()}", *headers]
        if protocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self.buffer:
            more = self.socket.recv(4096)
            if not more:
                raise ConnectionError("connection ended inside the handshake")
            self.buffer += more
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            raise Refused(status, head.decode())
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        fields = {name.lower(): value for name, value in fields.items()}
        expected = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        assert fields["sec-websocket-accept"] == expected, head
        assert fields.get("sec-websocket-protocol") == protocol, head
        self.fields = fields

    # -- sending -------------------------------------------------------------------------------

    def send_frame(self, opcode, payload=b"", final=True):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([(0x80 if final else 0) | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", length)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", length)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.sendall(head + mask + masked)

    def send(self, message):
        """Sends text, or anything else as JSON."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.send_frame(TEXT, text.encode())

    def close(self, code=1000):
        """Closes as the protocol says and returns the server's code."""
        self.send_frame(CLOSE, struct.pack(">H", code))
        return self.wait_closed()

    # -- receiving -----------------------------------------------------------------------------

    def _take(self):
        """Takes a frame off the buffer: (opcode, payload), or None when it is not whole."""
        if len(self.buffer) < 2:
            return None
        first, second = self.buffer[0], self.buffer[1]
        assert first & 0x70 == 0 and first & 0x80, f"first byte {first:#x}"
        assert second & 0x80 == 0, "frame of the server is masked"
        at, length = 2, second
        if second == 126:
            at, length = 4, int.from_bytes(self.buffer[2:4], "big")
        elif second == 127:
            at, length = 10, int.from_bytes(self.buffer[2:10], "big")
        if len(self.buffer) < at or len(self.buffer) < at + length:
            return None
        payload, self.buffer = self.buffer[at:at + length], self.buffer[at + length:]
        return first & 0x0F, payload

    def _handle(self, opcode, payload):
        if opcode == TEXT:
            self.messages.append(json.loads(payload))
        elif opcode == PING:
            self.pings += 1
            self.send_frame(PONG, payload)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            raise Closed(code, payload[2:].decode())
        else:
            assert opcode == PONG, f"opcode {opcode}"

    def _readable(self, deadline):
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(1000 * max(0.0, deadline - time.monotonic())))

    def pump(self, timeout=0.0):
        """Takes in what has come (waiting up to timeout for the first of it)."""
        deadline = time.monotonic() + timeout
        while True:
            while (frame := self._take()) is not None:
                self._handle(*frame)
            if self.messages or not self._readable(deadline):
                return
            try:
                more = self.socket.recv(262144)
            except ConnectionError:
                more = b""
            if not more:
                raise Closed(1006)
            self.buffer += more

    def receive(self, timeout=None):
        """The next message, decoded; TimeoutError when none comes."""
        self.pump(self.timeout if timeout is None else timeout)
        if not self.messages:
            raise TimeoutError("no message came")
        return self.messages.popleft()

    def receive_until(self, condition, timeout=None):
        """Messages up to the first one that satisfies the condition, as a list."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        got = []
        while True:
            got.append(self.receive(max(0.0, deadline - time.monotonic())))
            if condition(got[-1]):
                return got

    def wait_closed(self, timeout=None):
        """Waits for the server to close; returns its code. Messages that come first are dropped."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        try:
            while True:
                self.receive(max(0.0, deadline - time.monotonic()))
        except Closed as closed:
            return closed.code

    def subscribe(self, *types, since=None):
        """Subscribes and returns the events that came before the confirmation."""
        self.send({"subscribe": list(types)} | ({} if since is None else {"since": since}))
        *events, _ = self.receive_until(lambda message: "subscribed" in message)
        return events
