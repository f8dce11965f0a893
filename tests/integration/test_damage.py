#!/usr/bin/python3
"""Damage done by hand to real files, between two runs of the real daemon; and few descriptors, and stops under load.

test_damage.py IRONWALD [CASE...]
"""

import glob
import os
import random
import re
import shutil
import signal
import socket
import struct
import time

from harness import Daemon, Worker, cases_of, check, directory, error_of, eventually, main, refused, same, segments
from ironwal_client import Client, ConnectionLost, ServerError, request

STOPS = ("SIGKILL", "SIGTERM")
DAMAGE = ("CrcMismatch", "Corruption")


# ---- segment files, as server/engine/format.h has them -----------------------------------------------------------------


def crc32c(data, _table=[]):
    if not _table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
            _table.append(i)
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


class Frame:
    def __init__(self, data, offset):
        self.offset = offset
        self.header_bytes, at, self.first_id = struct.unpack_from("<IQQ", data, offset + 4)
        self.stored_bytes, self.entry_count = struct.unpack_from("<QI", data, offset + 48)
        check(data[offset : offset + 4] == b"IWFR" and at == offset, "a frame at %d", offset)
        self.end = (offset + self.header_bytes + self.stored_bytes + 7) // 8 * 8


def frames_of(path):
    with open(path, "rb") as file:
        data = file.read()
    same(data[:8], b"IWALSEG1", "a segment")
    (offset,) = struct.unpack_from("<I", data, 12)
    found = []
    while data[offset : offset + 4] == b"IWFR":
        found.append(Frame(data, offset))
        offset = found[-1].end
    return found


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path, offset, mask=1):
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def entry_of(i):
    return b"entry %04d " % i * (1 + i % 5)


def make(place, how, *options, count=20, name="s", batch=1):
    """A directory with one stream of `count` frames, by a daemon that was ended so. Returns its last segment."""
    with Daemon(place, *options, "--log-level=warn") as daemon:
        with daemon.client() as client:
            if batch == 1:
                for i in range(count):
                    client.append(name, entry_of(i))
            else:
                for i in range(count):
                    client.append_batch(name, [entry_of(j) for j in range(i * batch, i * batch + batch)])
        if how == "SIGKILL":
            daemon.kill()
            # Damage is to meet the segments, not what the journal still knows of them: a start empties it.
            with Daemon(place, *options, "--log-level=warn") as again:
                again.kill()
        else:
            daemon.stopped_well()
    return segments(os.path.join(place, "data"))[-1]


def expect_entries(client, count, name="s", first=0):
    same([entry for _, entry in client.scan(name, first)], [entry_of(i) for i in range(first, count)], "entries by iter")
    same(client.get_batch(name, list(range(first, count))), [entry_of(i) for i in range(first, count)], "and by get_batch")


def serves(place, count, next_id, *options, then=True):
    """It starts, has entries 0 to count - 1 and no more, goes on at next_id, and after a restart all that is there."""
    with Daemon(place, *options, "--log-level=warn") as daemon, daemon.client() as client:
        same(client.stream_info("s")["end"], next_id, "the stream's end")
        if next_id == count:
            expect_entries(client, count)
        else:
            same(client.get_batch("s", list(range(count))), [entry_of(i) for i in range(count)], "what is left")
        if then:
            same(client.append("s", b"after")["id"], next_id, "the next id")
            same(client.append_batch("s", [b"and", b"so", b"on"])["first"], next_id + 1, "and a batch")
        daemon.kill()
    if then:
        for how in STOPS:
            with Daemon(place, *options, "--log-level=warn") as daemon, daemon.client() as client:
                same(client.get_batch("s", list(range(count))), [entry_of(i) for i in range(count)], "again")
                same(client.iter("s", next_id)["entries"], [b"after", b"and", b"so", b"on"], "what was appended")
                if how == "SIGKILL":
                    daemon.kill()
                else:
                    daemon.stopped_well(client)


# ---- the end of the active segment -------------------------------------------------------------------------------------


def cut_tail(how_cut):
    """After SIGKILL nothing tells that the last frame was durable: it is cut. After SIGTERM it is known: damage."""
    for how in STOPS:
        with directory() as place:
            path = make(place, how)
            last = frames_of(path)[-1]
            how_cut(path, last)
            if how == "SIGKILL":
                serves(place, 19, 19)
            else:
                for _ in range(2):
                    refused(3, [re.escape(os.path.basename(path)), r"byte %d\b" % last.offset], place)
                serves(place, 19, 20, "--on-corruption=truncate")


def test_last_frame_cut_short():
    for cut in (lambda last: last.end - 8, lambda last: last.end - 9, lambda last: last.offset + last.header_bytes + 1):
        cut_tail(lambda path, last: os.truncate(path, cut(last)))


def test_last_frame_cut_inside_its_header():
    for cut in (0, 1, 4, 50, 96, 115):
        cut_tail(lambda path, last: os.truncate(path, last.offset + cut))


def test_last_frame_torn_to_zeros():
    """A sector of it never reached the disk."""
    cut_tail(lambda path, last: overwrite(path, last.offset, bytes(16)))

    def data_to_zeros(path, last):
        begin = last.offset + last.header_bytes
        overwrite(path, begin, bytes(last.end - begin))

    cut_tail(data_to_zeros)


def test_zeros_after_the_end():
    for how in STOPS:
        for length in (1, 7, 512, 100000):
            with directory() as place:
                path = make(place, how)
                end = frames_of(path)[-1].end
                os.truncate(path, end)
                with open(path, "ab") as file:
                    file.write(bytes(length))
                serves(place, 20, 20)


def test_garbage_after_the_end():
    rng = random.Random(3)
    for how in STOPS:
        for kind in ("a byte", "noise", "noise behind zeros", "its own first frame", "a cut frame header", "a foreign frame"):
            with directory() as place:
                path = make(place, how)
                frames = frames_of(path)
                end = frames[-1].end
                with open(path, "rb") as file:
                    data = file.read()
                first = data[frames[0].offset : frames[0].end]
                garbage = {
                    "a byte": b"\x01",
                    "noise": rng.randbytes(3001),
                    "noise behind zeros": bytes(4096) + rng.randbytes(600),
                    "its own first frame": first,
                    "a cut frame header": data[frames[-1].offset : frames[-1].offset + 90],
                    "a foreign frame": bytes(64) + first,
                }[kind]
                overwrite(path, end, garbage)
                serves(place, 20, 20)


# ---- rot in what was durable -------------------------------------------------------------------------------------------


def test_flipped_bit_in_the_active_segment():
    places = {
        "the payload": lambda frame: frame.offset + frame.header_bytes + 6,
        "the payload's end": lambda frame: frame.offset + frame.header_bytes + frame.stored_bytes - 1,
        "the magic": lambda frame: frame.offset,
        "the length": lambda frame: frame.offset + 5,
        "the first id": lambda frame: frame.offset + 16,
        "the salt": lambda frame: frame.offset + 45,
        "the checksum": lambda frame: frame.offset + frame.header_bytes - 1,
    }
    for how in STOPS:
        for what, where in places.items():
            for number in (0, 7):
                with directory() as place:
                    path = make(place, how)
                    frame = frames_of(path)[number]
                    flip(path, where(frame))
                    with open(path, "rb") as file:
                        before = file.read()
                    for _ in range(2):
                        patterns = [re.escape("s/" + os.path.basename(path)), r"byte %d\b" % frame.offset]
                        refused(3, patterns, place)
                    with open(path, "rb") as file:
                        check(file.read() == before, "a refused start changes nothing")
                    # What is before it is served; the hole speaks, and nobody gets its ids.
                    with Daemon(place, "--on-corruption=truncate", "--log-level=warn") as daemon, daemon.client() as client:
                        info = client.stream_info("s")
                        same(info["end"], 20, "ids that were durable are not given again")
                        same(client.get_batch("s", list(range(number))), [entry_of(i) for i in range(number)], "before it")
                        if number > 0:
                            part = client.iter("s")
                            same((part["next"], part["end"]), (number, 20), "iter ends before it")
                        for id in (number, number + 1, 19):
                            for call in (lambda: client.get("s", id), lambda: client.iter("s", id),
                                         lambda: client.get_batch("s", [id])):
                                error = error_of("Corruption", call)
                                same((error["stream"], error["id"]), ("s", id), "stream and id in the error")
                        same(client.append("s", b"after")["id"], 20, "the next id")
                        error = error_of("Corruption", client.iter, "s", number)
                        same(error.get("first_id"), 20, "where reading can go on")
                        same(client.iter("s", error["first_id"])["entries"], [b"after"], "and it does")
                        check(client.stats()["recovery"]["rot_found"] == 1, "counted")
                        daemon.kill()
                    aside = glob.glob(os.path.join(place, "data", "s", "*.cut"))
                    same(len(aside), 1, "the damaged file is set aside")
                    # From now on it starts under both policies, and says the same.
                    for policy in ("error", "truncate"):
                        with Daemon(place, "--on-corruption=" + policy, "--log-level=warn") as daemon:
                            with daemon.client() as client:
                                same(error_of("Corruption", client.get, "s", number)["first_id"], 20, "the hole")
                                same(client.get("s", 20), b"after", "what came after")
                                same(client.stream_info("s")["end"], 21, "the end")
                                if policy == "truncate":  # the hole goes when all of it is given up, not before
                                    same(client.truncate("s", 19), 0, "truncate in the hole")
                                    same(client.stream_info("s")["first"], 0, "the oldest")
                                    error_of("Corruption", client.get, "s", 19)
                                    same(client.truncate("s", 20), 1, "truncate behind the hole")
                                    same(error_of("Truncated", client.iter, "s", 19)["first_id"], 20, "gone")
                                    same(client.iter("s")["entries"], [b"after"], "what is left")
                            daemon.stopped_well()


def test_own_segment_as_entry():
    """A segment's bytes stored as an entry of its own stream must never pass as frames of it."""
    for how in STOPS:
        with directory() as place:
            with Daemon(place, "--log-level=warn") as daemon, daemon.client() as client:
                for i in range(5):
                    client.append("s", entry_of(i))
                (path,) = segments(daemon.root)
                with open(path, "rb") as file:
                    copy = file.read()[: frames_of(path)[-1].end]
                for lead in range(8):  # at every alignment
                    client.append("s", b"x" * lead + copy)
                daemon.kill() if how == "SIGKILL" else daemon.stopped_well(client)
            frames = frames_of(path)
            same(len(frames), 13, "frames")
            pristine = os.path.join(place, "pristine")
            shutil.copytree(os.path.join(place, "data"), pristine)

            def again(number, where):
                shutil.rmtree(os.path.join(place, "data"))
                shutil.copytree(pristine, os.path.join(place, "data"))
                flip(path, where(frames[number]))

            # The last frame's own header broken: nothing whole behind it, whatever its contents look like.
            again(12, lambda frame: frame.offset + 20)
            if how == "SIGKILL":
                with Daemon(place, "--log-level=warn") as daemon, daemon.client() as client:
                    same(client.stream_info("s")["end"], 12, "the torn frame and nothing of its inside")
                    same(client.append("s", b"after")["id"], 12, "the next id")
                    same(client.get("s", 11), b"x" * 6 + copy, "the one before")
                    daemon.kill()
            else:
                refused(3, [r"byte %d\b" % frames[12].offset], place)
            # The frame before one that holds a copy: rot, and what is behind it is told by whole frames only.
            for number in (4, 8, 11):
                again(number, lambda frame: frame.offset + frame.header_bytes + 3)
                refused(3, [r"byte %d\b" % frames[number].offset], place)
                with Daemon(place, "--on-corruption=truncate", "--log-level=warn") as daemon, daemon.client() as client:
                    same(client.stream_info("s")["end"], 13, "the end")
                    same(client.get("s", 3), entry_of(3), "before it")
                    for id in range(number, 13):
                        error_of("Corruption", client.get, "s", id)
                    same(client.append("s", b"after")["id"], 13, "the next id")
                    daemon.stopped_well(client)


def test_flipped_bits_everywhere():
    """A bit anywhere in a small active segment: refused, or every entry as it was; never another byte, never an old id."""
    rng = random.Random(5)
    outcomes = {"whole": 0, "torn": 0, "refused": 0}
    with directory() as place:
        make(place, "SIGKILL", count=8)
        root = os.path.join(place, "data")
        pristine = os.path.join(place, "pristine")
        shutil.copytree(root, pristine)
        (path,) = segments(root)
        last = frames_of(path)[-1]
        for _ in range(60):
            shutil.rmtree(root)
            shutil.copytree(pristine, root)
            offset = rng.randrange(last.end + 16)
            flip(path, offset, 1 << rng.randrange(8))
            with Daemon(place, "--log-level=error", ready=False) as daemon:
                line = daemon.process.stdout.readline()
                if line == "ready\n":
                    with Client(daemon.unix) as client:
                        end = client.stream_info("s")["end"]
                        check(end == 8 or end == 7 and last.offset <= offset < last.end, "offset %d: end %d", offset, end)
                        expect_entries(client, end)
                        outcomes["whole" if end == 8 else "torn"] += 1
                    daemon.kill()
                    continue
                same(daemon.wait(), 3, "status for a bit at %d: %s" % (offset, daemon.stderr()))
                outcomes["refused"] += 1
            with Daemon(place, "--on-corruption=truncate", "--log-level=error") as daemon, daemon.client() as client:
                end = client.append("s", b"new")["id"]
                check(end >= 7, "offset %d: an old id is given again: %d", offset, end)
                for id in range(end):
                    try:
                        same(client.get("s", id), entry_of(id), "entry %d for a bit at %d" % (id, offset))
                    except ServerError as error:
                        check(error.code in DAMAGE, "offset %d: entry %d: %s", offset, id, error)
                daemon.kill()
    return "%(refused)d refused, %(torn)d taken for a torn tail, %(whole)d outside of all frames" % outcomes


def test_flipped_bit_in_a_sealed_segment():
    """Start-up does not look there; reads answer with the place where reading can go on."""
    for how in STOPS:
        for strategy in ("standard_io", "mmap"):
            for compression in ("none", "lz4"):
                size = "--max-segment-size=" + ("700" if compression == "lz4" else "4K")
                options = (size, "--compression=" + compression, "--min-compression-size=0")
                with directory() as place:
                    make(place, how, *options, count=40, batch=10)
                    files = segments(os.path.join(place, "data"))
                    check(len(files) > 4, "segments: %d", len(files))
                    path = files[1]
                    frame = frames_of(path)[0]
                    flip(path, frame.offset + frame.header_bytes + frame.stored_bytes // 2)
                    header = frames_of(files[3])[-1]
                    flip(files[3], header.offset + 60)
                    options = options[:1] + ("--read-strategy=" + strategy, "--log-level=warn")
                    with Daemon(place, *options) as daemon, daemon.client() as client:
                        same(client.stream_info("s")["end"], 400, "it starts, with all ids")
                        for first, count, codes in (
                            (frame.first_id, frame.entry_count, DAMAGE),
                            (header.first_id, header.entry_count, ("Corruption",)),
                        ):
                            after = first + count
                            same(client.get("s", first - 1), entry_of(first - 1), "the neighbour before")
                            same(client.get("s", after), entry_of(after), "the neighbour behind")
                            part = client.iter("s", first - 5)
                            same(part["next"], first, "iter ends before the damage")
                            same(part["entries"], [entry_of(i) for i in range(first - 5, first)], "with what is before")
                            for id in (first, after - 1):
                                for call in (lambda: client.get("s", id), lambda: client.iter("s", id),
                                             lambda: client.get_batch("s", [0, id])):
                                    try:
                                        call()
                                        check(False, "entry %d is answered", id)
                                    except ServerError as error:
                                        check(error.code in codes, "%s", error)
                                        fields = error.fields
                                        same((fields["stream"], fields["id"]), ("s", id), "stream and id")
                                        same(fields["first_id"], after, "first_id")
                                        check(fields["segment"].endswith(".wal"), "segment: %r", fields)
                                        check(type(fields["offset"]) is int, "offset: %r", fields)
                                        if error.code == "CrcMismatch":
                                            check(fields["expected"] != fields["actual"], "checksums: %r", fields)
                        seen, start = [], 0
                        while start < 400:  # a reader that skips what is damaged gets all else
                            try:
                                part = client.iter("s", start)
                                seen += part["entries"]
                                start = part["next"]
                            except ServerError as error:
                                start = error.fields["first_id"]
                        lost = set(range(frame.first_id, frame.first_id + frame.entry_count))
                        lost |= set(range(header.first_id, header.first_id + header.entry_count))
                        same(seen, [entry_of(i) for i in range(400) if i not in lost], "all else")
                        same(client.append("s", b"x")["id"], 400, "and it takes appends")
                        check(client.stats()["engine"]["damage_found"] > 0, "counted")
                        daemon.stopped_well(client)


def test_sealed_segment_gone():
    """A file removed by hand, while it runs and before a start."""
    options = ("--max-segment-size=500", "--max-open-segments=1", "--log-level=warn")
    with directory() as place:
        with Daemon(place, *options) as daemon, daemon.client() as client:
            for i in range(400):
                client.append("s", entry_of(i))
            files = segments(daemon.root)
            check(len(files) > 100, "segments: %d", len(files))
            first, after = (int(os.path.basename(path)[:-4]) for path in files[2:4])
            for i in range(20, 400):
                client.get("s", i)  # so that it is not open any more
            os.unlink(files[2])
            error = error_of("SegmentNotFound", client.get, "s", first)
            same((error["id"], error.get("first_id")), (first, after), "id and first_id")
            same(client.get("s", first - 1), entry_of(first - 1), "before it")
            same(client.get("s", after), entry_of(after), "behind it")
            daemon.kill()
        with Daemon(place, *options) as daemon, daemon.client() as client:
            same(client.stream_info("s")["end"], 400, "it starts")
            error = error_of("Corruption", client.iter, "s", first)
            same(error["first_id"], after, "the hole speaks")
            error = error_of("Corruption", client.get, "s", after - 1)
            same(error["first_id"], after, "to its end")
            expect_entries(client, 400, first=after)
            same(client.iter("s")["next"], first, "iter ends before it")
            daemon.stopped_well(client)


# ---- derived files, the directory --------------------------------------------------------------------------------------


def test_derived_files():
    """Index files and the clean-stop record: deleted, empty, cut, filled with noise. Nothing is lost."""
    rng = random.Random(7)
    count = 600

    def entry(i):
        return random.Random(i).randbytes(1000) + b"%d" % i

    with directory() as place:
        options = ("--max-segment-size=200K", "--log-level=warn")
        root = os.path.join(place, "data")
        with Daemon(place, *options) as daemon, daemon.client() as client:
            for first in range(0, count, 50):  # in several groups, for one of all would need no index
                for number in [client.send("append", stream="s", entry=entry(i)) for i in range(first, min(first + 50, count))]:
                    client.wait(number)
            shutil.copytree(root, os.path.join(place, "killed"))
            daemon.stopped_well(client)
        os.rename(root, os.path.join(place, "stopped"))
        names = set()
        for kept in ("killed", "stopped"):
            for damage in ("delete", "empty", "cut", "noise", "bits", "zeros", "another's"):
                shutil.rmtree(root, ignore_errors=True)
                shutil.copytree(os.path.join(place, kept), root)
                everything = glob.glob(root + "/**", recursive=True)
                derived = [path for path in everything if re.search(r"\.idx$|ironwald\.clean$", path)]
                names |= {re.search(r"clean$|\.idx$", path).group() for path in derived}
                for path in derived:
                    size = os.path.getsize(path)
                    if damage == "delete":
                        os.unlink(path)
                    elif damage == "empty":
                        os.truncate(path, 0)
                    elif damage == "cut":
                        os.truncate(path, size * 2 // 3)
                    elif damage == "noise":
                        overwrite(path, 0, rng.randbytes(size))
                    elif damage == "bits":
                        for _ in range(5):
                            flip(path, rng.randrange(size), 1 << rng.randrange(8))
                    elif damage == "zeros":
                        overwrite(path, 0, bytes(size))
                    elif path.endswith(".idx"):
                        shutil.copy(derived[0] if derived[0].endswith(".idx") else derived[-1], path + ".new")
                        os.rename(path + ".new", path)
                with Daemon(place, *options) as daemon, daemon.client() as client:
                    same(client.stream_info("s")["end"], count, "%s, %s: the end" % (kept, damage))
                    for id in rng.sample(range(count), 20):
                        same(client.get("s", id), entry(id), "%s, %s: get %d" % (kept, damage, id))
                    for id, got in client.scan("s", max_bytes=4 * 1024 * 1024):
                        same(got, entry(id), "%s, %s: iter %d" % (kept, damage, id))
                    same(id, count - 1, "to the end")
                    same(client.append("s", b"x")["id"], count, "the next id")
                    daemon.stopped_well(client)
        same({"clean", ".idx"} <= names, True, "both kinds of files were damaged: %r" % names)


def test_second_daemon():
    with directory() as place:
        other = os.path.join(place, "other")
        os.mkdir(other)
        with Daemon(place) as daemon, daemon.client() as client:
            client.append("s", b"x")
            for _ in range(2):
                refused(2, ["in use"], other, root=daemon.root)
            link = os.path.join(place, "link")
            os.symlink(daemon.root, link)
            refused(2, ["in use"], other, root=link)
            same(client.append("s", b"y")["id"], 1, "the first lives on")
            daemon.kill()
        with Daemon(place) as daemon, daemon.client() as client:  # the lock went with the process
            same(client.iter("s")["entries"], [b"x", b"y"], "entries")
            daemon.stopped_well(client)


def test_other_format_versions():
    with directory() as place:
        path = make(place, "SIGKILL")
        manifest = os.path.join(place, "data", "ironwald.manifest")
        with open(manifest, "rb") as file:
            good = file.read()
        for version in (0, 2, 4000000000):
            text = good[: good.index(b"check ")].replace(b"version 1\n", b"version %d\n" % version)
            with open(manifest, "wb") as file:
                file.write(text + b"check %08x\n" % crc32c(text))
            refused(2, ["version %d" % version, "version 1"], place)
        other = good.replace(b"version 1\n", b"version 3\n"), good.replace(b"shard_count 4", b"shard_count 5")
        for broken in (*other, good[:20], b""):
            with open(manifest, "wb") as file:
                file.write(broken)
            refused(3, ["ironwald.manifest"], place)
        with open(manifest, "wb") as file:
            file.write(good)
        with open(path, "rb") as file:
            data = file.read(400)
        (header_bytes,) = struct.unpack_from("<I", data, 12)
        header = data[:8] + struct.pack("<I", 2) + data[12 : header_bytes - 4]
        overwrite(path, 0, header + struct.pack("<I", crc32c(header)))
        refused(2, ["version", re.escape(os.path.basename(path))], place)
        overwrite(path, 0, data)
        serves(place, 20, 20)


def test_other_shard_count():
    with directory() as place:
        make(place, "SIGTERM", "--shard-count=3")
        refused(2, [r"\b3\b", r"\b5\b", "shard_count"], place, "--shard-count=5")
        refused(2, [r"\b3\b", r"\b4\b"], place)
        serves(place, 20, 20, "--shard-count=3")


# ---- few descriptors ---------------------------------------------------------------------------------------------------


def test_10000_streams_with_256_descriptors():
    count = 10000
    names = ["stream/%d" % i for i in range(count)]
    with directory() as place:
        for how in STOPS + ("SIGTERM",):
            with Daemon(place, "--log-level=error", tcp=False, files=256) as daemon, daemon.client() as client:
                if how == "SIGKILL":
                    for number in [client.send("append", stream=name, entry=name.encode()) for name in names]:
                        same(client.wait(number), {"id": 0, "durable": True}, "append")
                else:
                    same(sorted(client.streams(limit=10000)), sorted(names), "all streams")
                    asked = [client.send("iter", stream=name) for name in names]
                    for name, number in zip(names, asked):
                        same(client.wait(number)["entries"][0], name.encode(), "the entry of " + name)
                    for number in [client.send("append", stream=name, entry=b"more") for name in names]:
                        check(client.wait(number)["id"] > 0, "the next id")
                check(daemon.descriptors_count() <= 256, "descriptors: %d", daemon.descriptors_count())
                if how == "SIGKILL":
                    daemon.kill()
                else:
                    daemon.stopped_well(client)
        used = sum(os.stat(path).st_blocks * 512 for path in segments(os.path.join(place, "data")))
        check(used < count * 64 * 1024, "segments take %d bytes on disk", used)
        refused(1, [r"limit of 20 open files is too low: at least \d+"], place, files=20)
        return "%.1f KiB on disk for each" % (used / count / 1024)


# ---- stops -------------------------------------------------------------------------------------------------------------


def write_until_stopped(path, stream, window):
    """Pipelined appends until the daemon stops; returns how many were acknowledged."""
    waiting, acknowledged, sent, late = [], 0, 0, 0
    with Client(path) as client:
        try:
            while True:
                waiting.append(client.send("append", stream=stream, entry=b"%s %d" % (stream.encode(), sent)))
                sent += 1
                if len(waiting) >= window:
                    same(client.wait(waiting[0])["id"], acknowledged, "in order")
                    waiting.pop(0)
                    acknowledged += 1
        except (ConnectionLost, ServerError) as error:
            if isinstance(error, ServerError):
                same(error.code, "ShuttingDown", "the only error")
                late += 1
                waiting.pop(0)
            client.at_end()
            for number in waiting:
                answer = client.take(number)
                if answer is None or answer[0] is not None:
                    same(answer is None or answer[0]["code"] == "ShuttingDown", True, "late")
                    late += 1
                else:
                    same((answer[1]["id"], late), (acknowledged, 0), "in order")
                    acknowledged += 1
    return acknowledged


def test_sigterm_under_load():
    said = []
    for mode in ("strict", "batch_only", "async"):
        with directory() as place:
            with Daemon(place, "--sync-mode=" + mode, "--max-segment-size=64K") as daemon:
                streams = {"a": 1, "b": 8, "a/b": 64, "c": 300}
                workers = [Worker(write_until_stopped, daemon.unix, stream, window) for stream, window in streams.items()]
                with daemon.client() as client:

                    def busy():
                        stats = client.stats()
                        return sum(writer["appends"] for writer in stats["writers"]) > 3000

                    eventually(busy, "load")
                begin = time.monotonic()
                same(daemon.stop(), 0, "status: " + daemon.stderr())
                took = time.monotonic() - begin
                check(took < 15, "within the deadline: %f s", took)
                acknowledged = [worker.result() for worker in workers]
            with Daemon(place) as daemon, daemon.client() as client:
                check(client.stats()["recovery"]["clean_start"] is True, "a clean stop")
                for stream, count in zip(streams, acknowledged):
                    entries = [entry for _, entry in client.scan(stream)]
                    check(len(entries) >= count, "%s: %d acknowledged, %d there", stream, count, len(entries))
                    same(entries, [b"%s %d" % (stream.encode(), i) for i in range(len(entries))], stream)
                daemon.stopped_well(client)
            said.append("%s: %d acknowledged, stopped in %.2f s" % (mode, sum(acknowledged), took))
    return "; ".join(said)


def test_sigterm_waits_no_longer_than_told():
    """A client that takes nothing holds up the end for shutdown_timeout, not for ever."""
    with directory() as place, Daemon(place, "--shutdown-timeout=700ms") as daemon:
        with daemon.client() as client:
            client.append("s", bytes(1024 * 1024))
        deaf = socket.create_connection(daemon.tcp)
        deaf.sendall(request(0, "hello", {"protocol": 1}) + request(1, "get", {"stream": "s", "id": 0}) * 40)
        deaf.recv(1)
        begin = time.monotonic()
        same(daemon.stop(), 0, "status")
        check(time.monotonic() - begin < 30, "it took %f s", time.monotonic() - begin)
        deaf.close()


def test_second_sigterm():
    """It ends the process at once, and nothing that was acknowledged is lost."""
    for mode in ("strict", "async"):
        with directory() as place:
            options = ("--sync-mode=" + mode, "--shutdown-timeout=60m")
            with Daemon(place, *options) as daemon, daemon.client() as client:
                for i in range(20):
                    client.append("s", entry_of(i))
                daemon.process.send_signal(signal.SIGTERM)
                eventually(lambda: "stopping" in daemon.stderr(), "the first signal is taken")
                check(daemon.process.poll() is None, "and waits for its client")
                begin = time.monotonic()
                same(daemon.stop(), 1, "status")
                check(time.monotonic() - begin < 30, "at once: %f s", time.monotonic() - begin)
            serves(place, 20, 20, *options)


if __name__ == "__main__":
    main(cases_of(globals()))
