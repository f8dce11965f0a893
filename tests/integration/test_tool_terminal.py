#!/usr/bin/python3
"""The tool at a terminal: what it shows, takes away again, and never lets through. Usage: test_tool_terminal.py IRONWAL
IRONWALD"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

import test_tool
from test_tool import FAILED, IRONWAL, OK, FakeServer, pty_there

ERASE = b"\r\x1b[K"


class Terminal:
    """The tool, or another program, as the leader of a session with a terminal of its own; stdout may go to a file."""

    def __init__(self, *args, connect, columns=80, rows=24, stdout=None, env=None, program=None):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            program or [IRONWAL, "--connect", connect, *args], env=test_tool.environment(**{"TERM": "xterm", **(env or {})}),
            stdin=slave, stdout=slave if stdout is None else stdout, stderr=slave, preexec_fn=own_terminal)
        os.close(slave)
        self.pid = self.process.pid
        self.shown = b""

    def send(self, keys):
        os.write(self.master, keys)

    def read_some(self, wait_s):
        """False: nothing more comes."""
        if not select.select([self.master], [], [], wait_s)[0]:
            return True
        try:
            part = os.read(self.master, 65536)
        except OSError:
            return False
        self.shown += part
        return part != b""

    def until(self, condition, what):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "never: %s: %r" % (what, self.shown)
            assert self.read_some(0.05), "it ended before: %s: %r" % (what, self.shown)

    def end(self):
        """All that was shown, and how it ended: its status, or minus the signal."""
        deadline = time.monotonic() + 60
        while self.read_some(0.05):
            assert time.monotonic() < deadline, "it does not end: %r" % self.shown
        return self.shown, self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


def sleeps(pid):
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


def unread(fd):
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]


def rows(shown):
    return shown.decode().replace("\r\n", "\n").splitlines()


@unittest.skipUnless(pty_there(), "no pseudo-terminals here: /dev/pts is not mounted")
class WithDaemon(test_tool.DaemonCase):
    def terminal(self, *args, **kwargs):
        with Terminal(*args, connect=self.address, **kwargs) as terminal:
            return terminal.end()

    def test_tables(self):
        for i, size in enumerate((1, 1000, 100000)):
            self.tool("append", "--lines", "table/%d" % i, stdin=b"x" * 20 + b"\n" + b"y\n" * size)
        for columns in (80, 20):  # what is too long is for the terminal to break
            shown, status = self.terminal("streams", "table/", columns=columns)
            self.assertEqual(status, OK)
            lines = rows(shown)
            self.assertEqual(len({line.index(name) for line, name in zip(lines, ["STREAM"] + ["table/"] * 3)}), 1)
            # Numbers end where their headings end.
            ends = [[found.end() for found in re.finditer(r"\S+", line)][:5] for line in lines]
            self.assertEqual(len({tuple(end) for end in ends}), 1, shown)
        self.tool("checkpoint", "create", "c")
        lines = rows(self.terminal("checkpoint", "load", "c")[0])
        self.assertEqual(len({len(line) for line in lines[3:]}), 1)

    def test_nothing_moves_the_cursor(self):
        odd = "odd\x1b[2J\x9b\x07\r\b name \\ \u00e4 \u202f"
        entry = b"a\x1b]0;title\x07 \xc2\x9b\tb\\ \xff \xc3\xa4\n\x7f"
        self.tool("append", odd, "x")
        self.tool("append", "entry", stdin=entry)
        self.tool("append", "entry", stdin="\u00e4 \u0085 text".encode())
        self.tool("checkpoint", "create", odd)
        for args in (["streams"], ["streams", "--names"], ["info", odd], ["get", odd, "5"], ["get", odd + "none", "5"],
                     ["append", "--expected-id", "9", odd, "x"], ["segment-start", odd + "none"],
                     ["checkpoint", "list"], ["checkpoint", "load", odd], ["checkpoint", "load", odd + "none"],
                     ["cat", "--from", odd, "entry"], ["cat", "entry"], ["get", "entry", "0"],
                     ["get", "entry", "0", "1"],
                     ["append", "--file", "/none/" + odd, "entry"], [odd], ["--" + odd], ["-\x1b"], ["cat", odd, odd],
                     ["--timeout", odd, "ping"]):
            shown, _ = self.terminal(*args)
            self.assertFalse(re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\r[^\n]",
                                       shown), (args, shown))
            shown.decode()
        self.assertIn("odd\\x1b[2J\\xc2\\x9b\\x07\\x0d\\x08 name \\x5c \u00e4 \u202f",
                      rows(self.terminal("streams", "--names")[0]))
        # Of what is no UTF-8 all that is not ASCII; newlines, tabs and backslashes are what they are.
        self.assertEqual(rows(self.terminal("cat", "--max", "1", "entry")[0]),
                         ["a\\x1b]0;title\\x07 \\xc2\\x9b\tb\\ \\xff \\xc3\\xa4", "\\x7f"])
        self.assertEqual(rows(self.terminal("get", "entry", "1")[0]), ["\u00e4 \\xc2\\x85 text"])
        # Asked for as it is, it comes as it is. (The terminal makes \r\n of the newline.)
        for args in (["get", "--raw", "entry", "0"], ["cat", "--raw", "--max", "1", "entry"]):
            self.assertEqual(self.terminal(*args)[0], entry.replace(b"\n", b"\r\n"))
        self.assertEqual(self.tool("cat", "--max", "1", "entry")[0], entry + b"\n")

    def test_a_prompt_comes_on_its_own_line(self):
        self.tool("append", "prompt", "no newline")
        self.tool("append", "prompt", stdin=b"newline\n")
        self.tool("append", "prompt", stdin=b"")
        for number, shown in enumerate((b"no newline\r\n", b"newline\r\n", b"\r\n")):
            self.assertEqual(self.terminal("get", "prompt", str(number)), (shown, OK))
        self.assertEqual(self.terminal("get", "--raw", "prompt", "0"), (b"no newline", OK))

    def test_an_entry_from_the_terminal(self):
        with Terminal("append", "typed", connect=self.address) as terminal:
            terminal.until(lambda: b"^D" in terminal.shown, "what to do")
            self.assertIn(b"reads one entry from the terminal", terminal.shown)
            terminal.send(b"some text\n\x04")
            self.assertEqual(terminal.end()[1], OK)
        self.assertEqual(self.tool("get", "typed", "0")[0], b"some text\n")

    def test_follow_ends_with_whole_entries(self):
        self.tool("append", "--lines", "follow", stdin=b"one\ntwo\n")
        with Terminal("cat", "--follow", "--ids", "follow", connect=self.address) as terminal:
            terminal.until(lambda: b"two" in terminal.shown, "what is there")
            self.tool("append", "follow", "three")
            terminal.until(lambda: b"three" in terminal.shown, "what comes")
            begin = time.monotonic()
            terminal.send(b"\x03")
            shown, status = terminal.end()
        # A shell sees that it was the signal: it ends loops, and puts its prompt on a new line.
        self.assertEqual(status, -signal.SIGINT)
        self.assertEqual(shown, b"0\tone\r\n1\ttwo\r\n2\tthree\r\n^C")
        self.assertLess(time.monotonic() - begin, 30)

    def test_interrupted_while_it_prints(self):
        """The reader of a pipe does not read while the interrupt comes: what it gets in the end are whole entries."""
        line = b"x" * 999
        self.tool("append", "--lines", "whole", stdin=(line + b"\n") * 3000)
        receive, send = os.pipe()
        with Terminal("cat", "whole", connect=self.address, stdout=send) as terminal:
            os.close(send)
            test_tool.until(lambda: select.select([receive], [], [], 0)[0], "the beginning")
            # It writes until the pipe is full, and waits there: there is more than that in the server's first answer.
            size = fcntl.fcntl(receive, 1032)  # F_GETPIPE_SZ
            test_tool.until(lambda: sleeps(terminal.pid) and unread(receive) == size, "it waits for the pipe")
            terminal.send(b"\x03")
            terminal.until(lambda: b"^C" in terminal.shown, "the interrupt")
            with os.fdopen(receive, "rb") as pipe:
                got = pipe.read()
            self.assertEqual(terminal.end()[1], -signal.SIGINT)
        self.assertEqual(got, (line + b"\n") * (len(got) // 1000))
        self.assertLess(len(got), 3000 * 1000)

    def test_interrupted_lines(self):
        with Terminal("append", "--lines", "interrupt", connect=self.address) as terminal:
            terminal.send(b"a\nb\n")
            test_tool.until(lambda: self.daemon_has("interrupt", 2), "the lines")
            terminal.send(b"\x03")
            shown, status = terminal.end()
        self.assertEqual(status, FAILED)
        self.assertEqual(rows(shown)[-1], "ironwal: interrupted; lines 1 to 2 are written as ids 0 to 1, "
                                          "nothing is written from line 3 on")

    def daemon_has(self, stream, count):
        return ("%s\n" % stream) in self.out("streams", "--names", stream) and \
            len(self.out("cat", stream).splitlines()) == count


def visible(shown):
    """What was in the row at any time."""
    return [re.sub(rb"\x1b\[K", b"", part) for part in shown.split(b"\r")]


@unittest.skipUnless(pty_there(), "no pseudo-terminals here: /dev/pts is not mounted")
class Progress(unittest.TestCase):
    """Against a server that takes its time: progress is shown from the first second on."""

    def setUp(self):
        self.out = tempfile.TemporaryFile()
        self.addCleanup(self.out.close)

    def slow_reads(self, count, pause_s, hold_at=None):
        """Answers iter: entries of 1000 bytes, ten at a time."""
        def plan(server, connection, number, msgid, params):
            first = params.get("start_id") or 0
            entries = [b"x" * 1000] * min(10, count - first)
            time.sleep(pause_s)
            if hold_at is not None and first >= hold_at:
                return None
            connection.send([1, msgid, None, {"first": first, "entries": entries, "next": first + len(entries),
                                              "end": count}])

        return FakeServer(plan)

    def append(self, columns, env=None, pause_s=1.1):
        def plan(server, connection, number, msgid, params):
            if number == 0:
                time.sleep(pause_s)
            server.acknowledge(connection, msgid, params)

        server = FakeServer(plan)
        with tempfile.NamedTemporaryFile() as file:
            file.write(test_tool.LINES)
            file.flush()
            with Terminal("append", "--lines", "--file", file.name, "s", connect=server.address, columns=columns,
                          env=env, stdout=self.out.fileno()) as terminal:
                shown, status = terminal.end()
        server.join(60)
        self.assertEqual(status, OK)
        return shown

    def test_append(self):
        shown = self.append(80)
        self.assertRegex(shown.decode(), r"\r\[#*\.*\] +\d+% \d+ entries, \d+/s, [\d.]+ MiB/s, \d+:\d\d left")
        self.assertTrue(shown.endswith(ERASE), "and it is taken away at the end")
        self.assertNotIn(b"\n", shown)

    def test_narrow(self):
        for columns in (60, 30, 10, 1):
            shown = self.append(columns)
            rows_shown = visible(shown)
            self.assertGreater(len(rows_shown), 2)
            self.assertLess(max(len(row) for row in rows_shown), columns + (columns == 1))
            self.assertTrue(shown.endswith(ERASE))
            if columns >= 30:  # what is left out first is not the time
                self.assertRegex(rows_shown[1].decode(), r"\d+% .*/s, \d+:\d\d left$")
        shown = self.append(0, env={"COLUMNS": "25"})  # a terminal that does not know its width
        self.assertLess(max(len(row) for row in visible(shown)), 25)

    def test_not_shown(self):
        self.assertEqual(self.append(80, env={"TERM": "dumb"}), b"")
        begin = time.monotonic()
        shown = self.append(80, pause_s=0)
        if time.monotonic() - begin < 1:  # else the machine is a slow one, and it has taken long
            self.assertEqual(shown, b"")

    def test_cat(self):
        server = self.slow_reads(100, 0.3)
        with Terminal("cat", "--from", "20", "s", connect=server.address, stdout=self.out.fileno()) as terminal:
            shown, status = terminal.end()
        server.join(60)
        self.assertEqual(status, OK)
        self.assertEqual(os.fstat(self.out.fileno()).st_size, 80 * 1001)
        found = re.findall(rb"(\d+)% \d+ entries, \d+/s, [\d.]+ MiB/s, \d+:\d\d left", shown)
        percents = [int(percent) for percent in found]
        self.assertGreaterEqual(len(percents), 2, shown)
        self.assertEqual(percents, sorted(percents))
        self.assertLess(percents[0], 80)
        self.assertTrue(shown.endswith(ERASE))

    def test_cat_with_max(self):
        server = self.slow_reads(10000, 0.4)
        with Terminal("cat", "--max", "40", "s", connect=server.address, stdout=self.out.fileno()) as terminal:
            shown, status = terminal.end()
        server.join(60)
        self.assertEqual(status, OK)
        self.assertIn(b"] 100% 40 entries", shown)

    def test_nothing_between_entries_on_the_terminal(self):
        server = self.slow_reads(30, 0.6)
        with Terminal("cat", "s", connect=server.address) as terminal:
            shown, status = terminal.end()
        server.join(60)
        self.assertEqual((shown, status), ((b"x" * 1000 + b"\r\n") * 30, OK))

    def test_an_interrupt_takes_it_away(self):
        server = self.slow_reads(1000, 0.7, hold_at=20)
        with Terminal("cat", "s", connect=server.address, stdout=self.out.fileno()) as terminal:
            terminal.until(lambda: b"entries" in terminal.shown, "progress")
            test_tool.until(lambda: server.requests[-1][1].get("start_id") == 20, "the request that is not answered")
            terminal.send(b"\x03")
            shown, status = terminal.end()
        self.assertEqual(status, -signal.SIGINT)
        self.assertTrue(shown.endswith(ERASE), shown)
        self.assertEqual(os.fstat(self.out.fileno()).st_size % 1001, 0)

    def test_an_error_takes_it_away(self):
        server = self.slow_reads(1000, 0.7, hold_at=20)
        with Terminal("--timeout", "1.5", "cat", "s", connect=server.address, stdout=self.out.fileno()) as terminal:
            shown, status = terminal.end()
        self.assertEqual(status, test_tool.CONNECTION)
        self.assertRegex(shown.split(ERASE)[-1], rb"^ironwal: read 's': .*Timeout.*--from 20 goes on from here\r\n$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
