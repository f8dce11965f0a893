#!/usr/bin/python3
"""Random appends, reads, truncations and restarts, compared with a model in memory, under many settings.

test_property.py IRONWALD [CASE...]

Sizes go from 0 bytes to the limit of an entry. IRONWALD_PROPERTY_SEED picks what is random, IRONWALD_PROPERTY_STEPS
(150) is the number of steps under each setting.
"""

import os
import random

from harness import Daemon, Failed, cases_of, check, directory, error_of, main, same
from ironwal_client import ServerError

SEED = int(os.environ.get("IRONWALD_PROPERTY_SEED", "1"))
STEPS = int(os.environ.get("IRONWALD_PROPERTY_STEPS", "150"))
WEIGHTS = {
    "append": 6, "batch": 4, "pipeline": 2, "get": 4, "get_batch": 3, "iter": 5, "truncate": 1, "info": 1, "conflict": 1
}
NAMES = ("s", "a/b", "🦊", "x" * 255)


class Model:
    """One stream: its entries, and how far they may have been truncated away."""

    def __init__(self):
        self.entries = []
        self.first = 0


class Run:
    def __init__(self, seed, message_bytes):
        self.rng = random.Random(seed)
        self.entry_most = message_bytes - 1024
        self.message_bytes = message_bytes
        self.streams = {}

    def entry(self, most):
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            size = 0
        elif kind < 0.7:
            size = rng.randrange(200)
        elif kind < 0.9:
            size = rng.randrange(5000)
        elif kind < 0.97:
            size = rng.choice((32767, 32768, 32769, 4095, 4096, 65536, 511, 512, 32764, 32760))
        else:
            size = rng.choice((self.entry_most, self.entry_most - 1, rng.randrange(self.entry_most)))
        size = min(size, most)
        if rng.random() < 0.5:
            return rng.randbytes(size)
        word = rng.randbytes(rng.randrange(1, 20))
        return (word * (size // len(word) + 1))[:size]

    def batch(self):
        entries, left = [], self.entry_most - 2048
        for _ in range(self.rng.choice((0, 1, 2, 10, 100, 1500))):
            entry = self.entry(left)
            left -= len(entry) + 5
            if left < 0:
                break
            entries.append(entry)
        return entries

    def step(self, client):
        rng = self.rng
        name = rng.choice(NAMES)
        model = self.streams.get(name)
        what = rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
        if what in ("append", "batch", "pipeline"):
            model = model or Model()
            next_id = len(model.entries)
            expected_id = next_id if rng.random() < 0.3 else None
            if what == "append":
                entry = self.entry(self.entry_most)
                same(client.append(name, entry, expected_id)["id"], next_id, "append: the id")
                model.entries.append(entry)
            elif what == "batch":
                entries = self.batch()
                result = client.append_batch(name, entries, expected_id)
                same((result["first"], result["end"]), (next_id, next_id + len(entries)), "append_batch: the ids")
                model.entries += entries
            else:
                entries = [self.entry(3000) for _ in range(rng.randrange(1, 40))]
                for number in [client.send("append", stream=name, entry=entry) for entry in entries]:
                    same(client.wait(number)["id"], len(model.entries), "pipelined append: the id")
                    model.entries.append(entries[len(model.entries) - next_id])
            if model.entries:
                self.streams[name] = model
        elif model is None:
            error_of("StreamNotFound", client.stream_info, name)
        elif what == "get":
            id = rng.randrange(len(model.entries) + 3)
            same(client.get(name, id), self.expected(model, id), "get %d" % id)
        elif what == "get_batch":
            ids = [rng.randrange(len(model.entries) + 2) for _ in range(rng.choice((1, 3, 30)))]
            if rng.random() < 0.5:
                start = rng.randrange(len(model.entries))
                ids += range(start, start + rng.randrange(50))
            expected = [self.expected(model, id) for id in ids]
            size = sum(len(entry) for entry in expected if entry is not None)
            if size > self.message_bytes:
                error_of("TooLarge", client.get_batch, name, ids)
            elif size + 6 * len(ids) + 100 <= self.message_bytes:
                same(client.get_batch(name, ids), expected, "get_batch")
        elif what == "iter":
            start = rng.randrange(len(model.entries) + 2)
            most = rng.choice((None, 1, 7, 1000))
            most_bytes = rng.choice((None, 0, 100, 10000, 2**40))
            if start < model.first:
                same(error_of("Truncated", client.iter, name, start)["first_id"], model.first, "Truncated")
                return
            part = client.iter(name, start, most, most_bytes)
            entries = model.entries[start : part["next"]]
            same((part["first"], part["end"]), (start, len(model.entries)), "iter: first and end")
            same(part["entries"], entries, "iter from %d" % start)
            check(bool(entries) == (start < len(model.entries)), "iter: at least one, if there is one")
            check(most is None or len(entries) <= most, "iter: max_entries")
            sizes = [len(entry) for entry in entries]
            check(len(entries) <= 1 or sum(sizes) <= (1048576 if most_bytes is None else most_bytes), "iter: max_bytes")
        elif what == "truncate":
            safe_id = rng.randrange(len(model.entries) + 2)
            before = client.stream_info(name)
            deleted = client.truncate(name, safe_id)
            after = client.stream_info(name)
            check(model.first <= after["first"] <= max(safe_id, model.first), "truncate %d: %r", safe_id, after)
            same(after["segments"], before["segments"] - deleted, "truncate: segments")
            check(after["first"] <= client.current_segment_start_id(name), "truncate: the active segment stays")
            model.first = after["first"]
        elif what == "info":
            info = client.stream_info(name)
            same((info["first"], info["end"]), (model.first, len(model.entries)), "stream_info")
            check(info["durable_end"] <= info["end"], "durable_end: %r", info)
        else:
            wrong = len(model.entries) + rng.choice((-1, 1, 5))
            same(error_of("Conflict", client.append, name, b"no", wrong)["actual"], len(model.entries), "Conflict")

    @staticmethod
    def expected(model, id):
        return model.entries[id] if model.first <= id < len(model.entries) else None

    def whole(self, client):
        """Everything, from the oldest entry that is kept."""
        same(list(client.streams()), sorted(self.streams, key=str.encode), "list_streams")
        for name, model in self.streams.items():
            info = client.stream_info(name)
            same(info["end"], len(model.entries), "the end")
            # Files whose deletion the end of the process overtook may be there again.
            check(info["first"] <= model.first, "the oldest: %r, %d", info, model.first)
            model.first = info["first"]
            same(list(client.scan(name)), list(enumerate(model.entries))[model.first :], "all of " + name[:5])


def runs(settings, message_bytes=128 * 1024, steps=STEPS):
    """The model outlives restarts, one of them after SIGKILL and one with another read strategy."""
    total = 0
    for i, options in enumerate(settings):
        seed = SEED * 1000 + i
        run = Run(seed, message_bytes)
        options = ("--max-message-bytes=%d" % message_bytes, "--log-level=warn") + options
        try:
            with directory() as place:
                for life in range(3):
                    other = ("--read-strategy=mmap",) if life == 1 else ()
                    with Daemon(place, *options, *other) as daemon, daemon.client(life == 2) as client:
                        run.whole(client)
                        for _ in range(steps // 3):
                            run.step(client)
                            total += 1
                        run.whole(client)
                        if life == 0:
                            daemon.kill()
                        else:
                            daemon.stopped_well(client)
        except (Failed, ServerError) as error:
            raise Failed("IRONWALD_PROPERTY_SEED=%d, %s: %s" % (SEED, " ".join(options), error))
    return "%d steps under %d settings" % (total, len(settings))


def settings_of(*sizes):
    for size in sizes:
        for compression in ((), ("--compression=lz4", "--min-compression-size=0")):
            for strategy in ((), ("--read-strategy=mmap",)):
                yield size + compression + strategy


def test_default_segments():
    return runs(list(settings_of(())))


def test_tiny_segments():
    return runs(list(settings_of(("--max-segment-size=500", "--max-open-segments=1", "--sync-mode=async"))))


def test_few_entries_a_segment():
    return runs(list(settings_of(("--max-entries-per-segment=3", "--read-buffer-size=1", "--sync-mode=batch_only"))))


def test_caches_and_buffers():
    return runs(
        [
            ("--block-cache-size=1M", "--max-segment-size=100K", "--sync-mode=async"),
            ("--block-cache-size=64K", "--compression=lz4", "--max-segment-size=100K", "--sync-mode=async"),
            ("--write-buffer-size=1", "--read-buffer-size=4K", "--sync-mode=async"),
            ("--write-buffer-size=16M", "--read-buffer-size=64M", "--shard-count=1", "--sync-mode=batch_only"),
        ]
    )


def test_the_largest_entries():
    """Up to 16 MiB less 1 KiB."""
    return runs(
        [("--sync-mode=async",), ("--compression=lz4", "--read-strategy=mmap", "--sync-mode=async")],
        message_bytes=16 * 1024 * 1024,
        steps=STEPS // 3,
    )


if __name__ == "__main__":
    main(cases_of(globals()))
