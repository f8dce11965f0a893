#!/usr/bin/python3
"""What a supervisor is told, over a notify socket of the test's own: ready, reload, stop, patience, the watchdog.

test_supervised.py IRONWALD [CASE...]
"""

import contextlib
import os
import re
import select
import signal
import socket
import time

import harness
from harness import Daemon, Skipped, Stalls, cases_of, check, directory, eventually, main, same

# Of what is to be withheld several are due in this time. Only a test that should fail can pass by a slow machine.
SILENCE_S = 3
WATCHDOG_S = 1


class Supervisor:
    """The socket that NOTIFY_SOCKET names, and what came over it, in order: {"READY": "1", "STATUS": "serving"}, ..."""

    def __init__(self, place, watchdog_s=None):
        path = os.path.join(place, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.messages = []
        self.env = {"NOTIFY_SOCKET": path}
        if watchdog_s:
            self.env["WATCHDOG_USEC"] = str(int(watchdog_s * 1000000))

    def read(self):
        while select.select([self.socket], [], [], 0)[0]:
            text = self.socket.recv(4096).decode()
            self.messages.append(dict(line.split("=", 1) for line in text.splitlines()))
        return self.messages

    def count(self, key, pattern=".*", since=0):
        return sum(1 for message in self.read()[since:] if re.fullmatch(pattern, message.get(key, "\n")))

    def wait(self, key, pattern=".*", since=0, more=1):
        """For so many messages with it among those from number `since` on; returns the number behind the last one."""
        try:
            eventually(lambda: self.count(key, pattern, since) >= more, "%s=%s" % (key, pattern))
        except harness.Failed as failed:
            raise harness.Failed("%s: %s" % (failed, self.messages[-5:]))
        return len(self.messages)

    def index(self, key, pattern=".*"):
        for number, message in enumerate(self.read()):
            if re.fullmatch(pattern, message.get(key, "\n")):
                return number
        raise harness.Failed("no %s=%s: %s" % (key, pattern, self.messages))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def needs_systemd():
    with directory() as place, Supervisor(place) as supervisor:
        with Daemon(place, tcp=False, env=supervisor.env) as daemon:
            if "built without libsystemd" in daemon.stderr():
                raise Skipped("ironwald was built without libsystemd")


@contextlib.contextmanager
def supervised(watchdog_s=None, *options, ready=True):
    """(place, supervisor, stalls, daemon)"""
    needs_systemd()
    with directory() as place, Supervisor(place, watchdog_s) as supervisor:
        stalls = Stalls(place)
        with start(place, supervisor, stalls, *options, ready=ready) as daemon:
            yield place, supervisor, stalls, daemon


def start(place, supervisor, stalls, *options, ready=True):
    supervisor.read()  # what the one before has said
    supervisor.messages.clear()
    return Daemon(place, *options, tcp=False, ready=ready, env=dict(supervisor.env, **stalls.env))


# ---- start, reload, stop ---------------------------------------------------------------------------------------------


def test_ready_when_it_serves():
    with supervised(None, ready=False) as (_, supervisor, _, daemon):
        supervisor.wait("READY", "1")
        with daemon.client() as client:  # it answers, and nobody had to wait for that
            same(client.append("s", b"x")["id"], 0, "an append")
            same(supervisor.messages[supervisor.index("READY")]["STATUS"], "serving", "the status")
            daemon.stopped_well(client)
        same(supervisor.count("READY"), 1, "once: %s" % supervisor.messages)
        check(supervisor.index("READY") < supervisor.index("STOPPING", "1"), "in order: %s", supervisor.messages)
        same(supervisor.count("WATCHDOG"), 0, "nobody has asked for that: %s" % supervisor.messages)


def test_never_ready_if_it_is_refused():
    needs_systemd()
    with directory() as place, Supervisor(place) as supervisor:
        with Daemon(place, tcp=False) as daemon:
            daemon.kill()
        with open(os.path.join(place, "data", "ironwald.manifest"), "w") as file:
            file.write("nothing of ours\n")
        with Daemon(place, tcp=False, ready=False, env=supervisor.env) as daemon:
            check(daemon.wait() in (2, 3), "it is refused: %s", daemon.stderr())
        same(supervisor.count("READY"), 0, "never: %s" % supervisor.messages)


def test_reload():
    needs_systemd()
    with directory() as place, Supervisor(place) as supervisor:
        path = os.path.join(place, "ironwald.conf")
        open(path, "w").close()
        with Daemon(place, "--config=" + path, tcp=False, env=supervisor.env) as daemon:
            since = supervisor.wait("READY")
            for text, status in (("", "serving"), ("nonsense\n", "serving; the last reload was refused.*"), ("", "serving")):
                with open(path, "w") as file:
                    file.write(text)
                before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                daemon.process.send_signal(signal.SIGHUP)
                until = supervisor.wait("READY", "1", since)
                first, second = supervisor.messages[since:until]
                same(first["RELOADING"], "1", "it reloads: %s" % first)
                after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                check(before <= int(first["MONOTONIC_USEC"]) <= after, "its time: %s", first)
                check(re.fullmatch(status, second["STATUS"]), "and is ready again: %s", second)
                since = until
            daemon.stopped_well()


# ---- patience --------------------------------------------------------------------------------------------------------


def test_time_is_asked_for_while_recovery_gets_on():
    count = 150
    with supervised(WATCHDOG_S) as (place, supervisor, stalls, daemon):
        with daemon.client() as client:
            for number in range(count):
                client.append("stream %d" % number, b"x")
        daemon.kill()
        with stalls.of("opens"), start(place, supervisor, stalls, ready=False):
            # Each time it has come further.
            supervisor.wait("STATUS", r"recovering: \d+ of %d streams" % count, more=3)
            told = [re.fullmatch(r"recovering: (\d+) of %d streams" % count, message.get("STATUS", ""))
                    for message in supervisor.messages]
            done = [int(found.group(1)) for found in told if found]
            check(len(set(done)) >= 2 and done == sorted(done), "progress: %s", supervisor.messages)
            same(supervisor.count("READY"), 0, "not ready meanwhile: %s" % supervisor.messages)
            for message in supervisor.messages:
                check(int(message.get("EXTEND_TIMEOUT_USEC", 30000000)) == 30000000, "so much each time: %s", message)
            os.unlink(os.path.join(stalls.path, "opens"))
            supervisor.wait("READY")
    return "%s of %d" % (done, count)


def test_no_time_is_asked_for_by_what_hangs():
    with supervised(WATCHDOG_S) as (place, supervisor, stalls, daemon):
        with daemon.client() as client:
            for number in range(50):
                client.append("stream %d" % number, b"x")
        daemon.kill()
        with stalls.of("opens"), start(place, supervisor, stalls, ready=False) as daemon:
            supervisor.wait("EXTEND_TIMEOUT_USEC", more=2)
            with stalls.of("main"):
                # It comes to where it hangs, and says nothing from there on.
                eventually(lambda: quiet_for(supervisor, WATCHDOG_S, "EXTEND_TIMEOUT_USEC"), "it asks no more")
                check(quiet_for(supervisor, SILENCE_S, "EXTEND_TIMEOUT_USEC"), "it asks: %s", supervisor.messages[-3:])
                same(supervisor.count("READY"), 0, "it is not ready: %s" % supervisor.messages)
            supervisor.wait("READY")
            daemon.stopped_well()


def test_time_is_asked_for_while_the_disk_syncs():
    """At a start, at a stop: a disk that takes long is waited for."""
    with supervised(WATCHDOG_S) as (place, supervisor, stalls, daemon):
        with daemon.client() as client:
            client.append("s", b"x")
        with stalls.of("sync"):
            daemon.process.send_signal(signal.SIGTERM)
            supervisor.wait("STOPPING", "1")
            since = supervisor.wait("EXTEND_TIMEOUT_USEC", more=4)
            check(daemon.process.poll() is None, "it is still at it")
            check("stopping" in supervisor.messages[-1].get("STATUS", "stopping"), "%s", supervisor.messages[-1])
        same(daemon.wait(), 0, "it ends as asked: %s" % daemon.stderr())
        with stalls.of("sync"), start(place, supervisor, stalls, ready=False) as daemon:
            supervisor.wait("EXTEND_TIMEOUT_USEC", more=4)
            same(supervisor.count("READY"), 0, "not ready meanwhile: %s" % supervisor.messages)
            os.unlink(os.path.join(stalls.path, "sync"))
            supervisor.wait("READY")
            daemon.stopped_well()


# ---- the watchdog ----------------------------------------------------------------------------------------------------


def silent(supervisor, daemon):
    """Nothing is heard of it for a while, once what was on its way has come."""
    eventually(lambda: quiet_for(supervisor, WATCHDOG_S), "the watchdog hears nothing more")
    check(quiet_for(supervisor, SILENCE_S), "it goes on: %s", supervisor.messages[-3:])
    check(daemon.process.poll() is None, "it lives")


def quiet_for(supervisor, seconds, key="WATCHDOG"):
    before = supervisor.count(key)
    time.sleep(seconds)  # what this is about: that nothing comes
    return supervisor.count(key) == before


def test_it_is_heard_of_while_it_is_well():
    with supervised(WATCHDOG_S) as (_, supervisor, _, daemon):
        since = supervisor.wait("READY")
        supervisor.wait("WATCHDOG", "1", since, more=3)
        with daemon.client() as client:
            since = len(supervisor.messages)
            while supervisor.count("WATCHDOG", "1", since) < 3:
                for number in [client.send("append", stream="s", entry=b"x") for _ in range(50)]:
                    client.wait(number)
            # A client that does not go keeps the stop going; it is well all the same.
            daemon.process.send_signal(signal.SIGTERM)
            since = supervisor.wait("STOPPING")
            supervisor.wait("WATCHDOG", "1", since, more=3)
        same(daemon.wait(), 0, "it ends as asked")


def test_a_loop_that_hangs_is_not_heard_of():
    with supervised(WATCHDOG_S) as (_, supervisor, stalls, daemon):
        supervisor.wait("WATCHDOG")
        with stalls.of("loop"):
            silent(supervisor, daemon)
        since = len(supervisor.messages)
        supervisor.wait("WATCHDOG", "1", since, more=2)
        daemon.stopped_well()


def test_a_writer_that_hangs_is_not_heard_of():
    with supervised(WATCHDOG_S) as (_, supervisor, stalls, daemon), daemon.client() as client:
        client.append("s", b"x")
        supervisor.wait("WATCHDOG")
        with stalls.of("writer"):
            number = client.send("append", stream="s", entry=b"y")
            client.flush()
            eventually(lambda: re.search(r"error net: writer-\d hangs: it has work", daemon.stderr()), "it is seen")
            silent(supervisor, daemon)
            check(re.match("serving, but not ready: writer-. hangs", status(supervisor)), "%s", status(supervisor))
            health = client.stats()["health"]
            check(not health["alive"] and not health["ready"], "%s", health)
        since = len(supervisor.messages)
        supervisor.wait("WATCHDOG", "1", since, more=2)
        same(client.wait(number)["id"], 1, "its append")
        check(re.search(r"warn  net: writer-\d gets on again", daemon.stderr()), "%s", daemon.stderr())
        daemon.stopped_well(client)


def status(supervisor):
    return [message["STATUS"] for message in supervisor.read() if "STATUS" in message][-1]


def configuration(place, slow_disk_after):
    path = os.path.join(place, "ironwald.conf")
    with open(path, "w") as file:
        file.write("slow_disk_after = %s\n" % slow_disk_after)
    return path


def test_a_slow_disk_is_told_and_nobody_is_ended():
    with directory() as other, supervised(WATCHDOG_S, "--config=" + configuration(other, "60m")) as started:
        (_, supervisor, stalls, daemon), client = started, started[3].client()
        client.append("s", b"x")
        configuration(other, "200ms")
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: "slow_disk_after is 200ms now" in daemon.stderr(), "it is changed while it runs")
        with stalls.of("sync"):
            number = client.send("append", stream="s", entry=b"y")
            client.flush()
            eventually(lambda: re.search(r"warn  net: writer-\d waits for the disk for \d+ ms now \(a sync[a-z ]*\): not ready",
                                         daemon.stderr()), "it is told: %s" % daemon.stderr())
            eventually(lambda: re.match(r"serving, but not ready: writer-\d waits for the disk", status(supervisor)), "status")
            # Longer than what a hang is given: it is heard of all the time.
            since = len(supervisor.messages)
            supervisor.wait("WATCHDOG", "1", since, more=6)
            health = client.stats()["health"]
            same((health["alive"], health["ready"], health["disk_waits_now"]), (True, False, 1), "what stats shows: %s" % health)
            check(health["disk_waits"] >= 1, "it is counted: %s", health)
            check("hangs" not in daemon.stderr(), "it does not hang: %s", daemon.stderr())
            # Reading goes on.
            same(client.get("s", 0), b"x", "a read")
        same(client.wait(number)["id"], 1, "its append")
        eventually(lambda: status(supervisor) == "serving", "ready again: %s" % status(supervisor))
        eventually(lambda: client.stats()["health"]["ready"], "and stats says so")
        check(client.stats()["health"]["disk_waits_us"] >= 200000, "%s", client.stats()["health"])
        check(re.search(r"has waited for the disk for about \d+ ms \(a sync[a-z ]*\): it is over", daemon.stderr()), "over")
        daemon.stopped_well(client)


main(cases_of(globals()))
