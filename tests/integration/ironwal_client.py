"""A client of ironwald in Python, written from proto/PROTOCOL.md alone.

It needs nothing but the standard library and msgpack (Debian: python3-msgpack). One connection, one thread at a time.

    client = Client(("127.0.0.1", 7411))            # or Client("/run/ironwald/socket")
    client.append("orders", b"hello")               # {"id": 0, "durable": True}
    for number in [client.send("append", stream="orders", entry=entry) for entry in entries]:
        client.wait(number)                         # pipelined: the answers are matched by their msgid

What a method answers comes back as the map of the protocol; an error is raised as a ServerError. When the connection
ends, what was not answered raises ConnectionLost: it may or may not have been done.
"""

import collections
import select
import socket
import struct
import time

try:
    import msgpack
except ImportError as missing:
    raise SystemExit("these tests need msgpack for %s: apt-get install python3-msgpack (%s)" % ("/usr/bin/python3", missing))

PROTOCOL = 1
RECEIVE_BYTES = 256 * 1024
GATHER_BYTES = 64 * 1024  # small requests are gathered up to this before they are sent


class ServerError(Exception):
    """What the server answered instead of a result."""

    def __init__(self, error):
        super().__init__("%s: %s" % (error.get("code"), error.get("message")))
        self.code = error["code"]
        self.message = error["message"]
        self.fields = {key: value for key, value in error.items() if key not in ("code", "message")}


class ConnectionLost(Exception):
    """The connection ended before the answer came."""


class ProtocolViolation(Exception):
    """The server sent what PROTOCOL.md does not allow."""


class DeadlineExceeded(Exception):
    """No answer in time. The request may still be executed, and its answer is dropped when it comes."""


def request(number, method, params):
    """The bytes of one request, with the length before them."""
    return frame(msgpack.packb([0, number, method, params]))


def frame(message):
    return struct.pack(">I", len(message)) + message


class Client:
    def __init__(self, address, timeout_s=60, hello=True, receive_bytes=None, token=None, wrap=None):
        """`address` is (host, port) or the path of a Unix socket. `wrap` makes of the connected socket what is used."""
        self.timeout_s = timeout_s
        self.max_message_bytes = 16 * 1024 * 1024
        self.server = None
        self._next = 0
        self._out = collections.deque()
        self._out_bytes = 0
        self._in = bytearray()
        self._ended = None
        self._waited = set()  # asked and not answered
        self._given_up = set()
        self._answers = {}
        family = socket.AF_UNIX
        if not isinstance(address, str):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_bytes is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            self.socket.settimeout(timeout_s)
            self.socket.connect(address)
            if family != socket.AF_UNIX:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
            if wrap is not None:
                self.socket = wrap(self.socket)
            if hello:
                self.server = self.call("hello", protocol=PROTOCOL, client="ironwal_client.py/1", token=token)
                self.max_message_bytes = self.server["max_message_bytes"]
        except BaseException:
            self.socket.close()
            raise

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- the messages ----

    def send(self, method, /, **params):
        """Sends a request and returns its msgid, for wait(). Answers that come meanwhile are kept."""
        return self.send_params(method, params)

    def send_params(self, method, params):
        number = self._next
        self._next = (self._next + 1) & 0xFFFFFFFF
        self.send_raw(request(number, method, params))
        self._waited.add(number)
        return number

    def expect(self, number):
        """For tests that send their own bytes: an answer with this msgid will come."""
        self._waited.add(number)
        return number

    def send_raw(self, data):
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes >= GATHER_BYTES:
            self.flush()

    def flush(self):
        """Sends what is gathered. A server in trouble reads no further until its answers are taken: so take them."""
        until = time.monotonic() + self.timeout_s
        while self._out:
            self._turn(until, True)

    def wait(self, number, timeout_s=None):
        """The result of the request `number`, or its error as an exception."""
        until = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while number not in self._answers:
            if number not in self._waited:
                raise ValueError("nothing was asked under %d" % number)
            try:
                self._turn(until, bool(self._out))
            except DeadlineExceeded:
                self._waited.discard(number)
                self._given_up.add(number)
                raise
        error, result = self._answers.pop(number)
        if error is not None:
            raise ServerError(error)
        return result

    def ready(self, number):
        """Whether the answer is there; sends what is gathered, takes what has come, and does not wait."""
        self.flush()
        while number not in self._answers and self._ended is None:
            if not select.select([self.socket], [], [], 0)[0]:
                break
            self._receive()
        return number in self._answers

    def answered(self, number):
        """Whether the answer was taken already; looks no further."""
        return number in self._answers

    def call(self, method, /, **params):
        return self.wait(self.send(method, **params))

    def half_close(self):
        self.flush()
        self.socket.shutdown(socket.SHUT_WR)

    def at_end(self, timeout_s=None):
        """Waits for the end of the connection, and says whether all that was asked is answered."""
        until = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        try:
            while True:
                self._turn(until, bool(self._out))
        except ConnectionLost:
            return not self._waited

    def take(self, number):
        """An answer that is there already, as (error, result), or None: for use after the connection's end."""
        return self._answers.pop(number, None)

    def _turn(self, until, sending):
        """Waits until something can be received or sent, and does it."""
        if self._ended is not None:
            raise ConnectionLost(self._ended)
        left = until - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("nothing for %s s" % self.timeout_s)
        readable, writable, _ = select.select([self.socket], [self.socket] if sending else [], [], left)
        if readable:
            self._receive()
        if writable and self._out:
            data = self._out.popleft() if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:  # it broke: but what the server said before that may still be there to read
                self._out_bytes = 0
                while self._ended is None and select.select([self.socket], [], [], max(0, until - time.monotonic()))[0]:
                    self._receive()
                self._ended = self._ended or str(error)
                return
            if sent < len(data):
                self._out.append(memoryview(data)[sent:])
            self._out_bytes = len(data) - sent

    def _receive(self):
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._ended = str(error)
            return
        if not data:
            self._ended = "the server closed the connection"
            if self._in:
                self._ended += " inside a frame"
            return
        self._in += data
        begin = 0
        while len(self._in) - begin >= 4:
            (length,) = struct.unpack_from(">I", self._in, begin)
            if length > self.max_message_bytes:
                raise ProtocolViolation("a frame of %d bytes, the most is %d" % (length, self.max_message_bytes))
            if len(self._in) - begin - 4 < length:
                break
            self._message(bytes(memoryview(self._in)[begin + 4 : begin + 4 + length]))
            begin += 4 + length
        del self._in[:begin]

    def _message(self, data):
        try:
            message = msgpack.unpackb(data)
        except Exception as error:
            raise ProtocolViolation("not one MessagePack value: %r: %s" % (data[:100], error))
        if isinstance(message, list) and len(message) == 3 and message[0] == 2:
            return  # a notification; there is none yet
        if not isinstance(message, list) or len(message) != 4 or message[0] != 1 or type(message[1]) is not int:
            raise ProtocolViolation("not a response: %r" % (data[:100],))
        _, number, error, result = message
        if error is None:
            if not isinstance(result, dict):
                raise ProtocolViolation("a result that is not a map: %r" % (data[:100],))
        elif result is not None or not isinstance(error, dict) or not {"code", "message"} <= set(error):
            raise ProtocolViolation("an error that is not one: %r" % (data[:200],))
        if number in self._given_up:
            self._given_up.discard(number)
            return
        if number not in self._waited:
            if number == 0 and error is not None:  # Busy, or a message from which no msgid could be read
                self._ended = "refused"
                raise ServerError(error)
            raise ProtocolViolation("an answer to %d, which was not asked: %r" % (number, data[:200]))
        self._waited.discard(number)
        self._answers[number] = (error, result)

    # ---- the methods ----

    def ping(self):
        return self.call("ping")

    def append(self, stream, entry, expected_id=None, sync=None):
        return self.call("append", **_present(stream=stream, entry=entry, expected_id=expected_id, sync=sync))

    def append_batch(self, stream, entries, expected_id=None, sync=None):
        return self.call("append_batch", **_present(stream=stream, entries=entries, expected_id=expected_id, sync=sync))

    def get(self, stream, id):
        return self.call("get", stream=stream, id=id)["entry"]

    def get_batch(self, stream, ids):
        return self.call("get_batch", stream=stream, ids=ids)["entries"]

    def iter(self, stream, start_id=None, max_entries=None, max_bytes=None, wait_ms=None):
        return self.call("iter", **_present(stream=stream, start_id=start_id, max_entries=max_entries,
                                            max_bytes=max_bytes, wait_ms=wait_ms))

    def scan(self, stream, start_id=None, **limits):
        """All entries that can be read now, as (id, entry)."""
        while True:
            part = self.iter(stream, start_id, **limits)
            yield from enumerate(part["entries"], part["first"])
            start_id = part["next"]
            if start_id >= part["end"]:
                return

    def truncate(self, stream, safe_id):
        return self.call("truncate", stream=stream, safe_id=safe_id)["segments_deleted"]

    def current_segment_start_id(self, stream):
        return self.call("current_segment_start_id", stream=stream)["id"]

    def stream_info(self, stream):
        return self.call("stream_info", stream=stream)

    def list_streams(self, prefix=None, after=None, limit=None):
        return self.call("list_streams", **_present(prefix=prefix, after=after, limit=limit))

    def streams(self, prefix=None, limit=None):
        """All names."""
        after = None
        while True:
            part = self.list_streams(prefix, after, limit)
            yield from part["streams"]
            if not part["more"]:
                return
            after = part["streams"][-1]

    def sync(self, stream=None):
        return self.call("sync", **_present(stream=stream))

    # ---- shards and checkpoints ----

    def shard_append(self, key, value, sync=None):
        return self.call("shard_append", **_present(key=key, value=value, sync=sync))

    def shard_append_batch(self, entries, sync=None):
        """`entries` are pairs of key and value; the answer's results are [shard, id] for each."""
        return self.call("shard_append_batch", **_present(entries=entries, sync=sync))["results"]

    def shard_append_batch_for_key(self, key, values, sync=None):
        return self.call("shard_append_batch_for_key", **_present(key=key, values=values, sync=sync))

    def iter_shard(self, shard, start_id=None, max_entries=None, max_bytes=None, wait_ms=None):
        return self.call("iter_shard", **_present(shard=shard, start_id=start_id, max_entries=max_entries,
                                                  max_bytes=max_bytes, wait_ms=wait_ms))

    def scan_shard(self, shard, start_id=None, **limits):
        """All entries of a shard that can be read now, as (id, entry)."""
        while True:
            part = self.iter_shard(shard, start_id, **limits)
            yield from enumerate(part["entries"], part["first"])
            start_id = part["next"]
            if start_id >= part["end"]:
                return

    def create_checkpoint(self, id):
        return self.call("create_checkpoint", id=id)

    def load_checkpoint(self, id):
        return self.call("load_checkpoint", id=id)

    def load_latest_checkpoint(self):
        return self.call("load_latest_checkpoint")

    def list_checkpoints(self, limit=None):
        """[[id, timestamp]...], oldest first."""
        return self.call("list_checkpoints", **_present(limit=limit))["checkpoints"]

    def prune_before_checkpoint(self, id):
        return self.call("prune_before_checkpoint", id=id)

    def compact_checkpoints(self, keep_latest_n):
        return self.call("compact_checkpoints", keep_latest_n=keep_latest_n)

    def shard_count(self):
        return self.call("shard_count")["count"]

    def checkpoint_count(self):
        return self.call("checkpoint_count")["count"]

    def stats(self):
        return self.call("stats")


def shard_name(shard):
    """The stream that is the log of a shard."""
    return "shard_%02d" % shard


def _present(**params):
    return {key: value for key, value in params.items() if value is not None}
