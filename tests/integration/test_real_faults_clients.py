#!/usr/bin/python3
"""Clients that misbehave, and descriptors that run out.

test_real_faults_clients.py IRONWALD [CASE...]

After each kind of misbehaviour the daemon lives, holds no more descriptors than before and not much more memory, and
serves a client that behaves.

IRONWALD_FAULT_SEED picks what is random, IRONWALD_FAULT_CONNECTIONS (1000) is the number of connections of one case.
"""

import contextlib
import os
import random
import re
import resource
import socket
import struct
import time

import msgpack

from harness import Daemon, Worker, cases_of, check, directory, error_of, main, refused, same, segments
from ironwal_client import Client, ConnectionLost, ServerError, frame, request
from mixed_load import Progress, until

SEED = int(os.environ.get("IRONWALD_FAULT_SEED", "20261122"))
CONNECTIONS = int(os.environ.get("IRONWALD_FAULT_CONNECTIONS", "1000"))
MIB = 1024 * 1024
HELLO = request(0, "hello", {"protocol": 1})


def connect(daemon, receive_bytes=None):
    plain = socket.socket(socket.AF_UNIX if daemon.tcp is None else socket.AF_INET)
    if receive_bytes is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.settimeout(60)
    plain.connect(daemon.unix if daemon.tcp is None else daemon.tcp)
    return plain


def reset(plain):
    """Gone at once, whatever is under way: over TCP the other side gets a reset."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()


def until_end(plain):
    """What the server still says, up to its end of the connection; a reset ends it as well."""
    said = bytearray()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while data := plain.recv(1 << 20):
            said += data
    return bytes(said)


def responses(data):
    at, found = 0, []
    while len(data) - at >= 4:
        (length,) = struct.unpack_from(">I", data, at)
        if len(data) - at - 4 < length:
            break
        found.append(msgpack.unpackb(data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def sockets_count(daemon):
    """Descriptors but for those of files: which of these are open is the engine's affair, and bounded by it."""
    count, path = 0, "/proc/%d/fd" % daemon.process.pid
    for name in os.listdir(path):
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(os.path.join(path, name)).startswith(daemon.root)
    return count


def is_served(daemon):
    try:
        daemon.client(unix=True).close()
    except (ServerError, ConnectionLost):  # Busy: those before it are not gone yet
        return False
    return True


@contextlib.contextmanager
def misbehaviour(*options, tcp=True, more_memory=64 * MIB):
    """A daemon with some entries, on which the block misbehaves; then what must hold afterwards."""
    with directory() as place, Daemon(place, "--write-timeout=1s", "--log-level=warn", *options, tcp=tcp) as daemon:
        with daemon.client(unix=True) as client:
            for i in range(20):
                client.append("s", b"%d" % i + b"." * 50000)
            client.iter("s", 0)
        descriptors, memory = sockets_count(daemon), daemon.rss_bytes()
        yield daemon
        until(lambda: is_served(daemon), "a client that behaves is served")
        with daemon.client(unix=True) as client:
            until(lambda: client.stats()["connections"]["current"] == 1, "all connections but ours are gone")
            until(lambda: sockets_count(daemon) <= descriptors + 1, "descriptors are given back")
            grown = daemon.rss_bytes() - memory
            # AddressSanitizer keeps 256 MiB of what was freed.
            kept = 256 * MIB if "ASAN_OPTIONS" in os.environ else 0
            check(grown < more_memory * Daemon.memory_factor() + kept, "memory: %d bytes more than before", grown)
            same(client.append("after", b"1")["id"], 0, "a client that behaves")
            same(client.get("s", 3), b"3" + b"." * 50000, "an entry")
            daemon.stopped_well(client)


# ---- slow ones -------------------------------------------------------------------------------------------------------


def test_one_byte_at_a_time():
    """200 connections, each of which sends valid requests byte by byte, in turn with the others."""
    with misbehaviour() as daemon:
        data = HELLO + request(1, "append", {"stream": "slow", "entry": b"12345"}) + request(2, "get", {"stream": "s", "id": 0})
        slow = [connect(daemon) for _ in range(200)]
        with daemon.client() as client:
            for at in range(len(data)):
                for plain in slow:
                    plain.sendall(data[at : at + 1])
                client.append("others", b"%d" % at)
        for plain in slow:
            plain.shutdown(socket.SHUT_WR)
            answers = {number: (error, result) for _, number, error, result in responses(until_end(plain))}
            same(sorted(answers), [0, 1, 2], "all is answered")
            check(all(error is None for error, _ in answers.values()), "well: %r", str(answers)[:200])
            plain.close()
        with daemon.client() as client:
            same(client.stream_info("slow")["end"], 200, "each has appended one")


def test_half_a_frame_and_no_more():
    """Slow ones that do not finish: write_timeout ends them."""
    with misbehaviour() as daemon:
        slow = [connect(daemon) for _ in range(100)]
        for i, plain in enumerate(slow):
            plain.sendall(HELLO + request(1, "append", {"stream": "s", "entry": b"x" * 100000})[: 5 + 900 * i])
        for plain in slow:
            same(len(responses(until_end(plain))), 1, "the answer to hello, and the end")
            plain.close()


def test_never_reads():
    """The requests of the others are answered all the same."""
    with misbehaviour("--max-inflight-bytes=4M", tcp=False) as daemon:
        greedy = [connect(daemon, 4096) for _ in range(5)]
        for plain in greedy:
            plain.setblocking(False)
            data = HELLO + b"".join(request(i, "iter", {"stream": "s", "start_id": 0, "max_bytes": MIB}) for i in range(200))
            with contextlib.suppress(BlockingIOError):
                plain.send(data)
        with daemon.client() as client:
            took = []
            for i in range(300):
                begin = time.monotonic()
                client.append("others", b"%d" % i)
                took.append(time.monotonic() - begin)
            until(lambda: client.stats()["connections"]["timeouts"] >= 5, "they are closed")
            check("timeouts" in client.stats()["connections"], "it counts them")
        for plain in greedy:
            plain.close()
    return "p99 of another's appends meanwhile: %.1f ms" % (sorted(took)[len(took) * 99 // 100] * 1000)


def test_pipelines_65536_requests_without_reading():
    with misbehaviour("--write-timeout=60s", tcp=False) as daemon:
        plain = connect(daemon)
        plain.setblocking(False)
        data = HELLO + b"".join(request(i, "append", {"stream": "many", "entry": b"%d" % i}) for i in range(1, 65537))
        at, got = 0, bytearray()
        end = time.monotonic() + 60
        # As much as it takes without being read from; then the rest, reading.
        while at < len(data) and time.monotonic() < end:
            try:
                at += plain.send(data[at : at + 100000])
            except BlockingIOError:
                with contextlib.suppress(BlockingIOError):
                    got += plain.recv(1 << 20)
                time.sleep(0.001)
        plain.setblocking(True)
        plain.settimeout(60)
        plain.shutdown(socket.SHUT_WR)
        got += until_end(plain)
        plain.close()
        answers = responses(bytes(got))
        same(len(answers), 65537, "answers")
        same(sorted(result["id"] for _, number, error, result in answers if number), list(range(65536)), "their ids")


# ---- what they send --------------------------------------------------------------------------------------------------


def test_announces_4_gib():
    with misbehaviour() as daemon:
        for _ in range(50):
            plain = connect(daemon)
            plain.sendall(HELLO + struct.pack(">I", 0xFFFFFFFF) + b"x" * 1000)
            answers = responses(until_end(plain))
            same((len(answers), answers[-1][2]["code"]), (2, "BadRequest"), "what it is told")
            plain.close()


def test_arrays_100000_deep():
    with misbehaviour() as daemon:
        for deep in (b"\x91" * 100000 + b"\xc0", b"\x81\xa1x" * 100000 + b"\xc0", b"\xdd\xff\xff\xff\xff" * 20000):
            plain = connect(daemon)
            plain.sendall(HELLO + frame(deep) + frame(b"\x94\x00\x07\xa4ping\x81\xa1x" + deep))
            answers = responses(until_end(plain))
            same((len(answers), answers[-1][2]["code"]), (2, "BadRequest"), "what it is told")
            plain.close()


def test_hello_twice_or_never():
    with misbehaviour() as daemon:
        for _ in range(50):
            plain = connect(daemon)
            plain.sendall(HELLO + request(1, "hello", {"protocol": 1}) + request(2, "ping", {}))
            plain.shutdown(socket.SHUT_WR)
            same([error for _, _, error, _ in responses(until_end(plain))], [None] * 3, "hello twice")
            plain.close()
            plain = connect(daemon)
            plain.sendall(request(5, "append", {"stream": "never", "entry": b"x"}) * 10)
            answers = responses(until_end(plain))
            same([(number, error["code"]) for _, number, error, _ in answers], [(5, "BadRequest")], "hello never")
            plain.close()
        with daemon.client() as client:
            check("never" not in client.streams(), "what came without a hello is not done")


def test_garbage():
    """Random bytes, valid requests with some bytes changed, and frames of random values."""
    rng = random.Random(SEED)
    with misbehaviour() as daemon:
        for round_number in range(300):
            plain = connect(daemon)
            kind = round_number % 3
            if kind == 0:
                data = rng.randbytes(rng.randrange(1, 3000))
            elif kind == 1:
                data = bytearray(HELLO + b"".join(request(i, "append", {"stream": "g", "entry": b"x" * 20}) for i in range(20)))
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(HELLO), len(data))] = rng.randrange(256)
            else:
                data = HELLO + b"".join(frame(rng.randbytes(rng.randrange(60))) for _ in range(5))
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                plain.sendall(data)
                plain.shutdown(socket.SHUT_WR)
            until_end(plain)
            plain.close()
    return "seed %d" % SEED


# ---- how they go -----------------------------------------------------------------------------------------------------


def test_goes_away_in_the_middle_of_a_frame():
    rng = random.Random(SEED)
    with misbehaviour() as daemon:
        data = HELLO + request(1, "append_batch", {"stream": "half", "entries": [b"x" * 3000] * 50})
        for i in range(200):
            plain = connect(daemon)
            plain.sendall(data[: rng.randrange(1, len(data))])
            (reset if i % 2 else socket.socket.close)(plain)
        with daemon.client() as client:
            check("half" not in client.streams(), "a half of a request is not executed")


def test_half_closes():
    """At odd moments: after a part of a frame, with iters waiting, with much of the answers unread."""
    with misbehaviour() as daemon:
        for i in range(40):
            plain = connect(daemon)
            wait = request(1, "iter", {"stream": "s", "start_id": 20, "wait_ms": 60000})
            much = b"".join(request(n, "iter", {"stream": "s", "start_id": 0, "max_bytes": 200000}) for n in range(2, 8))
            plain.sendall(HELLO + wait + much + wait[: i % len(wait)])
            plain.shutdown(socket.SHUT_WR)
            answers = responses(until_end(plain))
            plain.close()
            if i % len(wait) == 0:
                same(sorted(number for _, number, _, _ in answers), list(range(8)), "all is answered")
            check(all(error is None or error["code"] == "BadRequest" for _, _, error, _ in answers), "%r", str(answers)[:300])
        plain = connect(daemon)
        plain.shutdown(socket.SHUT_WR)
        same(until_end(plain), b"", "one that says nothing")
        plain.close()


def test_resets_with_answers_pending():
    with misbehaviour() as daemon:
        for i in range(100):
            plain = connect(daemon)
            plain.sendall(HELLO + b"".join(request(n, "iter", {"stream": "s", "start_id": 0}) for n in range(1, 20)) +
                          b"".join(request(n, "append", {"stream": "gone", "entry": b"x"}) for n in range(20, 40)))
            if i % 2:
                plain.recv(1000)
            reset(plain)
        with daemon.client() as client:
            until(lambda: client.stats()["connections"]["current"] == 1, "they are gone")
            entries = [entry for _, entry in client.scan("gone")] if "gone" in client.streams() else []
            check(all(entry == b"x" for entry in entries), "what they appended is whole")


def test_iters_that_wait_and_are_gone():
    with misbehaviour() as daemon:
        waiting = []
        for i in range(100):
            plain = connect(daemon)
            plain.sendall(HELLO + b"".join(request(n, "iter", {"stream": "s", "start_id": 20, "wait_ms": 60000}) for n in range(1, 50)))
            waiting.append(plain)
        with daemon.client() as client:
            until(lambda: client.stats()["connections"]["waiting_iters"] == 100 * 49, "they wait")
            for i, plain in enumerate(waiting):
                (reset if i % 2 else socket.socket.close)(plain)
                if i % 10 == 0:
                    client.append("s", b"woken")
            until(lambda: client.stats()["connections"]["waiting_iters"] == 0, "nobody waits any more")


def test_opens_1000_connections():
    """Those over max_connections are told Busy, and closed; the others are served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 100
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return "SKIPPED: the hard limit of open files is %d" % hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        with misbehaviour("--max-connections=300") as daemon:
            opened = []
            for _ in range(CONNECTIONS):
                plain = connect(daemon)
                plain.sendall(HELLO)
                opened.append(plain)
            served = busy = 0
            for plain in opened:
                try:
                    answers = responses(plain.recv(100000))
                except ConnectionResetError:  # it had not been read from
                    answers = []
                if answers and answers[0][2] is None:
                    served += 1
                else:
                    # One whose goodbye nobody waits for any longer may only see the end.
                    check(not answers or (answers[0][1], answers[0][2]["code"]) == (0, "Busy"), "%r", answers)
                    same(len(responses(until_end(plain))), 0, "after Busy")
                    busy += 1
            same((served, busy), (300, CONNECTIONS - 300), "served, and told Busy")
            for plain in opened:
                plain.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return "%d served, %d refused" % (served, busy)


# ---- descriptors -----------------------------------------------------------------------------------------------------


def cpu_s(pid):
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def accept_errors(client):
    return client.stats()["connections"]["accept_errors"]


def limit(daemon, files):
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (files, resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)[1]))


def test_few_descriptors_from_the_start():
    """It says what it lacks, or serves many more streams than it may have files open."""
    said = []
    for files in (24, 32, 40, 48, 64, 80):
        with directory() as place:
            with Daemon(place, "--shard-count=1", files=files, ready=False, tcp=False) as daemon:
                ready = daemon.process.stdout.readline()
                if ready != "ready\n":
                    same(daemon.wait(), 1, "its exit status")
                    line = daemon.stderr()
                    check(re.fullmatch(r"[^\n]*limit of %d open files is too low: at least \d+ are needed[^\n]*\n" % files, line),
                          "one line that says what it lacks: %r", line)
                    said.append("%d refused" % files)
                    continue
                check("the limit of %d open files is below" % files in daemon.stderr(), "it says what it lowers: %s", daemon.stderr())
                with daemon.client() as client, daemon.client() as other:
                    for round_number in range(2):
                        asked = [client.send("append", stream="s%d" % i, entry=b"%d" % round_number) for i in range(300)]
                        for msgid in asked:
                            client.wait(msgid)
                    for i in range(300):
                        same(other.get("s%d" % i, 1), b"1", "an entry")
                    check(daemon.descriptors_count() <= files, "%d are open", daemon.descriptors_count())
                    daemon.stopped_well(client, other)
                said.append("%d serves" % files)
    check("32 refused" in said and "80 serves" in said, "%s", said)
    return ", ".join(said)


def test_descriptors_taken_away():
    """The limit goes below what is open: connections live on, nothing spins, no shard stops; and it comes back."""
    names = ["s%d" % i for i in range(60)]
    with directory() as place, Daemon(place, "--shard-count=2", "--async-sync-interval=10ms", tcp=False) as daemon:
        with daemon.client() as client:
            acknowledged = dict.fromkeys(names, 0)
            for mode in ("async", "strict"):
                append_to_all(client, names, acknowledged)
            _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
            for files in (24, 10, 3):
                limit(daemon, files)
                knocking = [socket.socket(socket.AF_UNIX) for _ in range(20)]
                for plain in knocking:
                    plain.setblocking(False)
                    plain.connect(daemon.unix)
                begin, used, errors = time.monotonic(), cpu_s(daemon.process.pid), accept_errors(client)
                while time.monotonic() < begin + 1:
                    client.ping()
                    time.sleep(0.05)
                used = cpu_s(daemon.process.pid) - used
                # Where the machine has other work, how often it was tried tells more than the time that it took.
                errors, tries_per_s = accept_errors(client) - errors, 20
                check(errors <= tries_per_s * (time.monotonic() - begin), "%d tries to accept what it cannot", errors)
                check(used < 0.5, "it used %.2f s of processor in 1 s, with connections that it cannot accept", used)
                for turn in range(3):
                    append_to_all(client, names + ["new %d" % turn], acknowledged)
                    with contextlib.suppress(ServerError):
                        client.sync()
                    with contextlib.suppress(ServerError):
                        client.truncate(names[turn], 1)
                check_all(client, acknowledged, True)
                writers = client.stats()["writers"]
                check(not any(writer["failed"] for writer in writers), "no shard stops: %r", writers)
                for plain in knocking:
                    plain.close()
            check(accept_errors(client) > 0, "it counts what it cannot accept")
            limit(daemon, hard if hard != resource.RLIM_INFINITY else 4096)
            with daemon.client() as late:
                late.ping()
            refused_before = sum(acknowledged.values())
            append_to_all(client, names + ["new again"], acknowledged)
            same(sum(acknowledged.values()), refused_before + len(names) + 1, "all are taken again")
            client.sync()
            check_all(client, acknowledged, False)
            daemon.kill()
        with Daemon(place, "--shard-count=2", tcp=False) as daemon, daemon.client() as client:
            check_all(client, acknowledged, False)
            daemon.stopped_well(client)
    return "%d appends" % sum(acknowledged.values())


def append_to_all(client, names, acknowledged):
    asked = [(name, client.send("append", stream=name, entry=b"%d" % acknowledged.get(name, 0))) for name in names]
    for name, msgid in asked:
        try:
            same(client.wait(msgid)["id"], acknowledged.get(name, 0), "the id of an entry of " + name)
            acknowledged[name] = acknowledged.get(name, 0) + 1
        except ServerError as error:
            same((error.code, error.fields.get("errno"), error.fields.get("outcome")), ("Io", "EMFILE", "none"), "%s" % error)


def check_all(client, acknowledged, may_lack):
    """`may_lack`: a read may find no descriptor; then it says so."""
    for name, count in acknowledged.items():
        try:
            entries = client.iter(name, 0)["entries"] if count > 0 else []
        except ServerError as error:
            check(may_lack and (error.code, error.fields.get("errno")) == ("Io", "EMFILE"), "reading %s: %s", name, error)
            continue
        same(entries, [b"%d" % i for i in range(count)], "entries of " + name)


if __name__ == "__main__":
    main(cases_of(globals()))
