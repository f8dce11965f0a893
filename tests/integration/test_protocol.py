#!/usr/bin/python3
"""Every method and every error of the protocol against the real daemon, over TCP and a Unix socket.

test_protocol.py IRONWALD [CASE...]
"""

import os
import random
import signal
import socket
import struct
import threading
import time

import msgpack

from harness import Daemon, Worker, cases_of, check, directory, error_of, eventually, main, same
from ironwal_client import ConnectionLost, ServerError, frame, request

MIB = 1024 * 1024
MAX_MESSAGE_BYTES = 16 * MIB
ENTRY_LIMIT_BYTES = MAX_MESSAGE_BYTES - 1024
ELEMENTS_LIMIT = 1048576


def daemon_of(place, *options, **how):
    return Daemon(place, *options, **how)


def answers_then_end(client, numbers):
    """The connection ends by itself, all of these being answered; returns the (error, result) of each."""
    client.flush()
    check(client.at_end(), "all that was asked is answered before the end")
    return [client.take(number) for number in numbers]


# ---- the conversation ------------------------------------------------------------------------------------------------


def test_hello():
    with directory() as place, daemon_of(place, "--sync-mode=batch_only", "--compression=lz4", "--shard-count=3") as daemon:
        for unix in (False, True):
            with daemon.client(unix) as client:
                server = client.server
                same(server["protocol"], 1, "protocol")
                check(server["server"].startswith("ironwald/"), "server: %r", server)
                same(server["shard_count"], 3, "shard_count")
                same(server["max_message_bytes"], MAX_MESSAGE_BYTES, "max_message_bytes")
                same(server["sync_mode"], "batch_only", "sync_mode")
                same(server["compression"], "lz4", "compression")
                same(client.call("hello", protocol=1, token="secret", client=None), server, "a later hello")
        daemon.stopped_well()


def test_hello_comes_first():
    with directory() as place, daemon_of(place) as daemon:
        for method, params in (
            ("ping", {}),
            ("append", {"stream": "s", "entry": b"x"}),
            ("nonsense", {}),
            ("hello", {}),
            ("hello", {"protocol": None}),
            ("hello", {"protocol": 0}),
            ("hello", {"protocol": 2}),
            ("hello", {"protocol": 2**64 - 1}),
            ("hello", {"protocol": "1"}),
            ("hello", {"protocol": -1}),
            ("hello", {"protocol": 1.0}),
        ):
            with daemon.client(hello=False) as client:
                numbers = [client.send_params(method, params)]
                client.send("hello", protocol=1)
                client.send("append", stream="s", entry=b"x")
                client.flush()
                client.at_end()
                error, _ = client.take(0)
                check(error and error["code"] == "BadRequest", "%s %r: %r", method, params, error)
                check("protocol" in error["message"] and "1" in error["message"], "names protocol: %r", error)
                same([client.take(1), client.take(2)], [None, None], "nothing that follows is answered")
        with daemon.client(hello=False) as client:  # mistyped elsewhere: it does not count
            for params in ({"client": 1}, {"token": b"x"}):
                error = error_of("BadRequest", client.call, "hello", protocol=1, **params)
                check(list(params)[0] in error["message"], "names the parameter: %r", error)
            same(client.call("hello", protocol=1)["protocol"], 1, "the right one then")
        with daemon.client(hello=False) as client:
            error_of("BadRequest", client.call, "hello", protocol=1, client=1)
            error = error_of("BadRequest", client.call, "ping")
            check("protocol" in error["message"] and client.at_end(), "hello still comes first: %r", error)
        with daemon.client() as client:  # a later one, by the same rules
            error_of("BadRequest", client.call, "hello", protocol=2)
            check(client.at_end(), "closed")
        with daemon.client(hello=False) as client:  # others may be sent right behind it
            client.send_raw(frame(msgpack.packb([2, "anything", {"x": 1}])))
            numbers = [client.send("hello", protocol=1), client.send("ping"), client.send("stream_info", stream="s")]
            check(client.wait(numbers[0])["protocol"] == 1, "hello behind a notification")
            same(client.wait(numbers[1]), {}, "ping")
            error_of("StreamNotFound", client.wait, numbers[2])  # and nothing was executed above


def test_every_method():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as tcp, daemon.client(True) as unix:
        for name, client in (("tcp", tcp), ("unix", unix)):
            same(client.ping(), {}, "ping")
            same(client.append(name, b"hello"), {"id": 0, "durable": True}, "append")
            same(client.append(name, b"", expected_id=1, sync=True), {"id": 1, "durable": True}, "append expected")
            same(client.append_batch(name, [b"a", b"", b"ccc"]), {"first": 2, "end": 5, "durable": True}, "append_batch")
            same(client.append_batch(name, []), {"first": 5, "end": 5, "durable": True}, "an empty batch")
            same(client.append_batch(name, [], expected_id=5)["end"], 5, "an empty batch, expected_id")
            same(error_of("Conflict", client.append_batch, name, [], 4)["actual"], 5, "an empty batch, wrong expected_id")
            same([client.get(name, id) for id in range(7)], [b"hello", b"", b"a", b"", b"ccc", None, None], "get")
            same(client.get(name, 2**64 - 1), None, "get of the largest id")
            same(client.get_batch(name, [4, 0, 4, 1000, 1]), [b"ccc", b"hello", b"ccc", None, b""], "get_batch")
            same(client.get_batch(name, []), [], "get_batch of nothing")
            same(
                client.iter(name), {"first": 0, "entries": [b"hello", b"", b"a", b"", b"ccc"], "next": 5, "end": 5}, "iter"
            )
            same(client.current_segment_start_id(name), 0, "current_segment_start_id")
            same(client.current_segment_start_id("none"), None, "current_segment_start_id of no stream")
            info = client.stream_info(name)
            bytes_count = info.pop("bytes")
            same(info, {"first": 0, "end": 5, "durable_end": 5, "segments": 1}, "stream_info")
            check(9 < bytes_count < 64 * 1024, "bytes: %d", bytes_count)
            same(client.truncate(name, 5), 0, "truncate does not take the segment that is written to")
            same(client.sync(name), {}, "sync of one")
            same(client.sync(), {}, "sync of all")
        same(list(tcp.streams()), ["tcp", "unix"], "list_streams")
        daemon.stopped_well(tcp, unix)


def test_answers_have_exactly_their_keys():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        client.append("s", b"x")
        for method, params, keys in (
            ("hello", {"protocol": 1}, "protocol server shard_count max_message_bytes sync_mode compression"),
            ("append", {"stream": "s", "entry": b""}, "id durable"),
            ("append_batch", {"stream": "s", "entries": [b""]}, "first end durable"),
            ("get", {"stream": "s", "id": 0}, "entry"),
            ("get_batch", {"stream": "s", "ids": [0]}, "entries"),
            ("iter", {"stream": "s"}, "first entries next end"),
            ("truncate", {"stream": "s", "safe_id": 0}, "segments_deleted"),
            ("current_segment_start_id", {"stream": "s"}, "id"),
            ("stream_info", {"stream": "s"}, "first end durable_end segments bytes"),
            ("list_streams", {}, "streams more"),
            ("sync", {}, ""),
            ("ping", {}, ""),
        ):
            same(sorted(client.call(method, **params)), sorted(keys.split()), "%s: keys" % method)


def test_sync_modes_and_durable():
    for mode, single, batch in (("strict", True, True), ("batch_only", False, True), ("async", False, False)):
        with directory() as place, daemon_of(place, "--sync-mode=" + mode, "--async-sync-interval=none") as daemon:
            with daemon.client() as client:
                same(client.server["sync_mode"], mode, "sync_mode")
                same(client.append("a", b"x")["durable"], single, mode + ": append")
                same(client.stream_info("a")["durable_end"], 1 if single else 0, mode + ": durable_end")
                same(client.append("a", b"x", sync=False)["durable"], single, mode + ": append, sync false")
                same(client.append_batch("a", [b"x", b"y"])["durable"], batch, mode + ": append_batch")
                same(client.stream_info("a")["durable_end"], 4 if batch else 0, mode + ": durable_end behind a batch")
                same(client.append("b", b"x", sync=True)["durable"], True, mode + ": append, sync true")
                same(client.append_batch("b", [b"x"], sync=True)["durable"], True, mode + ": batch, sync true")
                same(client.append("c", b"x")["durable"], single, mode + ": append")
                client.sync("a")
                same(client.stream_info("a")["durable_end"], 4, mode + ": sync of one stream")
                client.sync()
                same(client.stream_info("c")["durable_end"], 1, mode + ": sync of all")
                same(client.append_batch("c", [])["durable"], True, mode + ": an empty batch behind a sync")
            daemon.stopped_well()
    with directory() as place, daemon_of(place, "--sync-mode=async", "--async-sync-interval=10ms") as daemon:
        with daemon.client() as client:
            client.append("a", b"x")
            eventually(lambda: client.stream_info("a")["durable_end"] == 1, "the interval's sync")


def test_expected_id():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        error = error_of("Conflict", client.append, "s", b"x", expected_id=1)
        same((error["expected"], error["actual"]), (1, 0), "Conflict on a stream that is not there")
        same(client.list_streams()["streams"], [], "and none is made")
        same(client.append("s", b"x", expected_id=0)["id"], 0, "expected_id 0 makes it")
        for wrong in (0, 2, 2**64 - 1):
            error = error_of("Conflict", client.append, "s", b"y", expected_id=wrong)
            same((error["expected"], error["actual"]), (wrong, 1), "Conflict")
            error = error_of("Conflict", client.append_batch, "s", [b"y", b"z"], expected_id=wrong)
            same((error["expected"], error["actual"]), (wrong, 1), "Conflict of a batch")
        same(client.append_batch("s", [b"y", b"z"], expected_id=1)["end"], 3, "the right one")
        same(client.iter("s")["entries"], [b"x", b"y", b"z"], "nothing was written otherwise")
        # Pipelined: those behind a failed one fail too.
        numbers = [client.send("append", stream="s", entry=b"%d" % i, expected_id=3 + i + (i >= 5)) for i in range(10)]
        for i, number in enumerate(numbers):
            if i < 5:
                same(client.wait(number)["id"], 3 + i, "in order")
            else:
                same(error_of("Conflict", client.wait, number)["actual"], 8, "and the rest fails")


def test_iter_limits():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        entries = [b"%03d" % i for i in range(100)]
        client.append_batch("s", entries[:50])
        for entry in entries[50:]:
            client.append("s", entry)
        same(client.iter("s", 10, max_entries=7)["entries"], entries[10:17], "max_entries")
        same(client.iter("s", 10, max_entries=0)["entries"], entries[10:11], "max_entries 0 is 1")
        same(len(client.iter("s", 0, max_entries=2**64 - 1)["entries"]), 100, "max_entries is capped")
        same(client.iter("s", 10, max_bytes=9)["entries"], entries[10:13], "max_bytes, exactly")
        same(client.iter("s", 10, max_bytes=11)["entries"], entries[10:13], "max_bytes")
        same(client.iter("s", 10, max_bytes=1)["entries"], entries[10:11], "the first entry is given in any case")
        same(client.iter("s", 10, max_bytes=0)["entries"], entries[10:11], "also for 0")
        same(len(client.iter("s", 0, max_bytes=2**64 - 1)["entries"]), 100, "max_bytes is capped")
        client.append_batch("over", [b"x" * 500, b"", b""])
        same(client.iter("over", max_bytes=100)["next"], 1, "nothing follows a first entry that is over it")
        same(client.iter("over", max_bytes=500)["next"], 3, "what fits follows")
        same(client.iter("s", 90), {"first": 90, "entries": entries[90:], "next": 100, "end": 100}, "the last portion")
        for past in (100, 101, 2**64 - 1):
            same(
                client.iter("s", past), {"first": past, "entries": [], "next": past, "end": 100}, "iter at or past the end"
            )
        for limits in ({}, {"max_entries": 3}, {"max_bytes": 10}, {"max_entries": 1}):
            same(list(client.scan("s", **limits)), list(enumerate(entries)), "a scan with %r" % limits)
        # The default of max_bytes, and entries that are larger than it.
        client.append_batch("big", [b"a" * 600000, b"b" * 600000, b"c" * 2000000, b"d"])
        same([len(entry) for entry in client.iter("big")["entries"]], [600000], "1 MiB unless asked otherwise")
        same([len(entry) for entry in client.iter("big", 1)["entries"]], [600000], "1 MiB from 1")
        same([len(entry) for entry in client.iter("big", 2)["entries"]], [2000000], "a larger one alone")
        same([len(e) for e in client.iter("big", 0, max_bytes=4 * MIB)["entries"]], [600000, 600000, 2000000, 1], "more")


def test_iter_waits():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client, daemon.client(True) as other:
        client.append("s", b"0")
        begin = time.monotonic()
        same(client.iter("s", 0, wait_ms=60000)["entries"], [b"0"], "nothing to wait for")
        same(client.iter("s", 1, wait_ms=50), {"first": 1, "entries": [], "next": 1, "end": 1}, "in vain")
        check(0.04 < time.monotonic() - begin < 30, "as long as asked: %f s", time.monotonic() - begin)
        error_of("StreamNotFound", client.iter, "none", wait_ms=60000)
        # Many on one connection, answered by an append over another; one waits further ahead.
        numbers = [client.send("iter", stream="s", start_id=1, wait_ms=60000) for _ in range(100)]
        far = client.send("iter", stream="s", start_id=3, wait_ms=2**64 - 1)
        same(client.ping(), {}, "and they hold up nothing")
        same(client.append("t", b"x")["id"], 0, "not even an append")
        check(not any(client.ready(number) for number in numbers), "they wait")
        same(other.append("s", b"1")["id"], 1, "the append")
        for number in numbers:
            same(client.wait(number), {"first": 1, "entries": [b"1"], "next": 2, "end": 2}, "answered by an append")
        other.append("s", b"2")
        same(client.ping(), {}, "ping")
        check(not client.ready(far), "the one ahead still waits")
        other.append("s", b"3")
        same(client.wait(far)["entries"], [b"3"], "until its entry is there")
        # Waiting in the middle of a follow.
        seen = []
        done = threading.Event()

        def follow():
            with daemon.client() as reader:
                start = 0
                while len(seen) < 204:
                    part = reader.iter("s", start, wait_ms=30000)
                    seen.extend(part["entries"])
                    start = part["next"]
            done.set()

        thread = threading.Thread(target=follow)
        thread.start()
        for i in range(4, 204):
            other.append("s", b"%d" % i)
        check(done.wait(60), "the follower is done")
        thread.join()
        same(seen, [b"%d" % i for i in range(204)], "a follower sees all, in order")


def test_truncate():
    with directory() as place, daemon_of(place, "--max-segment-size=500") as daemon, daemon.client() as client:
        for i in range(100):
            client.append("s", b"%03d" % i * 30)
        before = client.stream_info("s")
        check(before["segments"] > 10 and before["first"] == 0, "many segments: %r", before)
        current = client.current_segment_start_id("s")
        check(0 < current < 100, "current_segment_start_id: %r", current)
        same(client.truncate("s", 0), 0, "nothing below 0")
        deleted = client.truncate("s", 50)
        after = client.stream_info("s")
        check(0 < deleted < before["segments"], "segments_deleted: %r", deleted)
        same(after["segments"], before["segments"] - deleted, "segments")
        check(0 < after["first"] <= 50 and after["bytes"] < before["bytes"], "stream_info: %r", after)
        first = after["first"]
        same(client.get("s", first - 1), None, "get of what is gone")
        same(client.get("s", first), b"%03d" % first * 30, "get of the oldest")
        same(client.get_batch("s", [first - 1, first]), [None, b"%03d" % first * 30], "get_batch")
        same(error_of("Truncated", client.iter, "s", 0)["first_id"], first, "Truncated")
        same(error_of("Truncated", client.iter, "s", first - 1, wait_ms=1000)["first_id"], first, "Truncated")
        same(client.iter("s", max_entries=1)["first"], first, "without a start: the oldest")
        same([id for id, _ in client.scan("s")], list(range(first, 100)), "none at or above is gone")
        client.truncate("s", 2**64 - 1)
        same(client.stream_info("s")["first"], current, "the segment that is written to stays")
        same(client.truncate("s", 2**64 - 1), 0, "nothing more to delete")
        same(client.append("s", b"x")["id"], 100, "ids go on")
        daemon.stopped_well(client)
        with daemon_of(place) as again, again.client() as client:
            info = client.stream_info("s")
            check(info["first"] >= current and info["end"] == 101, "after a restart: %r", info)
            same(error_of("Truncated", client.iter, "s", 0)["first_id"], info["first"], "Truncated")


def test_list_streams():
    with directory() as place, daemon_of(place, "--sync-mode=async") as daemon, daemon.client() as client:
        same(client.list_streams(), {"streams": [], "more": False}, "none")
        names = ["a", "a/b", "a\0", "ab", "a_b", "ä", "b" * 255, "ba", "..", ".", "🦊", "🦊/x", "\n", "A"]
        names += ["n%04d" % i for i in range(1500)]
        for number in [client.send("append", stream=name, entry=name.encode()) for name in names]:
            client.wait(number)
        order = sorted(names, key=lambda name: name.encode())
        part = client.list_streams()
        same((part["streams"], part["more"]), (order[:1000], True), "a thousand unless asked otherwise")
        same(list(client.streams()), order, "all")
        same(list(client.streams(limit=7)), order, "all, by sevens")
        same(client.list_streams(limit=2**64 - 1), {"streams": order, "more": False}, "the limit is capped")
        same(client.list_streams(limit=len(order)), {"streams": order, "more": False}, "a limit that is just enough")
        for prefix in ("", "a", "a/", "🦊", "n00", "zz", "b" * 255, "b" * 256):
            expected = [name for name in order if name.startswith(prefix)]
            same(client.list_streams(prefix, limit=5000), {"streams": expected, "more": False}, "prefix %r" % prefix)
            same(list(client.streams(prefix, limit=3)), expected, "prefix %r by threes" % prefix)
        for after in ("", "a", "a\0", "n0100", "n0100x", "🦊/x", "z" * 300):
            expected = [name for name in order if name.encode() > after.encode()]
            same(client.list_streams(after=after, limit=5000)["streams"], expected, "after %r" % after)
        same(client.list_streams("a", "a/b")["streams"], ["a_b", "ab"], "both")
        same(client.list_streams("n1", "a")["streams"][0], "n1000", "after sorts before all with the prefix")
        same(client.list_streams("a", "b")["streams"], [], "after sorts behind all with the prefix")
        same(client.list_streams("a", limit=1), {"streams": ["a"], "more": True}, "more")
        same(client.list_streams("a", limit=0), {"streams": ["a"], "more": True}, "a limit of 0 is 1")


def test_list_streams_fits_an_answer():
    """10,000 names of 255 bytes are 2.5 MB; the answer's limit is 128 KiB: fewer, and more is true."""
    with directory() as place, daemon_of(place, "--sync-mode=async", "--max-message-bytes=1") as daemon:
        with daemon.client() as client:
            same(client.max_message_bytes, 131072, "raised to 128K")
            names = ["%0255d" % i for i in range(1200)]
            for number in [client.send("append", stream=name, entry=b"") for name in names]:
                client.wait(number)
            part = client.list_streams(limit=10000)
            check(part["more"] and 100 < len(part["streams"]) < 520, "cut to fit: %d", len(part["streams"]))
            same(list(client.streams(limit=10000)), names, "all in portions")


def test_names():
    names = ["a/b", "a_b", "a.b", "..", ".", "/", "a\0b", "\0", "🦊", "%2e", "a%2Fb", " ", "é", "e\u0301", "con", "shard_00"]
    names += ["x" * 255, "x" * 254, "é" * 127 + "x", "🦊" * 63 + "xyz", "\0" * 255, "/" * 255, "." * 255, "X" * 255]
    names += ["ironwald.lock", "manifest", "a/../../b", "-", "~", "\x7f", "\u2028"]
    with directory() as place:
        with daemon_of(place) as daemon, daemon.client() as client:
            for i, name in enumerate(names):
                same(client.append(name, name.encode())["id"], 0, "append to %r" % name)
                same(client.append(name, b"%d" % i)["id"], 1, "append to %r" % name)
            daemon.stopped_well(client)
        same(sorted(os.listdir(place)), ["data"], "nothing but the data directory")
        with daemon_of(place) as daemon, daemon.client() as client:
            same(list(client.streams()), sorted(names, key=str.encode), "all are there after a restart")
            for i, name in enumerate(names):
                same(client.iter(name)["entries"], [name.encode(), b"%d" % i], "entries of %r" % name)
            for name, sent in (
                ("", ""),
                ("x" * 256, "x" * 255),
                ("é" * 128, "é" * 127),
                ("y" * 70000, "y" * 255),
                ("xx" + "🦊" * 64, "xx" + "🦊" * 63),
            ):
                for method, more in (
                    ("append", {"entry": b""}),
                    ("append_batch", {"entries": []}),
                    ("get", {"id": 0}),
                    ("get_batch", {"ids": []}),
                    ("iter", {}),
                    ("truncate", {"safe_id": 0}),
                    ("current_segment_start_id", {}),
                    ("stream_info", {}),
                    ("sync", {}),
                ):
                    error = error_of("InvalidFilename", client.call, method, stream=name, **more)
                    same(error["name"], sent, "%s: the name in the error" % method)
            same(len(list(client.streams())), len(names), "and no stream is made")


def test_stream_not_found():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        same(client.append_batch("empty", []), {"first": 0, "end": 0, "durable": True}, "an empty batch")
        for name in ("none", "empty", "a\0b", "🦊"):
            for method, more in (
                ("get", {"id": 0}),
                ("get_batch", {"ids": [0]}),
                ("get_batch", {"ids": []}),
                ("iter", {}),
                ("iter", {"start_id": 0}),
                ("truncate", {"safe_id": 0}),
                ("stream_info", {}),
                ("sync", {}),
            ):
                same(error_of("StreamNotFound", client.call, method, stream=name, **more)["stream"], name, method)
        same(client.list_streams()["streams"], [], "no stream is made by asking")


# ---- what is wrong with a request ------------------------------------------------------------------------------------


def test_bad_parameters():
    """Missing, mistyped, nil, not UTF-8: BadRequest that names the parameter, nothing done, the connection lives on."""
    good = {
        "append": {"stream": "s", "entry": b"x"},
        "append_batch": {"stream": "s", "entries": [b"x"]},
        "get": {"stream": "s", "id": 0},
        "get_batch": {"stream": "s", "ids": [0]},
        "iter": {"stream": "s"},
        "truncate": {"stream": "s", "safe_id": 0},
        "current_segment_start_id": {"stream": "s"},
        "stream_info": {"stream": "s"},
        "list_streams": {},
        "sync": {},
        "hello": {"protocol": 1},
    }
    optional = {
        "append": {"expected_id": "integer", "sync": "bool"},
        "append_batch": {"expected_id": "integer", "sync": "bool"},
        "iter": {"start_id": "integer", "max_entries": "integer", "max_bytes": "integer", "wait_ms": "integer"},
        "list_streams": {"prefix": "str", "after": "str", "limit": "integer"},
        "sync": {"stream": "str"},
        "hello": {"client": "str", "token": "str"},
    }
    required = {
        "stream": "str", "entry": "bytes", "entries": "array", "id": "integer", "ids": "array", "safe_id": "integer"
    }
    wrong = {
        "str": [1, b"bytes", True, 1.5, [], {}, ["s"], "\ud800", b"\xff"],
        "bytes": [1, True, 1.5, [], {}, [b"x"]],
        "array": [1, b"x", "x", True, {}],
        "integer": [-1, -(2**63), 1.0, "1", b"1", True, [], {}, [1]],
        "bool": [0, 1, "true", b"", [], {}],
    }
    count = 0
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        client.append("s", b"first")

        def bad(method, params, name, what):
            nonlocal count
            count += 1
            data = msgpack.packb([0, client.expect(1000000 + count), method, params], unicode_errors="surrogatepass")
            client.send_raw(frame(data))
            error = error_of("BadRequest", client.wait, 1000000 + count)
            check(name in error["message"], "%s: %s: the message names %s: %r", method, what, name, error)

        for method, params in good.items():
            for name, kind in list(required.items()) + list(optional.get(method, {}).items()):
                if name not in params and name not in optional.get(method, {}):
                    continue
                if name in params:
                    without = {key: value for key, value in params.items() if key != name}
                    bad(method, without, name, "missing")
                    bad(method, dict(params, **{name: None}), name, "nil")
                for value in wrong[kind]:
                    if kind == "str" and value == b"\xff":
                        continue  # below, as a str
                    bad(method, dict(params, **{name: value}), name, repr(value))
            for name in ("stream", "prefix", "after", "client"):
                if name in params or name in optional.get(method, {}):
                    for text in (b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
                        packed = msgpack.packb(dict(params, **{name: "@@"}))
                        packed = packed.replace(b"\xa2@@", bytes([0xA0 + len(text)]) + text)
                        count += 1
                        client.send_raw(
                            frame(b"\x94\x00" + msgpack.packb(client.expect(1000000 + count)) + msgpack.packb(method) + packed)
                        )
                        error = error_of("BadRequest", client.wait, 1000000 + count)
                        check(name in error["message"], "%s: %r is not UTF-8: %r", method, text, error)
        for value in (1, True, [], {}, None, 1.5):
            bad("append_batch", {"stream": "s", "entries": [b"a", value]}, "entries", "an element %r" % (value,))
        for value in (-1, True, [], {}, None, 1.5, b"1", "1"):
            bad("get_batch", {"stream": "s", "ids": [0, value]}, "ids", "an element %r" % (value,))
        same(client.stream_info("s")["end"], 1, "nothing was done")
        same(client.list_streams()["streams"], ["s"], "no stream was made")
        return "%d requests" % count


def test_lenient_forms():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        none = dict(expected_id=None, sync=None)
        same(client.call("append", stream="s", entry="text ü", **none)["id"], 0, "a str is taken as bytes, nil as absent")
        same(client.call("append_batch", stream="s", entries=["x", b"y"], **none)["first"], 1, "in a batch too")
        packed = b"\x94\x00\x07\xa6append\x82\xa6stream\xa1s\xa5entry\xa2\xff\xfe"
        client.send_raw(frame(packed))
        same(client.wait(client.expect(7))["id"], 3, "a str of any bytes")
        same(
            client.call("iter", stream="s", start_id=None, max_entries=None, max_bytes=None, wait_ms=None)["entries"],
            ["text ü".encode(), b"x", b"y", b"\xff\xfe"],
            "and it comes back as bin",
        )
        same(client.call("list_streams", prefix=None, after=None, limit=None)["streams"], ["s"], "nil for optionals")
        same(client.call("sync", stream=None), {}, "nil for optionals")
        # What is not known is passed over, whatever it holds.
        deep = None
        for _ in range(60):
            deep = [deep]
        for unknown in (1, -1, 1.5, b"x", "x", [1, [2, {"x": None}]], {"a": {1: 2}, None: 3}, deep, msgpack.ExtType(5, b"data"),
                        msgpack.Timestamp(1, 2)):
            same(client.call("ping", zzz=unknown), {}, "an unknown parameter of ping")
            same(client.call("get", stream="s", id=1, color=unknown)["entry"], b"x", "an unknown parameter of get")
        # Twice: the last counts. Wide and signed forms of integers.
        twice = b"\xa6stream\xa1q\xa2id\x00\xa6stream\xa1s\xa2id\xd3" + struct.pack(">q", 2)
        client.send_raw(frame(b"\x94\x00\x08\xa3get\x84" + twice))
        same(client.wait(client.expect(8))["entry"], b"y", "the last of two counts")
        for form in (b"\x01", b"\xcc\x01", b"\xcd\x00\x01", b"\xce" + struct.pack(">I", 1), b"\xcf" + struct.pack(">Q", 1),
                     b"\xd0\x01", b"\xd1\x00\x01", b"\xd2" + struct.pack(">i", 1), b"\xd3" + struct.pack(">q", 1)):
            client.send_raw(frame(b"\x94\x00\x09\xa3get\x82\xa6stream\xa1s\xa2id" + form))
            same(client.wait(client.expect(9))["entry"], b"x", "id as %r" % form)
        for form in (b"\xd9\x01s", b"\xda\x00\x01s", b"\xdb\x00\x00\x00\x01s"):
            client.send_raw(frame(b"\x94\x00\x0a\xa3get\x82\xa6stream" + form + b"\xa2id\x01"))
            same(client.wait(client.expect(10))["entry"], b"x", "stream as %r" % form)
        client.send_raw(bytes.fromhex("00000025dd00000004d30000000000000000cf0000000000000001db0000000470696e67df00000000"))
        same(client.wait(client.expect(1)), {}, "the widest ping of PROTOCOL.md")
        for number in (0, 1, 127, 128, 2**31, 2**32 - 1):
            client.send_raw(request(number, "ping", {}))
            same(client.wait(client.expect(number)), {}, "msgid %d comes back" % number)
        for data in ([2, "ping", {}], [2, "append", {"stream": "s", "entry": b"no"}], [2, "", {}]):
            client.send_raw(frame(msgpack.packb(data)))
        same(client.ping(), {}, "notifications are ignored")
        same(client.stream_info("s")["end"], 4, "also an append")


def test_unknown_methods():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        for method in ["frobnicate", "", "PING", "ping ", "a\0b", "🦊", "shard_appends", "x" * 255]:
            for params in ({}, {"key": b"k", "value": b"v", "entries": [[b"k", b"v"]], "id": b"c", "shard": 0}):
                same(error_of("UnknownMethod", client.call, method, **params)["method"], method, "the method in the error")
        same(error_of("UnknownMethod", client.call, "y" * 1000)["method"], "y" * 255, "cut to 255 bytes")
        same(client.ping(), {}, "the connection lives on")


def broken_messages():
    """(what, the frame's bytes, the msgid of the answer)"""
    ping = b"\xa4ping"
    yield "no value at all", b"", 0
    yield "params is an array", b"\x94\x00\x05" + ping + b"\x93\x01\x02\x03", 5
    yield "params is nil", b"\x94\x00\x05" + ping + b"\xc0", 5
    yield "params missing", b"\x93\x00\x05" + ping, 5
    yield "one element too many", b"\x95\x00\x05" + ping + b"\x80\xc0", None
    yield "a key that is no str", b"\x94\x00\x05" + ping + b"\x81\x01\x02", 5
    yield "a bin as key", b"\x94\x00\x05" + ping + b"\x81\xc4\x01a\x02", 5
    yield "a nil as key", b"\x94\x00\x05" + ping + b"\x81\xc0\x02", 5
    yield "method is a bin", b"\x94\x00\x05\xc4\x04ping\x80", 5
    yield "method is an integer", b"\x94\x00\x05\x01\x80", 5
    yield "method is nil", b"\x94\x00\x05\xc0\x80", 5
    yield "a str is cut short", b"\x94\x00\x06\xa4pif", 6
    yield "a map is cut short", b"\x94\x00\x06" + ping + b"\x82\xa1a\x01", 6
    yield "nothing behind the msgid", b"\x94\x00\x06", 6
    yield "a value behind the message", b"\x94\x00\x07" + ping + b"\x80\xc0", 7
    yield "c1 in a parameter", b"\x94\x00\x08" + ping + b"\x81\xa1a\xc1", 8
    yield "c1", b"\xc1", 0
    yield "HTTP", b"GET / HTTP/1.1", 0
    yield "a map", b"\x80", 0
    yield "an empty array", b"\x90", 0
    yield "nil", b"\xc0", 0
    yield "a response", b"\x94\x01\x05\xc0\x80", None
    yield "an unknown type of message", b"\x94\x03\x05" + ping + b"\x80", None
    yield "a negative type of message", b"\x94\xff\x05" + ping + b"\x80", None
    yield "msgid is negative", b"\x94\x00\xff" + ping + b"\x80", 0
    yield "msgid is 2^32", b"\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00" + ping + b"\x80", 0
    yield "msgid is a float", b"\x94\x00\xca\x00\x00\x00\x00" + ping + b"\x80", 0
    yield "msgid is a str", b"\x94\x00\xa15" + ping + b"\x80", 0
    yield "a notification without params", b"\x92\x02" + ping, 0
    yield "a notification with nil params", b"\x93\x02" + ping + b"\xc0", 0
    yield "an array that claims 2^32-1 elements", b"\x94\x00\x09" + ping + b"\x81\xa1a\xdd\xff\xff\xff\xff", 9
    yield "a map that claims 2^32-1 pairs", b"\x94\x00\x09" + ping + b"\x81\xa1a\xdf\xff\xff\xff\xff", 9
    yield "params that claim 2^32-1 pairs", b"\x94\x00\x09" + ping + b"\xdf\xff\xff\xff\xff", 9
    yield "a bin that claims 4 GiB", b"\x94\x00\x09" + ping + b"\x81\xa1a\xc6\xff\xff\xff\xff", 9
    yield "a message that claims 2^32-1 elements", b"\xdd\xff\xff\xff\xff\x00\x05", None
    yield "65 arrays deep", b"\x94\x00\x0a" + ping + b"\x81\xa1a" + 65 * b"\x91" + b"\xc0", 10
    yield "a million arrays deep", b"\x94\x00\x0a" + ping + b"\x81\xa1a" + MIB * b"\x91" + b"\xc0", 10
    yield "a million maps deep", b"\x94\x00\x0a" + ping + b"\x81\xa1a" + MIB * b"\x81\xa1a" + b"\xc0", 10


def test_broken_messages():
    """What came before is answered, then BadRequest with the msgid, then the end; what follows is not executed."""
    count = 0
    with directory() as place, daemon_of(place) as daemon:
        for what, data, number in broken_messages():
            with daemon.client(count % 2 == 1) as client:
                before = client.send("append", stream="before", entry=b"%d" % count)
                client.send_raw(frame(data))
                expected = [client.expect(0), client.expect(5)] if number is None else [client.expect(number)]
                client.send_raw(request(4242, "append", {"stream": "behind", "entry": b""}))
                client.flush()
                client.at_end()
                error, result = client.take(before) or (None, None)
                check(error is None and result == {"id": count, "durable": True}, "%s: before it: %r", what, (error, result))
                answers = [client.take(one) for one in expected]
                answers = [answer for answer in answers if answer is not None]
                check(len(answers) == 1, "%s: one answer with the msgid %r", what, number)
                same(answers[0][0]["code"], "BadRequest", what)
            count += 1
        for deep in (1, 63, 64):
            with daemon.client() as client:
                client.send_raw(frame(b"\x94\x00\x0a\xa4ping\x81\xa1a" + deep * b"\x91" + b"\xc0"))
                same(client.wait(client.expect(10)), {}, "%d arrays deep are legal" % deep)
        with daemon.client() as client:
            error_of("StreamNotFound", client.stream_info, "behind")
            same(client.stream_info("before")["end"], count, "appends before the break")
            check(client.stats()["connections"]["current"] >= 1, "the daemon lives")
        daemon.stopped_well()
    return "%d of them" % count


def test_broken_first_message():
    with directory() as place, daemon_of(place) as daemon:
        http, tls = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for data in (frame(b"\xc1"), http, tls, frame(b""), b"\xff\xff\xff\xff"):
            with daemon.client(hello=False) as client:
                client.send_raw(data)
                client.expect(0)
                client.flush()
                client.at_end()
                error, _ = client.take(0) or ({}, None)
                same(error.get("code"), "BadRequest", "%r" % data)


def test_frames_over_the_limit():
    with directory() as place, daemon_of(place) as daemon:
        for length in (MAX_MESSAGE_BYTES + 1, 2**31, 2**32 - 1):
            with daemon.client() as client:
                before = client.send("ping")
                client.send_raw(struct.pack(">I", length))  # refused as soon as the four bytes are there
                error, _ = answers_then_end(client, [before, client.expect(0)])[1]
                same(error["code"], "BadRequest", "%d bytes announced" % length)
        with daemon.client() as client:  # and those that send on all the same can read the answer
            client.send_raw(struct.pack(">I", MAX_MESSAGE_BYTES + 1))
            client.expect(0)
            try:
                for _ in range(17):
                    client.send_raw(bytes(MIB))
            except ConnectionLost:
                pass
            client.at_end()
            error, _ = client.take(0) or ({}, None)
            same(error.get("code"), "BadRequest", "sent to the end")
        with daemon.client() as client:  # exactly the limit
            shell = len(msgpack.packb([0, 5, "ping", {"pad": bytes(MIB)}])) - MIB
            pad = bytes(MAX_MESSAGE_BYTES - shell)
            data = request(5, "ping", {"pad": pad})
            same(len(data), 4 + MAX_MESSAGE_BYTES, "a message of the limit")
            client.send_raw(data)
            same(client.wait(client.expect(5)), {}, "a message of exactly the limit")


def test_too_large():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        big = bytes(range(256)) * (ENTRY_LIMIT_BYTES // 256)
        same(len(big), ENTRY_LIMIT_BYTES, "the limit")
        same(client.append("s", big)["id"], 0, "an entry of the limit")
        error = error_of("TooLarge", client.append, "s", big + b"x")
        same((error["limit"], error["size"]), (ENTRY_LIMIT_BYTES, ENTRY_LIMIT_BYTES + 1), "limit and size")
        error = error_of("TooLarge", client.append_batch, "s", [b"a", big + b"x", b"b"])
        same((error["limit"], error["size"]), (ENTRY_LIMIT_BYTES, ENTRY_LIMIT_BYTES + 1), "limit and size in a batch")
        error_of("TooLarge", client.append, "new", big + b"x")
        same(client.list_streams()["streams"], ["s"], "no stream is made")
        same(client.stream_info("s")["end"], 1, "nothing was written")
        same(client.get("s", 0), big, "get of the largest")
        same(client.iter("s")["entries"], [big], "iter of the largest")
        same(client.append_batch("s", [big[:8000000], big[:8000000]])["end"], 3, "a batch that fills a message")
        same(client.get_batch("s", [1, 2]), [big[:8000000], big[:8000000]], "an answer that just fits")
        for ids in ([0, 1], [1, 2, 1], [1] * 1000):
            error = error_of("TooLarge", client.get_batch, "s", ids)
            same(error["limit"], MAX_MESSAGE_BYTES, "limit of an answer")
            check(error["size"] > MAX_MESSAGE_BYTES, "size of the answer: %r", error)
        same(list(client.scan("s", max_bytes=2**63)), [(0, big), (1, big[:8000000]), (2, big[:8000000])], "iter gives less")


def test_elements():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        same(client.append_batch("s", [b""] * ELEMENTS_LIMIT), {"first": 0, "end": ELEMENTS_LIMIT, "durable": True}, "the most")
        error = error_of("TooLarge", client.append_batch, "s", [b""] * (ELEMENTS_LIMIT + 1))
        same((error["limit"], error["size"]), (ELEMENTS_LIMIT, ELEMENTS_LIMIT + 1), "limit and size")
        same(client.stream_info("s")["end"], ELEMENTS_LIMIT, "nothing was written")
        same(client.get_batch("s", list(range(ELEMENTS_LIMIT))), [b""] * ELEMENTS_LIMIT, "the most ids")
        same(client.get_batch("s", [ELEMENTS_LIMIT] * ELEMENTS_LIMIT), [None] * ELEMENTS_LIMIT, "the most nils")
        error = error_of("TooLarge", client.get_batch, "s", [0] * (ELEMENTS_LIMIT + 1))
        same((error["limit"], error["size"]), (ELEMENTS_LIMIT, ELEMENTS_LIMIT + 1), "limit and size")
        part = client.iter("s")
        same((part["next"], len(part["entries"])), (ELEMENTS_LIMIT, ELEMENTS_LIMIT), "iter of the most")
        client.append("s", b"x")
        same(client.iter("s", max_entries=2**64 - 1)["next"], ELEMENTS_LIMIT, "capped at as many")
        same(client.ping(), {}, "the connection lives on")


VALUES_LIMIT = 3 * ELEMENTS_LIMIT + 1024


def test_values_of_a_request():
    """All arrays and maps of a request together, also in parameters that nobody knows."""
    with directory() as place, daemon_of(place, "--max-message-bytes=16M") as daemon, daemon.client() as client:
        def ask(method, params, number=7):
            payload = b"\x94\x00" + bytes([number]) + msgpack.packb(method) + params
            client.send_raw(struct.pack(">I", len(payload)) + payload)
            return client.wait(client.expect(number))

        def array(count, element=b"\xc0"):
            return b"\xdd" + struct.pack(">I", count) + element * count

        rest = VALUES_LIMIT - 2  # the params have a key and a value
        same(ask("ping", b"\x81\xa1z" + array(rest)), {}, "the most")
        same(ask("ping", b"\x81\xa1z" + array(rest // 2, b"\x91\xc0")), {}, "the most, nested")
        pairs = rest // 2
        same(ask("ping", b"\x81\xa1z\xdf" + struct.pack(">I", pairs) + b"\xa0\xc0" * pairs), {}, "the most, in a map")
        for name, params, size in (
            ("an array", b"\x81\xa1z" + array(rest + 1), VALUES_LIMIT + 1),
            ("a map", b"\x81\xa1z\xdf" + struct.pack(">I", pairs + 1) + b"\xa0\xc0" * (pairs + 1), VALUES_LIMIT + 2),
            ("the params", b"\xdf" + struct.pack(">I", 8000000) + b"\xa0\xc0" * 8000000, 16000000),
            ("two arrays", b"\x82\xa1z" + array(rest - 2) + b"\xa1y" + array(1), VALUES_LIMIT + 1),
            ("nested", b"\x81\xa1z" + array(1, array(rest)), VALUES_LIMIT + 1),
            ("broken behind it", b"\x81\xa1z" + array(15000000, b"\xc1"), 15000002),
        ):
            for method in ("ping", "hello", "no such method"):
                error = error_of("TooLarge", ask, method, params)
                same((error["limit"], error["size"]), (VALUES_LIMIT, size), "limit and size of " + name)
        error = error_of("TooLarge", client.append_batch, "s", [b""] * (4 * ELEMENTS_LIMIT))
        same(error["limit"], VALUES_LIMIT, "a batch far over both limits")
        client.send_raw(frame(msgpack.packb([2, "ping", {"z": [None] * (VALUES_LIMIT + 1)}])))  # a notification is ignored
        same(client.list_streams()["streams"], [], "nothing was done")
        same(client.ping(), {}, "the connection lives on")


def test_lower_limit_than_entries():
    """Entries that an answer cannot hold any more: told, with the id to go on at."""
    with directory() as place:
        with daemon_of(place) as daemon, daemon.client() as client:
            client.append("s", b"small")
            client.append("s", bytes(200000))
            client.append("s", b"behind")
            daemon.stopped_well(client)
        with daemon_of(place, "--max-message-bytes=128K") as daemon, daemon.client() as client:
            same(client.get("s", 0), b"small", "get")
            same(error_of("TooLarge", client.get, "s", 1)["id"], 1, "get: id")
            error = error_of("TooLarge", client.get_batch, "s", [0, 1])
            check(error["size"] > error["limit"], "get_batch: %r", error)
            part = client.iter("s")
            same((part["entries"], part["next"], part["end"]), ([b"small"], 1, 3), "iter ends before it")
            error = error_of("TooLarge", client.iter, "s", 1)
            same((error["id"], error["first_id"]), (1, 2), "iter: id and first_id")
            same(client.iter("s", 2)["entries"], [b"behind"], "and goes on")
            error = error_of("TooLarge", client.append, "s", bytes(131072 - 1023))
            same((error["limit"], error["size"]), (131072 - 1024, 131072 - 1023), "the lower limit of an entry")
            same(client.append("s", bytes(131072 - 1024))["id"], 3, "an entry of the lower limit")
            same(client.get("s", 3), bytes(131072 - 1024), "get of it")
            same(client.iter("s", 3)["entries"], [bytes(131072 - 1024)], "iter of it")


# ---- connections -----------------------------------------------------------------------------------------------------


def test_pipelining_and_msgids():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        numbers = [client.send("append", stream="s%d" % (i % 3), entry=b"%d" % i) for i in range(3000)]
        order = list(range(3000))
        random.Random(1).shuffle(order)
        for i in order:
            same(client.wait(numbers[i])["id"], i // 3, "appends of a connection keep their order")
        for k in range(3):
            same([entry for _, entry in client.scan("s%d" % k)], [b"%d" % i for i in range(k, 3000, 3)], "s%d" % k)
        # A mix with large answers, sent in one piece; everything is answered once.
        client.append("big", bytes(MIB))
        numbers = []
        for i in range(200):
            numbers.append((client.send("get", stream="big", id=0), bytes(MIB)))
            numbers.append((client.send("get", stream="s0", id=i), b"%d" % (3 * i)))
        for number, entry in numbers:
            same(client.wait(number)["entry"], entry, "a pipelined get")


def test_byte_at_a_time():
    with directory() as place, daemon_of(place) as daemon:
        for unix in (False, True):
            with daemon.client(unix, hello=False) as client:
                data = request(client.expect(0), "hello", {"protocol": 1})
                for i in range(20):
                    client.expect(2 * i + 1), client.expect(2 * i + 2)
                    data += request(2 * i + 1, "append", {"stream": "slow%d" % unix, "entry": b"entry %d" % i})
                    data += request(2 * i + 2, "get", {"stream": "slow%d" % unix, "id": 2**40})
                for i in range(len(data)):
                    client.send_raw(data[i : i + 1])
                    client.flush()
                client.wait(0)
                for i in range(20):
                    same(client.wait(2 * i + 1)["id"], i, "append")
                for i in range(20):
                    try:
                        same(client.wait(2 * i + 2)["entry"], None, "get")
                    except ServerError as error:  # it may be looked for before the first append is done
                        same(error.code, "StreamNotFound", "get")


def test_half_close():
    with directory() as place, daemon_of(place) as daemon:
        for unix in (False, True):
            with daemon.client(unix) as client:
                client.append("s", b"x")
                end = client.stream_info("s")["end"]
                waiting = client.send("iter", stream="s", start_id=10**6, wait_ms=60000)
                numbers = [client.send("append", stream="s", entry=b"%d" % i) for i in range(500)]
                last = client.send("ping")
                begin = time.monotonic()
                client.half_close()
                check(client.at_end(), "everything is answered, then the end")
                check(time.monotonic() - begin < 30, "without waiting for the iter")
                same([client.take(number)[1]["id"] for number in numbers], list(range(end, end + 500)), "appends")
                same(client.take(last), (None, {}), "ping")
                error, result = client.take(waiting)
                check(error is None and result["entries"] == [] and result["next"] == 10**6, "the waiting iter: %r", result)
        # Inside a frame: what came before is answered.
        with daemon.client() as client:
            number = client.send("ping")
            client.send_raw(request(77, "append", {"stream": "half", "entry": b"x"})[:-1])
            client.half_close()
            client.at_end()
            same(client.take(number), (None, {}), "ping before half a frame")
            with daemon.client() as other:
                error_of("StreamNotFound", other.stream_info, "half")
        # Gone without reading: what was read is executed.
        with daemon.client() as client:
            numbers = [client.send("append", stream="gone", entry=b"%d" % i) for i in range(100)]
            client.half_close()
            client.wait(numbers[0])
        with daemon.client() as client:
            eventually(lambda: client.stream_info("gone")["end"] == 100, "appends of a client that went away")


def test_busy():
    with directory() as place, daemon_of(place, "--max-connections=3", "--max-streams=2") as daemon:
        clients = [daemon.client() for _ in range(3)]
        for unix in (False, True):
            error = error_of("Busy", daemon.client, unix)
            check("max_connections" in error["message"], "what it is: %r", error)
        with daemon.client(hello=False) as client:  # without having read anything
            client.expect(0)
            client.at_end()
            same(client.take(0)[0]["code"], "Busy", "at once")
        same([client.ping() for client in clients], [{}, {}, {}], "the others live on")
        clients.pop().close()

        def again():
            try:
                clients.append(daemon.client(True))
                return True
            except (ServerError, ConnectionLost):
                return False

        eventually(again, "a connection, after one was closed")
        clients[0].append("a", b"x")
        clients[0].append("b", b"x")
        error = error_of("Busy", clients[0].append, "c", b"x")
        check("max_streams" in error["message"], "what it is: %r", error)
        error_of("Busy", clients[0].append_batch, "c", [b"x"])
        same(clients[0].append("a", b"y")["id"], 1, "streams that are there take appends")
        same(clients[0].list_streams()["streams"], ["a", "b"], "and no other is made")
        check(clients[0].stats()["connections"]["refused"] >= 3, "counted")
        for client in clients:
            client.close()
        daemon.stopped_well()


def test_stop_answers_what_was_read():
    """SIGTERM: waiting iters are answered empty, appends that were read are done, later ones ShuttingDown or nothing."""
    with directory() as place:
        with daemon_of(place, "--shutdown-timeout=30s") as daemon, daemon.client() as waiter, daemon.client() as writer:
            waiter.append("s", b"x")
            waiting = [waiter.send("iter", stream="s", start_id=1, wait_ms=60000) for _ in range(50)]
            waiter.ping()
            same(daemon.client(True).ping(), {}, "a third client, idle")
            numbers = [writer.send("append", stream="w", entry=b"%d" % i) for i in range(1000)]
            same(writer.wait(numbers[0])["id"], 0, "the first")
            daemon.process.send_signal(signal.SIGTERM)
            try:
                while True:
                    numbers.append(writer.send("append", stream="w", entry=b"%d" % len(numbers)))
                    writer.ready(numbers[-1])
            except ConnectionLost:
                pass
            check(waiter.at_end(), "the waiting iters are answered")
            for number in waiting:
                error, result = waiter.take(number)
                check(error is None and result["entries"] == [] and result["next"] == 1, "empty: %r %r", error, result)
            acknowledged, refused_count = 1, 0
            for number in numbers[1:]:
                answer = writer.take(number)
                if answer is None:
                    continue
                error, result = answer
                if error is not None:
                    same(error["code"], "ShuttingDown", "a late request")
                    refused_count += 1
                else:
                    check(refused_count == 0, "an append behind a refused one")
                    same(result["id"], acknowledged, "ids")
                    acknowledged += 1
            waiter.close()
            writer.close()
            same(daemon.wait(), 0, "status")
            check(not os.path.exists(daemon.unix), "the socket's file is gone")
        with daemon_of(place) as daemon, daemon.client() as client:
            entries = [entry for _, entry in client.scan("w")]
            check(len(entries) >= acknowledged, "%d acknowledged, %d there", acknowledged, len(entries))
            same(entries, [b"%d" % i for i in range(len(entries))], "in order")
            return "%d acknowledged, %d there, %d told ShuttingDown" % (acknowledged, len(entries), refused_count)


def test_half_sent_frames():
    """1,000 frames of which 16 MiB are announced and little is sent must not take 16 GB."""
    with directory() as place, daemon_of(place, "--max-connections=1200", files=4096) as daemon, daemon.client() as client:
        before = daemon.rss_bytes()
        others = []
        begin = request(9, "append", {"stream": "s", "entry": bytes(ENTRY_LIMIT_BYTES)})
        try:
            for i in range(1000):
                other = daemon.client(i % 2 == 1)
                others.append(other)
                # No byte, one byte, a page, or (in a few) nearly half of it.
                other.send_raw(begin[: (4, 5, 4096, 70000)[i % 4] if i % 100 else 7 * MIB])
                other.flush()
            same(client.append("t", b"x")["id"], 0, "others are served")
            received = client.stats()["connections"]["received_bytes"]
            rss = daemon.rss_bytes()
            check(rss < daemon.memory_factor() * 300 * MIB, "resident memory: %d MiB", rss // MIB)
            check(received > 70 * MIB, "what was sent was taken: %d bytes", received)
            others[0].send_raw(begin[7 * MIB :])
            same(others[0].wait(others[0].expect(9))["id"], 0, "one of them goes on to its end")
            for other in others:
                other.close()
            eventually(lambda: client.stats()["connections"]["current"] == 1, "they are gone")
            error_of("StreamNotFound", client.stream_info, "never")
            same(client.stream_info("s")["end"], 1, "and nothing else was appended")
        finally:
            for other in others:
                other.close()
        return "resident memory %d MiB before, %d MiB with 1,000 half frames" % (before // MIB, rss // MIB)


def ask_raw(path, data, times):
    """Sends these bytes (a request) and takes the answer, without looking into it; returns the bytes of the last."""
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(120)
        other.connect(path)
        for message in [request(0, "hello", {"protocol": 1})] + [data] * times:
            other.sendall(message)
            head = other.recv(4, socket.MSG_WAITALL)
            (left,) = struct.unpack(">I", head)
            length = left
            while left > 0:
                left -= len(other.recv(min(left, MIB)))
    return length


def test_a_million_elements_beside_pings():
    """Prints how long another connection's pings take while requests of a million tiny elements are served."""
    said = []
    scattered = random.Random(2).choices(range(ELEMENTS_LIMIT), k=3000)
    with directory() as place, daemon_of(place, "--sync-mode=async") as daemon, daemon.client(True) as client:
        for name, data, answer_bytes in (
            ("nothing", request(1, "ping", {}), 1),
            ("append_batch", request(1, "append_batch", {"stream": "s", "entries": [b""] * ELEMENTS_LIMIT}), 1),
            ("get_batch", request(1, "get_batch", {"stream": "s", "ids": list(range(ELEMENTS_LIMIT))}), 2 * ELEMENTS_LIMIT),
            ("get_batch all over", request(1, "get_batch", {"stream": "s", "ids": scattered}), 2 * len(scattered)),
            ("iter", request(1, "iter", {"stream": "s"}), 2 * ELEMENTS_LIMIT),
            ("a parameter of 8M arrays", request(1, "ping", {"zzz": [[]] * (8 * MIB)}), 1),
        ):
            latencies = []
            with Worker(ask_raw, daemon.unix, data, 1000 if name == "nothing" else 5) as worker:
                while worker.running():
                    begin = time.monotonic()
                    client.ping()
                    latencies.append(time.monotonic() - begin)
                check(worker.result() >= answer_bytes, "%s: the answer", name)
            check(max(latencies) < 30, "%s: a ping took %f s", name, max(latencies))
            latencies.sort()
            at = [latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100], latencies[-1]]
            said.append("%s: p50 %.1f, p99 %.1f, max %.1f ms" % (name, *(1e3 * seconds for seconds in at)))
        same(client.stream_info("s")["end"], 5 * ELEMENTS_LIMIT, "all is there")
        return "; ".join(said)


def test_clients_that_do_not_read():
    """They cost the others nothing, and are closed after write_timeout; what they asked before that is bounded."""
    with directory() as place, daemon_of(place, "--write-timeout=500ms", "--max-inflight-bytes=4M") as daemon:
        with daemon.client() as client:
            client.append("s", bytes(MIB))
            deaf = socket.create_connection(daemon.tcp)
            deaf.setblocking(False)
            deaf.send(request(0, "hello", {"protocol": 1}))
            asked = request(1, "get", {"stream": "s", "id": 0}) * 2000
            try:
                deaf.send(asked)
            except BlockingIOError:
                pass
            for _ in range(50):
                same(client.ping(), {}, "others are served")
            check(daemon.rss_bytes() < daemon.memory_factor() * 200 * MIB, "resident memory: %d", daemon.rss_bytes())
            eventually(lambda: client.stats()["connections"]["current"] == 1, "the deaf one is closed")
            deaf.close()


def test_idle_timeout():
    with directory() as place, daemon_of(place, "--idle-timeout=1s") as daemon:
        with daemon.client() as client, daemon.client() as waiting:
            waiting.append("s", b"x")
            number = waiting.send("iter", stream="s", start_id=1, wait_ms=3000)
            waiting.flush()
            check(client.at_end(), "an idle connection is closed")
            same(waiting.wait(number)["entries"], [], "one that is owed an answer is not")


def test_stats():
    with directory() as place, daemon_of(place) as daemon, daemon.client() as client:
        for i in range(10):
            client.append("s", b"x" * i)
        client.append_batch("t", [b"y"] * 90)
        error_of("StreamNotFound", client.get, "none", 0)
        error_of("UnknownMethod", client.call, "frobnicate")
        stats = client.stats()
        for part, keys in {
            "server": "version sync_mode compression shard_count uptime_seconds",
            "connections": "current max accepted refused received_bytes sent_bytes inflight_bytes waiting_iters",
            "engine": "streams segments segment_bytes open_segments disk_free_bytes damage_found",
            "recovery": "clean_start duration_us torn_tails_cut rot_found",
        }.items():
            for key in keys.split():
                check(key in stats[part], "%s.%s is there: %r", part, key, sorted(stats[part]))
        same(stats["server"]["sync_mode"], "strict", "sync_mode")
        same((stats["server"]["shard_count"], len(stats["writers"]) >= 1), (4, True), "shards and writers")
        same(stats["connections"]["current"], 1, "connections")
        same((stats["engine"]["streams"], stats["engine"]["segments"]), (2, 2), "streams and segments")
        same(sum(writer["appends"] for writer in stats["writers"]), 11, "appends")
        same(sum(writer["entries"] for writer in stats["writers"]), 100, "entries")
        for writer in stats["writers"]:
            for key in ("failed failed_reason shards failed_shards queue_depth appends entries groups group_requests sync_us "
                        "queue_us").split():
                check(key in writer, "writers: %s is there: %r", key, sorted(writer))
            same(writer["failed"], False, "no writer failed")
            same(sorted(writer["sync_us"]), sorted("count mean p50 p99 max".split()), "a latency's keys")
        same(stats["requests"]["append"]["count"], 10, "requests.append.count")
        same(stats["requests"]["append_batch"]["count"], 1, "requests.append_batch.count")
        same(stats["requests"]["get"]["errors"], 1, "requests.get.errors")
        same(stats["requests"]["append"]["latency_us"]["count"], 10, "latencies")
        same(stats["errors"]["StreamNotFound"], 1, "errors.StreamNotFound")
        same(stats["errors"]["UnknownMethod"], 1, "errors.UnknownMethod")
        daemon.stopped_well(client)
        with daemon_of(place) as again, again.client() as client:
            recovery = client.stats()["recovery"]
            check(recovery["clean_start"] is True, "a clean start: %r", recovery)
            again.kill()
        with daemon_of(place) as again, again.client() as client:
            recovery = client.stats()["recovery"]
            check(recovery["clean_start"] is False, "and one that was not: %r", recovery)


def test_garbage():
    """Random bytes, and requests with random bytes changed: the daemon answers or closes, and lives."""
    rng = random.Random(20261122)
    with directory() as place, daemon_of(place, "--sync-mode=async") as daemon, daemon.client() as client:
        client.append_batch("s", [b"x" * i for i in range(100)])
        seeds = [
            request(1, "append", {"stream": "g", "entry": b"entry", "expected_id": 0, "sync": True}),
            request(2, "append_batch", {"stream": "g", "entries": [b"a", b"", b"ccc"]}),
            request(3, "get_batch", {"stream": "s", "ids": [1, 2, 3]}),
            request(4, "iter", {"stream": "s", "start_id": 5, "max_entries": 3, "max_bytes": 100, "wait_ms": 1}),
            request(5, "list_streams", {"prefix": "a", "after": "b", "limit": 5}),
            request(6, "truncate", {"stream": "s", "safe_id": 3}),
        ]
        hello = request(0, "hello", {"protocol": 1})
        for i in range(400):
            with socket.socket(socket.AF_UNIX) as other:
                other.settimeout(60)
                other.connect(daemon.unix)
                if i % 4 == 0:
                    data = rng.randbytes(rng.randrange(1, 3000))
                else:
                    data = bytearray(b"".join(rng.choice(seeds) for _ in range(5)))
                    for _ in range(rng.randrange(1, 4)):
                        data[rng.randrange(len(data))] = rng.randrange(256)
                try:
                    other.sendall((hello if i % 8 else b"") + bytes(data))
                    other.shutdown(socket.SHUT_WR)
                    while other.recv(65536):
                        pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
        same(client.ping(), {}, "the daemon lives")
        same(client.get_batch("s", [1, 2, 3]), [b"x", b"xx", b"xxx"], "and what is stored is as it was")
        daemon.stopped_well(client)


if __name__ == "__main__":
    main(cases_of(globals()))
