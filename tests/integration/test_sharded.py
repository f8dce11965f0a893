#!/usr/bin/python3
"""The keyed log: shards, checkpoints, compaction and pruning, over the wire and over restarts.

test_sharded.py IRONWALD [CASE...]
"""

import os
import random
import shutil
import signal
import time

import msgpack

from harness import Daemon, Worker, cases_of, check, directory, error_of, eventually, main, refused, same
from ironwal_client import Client, ConnectionLost, ServerError, frame, shard_name

KIB = 1024
ID_LIMIT_BYTES = 65535
ELEMENTS_LIMIT = 1048576
CHECKPOINT_LOG = "ironwald.checkpoints"

# XXH3_64bits with seed 0, by Debian's libxxhash; one key at least for each way in which it treats lengths.
VECTORS = (
    (b"", 0x2D06800538D394C2),
    (b"\0", 0xC44BDFF4074EECDB),
    (b"a", 0xE6C632B61E964E1F),
    (b"abc", 0x78AF5F94892F3950),
    (b"\xff\xfe\xfd\xfc", 0x186B390618C42ACA),
    ("🦊".encode(), 0xDD9835128DB811E4),
    (b"user_0", 0x9F72F3C4290606DE),
    (b"user_1", 0x20F909AB6F54D5A1),
    (b"user-17", 0x7D94013A73497C81),
    (b"user-18", 0x10CE3B193F6877F7),
    (b"x" * 16, 0xDF76FF0D7F0D9EDF),
    (b"x" * 17, 0x89975E6B7D2F5A11),
    (b"x" * 128, 0x4CA37E83F6CDDD17),
    (b"x" * 129, 0xE4F9742108FE27DC),
    (b"x" * 240, 0x3E16CA8A0C6CCB68),
    (b"x" * 241, 0x14DA9E5C301A6A1D),
    (b"x" * 300, 0xA5D1B4607DC83554),
    (bytes(i * 31 & 255 for i in range(1024)), 0x4986EA1C273817C6),
    (bytes(i * 31 & 255 for i in range(1025)), 0x7775793E9AE60F68),
    (bytes(i * 31 & 255 for i in range(2048)), 0xAE9FE389B636A6C4),
)


def shard_of(client, key):
    """An empty batch writes nothing, and tells."""
    return client.shard_append_batch_for_key(key, [])["shard"]


def key_of_each(client):
    """A key for each shard, in their order."""
    keys = {}
    number = 0
    while len(keys) < client.shard_count():
        key = b"key-%d" % number
        keys.setdefault(shard_of(client, key), key)
        number += 1
    return [keys[shard] for shard in range(len(keys))]


def ends(client):
    return [client.stream_info(shard_name(shard))["end"] for shard in range(client.shard_count())]


def contents(client, checkpoint):
    """Of an answer that has offsets, without the id."""
    return (checkpoint["offsets"], checkpoint["timestamp"], checkpoint["shard_count"])


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


# ---- what each method answers ----------------------------------------------------------------------------------------


def test_every_method():
    """The conversation of PROTOCOL.md."""
    with directory() as place, Daemon(place) as daemon, daemon.client() as client, daemon.client(True) as other:
        same(client.shard_count(), 4, "shard_count")
        same(client.checkpoint_count(), 0, "checkpoint_count")
        error_of("NoCheckpoints", client.load_latest_checkpoint)
        same(client.call("list_checkpoints"), {"checkpoints": []}, "list_checkpoints")
        same(client.shard_append(b"user-17", b"hello"), {"shard": 1, "id": 0}, "shard_append")
        entries = [[b"user-17", b"a"], [b"user-18", b"b"], [b"user-17", b"c"]]
        same(other.shard_append_batch(entries, sync=True), [[1, 1], [3, 0], [1, 2]], "shard_append_batch")
        same(
            client.shard_append_batch_for_key(b"user-17", [b"a", b"b"]),
            {"shard": 1, "first": 3, "end": 5},
            "shard_append_batch_for_key",
        )
        same(
            client.iter_shard(1, 1),
            {"first": 1, "entries": [b"a", b"c", b"a", b"b"], "next": 5, "end": 5},
            "iter_shard",
        )
        same(client.iter_shard(1, 1), other.iter(shard_name(1), 1), "the same log by its name")
        same(client.iter_shard(0), {"first": 0, "entries": [], "next": 0, "end": 0}, "iter_shard of an empty one")
        before = time.time_ns()
        made = client.create_checkpoint(b"nightly")
        same((made["offsets"], made["shard_count"]), ([0, 5, 0, 1], 4), "create_checkpoint")
        check(abs(made["timestamp"] - before) < 3600 * 10**9, "Unix time in ns: %d at %d", made["timestamp"], before)
        same(other.load_checkpoint(b"nightly"), made, "load_checkpoint")
        same(other.load_latest_checkpoint(), dict(made, id=b"nightly"), "load_latest_checkpoint")
        same(client.list_checkpoints(), [[b"nightly", made["timestamp"]]], "list_checkpoints")
        same(client.checkpoint_count(), 1, "checkpoint_count")
        same(client.prune_before_checkpoint(b"nightly"), {"shards_pruned": 0, "segments_deleted": 0}, "prune")
        result = client.compact_checkpoints(1)
        same(result, {"checkpoints_before": 1, "checkpoints_after": 1, "bytes_reclaimed": 0}, "compact")
        for method, params, keys in (
            ("shard_append", {"key": b"", "value": b""}, "shard id"),
            ("shard_append_batch", {"entries": []}, "results"),
            ("shard_append_batch_for_key", {"key": b"", "values": []}, "shard first end"),
            ("iter_shard", {"shard": 0}, "first entries next end"),
            ("create_checkpoint", {"id": b"x"}, "offsets timestamp shard_count"),
            ("load_checkpoint", {"id": b"x"}, "offsets timestamp shard_count"),
            ("load_latest_checkpoint", {}, "id offsets timestamp shard_count"),
            ("list_checkpoints", {}, "checkpoints"),
            ("prune_before_checkpoint", {"id": b"x"}, "shards_pruned segments_deleted"),
            ("compact_checkpoints", {"keep_latest_n": 5}, "checkpoints_before checkpoints_after bytes_reclaimed"),
            ("shard_count", {}, "count"),
            ("checkpoint_count", {}, "count"),
        ):
            same(sorted(client.call(method, **params)), sorted(keys.split()), "%s: keys" % method)
        daemon.stopped_well(client, other)


def test_routing():
    """A key's shard is XXH3_64bits(key) mod shard_count, whichever way it is appended."""
    rng = random.Random(1)
    keys = [rng.randbytes(rng.randrange(40)) for _ in range(200)]
    for shard_count in (1, 4, 16, 64, 1000):
        with directory() as place:
            options = ("--shard-count=%d" % shard_count, "--sync-mode=async", "--log-level=warn")
            with Daemon(place, *options) as daemon, daemon.client() as client:
                same((client.server["shard_count"], client.shard_count()), (shard_count, shard_count), "shard_count")
                for key, value in VECTORS:
                    same(client.shard_append(key, b"v")["shard"], value % shard_count, "the shard of %r" % key[:20])
                    same(shard_of(client, key), value % shard_count, "for_key, %r" % key[:20])
                results = client.shard_append_batch([[key, b"v"] for key, _ in VECTORS])
                same([shard for shard, _ in results], [value % shard_count for _, value in VECTORS], "in a batch")
                found = [client.shard_append(key, b"v")["shard"] for key in keys]
                daemon.stopped_well(client)
            with Daemon(place, *options) as daemon, daemon.client(True) as client:
                same([shard for shard, _ in client.shard_append_batch([[key, b"w"] for key in keys])], found, "again")
                same([shard_of(client, key) for key in keys], found, "and again")
                check(shard_count < 16 or len(set(found)) > 8, "they are spread: %r", sorted(set(found)))


def test_batches_keep_their_order():
    """Within a shard the entries of a batch have consecutive ids in the order of the request, beside other writers."""
    rng = random.Random(2)
    with directory() as place, Daemon(place, "--shard-count=16", "--sync-mode=async") as daemon:
        with daemon.client() as one, daemon.client(True) as two:
            same(one.shard_append_batch([]), [], "an empty batch")
            same(one.list_streams()["streams"], [], "writes nothing")
            asked = []
            for number in range(200):
                client = (one, two)[number % 2]
                count = rng.choice((1, 2, 3, 10, 100))
                entries = [[b"k%d" % rng.randrange(60), b"%d/%d" % (number, i)] for i in range(count)]
                if number % 5 == 4:
                    msgid = client.send("shard_append_batch_for_key", key=b"k%d" % (number % 60),
                                        values=[value for _, value in entries])
                else:
                    msgid = client.send("shard_append_batch", entries=entries)
                asked.append((client, msgid, entries))
            logs = [{} for _ in range(16)]
            for client, msgid, entries in asked:
                result = client.wait(msgid)
                if "results" in result:
                    results = result["results"]
                else:
                    same(result["end"] - result["first"], len(entries), "for_key: a range for all")
                    results = [[result["shard"], id] for id in range(result["first"], result["end"])]
                same(len(results), len(entries), "a result for each")
                last = {}
                for (shard, id), (_, value) in zip(results, entries):
                    before = last.get(shard)
                    check(before in (None, id - 1), "shard %d: %d does not follow %r", shard, id, before)
                    last[shard] = id
                    check(id not in logs[shard], "shard %d: id %d is given twice", shard, id)
                    logs[shard][id] = value
            for shard in range(16):
                expected = [logs[shard][id] for id in range(len(logs[shard]))]
                same([entry for _, entry in one.scan_shard(shard)], expected, "shard %d" % shard)
            total = sum(len(log) for log in logs)
            same(sum(one.create_checkpoint(b"c")["offsets"]), total, "offsets sum up to what was appended")
            before = one.shard_append_batch_for_key(b"k1", [])
            same(before["first"], before["end"], "an empty batch: first == end")
            same(before["end"], len(logs[before["shard"]]), "the shard's next id")
        daemon.stopped_well()
    return "%d entries" % total


def test_sync_modes_and_durable():
    """Both sharded batches are batches in the sense of batch_only."""
    for mode, single, batch in (("strict", True, True), ("batch_only", False, True), ("async", False, False)):
        with directory() as place:
            options = ("--sync-mode=" + mode, "--async-sync-interval=none")
            with Daemon(place, *options) as daemon, daemon.client() as client:
                keys = key_of_each(client)

                def durable(shard):
                    info = client.stream_info(shard_name(shard))
                    return (info["durable_end"], info["end"])

                client.shard_append(keys[0], b"x")
                same(durable(0), (single, 1), mode + ": shard_append")
                client.shard_append(keys[0], b"x", sync=False)
                same(durable(0), (2 * single, 2), mode + ": sync false")
                client.shard_append_batch([[keys[0], b"x"], [keys[1], b"x"], [keys[0], b"y"]])
                same((durable(0), durable(1)), ((4 * batch, 4), (batch, 1)), mode + ": shard_append_batch")
                client.shard_append_batch_for_key(keys[2], [b"x", b"y"])
                same(durable(2), (2 * batch, 2), mode + ": shard_append_batch_for_key")
                client.shard_append(keys[3], b"x", sync=True)
                same(durable(3), (1, 1), mode + ": sync true")
                client.shard_append_batch([[keys[1], b"x"], [keys[2], b"x"]], sync=True)
                same((durable(1), durable(2)), ((2, 2), (3, 3)), mode + ": batch, sync true")
                client.shard_append_batch_for_key(keys[0], [b"x"], sync=True)
                same(durable(0), (5, 5), mode + ": for_key, sync true")
                for shard in range(4):
                    client.shard_append(keys[shard], b"z")
                made = client.create_checkpoint(b"c")
                same(made["offsets"], [6, 3, 4, 2], mode + ": offsets")
                for shard, offset in enumerate(made["offsets"]):
                    check(durable(shard)[0] >= offset, "%s: a checkpoint makes shard %d durable", mode, shard)
                client.shard_append(keys[1], b"z")
                client.sync()
                same(durable(1), (4, 4), mode + ": sync")
                daemon.stopped_well(client)


# ---- the logs by their names -----------------------------------------------------------------------------------------


def test_names_of_shards():
    with directory() as place:
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            keys = key_of_each(client)
            empty = {"first": 0, "end": 0, "durable_end": 0, "segments": 0, "bytes": 0}
            for shard in range(4):
                name = shard_name(shard)
                same(client.get(name, 0), None, "get")
                same(client.get_batch(name, [0, 5]), [None, None], "get_batch")
                same(client.iter(name), {"first": 0, "entries": [], "next": 0, "end": 0}, "iter")
                same(client.iter(name, 7), {"first": 7, "entries": [], "next": 7, "end": 0}, "iter past the end")
                same(client.stream_info(name), empty, "stream_info")
                same(client.truncate(name, 100), 0, "truncate")
                same(client.sync(name), {}, "sync")
                same(client.current_segment_start_id(name), None, "current_segment_start_id")
                same(error_of("Conflict", client.append, name, b"x", expected_id=1)["actual"], 0, "Conflict")
                same(client.append_batch(name, [], expected_id=0)["end"], 0, "an empty batch")
            same(client.list_streams()["streams"], [], "none is named before it is written to")
            # The same log, by name and by key.
            same(client.append("shard_02", b"by name", expected_id=0)["id"], 0, "append")
            same(client.shard_append(keys[2], b"by key"), {"shard": 2, "id": 1}, "shard_append")
            same(error_of("Conflict", client.append, "shard_02", b"no", expected_id=1)["actual"], 2, "Conflict")
            same(client.append_batch("shard_02", [b"3", b"4"], expected_id=2)["end"], 4, "the safe retry")
            same(client.iter_shard(2)["entries"], [b"by name", b"by key", b"3", b"4"], "iter_shard")
            same(client.get_batch("shard_02", [1, 3]), [b"by key", b"4"], "get_batch")
            same(client.current_segment_start_id("shard_02"), 0, "current_segment_start_id")
            same(client.list_streams()["streams"], ["shard_02"], "named now")
            # These only look like one.
            for name in ("shard_04", "shard_07", "shard_3", "shard_003", "shard_", "shard_0x", "Shard_00", "shard_00 ",
                         "shard_-1", "shard_65535", "shard_4294967296"):
                same(error_of("StreamNotFound", client.stream_info, name)["stream"], name, "an ordinary name")
                same(client.append(name, b"ordinary")["id"], 0, name)
            same(ends(client), [0, 0, 4, 0], "no shard is touched by those")
            made = client.create_checkpoint(b"c")
            same(made["offsets"], [0, 0, 4, 0], "checkpoints have no part in streams")
            daemon.stopped_well(client)
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            names = list(client.streams())
            check("shard_00" not in names and "shard_02" in names, "named or not, after a restart: %r", names)
            same(client.stream_info("shard_00"), empty, "stream_info, after a restart")
            same(client.stream_info("shard_02")["end"], 4, "shard_02, after a restart")
            daemon.stopped_well(client)


def test_max_streams_is_not_of_shards():
    options = ("--shard-count=20", "--max-streams=2")
    with directory() as place, Daemon(place, *options) as daemon, daemon.client() as client:
        for key in key_of_each(client):
            client.shard_append(key, b"x")
        client.append("shard_20", b"x")
        client.append("b", b"x")
        error_of("Busy", client.append, "c", b"x")
        for shard in range(20):
            same(client.append(shard_name(shard), b"y")["id"], 1, "shards take appends")
        same(len(list(client.streams())), 22, "list_streams")


def test_iter_shard():
    with directory() as place, Daemon(place, "--max-segment-size=500") as daemon:
        with daemon.client() as client, daemon.client(True) as other:
            keys = key_of_each(client)
            for shard in (4, 5, 2**16, 2**32, 2**64 - 1):
                message = error_of("Config", client.iter_shard, shard)["message"]
                check(str(shard) in message, "names it: %r", message)
            begin = time.monotonic()
            same(client.iter_shard(1, wait_ms=50), {"first": 0, "entries": [], "next": 0, "end": 0}, "waits in vain")
            check(time.monotonic() - begin > 0.04, "as long as asked")
            # Waiting on a shard that nothing was written to yet.
            numbers = [client.send("iter_shard", shard=1, wait_ms=60000) for _ in range(20)]
            by_name = client.send("iter", stream="shard_01", start_id=0, wait_ms=60000)
            ahead = client.send("iter_shard", shard=1, start_id=2, wait_ms=60000)
            same(client.ping(), {}, "and they hold up nothing")
            check(not any(client.ready(number) for number in numbers), "they wait")
            other.shard_append(keys[0], b"elsewhere")
            same(client.ping(), {}, "ping")
            check(not any(client.ready(number) for number in numbers), "for this shard")
            other.shard_append(keys[1], b"0")
            for number in numbers + [by_name]:
                same(client.wait(number), {"first": 0, "entries": [b"0"], "next": 1, "end": 1}, "the first entry")
            other.shard_append_batch([[keys[1], b"1"], [keys[0], b"no"], [keys[1], b"2"]])
            same(client.wait(ahead)["entries"], [b"2"], "the one ahead")
            values = [b"%03d" % i * 20 for i in range(3, 100)]
            for value in values:
                other.shard_append(keys[1], value)
            expected = list(enumerate([b"0", b"1", b"2"] + values))
            for limits in ({}, {"max_entries": 7}, {"max_bytes": 100}, {"max_entries": 0}):
                same(list(client.scan_shard(1, **limits)), expected, "a scan with %r" % limits)
            same(client.iter_shard(1, 100), {"first": 100, "entries": [], "next": 100, "end": 100}, "at the end")
            same(client.iter_shard(1, 2**64 - 1)["entries"], [], "past the end")
            deleted = client.truncate("shard_01", 50)
            check(deleted > 0, "segments to delete: %d", deleted)
            first = client.stream_info("shard_01")["first"]
            same(error_of("Truncated", client.iter_shard, 1, 0)["first_id"], first, "Truncated")
            same(client.iter_shard(1, max_entries=1)["first"], first, "without a start: the oldest")
            waiting = client.send("iter_shard", shard=3, wait_ms=60000)
            client.half_close()
            same(client.wait(waiting)["entries"], [], "a half-close ends the wait")
        daemon.stopped_well()


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_checkpoints():
    with directory() as place, Daemon(place) as daemon, daemon.client() as client, daemon.client(True) as other:
        keys = key_of_each(client)
        made = []
        for number in range(10):
            client.shard_append_batch([[keys[number % 4], b"x"], [keys[1], b"y"]])
            answer = (client, other)[number % 2].create_checkpoint(b"c%d" % number)
            same(answer["offsets"], ends(client), "offsets are the shards' ends")
            check(not made or answer["timestamp"] > made[-1]["timestamp"], "timestamps rise")
            made.append(answer)
        for number in range(10):
            same(other.load_checkpoint(b"c%d" % number), made[number], "load_checkpoint")
        same(client.load_latest_checkpoint(), dict(made[9], id=b"c9"), "load_latest_checkpoint")
        listed = [[b"c%d" % number, answer["timestamp"]] for number, answer in enumerate(made)]
        same(client.list_checkpoints(), listed, "list_checkpoints, oldest first")
        for limit in (0, 1, 3, 9, 10, 11, 2**64 - 1):
            same(client.list_checkpoints(limit), listed[len(listed) - min(limit, 10) :], "limit %d" % limit)
        same(client.checkpoint_count(), 10, "checkpoint_count")
        # The same id again replaces it, and is the newest then.
        client.shard_append(keys[2], b"z")
        again = client.create_checkpoint(b"c3")
        check(again["timestamp"] > made[9]["timestamp"] and again["offsets"][2] == made[9]["offsets"][2] + 1, "again")
        same(client.load_checkpoint(b"c3"), again, "load_checkpoint of what was replaced")
        same(client.load_latest_checkpoint(), dict(again, id=b"c3"), "load_latest_checkpoint")
        listed = listed[:3] + listed[4:] + [[b"c3", again["timestamp"]]]
        same(client.list_checkpoints(), listed, "list_checkpoints")
        same(client.list_checkpoints(2), listed[-2:], "list_checkpoints, the newest two")
        same(client.checkpoint_count(), 10, "distinct ids are counted")
        # What there is not.
        for id in (b"c10", b"C3", b"c", b"c3\0", b"z" * 300, bytes(ID_LIMIT_BYTES)):
            for call in (client.load_checkpoint, client.prune_before_checkpoint):
                same(error_of("CheckpointNotFound", call, id)["id"], id[:255], "CheckpointNotFound")
        error = error_of("CheckpointNotFound", client.load_checkpoint, "🦊".encode() * 100)
        check(("🦊".encode() * 100).startswith(error["id"]) and 250 < len(error["id"]) < 256, "cut: %r", error)
        daemon.stopped_well(client, other)


def test_checkpoint_ids():
    ids = [b"a", b"\0", b"\0\0", b"a\0", b"a\0b", b"\xff\xfe", "🦊".encode(), bytes(512), bytes(5000), b"/../../etc"]
    ids += [b"x" * 255, b"x" * 256, b"x" * 257, b"x" * ID_LIMIT_BYTES, bytes(ID_LIMIT_BYTES)]
    ids += [b"x" * (ID_LIMIT_BYTES - 1) + b"\0"]
    with directory() as place:
        made = {}
        with Daemon(place) as daemon, daemon.client() as client:
            for id in ids:
                client.shard_append(id, b"x")
                made[id] = client.create_checkpoint(id)
            same(client.call("create_checkpoint", id="str")["shard_count"], 4, "a str is taken as the same bytes")
            made[b"str"] = client.call("load_checkpoint", id="str")
            for wrong in (b"", b"x" * (ID_LIMIT_BYTES + 1), bytes(10**6)):
                for call in (client.create_checkpoint, client.load_checkpoint, client.prune_before_checkpoint):
                    error = error_of("InvalidCheckpointId", call, wrong)
                    same(sorted(error), ["message"], "no fields")
            same(client.checkpoint_count(), len(made), "checkpoint_count")
            daemon.kill()
        for stop in (False, True):
            with Daemon(place) as daemon, daemon.client(True) as client:
                for id, answer in made.items():
                    same(client.load_checkpoint(id), answer, "after a restart: %r (%d bytes)" % (id[:20], len(id)))
                same(client.load_latest_checkpoint(), dict(made[b"str"], id=b"str"), "the newest")
                same([id for id, _ in client.list_checkpoints()], list(made), "list_checkpoints")
                if stop:
                    daemon.stopped_well(client)
                else:
                    same(client.compact_checkpoints(1000)["checkpoints_after"], len(made), "compacted, and all kept")
                    daemon.kill()


def test_timestamps_and_offsets_over_restarts():
    """Strictly increasing, through stops of both kinds and compactions to nothing; offsets never go back."""
    rng = random.Random(3)
    last = {"timestamp": 0, "offsets": [0] * 8}
    count = 0
    with directory() as place:
        for life in range(12):
            mode = ("strict", "batch_only", "async")[life % 3]
            with Daemon(place, "--shard-count=8", "--sync-mode=" + mode, "--log-level=warn") as daemon:
                with daemon.client() as client:
                    for number in range(rng.randrange(1, 20)):
                        for _ in range(rng.randrange(4)):
                            client.shard_append(rng.randbytes(4), b"x")
                        made = client.create_checkpoint(b"%d.%d" % (life, number % 7))
                        count += 1
                        check(made["timestamp"] > last["timestamp"], "timestamps rise: %r after %r", made, last)
                        check(all(a >= b for a, b in zip(made["offsets"], last["offsets"])), "offsets do not go back")
                        last = made
                    if life % 4 == 1:
                        client.compact_checkpoints(0)
                        error_of("NoCheckpoints", client.load_latest_checkpoint)
                    elif life % 4 == 2:
                        client.compact_checkpoints(3)
                    if life % 2:
                        daemon.kill()
                    else:
                        daemon.stopped_well(client)
    return "%d checkpoints" % count


def test_compaction():
    with directory() as place:
        with Daemon(place) as daemon, daemon.client() as client:
            nothing = {"checkpoints_before": 0, "checkpoints_after": 0, "bytes_reclaimed": 0}
            same(client.compact_checkpoints(3), nothing, "none")
            same(client.compact_checkpoints(0)["checkpoints_after"], 0, "none to none")
            made = {}
            for number in range(10):
                client.shard_append(b"k%d" % number, b"x")
                made[b"c%d" % number] = client.create_checkpoint(b"c%d" % number)

            def log_bytes():
                return client.stats()["checkpoints"]["log_bytes"]

            before = log_bytes()
            result = client.compact_checkpoints(3)
            same((result["checkpoints_before"], result["checkpoints_after"]), (10, 3), "compact to 3")
            same(result["bytes_reclaimed"], before - log_bytes(), "bytes_reclaimed")
            check(result["bytes_reclaimed"] >= 7 * 512, "bytes of seven: %r", result)
            kept = [b"c7", b"c8", b"c9"]
            same([id for id, _ in client.list_checkpoints()], kept, "the newest three")
            same(client.checkpoint_count(), 3, "checkpoint_count")
            for id in kept:
                same(client.load_checkpoint(id), made[id], "what was kept")
            error_of("CheckpointNotFound", client.load_checkpoint, b"c6")
            for more in (3, 4, 2**64 - 1):
                nothing = {"checkpoints_before": 3, "checkpoints_after": 3, "bytes_reclaimed": 0}
                same(client.compact_checkpoints(more), nothing, "more than there are")
            # What was replaced counts as one, and its place is given back.
            for _ in range(50):
                made[b"c7"] = client.create_checkpoint(b"c7")
            result = client.compact_checkpoints(100)
            same((result["checkpoints_before"], result["checkpoints_after"]), (3, 3), "replaced ones are not counted")
            check(result["bytes_reclaimed"] >= 50 * 512, "and are dropped: %r", result)
            same([id for id, _ in client.list_checkpoints()], [b"c8", b"c9", b"c7"], "in the order of their timestamps")
            same(client.compact_checkpoints(1)["checkpoints_after"], 1, "to one")
            same(client.list_checkpoints(), [[b"c7", made[b"c7"]["timestamp"]]], "the newest is the replaced one")
            daemon.kill()
        with Daemon(place) as daemon, daemon.client() as client:
            same(client.load_latest_checkpoint(), dict(made[b"c7"], id=b"c7"), "after a restart")
            same(client.compact_checkpoints(0)["checkpoints_after"], 0, "to none")
            error_of("NoCheckpoints", client.load_latest_checkpoint)
            error_of("CheckpointNotFound", client.load_checkpoint, b"c7")
            same((client.list_checkpoints(), client.checkpoint_count()), ([], 0), "list and count")
            daemon.kill()
        with Daemon(place) as daemon, daemon.client() as client:
            error_of("NoCheckpoints", client.load_latest_checkpoint)
            same(client.checkpoint_count(), 0, "after a restart")
            again = client.create_checkpoint(b"c7")
            check(again["timestamp"] > made[b"c7"]["timestamp"], "timestamps rise also after none was kept")
            same(client.list_checkpoints(), [[b"c7", again["timestamp"]]], "list_checkpoints")
            daemon.stopped_well(client)


def fill(client, keys, count, size=100):
    """`count` entries in each shard, pipelined; each says its number."""
    values = [b"%06d" % i + b"." * size for i in range(count)]
    for number in [client.send("shard_append", key=key, value=value) for value in values for key in keys]:
        client.wait(number)


def test_prune():
    with directory() as place:
        options = ("--max-segment-size=2K", "--sync-mode=async")
        with Daemon(place, *options) as daemon, daemon.client() as client:
            keys = key_of_each(client)
            fill(client, keys[:3], 200)
            active = [client.current_segment_start_id(shard_name(shard)) for shard in range(3)]
            made = client.create_checkpoint(b"a")
            same(made["offsets"], [200, 200, 200, 0], "offsets")
            fill(client, keys[:1], 200)
            fill(client, keys[3:], 1)
            before = [client.stream_info(shard_name(shard)) for shard in range(4)]
            result = client.prune_before_checkpoint(b"a")
            after = [client.stream_info(shard_name(shard)) for shard in range(4)]
            gone = [b["segments"] - a["segments"] for a, b in zip(after, before)]
            same(result, {"shards_pruned": 3, "segments_deleted": sum(gone)}, "what was pruned")
            check(min(gone[:3]) > 3, "whole segments went: %r", gone)
            for shard in range(4):
                same(after[shard]["end"], before[shard]["end"], "the ends stay")
                check(after[shard]["first"] <= made["offsets"][shard], "nothing at or after the offset: %r", after)
                ids = [id for id, _ in client.scan_shard(shard)]
                same(ids, list(range(after[shard]["first"], after[shard]["end"])), "all that is kept")
            same([info["first"] for info in after[1:3]], active[1:3], "up to the segment that is written to")
            check(after[0]["first"] > 200 - 60, "and as far as whole segments go: %r", after[0])
            same(error_of("Truncated", client.iter_shard, 0, 0)["first_id"], after[0]["first"], "Truncated")
            same(client.prune_before_checkpoint(b"a"), {"shards_pruned": 0, "segments_deleted": 0}, "no more to prune")
            same(client.load_checkpoint(b"a"), made, "the checkpoint stays")
            # An older one than the last prune, and an offset of 0.
            client.create_checkpoint(b"b")
            result = client.prune_before_checkpoint(b"b")
            same(result["shards_pruned"], 1, "only the shard that grew: %r" % result)
            same(client.prune_before_checkpoint(b"a")["segments_deleted"], 0, "an older one does nothing")
            firsts = [client.stream_info(shard_name(shard))["first"] for shard in range(4)]
            daemon.stopped_well(client)
        with Daemon(place, *options) as daemon, daemon.client() as client:
            same([client.stream_info(shard_name(shard))["first"] for shard in range(4)], firsts, "after a restart")
            same(client.load_checkpoint(b"a"), made, "and the checkpoint")
            same(ends(client), [400, 200, 200, 1], "ends")
            daemon.stopped_well(client)


def test_pipelined_creates():
    """In flight together, from two connections, beside appends: each its own, none lost, offsets in order."""
    with directory() as place:
        with Daemon(place, "--shard-count=16") as daemon, daemon.client() as one, daemon.client(True) as two:
            asked, appends = [], []
            for number in range(1000):
                client = (one, two)[number % 2]
                id = b"id %d" % (number % 700)
                asked.append((client, id, client.send("create_checkpoint", id=id)))
                appends.append((client, client.send("shard_append", key=b"%d" % number, value=b"x")))
            made = [dict(client.wait(msgid), id=id) for client, id, msgid in asked]
            for client, msgid in appends:
                client.wait(msgid)
            made.sort(key=lambda answer: answer["timestamp"])
            same(len({answer["timestamp"] for answer in made}), 1000, "a timestamp for each")
            for a, b in zip(made, made[1:]):
                check(all(x <= y for x, y in zip(a["offsets"], b["offsets"])), "offsets go back: %r, %r", a, b)
            newest = {answer["id"]: answer for answer in made}
            listed = sorted(([id, answer["timestamp"]] for id, answer in newest.items()), key=lambda pair: pair[1])
            same(one.list_checkpoints(), listed, "list_checkpoints")
            groups = one.stats()["checkpoints"]["groups"]
            daemon.kill()
        with Daemon(place, "--shard-count=16") as daemon, daemon.client() as client:
            same(client.list_checkpoints(), listed, "after a restart")
            same(client.checkpoint_count(), 700, "checkpoint_count")
            numbers = [(id, client.send("load_checkpoint", id=id)) for id in newest]
            for id, number in numbers:
                same(contents(client, client.wait(number)), contents(client, newest[id]), "load_checkpoint")
            daemon.stopped_well(client)
    return "1,000 in %d groups" % groups


def test_creations_beside_long_compactions():
    """A log of many pieces is compacted; what is created meanwhile is kept, whatever keep_latest_n says."""
    with directory() as place, Daemon(place, "--shard-count=4") as daemon:
        with daemon.client(True) as client, daemon.client(True) as compactor:
            made = {}

            def create(names):
                asked = [(id, client.send("create_checkpoint", id=id)) for id in names]
                for id, number in asked:
                    made[id] = client.wait(number)

            create([b"%d" % i + b"." * 60000 for i in range(150)])
            between = 0
            for turn in range(8):
                create([b"%d" % turn + b"." * 60000])  # so that there is something to be dropped
                before = client.checkpoint_count()
                compacting = compactor.send("compact_checkpoints", keep_latest_n=(1000, before)[turn % 2])
                compactor.flush()
                new = []
                while not compactor.ready(compacting):
                    new.append(b"new %d.%d" % (turn, len(new)))
                    create(new[-1:])
                result = compactor.wait(compacting)
                between += len(new)
                check(before <= result["checkpoints_after"] <= before + len(new), "%d before: %r", before, result)
                listed = dict(client.list_checkpoints())
                lost = sorted(set(new) - set(listed))
                check(not lost, "created beside a compaction, and lost: %r", lost[:5])
                # What came before it began counts among the newest, and so may have pushed out older ones.
                newest = sorted(made, key=lambda id: made[id]["timestamp"])[-len(listed) :]
                made = {id: made[id] for id in newest}
                check(len(listed) >= before, "%d before, %d after", before, len(listed))
                same({id: answer["timestamp"] for id, answer in made.items()} == listed, True, "the newest are there")
                for id in new:
                    same(client.load_checkpoint(id), made[id], "what is loaded of %r" % id)
            check(between > 8, "creations came in between: %d", between)
            daemon.kill()
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            same(dict(client.list_checkpoints()), listed, "after a restart")
            daemon.stopped_well(client)
    return "%d creations came in between" % between


# ---- all of it at once -----------------------------------------------------------------------------------------------


def append_load(path, seed, writer, requests, window):
    """Appends of all kinds, pipelined; returns how many entries each shard got."""
    rng = random.Random(seed)
    counts = {}
    waiting = []
    number = 0

    def settle():
        result = client.wait(waiting.pop(0))
        if "results" in result:
            shards = [shard for shard, _ in result["results"]]
        else:
            shards = [result["shard"]] * (result["end"] - result["first"] if "end" in result else 1)
        for shard in shards:
            counts[shard] = counts.get(shard, 0) + 1

    with Client(path) as client:
        for _ in range(requests):
            kind = rng.random()
            values = [b"%d/%d/" % (writer, number + i) + b"." * rng.randrange(60) for i in range(rng.randrange(1, 9))]
            if kind < 0.6:
                values = values[:1]
                waiting.append(client.send("shard_append", key=b"%d" % rng.randrange(100), value=values[0]))
            elif kind < 0.8:
                entries = [[b"%d" % rng.randrange(100), value] for value in values]
                waiting.append(client.send("shard_append_batch", entries=entries))
            else:
                waiting.append(client.send("shard_append_batch_for_key", key=b"%d" % rng.randrange(100), values=values))
            number += len(values)
            if len(waiting) >= window:
                settle()
        while waiting:
            settle()
    return counts


def check_contents(client, shard):
    """What is kept of the shard: ids without gaps, and each writer's entries in its order."""
    info = client.stream_info(shard_name(shard))
    last = {}
    expected = info["first"]
    for id, entry in client.scan_shard(shard, info["first"], max_entries=500):
        same(id, expected, "shard %d: ids" % shard)
        expected += 1
        writer, number, _ = entry.split(b"/")
        check(int(number) > last.get(writer, -1), "shard %d: %d is out of order: %r", shard, id, entry)
        last[writer] = int(number)
    same(expected, info["end"], "shard %d: to its end" % shard)


def test_everything_at_once():
    """Creations, compactions, prunes beside appends; then totals through prune, restart, compaction, more writes."""
    rng = random.Random(4)
    shard_count, total, made_total = 8, 0, 0
    with directory() as place:
        options = ("--shard-count=%d" % shard_count, "--max-segment-size=4K", "--max-open-segments=8")
        options += ("--log-level=warn",)
        for life, mode in enumerate(("async", "batch_only", "strict")):
            with Daemon(place, "--sync-mode=" + mode, *options) as daemon, daemon.client(True) as client:
                with daemon.client(True) as creator, daemon.client(True) as compactor, daemon.client(True) as pruner:
                    writers = (life * 10, life * 10 + 1)
                    workers = [Worker(append_load, daemon.unix, writer, writer, 1500, 32) for writer in writers]
                    made, asked = [], []
                    compacting = pruning = None
                    compactions = prunes = deleted = number = 0
                    while any(worker.running() for worker in workers):
                        id = b"c%d" % (number % 150)
                        asked.append((id, creator.send("create_checkpoint", id=id)))
                        number += 1
                        if len(asked) >= 4:
                            id, msgid = asked.pop(0)
                            made.append(dict(creator.wait(msgid), id=id))
                        if compacting is None:
                            keep = rng.choice((0, 1, 2, 5, 20, 1000))
                            compacting = compactor.send("compact_checkpoints", keep_latest_n=keep)
                        elif compactor.ready(compacting):
                            result = compactor.wait(compacting)
                            check(result["checkpoints_after"] <= 150, "compact_checkpoints: %r", result)
                            compacting = None
                            compactions += 1
                        if pruning is None and made:
                            pruning = pruner.send("prune_before_checkpoint", id=made[-1]["id"])
                        elif pruning is not None and pruner.ready(pruning):
                            try:
                                deleted += pruner.wait(pruning)["segments_deleted"]
                                prunes += 1
                            except ServerError as error:  # compacted away
                                same(error.code, "CheckpointNotFound", "a prune")
                            pruning = None
                    counts = [worker.result() for worker in workers]
                    made += [dict(creator.wait(msgid), id=id) for id, msgid in asked]
                    if compacting is not None:
                        compactor.wait(compacting)
                total += sum(sum(count.values()) for count in counts)
                made_total += len(made)
                made.sort(key=lambda answer: answer["timestamp"])
                for a, b in zip(made, made[1:]):
                    check(a["timestamp"] < b["timestamp"], "a timestamp is given twice")
                    check(all(x <= y for x, y in zip(a["offsets"], b["offsets"])), "offsets go back: %r, %r", a, b)
                counted = (compactions, prunes, deleted)
                check(compactions > 3 and prunes > 3 and deleted > 10, "how many there were: %r", counted)
                newest = {answer["id"]: answer for answer in made}
                for id, timestamp in client.list_checkpoints():
                    if id in newest:
                        same(timestamp, newest[id]["timestamp"], "what is listed of %r" % id)
                        same(contents(client, client.load_checkpoint(id)), contents(client, newest[id]), "and loaded")
                final = client.create_checkpoint(b"final")
                same(final["offsets"], ends(client), "offsets are the ends")
                same(sum(final["offsets"]), total, "offsets sum up to the appends acknowledged")
                client.prune_before_checkpoint(b"final")
                if life == 1:
                    daemon.kill()
                else:
                    daemon.stopped_well(client)
            with Daemon(place, "--sync-mode=" + mode, *options) as daemon, daemon.client() as client:
                same(client.load_latest_checkpoint(), dict(final, id=b"final"), "after a restart")
                client.prune_before_checkpoint(b"final")
                client.compact_checkpoints(1)
                same(client.list_checkpoints(), [[b"final", final["timestamp"]]], "compacted to it")
                for shard in range(shard_count):
                    info = client.stream_info(shard_name(shard))
                    check(info["first"] <= final["offsets"][shard] == info["end"], "shard %d: %r", shard, info)
                    check_contents(client, shard)
                daemon.stopped_well(client)
        return "%d entries, %d checkpoints; the last: %d compactions, %d prunes, %d segments" % (
            total, made_total, compactions, prunes, deleted)


def read_beside_pruning(path, seed, rounds, end):
    """Reads shard 0 from its oldest entry on, in parts, again and again; returns how often it was overtaken."""
    rng = random.Random(seed)
    truncated = finished = 0
    with Client(path) as client:
        for _ in range(rounds):
            at = None
            while at is None or at < end:
                try:
                    part = client.iter_shard(0, at, max_entries=rng.choice((1, 5, 50)))
                except ServerError as error:
                    check(error.code == "Truncated" and at is not None, "%s", error)
                    check(at < error.fields["first_id"] <= end, "%r at %d", error.fields, at)
                    at = error.fields["first_id"]
                    truncated += 1
                    continue
                check(at is None or part["first"] == at, "%r does not begin at %r", part["first"], at)
                check(part["entries"], "nothing at %r, and the end is %d", at, end)
                for id, entry in enumerate(part["entries"], part["first"]):
                    same(entry, b"%06d" % id + b"." * 100, "entry %d" % id)
                at = part["next"]
            finished += 1
    return [finished, truncated]


def test_readers_of_pruned_segments():
    """They either finish or are told Truncated; never an error of another kind, never a wrong or a missing entry."""
    for strategy in ("standard_io", "mmap"):
        with directory() as place:
            options = ("--max-segment-size=1K", "--sync-mode=async", "--max-open-segments=4")
            options += ("--read-strategy=" + strategy,)
            with Daemon(place, *options) as daemon, daemon.client(True) as client:
                keys = key_of_each(client)
                for part in range(40):
                    numbers = [
                        client.send("shard_append", key=keys[0], value=b"%06d" % i + b"." * 100)
                        for i in range(part * 100, part * 100 + 100)
                    ]
                    for number in numbers:
                        client.wait(number)
                    client.create_checkpoint(b"%d" % part)
                workers = [Worker(read_beside_pruning, daemon.unix, i, 3, 4000) for i in range(3)]
                deleted = 0
                for part in range(40):
                    result = client.prune_before_checkpoint(b"%d" % part)
                    deleted += result["segments_deleted"]
                    first = client.stream_info("shard_00")["first"]
                    check(first <= 100 * part + 100, "pruned beyond the offset: %d", first)
                outcomes = [worker.result() for worker in workers]
                check(deleted > 300, "segments were deleted: %d", deleted)
                client.shard_append(keys[0], b"behind")
                daemon.stopped_well(client)
    return "finished %d times, Truncated %d times" % tuple(sum(numbers) for numbers in zip(*outcomes))


def test_many_shards():
    for shard_count in (64, 1000, 65535):
        with directory() as place:
            options = ("--shard-count=%d" % shard_count, "--sync-mode=async", "--log-level=warn")
            rng = random.Random(shard_count)
            counts = [0] * shard_count
            with Daemon(place, *options) as daemon, daemon.client(True) as client:
                for _ in range(3):
                    for shard, id in client.shard_append_batch([[rng.randbytes(8), b"x"] for _ in range(2000)]):
                        same(id, counts[shard], "shard %d: the id" % shard)
                        counts[shard] += 1
                made = client.create_checkpoint(b"c")
                same(made["offsets"], counts, "%d shards: offsets" % shard_count)
                same(client.append(shard_name(shard_count - 1), b"last")["id"], counts[-1], "the last shard")
                counts[-1] += 1
                error_of("Config", client.iter_shard, shard_count)
                error_of("StreamNotFound", client.get, shard_name(shard_count), 0)
                named = {shard_name(shard) for shard in range(shard_count) if counts[shard]}
                same(set(client.streams(limit=10000)), named, "list_streams")
                daemon.kill()
            with Daemon(place, *options) as daemon, daemon.client(True) as client:
                same(client.load_latest_checkpoint(), dict(made, id=b"c"), "after a restart")
                again = client.create_checkpoint(b"d")
                same(again["offsets"], counts, "offsets")
                for shard in rng.sample(range(shard_count), 50):
                    offset = made["offsets"][shard]
                    same(client.iter_shard(shard)["entries"][:offset], [b"x"] * offset, "entries")
                client.prune_before_checkpoint(b"d")
                same(client.compact_checkpoints(1)["checkpoints_after"], 1, "compact_checkpoints")
                daemon.stopped_well(client)


# ---- what is wrong with a request ------------------------------------------------------------------------------------


def test_bad_parameters():
    """Missing, mistyped, nil: BadRequest that names the parameter, nothing done, the connection lives on."""
    good = {
        "shard_append": {"key": b"k", "value": b"v"},
        "shard_append_batch": {"entries": [[b"k", b"v"]]},
        "shard_append_batch_for_key": {"key": b"k", "values": [b"v"]},
        "iter_shard": {"shard": 0},
        "create_checkpoint": {"id": b"c"},
        "load_checkpoint": {"id": b"c"},
        "list_checkpoints": {},
        "prune_before_checkpoint": {"id": b"c"},
        "compact_checkpoints": {"keep_latest_n": 1},
    }
    optional = {
        "shard_append": ("sync",),
        "shard_append_batch": ("sync",),
        "shard_append_batch_for_key": ("sync",),
        "iter_shard": ("start_id", "max_entries", "max_bytes", "wait_ms"),
        "list_checkpoints": ("limit",),
    }
    kinds = {
        "key": "bytes", "value": "bytes", "id": "bytes", "entries": "array", "values": "array", "sync": "bool",
        "shard": "integer", "start_id": "integer", "max_entries": "integer", "max_bytes": "integer",
        "wait_ms": "integer", "limit": "integer", "keep_latest_n": "integer",
    }
    wrong = {
        "bytes": [1, True, 1.5, [], {}, [b"x"]],
        "array": [1, b"x", "x", True, {}],
        "integer": [-1, -(2**63), 1.0, "1", b"1", True, [], {}, [1]],
        "bool": [0, 1, "true", b"", [], {}],
    }
    count = 0
    with directory() as place, Daemon(place) as daemon, daemon.client() as client:

        def bad(method, params, name, what):
            nonlocal count
            count += 1
            error = error_of("BadRequest", client.call, method, **params)
            check(name in error["message"], "%s: %s: the message names %s: %r", method, what, name, error)

        for method, params in good.items():
            for name in params:
                bad(method, {key: value for key, value in params.items() if key != name}, name, "missing")
                bad(method, dict(params, **{name: None}), name, "nil")
            for name in list(params) + list(optional.get(method, ())):
                for value in wrong[kinds[name]]:
                    bad(method, dict(params, **{name: value}), name, repr(value))
        for pair in (None, 1, b"kv", "kv", {}, {b"k": b"v"}, [], [b"k"], [b"k", b"v", b"w"], [None, b"v"], [b"k", None],
                     [1, b"v"], [b"k", 1], [[b"k"], b"v"], [b"k", [b"v"]], [b"k", True], [b"k", {}], [b"k", 1.5]):
            entries = [[b"a", b"1"], [b"b", b"2"], pair, [b"c", b"3"]]
            bad("shard_append_batch", {"entries": entries}, "entries", "an element %r" % (pair,))
        for value in (1, True, [], {}, None, 1.5):
            params = {"key": b"k", "values": [b"a", value]}
            bad("shard_append_batch_for_key", params, "values", "an element %r" % (value,))
        same(ends(client), [0] * 4, "nothing was written")
        same(client.checkpoint_count(), 0, "no checkpoint was made")
        # What is lenient elsewhere is so here.
        result = client.call("shard_append", key="user-17", value="text ü", sync=None)
        same(result, {"shard": 1, "id": 0}, "a str as bytes, nil as absent")
        entries = [("user-17", "x"), (b"user-18", b"")]
        same(client.shard_append_batch(entries), [[1, 1], [3, 0]], "a str in pairs")
        for header in (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02"):
            begin = b"\x94\x00\x09" + msgpack.packb("shard_append_batch") + b"\x81\xa7entries\x91"
            client.send_raw(frame(begin + header + b"\xa7user-17\xc4\x01y"))
            same(client.wait(client.expect(9))["results"][0][0], 1, "a pair's header as %r" % header)
        result = client.call("shard_append_batch_for_key", key="user-17", values=["z"], sync=None)
        same(result["shard"], 1, "a str in values")
        nothing = dict(start_id=None, max_entries=None, max_bytes=None, wait_ms=None, unknown=[1, {"x": None}])
        same(
            client.call("iter_shard", shard=1, **nothing)["entries"],
            ["text ü".encode(), b"x", b"y", b"y", b"y", b"z"],
            "nil for optional ones",
        )
        same(client.call("list_checkpoints", limit=None), {"checkpoints": []}, "nil for optional ones")
        same(client.call("shard_count", what=1)["count"], 4, "unknown ones are passed over")
        daemon.stopped_well(client)
    return "%d requests" % count


def test_elements():
    with directory() as place, Daemon(place, "--sync-mode=async") as daemon, daemon.client(True) as client:
        results = client.shard_append_batch([[b"", b""]] * ELEMENTS_LIMIT)
        same(results == [[2, id] for id in range(ELEMENTS_LIMIT)], True, "the most, in order")
        error = error_of("TooLarge", client.shard_append_batch, [[b"", b""]] * (ELEMENTS_LIMIT + 1))
        same((error["limit"], error["size"]), (ELEMENTS_LIMIT, ELEMENTS_LIMIT + 1), "limit and size")
        error = error_of("TooLarge", client.shard_append_batch_for_key, b"", [b""] * (ELEMENTS_LIMIT + 1))
        same((error["limit"], error["size"]), (ELEMENTS_LIMIT, ELEMENTS_LIMIT + 1), "limit and size, for_key")
        result = client.shard_append_batch_for_key(b"", [b""] * ELEMENTS_LIMIT)
        same(result, {"shard": 2, "first": ELEMENTS_LIMIT, "end": 2 * ELEMENTS_LIMIT}, "the most for one key")
        same(client.create_checkpoint(b"c")["offsets"], [0, 0, 2 * ELEMENTS_LIMIT, 0], "nothing else was written")
        daemon.stopped_well(client)


def test_too_large():
    limit = 128 * KIB
    with directory() as place, Daemon(place, "--max-message-bytes=128K") as daemon, daemon.client() as client:
        keys = key_of_each(client)
        entry = bytes(limit - 1024)
        for method, params in (
            ("shard_append", {"key": b"k", "value": entry + b"x"}),
            ("shard_append_batch", {"entries": [[b"a", b"1"], [b"k", entry + b"x"]]}),
            ("shard_append_batch_for_key", {"key": b"k", "values": [b"1", entry + b"x"]}),
        ):
            error = error_of("TooLarge", client.call, method, **params)
            same((error["limit"], error["size"]), (limit - 1024, limit - 1023), "limit and size of a value, " + method)
        same(ends(client), [0] * 4, "nothing was written")
        same(client.shard_append(keys[0], entry)["id"], 0, "a value of the limit")
        same(client.iter_shard(0)["entries"], [entry], "and back")
        # 13 bytes for each entry of the answer and 2 KiB are reckoned.
        most = (limit - 2048) // 13
        error = error_of("TooLarge", client.shard_append_batch, [[b"", b""]] * (most + 1))
        same((error["limit"], error["size"]), (limit, 13 * (most + 1) + 2048), "limit and size of the answer")
        check("results" not in error, "of the whole request")
        same(ends(client), [1, 0, 0, 0], "nothing was written")
        same(len(client.shard_append_batch([[b"", b""]] * most)), most, "what just fits")
        same(ends(client), [1, 0, most, 0], "all of it was written")
        # Lists that do not fit.
        for i in range(3):
            client.create_checkpoint(b"%d" % i * 60000)
        error = error_of("TooLarge", client.list_checkpoints)
        check(error["size"] > error["limit"] > 120000, "limit and size of a list: %r", error)
        check(error["limit"] <= limit, "the limit of a list: %r", error)
        same([id[:1] for id, _ in client.list_checkpoints(2)], [b"1", b"2"], "a limit helps")
        same(client.load_latest_checkpoint()["id"], b"2" * 60000, "the newest")
        same(client.checkpoint_count(), 3, "all are there")
        daemon.stopped_well(client)


def test_too_many_offsets():
    limit = 128 * KIB
    with directory() as place:
        options = ("--shard-count=20000", "--sync-mode=async", "--log-level=warn")
        with Daemon(place, "--max-message-bytes=128K", *options) as daemon, daemon.client() as client:
            for call, arguments in ((client.create_checkpoint, (b"c",)), (client.load_checkpoint, (b"c",)),
                                    (client.load_latest_checkpoint, ())):
                error = error_of("TooLarge", call, *arguments)
                check(error["size"] > limit == error["limit"], "limit and size: %r", error)
            same(client.checkpoint_count(), 0, "none was made")
            error_of("CheckpointNotFound", client.prune_before_checkpoint, b"c")
            daemon.stopped_well(client)
        with Daemon(place, *options) as daemon, daemon.client() as client:
            same(client.create_checkpoint(b"c")["offsets"], [0] * 20000, "with the default limit")
            daemon.stopped_well(client)
        with Daemon(place, "--max-message-bytes=128K", *options) as daemon, daemon.client() as client:
            error_of("TooLarge", client.load_checkpoint, b"c")
            same(client.list_checkpoints()[0][0], b"c", "list_checkpoints has none of them")
            same(client.prune_before_checkpoint(b"c")["segments_deleted"], 0, "nor has prune")
            daemon.stopped_well(client)
    with directory() as place:  # the offsets alone fit, with a long id they may not
        with Daemon(place, "--max-message-bytes=128K", "--shard-count=8000", "--log-level=warn") as daemon:
            with daemon.client() as client:
                made = client.create_checkpoint(b"x" * ID_LIMIT_BYTES)
                same(client.load_checkpoint(b"x" * ID_LIMIT_BYTES), made, "load_checkpoint")
                error = error_of("TooLarge", client.load_latest_checkpoint)
                same(error["limit"], limit, "load_latest_checkpoint: the limit")
                daemon.stopped_well(client)


# ---- errors that come from the directory, and failures in part ------------------------------------------------------


def test_another_shard_count_is_refused():
    with directory() as place:
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            client.shard_append(b"k", b"v")
            daemon.stopped_well(client)
        for other in (1, 5, 1000):
            refused(2, [r"\b4\b", r"\b%d\b" % other], place, "--shard-count=%d" % other)
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            same(sum(ends(client)), 1, "with the right one all is there")
            daemon.stopped_well(client)


def test_checkpoints_of_another_directory():
    """ShardCountMismatch: the log of checkpoints was copied from a directory with another number of shards."""
    with directory() as place, directory() as elsewhere:
        with Daemon(elsewhere, "--shard-count=6") as daemon, daemon.client() as client:
            client.create_checkpoint(b"old")
            daemon.stopped_well(client)
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            client.shard_append(b"k", b"v")
            daemon.stopped_well(client)
        shutil.copy(os.path.join(elsewhere, "data", CHECKPOINT_LOG), os.path.join(place, "data", CHECKPOINT_LOG))
        with Daemon(place, "--shard-count=4") as daemon, daemon.client() as client:
            for call, arguments in ((client.load_checkpoint, (b"old",)), (client.load_latest_checkpoint, ()),
                                    (client.prune_before_checkpoint, (b"old",))):
                error = error_of("ShardCountMismatch", call, *arguments)
                same((error["expected"], error["found"]), (4, 6), "expected and found")
            same([id for id, _ in client.list_checkpoints()], [b"old"], "it is listed")
            made = client.create_checkpoint(b"new")
            same(sum(made["offsets"]), 1, "a new one")
            same(client.load_latest_checkpoint(), dict(made, id=b"new"), "and it is the newest")
            client.compact_checkpoints(1)
            error_of("CheckpointNotFound", client.load_checkpoint, b"old")
            daemon.stopped_well(client)


def test_damaged_checkpoints():
    """CheckpointCorrupted for what is damaged, never an older one in its place; the rest is as it was."""
    with directory() as place:
        path = os.path.join(place, "data", CHECKPOINT_LOG)
        made, places = {}, {}
        with Daemon(place) as daemon, daemon.client() as client:
            for i in range(5):
                client.shard_append(b"%d" % i, b"x")
                id = b"checkpoint %d" % i
                made[id] = client.create_checkpoint(id)
            daemon.stopped_well(client)
        with open(path, "rb") as file:
            data = file.read()
        for id in made:
            places[id] = data.index(id)
        # The newest: its content.
        flip(path, places[b"checkpoint 4"] + 2)
        with Daemon(place, "--log-level=error") as daemon, daemon.client() as client:
            for call, arguments in ((client.load_latest_checkpoint, ()), (client.load_checkpoint, (b"checkpoint 4",)),
                                    (client.prune_before_checkpoint, (b"checkpoint 4",))):
                error = error_of("CheckpointCorrupted", call, *arguments)
                check(0 < error["offset"] <= places[b"checkpoint 4"], "the offset: %r", error)
                check(error["reason"], "the reason: %r", error)
            for id in list(made)[:4]:
                same(client.load_checkpoint(id), made[id], "the others")
            check([b"checkpoint 3", made[b"checkpoint 3"]["timestamp"]] in client.list_checkpoints(), "are listed")
            check(client.checkpoint_count() in (4, 5), "checkpoint_count: %d", client.checkpoint_count())
            again = client.create_checkpoint(b"checkpoint 4")
            before = made[b"checkpoint 4"]
            check(again["timestamp"] > before["timestamp"], "timestamps rise")
            check(all(x >= y for x, y in zip(again["offsets"], before["offsets"])), "offsets do not go back")
            made[b"checkpoint 4"] = again
            same(client.load_latest_checkpoint(), dict(again, id=b"checkpoint 4"), "created again it is whole")
            same(client.checkpoint_count(), 5, "checkpoint_count")
            daemon.stopped_well(client)
        # An older one: its header, and with it what its id was.
        for at in range(places[b"checkpoint 1"] - 72, places[b"checkpoint 1"] - 40):
            flip(path, at)
        with Daemon(place, "--log-level=error") as daemon, daemon.client() as client:
            error_of("CheckpointCorrupted", client.load_checkpoint, b"checkpoint 1")
            error_of("CheckpointCorrupted", client.load_checkpoint, b"never made")
            listed = client.call("list_checkpoints")
            same(listed["damaged"], 1, "counted")
            left = [id for id in made if id != b"checkpoint 1"]
            same([id for id, _ in listed["checkpoints"]], left, "left out")
            for id in left:
                same(client.load_checkpoint(id), made[id], "the others")
            same(client.load_latest_checkpoint()["id"], b"checkpoint 4", "the newest is whole")
            client.compact_checkpoints(2)
            error_of("CheckpointNotFound", client.load_checkpoint, b"checkpoint 1")
            expected = [[id, made[id]["timestamp"]] for id in left[2:]]
            same(client.call("list_checkpoints"), {"checkpoints": expected}, "gone, also what was damaged")
            daemon.stopped_well(client)


def test_a_damaged_newest_does_not_outlive_compaction_to_none():
    with directory() as place:
        path = os.path.join(place, "data", CHECKPOINT_LOG)
        with Daemon(place) as daemon, daemon.client() as client:
            client.create_checkpoint(b"the only one")
            daemon.stopped_well(client)
        with open(path, "rb") as file:
            at = file.read().index(b"the only one")
        for i in range(at - 72, at - 40):
            flip(path, i)
        with Daemon(place, "--log-level=error") as daemon, daemon.client() as client:
            error_of("CheckpointCorrupted", client.load_latest_checkpoint)
            client.compact_checkpoints(0)
            error_of("NoCheckpoints", client.load_latest_checkpoint)
            same(client.call("list_checkpoints"), {"checkpoints": []}, "and nothing is listed")
            daemon.stopped_well(client)


def test_a_batch_that_fails_in_part():
    """A directory that cannot be made fails the entries of one shard; the others are written, and `results` tells."""
    with directory() as place, Daemon(place) as daemon, daemon.client() as client:
        keys = key_of_each(client)
        in_the_way = os.path.join(daemon.root, shard_name(3))
        with open(in_the_way, "w"):
            pass
        entries = [[keys[1], b"a"], [keys[3], b"b"], [keys[0], b"c"], [keys[1], b"d"], [keys[3], b"e"]]
        error = error_of("Io", client.shard_append_batch, entries)
        same(error["results"], [[1, 0], None, [0, 0], [1, 1], None], "results")
        same(error["outcome"], "none", "outcome")
        check("shard_03" in error["path"] and error["errno"], "where and what: %r", error)
        error_of("Io", client.shard_append, keys[3], b"x")
        error_of("Io", client.shard_append_batch_for_key, keys[3], [b"x"])
        error = error_of("Io", client.shard_append_batch, [[keys[3], b"x"], [keys[3], b"y"]])
        same(error.get("results"), [None, None], "results, if nothing was written")
        same(client.create_checkpoint(b"c")["offsets"], [1, 2, 0, 0], "what was written")
        os.unlink(in_the_way)
        same(client.shard_append_batch(entries), [[1, 2], [3, 0], [0, 1], [1, 3], [3, 1]], "when it is out of the way")
        same(client.iter_shard(3)["entries"], [b"b", b"e"], "nothing is left of what failed")
        same(client.iter_shard(1)["entries"], [b"a", b"d", b"a", b"d"], "the others")
        daemon.stopped_well(client)


def test_stop_answers_checkpoints():
    """SIGTERM: what was read is answered or told ShuttingDown, and what was acknowledged is there."""
    with directory() as place:
        with Daemon(place, "--sync-mode=async", "--shutdown-timeout=30s") as daemon, daemon.client() as client:
            asked = []
            for i in range(300):
                client.send("shard_append", key=b"%d" % i, value=b"x")
                asked.append((b"%d" % i, client.send("create_checkpoint", id=b"%d" % i)))
            waiting = client.send("iter_shard", shard=0, start_id=10**6, wait_ms=60000)
            first = client.wait(asked[0][1])
            daemon.process.send_signal(signal.SIGTERM)
            client.at_end()
            made = {asked[0][0]: first}
            refused_count = 0
            for id, msgid in asked[1:]:
                error, result = client.take(msgid) or (None, None)
                if result is not None:
                    made[id] = result
                elif error is not None:
                    same(error["code"], "ShuttingDown", "a creation that came too late")
                    refused_count += 1
            error, result = client.take(waiting) or (None, {"entries": []})
            check(error is not None or result["entries"] == [], "the waiting iter: %r %r", error, result)
            client.close()
            same(daemon.wait(), 0, "status")
        with Daemon(place) as daemon, daemon.client() as client:
            for id, answer in made.items():
                same(client.load_checkpoint(id), answer, "what was acknowledged")
            for offset, end in zip(client.load_latest_checkpoint()["offsets"], ends(client)):
                check(offset <= end, "an offset past the end: %d, %d", offset, end)
            daemon.stopped_well(client)
    return "%d made, %d told ShuttingDown" % (len(made), refused_count)


def test_stats():
    with directory() as place, Daemon(place) as daemon, daemon.client() as client:
        client.shard_append(b"k", b"v")
        client.shard_append_batch([[b"a", b"1"], [b"b", b"2"]])
        client.create_checkpoint(b"a")
        client.create_checkpoint(b"b")
        client.create_checkpoint(b"a")
        client.load_checkpoint(b"a")
        error_of("CheckpointNotFound", client.load_checkpoint, b"c")
        error_of("Config", client.iter_shard, 9)
        client.compact_checkpoints(1)
        stats = client.stats()
        checkpoints = stats["checkpoints"]
        same((checkpoints["count"], checkpoints["records"], checkpoints["created"]), (1, 1, 3), "checkpoints")
        same((checkpoints["compactions"], checkpoints["damage_found"]), (1, 0), "checkpoints")
        same((checkpoints["failed"], checkpoints["failed_reason"]), (False, ""), "checkpoints")
        check(checkpoints["sync_us"]["count"] >= 3 and checkpoints["log_bytes"] > 0, "checkpoints: %r", checkpoints)
        same(stats["requests"]["create_checkpoint"]["count"], 3, "requests")
        same(stats["requests"]["shard_append_batch"]["count"], 1, "requests")
        same(stats["requests"]["load_checkpoint"]["errors"], 1, "requests")
        same((stats["errors"]["CheckpointNotFound"], stats["errors"]["Config"]), (1, 1), "errors")
        same(sum(writer["entries"] for writer in stats["writers"]), 3, "entries")
        daemon.stopped_well(client)


def test_lives_through_a_follower():
    """One process follows each shard from a checkpoint's offsets on, over a kill of the server, and misses nothing."""
    with directory() as place:
        with Daemon(place, "--shard-count=4", "--sync-mode=strict") as daemon, daemon.client() as client:
            keys = key_of_each(client)
            for i in range(50):
                client.shard_append(keys[i % 4], b"%d" % i)
            made = client.create_checkpoint(b"start")
            for i in range(50, 100):
                client.shard_append(keys[i % 4], b"%d" % i)
            daemon.kill()
            try:
                client.ping()
            except (ConnectionLost, OSError):
                pass
        with Daemon(place, "--shard-count=4", "--sync-mode=strict") as daemon, daemon.client() as client:
            latest = client.load_latest_checkpoint()
            same(latest, dict(made, id=b"start"), "the newest")
            found = [entry for shard in range(4) for _, entry in client.scan_shard(shard, latest["offsets"][shard])]
            same(sorted(map(int, found)), list(range(50, 100)), "all since the checkpoint")
            eventually(lambda: client.stats()["engine"]["streams"] >= 4, "streams")
            daemon.stopped_well(client)


if __name__ == "__main__":
    main(cases_of(globals()))
