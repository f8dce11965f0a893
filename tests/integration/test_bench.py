#!/usr/bin/python3
"""`ironwal bench` against the real daemon, and through a proxy that changes what passes: what it says it did is held
against what an independent client finds, and what it is to notice is put before it.
Usage: test_bench.py IRONWAL IRONWALD [CASE...]"""

import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import msgpack

import harness
from harness import DEADLINE_S, Daemon, check, directory, eventually, openpty, same
from ironwal_client import ServerError

IRONWAL = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else None
OK, FAILED, USAGE, CONNECTION = 0, 1, 2, 3
OPERATIONS = ["append", "get", "iter"]
HEADER = struct.Struct("<4sIQQII")


def environment():
    return {key: value for key, value in os.environ.items() if key != "IRONWAL_CONNECT"}


def command(connect, *args):
    """An argument that begins with an option may be several, with a blank between them."""
    words = [word for arg in map(str, args) for word in (arg.split() if arg.startswith("--") else [arg])]
    return [IRONWAL, "--connect", connect, "bench", *words]


def bench(connect, *args, expect=OK):
    """(stdout, stderr). What went wrong is one line on stderr; without a terminal, that is all that is there."""
    done = subprocess.run(
        command(connect, *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        timeout=DEADLINE_S,
        text=True,
    )
    said = "%r: status %d, expected %d: %s%s" % (args, done.returncode, expect, done.stdout, done.stderr)
    check(done.returncode == expect, "%s", said)
    check(done.stderr.count("\n") == (0 if expect == OK else 1), "lines on stderr: %s", said)
    return done.stdout, done.stderr


def figures(connect, *args, expect=OK):
    out, _ = bench(connect, "--json", *args, expect=expect)
    check(out.count("\n") == 1 and out.endswith("\n"), "one line on stdout: %r", out)
    result = json.loads(out)
    consistent(result)
    return result


def consistent(result):
    operations, total = result["operations"], result["total"]
    same(sorted(operations), sorted(OPERATIONS), "operations")
    for key in ("answers", "errors", "entries", "bytes"):
        same(sum(operations[name][key] for name in OPERATIONS), total[key], "the sum of " + key)
    check(total["answers"] + total["errors"] <= result["sent"], "more answers than requests: %r", result)
    for name in OPERATIONS:
        row = operations[name]
        check(row["p50_us"] <= row["p99_us"] <= row["p999_us"] <= row["max_us"], "%s: %r", name, row)
        check((row["max_us"] > 0) == (row["answers"] > 0), "%s: %r", name, row)
    if result["seconds"] > 0:
        rate = total["answers"] / result["seconds"]
        check(abs(total["requests_per_second"] - rate) <= 1e-6 * rate, "the rate: %r", result)


def address(daemon):
    return "unix:" + daemon.unix


@contextlib.contextmanager
def server(*options, **how):
    with directory() as place, Daemon(place, *options, **how) as daemon:
        yield daemon


def crc32c(data, table=[]):
    if not table:
        for value in range(256):
            for _ in range(8):
                value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
            table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def sealed(entry):
    """(seed, serial, name) of an entry that describes itself; the checksum is checked."""
    magic, length, seed, serial, name, crc = HEADER.unpack_from(entry)
    same((magic, length), (b"IWB1", len(entry)), "the header of an entry")
    same(crc, crc32c(entry[:28] + entry[32:]), "the checksum of an entry")
    return seed, serial, name


class Proxy:
    """Stands before the daemon. `change(direction, message)` sees each message, "up" or "down": what it returns is sent
    on, None is not, and False ends the connection. Threads of this process; closed when its block is left."""

    def __init__(self, daemon, change):
        self.path = daemon.unix + ".proxy"
        self.daemon, self.change = daemon, change
        self.sockets, self.threads = [], []
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(100)
        self._start(self._accept)

    def _start(self, run, *args):
        thread = threading.Thread(target=run, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self.daemon.unix)
            self.sockets += [client, upstream]
            self._start(self._pump, client, upstream, "up")
            self._start(self._pump, upstream, client, "down")

    def _pump(self, source, sink, direction):
        file = source.makefile("rb")
        back = source if direction == "up" else None
        try:
            while True:
                head = file.read(4)
                if len(head) < 4:
                    break
                message = msgpack.unpackb(file.read(struct.unpack(">I", head)[0]))
                with self.lock:
                    changed = self.change(direction, message)
                if changed is False:
                    break
                if changed is None:
                    continue
                data = msgpack.packb(changed)
                target = back if direction == "up" and changed[0] == 1 else sink
                target.sendall(struct.pack(">I", len(data)) + data)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return "unix:" + self.path

    def __exit__(self, *_):
        for item in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(DEADLINE_S)
        for item in [self.listener, *self.sockets]:
            item.close()


def flipped(entry, at=-1):
    changed = bytearray(entry)
    changed[at] ^= 1
    return bytes(changed)


# ---- what is sent ----


def test_appends():
    with server() as daemon, daemon.client() as client:
        result = figures(
            address(daemon),
            "--count 500 --payload 13 --batch 3 --connections 4 --pipeline 5 --streams 7 --prefix first/")
        append = result["operations"]["append"]
        same((append["answers"], append["errors"], append["entries"]), (500, 0, 1500), "answers, errors, entries")
        same(append["bytes"], 1500 * 13, "bytes")
        same((result["sent"], result["ended"], result["errors"], result["verified"]), (500, "finished", {}, None),
             "the rest")
        names = ["first/%06d" % i for i in range(7)]
        same(list(client.streams("first/")), names, "streams")
        total = 0
        for name in names:
            entries = [entry for _, entry in client.scan(name)]
            check(entries and set(entries) == {b"ironwaldironw"}, "entries of %s: %r", name, set(entries))
            total += len(entries)
        same(total, 1500, "entries in the streams")
        parameters = result["parameters"]
        for key, value in {"connections": 4, "pipeline": 5, "threads": 1, "payload_bytes": 13, "batch": 3, "streams": 7,
                           "prefix": "first/", "count": 500, "random": False, "sync": False, "verify": False}.items():
            same(parameters[key], value, key)
        check(result["server"].startswith("ironwald/"), "%r", result["server"])
        same(result["sync_mode"], "strict", "sync_mode")


def test_defaults_and_table():
    with server() as daemon, daemon.client() as client:
        out, _ = bench(address(daemon), "--count 100")
        row = re.search(r"^append +(\d+) .* (\d+)$", out, re.M)
        check(row is not None and row.groups() == ("100", "0"), "the row of appends: %s", out)
        check(re.search(r"^total +100 ", out, re.M) and "generator" in out, "the table: %s", out)
        same(client.stream_info("bench-000000")["end"], 100, "the end of the default stream")
        same(client.get("bench-000000", 99), (b"ironwald" * 13)[:100], "the default payload")


def test_random_entries():
    with server() as daemon, daemon.client() as client:
        result = figures(address(daemon), "--count 200 --random --payload 61 --seed 5")
        same(result["parameters"]["seed"], 5, "seed")
        entries = [entry for _, entry in client.scan("bench-000000")]
        same((len(entries), len(set(entries)), {len(entry) for entry in entries}), (200, 200, {61}), "random entries")
        figures(address(daemon), "--count 200 --random --payload 61 --seed 5 --prefix again-")
        same([entry for _, entry in client.scan("again-000000")], entries, "the entries of the same seed")
        result = figures(address(daemon), "--count 10 --payload 0 --prefix empty-")
        same(result["total"]["bytes"], 0, "bytes of empty entries")


def test_sync():
    with server("--sync-mode=async", "--async-sync-interval=none") as daemon, daemon.client() as client:
        figures(address(daemon), "--count 50 --prefix lazy-")
        info = client.stream_info("lazy-000000")
        check(info["durable_end"] < info["end"], "synced without being asked to: %r", info)
        result = figures(address(daemon), "--count 50 --sync")
        same((result["parameters"]["sync"], result["sync_mode"]), (True, "async"), "sync")
        info = client.stream_info("bench-000000")
        same((info["durable_end"], info["end"]), (50, 50), "durable_end, end")


def test_keys():
    with server("--shard-count=3") as daemon, daemon.client() as client:
        result = figures(
            address(daemon), "--keys 20 --count 600 --connections 3 --pipeline 4 --verify --batch 2",
            "--mix append=2,get=1,iter=1 --iter-count 7")
        same(result["parameters"]["keys"], 20, "keys")
        entries = [entry for shard in range(3) for entry in all_of_shard(client, shard)]
        acknowledged = result["operations"]["append"]["entries"]
        same(len(entries), acknowledged, "entries in the shards")
        same(result["verified"]["found_entries"], acknowledged, "found")
        names = {sealed(entry)[2] for entry in entries}
        check(names <= set(range(20)) and len(names) > 3, "keys: %r", names)
        same(list(client.streams("bench-")), [], "streams that are none of a run by key")
        figures(address(daemon), "--keys 20 --count 100 --mix get=1,iter=1 --verify")


def all_of_shard(client, shard):
    start = 0
    while True:
        part = client.call("iter_shard", shard=shard, start_id=start)
        yield from part["entries"]
        start = part["next"]
        if start >= part["end"]:
            return


def test_threads():
    with server() as daemon, daemon.client() as client:
        result = figures(
            address(daemon), "--threads 3 --connections 7 --pipeline 2 --count 1000 --streams 2 --verify")
        same((result["total"]["answers"], result["sent"]), (1000, 1000), "answers, sent")
        same(sum(client.stream_info("bench-00000%d" % i)["end"] for i in range(2)), 1000, "entries")
        seeds = {sealed(entry)[:2] for i in range(2) for _, entry in client.scan("bench-00000%d" % i)}
        same(len(seeds), 1000, "different entries")
        same(len({serial >> 48 for _, serial in seeds}), 7, "connections that wrote")
        share = result["generator"]
        check(0 < share["busiest_thread_share"] <= share["cpu_share"], "CPU: %r", share)
        same(figures(address(daemon), "--threads 3 --connections 3 --count 2")["sent"], 2,
             "fewer than threads")


def test_durations():
    with server("--sync-mode=async") as daemon, daemon.client() as client:
        result = figures(address(daemon), "--duration 0.4 --warmup 0.2 --connections 2")
        check(abs(result["seconds"] - 0.4) < 1e-6, "seconds: %r", result["seconds"])
        same((result["parameters"]["duration_seconds"], result["parameters"]["warmup_seconds"]), (0.4, 0.2),
             "parameters")
        end = client.stream_info("bench-000000")["end"]
        check(result["total"]["answers"] <= result["sent"] < end, "a warmup is not counted: %r, %d", result["sent"],
              end)
        result = figures(address(daemon), "--duration 3600 --count 10")
        same((result["sent"], result["ended"]), (10, "finished"), "whichever is over first")


def test_tcp():
    with server() as daemon:
        same(figures("tcp:%s:%d" % daemon.tcp, "--count 20")["sent"], 20, "sent")


# ---- what is read, and checked ----


def test_mix_is_verified():
    with server() as daemon, daemon.client() as client:
        result = figures(
            address(daemon), "--mix append=80,get=15,iter=5 --iter-count 10 --verify --random --payload 48",
            "--count 4000 --connections 6 --threads 2 --pipeline 4 --streams 3")
        same(result["parameters"]["mix"], {"append": 80, "get": 15, "iter": 5}, "mix")
        operations = result["operations"]
        same(result["total"]["answers"], 4000, "answers")
        for name, least, most in (("append", 2900, 3500), ("get", 400, 800), ("iter", 100, 320)):
            check(least < operations[name]["answers"] < most, "the mix: %s %d", name, operations[name]["answers"])
        check(operations["iter"]["entries"] > operations["iter"]["answers"], "iters: %r", operations["iter"])
        read = operations["get"]["entries"] + operations["iter"]["entries"]
        seed, serials = result["parameters"]["seed"], set()
        for number in range(3):
            for _, entry in client.scan("bench-%06d" % number):
                same(len(entry), 48, "length")
                same(sealed(entry)[::2], (seed, number), "seed and stream of an entry")
                serials.add(sealed(entry)[1])
        acknowledged = operations["append"]["entries"]
        same(len(serials), acknowledged, "entries that an independent client finds")
        verified = result["verified"]
        same((verified["acknowledged_entries"], verified["found_entries"], verified["complete"]),
             (acknowledged, acknowledged, True), "verified")
        same((verified["mismatches"], verified["checked_entries"]), (0, read), "mismatches, checked")
        # Behind what is there: another run verifies its own entries, and a mix of reads alone takes what is there.
        result = figures(address(daemon), "--count 100 --mix append=1,get=1 --verify --payload 48 --streams 3")
        same(result["verified"]["found_entries"], result["operations"]["append"]["entries"], "found behind another run")
        result = figures(address(daemon), "--count 100 --mix get=1,iter=1 --verify --payload 48 --streams 3")
        same((result["operations"]["append"]["answers"], result["errors"]), (0, {}),
             "appends, errors of reads in place")


def test_reads_of_a_prefill():
    with server() as daemon, daemon.client() as client:
        result = figures(
            address(daemon), "--mix get=3,iter=1 --iter-count 40 --prefill 250 --streams 3 --verify",
            "--count 300 --connections 4 --threads 2")
        same([client.stream_info("bench-%06d" % i)["end"] for i in range(3)], [300] * 3, "ends, in batches of 100")
        same((result["prefilled_entries"], result["verified"]["found_entries"]), (900, 900), "prefilled, found")
        operations = result["operations"]
        same((operations["append"]["answers"], result["total"]["answers"]), (0, 300), "appends, answers")
        check(operations["get"]["answers"] > 100 and operations["iter"]["answers"] > 20, "both: %r", operations)
        same(operations["iter"]["entries"], 40 * operations["iter"]["answers"], "entries of iters")
        same(result["verified"]["checked_entries"], result["total"]["entries"], "checked")
        text, _ = bench(address(daemon), "--mix iter=1 --count 10 --streams 3")
        check(re.search(r"^iter +10 ", text, re.M), "an iter of what is there: %s", text)
        err = bench(address(daemon), "--mix get=1 --count 10 --prefix nowhere-", expect=FAILED)[1]
        check("nothing to read" in err, "%r", err)


def test_what_others_wrote_is_noticed():
    with server() as daemon, daemon.client() as client:
        client.append_batch("bench-000000", [b"x" * 100] * 50)
        for mix in ("get=1", "iter=1"):
            result = figures(address(daemon), "--mix", mix, "--verify --count 20", expect=FAILED)
            same((result["errors"], result["total"]["answers"]), ({"WrongContent": 20}, 0), mix)
            check("was not written by a run with --verify" in result["messages"][0], "%r", result["messages"])
        text, err = bench(address(daemon), "--mix get=1 --verify --count 20", expect=FAILED)
        check("WrongContent 20" in text and "... and 15 more" in text and "20 answers" in err, "%s%s", text, err)
        figures(address(daemon), "--mix get=1 --count 20")


def lying(lie, *args, expect=FAILED):
    """A run through a proxy in which `lie` changes results; what it does is counted."""
    told = []

    def change(direction, message):
        if direction == "down" and message[3] is not None and lie(message[3]):
            told.append(message)
        return message

    with server() as daemon, Proxy(daemon, change) as connect:
        result = figures(connect, *args, expect=expect)
        check(told, "no lie was told: %r", args)
        return result, len(told)


def test_a_changed_byte_is_noticed():
    def in_a_get(result):
        if isinstance(result.get("entry"), bytes):
            result["entry"] = flipped(result["entry"])
            return True
        return False

    def in_an_iter(result):
        if len(result.get("entries", [])) >= 3:
            result["entries"][2] = flipped(result["entries"][2], 0)  # the magic itself
            return True
        return False

    result, told = lying(in_a_get, "--mix append=1,get=1 --count 100 --verify")
    same(result["errors"], {"WrongContent": told}, "errors")
    same(result["operations"]["get"]["errors"], told, "errors of get")
    same(result["verified"]["mismatches"], 0, "what is read back by iter")
    result, told = lying(in_an_iter, "--count 100 --verify")
    same((result["errors"], result["verified"]["errors"]), ({}, {"WrongContent": told}), "errors")
    same(result["verified"]["found_entries"], 100 - told, "found")
    check("its checksum is wrong" in result["verified"]["messages"][0], "%r", result["verified"]["messages"])


def test_entries_at_other_ids_are_noticed():
    def swapped(result):
        entries = result.get("entries", [])
        if len(entries) < 10:
            return False
        entries[3], entries[7] = entries[7], entries[3]
        return True

    def lost(result):
        if result.get("end", 0) < 100 or "next" not in result:
            return False
        del result["entries"][90 - result["first"]:]
        result["next"] = result["end"] = 90
        return True

    def doubled(result):
        entries = result.get("entries", [])
        if len(entries) < 10:
            return False
        entries[5] = entries[4]
        return True

    result, _ = lying(swapped, "--count 100 --verify")
    same((result["verified"]["found_entries"], result["verified"]["mismatches"]), (98, 2), "two that were swapped")
    check("was acknowledged there" in result["verified"]["messages"][0], "%r", result["verified"]["messages"])
    result, _ = lying(lost, "--count 100 --verify")
    same((result["verified"]["found_entries"], result["verified"]["acknowledged_entries"]), (90, 100),
         "lost at the end")
    result, _ = lying(doubled, "--count 100 --verify --batch 2")
    same((result["verified"]["found_entries"], result["verified"]["mismatches"]), (199, 1), "one that is there twice")


def test_ids_are_checked():
    def given_again(result):
        if result.get("id") == 5:
            result["id"] = 4
            return True
        return False

    result, told = lying(given_again, "--count 50 --verify")
    same((result["errors"], told), ({"WrongAnswer": 1}, 1), "errors")
    # What it wrote is there, and nobody was told so.
    verified = result["verified"]
    same((verified["unacknowledged_entries"], verified["mismatches"], verified["found_entries"]), (1, 1, 49), "found")

    def elsewhere(result):
        if "shard" not in result:
            return False
        result["shard"] = (result["shard"] + 1) % 4
        return True

    result, told = lying(elsewhere, "--keys 3 --count 10 --verify")
    same((result["errors"], told), ({"WrongAnswer": 10}, 10), "shards that are not the keys'")


def test_an_entry_of_another_stream_is_noticed():
    def other(direction, message):
        if direction == "up" and message[2] in ("get", "iter") and message[3]["stream"] == "bench-000000":
            message[3]["stream"] = "bench-000001"
        return message

    with server() as daemon, Proxy(daemon, other) as connect:
        result = figures(connect, "--mix get=1 --prefill 10 --streams 2 --count 20 --verify", expect=FAILED)
        same(result["errors"], {"WrongContent": 10}, "errors, of half of the requests")
        same((result["verified"]["found_entries"], result["verified"]["mismatches"]), (10, 10), "found, mismatches")
        check("another stream" in result["messages"][0], "%r", result["messages"])


def test_iter_that_begins_elsewhere():
    def later(result):
        if len(result.get("entries", [])) < 2:
            return False
        del result["entries"][0]
        result["first"] += 1
        return True

    result, told = lying(later, "--count 20 --mix iter=1 --prefill 100")
    same(result["errors"], {"WrongAnswer": told}, "errors")


# ---- refusals, and ends ----


def test_refusals_do_not_end_it():
    with server("--max-message-bytes=131072") as daemon:
        size = 131072 - 1024
        result = figures(address(daemon), "--payload", size + 1, "--count 30 --pipeline 2", expect=FAILED)
        same((result["errors"], result["total"]["answers"], result["total"]["errors"]), ({"TooLarge": 30}, 0, 30),
             "errors")
        same((len(result["messages"]), result["ended"]), (5, "finished"), "messages, ended")
        same(figures(address(daemon), "--payload", size, "--count 5")["errors"], {}, "as large as may be")
        err = bench(address(daemon), "--payload 1000 --batch 200 --count 1", expect=USAGE)[1]
        check("the server takes 131072" in err, "%r", err)
    numbers = iter(range(1000000))

    def busy(direction, message):
        if direction == "up" and message[2] == "append" and next(numbers) % 4 == 0:
            return [1, message[1], {"code": "Busy", "message": "too much at once"}, None]
        return message

    with server() as daemon, Proxy(daemon, busy) as connect:
        result = figures(connect, "--count 100 --verify --connections 2", expect=FAILED)
        same((result["errors"], result["operations"]["append"]["answers"]), ({"Busy": 25}, 75), "errors")
        same(result["verified"]["found_entries"], 75, "found")
        text, err = bench(connect, "--count 40", expect=FAILED)
        check("Busy       10" in text and "too much at once (Busy)" in text and "10 answers" in err, "%s%s", text, err)


def test_interrupted():
    with server() as daemon, daemon.client() as client:
        with running(daemon, "--json --duration 3600 --verify --connections 3 --threads 2") as process:
            eventually(lambda: has_entries(client, 20), "entries")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE_S)
        result = json.loads(out)
        consistent(result)
        same((process.returncode, err, result["ended"]), (OK, "", "interrupted"), "status, stderr, ended")
        end = client.stream_info("bench-000000")["end"]
        same((result["total"]["answers"], result["verified"]["found_entries"]), (end, end), "answers, found")


def test_interrupted_twice():
    silent, dropped = [], []

    def mute(direction, message):
        if silent and direction == "down":
            dropped.append(message)
            return None
        return message

    with server() as daemon, daemon.client() as client, Proxy(daemon, mute) as connect:
        with running(daemon, "--duration 3600 --pipeline 4", connect=connect) as process:
            eventually(lambda: has_entries(client, 20), "entries")
            silent.append(True)
            # What is in flight then is not answered, so it does not end by the first one.
            eventually(lambda: len(dropped) == 4, "silence")
            process.send_signal(signal.SIGINT)
            eventually(lambda: not catches_interrupts(process.pid), "the first ^C is noticed")
            same(process.poll(), None, "status while answers are waited for")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE_S)
        same(process.returncode, -signal.SIGINT, "status")


def catches_interrupts(pid):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"^SigCgt:\s+(\w+)", file.read(), re.M).group(1), 16) >> (signal.SIGINT - 1) & 1


@contextlib.contextmanager
def running(daemon, *args, connect=None):
    process = subprocess.Popen(
        command(connect or address(daemon), *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def has_entries(client, count, stream="bench-000000"):
    try:
        return client.stream_info(stream)["end"] >= count
    except ServerError:
        return False


def test_a_server_that_dies():
    for threads in (1, 3):
        with server() as daemon:
            with daemon.client() as client:
                with running(
                    daemon, "--json --verify --duration 3600 --timeout 0 --connections 6 --pipeline 4 --threads", threads
                ) as process:
                    eventually(lambda: has_entries(client, 20), "entries")
                    daemon.kill()
                    out, err = process.communicate(timeout=DEADLINE_S)
                same(process.returncode, CONNECTION, "status")
                result = json.loads(out)
                consistent(result)
                check(result["total"]["answers"] > 0 and result["ended"] == "failed", "the report: %r", result)
                same(result["verified"]["complete"], False, "verified")
                same(json.loads(err)["error"]["code"], "ConnectionLost", "the error")


def test_one_connection_that_is_lost():
    """That is the end, also of threads that lost nothing."""
    numbers = iter(range(10 ** 9))

    def cut(direction, message):
        return False if direction == "down" and message[3] is not None and next(numbers) == 100 else message

    with server() as daemon, Proxy(daemon, cut) as connect:
        out, err = bench(connect, "--json --duration 3600 --connections 6 --threads 3", expect=CONNECTION)
        check(json.loads(out)["total"]["answers"] > 10, "the report: %s", out)
        same(json.loads(err)["error"]["code"], "ConnectionLost", "the error")


def test_a_server_that_is_silent():
    silent = []

    def mute(direction, message):
        if direction == "down" and message[3] is not None and message[3].get("id", 0) >= 10:
            silent.append(True)
        return None if silent else message

    with server() as daemon, Proxy(daemon, mute) as connect:
        out, err = bench(connect, "--timeout 1 --count 1000", expect=CONNECTION)
        check("had no answer for 1 s" in err and re.search(r"^append +10 ", out, re.M), "%s%s", out, err)


def test_no_server():
    with directory() as place:
        out, err = bench("unix:%s/none" % place, "--count 1", expect=CONNECTION)
        check(out == "" and "cannot connect" in err, "%r %r", out, err)
    with server("--max-connections=3") as daemon:
        err = bench(address(daemon), "--connections 10 --count 10", expect=CONNECTION)[1]
        check("Busy" in err, "%r", err)


# ---- the terminal, and usage ----


def test_live_line():
    with server() as daemon, daemon.client() as client:
        terminal, side = openpty()
        process = subprocess.Popen(
            command(address(daemon), "--duration 3600 --json --threads 2 --connections 4"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=side,
            env=dict(environment(), TERM="xterm"),
            text=True,
        )
        os.close(side)
        try:
            seen = ""
            line = r"[\d.]+ s: \d+ requests/s, \d+ entries/s, [\d.]+ MiB/s, p50 \d+"
            until = time.monotonic() + DEADLINE_S
            while len(re.findall(line, seen)) < 2:
                check(time.monotonic() < until, "no line on the terminal: %r", seen)
                if select.select([terminal], [], [], 1)[0]:
                    seen += os.read(terminal, 4096).decode()
            check("\n" not in seen, "it stays on its line: %r", seen)
            check(all(len(part) < 90 for part in seen.split("\r")), "longer than the terminal: %r", seen)
            process.send_signal(signal.SIGINT)
            result = json.loads(process.communicate(timeout=DEADLINE_S)[0])
            same((process.returncode, result["ended"]), (OK, "interrupted"), "status, ended")
            with contextlib.suppress(OSError):  # the other side is closed
                while True:
                    seen += os.read(terminal, 4096).decode()
            check(seen.endswith("\r\x1b[K"), "the line is taken away: %r", seen[-100:])
        finally:
            os.close(terminal)
            if process.poll() is None:
                process.kill()
                process.communicate()


WRONG = [
    (["--connections", "0"], "from 1 to 10000"),
    (["--connections", "10001"], "from 1 to 10000"),
    (["--connections", "many"], "'many'"),
    (["--connections", "-1"], "'-1'"),
    (["--pipeline", "0"], "from 1 to 65536"),
    (["--threads", "65"], "from 1 to 64"),
    (["--threads", "2"], "more --threads than --connections"),
    (["--payload", "67108865"], "from 0 to 67108864"),
    (["--batch", "1000001"], "from 1 to 1000000"),
    (["--streams", "0"], "from 1 to 100000"),
    (["--keys", "100001"], "from 1 to 100000"),
    (["--streams", "2", "--keys", "2"], "both"),
    (["--prefix", ""], "1 to 200 bytes"),
    (["--prefix", "x" * 201], "1 to 200 bytes"),
    (["--duration", "0"], "number of seconds"),
    (["--duration", "nan"], "number of seconds"),
    (["--duration", "1e9"], "number of seconds"),
    (["--warmup", "-1"], "number of seconds"),
    (["--count", "0"], "from 1 to"),
    (["--prefill", "0"], "from 1 to"),
    (["--iter-count", "0"], "from 1 to 1000000"),
    (["--seed", "18446744073709551616"], "from 0 to 18446744073709551615"),
    (["--mix", "append"], "is not append=N"),
    (["--mix", "append=x"], "is not append=N"),
    (["--mix", "scan=1"], "no 'scan'"),
    (["--mix", "get=1,get=2"], "twice"),
    (["--mix", "get=0,append=0"], "all weights are 0"),
    (["--mix", "get=1", "--sync"], "--sync is for appends"),
    (["--verify", "--payload", "31"], "at least 32 bytes"),
    (["--batch", "1000000", "--payload", "1000"], "64 MiB"),
    (["--mix", "iter=1", "--iter-count", "1000000", "--payload", "1000", "--prefill", "1"], "64 MiB"),
    (["--connections", "10000", "--pipeline", "65536"], "over 1 GiB"),
    (["--connections", "10000", "--pipeline", "65536", "--batch", "1000000", "--payload", "60"], "over 1 GiB"),
    (["--connections", "10000", "--streams", "100000", "--verify"], "over 1 GiB"),
    (["--verify", "--count", "1000000000000"], "--verify can record"),
    (["stream"], "too many arguments"),
    (["--nonsense"], "nonsense"),
]


def test_usage():
    with directory() as place:
        for args, said in WRONG:
            out, err = bench("unix:%s/none" % place, *args, expect=USAGE)
            check(out == "" and said in err and "see ironwal bench --help" in err, "%r: %r %r", args, out, err)
    bench("nowhere", "--count 1", expect=USAGE)
    out, _ = bench("unix:/none", "--help")
    for option in ("connections", "pipeline", "threads", "payload", "batch", "random", "sync", "streams", "keys",
            "prefix",
                   "mix", "iter-count", "prefill", "duration", "count", "warmup", "verify", "seed"):
        check("\n  --%s " % option in out, "--%s in the help", option)
    check("\nExample:\n  ironwal bench " in out and "no way to delete a stream" in out, "%s", out)
    check(max(map(len, out.splitlines())) <= 100, "lines of the help")


harness.main(harness.cases_of(globals()))
