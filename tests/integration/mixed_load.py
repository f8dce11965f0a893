"""Load of all methods at once, with a journal of what was acknowledged on the client's side, and what must hold of it.

A worker (mixed_load.work, in a harness.Worker) sends pipelined requests of random methods until its connection breaks or
it is told to end. An Oracle takes what the workers say, and holds it against a server: after a kill, a stop, a restart.

Every entry says what it is: [log, worker, number of the request, place in its part, entries of the part, CRC, bytes]; a
part is what of a request goes to one log, whole or not at all.
"""

import collections
import mmap
import random
import struct
import time
import zlib

import msgpack

from harness import Failed, check, same
from ironwal_client import Client, ConnectionLost, ServerError, shard_name

STREAMS = ["stream %d" % i for i in range(8)]
KEYS = [b"key %d" % i for i in range(16)]
READS = ("get", "get_batch", "iter", "iter_shard", "stream_info", "load_latest_checkpoint", "list_checkpoints",
         "list_streams", "current_segment_start_id", "truncate", "sync")
# A read of what a truncate took, or of what is not there yet, is refused so.
READ_CODES = ("Truncated", "StreamNotFound", "NoCheckpoints")


class Progress:
    """A number for each worker, which it raises; one more slot tells all of them to end."""

    def __init__(self, count):
        self.memory = mmap.mmap(-1, 8 * (count + 1))
        self.count = count

    def set(self, index, value):
        struct.pack_into("<Q", self.memory, 8 * index, value)

    def values(self):
        return struct.unpack("<%dQ" % self.count, self.memory[: 8 * self.count])

    def total(self):
        return sum(self.values())

    def tell_to_end(self):
        self.set(self.count, 1)

    def is_to_end(self):
        return self.memory[8 * self.count] != 0


def shards_of_keys(client):
    """Learned, not computed: an answer tells where a key's entries go."""
    return {key: client.shard_append(key, pack(None, "setup", 0, 0, 1, b""))["shard"] for key in KEYS}


def pack(log, worker, number, place, count, payload):
    return msgpack.packb([log, worker, number, place, count, zlib.crc32(payload), payload])


def unpack(entry):
    """What the entry says, its contents being right."""
    said = msgpack.unpackb(entry)
    check(zlib.crc32(said[6]) == said[5], "the contents of an entry: %r", said[:6])
    return said


class Sender:
    def __init__(self, client, worker, seed, shards):
        self.client, self.worker, self.shards = client, worker, shards
        self.rng = random.Random(seed)
        self.number = 0
        self.waiting = collections.deque()  # (msgid, method, parts: [log, count], number)
        self.outcome = {"worker": worker, "acknowledged": [], "truncated": {}, "checkpoints": [], "methods": {},
                        "refused": []}
        self.ends = {}

    def payload(self):
        size = self.rng.choice((0, 10, 100, 400, 3000))
        return self.rng.randbytes(size)

    def entries(self, log, count):
        return [pack(log, self.worker, self.number, i, count, self.payload()) for i in range(count)]

    def append(self):
        kind = self.rng.choice(("append", "append", "append_batch", "shard_append", "shard_append_batch",
                                "shard_append_batch_for_key"))
        stream, key = self.rng.choice(STREAMS), self.rng.choice(KEYS)
        count = self.rng.randrange(1, 12)
        parts = [[shard_name(self.shards[key]), count]]
        if kind == "append":
            parts = [[stream, 1]]
            params = {"stream": stream, "entry": self.entries(stream, 1)[0]}
        elif kind == "append_batch":
            parts = [[stream, count]]
            params = {"stream": stream, "entries": self.entries(stream, count)}
        elif kind == "shard_append":
            parts[0][1] = 1
            params = {"key": key, "value": self.entries(parts[0][0], 1)[0]}
        elif kind == "shard_append_batch_for_key":
            params = {"key": key, "values": self.entries(parts[0][0], count)}
        else:
            keys = [self.rng.choice(KEYS) for _ in range(count)]
            logs = [shard_name(self.shards[each]) for each in keys]
            totals, seen, pairs = collections.Counter(logs), collections.Counter(), []
            for each, log in zip(keys, logs):
                pairs.append([each, pack(log, self.worker, self.number, seen[log], totals[log], self.payload())])
                seen[log] += 1
            parts = [[log, total] for log, total in totals.items()]
            params = {"entries": pairs}
        if self.rng.random() < 0.1:
            params["sync"] = True
        return kind, params, parts

    def other(self):
        method = self.rng.choice(READS + ("create_checkpoint", "get", "iter", "iter"))
        stream = self.rng.choice(STREAMS)
        end = self.ends.get(stream, 0)
        params = {"stream": stream}
        if method == "get":
            params["id"] = self.rng.randrange(end + 1)
        elif method == "get_batch":
            params["ids"] = [self.rng.randrange(end + 1) for _ in range(5)]
        elif method in ("iter", "iter_shard"):
            if method == "iter_shard":
                params = {"shard": self.rng.choice(list(self.shards.values()))}
            if self.rng.random() < 0.5:
                params["start_id"] = self.rng.randrange(end + 1)
            params["max_entries"] = 20
            if self.rng.random() < 0.2:
                params["wait_ms"] = 5
        elif method == "truncate":
            params["safe_id"] = self.rng.randrange(end + 1) // 2
            before = self.outcome["truncated"].get(stream, 0)
            self.outcome["truncated"][stream] = max(before, params["safe_id"])
        elif method == "sync":
            params = self.rng.choice((params, {}))
        elif method == "create_checkpoint":
            params = {"id": b"%s/%d" % (self.worker.encode(), self.number)}
        elif method in ("load_latest_checkpoint", "list_checkpoints", "list_streams"):
            params = {}
        return method, params, []

    def send(self):
        method, params, parts = self.append() if self.rng.random() < 0.7 else self.other()
        self.waiting.append((self.client.send_params(method, params), method, parts, self.number, params))
        self.number += 1

    def took(self, method, parts, number, params, result):
        outcome = self.outcome
        outcome["methods"][method] = outcome["methods"].get(method, 0) + 1
        if method == "shard_append_batch":
            firsts, places = {}, collections.Counter()
            for (key, _), (shard, id) in zip(params["entries"], result["results"]):
                same(shard, self.shards[key], "the shard of a key")
                same(id, firsts.setdefault(shard, id) + places[shard], "the id of an entry of a part")
                places[shard] += 1
            firsts = {shard_name(shard): first for shard, first in firsts.items()}
            outcome["acknowledged"] += [[log, firsts[log], count, number] for log, count in parts]
        elif parts:
            first = result["id"] if "id" in result else result["first"]
            outcome["acknowledged"].append([parts[0][0], first, parts[0][1], number])
            self.ends[parts[0][0]] = max(self.ends.get(parts[0][0], 0), first + parts[0][1])
        elif method == "create_checkpoint":
            outcome["checkpoints"].append([params["id"].decode(), result["offsets"], result["timestamp"]])
        elif method in ("iter", "iter_shard", "get_batch", "get"):
            for entry in result.get("entries", [result.get("entry")]):
                log = params.get("stream") or shard_name(params["shard"])
                said = unpack(entry) if entry is not None else None
                check(said is None or said[0] in (log, None), "an entry of another log: %r", said and said[:5])

    def settle(self, answer):
        """`answer`: (error, result), or None: waits for it."""
        msgid, method, parts, number, params = self.waiting.popleft()
        if answer is None:
            try:
                answer = (None, self.client.wait(msgid))
            except ServerError as error:
                answer = ({"code": error.code, "message": error.message, **error.fields}, None)
        error, result = answer
        if error is None:
            self.took(method, parts, number, params, result)
        elif method not in READS or error["code"] not in READ_CODES:
            self.outcome["refused"].append([method, error["code"], error.get("errno"), error.get("outcome"), error["message"]])


def work(path, worker, seed, shards, window, progress, index, pace_s=0):
    """Until the connection breaks, or it is told to end (then every answer is waited for)."""
    with Client(path) as client:
        sender = Sender(client, worker, seed, shards)
        try:
            while not progress.is_to_end():
                sender.send()
                if len(sender.waiting) >= window:
                    sender.settle(None)
                    progress.set(index, len(sender.outcome["acknowledged"]))
                if pace_s:
                    time.sleep(pace_s)
            while sender.waiting:
                sender.settle(None)
            sender.outcome["ended"] = True
        except ConnectionLost:
            # The one that was waited for is off the queue: what it asked for may have been done.
            for msgid, *_ in list(sender.waiting):
                answer = client.take(msgid)
                if answer is not None:
                    sender.settle(answer)
                else:
                    sender.waiting.popleft()
            sender.outcome["ended"] = False
    progress.set(index, len(sender.outcome["acknowledged"]))
    sender.outcome["sent"] = sender.number
    return sender.outcome


class Oracle:
    def __init__(self):
        self.sent = {"setup": 1}
        self.owed = {}  # log: {first id: (count, worker, number)}
        self.truncated = {}
        self.checkpoints = {}  # id: (offsets, timestamp)
        self.methods = collections.Counter()
        self.seen = {}  # log: {id: CRC of the entry}
        self.acknowledged = 0

    def took(self, outcome, may_refuse=()):
        self.sent[outcome["worker"]] = outcome["sent"]
        for log, first, count, number in outcome["acknowledged"]:
            owed = self.owed.setdefault(log, {})
            check(first not in owed, "%s: id %d was given twice", log, first)
            owed[first] = (count, outcome["worker"], number)
            self.acknowledged += 1
        for stream, safe_id in outcome["truncated"].items():
            self.truncated[stream] = max(self.truncated.get(stream, 0), safe_id)
        for id, offsets, timestamp in outcome["checkpoints"]:
            self.checkpoints[id] = (offsets, timestamp)
        self.methods.update(outcome["methods"])
        for method, code, *more in outcome["refused"]:
            check(code in may_refuse, "%s was refused: %s %r", method, code, more)

    def _log(self, client, log):
        """Reads all of it; returns its end."""
        first = client.stream_info(log)["first"]
        check(first <= self.truncated.get(log, 0), "%s begins at %d, and was cut at %d", log, first, self.truncated.get(log, 0))
        seen, found, part, expected, done = self.seen.setdefault(log, {}), {}, None, first, set()
        for id, entry in client.scan(log, first, max_bytes=4 * 1024 * 1024):
            same(id, expected, log + ": ids without gaps")
            expected += 1
            checksum = zlib.crc32(entry)
            check(seen.setdefault(id, checksum) == checksum, "%s: entry %d is another one than before", log, id)
            said_log, worker, number, place, count, *_ = unpack(entry)
            check(said_log in (log, None), "%s: entry %d is of %s", log, id, said_log)
            check(number < self.sent.get(worker, 0), "%s: entry %d was never sent: %s %d", log, id, worker, number)
            if part is None:
                # Truncation takes whole segments, and no part is in two.
                check(place == 0, "%s: entry %d is in the middle of its part", log, id)
                check((worker, number) not in done or worker == "setup", "%s: entry %d is there twice", log, id)
                part = [worker, number, count, 0, id]
            same([worker, number, count, place], part[:4], "%s: %d: its part" % (log, id))
            part[3] += 1
            if part[3] == count:
                found[part[4]] = (count, worker, number)
                done.add((worker, number))
                part = None
        check(part is None, "%s: the last part is torn: %r", log, part)
        for start, owed in self.owed.get(log, {}).items():
            check(start < first or found.get(start) == owed, "%s: acknowledged under %d: %r, and %r is there", log, start, owed,
                  found.get(start))
        # What was seen once is there for good.
        check(not seen or max(seen) < expected, "%s: entry %d was there, and it ends at %d", log, max(seen, default=0), expected)
        return expected

    def verify(self, client):
        names = set(client.streams())
        ends = {}
        for log in sorted(set(self.owed) | names):
            check(log in names, "%s: the stream is gone, with acknowledged entries", log)
            ends[log] = self._log(client, log)
        listed = client.list_checkpoints()
        timestamps = [timestamp for _, timestamp in listed]
        same(timestamps, sorted(set(timestamps)), "timestamps rise")
        kept = {id.decode(): timestamp for id, timestamp in listed}
        newest = None
        for id, (offsets, timestamp) in self.checkpoints.items():
            same(kept.get(id), timestamp, "checkpoint %s" % id)
            if newest is None or timestamp > newest[1]:
                newest = (id, timestamp, offsets)
        if newest:
            loaded = client.load_checkpoint(newest[0].encode())
            same((loaded["offsets"], loaded["timestamp"]), (newest[2], newest[1]), "the newest checkpoint")
            for shard, offset in enumerate(newest[2]):
                check(offset <= ends.get(shard_name(shard), 0), "shard %d ends before its checkpoint", shard)
        return sum(ends.values())


def until(condition, what, deadline_s=60):
    """Polls for what another process does in its own time."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise Failed("did not come in %d s: %s" % (deadline_s, what))
        time.sleep(0.002)
