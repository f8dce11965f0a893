#!/usr/bin/python3
"""SIGHUP: what changes while the daemon runs, what does not and says so, and what is refused.

test_reload.py IRONWALD [CASE...]
"""

import json
import os
import re
import signal
import time

from harness import Daemon, cases_of, check, directory, error_of, eventually, main, same
from ironwal_client import Client, ConnectionLost


class Reloading:
    """A daemon with a file, which can be changed and read again."""

    def __init__(self, place, text="", *options):
        self.path = os.path.join(place, "ironwald.conf")
        self.write(text)
        self.daemon = Daemon(place, "--config=" + self.path, *options, tcp=False)
        self.unix = self.daemon.unix

    def write(self, text):
        with open(self.path, "w") as file:
            file.write(text)

    def said(self, pattern):
        return len(re.findall(pattern, self.daemon.stderr(), re.M))

    def reload(self, text, done=r"main: reloaded$"):
        """Returns the lines that the reload has written. log_level must be info, before and after."""
        self.write(text)
        before, count = len(self.daemon.stderr()), self.said(done)
        self.daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.said(done) > count, "the reload is over: %s" % self.daemon.stderr())
        return self.daemon.stderr()[before:]

    def client(self, **options):
        return self.daemon.client(True, **options)

    def __enter__(self):
        return self

    def __exit__(self, *how):
        self.daemon.__exit__(*how)


def changed(lines, key, after, before):
    wanted = "info  main: reload: %s is %s now, it was %s\n" % (key, after, before)
    check(wanted in lines, "%r in the log: %s", wanted, lines)


def test_log():
    with directory() as place, Reloading(place) as running:
        changed(running.reload("log_level = debug\n"), "log_level", "debug", "info")
        with running.client(hello=False) as client:
            client.send_raw(b"\0\0\0\1\xc1")
            client.flush()
            eventually(lambda: running.said(" debug net: ") > 0, "a line of that level")
        changed(running.reload("log_format = json\n", done=r'"message":"reloaded"'), "log_format", "json", "text")
        lines = [line for line in running.daemon.stderr().splitlines() if line.startswith("{")]
        for line in lines:
            same(sorted(json.loads(line)), ["level", "message", "module", "time"], "the keys of a line")
        same(json.loads(lines[-1])["message"], "reloaded", "the last line")
        running.write("log_level = error\n")
        running.daemon.process.send_signal(signal.SIGHUP)
        # Nothing tells that it is over: that, too, is a line of the level info.
        with running.client() as client:
            eventually(lambda: running.said("log_level is error now") > 0 and client.ping() == {}, "it is read")
        with running.client() as client:
            before = running.daemon.stderr()
            running.daemon.stopped_well(client)
            check("stopping" not in running.daemon.stderr()[len(before):], "silent: %s", running.daemon.stderr())


def test_connections_and_streams():
    with directory() as place, Reloading(place, "max_connections = 2\nmax_streams = 1\n") as running:
        with running.client() as client, running.client():
            error_of("Busy", client_of, running)
            client.append("one", b"")
            error_of("Busy", client.append, "two", b"")
            lines = running.reload("max_connections = 3\nmax_streams = 2\n")
            changed(lines, "max_connections", "3", "2")
            changed(lines, "max_streams", "2", "1")
            same(client.stats()["connections"]["max"], 3, "the bound that stats shows")
            with running.client():
                client.append("two", b"")
                error_of("Busy", client.append, "three", b"")
                running.reload("max_connections = 1\nmax_streams = 1\n")
                # Who is there stays, and so do the streams.
                client.append("two", b"")
                error_of("Busy", client_of, running)


def client_of(running):
    with running.client() as client:
        client.ping()


def gets(client):
    return client.stats()["requests"].get("get", {"count": 0})["count"]


def test_bytes_in_flight():
    """A client that takes no answers is held back by the bound; with a higher one, more of its requests are done."""
    count, size = 60, 300000
    for key in ("max_inflight_bytes", "max_inflight_bytes_total"):
        with directory() as place, Reloading(place, key + " = 1M\n") as running:
            with running.client() as client, Client(running.unix, 60, receive_bytes=4096) as slow:
                client.append("s", b"." * size)
                for number in range(count):
                    slow.send("get", stream="s", id=0)
                slow.flush()
                eventually(lambda: gets(client) >= 2, "it is begun")
                check(gets(client) < count, "%s holds it back", key)
                changed(running.reload(key + " = 512M\n"), key, "512M", "1M")
                eventually(lambda: gets(client) == count, "all are done now: %d" % gets(client))


def test_timeouts():
    with directory() as place, Reloading(place, "write_timeout = none\n") as running:
        with running.client() as client:
            client.append("s", b"." * 8000000)
            slow = Client(running.unix, 60, receive_bytes=4096)
            for _ in range(4):
                slow.send("get", stream="s", id=0)
            slow.flush()
            eventually(lambda: gets(client) == 4, "answers are due")
            lines = running.reload("write_timeout = 200ms\nidle_timeout = none\nshutdown_timeout = 1234ms\n")
            changed(lines, "write_timeout", "200ms", "none")
            changed(lines, "shutdown_timeout", "1234ms", "10s")
            eventually(lambda: running.said("did not take its answers within write_timeout") == 1, "it is closed")
            slow.close()
        with running.client() as idle:
            changed(running.reload("idle_timeout = 100ms\n"), "idle_timeout", "100ms", "none")
            eventually(lambda: ended(idle), "who asks nothing is closed")
        running.reload("shutdown_timeout = 4321ms\n")
        running.daemon.stopped_well()
        check("have up to 4321 ms" in running.daemon.stderr(), "the timeout of the stop: %s", running.daemon.stderr())


def ended(client):
    """Without asking anything, which would not be idle."""
    try:
        return client.socket.recv(1) == b""
    except BlockingIOError:
        return False


def test_what_cannot_change_says_so():
    with directory() as place, Reloading(place, "sync_mode = async\n") as running:
        lines = running.reload(
            "sync_mode = strict\nmax_message_bytes = 1M\nshard_count = 8\nlisten_tcp = 127.0.0.1:0,[::1]:1\n"
            "compression = lz4\nmax_open_segments = 77\nlog_level = info\n")
        for key, stays, file in (("sync_mode", "async", "strict"), ("max_message_bytes", "16M", "1M"),
                                 ("shard_count", "4", "8"), ("compression", "none", "lz4"),
                                 ("max_open_segments", "128", "77")):
            wanted = "warn  main: reload: %s stays %s: it cannot change while running; %s holds from the next start on\n"
            check(wanted % (key, stays, file) in lines, "%s: %s", key, lines)
        check("listen_tcp" not in lines, "what the command line says is not changed by the file: %s", lines)
        check(" is " not in lines.replace("it was", ""), "nothing has changed: %s", lines)
        with running.client() as client:
            same((client.server["sync_mode"], client.server["max_message_bytes"]), ("async", 1 << 24), "hello")
        # It is told again each time: the file and the daemon still differ.
        check("sync_mode stays async" in running.reload("sync_mode = strict\n"), "again: %s", running.daemon.stderr())


def test_a_bad_file_changes_nothing():
    refused = r"error main: reload refused, all stays as it was: .*$"
    with directory() as place, Reloading(place, "max_streams = 1\n", "--max-connections=2") as running:
        with running.client() as client:
            client.append("one", b"")
            for text, what in (("max_streams = 5\nsync_mode = maybe\n", r'ironwald.conf:2: sync_mode: bad value "maybe"'),
                               ("max_streams = 5\nlog_levle = debug\n", r"ironwald.conf:2: unknown key")):
                lines = running.reload(text, done=refused)
                check(re.search(what, lines), "%r: %s", what, lines)
                error_of("Busy", client.append, "two", b"")
            os.unlink(running.path)
            running.daemon.process.send_signal(signal.SIGHUP)
            eventually(lambda: running.said("ironwald.conf: .*No such file") == 1, "the file is gone")
            error_of("Busy", client.append, "two", b"")
            # The next good one is taken.
            changed(running.reload("max_streams = 5\nmax_connections = 7\n"), "max_streams", "5", "1")
            client.append("two", b"")
            check(not running.said("max_connections is 7"), "the command line wins over the file")


def test_reloads_under_load():
    """One after the other, while clients append: nobody notices."""
    with directory() as place, Reloading(place, "", "--sync-mode=async") as running:
        with running.client() as client:
            sent, turns = 0, 0
            # Signals that come while one is under way are one more.
            while turns < 200 or running.said("main: reloaded") < 20:
                running.write("max_streams = %d\n" % (1000 + turns))
                running.daemon.process.send_signal(signal.SIGHUP)
                numbers = [client.send("append", stream="s", entry=b"x") for _ in range(20)]
                same([client.wait(number)["id"] for number in numbers], list(range(sent, sent + 20)), "ids")
                sent, turns = sent + 20, turns + 1
            eventually(lambda: running.said("max_streams is %d now" % (999 + turns)) == 1, "the last one is read")
            running.daemon.stopped_well(client)
    return "%d appends, %d reloads" % (sent, turns)


def feed(path, text):
    """Into a pipe that is read by the daemon, once it is."""
    opened = []

    def opens():
        try:
            opened.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    eventually(opens, "somebody reads the file")
    os.write(opened[0], text.encode())
    os.close(opened[0])


def test_a_signal_that_comes_meanwhile():
    """The file takes long to be read: clients are served, and a second signal is about what may have changed since."""
    with directory() as place:
        path = os.path.join(place, "pipe")
        os.mkfifo(path)
        with Daemon(place, "--config=" + path, tcp=False, ready=False) as daemon:
            feed(path, "max_streams = 10\n")
            same(daemon.process.stdout.readline(), "ready\n", "it serves")
            with daemon.client() as client:
                for number in range(3):
                    daemon.process.send_signal(signal.SIGHUP)
                    eventually(lambda: "reading the configuration again" in daemon.stderr(), "it reloads")
                    for _ in range(10):
                        client.append("s", b"x")
                feed(path, "max_streams = 11\n")
                eventually(lambda: "max_streams is 11 now" in daemon.stderr(), "the first")
                feed(path, "max_streams = 12\n")
                eventually(lambda: "max_streams is 12 now" in daemon.stderr(), "the second")
                daemon.stopped_well(client)
            same(len(re.findall("main: reloaded$", daemon.stderr(), re.M)), 2, "two, for all those that came meanwhile")


def test_before_it_serves():
    """At any time from the beginning on: it does not end by it, and reads the file once it serves."""
    with directory() as place:
        for number in range(15):
            own = os.path.join(place, str(number))
            os.mkdir(own)
            with Daemon(own, ready=False, tcp=False) as daemon:
                eventually(lambda: os.path.exists(daemon.root) or daemon.process.poll() is not None, "it begins")
                for _ in range(number * 30):
                    os.stat(daemon.root)
                daemon.process.send_signal(signal.SIGHUP)
                same(daemon.process.stdout.readline(), "ready\n", "it serves")
                eventually(lambda: "main: reloaded" in daemon.stderr(), "it is read: %s" % daemon.stderr())
                daemon.stopped_well()


def test_while_it_stops():
    with directory() as place, Reloading(place) as running:
        with running.client() as client:
            client.append("s", b"")
            running.daemon.process.send_signal(signal.SIGTERM)
            eventually(lambda: running.said("stopping") == 1, "it stops")
            until = time.monotonic() + 0.5
            while time.monotonic() < until and running.daemon.process.poll() is None:
                running.daemon.process.send_signal(signal.SIGHUP)
            client.close()
            for _ in range(10000):
                if running.daemon.process.poll() is not None:
                    break
                running.daemon.process.send_signal(signal.SIGHUP)
            same(running.daemon.wait(), 0, "it ends as asked: %s" % running.daemon.stderr())


main(cases_of(globals()))
