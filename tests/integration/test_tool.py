#!/usr/bin/python3
"""The tool `ironwal`, run as a user runs it: against the real daemon, and against a server of this script that fails
on purpose. Usage: test_tool.py IRONWAL IRONWALD"""

import base64
import fcntl
import json
import os
import pty
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

import msgpack

IRONWAL, IRONWALD = sys.argv[1:3]
COMMANDS = ["append", "get", "cat", "streams", "info", "truncate", "segment-start", "sync", "ping", "stats", "shard",
            "checkpoint", "prune"]
OK, FAILED, USAGE, CONNECTION = 0, 1, 2, 3


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("IRONWAL_")}
    env.update(more)
    return env


def run(*args, connect=None, stdin=b"", expect=OK, stdout=subprocess.PIPE, env=None, before=None,
        program=IRONWAL):
    """Runs the tool; returns (stdout, stderr). Errors must be one line."""
    command = [program] + (["--connect", connect] if connect else []) + list(args)
    done = subprocess.run(command, input=stdin, stdout=stdout, stderr=subprocess.PIPE, env=env or environment(),
                          preexec_fn=before, timeout=120)
    text = done.stderr.decode()
    assert done.returncode == expect, "%r: status %d, expected %d: %s" % (args, done.returncode, expect, text)
    assert (text == "") == (expect == OK), "%r: %r" % (args, text)
    assert text.count("\n") <= 1 or expect == USAGE, "more than one line: %r" % text
    return done.stdout, text


def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "never: " + what
        time.sleep(0.01)


def pty_there():
    try:
        for fd in pty.openpty():
            os.close(fd)
    except OSError:
        return False
    return True


class Connection:
    """Frames over a socket, for what the tool itself cannot do."""

    def __init__(self, sock):
        self.sock = sock
        self.file = sock.makefile("rb")

    def send(self, message):
        payload = msgpack.packb(message, use_bin_type=True)
        self.sock.sendall(struct.pack(">I", len(payload)) + payload)

    def receive(self):
        head = self.file.read(4)
        if len(head) < 4:
            return None
        payload = self.file.read(struct.unpack(">I", head)[0])
        return msgpack.unpackb(payload, raw=False, strict_map_key=False)

    def close(self):
        self.file.close()
        self.sock.close()


class DaemonCase(unittest.TestCase):
    """A daemon for all tests of the class."""

    daemon_options = []

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="ironwal-tool-")
        cls.path = cls.dir + "/socket"
        cls.address = "unix:" + cls.path
        cls.daemon = subprocess.Popen([IRONWALD, "--root-path=" + cls.dir + "/data", "--listen-tcp=none",
                                       "--listen-unix=" + cls.path] + cls.daemon_options, stdin=subprocess.DEVNULL)
        until(lambda: cls.daemon.poll() is not None or os.path.exists(cls.path), "the daemon's socket")
        assert cls.daemon.poll() is None, "the daemon did not start"

    @classmethod
    def tearDownClass(cls):
        cls.daemon.terminate()
        status = cls.daemon.wait(60)
        shutil.rmtree(cls.dir)
        assert status == 0, "the daemon ended with %d" % status

    def tool(self, *args, **kwargs):
        return run(*args, connect=self.address, **kwargs)

    def out(self, *args, **kwargs):
        return self.tool(*args, **kwargs)[0].decode()

    def file(self, name, content):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(content)
        return path


class WithDaemon(DaemonCase):
    def test_ping(self):
        self.assertIn("ironwald/", self.out("ping"))
        answer = json.loads(self.out("ping", "--json"))
        self.assertEqual(answer["protocol"], 1)
        self.assertEqual(answer["address"], self.address)
        self.assertEqual(run("ping", env=environment(IRONWAL_CONNECT=self.address))[0][:9], b"ironwald/")

    def test_append_and_get_one(self):
        odd = b"\0binary\n\xff\xfe\n"
        self.assertEqual(self.out("append", "one", "first"), "0\n")
        self.assertEqual(self.out("append", "one", stdin=odd), "1\n")
        self.assertEqual(self.out("append", "one", "--file", self.file("one", odd * 1000)), "2\n")
        self.assertEqual(self.out("append", "one", stdin=b""), "3\n")
        self.assertEqual(self.out("append", "one", "--", "--dashes"), "4\n")
        answer = json.loads(self.out("append", "--sync", "--json", "one", "x"))
        self.assertEqual(answer, {"id": 5, "durable": True})
        self.assertEqual(self.tool("get", "one", "0")[0], b"first")
        self.assertEqual(self.tool("get", "one", "1")[0], odd)
        self.assertEqual(self.tool("get", "one", "2")[0], odd * 1000)
        self.assertEqual(self.tool("get", "one", "3")[0], b"")
        self.assertEqual(self.tool("get", "one", "4")[0], b"--dashes")
        self.assertEqual(json.loads(self.out("--json", "get", "one", "0")), {"id": 0, "entry": "first"})
        answer = json.loads(self.out("get", "--json", "one", "1"))
        self.assertEqual(base64.b64decode(answer["entry_base64"]), odd)
        self.assertIn("no entry 99", self.tool("get", "one", "99", expect=FAILED)[1])
        self.assertIn("StreamNotFound", self.tool("get", "nowhere", "0", expect=FAILED)[1])

    def test_expected_id(self):
        self.assertEqual(self.out("append", "--expected-id", "0", "expected", "a"), "0\n")
        err = self.tool("append", "--expected-id", "0", "expected", "a", expect=FAILED)[1]
        self.assertIn("Conflict", err)
        self.assertEqual(err.count("nothing was written"), 1, err)
        err = json.loads(self.tool("append", "--json", "--expected-id", "7", "expected", "a", expect=FAILED)[1])
        self.assertEqual(err["error"]["code"], "Conflict")
        self.assertEqual((err["error"]["expected"], err["error"]["actual"]), (7, 1))
        self.assertEqual((err["fate"], err["retriable"]), ("refused", False))
        self.assertEqual(self.out("append", "--lines", "--expected-id", "1", "expected", stdin=b"b\nc\n"),
                         "2 entries, ids 1 to 2\n")
        self.tool("append", "--lines", "--expected-id", "1", "expected", stdin=b"", expect=FAILED)
        self.assertEqual(self.out("append", "--lines", "--expected-id", "3", "expected", stdin=b""), "0 entries\n")
        self.assertEqual(self.out("info", "expected").split("\n")[2], "end          3")

    def test_lines(self):
        content = b"one\n\n\0three\xff\nlast without newline"
        self.assertEqual(self.out("append", "--lines", "lines", stdin=content), "4 entries, ids 0 to 3\n")
        self.assertEqual(self.tool("cat", "lines")[0], content + b"\n")
        self.assertEqual(self.tool("cat", "--raw", "lines")[0], content.replace(b"\n", b""))
        self.assertEqual(self.tool("cat", "--ids", "--from", "1", "--max", "2", "lines")[0],
                         b"1\t\n2\t\0three\xff\n")
        self.assertEqual(self.tool("cat", "--max", "0", "lines")[0], b"")
        rows = [json.loads(row) for row in self.out("cat", "--json", "lines").splitlines()]
        self.assertEqual(rows[0], {"id": 0, "entry": "one"})
        self.assertEqual(base64.b64decode(rows[2]["entry_base64"]), b"\0three\xff")
        self.assertEqual(self.tool("get", "lines", "1")[0], b"")
        answer = json.loads(self.out("append", "--json", "--lines", "--sync", "lines", stdin=b"a\nb\n"))
        self.assertEqual(answer, {"entries": 2, "complete": True, "durable": True, "ranges": [
            {"fate": "written", "lines": [1, 2], "first": 4, "end": 6}]})
        self.assertEqual(self.out("append", "--lines", "never", stdin=b""), "0 entries\n")
        self.tool("info", "never", expect=FAILED)

    def test_many_lines_in_little_memory(self):
        """40 MB in both directions, with no more private memory than 24 MiB (a sanitizer needs more for itself)."""
        with open(IRONWAL, "rb") as program:
            limited = b"__asan_init" not in program.read()

        def limit():
            if limited:
                resource.setrlimit(resource.RLIMIT_DATA, (24 << 20, 24 << 20))

        line = b"%07d " + b"x" * 200
        content = b"".join(line % i + b"\n" for i in range(200000))
        path = self.file("many", content)
        self.assertEqual(self.out("append", "--lines", "--file", path, "many", before=limit),
                         "200000 entries, ids 0 to 199999\n")
        with open(self.dir + "/copy", "wb") as copy:
            self.tool("cat", "many", stdout=copy, before=limit)
        with open(self.dir + "/copy", "rb") as copy:
            self.assertTrue(copy.read() == content)

    def test_pausing_input_is_not_held_back(self):
        with subprocess.Popen([IRONWAL, "--connect", self.address, "append", "--lines", "pause"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tool:
            for i in range(3):
                tool.stdin.write(b"line %d\n" % i)
                tool.stdin.flush()
                until(lambda: subprocess.run([IRONWAL, "--connect", self.address, "get", "pause", str(i)],
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0,
                      "the line while the input is open")
            tool.stdin.close()
            self.assertEqual(tool.stdout.read(), b"3 entries, ids 0 to 2\n")
            self.assertEqual(tool.wait(60), OK)

    def test_interrupted_lines(self):
        with subprocess.Popen([IRONWAL, "--connect", self.address, "append", "--lines", "interrupt"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
            tool.stdin.write(b"a\nb\nhalf")
            tool.stdin.flush()
            until(lambda: subprocess.run([IRONWAL, "--connect", self.address, "get", "interrupt", "1"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0,
                  "the lines")
            tool.send_signal(signal.SIGINT)
            self.assertEqual(tool.wait(60), FAILED)
            self.assertIn(b"lines 1 to 2 are written as ids 0 to 1, nothing is written from line 3 on",
                          tool.stderr.read())

    def test_line_too_long(self):
        limit = json.loads(self.out("--json", "ping"))["max_message_bytes"] - 1024
        content = b"short\n" + b"x" * limit + b"\n" + b"y" * (limit + 1) + b"\nmore\n"
        err = self.tool("append", "--lines", "long", stdin=content, expect=FAILED)[1]
        self.assertIn("line 3 is longer", err)
        self.assertIn("lines 1 to 2 are written as ids 0 to 1, nothing is written from line 3 on", err)
        self.assertEqual(self.tool("get", "long", "1")[0], b"x" * limit)
        err = self.tool("append", "long", stdin=b"y" * (limit + 1), expect=FAILED)[1]
        self.assertIn("nothing was written", err)
        self.tool("append", "--file", self.dir + "/no such file", "long", expect=FAILED)

    def test_follow(self):
        self.tool("append", "follow", "zero")
        with subprocess.Popen([IRONWAL, "--connect", self.address, "cat", "--follow", "--ids", "follow"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
            self.assertEqual(tool.stdout.readline(), b"0\tzero\n")
            self.tool("append", "follow", "one")
            self.assertEqual(tool.stdout.readline(), b"1\tone\n")
            tool.stdout.close()  # notices by itself, without another entry
            self.assertEqual(tool.wait(60), OK)
            self.assertEqual(tool.stderr.read(), b"")
        self.assertEqual(self.out("cat", "--follow", "--max", "1", "follow"), "zero\n")

    def test_stream_commands(self):
        self.tool("append", "--lines", "info", stdin=b"1\n2\n3\n")
        info = json.loads(self.out("info", "--json", "info"))
        self.assertEqual((info["stream"], info["first"], info["end"], info["segments"]), ("info", 0, 3, 1))
        self.assertGreater(info["bytes"], 0)
        rows = dict(row.rsplit(None, 1) for row in self.out("info", "info").splitlines())
        self.assertEqual((rows["entries"], rows["durable end"]), ("3", str(info["durable_end"])))
        self.assertEqual(self.out("segment-start", "info"), "0\n")
        self.assertEqual(json.loads(self.out("segment-start", "--json", "info")), {"id": 0})
        self.tool("segment-start", "nowhere", expect=FAILED)
        self.assertEqual(self.out("truncate", "info", "3"), "0 segments deleted\n")
        self.assertEqual(json.loads(self.out("truncate", "--json", "info", "3")), {"segments_deleted": 0})
        self.tool("truncate", "nowhere", "3", expect=FAILED)
        self.assertEqual(self.out("sync"), "")
        self.assertEqual(self.out("sync", "info"), "")
        self.assertEqual(self.out("--json", "sync"), "{}\n")
        self.tool("sync", "nowhere", expect=FAILED)

    def test_streams(self):
        names = ["page/%05d" % i for i in range(2005)]
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        connection = Connection(sock)
        connection.send([0, 1, "hello", {"protocol": 1}])
        self.assertIsNone(connection.receive()[2])
        for at in range(0, len(names), 100):
            for i, name in enumerate(names[at:at + 100]):
                connection.send([0, i, "append", {"stream": name, "entry": b"x"}])
            for _ in names[at:at + 100]:
                self.assertIsNone(connection.receive()[2])
        connection.close()
        self.assertEqual(self.out("streams", "--names", "page/").split("\n"), names + [""])
        rows = self.out("streams", "page/").splitlines()
        self.assertEqual(rows[0].split(), ["FIRST", "END", "ENTRIES", "SEGMENTS", "BYTES", "STREAM"])
        self.assertEqual([row.split()[5] for row in rows[1:]], names)
        self.assertEqual(rows[1].split()[:4], ["0", "1", "1", "1"])
        self.tool("append", "odd\x1b[31m \\ \u0085 name", "x")
        self.assertEqual(self.out("streams", "--names", "odd"), "odd\\x1b[31m \\x5c \\xc2\\x85 name\n")
        self.assertEqual(json.loads(self.out("streams", "--json", "odd"))["stream"], "odd\x1b[31m \\ \u0085 name")
        self.assertEqual(json.loads(self.out("streams", "--json", "--names", "odd")),
                         {"stream": "odd\x1b[31m \\ \u0085 name"})
        self.assertEqual(self.out("streams", "--names", "none such"), "")

    def test_stats(self):
        self.tool("append", "stats", "x")
        stats = json.loads(self.out("--json", "stats"))
        self.assertGreater(len(stats), 3)
        text = self.out("stats")
        for key in stats:
            self.assertIn(key, text)

    def test_names_that_are_refused(self):
        self.assertIn("InvalidFilename", self.tool("append", "", "x", expect=FAILED)[1])
        self.assertIn("InvalidFilename", self.tool("append", "x" * 256, "x", expect=FAILED)[1])
        self.assertIn("InvalidFilename", self.tool("sync", "", expect=FAILED)[1])
        # Told, and not let through to the terminal.
        for args in (["append", b"\xff\x1b", "x"], ["cat", b"\xff\x1b"], ["info", b"\xff\x1b"]):
            err = self.tool(*args, expect=FAILED)[1]
            self.assertIn("'\\xff\\x1b': ", err)
            self.assertIn("not UTF-8", err)

    def test_full_disk_and_closed_pipe(self):
        self.tool("append", "--lines", "output", stdin=b"line\n" * 100000)
        for args in (["cat", "output"], ["get", "output", "0"], ["info", "output"], ["--help"], ["stats", "--json"]):
            with open("/dev/full", "wb") as full:
                err = self.tool(*args, stdout=full, expect=FAILED)[1]
            self.assertIn("No space left on device", err)
        with subprocess.Popen([IRONWAL, "--connect", self.address, "cat", "output"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as tool:
            self.assertEqual(tool.stdout.readline(), b"line\n")
            tool.stdout.close()
            self.assertEqual(tool.wait(60), OK)
            self.assertEqual(tool.stderr.read(), b"")


    def test_closed_descriptors(self):
        """What takes the number of a closed one is not written to, or read from, in its place."""
        def without(*numbers):
            return lambda: [os.close(number) for number in numbers]

        self.assertIn("cannot read standard input: Bad file descriptor; nothing was written",
                      self.tool("append", "closed", before=without(0), expect=FAILED)[1])
        self.assertIn("cannot write to standard output: Bad file descriptor",
                      self.tool("ping", before=without(1), expect=FAILED)[1])
        self.assertIn("cannot write to standard output: Bad file descriptor",
                      self.tool("stats", before=without(0, 1), expect=FAILED)[1])
        self.assertEqual(self.tool("append", "closed", "x", before=without(0, 2))[0], b"0\n")
        self.assertEqual(self.tool("sync", before=without(0, 1, 2))[0], b"")
        self.assertEqual(self.tool("get", "closed", "0", before=without(0))[0], b"x")
        path = self.file("closed input", b"y")
        self.assertEqual(self.tool("append", "--file", path, "closed", before=without(0))[0], b"1\n")

    def test_batch(self):
        answer = json.loads(self.out("--json", "ping"))
        limit = answer["max_message_bytes"]
        self.assertEqual(self.out("append", "--batch", "--sync", "batch", stdin=b"a\n\nb"), "3 entries, ids 0 to 2\n")
        err = self.tool("append", "--batch", "batch", stdin=(b"x" * (limit // 4) + b"\n") * 5, expect=FAILED)[1]
        self.assertRegex(err, r"\(TooLarge; nothing was written\); --lines appends any number of lines")
        err = self.tool("append", "--batch", "batch", stdin=b"\n" * 1048577, expect=FAILED)[1]
        self.assertIn("entries in the batch: 1048577, the limit is 1048576", err)
        err = self.tool("append", "--batch", "batch", stdin=b"a\n" + b"x" * limit + b"\nb\n", expect=FAILED)[1]
        self.assertIn("line 2 is longer than an entry can be", err)
        self.assertIn("; nothing was written", err)
        # Of an input without an end no more is read than it takes to know that it is too much.
        err = self.tool("append", "--batch", "--null", "--file", "/dev/zero", "batch", expect=FAILED)[1]
        self.assertIn("entries in the batch: 1048577, the limit is 1048576", err)
        err = self.tool("shard", "append", "--batch", "k", stdin=b"\n" * 1048577, expect=FAILED)[1]
        self.assertRegex(err, r"'k': .*\(TooLarge; nothing was written\); append it in several smaller batches")
        self.assertEqual(self.out("append", "--batch", "batch", stdin=b"\n" * 1048576),
                         "1048576 entries, ids 3 to 1048578\n")

    def test_a_batch_is_sent_as_a_whole(self):
        """Nothing is there before the input has ended, and nothing at all if it is interrupted."""
        for interrupt in (True, False):
            with subprocess.Popen([IRONWAL, "--connect", self.address, "append", "--batch", "whole"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
                tool.stdin.write(b"a\nb\n")
                tool.stdin.flush()
                if interrupt:
                    # It has read, and waits for more.
                    until(lambda: struct.unpack("i", fcntl.ioctl(tool.stdin, termios.FIONREAD, b"\0" * 4))[0] == 0,
                          "the reading")
                    self.tool("info", "whole", expect=FAILED)
                    tool.send_signal(signal.SIGINT)
                    self.assertEqual(tool.wait(60), FAILED)
                    self.assertIn(b"interrupted; nothing was written", tool.stderr.read())
                    self.tool("info", "whole", expect=FAILED)
                else:
                    tool.stdin.close()
                    self.assertEqual(tool.stdout.read(), b"2 entries, ids 0 to 1\n")
                    self.assertEqual(tool.wait(60), OK)

    def test_get_more_than_an_answer_holds(self):
        size = json.loads(self.out("--json", "ping"))["max_message_bytes"] // 5
        for i in range(12):
            self.tool("append", "big", stdin=b"%d" % (i % 10) * size)
        ids = [str(i) for i in range(12)]
        done = self.tool("get", "big", *ids, "99", *ids, expect=FAILED)
        self.assertEqual(done[0], b"".join(b"%d" % (i % 10) * size + b"\n" for i in range(12)) * 2)
        self.assertIn("no entry 99", done[1])
        self.tool("append", "--lines", "small", stdin=b"".join(b"%d\n" % i for i in range(3000)))
        order = [str(i * 7 % 3000) for i in range(3000)]
        self.assertEqual(self.out("get", "small", *order).split(), order)
        err = self.tool("get", "small", *map(str, range(3000, 3100)), expect=FAILED)[1]
        self.assertRegex(err, r"no entries 3000, 3001, .* \.\.\. \(not yet")
        self.assertLess(len(err), 300)


class WithoutServer(unittest.TestCase):
    def test_help(self):
        text = run("--help")[0].decode()
        for command in COMMANDS:
            self.assertIn("\n  %s " % command, text)
            help_text = run(command, "--help")[0].decode()
            self.assertTrue(help_text.startswith("usage: ironwal %s" % command))
            self.assertIn("\nExample:\n  ", help_text)
            self.assertIn("ironwal ", help_text.split("Example:")[1])
        self.assertTrue(run("--version")[0].startswith(b"ironwal "))

    def test_usage(self):
        for args in ([], ["nonsense"], ["--nonsense", "ping"], ["append"], ["append", "s", "e", "more"],
                     ["append", "--lines", "s", "e"], ["append", "--file", "f", "s", "e"],
                     ["append", "--expected-id", "-1", "s", "e"], ["append", "--expected-id", "1x", "s", "e"],
                     ["get", "s"], ["get", "s", "x"], ["get", "s", "18446744073709551616"], ["cat"],
                     ["cat", "--from", "x", "s"], ["cat", "--max", "", "s"], ["cat", "--json", "--ids", "s"],
                     ["truncate", "s"], ["truncate", "s", "+1"], ["ping", "more"], ["stats", "more"],
                     ["--timeout", "x", "ping"], ["--timeout", "-1", "ping"], ["--timeout", "nan", "ping"],
                     ["--connect", "nowhere", "ping"], ["--connect", "tcp:localhost", "ping"]):
            run(*args, expect=USAGE)

    def test_no_server(self):
        with tempfile.TemporaryDirectory() as directory:
            address = "unix:%s/nothing" % directory
            err = run("ping", connect=address, expect=CONNECTION)[1]
            self.assertIn(address, err)
            self.assertIn("--connect", err)
            err = json.loads(run("--json", "ping", connect=address, expect=CONNECTION)[1])
            self.assertEqual(err["error"]["code"], "Connect")
            self.assertTrue(err["retriable"])


    def test_one_line_that_says_what_to_do(self):
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            closed = directory + "/closed"
            os.mkdir(closed, 0)
            unreadable = directory + "/unreadable"
            with open(unreadable, "w"):
                os.chmod(unreadable, 0)
            nobody = run_as_nobody if os.geteuid() == 0 else None
            program = directory + "/ironwal"  # where anybody may run it
            shutil.copy(IRONWAL, program)
            for args, connect, expect, pattern in (
                    (["ping"], "unix:" + closed + "/socket", CONNECTION,
                     "^ironwal: connect: .*Permission denied.*; the rights of the socket and its directories say"),
                    (["ping"], "tcp:127.0.0.1:1", CONNECTION, "does ironwald run.*; --connect or IRONWAL_CONNECT"),
                    (["ping"], "tcp:127.0.0.1:123456", USAGE, "a port is a number from 1 to 65535.*; --connect or"),
                    (["ping"], "unix:" + "x" * 200, USAGE, "the path of a Unix socket has 1 to .*; --connect or"),
                    (["append", "--file", unreadable, "s"], None, FAILED, "unreadable: Permission denied; nothing was"),
                    (["append", "--file", directory + "/none", "s"], None, FAILED, "none: No such file.*; nothing was"),
                    (["get", "s", "+1"], None, USAGE, "'\\+1' is not an id; see ironwal get --help$"),
                    (["get", "s", " 1"], None, USAGE, "' 1' is not an id; see"),
                    (["get", "s", "0x10"], None, USAGE, "'0x10' is not an id; see"),
                    (["get", "s", "1", "18446744073709551616"], None, USAGE, "'18446744073709551616' is not an id"),
                    (["--timeout", " 1", "ping"], None, USAGE, "--timeout: ' 1' is not a number of seconds; see"),
                    (["--timeout", "1e3", "ping"], None, USAGE, "--timeout: '1e3' is not a number of seconds; see"),
                    (["cat", "--from"], None, USAGE, "^ironwal cat: the argument of '--from' is missing; see iron"),
                    (["cat", "--f", "s"], None, USAGE, "cat: '--f' is no option, or the beginning of several; see"),
                    (["-x"], None, USAGE, "^ironwal: there is no option '-x'; see ironwal --help$"),
                    (["ping", "--json=1"], None, USAGE, "'--json=1': this option takes no argument; see"),
                    (["get", "s"], None, USAGE, "missing; usage: ironwal get .* STREAM ID...; see ironwal get --help$"),
                    (["shard"], None, USAGE, "^ironwal shard: a command is missing; see ironwal shard --help$"),
                    (["append", "--lines", "--batch", "s"], None, USAGE, "--lines and --batch exclude each other; see"),
                    (["append", "--null", "s"], None, USAGE, "--null goes with --lines or --batch; see"),
                    (["append", "--batch", "s", "e"], None, USAGE, "an ENTRY and --batch exclude each other; see"),
                    (["shard", "append", "--lines", "k"], None, USAGE, "a KEY and --lines exclude each other"),
                    (["shard", "append", "--ids", "k"], None, USAGE, "--ids goes with --lines; see"),
                    (["cat", "--raw", "--null", "s"], None, USAGE, "--raw and --null exclude each other; see"),
                    (["streams", "--null"], None, USAGE, "--null goes with --names, and not with --json; see")):
                with self.subTest(args):
                    err = run(*args, connect=connect, expect=expect, before=nobody, program=program)[1]
                    self.assertEqual(err.count("\n"), 1, err)
                    self.assertRegex(err, pattern)
                    err = run("--json", *args, connect=connect, expect=expect, before=nobody, program=program)[1]
                    err = json.loads(err)["error"]
                    self.assertTrue(err["code"] in ("Usage", "Local", "Connect", "InvalidArgument") and err["message"])
            os.chmod(closed, 0o700)

    def test_what_answers_is_no_server(self):
        listener = socket.create_server(("127.0.0.1", 0))
        address = "tcp:127.0.0.1:%d" % listener.getsockname()[1]

        def answer(said):
            connection = listener.accept()[0]
            connection.sendall(said)
            connection.recv(1000)
            connection.close()

        for said, pattern in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", r"\(Protocol.*; is it an ironwald that listens"),
                              (b"\0\0\0\1\xc1", r"\(Protocol.*; is it an ironwald that listens"),
                              (b"", r"\(ConnectionLost.*; does it want TLS, as tls:HOST:PORT\? --connect or")):
            server = threading.Thread(target=answer, args=(said,))
            server.start()
            err = run("ping", connect=address, expect=CONNECTION)[1]
            server.join(60)
            self.assertRegex(err, pattern)
        listener.close()


def run_as_nobody():
    """For what root may do and others may not."""
    os.setgid(65534)
    os.setuid(65534)


class FakeServer(threading.Thread):
    """Says hello, then answers append_batch by what `plan` returns for its number: None goes on, else it ends."""

    def __init__(self, plan, max_message_bytes=1 << 20):
        super().__init__(daemon=True)
        self.plan = plan
        self.max_message_bytes = max_message_bytes
        self.requests = []
        self.next_id = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        connection = Connection(self.listener.accept()[0])
        number = 0
        try:
            while (request := connection.receive()) is not None:
                _, msgid, method, params = request
                if method == "hello":
                    connection.send([1, msgid, None, {
                        "protocol": 1, "server": "fake/0", "shard_count": 1, "sync_mode": "strict",
                        "compression": "none", "max_message_bytes": self.max_message_bytes}])
                    continue
                self.requests.append((method, params))
                if self.plan(self, connection, number, msgid, params) is not None:
                    break
                number += 1
        except OSError:
            pass
        connection.close()
        self.listener.close()

    def acknowledge(self, connection, msgid, params):
        first = self.next_id
        self.next_id += len(params["entries"])
        connection.send([1, msgid, None, {"first": first, "end": self.next_id, "durable": True}])


LINES = b"".join(b"%06d\n" % i for i in range(100000))  # 13 batches of 8192 lines


class WithFakeServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A file never pauses, as a pipe may: its batches are full.
        cls.file = tempfile.NamedTemporaryFile()
        cls.file.write(LINES)
        cls.file.flush()

    @classmethod
    def tearDownClass(cls):
        cls.file.close()

    def test_refused_in_the_middle(self):
        def plan(server, connection, number, msgid, params):
            if number == 2:
                connection.send([1, msgid, {"code": "Io", "message": "write /a/b: No space left on device",
                                            "errno": "ENOSPC", "path": "/a/b", "outcome": "none"}, None])
            else:
                server.acknowledge(connection, msgid, params)

        server = FakeServer(plan)
        err = run("append", "--lines", "--file", self.file.name, "s", connect=server.address, expect=FAILED)[1]
        server.join(60)
        self.assertIn("No space left", err)
        self.assertIn("lines 1 to 16384 are written as ids 0 to 16383, lines 16385 to 24576 are not written", err)
        # What was in flight behind the refused one was written, and is said to be.
        behind = len(server.requests) - 3
        end = 24576 + sum(len(params["entries"]) for _, params in server.requests[3:])
        if behind:
            self.assertIn("lines 24577 to %d are written as ids 16384 to %d" % (end, server.next_id - 1), err)
        self.assertIn("nothing is written from line %d on" % (end + 1), err)
        self.assertLess(end, 100000)

    def test_refused_in_the_middle_as_json(self):
        def plan(server, connection, number, msgid, params):
            if params["expected_id"] != server.next_id + 5 or number == 3:
                connection.send([1, msgid, {"code": "Conflict", "message": "no", "expected": params["expected_id"],
                                            "actual": server.next_id + 5}, None])
            else:
                first = server.next_id + 5
                server.next_id += len(params["entries"])
                connection.send([1, msgid, None, {"first": first, "end": server.next_id + 5, "durable": True}])

        server = FakeServer(plan)
        command = [IRONWAL, "--connect", server.address, "--json", "append", "--lines", "--expected-id", "5",
                   "--file", self.file.name, "s"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        server.join(60)
        self.assertEqual(done.returncode, FAILED)
        self.assertEqual(json.loads(done.stderr)["error"]["code"], "Conflict")
        report = json.loads(done.stdout)
        self.assertEqual((report["entries"], report["complete"], report["durable"]), (24576, False, True))
        self.assertEqual(report["ranges"][0],
                         {"fate": "written", "lines": [1, 24576], "first": 5, "end": 24581})
        # Each batch expects the end of the one before it: nothing behind the refused one was written.
        self.assertEqual(report["ranges"][1]["fate"], "refused")
        self.assertEqual(report["ranges"][1]["lines"][0], 24577)
        self.assertEqual(len(report["ranges"]), 2)

    def test_connection_lost_in_the_middle(self):
        def plan(server, connection, number, msgid, params):
            if number == 2:
                return "end"
            server.acknowledge(connection, msgid, params)

        server = FakeServer(plan)
        err = run("append", "--lines", "--file", self.file.name, "s", connect=server.address, expect=CONNECTION)[1]
        self.assertIn("lines 1 to 16384 are written as ids 0 to 16383, lines 16385 to ", err)
        self.assertIn("may be written or not", err)
        self.assertIn("nothing is written from line ", err)
        self.assertNotIn("nothing was written", err)

    def test_no_answer_in_time(self):
        server = FakeServer(lambda server, connection, number, msgid, params: None)
        err = run("--timeout", "1", "append", "s", "x", connect=server.address, expect=CONNECTION)[1]
        self.assertIn("Timeout", err)
        self.assertIn("it may have been written", err)
        server.join(60)
        server = FakeServer(lambda server, connection, number, msgid, params: None)
        err = run("--timeout", "1", "append", "--lines", "s", connect=server.address, stdin=b"a\nb\n",
                  expect=CONNECTION)[1]
        self.assertIn("lines 1 to 2 may be written or not, nothing is written from line 3 on", err)
        server.join(60)

    def test_answers_after_the_deadline(self):
        # The first batch has no answer in time; by the second one's all of them come at once.
        late = []

        def plan(server, connection, number, msgid, params):
            late.append((msgid, params))
            if number == 1:
                time.sleep(1.5)
                for one in late:
                    server.acknowledge(connection, *one)

        server = FakeServer(plan)
        err = run("--timeout", "1", "append", "--lines", "--file", self.file.name, "s", connect=server.address,
                  expect=CONNECTION)[1]
        self.assertIn("Timeout", err)
        self.assertIn("lines 1 to 65536 may be written or not, nothing is written from line 65537 on", err)
        server.join(60)

    def test_late_answer_behind_a_pause(self):
        # As `tail -f | ironwal append --lines`: the answer comes while the tool says what became of the lines.
        held = threading.Event()

        def plan(server, connection, number, msgid, params):
            if number == 0:
                server.acknowledge(connection, msgid, params)
                return None
            held.set()
            time.sleep(1.5)
            server.acknowledge(connection, msgid, params)

        server = FakeServer(plan)
        with subprocess.Popen([IRONWAL, "--connect", server.address, "--timeout", "1", "append", "--lines", "s"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
            tool.stdin.write(b"a\n")
            tool.stdin.flush()
            until(lambda: server.next_id == 1, "the first line")
            tool.stdin.write(b"b\nc\n")
            tool.stdin.flush()
            self.assertTrue(held.wait(60))
            out, err = tool.communicate(timeout=60)
        self.assertEqual(tool.returncode, CONNECTION, err)
        self.assertIn(b"lines 1 to 1 are written as ids 0 to 0, lines 2 to 3 may be written or not", err)
        server.join(60)

    def test_what_is_written_is_told_whole(self):
        # Others append in between, so that each batch is a range of its own; the last line is too long.
        def plan(server, connection, number, msgid, params):
            server.acknowledge(connection, msgid, params)
            server.next_id += 1000000

        with tempfile.NamedTemporaryFile() as file:
            file.write(LINES + b"x" * (2 << 20) + b"\n")
            file.flush()
            for json_too in ([], ["--json"]):
                server = FakeServer(plan)
                command = [IRONWAL, "--connect", server.address] + json_too + ["append", "--lines", "--file", file.name, "s"]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
                server.join(60)
                err = done.stderr.decode()
                self.assertEqual(done.returncode, FAILED, err)
                if json_too:
                    err = json.loads(err)["error"]["message"]
                for i in range(13):
                    first, count = i * 8192, min(8192, 100000 - i * 8192)
                    self.assertIn("lines %d to %d are written as ids %d to %d, " % (
                        first + 1, first + count, first + i * 1000000, first + count - 1 + i * 1000000), err)
                self.assertTrue(err.rstrip().endswith("nothing is written from line 100001 on"), err[-100:])

    def test_batches_fit_in_small_messages(self):
        server = FakeServer(lambda server, connection, number, msgid, params:
                            server.acknowledge(connection, msgid, params), max_message_bytes=8192)
        lines = [b"x" * (i * 37 % 7000) for i in range(500)]
        run("append", "--lines", "s", connect=server.address, stdin=b"\n".join(lines) + b"\n")
        server.join(60)
        self.assertEqual([e for _, params in server.requests for e in params["entries"]], lines)

    @unittest.skipUnless(pty_there(), "no pseudo-terminals here: /dev/pts is not mounted")
    def test_progress_on_a_terminal(self):
        def plan(server, connection, number, msgid, params):
            if number == 0:
                time.sleep(1.1)  # it is shown from one second on
            server.acknowledge(connection, msgid, params)

        server = FakeServer(plan)
        master, slave = pty.openpty()
        tool = subprocess.Popen([IRONWAL, "--connect", server.address, "append", "--lines", "--file", self.file.name,
                                 "s"], stdout=subprocess.PIPE, stderr=slave)
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
        os.close(master)
        self.assertEqual(tool.stdout.read(), b"100000 entries, ids 0 to 99999\n")
        tool.stdout.close()
        self.assertEqual(tool.wait(60), OK)
        server.join(60)
        self.assertRegex(shown.decode(), r"\r\[#*\.*\] +\d+% \d+ entries, \d+/s, [\d.]+ MiB/s, \d+:\d\d left")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), "and it is taken away at the end")

    def test_stats_of_any_shape(self):
        """What a server counts one day is shown as well, and moves no cursor."""
        answer = {"scalar": 3, "empty": {}, "part": {"a": 1, "longer": True, "nil": None, "f": 0.25, "text": "x\x1b[31m",
                                                     "sum_us": {"count": 2, "p50": 18446744073709551615}},
                  "methods": {"get": {"count": 1, "us": {"p50": 7}}, "append_batch": {"count": 100, "other": 5}},
                  "writers": [{"queue": 1, "name": "first"}, {"queue": 12345, "name": ""}],
                  "list": [5, "y"], "deep": {"a": {"b": {"c": {"d": -1}}}}, "odd\x07": {"key": 1}, "none": []}

        def plan(server, connection, number, msgid, params):
            connection.send([1, msgid, None, answer])

        server = FakeServer(plan)
        self.assertEqual(run("stats", connect=server.address)[0].decode().split("\n"), [
            "scalar  3",
            "empty  (none)",
            "part",
            "  a       1",
            "  longer  yes",
            "  nil     -",
            "  f       0.25",
            "  text    x\\x1b[31m",
            "  sum_us  count 2, p50 18446744073709551615",
            "methods",
            "                count  us.p50",
            "  get               1       7",
            "  append_batch    100       -",
            "writers",
            "             0      1",
            "  queue      1  12345",
            "  name   first      -",
            "list",
            "  0  5",
            "  1  y",
            "deep",
            "     b.c.d",
            "  a     -1",
            "odd\\x07",
            "  key  1",
            "none  (none)",
            ""])
        server.join(60)
        server = FakeServer(plan)
        self.assertEqual(json.loads(run("--json", "stats", connect=server.address)[0]), answer)
        server.join(60)

    def test_garbage(self):
        def plan(server, connection, number, msgid, params):
            connection.sock.sendall(b"\0\0\0\4\xc1\xc1\xc1\xc1")

        server = FakeServer(plan)
        self.assertIn("Protocol", run("append", "s", "x", connect=server.address, expect=CONNECTION)[1])
        server.join(60)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
