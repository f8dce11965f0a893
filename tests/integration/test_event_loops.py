#!/usr/bin/python3
"""Many connections in one thread, client/examples/poll.c and uv.c, while the daemon is killed again and again.
Usage: test_event_loops.py POLL UV IRONWALD [CASE...]

Each connection appends to a stream of its own with many appends in flight, reconnects, and settles what became unknown.
In the end each stream must hold its entries, each once and in order; a client that knows only the protocol looks.
"""

import os
import random
import re
import subprocess
import sys

import harness
from harness import Daemon, Failed, cases_of, check, directory, same
from ironwal_client import ServerError
from tls_peer import Certificates

PROGRAMS = {"poll": os.path.abspath(sys.argv.pop(1)), "uv": os.path.abspath(sys.argv.pop(1))}
CONNECTIONS = 16
COUNT = 3000
KILLS = 5
KILLS_LEAST = 3  # a fast machine may be done before the last ones
LINE = re.compile(r"stream (\S+): (\d+) entries, (\d+) reconnects, (\d+) settled")


class Server:
    """A daemon that comes back at the same address, on the same data."""

    def __init__(self, place, kind="unix"):
        self.place = place
        self.port = None
        self.options = []
        self.environment = dict(os.environ)
        if kind == "tls":
            certificates = Certificates(place)
            self.options = certificates.options()
            self.environment["IRONWAL_TLS_CA"] = certificates.path("ca")
        if kind == "unix":
            self._start()
            self.address = "unix:" + self.daemon.unix
            return
        # Not one of those that the kernel gives to outgoing connections: while the daemon is down, one of a program
        # that tries to connect could get it, and be connected to itself.
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            lowest = int(file.read().split()[0])
        for _ in range(20):
            self.port = random.randrange(2048, lowest) if lowest > 4096 else random.randrange(61000, 65536)
            try:
                self._start()
                break
            except Failed as error:
                failure = error
        else:
            raise failure
        self.address = "%s:127.0.0.1:%d" % (kind, self.port)

    def _start(self):
        listen = ["--listen-tcp=127.0.0.1:%d" % self.port] if self.port else []
        self.daemon = Daemon(self.place, *listen, *self.options)

    def client(self):
        return self.daemon.client(unix=True)

    def kill_and_restart(self):
        self.daemon.kill()
        self.daemon.__exit__()
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.daemon.__exit__()


def start(name, server, *args):
    return subprocess.Popen(
        [PROGRAMS[name], server.address, *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=server.environment,
    )


def ended(program, status):
    """What it said: output, errors."""
    try:
        out, err = program.communicate(timeout=harness.DEADLINE_S)
    except subprocess.TimeoutExpired:
        program.kill()
        raise Failed("it does not end: %s" % (program.communicate(),))
    check(program.returncode == status, "status %d: %s%s", program.returncode, out, err)
    return out, err


def reported(out):
    """{stream: (entries, reconnects, settled)}"""
    found = [LINE.fullmatch(line) for line in out.splitlines()]
    check(all(found), "a line that is none: %r", out)
    return {line.group(1): tuple(int(number) for number in line.groups()[1:]) for line in found}


def written(client, streams):
    """How many entries there are in all of them."""
    total = 0
    for number in [client.send("stream_info", stream=stream) for stream in streams]:
        try:
            total += client.wait(number)["end"]
        except ServerError as error:
            check(error.code == "StreamNotFound", "progress: %s", error)
    return total


def looked_at(client, streams, count):
    for stream in streams:
        got = list(client.scan(stream))
        expected = [(id, ("%s %d" % (stream, id)).encode()) for id in range(count)]
        if got != expected:
            at = next(i for i in range(len(got) + 1) if got[i : i + 1] != expected[i : i + 1])
            raise Failed("%s has %d entries, wrong from %d on: %r" % (stream, len(got), at, got[at : at + 3]))
    same(sorted(client.streams()), sorted(streams), "the streams")


def killed(name, kind):
    streams = ["%s-%d" % (name, i) for i in range(CONNECTIONS)]
    kills = 0
    with directory() as place, Server(place, kind) as server:
        program = start(name, server, CONNECTIONS, COUNT)
        try:
            while kills < KILLS and program.poll() is None:
                enough = CONNECTIONS * COUNT * (kills + 1) // (KILLS + 1)
                with server.client() as client:
                    harness.eventually(
                        lambda: program.poll() is not None or written(client, streams) >= enough, "progress"
                    )
                if program.poll() is None:
                    server.kill_and_restart()
                    kills += 1
            out, err = ended(program, 0)
        finally:
            program.kill()
            program.wait()
        found = reported(out)
        same(sorted(found), sorted(streams), "what is reported")
        for stream in streams:
            same(found[stream][0], COUNT, "entries reported of " + stream)
        with server.client() as client:
            looked_at(client, streams, COUNT)
    reconnects, settled = (sum(found[stream][i] for stream in streams) for i in (1, 2))
    check(kills >= KILLS_LEAST, "it was done after %d kills", kills)
    check(reconnects >= kills, "%d reconnects, %d kills", reconnects, kills)
    check(settled > 0, "nothing was unknown: %d kills prove nothing", kills)
    same(err, "", "what it says on stderr")
    return "%d kills, %d reconnects, %d settled" % (kills, reconnects, settled)


def test_poll_unix():
    return killed("poll", "unix")


def test_poll_tcp():
    return killed("poll", "tcp")


def test_poll_tls():
    return killed("poll", "tls")


def test_uv_unix():
    return killed("uv", "unix")


def test_uv_tcp():
    return killed("uv", "tcp")


def test_uv_tls():
    return killed("uv", "tls")


def test_again_on_what_is_there():
    """All of it is a Conflict: compared, and found to be its own."""
    with directory() as place, Server(place) as server:
        for name in PROGRAMS:
            streams = ["%s-%d" % (name, i) for i in range(3)]
            same(reported(ended(start(name, server, 3, 50, 30), 0)[0]), dict.fromkeys(streams, (50, 0, 0)), "once")
            found = reported(ended(start(name, server, 3, 60, 30), 0)[0])
            for stream in streams:
                check(found[stream] == (60, 0, 50), "again: %s: %r", stream, found[stream])
        with server.client() as client:
            looked_at(client, ["%s-%d" % (name, i) for name in PROGRAMS for i in range(3)], 60)
        server.daemon.stopped_well()


def test_another_writer_is_noticed():
    with directory() as place, Server(place) as server:
        for name in PROGRAMS:
            stream = name + "-0"
            with server.client() as client:
                client.append(stream, b"of somebody else")
            _, err = ended(start(name, server, 1, 10), 1)
            check("somebody else" in err, "what it says: %r", err)
            # Those in flight behind it may be there, each at its id.
            with server.client() as client:
                for id, entry in client.scan(stream):
                    same(entry, b"of somebody else" if id == 0 else b"%s %d" % (stream.encode(), id), "entry %d" % id)
        server.daemon.stopped_well()


def test_says_how_it_is_called():
    for name, path in PROGRAMS.items():
        for args in ([], ["unix:/nowhere", "0"], ["unix:/nowhere", "5", "1", "4"]):
            done = subprocess.run([path, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            check(done.returncode == 2 and "usage: " + name in done.stderr, "%s %s: %s", name, args, done)


if __name__ == "__main__":
    harness.main(cases_of(globals()))
