#!/usr/bin/python3
"""ironwal-fsck on directories that the real daemon made: healthy ones, damaged ones, and what repair does to them.

test_fsck.py IRONWALD IRONWAL_FSCK [CASE...]
"""

import base64
import fcntl
import glob
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

from harness import Daemon, Failed, cases_of, check, directory, main, openpty, refused, same, segments
from test_damage import crc32c, entry_of, expect_entries, flip, frames_of, make, overwrite

# The ordinary run takes a part of them.
ALL = "IRONWALD_FSCK_ALL" in os.environ
STOPS = ("SIGKILL", "SIGTERM")
LOG = ("--log-level=warn",)


class Fsck:
    program = None


def fsck(*arguments):
    """(status, stdout, stderr)"""
    done = subprocess.run([Fsck.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def data_of(place):
    return os.path.join(place, "data")


def tree(root):
    """All that is there: names, contents, modes and times."""
    found = {}
    for path, dirs, files in os.walk(root):
        for name in files + dirs:
            full = os.path.join(path, name)
            state = os.stat(full)
            text = b"" if name in dirs else open(full, "rb").read()
            found[os.path.relpath(full, root)] = (
                hashlib.sha256(text).hexdigest(), state.st_mode, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return found


def verify(place, status=None, what=""):
    """The findings (dicts) and the summary; nothing may have changed."""
    before = tree(data_of(place))
    got, out, err = fsck("verify", "--json", data_of(place))
    check(tree(data_of(place)) == before, "%s: verify changed something", what)
    if status is not None:
        check(got in (status if isinstance(status, tuple) else (status,)), "%s: verify: status %d: %s%s", what, got, out, err)
    lines = [json.loads(line) for line in out.splitlines()]
    check(lines and "summary" in lines[-1], "%s: a summary at the end: %s%s", what, out, err)
    same(got, {"clean": 0, "torn": 1, "damaged": 2}[lines[-1]["summary"]], what + ": the status is that of the summary")
    return [line for line in lines[:-1]], lines[-1]


def serious(findings):
    return [one for one in findings if one["severity"] != "note"]


def finding(place, status, kind, first=None, end=None, what=""):
    """verify finds this, and nothing else that is serious."""
    found = serious(verify(place, status, what or kind)[0])
    same([one["finding"] for one in found], [kind], what or kind)
    if first is not None:
        same((found[0]["first_id"], found[0]["end_id"]), (first, end), "ids of %s" % kind)
    return found[0]


# ---- healthy directories ----------------------------------------------------------------------------------------------

NAMES = ["s", "a/b", "a_b", "..", ".", "ironwald.manifest", "\U0001f600", "x" * 255, "\u00fc" * 120, "A B\tC", "%41", "-"]


def fill(client, shards, seed):
    rng = random.Random(seed)
    for name in NAMES:
        for i in range(rng.randrange(1, 12)):
            client.append(name, rng.randbytes(rng.choice((0, 1, 30, 3000))))
        client.append_batch(name, [b"entry %d " % i * rng.randrange(60) for i in range(rng.randrange(1, 90))])
    for round in range(4):
        for i in range(40):
            client.shard_append(b"key %d" % rng.randrange(100), b"value %d" % i)
        client.create_checkpoint(b"c%d" % rng.randrange(3))
    client.append_batch("big", [rng.randbytes(20000) for _ in range(60)])
    client.append("big", b"z" * 300000)
    client.truncate("s", client.stream_info("s")["end"] - 3)
    client.prune_before_checkpoint(client.list_checkpoints()[0][0])
    if rng.randrange(2):
        client.compact_checkpoints(1)


def configurations():
    for mode in ("strict", "batch_only", "async"):
        for compression in ("none", "lz4"):
            for shards, size in ((1, "500"), (4, "64K"), (64, "1M")):
                yield shards, ["--sync-mode=" + mode, "--compression=" + compression, "--min-compression-size=64",
                               "--shard-count=%d" % shards, "--max-segment-size=" + size]
    yield 4, ["--max-entries-per-segment=3", "--max-open-segments=1", "--read-strategy=mmap"]
    yield 4, ["--sync-mode=async", "--async-sync-interval=none", "--write-buffer-size=1"]


def test_healthy_directories_of_every_configuration():
    torn = count = 0
    for number, (shards, options) in enumerate(configurations()):
        if number % 4 != 1 and not ALL:
            continue
        with directory() as place:
            for how in STOPS + STOPS:
                with Daemon(place, *options, *LOG) as daemon:
                    with daemon.client() as client:
                        fill(client, shards, number)
                    if how == "SIGKILL":
                        daemon.kill()
                    else:
                        daemon.stopped_well()
                what = "%s after %s" % (" ".join(options), how)
                findings, summary = verify(place, (0, 1) if how == "SIGKILL" else 0, what)
                check(how == "SIGKILL" or all(one["finding"] in ("index_incomplete",) for one in findings),
                      "%s: %s", what, findings)
                check(summary["streams"] >= len(NAMES) + 1 and summary["checkpoints"] >= 1, "%s: %s", what, summary)
                torn += summary["summary"] == "torn"
                count += 1
    return "%d directories, %d of them with a torn end" % (count, torn)


def test_killed_under_load():
    """Kills in the middle of writes: what verify says is what the next start does, and that never refuses."""
    torn = 0
    for number in range(12 if ALL else 3):
        with directory() as place:
            mode = ("strict", "batch_only", "async")[number % 3]
            with Daemon(place, "--sync-mode=" + mode, "--max-segment-size=20K", *LOG) as daemon:
                with daemon.client() as client:
                    rng = random.Random(number)
                    for i in range(3000):
                        client.send("append_batch", stream="s%d" % rng.randrange(20), entries=[rng.randbytes(300)] * 5)
                        if i % 100 == 99:
                            client.flush()
                    time.sleep(0.01 * number)
                    daemon.kill()
            findings, summary = verify(place, (0, 1), "killed")
            torn += summary["summary"] == "torn"
            with Daemon(place, "--on-corruption=error", "--sync-mode=" + mode, *LOG) as daemon:
                daemon.stopped_well()
            verify(place, 0, "after the start")
    return "%d torn" % torn


def test_many_streams():
    with directory() as place:
        with Daemon(place, "--sync-mode=async", *LOG) as daemon, daemon.client() as client:
            for i in range(500):
                client.send("append", stream="stream %d" % i, entry=b"x" * (i % 50))
                if i % 200 == 199:
                    client.flush()
            client.sync()
            same(sum(1 for _ in client.streams()), 500, "streams")
            daemon.kill()
        same(verify(place, (0, 1), "killed")[1]["entries"], 500, "entries")
        with Daemon(place, *LOG) as daemon:
            daemon.stopped_well()
        same(verify(place, 0, "stopped")[1]["streams"], 500, "streams")


def test_memory_does_not_grow_with_the_data():
    size = int(os.environ.get("IRONWALD_FSCK_MIB", "100"))
    with directory() as place:
        with Daemon(place, "--sync-mode=async", *LOG) as daemon:
            with daemon.client() as client:
                block = os.urandom(5000)
                for i in range(size):
                    client.append_batch("s%d" % (i % 3), [block + b"%d" % j for j in range(210)])
            daemon.stopped_well()
        process = subprocess.Popen([Fsck.program, "verify", data_of(place)], stdout=subprocess.PIPE)
        high_kib = 0
        while process.poll() is None:
            high_kib = max(high_kib, high_water_kib(process.pid))
        out = process.stdout.read().decode()
        process.stdout.close()
        same(process.returncode, 0, "status")
        check(high_kib > 0, "it was looked at")
        bound = 20 * 1024 * Daemon.memory_factor()
        check(high_kib < bound, "%d KiB in memory, and %d are allowed", high_kib, bound)
        return "%d KiB; %s" % (high_kib, out.splitlines()[-1])


def high_water_kib(pid):
    """Of the program alone: what wait4 tells counts the parent's memory from before the exec."""
    try:
        with open("/proc/%d/status" % pid) as file:
            text = file.read()
    except OSError:
        return 0
    found = re.search(r"Name:\s+ironwal-fsck", text) and re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found.group(1)) if found else 0


# ---- who may not be looked at -----------------------------------------------------------------------------------------


def test_what_is_refused():
    with directory() as place:
        with Daemon(place, *LOG) as daemon, daemon.client() as client:
            client.append("s", b"x")
            for command in ("verify", "dump", "repair"):
                status, _, err = fsck(command, data_of(place))
                check(status == 8 and "in use" in err and len(err.splitlines()) == 1, "%s: %d %r", command, status, err)
            daemon.stopped_well(client)
        verify(place, 0)
        other = os.path.join(place, "other")
        for make_it in (lambda: None, lambda: os.mkdir(other), lambda: open(os.path.join(other, "letter"), "w").close()):
            make_it()
            for command in ("verify", "dump", "repair"):
                before = os.path.exists(other) and os.listdir(other)
                status, _, err = fsck(command, other)
                check(status == 8 and err, "%s: status %d, %r", command, status, err)
                same(os.path.exists(other) and os.listdir(other), before, "it was left alone")
        for words in ((), ("verify",), ("mend", other), ("verify", "--entries", other), ("verify", "--write", other),
                      ("dump", "--max", "many", other), ("verify", other, other), ("--nonsense",)):
            status, _, err = fsck(*words)
            check(status == 8 and "usage" in err, "%s: status %d: %r", words, status, err)
        same(fsck("--help")[0], 0, "--help")
        same(fsck("--version")[0], 0, "--version")


# ---- damage -----------------------------------------------------------------------------------------------------------


def test_torn_tails():
    with directory() as place:
        path = make(place, "SIGKILL")
        last = frames_of(path)[-1]
        whole = open(path, "rb").read()
        for cut in (8, 50, 100, 116, last.end - last.offset - 9):
            with open(path, "wb") as file:
                file.write(whole[: last.offset + cut])
            one = finding(place, 1, "torn_tail")
            same(one["offset"], last.offset, "where it begins")
        same(fsck("verify", data_of(place))[0], 1, "for people, too")
        with Daemon(place, *LOG) as daemon, daemon.client() as client:
            same(client.stream_info("s")["end"], 19, "a start agrees")
            daemon.stopped_well(client)
        verify(place, 0)


def test_rot():
    for how in STOPS:
        with directory() as place:
            path = make(place, how)
            frames = frames_of(path)
            for number in (0, 7, 18) + ((19,) if how == "SIGTERM" else ()):
                for at in (3, 30, frames[number].header_bytes + 2):
                    flip(path, frames[number].offset + at)
                    one = finding(place, 2, "rot", number, 20)
                    same((one["stream"], one["offset"]), ("s", frames[number].offset), "where")
                    refused(3, [r"byte %d\b" % frames[number].offset], place)
                    flip(path, frames[number].offset + at)
            verify(place, 0)
            line = None
            flip(path, frames[7].offset + 30)
            for line in fsck("verify", data_of(place))[1].splitlines():
                if line.startswith("damage: stream s: s/00000000000000000000.wal: at byte %d: " % frames[7].offset):
                    break
            check("ids 7 to 19 lost or unreadable" in line, "the line for people: %s", line)


def test_sealed_segments():
    options = ("--max-entries-per-segment=10",)
    with directory() as place:
        make(place, "SIGTERM", *options, count=35)
        first, second = segments(data_of(place), "s")[:2]
        frames = frames_of(first)
        flip(first, frames[4].offset + frames[4].header_bytes + 1)
        finding(place, 2, "block", 4, 5)
        flip(first, frames[4].offset + frames[4].header_bytes + 1)
        flip(first, frames[4].offset + 10)
        finding(place, 2, "frame", 4, 5)
        flip(first, frames[4].offset + 10)
        flip(first, 20)
        finding(place, 2, "header", 0, 10)
        flip(first, 20)
        whole = open(first, "rb").read()
        os.truncate(first, frames[8].offset)
        finding(place, 2, "missing_frames", 8, 10)
        with open(first, "wb") as file:
            file.write(whole + bytes(4096))
        verify(place, 0, "zeros behind a sealed end")
        with open(first, "wb") as file:
            file.write(whole)
        os.rename(second, second + ".gone")
        found = serious(verify(place, 2)[0])
        same([(one["finding"], one["first_id"], one["end_id"]) for one in found], [("missing_segment", 10, 20)], "gone")
        os.unlink(os.path.join(data_of(place), "ironwald.clean"))
        found = serious(verify(place, 2)[0])
        same([(one["finding"], one["first_id"], one["end_id"]) for one in found], [("missing_frames", 10, 20)], "gone")
        os.rename(second + ".gone", second)
        verify(place, 0)


def test_checkpoints():
    with directory() as place:
        with Daemon(place, *LOG) as daemon, daemon.client() as client:
            for i in range(8):
                client.shard_append(b"%d" % i, b"v")
                client.create_checkpoint(b"c%d" % i)
            daemon.stopped_well(client)
        log = os.path.join(data_of(place), "ironwald.checkpoints")
        same(verify(place, 0)[1]["checkpoints"], 8, "checkpoints")
        for at in (520, 600, 512 * 4 + 30, 512 * 8 + 95):
            flip(log, at)
            finding(place, 2, "checkpoint")
            flip(log, at)
        flip(log, 40)
        finding(place, 2, "checkpoint_header")
        flip(log, 40)
        # A shard that is gone: its entries are lost, and the checkpoint knows how many.
        with Daemon(place, *LOG) as daemon, daemon.client() as client:
            latest = client.load_latest_checkpoint()
            daemon.stopped_well(client)
        shard = max(range(4), key=lambda i: latest["offsets"][i])
        os.unlink(os.path.join(data_of(place), "ironwald.clean"))
        shutil.rmtree(os.path.join(data_of(place), "shard_%02d" % shard))
        one = finding(place, 2, "short_shard", 0, latest["offsets"][shard])
        same(one["stream"], "shard_%02d" % shard, "which")


def test_own_files():
    with directory() as place:
        make(place, "SIGTERM")
        root = data_of(place)
        manifest, clean = os.path.join(root, "ironwald.manifest"), os.path.join(root, "ironwald.clean")
        flip(clean, 30)
        finding(place, 2, "clean_stop")
        flip(clean, 30)
        text = open(manifest).read()
        for broken in (text.replace("shard_count 4", "shard_count 5"), text[:-1], "", text + "\n"):
            with open(manifest, "w") as file:
                file.write(broken)
            status, out, err = fsck("verify", root)
            check(status == 2 and "manifest" in out and "restore it" in out, "%r: %d %s%s", broken, status, out, err)
        os.unlink(manifest)
        status, out, _ = fsck("verify", root)
        check(status == 2 and "missing" in out and "restore it" in out, "no manifest: %d %s", status, out)
        with open(manifest, "w") as file:
            file.write(text)
        for name in ("notes.txt", "s/notes.txt"):
            open(os.path.join(root, name), "w").close()
        os.makedirs(os.path.join(root, "not%ours"))
        found = verify(place, 0)[0]
        same(sorted((one["file"], one["finding"]) for one in found),
             [("not%ours", "foreign"), ("notes.txt", "foreign"), ("s/notes.txt", "foreign")], "foreign files")


def test_a_lying_index():
    with directory() as place:
        with Daemon(place, "--max-segment-size=1M", *LOG) as daemon, daemon.client() as client:
            for i in range(40):
                client.append("s", b"%d" % i * 40000)
            daemon.stopped_well(client)
        index = sorted(glob.glob(os.path.join(data_of(place), "s", "*.idx")))[0]
        data = bytearray(open(index, "rb").read())
        (salt,) = struct.unpack_from("<Q", data, 8)
        check(len(data) > 24 + 64, "an index with points")
        verify(place, 0)
        struct.pack_into("<Q", data, 24, struct.unpack_from("<Q", data, 24)[0] + 1)
        # CRC-32C seeded with the salt, as in server/engine/index.h: the seed goes through the final inversion.
        seed = (salt ^ salt >> 32) & 0xFFFFFFFF
        value = seed ^ 0xFFFFFFFF
        for byte in data[24:52]:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        struct.pack_into("<I", data, 52, value ^ 0xFFFFFFFF)
        with open(index, "wb") as file:
            file.write(data)
        finding(place, 2, "index_lies")
        same(fsck("repair", "--write", data_of(place))[0], 0, "repair")
        verify(place, 0)
        data[30] ^= 1
        with open(index, "wb") as file:
            file.write(data)
        finding(place, 1, "index_broken")
        os.unlink(index)
        found = verify(place, 0)[0]
        same([one["finding"] for one in found], ["index_incomplete"], "no index")


def test_a_bit_anywhere_is_found():
    """A flipped bit at places picked at random: nothing that was durable changes unseen."""
    rng = random.Random(11)
    with directory() as place:
        with Daemon(place, "--max-segment-size=3000", "--compression=lz4", *LOG) as daemon, daemon.client() as client:
            for i in range(60):
                client.append("a", rng.randbytes(100))
                client.append_batch("b", [b"text %d" % i * 20] * 10)
            client.shard_append(b"k", b"v")
            client.create_checkpoint(b"c")
            daemon.stopped_well(client)
        root = data_of(place)
        files = [path for path in glob.glob(root + "/**/*", recursive=True) if os.path.isfile(path)]
        files = [path for path in files if "journal" not in path and not path.endswith("lock")]
        for _ in range(300):
            path = rng.choice(files)
            at, bit = rng.randrange(min(os.path.getsize(path), 6000)), rng.randrange(8)
            flip(path, at, 1 << bit)
            status, out, err = fsck("verify", root)
            check(status in (1, 2), "%s, byte %d, bit %d: status %d %s%s", path, at, bit, status, out, err)
            flip(path, at, 1 << bit)
        verify(place, 0)


# ---- dump -------------------------------------------------------------------------------------------------------------


def dump(place, *options):
    status, out, err = fsck("dump", "--json", *options, data_of(place))
    check(err == "", "dump: %s", err)
    return status, [json.loads(line) for line in out.splitlines()]


def test_dump():
    binary = bytes(range(256))
    with directory() as place:
        with Daemon(place, "--max-entries-per-segment=5", "--compression=lz4", *LOG) as daemon, daemon.client() as client:
            for i in range(12):
                client.append("s", b"entry %d" % i)
            client.append_batch("other", ["\u00fc\n\\".encode(), binary, b""])
            client.shard_append(b"k", b"v")
            client.create_checkpoint(b"first \xff")
            daemon.stopped_well(client)
        before = tree(data_of(place))
        status, lines = dump(place)
        same(status, 0, "status")
        kinds = [line["kind"] for line in lines]
        for kind in ("manifest", "clean_stop", "clean_stop_stream", "journal", "checkpoint", "segment", "frame"):
            check(kind in kinds, "%s in %s", kind, kinds)
        one = next(line for line in lines if line["kind"] == "checkpoint")
        same((base64.b64decode(one["id"]["base64"]), sum(one["next_ids"])), (b"first \xff", 1), "the checkpoint")
        status, lines = dump(place, "--stream=s", "--entries", "--from=7", "--max=3")
        entries = [(line["id"], line["entry"]) for line in lines if line["kind"] == "entry"]
        same(entries, [(i, "entry %d" % i) for i in (7, 8, 9)], "entries")
        status, lines = dump(place, "--stream=other", "--entries")
        entries = [line["entry"] for line in lines if line["kind"] == "entry"]
        same(entries, ["\u00fc\n\\", {"base64": base64.b64encode(binary).decode()}, ""], "bytes in JSON")
        out = fsck("dump", "--stream=other", "--entries", data_of(place))[1]
        check("    0: \u00fc\\x0a\\\\\n    1: \\x00\\x01" in out and out.endswith("    2: \n"), "for people: %s", out)
        frame = [line for line in dump(place, "--segment=00000000000000000005.wal")[1] if line["kind"] == "frame"]
        same([(one["first_id"], one["end_id"]) for one in frame], [(i, i + 1) for i in range(5, 10)], "one segment")
        path = segments(data_of(place), "s")[0]
        flip(path, frames_of(path)[2].offset + 20)
        status, lines = dump(place, "--stream=s", "--entries")
        same(status, 2, "damage")
        same([line["id"] for line in lines if line["kind"] == "entry"], [0, 1] + list(range(3, 12)), "behind it")
        check(any(line["kind"] == "damage" for line in lines), "it is told")
        flip(path, frames_of_first(path) + 20)
        check(tree(data_of(place)).keys() == before.keys(), "nothing was made")


def frames_of_first(path):
    """The offset of the third frame, whose header is broken."""
    return frames_of(path)[1].end


# ---- repair -----------------------------------------------------------------------------------------------------------


def expect_repaired(place, lost, next_id, count=20):
    with Daemon(place, "--on-corruption=error", *LOG) as daemon, daemon.client() as client:
        for i in range(count):
            if i in lost:
                try:
                    client.get("s", i)
                except Exception as error:
                    check(error.code in ("Corruption", "CrcMismatch"), "entry %d: %s", i, error)
                else:
                    raise Failed("entry %d is there" % i)
            else:
                same(client.get("s", i), entry_of(i), "entry %d" % i)
        same(client.append("s", b"after")["id"], next_id, "the next id")
        daemon.stopped_well(client)


def test_repair():
    for how in STOPS:
        with directory() as place:
            path = make(place, how)
            frames = frames_of(path)
            flip(path, frames[5].offset + 30)
            flip(path, frames[11].offset + frames[11].header_bytes + 3)
            before = tree(data_of(place))
            status, out, err = fsck("repair", data_of(place))
            check(status == 0 and tree(data_of(place)) == before, "a dry run: %d %s%s", status, out, err)
            check("ids 6 to 10 can be read again" in out and "ids 12 to 19 can be read again" in out, "it says: %s", out)
            check("nothing was changed" in out, "it says: %s", out)
            same(fsck("repair", "--write", data_of(place))[0], 0, "repair")
            verify(place, 0, "after the repair")
            names = sorted(os.listdir(os.path.join(data_of(place), "s")))
            same(fsck("repair", "--write", data_of(place))[0], 0, "repair again")
            same(sorted(os.listdir(os.path.join(data_of(place), "s"))), names, "it is done")
            expect_repaired(place, (5, 11), 20)
            verify(place, 0, "after a start")
            expect_repaired(place, (5, 11), 21)


def test_repair_of_a_torn_tail():
    with directory() as place:
        path = make(place, "SIGKILL")
        os.truncate(path, frames_of(path)[-1].offset + 40)
        same(fsck("repair", "--write", data_of(place))[0], 0, "repair")
        verify(place, 0)
        expect_repaired(place, (), 19, 19)


def test_repair_can_be_killed():
    rng = random.Random(4)
    with directory() as place:
        path = make(place, "SIGTERM", count=400)
        frames = frames_of(path)
        for number in range(5, 400, 10):
            flip(path, frames[number].offset + 30)
        pristine = os.path.join(place, "pristine")
        shutil.copytree(data_of(place), pristine)
        killed = 0
        for _ in range(15):
            shutil.rmtree(data_of(place))
            shutil.copytree(pristine, data_of(place))
            process = subprocess.Popen([Fsck.program, "repair", "--write", data_of(place)], stdout=subprocess.DEVNULL)
            time.sleep(rng.random() * 0.15)
            process.kill()
            killed += process.wait() != 0
            status, out, err = fsck("repair", "--write", data_of(place))
            check(status in (0, 2), "repair again: %d %s%s", status, out, err)
            with Daemon(place, *LOG) as daemon, daemon.client() as client:
                lost = [i for i in range(400) if not readable(client, i)]
                same(lost, list(range(5, 400, 10)), "what is lost")
                same(client.append("s", b"after")["id"], 400, "the next id")
                daemon.kill()
        return "killed %d times" % killed


def readable(client, i):
    try:
        return client.get("s", i) == entry_of(i)
    except Exception as error:
        check(getattr(error, "code", "") in ("Corruption", "CrcMismatch"), "entry %d: %r", i, error)
        return False


# ---- a terminal -------------------------------------------------------------------------------------------------------


def test_progress_on_a_terminal():
    with directory() as place:
        with Daemon(place, "--sync-mode=async", *LOG) as daemon:
            with daemon.client() as client:
                for _ in range(120):
                    client.append_batch("s", [os.urandom(5000) for _ in range(200)])
            daemon.stopped_well()
        for _ in range(20):
            shown = on_terminal(data_of(place))
            if "MiB/s" in shown:
                check(re.search(r"\d+% \d+ of \d+ MiB, [\d.]+ MiB/s, \d+:\d\d:\d\d left", shown), "the line: %r", shown)
                check(shown.endswith("\r\x1b[K"), "it is taken away: %r", shown[-40:])
                return
        raise Failed("no progress was seen")


def on_terminal(root):
    """stderr of a verify that stands still for most of the time, on a terminal of 100 columns."""
    master, slave = openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    # The sanitizer stops the program to look for leaks, and waits for ever where it is told to go on at that moment.
    asan = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    environment = dict(os.environ, TERM="xterm", ASAN_OPTIONS=asan)
    process = subprocess.Popen([Fsck.program, "verify", root], stdout=subprocess.DEVNULL, stderr=slave, env=environment)
    shown = b""
    # It takes milliseconds: let it do a little at a time. (Stopped again at once it would never do anything.)
    until = time.monotonic() + 60
    while process.poll() is None and b"MiB/s" not in shown and time.monotonic() < until:
        process.send_signal(signal.SIGSTOP)
        if select.select([master], [], [], 0.1)[0]:
            shown += os.read(master, 4096)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    os.close(slave)
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    check(process.wait() == 0, "verify on a terminal")
    return shown.decode()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: %s IRONWALD IRONWAL_FSCK [CASE...]" % sys.argv[0])
    Fsck.program = os.path.abspath(sys.argv.pop(2))
    main(cases_of(globals()))
