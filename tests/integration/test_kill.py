#!/usr/bin/python3
"""SIGKILL in the middle of concurrent appends, again and again on the same directory.

test_kill.py IRONWALD [CASE...]

Every entry says what it is: stream, writer, round, number, place in its batch, checksum. After each kill: every
acknowledged entry is there under the id that was told, ids have no gaps, batches are whole, contents are right, what
was there before is unchanged, and nothing is there twice or was never sent.

IRONWALD_KILL_ROUNDS (50) is the number of kills of all cases together, IRONWALD_KILL_SEED picks what is random.
"""

import mmap
import os
import random
import struct
import time
import zlib

import msgpack

from harness import Daemon, Failed, Worker, cases_of, check, directory, main, same
from ironwal_client import Client, ConnectionLost, ServerError

ROUNDS = int(os.environ.get("IRONWALD_KILL_ROUNDS", "50"))
SEED = int(os.environ.get("IRONWALD_KILL_SEED", "20261122"))
MODES = ("strict", "batch_only", "async")
SETTINGS = (
    (),
    ("--max-segment-size=4K", "--max-open-segments=4"),
    ("--max-segment-size=64K", "--compression=lz4", "--min-compression-size=64"),
    ("--max-entries-per-segment=37", "--read-strategy=mmap"),
    ("--max-segment-size=300K", "--write-buffer-size=4K", "--block-cache-size=1M", "--async-sync-interval=5ms"),
)


class Progress:
    """Numbers that worker processes raise and the parent reads: one for each, so that none is lost."""

    def __init__(self, count):
        self.memory = mmap.mmap(-1, 8 * count)
        self.count = count

    def set(self, index, value):
        struct.pack_into("<Q", self.memory, 8 * index, value)

    def total(self):
        return sum(struct.unpack("<%dQ" % self.count, self.memory[: 8 * self.count]))


def make_entry(rng, stream, writer, number, index, count):
    kind = rng.random()
    size = rng.randrange(200) if kind < 0.9 else rng.randrange(5000) if kind < 0.99 else rng.randrange(100000)
    if kind < 0.02:
        size = 0
    payload = bytes([rng.randrange(256)]) * size if rng.random() < 0.5 else rng.randbytes(size)
    return msgpack.packb([stream, writer, number, index, count, zlib.crc32(payload), payload])


def write(path, streams, writer, seed, window, batch_most, welcome, progress, index):
    """Pipelined appends to random streams until the connection breaks; returns what was acknowledged and sent."""
    rng = random.Random(seed)
    acknowledged, waiting, number = [], [], 0

    def settle(request, answer):
        error, result = answer
        stream, number, count = request
        if error is not None:
            raise Failed("an append failed: %r" % error)
        first = result["id"] if "id" in result else result["first"]
        if "end" in result and result["end"] - result["first"] != count:
            raise Failed("a batch of %d was answered with %r" % (count, result))
        acknowledged.append((stream, first, count, number))

    with Client(path) as client:
        welcome.set(index, 1)
        try:
            while True:
                stream = rng.choice(streams)
                count = rng.randrange(1, batch_most) if rng.random() < 0.4 else 0
                entries = [make_entry(rng, stream, writer, number, i, max(count, 1)) for i in range(max(count, 1))]
                if count == 0:
                    params = {"stream": stream, "entry": entries[0]}
                else:
                    params = {"stream": stream, "entries": entries}
                if rng.random() < 0.05:
                    params["sync"] = True
                msgid = client.send_params("append_batch" if count else "append", params)
                waiting.append(((stream, number, max(count, 1)), msgid))
                number += 1
                if len(waiting) >= window:
                    request, msgid = waiting[0]
                    result = client.wait(msgid)
                    waiting.pop(0)
                    settle(request, (None, result))
                    progress.set(index, len(acknowledged))
        except ConnectionLost:
            for request, msgid in waiting:
                answer = client.take(msgid)
                if answer is not None:
                    settle(request, answer)
    return {"acknowledged": acknowledged, "sent": number}


class Model:
    """What was seen of each stream, to compare the next round with."""

    def __init__(self):
        self.seen = {}  # stream: checksums of its entries, by id
        self.sent = {}  # writer: how many requests it sent
        self.owed = {}  # stream: {first id: (count, writer, number)} since it was looked at last
        self.done = set()  # (writer, number, stream) that were found, whole

    def took(self, writer, outcome):
        self.sent[writer] = outcome["sent"]
        for stream, first, count, number in outcome["acknowledged"]:
            if first in self.owed.setdefault(stream, {}):
                raise Failed("%s: id %d was given twice" % (stream, first))
            self.owed[stream][first] = (count, writer, number)

    def verify(self, client, everything):
        """Reads all streams, also those of which nothing was acknowledged, from where they were read to, or from 0."""
        names = list(client.streams())
        for name in self.owed:
            check(name in names, "%s: the stream is gone, with acknowledged entries", name)
        found = 0
        for name in names:
            seen = self.seen.setdefault(name, [])
            start = 0 if everything else len(seen)
            owed = self.owed.pop(name, {})
            batch = None
            expected = start
            for id, entry in client.scan(name, start, max_bytes=8 * 1024 * 1024):
                same(id, expected, name + ": ids without gaps")
                expected += 1
                found += 1
                checksum = zlib.crc32(entry)
                if id < len(seen):
                    check(seen[id] == checksum, "%s: entry %d is another one than before", name, id)
                    continue
                seen.append(checksum)
                stream, writer, number, index, count, payload_checksum, payload = msgpack.unpackb(entry)
                same(stream, name, "entry %d is of this stream" % id)
                check(zlib.crc32(payload) == payload_checksum, "%s: the contents of entry %d", name, id)
                check(number < self.sent.get(writer, 0), "%s: entry %d was never sent: %s %d", name, id, writer, number)
                if batch is None:
                    check(index == 0, "%s: entry %d is in the middle of a batch", name, id)
                    check((writer, number, name) not in self.done, "%s: entry %d is there twice", name, id)
                    batch = [writer, number, count, 0, id]
                same([writer, number, index, count], [batch[0], batch[1], batch[3], batch[2]], "%s: %d: its batch" % (name, id))
                batch[3] += 1
                if batch[3] == count:
                    self.done.add((writer, number, name))
                    promise = owed.pop(batch[4], None)
                    if promise is not None:
                        same(promise, (count, writer, number), "%s: what was acknowledged under %d" % (name, batch[4]))
                    batch = None
            check(batch is None, "%s: the last batch is torn: %r", name, batch)
            check(expected >= len(seen), "%s: %d entries were there, %d are", name, len(seen), expected)
            check(not owed, "%s: acknowledged and not there: %s (it ends at %d)", name, sorted(owed.items())[:5], expected)
        return found


def kill_rounds(rounds, stream_count, writers_count, window, batch_most, seed, target, stop_at):
    """`stop_at`: kills while starting, too, in one round of so many."""
    rng = random.Random(seed)
    streams = ["stream %d" % i for i in range(stream_count)]
    model = Model()
    journal_groups = journal_ops = torn = acknowledged = killed_at_start = 0
    with directory() as place:
        for round_number in range(rounds + 1):
            mode = MODES[round_number % 3]
            options = ("--sync-mode=" + mode, "--log-level=warn") + SETTINGS[round_number % len(SETTINGS)]
            if round_number > 0 and round_number % stop_at == 0:  # in the middle of recovery, or a little later
                with Daemon(place, *options, ready=False) as daemon:
                    until = time.monotonic() + rng.random() * 0.03
                    while time.monotonic() < until:
                        pass
                    daemon.kill()
                    killed_at_start += 1
            with Daemon(place, *options, tcp=False) as daemon:
                with daemon.client(True) as client:
                    recovery = client.stats()["recovery"]
                    journal_ops += recovery["journal_ops"]
                    torn += recovery["torn_tails_cut"]
                    same(recovery["rot_found"], 0, "no rot in round %d" % round_number)
                    last = round_number == rounds
                    try:
                        model.verify(client, last or round_number % 10 == 0)
                    except Failed as error:
                        raise Failed("round %d, %s: %s" % (round_number, " ".join(options), error))
                    if last:
                        entries = sum(len(seen) for seen in model.seen.values())
                        for name in streams[:3]:  # and it takes appends
                            client.append(name, b"")
                        daemon.stopped_well(client)
                        break
                welcome, progress = Progress(writers_count), Progress(writers_count)
                workers = []
                for i in range(writers_count):
                    name = "%d.%d" % (round_number, i)
                    arguments = (daemon.unix, streams, name, rng.random(), window, batch_most, welcome, progress, i)
                    workers.append((name, Worker(write, *arguments)))
                goal = rng.randrange(target // 10, target)
                until = time.monotonic() + 60
                # Who is still connecting would take the kill for a refusal.
                while progress.total() < goal or welcome.total() < writers_count:
                    check(daemon.process.poll() is None, "the daemon ended: %s", daemon.stderr())
                    check(time.monotonic() < until, "no progress: %d of %d", progress.total(), goal)
                    time.sleep(0.0005)
                if round_number % 5 == 0:
                    with daemon.client(True) as client:
                        journal_groups += sum(writer["journal_groups"] for writer in client.stats()["writers"])
                daemon.kill()
                for name, worker in workers:
                    outcome = worker.result()
                    acknowledged += len(outcome["acknowledged"])
                    model.took(name, outcome)
    said = "%d kills, %d more while starting; %d appends acknowledged, %d entries; " % (
        rounds, killed_at_start, acknowledged, entries)
    said += "journal operations applied %d, torn tails cut %d" % (journal_ops, torn)
    return said, journal_groups, journal_ops


def test_kill_few_streams():
    said, _, _ = kill_rounds((ROUNDS * 6 + 9) // 10, 3, 4, 24, 40, SEED, 1000, 4)
    return said


def test_kill_500_streams():
    said, journal_groups, journal_ops = kill_rounds((ROUNDS * 3 + 9) // 10, 500, 3, 256, 6, SEED + 1, 4000, 4)
    check(journal_groups > 0, "the journal was in play")
    check(journal_ops > 0 or ROUNDS < 10, "and applied after a kill")
    return said


def write_once(path, count, seed, progress):
    """Appends 0 to count - 1, each exactly once, whatever happens to the daemon: the recipe of PROTOCOL.md."""
    rng = random.Random(seed)
    client, attempts, repeated, next_id, number = None, 0, 0, 0, 0
    until = time.monotonic() + 100
    while number < count:
        check(time.monotonic() < until, "no progress at %d", number)
        size = 1 + rng.randrange(3)  # entries in this append
        entries = [b"%d/%d" % (number, i) + b"." * rng.randrange(300) for i in range(size)]
        first_try = True
        while True:
            try:
                if client is None:
                    client = Client(path)
                if size == 1:
                    client.append("once", entries[0], expected_id=next_id)
                else:
                    client.append_batch("once", entries, expected_id=next_id)
                break
            except ServerError as error:
                check(error.code == "Conflict" and not first_try, "%s", error)
                check(error.fields["actual"] == next_id + size, "%r at %d", error.fields, next_id)
                repeated += 1
                break
            except (ConnectionLost, OSError):
                if client is not None:
                    client.close()
                    attempts += 1
                    first_try = False
                    client = None
                time.sleep(0.001)  # until it listens again
        next_id += size
        number += 1
        progress.set(0, number)
    return {"end": next_id, "lost": attempts, "repeated": repeated}


def test_kill_exactly_once():
    rounds = max(1, ROUNDS // 10)
    rng = random.Random(SEED + 2)
    with directory() as place:
        progress = Progress(1)
        with Worker(write_once, os.path.join(place, "socket"), 400 * rounds, SEED, progress) as worker:
            for i in range(rounds + 1):
                with Daemon(place, "--sync-mode=" + MODES[i % 3], "--max-segment-size=8K", "--log-level=warn") as daemon:
                    if i == rounds:
                        outcome = worker.result()
                        with daemon.client() as client:
                            entries = [entry for _, entry in client.scan("once")]
                            same(len(entries), outcome["end"], "as many as were sent")
                            order = [tuple(map(int, entry.rstrip(b".").split(b"/"))) for entry in entries]
                            check(order == sorted(set(order)), "each once, in order")
                            same(order[-1][0], 400 * rounds - 1, "to the last")
                            daemon.stopped_well(client)
                        break
                    goal = 400 * i + rng.randrange(350)
                    until = time.monotonic() + 60
                    while progress.total() <= goal:
                        check(worker.running(), "the writer ended: %s", daemon.stderr())
                        check(time.monotonic() < until, "no progress")
                        time.sleep(0.0002)
                    daemon.kill()
    return "%d kills, %d connections lost, %d appends found to have been written" % (
        rounds, outcome["lost"], outcome["repeated"])


if __name__ == "__main__":
    main(cases_of(globals()))
