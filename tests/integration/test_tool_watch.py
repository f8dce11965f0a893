#!/usr/bin/python3
"""`ironwal stats --watch`: on a terminal, which a small emulator stands in for, and elsewhere; of the real daemon, and
of a server of the test's that counts what it wants. Usage: test_tool_watch.py IRONWAL IRONWALD"""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
import unittest

import test_tool
from test_tool import CONNECTION, FAILED, IRONWAL, IRONWALD, OK, USAGE, pty_there, run, until
from tool_watch import BEGIN, END, Counting, Log, Watched, counted, rates, writer


class RealDaemon(test_tool.DaemonCase):
    def tearDown(self):
        if self.daemon.poll() is not None:
            self.restart()

    def restart(self):
        type(self).daemon = subprocess.Popen([IRONWALD, "--root-path=" + self.dir + "/data", "--listen-tcp=none",
                                              "--listen-unix=" + self.path], stdin=subprocess.DEVNULL)
        until(lambda: b"ironwald/" in subprocess.run([IRONWAL, "--connect", self.address, "ping"],
                                                     capture_output=True).stdout, "the daemon answers again")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()


class Logs(RealDaemon):
    def test_what_was_done_is_what_is_counted(self):
        """Each rate times its interval, summed up, is what was done meanwhile: no more, no less."""
        with Log("stats", "--watch", "0.1", "--json", connect=self.address) as log:
            first = log.object()
            self.assertEqual(rates(first), [])
            self.assertIsNone(first["seconds"])
            for _ in range(3):
                self.tool("append", "--batch", "done", stdin=b"123456789\n" * 500)
            for _ in range(7):
                self.tool("append", "--expected-id", "1", "done", "x", expect=FAILED)
            self.tool("append", "--sync", "done", "x" * 1000)
            objects = log.until_object(lambda o: o["entries"] >= first["entries"] + 1501)
            last = objects[-1]
            self.assertEqual(last["entries"], first["entries"] + 1501)
            self.assertEqual(last["refusals"]["Conflict"]["count"],
                             first["refusals"].get("Conflict", {"count": 0})["count"] + 7)

            def summed(rate):
                return sum(rate(o) * o["seconds"] for o in objects)

            self.assertAlmostEqual(summed(lambda o: o["entries_per_second"]), 1501, places=3)
            self.assertAlmostEqual(summed(lambda o: o["appends_per_second"]), 4, places=3)
            self.assertAlmostEqual(summed(lambda o: o["entry_bytes_per_second"]), 500 * 3 * 9 + 1000, places=3)
            self.assertAlmostEqual(summed(lambda o: o["syncs_per_second"]), last["syncs"] - first["syncs"], places=3)
            self.assertGreaterEqual(last["syncs"], first["syncs"] + 4)
            self.assertAlmostEqual(summed(lambda o: sum(w["entries_per_second"] for w in o["writers"])), 1501, places=3)
            self.assertAlmostEqual(summed(
                lambda o: o["refusals"].get("Conflict", {"per_second": 0})["per_second"]), 7, places=3)
            self.assertAlmostEqual(summed(lambda o: o["refused_per_second"]), 7, places=3)
            busy = [o for o in objects if o["entries_per_second"] > 0 and o["syncs_per_second"] > 0]
            for o in busy:
                self.assertAlmostEqual(o["entries_per_sync"], o["entries_per_second"] / o["syncs_per_second"], places=3)
                self.assertAlmostEqual(o["requests_per_group"],
                                       o["group_requests_per_second"] / o["groups_per_second"], places=3)
            for o in objects:
                self.assertEqual((o["state"], o["reason"], o["restarts"]), ("ok", "", 0))
                self.assertGreater(o["seconds"], 0.05)
                self.assertGreater(o["disk_free_bytes"], 0)
                self.assertEqual(o["connections_max"], 1024)
            self.assertEqual(log.end(signal.SIGTERM)[1:], ("", OK))

    def test_lines(self):
        out = self.out("stats", "--watch", "0.1", "--count", "3")
        lines = out.splitlines()
        self.assertEqual(len(lines), 4)
        self.assertEqual(len({len(line) for line in lines}), 1, out)
        heading = lines[0].split()
        self.assertEqual(heading[:5], ["TIME", "STATE", "REFUSED/S", "APPENDS/S", "ENTRIES/S"])
        for number, line in enumerate(lines[1:]):
            values = dict(zip(heading, line.split()))
            self.assertEqual(len(values), len(heading))
            self.assertRegex(values["TIME"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual(values["STATE"], "ok")
            self.assertEqual(values["ENTRIES/S"], "0.0" if number else "-")
            self.assertEqual(values["CONNECTIONS"], "1")
        self.assertNotIn("\x1b", out)

    def test_each_comes_at_once_and_in_its_time(self):
        begin = time.monotonic()
        with Log("stats", "--watch", "0.5", "--json", connect=self.address) as log:
            objects = [log.object() for _ in range(4)]
            self.assertGreater(time.monotonic() - begin, 1.4)
        self.assertLess(sum(o["seconds"] for o in objects[1:]), time.monotonic() - begin)
        for o in objects[1:]:
            self.assertGreater(o["seconds"], 0.3)

    def test_ends(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with Log("stats", "--watch", "3600", connect=self.address) as log:
                log.line()
                log.line()
                self.assertEqual(log.end(number), ("", "", OK))
        # As by nohup.
        with Log("stats", "--watch", "0.1", "--count", "4", connect=self.address,
                 before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as log:
            log.line()
            log.line()
            log.process.send_signal(signal.SIGHUP)
            for _ in range(3):
                log.line()
            self.assertEqual(log.end(), ("", "", OK))
        with Log("stats", "--watch", "3600", connect=self.address) as log:  # as head does
            log.line()
            log.process.stdout.close()
            self.assertEqual(log.process.wait(60), OK)
            self.assertEqual(log.process.stderr.read(), b"")
            log.process.stdout = open(os.devnull, "rb")

    def test_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "wb") as full:
            err = self.tool("stats", "--watch", "0.1", stdout=full, expect=FAILED)[1]
        self.assertIn(os.strerror(errno.ENOSPC), err)

    def test_restart(self):
        for _ in range(20):
            self.tool("append", "--batch", "restart", stdin=b"x\n" * 1000)
        with Log("stats", "--watch", "0.1", "--json", connect=self.address) as log:
            before = log.object()
            self.assertGreaterEqual(before["entries"], 20000)
            self.kill()
            objects = log.until_object(lambda o: o["state"] == "no-connection")
            objects += log.until_object(lambda o: o["silent_seconds"] > 0.3)
            self.assertEqual(objects[-1]["state"], "no-connection")
            self.assertNotEqual(objects[-1]["reason"], "")
            self.restart()
            objects += log.until_object(lambda o: o["state"] == "ok")
            self.assertEqual(objects[-1]["restarts"], 1)
            self.assertIsNone(objects[-1]["seconds"])
            self.tool("append", "restart", "x")
            objects += log.until_object(lambda o: o["entries_per_second"])
            self.assertEqual(objects[-1]["entries"], 1)
            self.assertEqual(objects[-1]["restarts"], 1)
            for o in objects:
                for rate in rates(o):
                    self.assertGreaterEqual(rate, 0)
                    self.assertLess(rate, 1000)
            self.assertEqual(log.end(signal.SIGINT)[1:], ("", OK))

    def test_lines_of_one_that_went_away(self):
        with Log("stats", "--watch", "0.1", connect=self.address) as log:
            heading = log.line()
            self.assertIn(" ok ", log.line())
            self.kill()
            until(lambda: " no-connection " in (line := log.line()) and len(line) == len(heading), "it is said")
            self.restart()
            until(lambda: " ok " in (line := log.line()) and len(line) == len(heading), "it is back")
            self.assertEqual(log.end(signal.SIGTERM)[1:], ("", OK))

    def test_usage(self):
        for args, said in ((["--count", "3"], "--count goes with --watch"), (["--watch", "0"], "not a number"),
                           (["--watch", "0.09"], "not a number"), (["--watch", "86401"], "not a number"),
                           (["--watch=1e3"], "not a number"), (["--watch="], "not a number"),
                           (["--watch", "x"], "not a number"), (["--watch", "--count", "0"], "at least one"),
                           (["--watch", "--count", "x"], "not a number of pictures"), (["1"], "too many"),
                           (["--watch", "1", "2"], "too many"), (["--watch=1", "2"], "too many")):
            self.assertIn(said, self.tool("stats", *args, expect=USAGE)[1], args)
        self.assertEqual(len(self.out("stats", "--watch=0.1", "--count", "2").splitlines()), 3)
        self.assertEqual(len(self.out("stats", "0.1", "--count=2", "--watch").splitlines()), 3)

    def test_nobody_there(self):
        err = run("stats", "--watch", connect="unix:/nonexistent/socket", expect=CONNECTION)[1]
        self.assertIn("--connect or IRONWAL_CONNECT names another address", err)


class CountedLogs(unittest.TestCase):
    """Of a server that counts what it likes."""

    def server(self, answer):
        server = Counting(answer)
        self.addCleanup(server.close)
        return server

    def test_counts_that_go_back_are_no_rates(self):
        answers = [counted(writer(0, 1000)), counted(writer(0, 1100)), counted(writer(0, 7)), counted(writer(0, 9))]
        server = self.server(lambda: answers.pop(0))
        with Log("stats", "--watch", "0.1", "--json", "--count", "4", connect=server.address) as log:
            objects = [log.object() for _ in range(4)]
            self.assertEqual(log.end()[2], OK)
        self.assertGreater(objects[1]["entries_per_second"], 0)
        self.assertEqual(rates(objects[2]), [])
        self.assertEqual([o["restarts"] for o in objects], [0, 0, 1, 1])
        self.assertAlmostEqual(objects[3]["entries_per_second"] * objects[3]["seconds"], 2, places=3)

    def test_another_process_that_has_counted_more(self):
        """On a new connection, no rate is over the gap, and whether it is the same process its uptime tells."""
        state = {"answer": counted(writer(0, 10), uptime=5000)}
        server = self.server(lambda: state["answer"])
        with Log("stats", "--watch", "0.1", "--json", connect=server.address) as log:
            log.object()
            state["answer"] = counted(writer(0, 10 ** 12), uptime=5001)  # the same one
            server.drop()
            objects = log.until_object(lambda o: o.get("entries") == 10 ** 12 and o["seconds"])
            state["answer"] = counted(writer(0, 10 ** 15), uptime=1)
            server.drop()
            objects += log.until_object(lambda o: o.get("entries") == 10 ** 15 and o["seconds"])
        self.assertEqual(max(o["restarts"] for o in objects if o.get("entries") == 10 ** 12), 0)
        self.assertEqual(objects[-1]["restarts"], 1)
        self.assertEqual({rate for o in objects for rate in rates(o)}, {0})

    def test_another_process_that_is_too_young(self):
        """It has counted more, and its uptime is above that of before, but not by as much as has passed."""
        state = {"answer": counted(writer(0, 10), uptime=0)}
        server = self.server(lambda: state["answer"])
        with Log("stats", "--watch", "0.1", "--json", connect=server.address) as log:
            log.object()
            server.is_away = True
            server.drop()
            log.until_object(lambda o: o["silent_seconds"] > 2.5)
            state["answer"] = counted(writer(0, 10 ** 12), uptime=1)
            server.is_away = False
            back = log.until_object(lambda o: o["state"] == "ok")[-1]
        self.assertEqual((back["entries"], back["restarts"]), (10 ** 12, 1))

    def test_one_that_does_not_answer(self):
        state = {"answer": counted(writer(0, 10))}
        server = self.server(lambda: state["answer"])
        with Log("--timeout", "1", "stats", "--watch", "0.1", "--json", connect=server.address) as log:
            log.object()
            state["answer"] = None
            objects = log.until_object(lambda o: o["state"] == "no-answer" and o["silent_seconds"] > 0.5)
            self.assertNotIn("entries", objects[-1])
            # Its patience ends with --timeout: then it tries another connection.
            until(lambda: len(server.connections) > 1, "another connection")
            state["answer"] = counted(writer(0, 10))
            log.until_object(lambda o: o["state"] == "ok")
            self.assertEqual(log.end(signal.SIGTERM)[1:], ("", OK))

    def test_a_token_that_is_no_longer_good_ends_it(self):
        server = self.server(lambda: counted(writer(0)))
        with Log("stats", "--watch", "0.1", connect=server.address) as log:
            log.line()
            log.line()
            server.refuse_hello = True
            server.drop()
            _, err, status = log.end()
        self.assertEqual(status, CONNECTION)
        self.assertIn("Unauthorized", err)

    def test_what_is_not_counted_is_not_known(self):
        server = self.server(lambda: {"writers": [{"entries": 5}], "health": {}, "odd": [1, {"a": None}]})
        with Log("stats", "--watch", "0.1", "--json", connect=server.address) as log:
            log.object()
            second = log.object()
            log.end(signal.SIGTERM)
        self.assertEqual(second["entries_per_second"], 0)
        for key in ("appends", "appends_per_second", "syncs_per_second", "queue_depth", "connections",
                    "disk_free_bytes", "uptime_seconds"):
            self.assertIsNone(second[key], key)
        for answer in ({}, {"writers": 3, "errors": [], "requests": "x", "server": None}, {"writers": [[], 3, None]}):
            server.answer = lambda answer=answer: answer
            lines = run("stats", "--watch", "0.1", "--count", "2", connect=server.address)[0].decode().splitlines()
            self.assertEqual(len(lines), 3)
            self.assertLessEqual(set(lines[2].split()[2:]), {"-", "0.0"})
            self.assertIn("-", lines[2].split())

    def test_all_kinds_of_syncs_count(self):
        server = self.server(lambda: counted(writer(0, 1, dir_syncs=20, journal_syncs=300), writer(1, 4000)))
        answer = json.loads(run("stats", "--watch", "--count", "1", "--json", connect=server.address)[0])
        self.assertEqual(answer["syncs"], 4321)

    def test_states(self):
        base = counted(writer(0, 5))
        for part, said, why in (
                ({}, "ok", ""),
                ({"health": {**base["health"], "disk_waits_now": 2}}, "slow-disk", ""),
                ({"health": {**base["health"], "ready": False, "reason": "it stops"}}, "not-ready", "it stops"),
                ({"health": {**base["health"], "alive": False, "reason": "hangs"}}, "not-ready", "hangs"),
                ({"writers": [writer(0, failed=True)]}, "not-ready", ""),
                ({"checkpoints": {"failed": True, "failed_reason": "EIO"}}, "not-ready", "EIO")):
            server = self.server(lambda part=part: {**base, **part})
            answer = json.loads(run("stats", "--watch", "--count", "1", "--json", connect=server.address)[0])
            self.assertEqual((answer["state"], answer["reason"]), (said, why), part)
        count = iter(range(100))
        server = self.server(lambda: counted(writer(0, 5, no_space_errors=next(count))))
        with Log("stats", "--watch", "0.1", "--json", "--count", "2", connect=server.address) as log:
            self.assertEqual([log.object()["state"] for _ in range(2)], ["ok", "no-space"])

    def test_means_in_between(self):
        """From means since the start, cut to whole numbers: said only where that is enough."""
        def sums(count, mean):
            return {"count": count, "mean": mean, "p50": 1, "p99": 1, "max": 1}

        for before, after, expected in (
                (sums(100, 100), sums(200, 550), 1000), (sums(10 ** 9, 100), sums(10 ** 9 + 9, 100), None),
                (sums(5, 7), sums(5, 7), None), (sums(0, 0), sums(50, 300), 300.5)):
            answers = [counted(writer(0, sync_us=sync)) for sync in (before, after)]
            server = self.server(lambda: answers.pop(0))
            with Log("stats", "--watch", "0.1", "--json", "--count", "2", connect=server.address) as log:
                log.object()
                mean = log.object()["sync_us"]["mean_now"]
            if expected is None:
                self.assertIsNone(mean)
            else:
                self.assertAlmostEqual(mean, expected, delta=2)


@unittest.skipUnless(pty_there(), "no pseudo-terminals here: /dev/pts is not mounted")
class Pictures(RealDaemon):
    def watched(self, *args, **kwargs):
        return Watched(*args, connect=self.address, **kwargs)

    def test_what_was_done_between_two_pictures(self):
        with self.watched("2") as terminal:
            terminal.until_text(r"^OK ", r"entries/s +-")
            begin = time.monotonic()
            self.tool("append", "--batch", "pictured", stdin=b"12345\n" * 3000)
            for _ in range(2):
                self.tool("append", "--expected-id", "0", "pictured", "x", expect=FAILED)
            terminal.until(lambda: terminal.value("entries/s") not in ("-", "0", None), "a rate")
            seconds = time.monotonic() - begin
            rate = float(terminal.value("entries/s"))
            self.assertGreater(rate, 3000 / (seconds + 2.5))
            self.assertLess(rate, 3000 / 1.5)
            self.assertRegex(terminal.value("bytes/s"), r"^[\d.]+ KiB$")
            self.assertEqual(terminal.value("entries/sync"), str(round(3000 / round(3000 / float(
                terminal.value("entries/sync"))))))
            self.assertRegex(terminal.value("Conflict"), r"^[\d.]+/s$")
            self.assertGreater(float(terminal.value("refused/s")), 0)
            self.assertRegex(terminal.value("connections"), r"^\d+/1024$")
            text = terminal.screen.text()
            # The busiest writer stands first.
            first = text[[line.startswith("WRITER") for line in text].index(True) + 1].split()
            self.assertEqual(first[1], "ok")
            self.assertAlmostEqual(float(first[4]), rate, delta=1)
            # Health first, then what refuses, what is slow, and the rates.
            labels = [line.split()[0] for line in text[:12] if line and not line.startswith(" ")]
            self.assertEqual(labels[:6], ["OK", "refused", "slow", "rates", "load", "server"])
            terminal.send(b"q")
            self.assertEqual(terminal.end()[1], OK)

    def restored(self, terminal):
        """Everything as it was, and the last picture stays to be read."""
        self.assertFalse(terminal.screen.hidden)
        self.assertFalse(terminal.screen.second)
        self.assertEqual(terminal.shown.count(BEGIN), terminal.shown.count(END))
        self.assertRegex(terminal.shown.split(END)[-1], rb"^\x1b\[1;32mOK|^OK")
        self.assertEqual(termios.tcgetattr(terminal.master), self.cooked())

    def test_ends_with_the_terminal_as_it_was(self):
        for how in (b"q", b"Q", b"\x03", b"\x1c", signal.SIGINT, signal.SIGTERM, signal.SIGHUP, None):
            with self.subTest(how), self.watched(*(["0.1", "--count", "2"] if how is None else ["3600"])) as terminal:
                terminal.until_text(r"^OK ")
                if how is not None:
                    self.assertTrue(terminal.screen.hidden)
                    self.assertEqual(termios.tcgetattr(terminal.master)[3] & (termios.ECHO | termios.ICANON), 0)
                if isinstance(how, bytes):
                    terminal.send(how)
                elif how is not None:
                    os.kill(terminal.pid, how)
                self.assertEqual(terminal.end()[1], OK)
                self.restored(terminal)

    @staticmethod
    def cooked():
        """Those of a fresh terminal."""
        master, slave = os.openpty()
        fresh = termios.tcgetattr(slave)
        os.close(master)
        os.close(slave)
        return fresh

    def test_stopped_and_gone_on_with(self):
        """In a shell, which is what can stop and go on with it."""
        program = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
        with self.watched("3600", program=program, env={"PS1": "? "}) as terminal:
            terminal.send(b"%s --connect %s stats --watch 3600\n" % (IRONWAL.encode(), self.address.encode()))
            for keys, said in ((b"\x1a", b"Stopped"), (b"fg\n", None), (b"q", None),
                               (b"echo status=$?\n", b"status=0")):
                if keys in (b"\x1a", b"q"):
                    terminal.until_text(r"^OK ")
                terminal.send(keys)
                if said:
                    terminal.until(lambda: said in terminal.shown.split(END)[-1], said)
                    self.assertFalse(terminal.screen.hidden)
                    self.assertEqual(termios.tcgetattr(terminal.master), self.cooked())
            terminal.send(b"exit\n")
            terminal.end()
        self.assertEqual(terminal.shown.count(BEGIN), 2)
        self.assertEqual(terminal.shown.count(END), 2)

    def test_a_terminal_that_takes_nothing(self):
        for how in (b"q", signal.SIGTERM):
            with self.subTest(how), self.watched("0.1") as terminal:
                terminal.until_text(r"^OK ")
                terminal.send(b"\x13")  # ^S
                # Everything that it still had to say comes; then nothing, for several pictures.
                until(lambda: not self.comes(terminal), "silence")
                if isinstance(how, bytes):
                    terminal.send(how)
                else:
                    os.kill(terminal.pid, how)
                self.assertEqual(terminal.end()[1], OK)
                self.assertFalse(terminal.screen.hidden)

    @staticmethod
    def comes(terminal):
        before = len(terminal.shown)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            terminal.read_some(0.05)
        return len(terminal.shown) > before

    def test_the_second_signal_ends_it_at_once(self):
        with self.watched("3600") as terminal:
            terminal.until_text(r"^OK ")
            # Both are there before it goes on, whatever it was doing.
            for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
                os.kill(terminal.pid, number)
            self.assertIn(terminal.end()[1], (-signal.SIGINT, -signal.SIGTERM))
            self.assertFalse(terminal.screen.hidden or terminal.screen.second)
            self.assertEqual(termios.tcgetattr(terminal.master), self.cooked())

    def test_resize(self):
        with self.watched("3600", columns=80, rows=24) as terminal:
            terminal.until_text(r"^OK ", r"^WRITER")
            until(lambda: not self.comes(terminal), "the whole picture")
            for columns, rows in ((40, 8), (120, 50), (20, 5), (80, 24)):
                terminal.resize(columns, rows)
                text = terminal.until_text(r"^OK ")
                until(lambda: not self.comes(terminal), "the whole picture")
                text = terminal.screen.text()
                self.assertLess(max(len(line) for line in text), columns)
                self.assertEqual(any(line.startswith("WRITER") for line in text), rows >= 24)
            terminal.send(b"q")
            self.assertEqual(terminal.end()[1], OK)

    def test_small(self):
        for columns, rows in ((20, 5), (1, 1), (2, 3), (10, 2), (300, 3), (39, 100)):
            with self.subTest((columns, rows)), self.watched("0.1", "--count", "3", columns=columns,
                                                             rows=rows) as terminal:
                self.assertEqual(terminal.end()[1], OK)
        with self.watched("0.1", columns=20, rows=5) as terminal:
            text = terminal.until_text(r"^OK", r"^refused/s", r"entries/s|appends/s", r"^in queues")
            self.assertEqual(len([line for line in text if line]), 5, text)
            terminal.send(b"q")
            terminal.end()

    def test_restart(self):
        self.tool("append", "--batch", "restarted", stdin=b"x\n" * 1000)
        with self.watched("0.2") as terminal:
            terminal.until_text(r"^OK ")
            self.kill()
            text = terminal.until_text(r"^NO CONNECTION for \d+ s: .*")
            self.assertFalse([line for line in text if "entries/s" in line], "nothing is said that is not known")
            self.restart()
            terminal.until_text(r"^OK ", r"restarted \d\d:\d\d:\d\dZ")
            self.assertNotRegex("\n".join(terminal.screen.text()), r"\s-\d")
            terminal.send(b"q")
            self.assertEqual(terminal.end()[1], OK)

    def test_colour(self):
        for env, expected in (({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
            with self.watched("0.1", "--count", "2", env=env) as terminal:
                terminal.end()
            self.assertEqual(bool(terminal.screen.styles - {b""}), expected, env)

    def test_a_dumb_terminal_and_json_get_lines(self):
        for args, env in ((["0.1", "--count", "2"], {"TERM": "dumb"}), (["0.1", "--count", "2", "--json"], {})):
            with self.watched(*args, env=env) as terminal:
                shown, status = terminal.end()
            self.assertEqual(status, OK)
            self.assertNotIn(b"\x1b", shown)
            self.assertEqual(len(shown.splitlines()), 2 + ("--json" not in args))


@unittest.skipUnless(pty_there(), "no pseudo-terminals here: /dev/pts is not mounted")
class CountedPictures(unittest.TestCase):
    def server(self, answer):
        server = Counting(answer)
        self.addCleanup(server.close)
        return server

    def test_many_writers_busiest_first_and_the_rest_summed(self):
        turn = {"count": 0}

        def answer():
            turn["count"] += 1
            return counted(*(writer(i, entries=turn["count"] * (i + 1) * 10, queue=i, failed=i == 17)
                             for i in range(100)))

        server = self.server(answer)
        with Watched("0.5", connect=server.address, rows=24) as terminal:
            terminal.until_text(r"^\d+ others")
            terminal.until(lambda: terminal.value("entries/s") not in ("-", None), "rates")
            text = terminal.screen.text()
            begin = [line.startswith("WRITER") for line in text].index(True)
            shown = [line.split() for line in text[begin + 1:] if line]
            names = [int(line[0]) for line in shown[:-1]]
            self.assertEqual(names, [17] + list(range(99, 99 - len(names) + 1, -1)))
            self.assertEqual(shown[0][1], "failed")
            rest = shown[-1]
            self.assertEqual((rest[0], rest[1]), (str(100 - len(names)), "others"))
            # The rest waits in the queues that are not shown.
            self.assertEqual(int(rest[2]), sum(range(100)) - sum(names))
            self.assertEqual(terminal.value("in queues"), str(sum(range(100))))
            self.assertTrue(text[0].startswith("NOT READY"))
            self.assertEqual(len(text), 24)
            terminal.send(b"q")
            self.assertEqual(terminal.end()[1], OK)

    def test_nothing_moves_the_cursor(self):
        odd = "\x1b[2J\x1b]0;t\x07\u009b\u4e2d\u6587 \u00e4\r\n\b"
        answer = counted(writer(0, 5))
        answer["health"] = {"ready": False, "reason": odd * 9}
        answer["errors"] = {odd: 5, "Busy.x": 3}
        answer["requests"] = {odd: {"count": 1, "errors": 1}}
        answer["server"]["version"] = odd
        server = self.server(lambda: answer)
        for columns in (80, 20, 300):
            with Watched("0.1", "--count", "3", connect=server.address, columns=columns) as terminal:
                self.assertEqual(terminal.end()[1], OK)  # the screen fails for what it does not know
                self.assertTrue(re.search(rb"NOT READY", terminal.shown))

    def test_a_server_that_hangs_keeps_no_key_waiting(self):
        state = {"answer": counted(writer(0, 5))}
        server = self.server(lambda: state["answer"])
        with Watched("0.2", connect=server.address, options=("--timeout", "0")) as terminal:
            terminal.until_text(r"^OK ")
            state["answer"] = None
            terminal.until_text(r"^NO ANSWER for \d+ s")
            terminal.send(b"q")
            self.assertEqual(terminal.end()[1], OK)
            self.assertFalse(terminal.screen.hidden)

    def test_an_error_comes_when_the_terminal_is_as_it_was(self):
        server = self.server(lambda: counted(writer(0)))
        with Watched("0.1", connect=server.address) as terminal:
            terminal.until_text(r"^OK ")
            server.refuse_hello = True
            server.drop()
            shown, status = terminal.end()
            self.assertEqual(status, CONNECTION)
            self.assertFalse(terminal.screen.hidden)
            self.assertRegex(shown.split(END)[-1], rb"^ironwal: connect: .*Unauthorized")

    def test_what_is_not_counted_is_left_out(self):
        server = self.server(lambda: {"health": {"ready": True}, "writers": [{"entries": 5}]})
        with Watched("0.1", connect=server.address) as terminal:
            terminal.until_text(r"^OK ", r"entries/s +0")
            text = "\n".join(terminal.screen.text())
            for name in ("appends", "connections", "disk", "in flight", "in queues", "QUEUE", "SYNC", "p99", "up "):
                self.assertNotIn(name, text)
            terminal.send(b"q")
            terminal.end()

    def test_what_waits_is_told(self):
        answer = counted(writer(0, 5))
        answer["health"].update(disk_waits_now=3)
        answer["errors"] = {"Busy": 12}
        answer["engine"] = {"disk_total_bytes": 1000 << 30, "disk_free_bytes": 10 << 30, "damage_found": 2}
        server = self.server(lambda: answer)
        with Watched("0.1", connect=server.address) as terminal:
            terminal.until_text(r"^SLOW DISK", r"Busy +12 ever", r"wait for disk +3", r"damage found +2",
                                r"disk free +10.0 GiB", r"disk used +990 GiB")
            terminal.send(b"q")
            terminal.end()


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may be about; the programs inherit that
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
