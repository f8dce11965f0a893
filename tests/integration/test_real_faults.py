#!/usr/bin/python3
"""The daemon is killed, stopped for a while, and given a wall clock that jumps, under a load of all methods at once.

test_real_faults.py IRONWALD [CASE...]

What must hold is mixed_load.py's: acknowledged is there byte for byte, ids have no gaps, parts of requests are whole,
nothing is there that was not sent, checkpoints are there with rising timestamps.

IRONWALD_KILL_ROUNDS (12 here) is the number of kills, IRONWALD_KILL_SEED picks what is random.
"""

import contextlib
import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import time

from harness import Daemon, Worker, cases_of, check, directory, main, same
from ironwal_client import Client, ConnectionLost, request
from mixed_load import Oracle, Progress, STREAMS, pack, shards_of_keys, unpack, until, work

ROUNDS = int(os.environ.get("IRONWALD_KILL_ROUNDS", "12"))
SEED = int(os.environ.get("IRONWALD_KILL_SEED", "20261122"))
MODES = ("strict", "batch_only", "async")
SETTINGS = (
    ("--max-segment-size=4K", "--max-open-segments=4"),
    ("--max-segment-size=64K", "--compression=lz4", "--min-compression-size=64", "--read-strategy=mmap"),
    ("--max-entries-per-segment=37", "--async-sync-interval=5ms", "--block-cache-size=none"),
)
DAY_NS = 24 * 3600 * 10**9


class Load:
    """Workers on a daemon, until they are told to end or it dies."""

    def __init__(self, oracle, shards, path, name, count=3, seed=SEED, window=32, pace_s=0):
        self.oracle, self.progress = oracle, Progress(count)
        self.workers = [
            Worker(work, path, "%s.%d" % (name, i), seed * 1000 + i, shards, window, self.progress, i, pace_s)
            for i in range(count)
        ]

    def runs(self, more, what):
        """Every worker has had so many more appends acknowledged."""
        start = self.progress.values()
        until(lambda: all(now >= then + more for now, then in zip(self.progress.values(), start)) or
              not all(worker.running() for worker in self.workers), what)
        check(all(worker.running() for worker in self.workers), "a worker ended: %s", what)

    def end(self, told=True):
        if told:
            self.progress.tell_to_end()
        for worker in self.workers:
            outcome = worker.result()
            same(outcome["ended"], told, "it ended because it was told to")
            self.oracle.took(outcome)

    def __enter__(self):
        return self

    def __exit__(self, *how):
        for worker in self.workers:
            worker.__exit__(*how)


# ---- killed ----------------------------------------------------------------------------------------------------------


def test_kill_under_mixed_load():
    rng = random.Random(SEED)
    oracle, shards, entries = Oracle(), None, 0
    with directory() as place:
        for number in range(ROUNDS + 1):
            options = ("--sync-mode=" + MODES[number % 3], "--log-level=warn") + SETTINGS[number // 3 % len(SETTINGS)]
            with Daemon(place, *options, tcp=False) as daemon:
                with daemon.client(True) as client:
                    if shards is None:
                        shards = shards_of_keys(client)
                    if number % 4 == 0 or number == ROUNDS:
                        entries = oracle.verify(client)
                    if number == ROUNDS:
                        daemon.stopped_well(client)
                        break
                with Load(oracle, shards, daemon.unix, "round %d" % number, seed=SEED + number) as load:
                    load.runs(rng.randrange(20, 120), "appends in round %d" % number)
                    daemon.kill()
                    load.end(told=False)
    for method in ("append", "append_batch", "shard_append", "shard_append_batch", "shard_append_batch_for_key", "truncate",
                   "sync", "create_checkpoint", "iter", "iter_shard", "get", "get_batch", "load_latest_checkpoint"):
        check(oracle.methods[method] > 0 or ROUNDS < 12, "%s was never answered", method)
    return "%d kills, %d appends acknowledged, %d entries, %d checkpoints" % (
        ROUNDS, oracle.acknowledged, entries, len(oracle.checkpoints))


# ---- stopped ---------------------------------------------------------------------------------------------------------


def state_of(pid):
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state_of(pid) == "T", "the process stops")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_daemon_stopped_under_load():
    """SIGSTOP and SIGCONT, some times; nothing is lost, everything is answered."""
    oracle = Oracle()
    with directory() as place, Daemon(place, "--max-segment-size=64K", tcp=False) as daemon:
        with daemon.client() as client:
            shards = shards_of_keys(client)
        with Load(oracle, shards, daemon.unix, "stopped") as load:
            for _ in range(5):
                load.runs(10, "appends before it is stopped")
                with stopped(daemon.process.pid):
                    before = load.progress.total()
                    time.sleep(0.2)  # what the fault is about: time that goes by
                    # Answers that were in the sockets still arrive: not more than what was in flight.
                    check(load.progress.total() <= before + 3 * 32, "a stopped daemon acknowledges")
                load.runs(10, "appends after it goes on")
            load.end()
        with daemon.client() as client:
            entries = oracle.verify(client)
            daemon.stopped_well(client)
        with Daemon(place, tcp=False) as again, again.client() as client:
            same(oracle.verify(client), entries, "as many entries as before the restart")
    return "%d appends acknowledged" % oracle.acknowledged


def test_daemon_stopped_longer_than_its_timeouts():
    """It was the daemon that did nothing: no client that waits in good order is closed for it."""
    size, count = 100000, 200
    with directory() as place, Daemon(place, "--write-timeout=3s", tcp=False) as daemon:
        with daemon.client() as writer:
            for msgid in [writer.send("append", stream="s", entry=b"%06d" % i + b"." * size) for i in range(count)]:
                writer.wait(msgid)
        with daemon.client() as reader, daemon.client() as sender:
            asked = [reader.send("iter", stream="s", start_id=i, max_bytes=size * 20) for i in range(0, count, 20)]
            reader.flush()
            half = request(7, "append", {"stream": "s", "entry": b"x" * size})
            before = received_bytes(daemon)
            sender.socket.setblocking(True)
            sender.socket.sendall(half[: size // 2])
            until(lambda: received_bytes(daemon) > before + size // 2, "the half of it has arrived")
            until(lambda: select.select([reader.socket], [], [], 0)[0], "answers are on their way")
            time.sleep(0.6)  # some ticks of the daemon's, so that both are what a timeout would be about
            with stopped(daemon.process.pid):
                time.sleep(4.5)  # longer than the timeouts
            for first, msgid in zip(range(0, count, 20), asked):
                same(reader.wait(msgid)["first"], first, "an answer that was pending")
            sender.socket.sendall(half[size // 2 :])
            sender.socket.setblocking(False)
            same(sender.wait(sender.expect(7))["id"], count, "an append that was half sent")


def received_bytes(daemon):
    with daemon.client() as client:
        return client.stats()["connections"]["received_bytes"]


def test_client_stopped_with_answers_pending():
    """It takes nothing: others go on, memory is bounded, write_timeout closes it."""
    count, size = 200, 200000
    with directory() as place, Daemon(place, "--write-timeout=1s", "--max-inflight-bytes=4M", tcp=False) as daemon:
        with daemon.client() as client:
            for i in range(count):
                client.append("s", b"." * size)
            client.append("other", b"")
            before = daemon.descriptors_count()
            with Worker(ask_much, daemon.unix, count) as slow:
                sent = client.stats()["connections"]["sent_bytes"] + 2 * 10**7
                until(lambda: client.stats()["connections"]["sent_bytes"] > sent, "the other client takes its answers")
                with stopped(slow.pid):
                    appended = 0
                    while is_open(client, appended):
                        client.append("other", b"%d" % appended)
                        appended += 1
                        bound = 64 * 1024 * 1024 * Daemon.memory_factor() + 64 * 1024 * 1024
                        check(daemon.rss_bytes() < bound, "%d bytes", daemon.rss_bytes())
                check(appended > 10, "others' appends go on: %d", appended)
                same(slow.result(), "closed", "what the client saw")
            check(re.search("did not take its answers within write_timeout", daemon.stderr()), "it says why")
            until(lambda: daemon.descriptors_count() <= before, "its descriptor is given back")
            daemon.stopped_well(client)
    return "%d appends of another meanwhile" % appended


def is_open(client, turns):
    check(turns < 20000, "a client that is stopped is not closed")
    return client.stats()["connections"]["current"] > 1


def ask_much(path, count):
    client = Client(path, 100)
    while True:  # until the answers do not come any more
        asked = [client.send("iter", stream="s", start_id=i, max_bytes=10**7) for i in range(0, count, 10)]
        try:
            for msgid in asked:
                client.wait(msgid)
        except ConnectionLost:
            return "closed"


def test_client_stopped_while_sending():
    """Half of a frame is there, and the rest does not come."""
    with directory() as place, Daemon(place, "--write-timeout=1s", tcp=False) as daemon:
        with daemon.client() as client:
            client.append("other", b"")
            before = daemon.descriptors_count()
            with Worker(send_slowly, daemon.unix) as slow:
                until(lambda: client.stats()["connections"]["received_bytes"] > 200000, "it is in the middle of its frame")
                with stopped(slow.pid):
                    appended = 0
                    while is_open(client, appended):
                        client.append("other", b"%d" % appended)
                        appended += 1
                check(appended > 10, "others' appends go on: %d", appended)
                same(slow.result(), "closed", "what the client saw")
            until(lambda: daemon.descriptors_count() <= before, "its descriptor is given back")
            check("s" not in client.streams(), "a half of a request is not executed")
            daemon.stopped_well(client)


def send_slowly(path):
    """A frame of 8 MiB, bit by bit, so that a stop is sure to come in the middle."""
    client = Client(path, 100)
    client.socket.setblocking(True)
    data = request(1, "append", {"stream": "s", "entry": bytes(8 * 1024 * 1024)})
    try:
        for at in range(0, len(data), 4096):
            client.socket.sendall(data[at : at + 4096])
            time.sleep(0.01)
    except OSError:
        return "closed"
    return "sent"


# ---- the clock -------------------------------------------------------------------------------------------------------


class WallClock:
    """A daemon's wall clock that jumps, by a library that is loaded into it."""

    def __init__(self, place):
        self.offset = os.path.join(place, "offset")
        library = os.path.join(place, "wall_clock_shim.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wall_clock_shim.c")
        subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": library,
            "WALL_CLOCK_SHIM": self.offset,
            # A sanitizer's library wants to be the first one, and does not need to be for this.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
        }

    def jump(self, offset_ns):
        with open(self.offset, "r+b" if os.path.exists(self.offset) else "wb") as file:
            file.write(struct.pack("<q", offset_ns))

    @contextlib.contextmanager
    def of_children(self):
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def start(place, clock, *options):
    with clock.of_children():
        return Daemon(place, *options, tcp=False)


def test_wall_clock_jumps():
    """A day back, a year ahead, under load; a restart with the clock back: only timestamps look at it, and they rise."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        return "skipped: there is no C compiler"
    oracle = Oracle()
    with directory() as place:
        clock = WallClock(place)
        with start(place, clock, "--max-segment-size=16K", "--async-sync-interval=20ms", "--sync-mode=async") as daemon:
            with daemon.client() as client:
                shards = shards_of_keys(client)
                now = client.create_checkpoint(b"now")["timestamp"]
                clock.jump(365 * DAY_NS)
                ahead = client.create_checkpoint(b"ahead")["timestamp"]
                check(ahead > now + 364 * DAY_NS, "the daemon's clock is ours: %d, then %d", now, ahead)
                clock.jump(-DAY_NS)
                same(client.create_checkpoint(b"back")["timestamp"], ahead + 1, "a timestamp after a jump back")
            with Load(oracle, shards, daemon.unix, "jumps") as load:
                for jump in (0, -DAY_NS, 365 * DAY_NS, 0, -DAY_NS):
                    clock.jump(jump)
                    load.runs(30, "appends after a jump to %d" % jump)
                load.end()
            with daemon.client() as client:
                # What waits for time waits for the right one.
                begin = time.monotonic()
                client.iter("stream 0", client.stream_info("stream 0")["end"], wait_ms=200)
                check(0.15 < time.monotonic() - begin < 60, "an iter that waits: %.3f s", time.monotonic() - begin)
                name = STREAMS[0]
                client.append(name, pack(None, "setup", 0, 0, 1, b""))
                until(lambda: client.stream_info(name)["durable_end"] == client.stream_info(name)["end"], "a sync by the interval")
                oracle.verify(client)
                last = client.list_checkpoints()[-1][1]
                daemon.stopped_well(client)
        clock.jump(-DAY_NS)
        with start(place, clock) as daemon, daemon.client() as client:
            oracle.verify(client)
            check(client.create_checkpoint(b"after")["timestamp"] > last, "timestamps rise over a restart with the clock back")
            daemon.kill()
        with start(place, clock) as daemon, daemon.client() as client:
            oracle.verify(client)
            same([id for id, _ in client.list_checkpoints()][-1], b"after", "the newest one")
            daemon.stopped_well(client)
    return "%d appends acknowledged, %d checkpoints" % (oracle.acknowledged, len(oracle.checkpoints))


if __name__ == "__main__":
    main(cases_of(globals()))
