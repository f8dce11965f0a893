#!/usr/bin/python3
"""SIGKILL while checkpoints are created, compacted and pruned before, under appends, again and again on one directory.

test_kill_checkpoints.py IRONWALD [CASE...]

After each kill: every acknowledged checkpoint loads with the offsets and the timestamp that it was answered with,
unless a compaction that was acknowledged or in flight may have dropped it; what an acknowledged compaction had to drop
is gone; timestamps rise and offsets do not go back, over all rounds; no offset is past the end of its shard. Every
acknowledged entry is there, byte for byte, or lies below an offset that a prune was asked for; ids have no gaps,
batches are whole in each shard, nothing is there twice or was never sent.

IRONWALD_KILL_ROUNDS (10) is the number of kills of each case, IRONWALD_KILL_SEED picks what is random.
"""

import os
import random
import time
import zlib

import msgpack

from harness import Daemon, Failed, Worker, cases_of, check, directory, error_of, main, same
from ironwal_client import Client, ConnectionLost, shard_name
from test_kill import MODES, Progress

ROUNDS = int(os.environ.get("IRONWALD_KILL_ROUNDS", "10"))
SEED = int(os.environ.get("IRONWALD_KILL_SEED", "20261126"))
SHARDS = 8
CREATES_IN_FLIGHT = 6
NEVER = 2**63
SETTINGS = (
    ("--max-segment-size=2K", "--max-open-segments=4"),
    ("--max-segment-size=16K", "--compression=lz4", "--min-compression-size=64"),
    ("--max-entries-per-segment=20", "--read-strategy=mmap"),
    ("--max-segment-size=8K", "--write-buffer-size=4K", "--async-sync-interval=5ms"),
)


# ---- the workers: each does its work until the connection breaks ----------------------------------------------------


def append(path, keys, writer, seed, window, progress, index):
    """Pipelined appends of all kinds. Returns [shard, id, checksum] of what was acknowledged, and how much was sent."""
    rng = random.Random(seed)
    acknowledged, waiting, number = [], [], 0

    def entries_of(count):
        made = []
        for i in range(count):
            payload = rng.randbytes(rng.randrange(200)) if rng.random() < 0.9 else bytes(rng.randrange(3000))
            made.append(msgpack.packb([writer, number, i, count, zlib.crc32(payload), payload]))
        return made

    def settle(result, entries):
        """entries: [shard, entry] in the order of the request."""
        if "results" in result:
            places = result["results"]
        elif "end" in result:
            places = [[result["shard"], id] for id in range(result["first"], result["end"])]
        else:
            places = [[result["shard"], result["id"]]]
        same([shard for shard, _ in places], [shard for shard, _ in entries], "the shards of an append")
        acknowledged.extend([shard, id, zlib.crc32(entry)] for (shard, id), (_, entry) in zip(places, entries))

    with Client(path) as client:
        try:
            while True:
                kind = rng.random()
                shard = rng.randrange(SHARDS)
                if kind < 0.6:
                    entries = [[shard, entry] for entry in entries_of(1)]
                    method, params = "shard_append", {"key": keys[shard], "value": entries[0][1]}
                elif kind < 0.75:
                    entries = [[shard, entry] for entry in entries_of(rng.randrange(1, 10))]
                    method = "shard_append_batch_for_key"
                    params = {"key": keys[shard], "values": [entry for _, entry in entries]}
                else:
                    entries = []
                    for one in rng.sample(range(SHARDS), rng.randrange(1, 5)):
                        entries += [[one, entry] for entry in entries_of(rng.randrange(1, 5))]
                    method, params = "shard_append_batch", {"entries": [[keys[one], entry] for one, entry in entries]}
                if rng.random() < 0.05:
                    params["sync"] = True
                waiting.append((client.send_params(method, params), entries))
                number += 1
                if len(waiting) >= window:
                    result = client.wait(waiting[0][0])
                    settle(result, waiting.pop(0)[1])
                    progress.set(index, len(acknowledged))
        except ConnectionLost:
            for msgid, entries in waiting:
                answer = client.take(msgid)
                if answer is not None:
                    check(answer[0] is None, "an append failed: %r", answer)
                    settle(answer[1], entries)
    return {"acknowledged": acknowledged, "sent": number}


def create(path, keys, life, seed, reuse, long_ids, progress, index):
    """Checkpoints, pipelined, each behind an append of its own. Returns what was acknowledged and what was not.

    An id is a name with dots behind it. Long ones make compactions take longer: they copy piece by piece, and creations
    come in between.
    """
    rng = random.Random(seed)
    made, waiting, number, asked = [], [], 0, ()

    def settle(id, sent, own, result):
        check(result["offsets"][own[0]] > own[1], "%s does not cover %r, acknowledged before: %r", id, own, result)
        made.append([id, sent, time.monotonic_ns(), result["offsets"], result["timestamp"]])

    with Client(path) as client:
        try:
            while True:
                shard = rng.randrange(SHARDS)
                entry = msgpack.packb(["own", -1, 0, 1, 0, b""])
                own = client.shard_append(keys[shard], entry)
                id = "again %d" % rng.randrange(5) if rng.random() < reuse else "%d.%d" % (life, number)
                dots = rng.randrange(60000) if rng.random() < long_ids and not id.startswith("again") else 0
                number += 1
                asked = (id, time.monotonic_ns(), (own["shard"], own["id"]))
                waiting.append((client.send("create_checkpoint", id=id.encode() + b"." * dots),) + asked)
                client.flush()
                asked = ()
                if len(waiting) >= CREATES_IN_FLIGHT:
                    result = client.wait(waiting[0][0])
                    settle(*waiting.pop(0)[1:], result)
                    progress.set(index, len(made))
        except ConnectionLost:
            lost = [asked[:2]] if asked else []
            for msgid, id, sent, own in waiting:
                answer = client.take(msgid)
                if answer is None:
                    lost.append((id, sent))
                else:
                    check(answer[0] is None, "a creation failed: %r", answer)
                    settle(id, sent, own, answer[1])
    return {"made": made, "lost": lost}


def compact(path, seed, progress, index):
    """[keep, before it was sent, after it was answered or NEVER] of each compaction."""
    rng = random.Random(seed)
    done = []
    with Client(path) as client:
        try:
            while True:
                keep = rng.choice((150, 200, 1000)) if rng.random() < 0.9 else rng.choice((0, 1, 5, 20, 60))
                done.append([keep, time.monotonic_ns(), NEVER])
                result = client.compact_checkpoints(keep)
                done[-1][2] = time.monotonic_ns()
                before, after = result["checkpoints_before"], result["checkpoints_after"]
                check(after >= min(keep, before), "of %d it keeps %d: %r", before, keep, result)
                progress.set(index, len(done))
        except ConnectionLost:
            return done


def prune(path, seed, progress, index):
    """Some at once. The offsets that were asked for, the largest of each shard, and how many requests were sent."""
    rng = random.Random(seed)
    asked, sent, waiting = [0] * SHARDS, 0, []
    with Client(path) as client:
        try:
            while True:
                listed = client.list_checkpoints(4)  # empty at first
                for id, _ in rng.sample(listed, len(listed)):
                    offsets = client.load_checkpoint(id)["offsets"]
                    asked = [max(a, b) for a, b in zip(asked, offsets)]
                    waiting.append(client.send("prune_before_checkpoint", id=id))
                    sent += 1
                    client.flush()
                while len(waiting) > 4:
                    client.wait(waiting[0])
                    waiting.pop(0)
                    progress.set(index, sent - len(waiting))
        except ConnectionLost:
            for msgid in waiting:
                answer = client.take(msgid)
                check(answer is None or answer[0] is None, "a prune failed: %r", answer)
            return {"asked": asked, "sent": sent}


# ---- the model -------------------------------------------------------------------------------------------------------


class Entries:
    """What was acknowledged and seen of each shard."""

    def __init__(self):
        self.known = [{} for _ in range(SHARDS)]  # checksum by id
        self.read_to = [0] * SHARDS
        self.sent = {}  # writer: how many requests
        self.done = set()  # (writer, number, shard) that were found, whole
        self.pruned = [0] * SHARDS  # as far as somebody asked for

    def took(self, writer, outcome):
        self.sent[writer] = outcome["sent"]
        for shard, id, checksum in outcome["acknowledged"]:
            check(self.known[shard].setdefault(id, checksum) == checksum, "shard %d: id %d was given twice", shard, id)

    def verify(self, client, everything):
        """Returns the ends of all shards."""
        found = []
        for shard in range(SHARDS):
            info = client.stream_info(shard_name(shard))
            first, end = info["first"], info["end"]
            where = "shard %d (%d to %d): " % (shard, first, end)
            check(first <= self.pruned[shard], where + "pruned beyond %d, which was asked for", self.pruned[shard])
            check(end >= self.read_to[shard], where + "it went to %d before", self.read_to[shard])
            known = self.known[shard]
            check(not known or end > max(known), where + "%d was acknowledged", max(known, default=0))
            start = first if everything else max(first, self.read_to[shard])
            self.scan(client, shard, where, start, end)
            self.read_to[shard] = end
            found.append(end)
        return found

    def scan(self, client, shard, where, start, end):
        known = self.known[shard]
        batch, expected = None, start
        for id, entry in client.scan_shard(shard, start, max_bytes=8 * 1024 * 1024):
            same(id, expected, where + "ids without gaps")
            expected += 1
            checksum = zlib.crc32(entry)
            check(known.get(id, checksum) == checksum, where + "%d is another one than it was", id)
            known[id] = checksum
            writer, number, index, count, payload_checksum, payload = msgpack.unpackb(entry)
            same(zlib.crc32(payload), payload_checksum, where + "the contents of %d" % id)
            if writer == "own":
                check(batch is None, where + "%d is inside a batch", id)
                continue
            check(number < self.sent.get(writer, 0), where + "%d was never sent: %s %d", id, writer, number)
            if batch is None:
                if index > 0 and id == start > 0:
                    continue  # the rest of one that was pruned in part, perhaps
                same(index, 0, where + "%d is not in the middle of a batch" % id)
                again = (writer, number, shard) in self.done and id >= self.read_to[shard]
                check(not again, where + "%d is there twice", id)
                batch = [writer, number, count, 0]
            same([writer, number, count, index], batch, where + "the batch of %d" % id)
            batch[3] += 1
            if batch[3] == count:
                self.done.add((writer, number, shard))
                batch = None
        check(batch is None, where + "the last batch is torn: %r", batch)
        same(expected, end, where + "to its end")


class Checkpoints:
    """All that were acknowledged or found, and the compactions."""

    def __init__(self):
        self.made = {}  # (id, timestamp): (sent, answered, offsets)
        self.newest = {}  # id: the last timestamp that was acknowledged or found
        self.lost = {}  # id: when it was sent, of those whose answers were not received
        self.compactions = []
        self.floor = 0  # timestamps that come now are larger
        self.acknowledged_count = 0

    def took(self, outcome):
        last = self.floor
        for id, sent, answered, offsets, timestamp in outcome["made"]:
            check(timestamp > self.floor, "%s: timestamp %d after %d", id, timestamp, self.floor)
            self.made[id, timestamp] = (sent, answered, offsets)
            self.newest[id] = max(timestamp, self.newest.get(id, 0))
            last = max(last, timestamp)
            self.acknowledged_count += 1
        self.floor = last
        for id, sent in outcome["lost"]:
            self.lost[id] = sent

    def verify(self, client, ends, rng, everything):
        answer = client.call("list_checkpoints")
        same(list(answer), ["checkpoints"], "nothing is damaged")
        listed = {name_of(id): timestamp for id, timestamp in answer["checkpoints"]}
        same(len(listed), len(answer["checkpoints"]), "each id once")
        same(client.checkpoint_count(), len(listed), "checkpoint_count")
        times = list(listed.values())
        check(all(a < b for a, b in zip(times, times[1:])), "list_checkpoints is in order")
        ids = [id for id, _ in answer["checkpoints"]]
        if not everything and len(ids) > 400:
            ids = ids[-200:] + rng.sample(ids[:-200], 200)
        self.check_loaded(client, listed, ids, ends)
        self.check_latest(client, answer["checkpoints"])
        self.check_gone(listed)
        self.check_dropped(listed)
        self.check_order()
        self.floor = max([self.floor] + times)
        # What is not there now will not come back.
        self.newest = dict(listed)
        self.lost, self.compactions = {}, []
        return len(listed)

    def check_loaded(self, client, listed, ids, ends):
        asked = [(name_of(id), client.send("load_checkpoint", id=id)) for id in ids]
        for id, number in asked:
            result = client.wait(number)
            timestamp, offsets = result["timestamp"], result["offsets"]
            same((timestamp, result["shard_count"]), (listed[id], SHARDS), "%s is loaded as it is listed" % id)
            known = self.made.get((id, timestamp))
            if known is not None:
                same(offsets, known[2], "the offsets of " + id)
            else:
                check(id in self.lost, "%s at %d was never asked for, or not answered so", id, timestamp)
                self.made[id, timestamp] = (self.lost[id], time.monotonic_ns(), offsets)
            check(all(offset <= end for offset, end in zip(offsets, ends)), "%s: %r is past %r", id, offsets, ends)

    @staticmethod
    def check_latest(client, pairs):
        if not pairs:
            error_of("NoCheckpoints", client.load_latest_checkpoint)
            return
        latest = client.load_latest_checkpoint()
        same([latest["id"], latest["timestamp"]], pairs[-1], "load_latest_checkpoint is the last of the list")

    def check_gone(self, listed):
        """What was acknowledged and is not there must have been dropped by a compaction that kept fewer newer ones."""
        for id, timestamp in self.newest.items():
            if id in listed:
                ok = listed[id] == timestamp or (listed[id] > timestamp and id in self.lost)
                check(ok, "%s is the one of %d, not of %d", id, listed[id], timestamp)
                continue
            newer = sum(1 for one in self.newest.values() if one > timestamp)
            newer += sum(1 for one in self.lost if one not in self.newest or one in listed)
            sent = self.made[id, timestamp][0]
            excused = any(keep <= newer and answered > sent for keep, _, answered in self.compactions)
            check(excused, "%s of %d is gone; %d may be newer; compactions: %r", id, timestamp, newer,
                  [keep for keep, _, answered in self.compactions if answered > sent])

    def check_dropped(self, listed):
        """What an acknowledged compaction had to drop is gone: there were enough newer ones before it was sent."""
        for keep, sent, answered in self.compactions:
            if answered == NEVER:
                continue
            before = {}
            for (id, timestamp), (_, known, _) in self.made.items():
                if known < sent:
                    before[id] = max(timestamp, before.get(id, 0))
            kept = sorted(before.values())[-keep:] if keep else []
            oldest = kept[0] if len(kept) == keep and kept else (NEVER if keep == 0 else 0)
            for id, timestamp in before.items():
                check(timestamp >= oldest or listed.get(id) != timestamp, "%s was to be dropped (%d kept)", id, keep)

    def check_order(self):
        order = sorted((timestamp, offsets) for (_, timestamp), (_, _, offsets) in self.made.items())
        for (a, low), (b, high) in zip(order, order[1:]):
            check(a < b, "a timestamp twice: %d", a)
            check(all(x <= y for x, y in zip(low, high)), "offsets go back: %r at %d, %r at %d", low, a, high, b)


def name_of(id):
    return id.rstrip(b".").decode()


def keys_of(client):
    keys, number = {}, 0
    while len(keys) < SHARDS:
        key = b"key-%d" % number
        keys.setdefault(client.shard_append_batch_for_key(key, [])["shard"], key)
        number += 1
    return [keys[shard] for shard in range(SHARDS)]


def create_long(client, life):
    """A long log, so that compactions are not done in one piece; and replaced ones in it, so that they have work."""
    made, names = [], ["%d.long %d" % (life, i // 2) for i in range(80)]
    sent = time.monotonic_ns()
    asked = [(name, client.send("create_checkpoint", id=name.encode() + b"." * 60000)) for name in names]
    for name, number in asked:
        result = client.wait(number)
        made.append([name, sent, time.monotonic_ns(), result["offsets"], result["timestamp"]])
    return made


def verify(place, daemon, entries, checkpoints, rng, everything):
    with daemon.client(True) as client:
        stats = client.stats()
        same(stats["recovery"]["rot_found"], 0, "no rot")
        same((stats["checkpoints"]["damage_found"], stats["checkpoints"]["failed"]), (0, False), "no damage")
        left = [name for name in os.listdir(os.path.join(place, "data")) if name.endswith(".new")]
        same(left, [], "nothing is left of a compaction")
        ends = entries.verify(client, everything)
        return checkpoints.verify(client, ends, rng, everything), ends


def kill_rounds(seed, what, target, reuse=0, long_ids=0):
    """what: the worker beside appends and creations, or None; target: kills come within so many of its requests."""
    rng = random.Random(seed)
    entries, checkpoints = Entries(), Checkpoints()
    at_start = in_flight = other_count = other_in_flight = half_made = 0
    keys = None
    with directory() as place:
        for life in range(ROUNDS + 1):
            last = life == ROUNDS
            options = ("--sync-mode=" + MODES[life % 3], "--shard-count=%d" % SHARDS, "--log-level=warn")
            options += SETTINGS[life % len(SETTINGS)] + ("--max-message-bytes=64M",)
            if life % 4 == 3:  # in the middle of recovery, or a little later
                with Daemon(place, *options, ready=False, tcp=False) as daemon:
                    until = time.monotonic() + rng.random() * 0.03
                    while time.monotonic() < until:
                        pass
                    daemon.kill()
                    at_start += 1
            with Daemon(place, *options, tcp=False) as daemon:
                try:
                    found, ends = verify(place, daemon, entries, checkpoints, rng, last or life % 10 == 9)
                except Failed as error:
                    raise Failed("round %d, %s: %s" % (life, " ".join(options), error))
                with daemon.client(True) as client:
                    if last:
                        offsets = client.create_checkpoint(b"last")["offsets"]
                        same(offsets, ends, "it goes on")
                        client.prune_before_checkpoint(b"last")
                        client.compact_checkpoints(1)
                        same(client.checkpoint_count(), 1, "and compacts")
                        daemon.stopped_well(client)
                        break
                    keys = keys or keys_of(client)
                    if long_ids:
                        checkpoints.took({"made": create_long(client, life), "lost": []})
                progress = [Progress(1) for _ in range(4)]
                appenders = []
                for i in range(2):
                    name = "%d.%d" % (life, i)
                    work = (append, daemon.unix, keys, name, rng.random(), 16, progress[i], 0)
                    appenders.append((name, Worker(*work)))
                creator = Worker(create, daemon.unix, keys, life, rng.random(), reuse, long_ids, progress[2], 0)
                other = Worker(what, daemon.unix, rng.random(), progress[3], 0) if what else None
                goal = rng.randrange(1, target)
                watched = progress[3 if what else 2]
                until = time.monotonic() + 60
                while watched.total() < goal or min(one.total() for one in progress[:3]) == 0:
                    check(daemon.process.poll() is None, "the daemon ended: %s", daemon.stderr())
                    check(time.monotonic() < until, "no progress: %d of %d", watched.total(), goal)
                    time.sleep(0.0002)
                until = time.monotonic() + rng.random() * 0.005
                while time.monotonic() < until:
                    pass
                daemon.kill()
                half_made += os.path.exists(os.path.join(place, "data", "ironwald.checkpoints.new"))
                for name, worker in appenders:
                    entries.took(name, worker.result())
                made = creator.result()
                in_flight += len(made["lost"])
                checkpoints.took(made)
                if what is compact:
                    checkpoints.compactions = other.result()
                    other_count += len(checkpoints.compactions)
                    other_in_flight += sum(1 for one in checkpoints.compactions if one[2] == NEVER)
                elif what is prune:
                    outcome = other.result()
                    entries.pruned = [max(a, b) for a, b in zip(entries.pruned, outcome["asked"])]
                    other_count += outcome["sent"]
                    other_in_flight += outcome["sent"] - progress[3].total()
    said = "%d kills, %d more while starting; %d checkpoints acknowledged, %d in flight, %d at the end; %d entries" % (
        ROUNDS, at_start, checkpoints.acknowledged_count, in_flight, found, sum(ends))
    if what is compact:
        said += "; %d compactions, %d in flight, %d new files half made" % (other_count, other_in_flight, half_made)
    elif what is prune:
        said += "; %d prunes, %d in flight, of %d entries" % (other_count, other_in_flight, sum(entries.pruned))
    check(in_flight > 0, "kills met creations in flight: %s", said)
    return said


def test_kill_creation():
    return kill_rounds(SEED, None, 250, reuse=0.2)


def test_kill_compaction():
    return kill_rounds(SEED + 1, compact, 60, reuse=0.1, long_ids=0.3)


def test_kill_prune():
    return kill_rounds(SEED + 2, prune, 60)


if __name__ == "__main__":
    main(cases_of(globals()))
