#!/usr/bin/python3
"""The tool's commands for shards and checkpoints, run as a user runs them: against the real daemon, and against a server
of test_tool.py's for what a daemon does not do on demand. Usage: test_tool_sharded.py IRONWAL IRONWALD"""

import base64
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import test_tool
from test_tool import CONNECTION, FAILED, IRONWAL, USAGE, FakeServer, run

SHARDS = 5
GROUPS = {"shard": ["append", "cat", "count"],
          "checkpoint": ["create", "load", "latest", "list", "compact", "count"]}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def nanoseconds(text):
    """Of a time as the tool prints it."""
    assert re.fullmatch(TIME, text), text
    seconds = datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return int(seconds.timestamp()) * 10**9 + int(text[20:29])


class Shards(test_tool.DaemonCase):
    daemon_options = ["--shard-count=%d" % SHARDS]

    def append(self, *args, **kwargs):
        shard, number = self.out("shard", "append", *args, **kwargs).split()
        return int(shard), int(number)

    def test_count(self):
        self.assertEqual(self.out("shard", "count"), "5\n")
        for args in (["--json", "shard", "count"], ["shard", "--json", "count"], ["shard", "count", "--json"]):
            self.assertEqual(json.loads(self.out(*args)), {"count": 5})

    def test_append_and_cat(self):
        odd = b"\0binary\n\xff\xfe\n"
        shard, first = self.append("some key", "first")
        self.assertEqual(self.append("some key", stdin=odd), (shard, first + 1))
        self.assertEqual(self.append("some key", "--file", self.file("one", odd * 1000)), (shard, first + 2))
        self.assertEqual(self.append("--sync", "some key", stdin=b""), (shard, first + 3))
        self.assertEqual(self.append("--hex", b"some key".hex().upper(), "--", "--dashes"), (shard, first + 4))
        answer = json.loads(self.out("shard", "append", "--json", "some key", "x"))
        self.assertEqual(answer, {"shard": shard, "id": first + 5})
        number, start = str(shard), str(first)
        entries = [b"first", odd, odd * 1000, b"", b"--dashes", b"x"]
        self.assertEqual(self.tool("shard", "cat", "--from", start, number)[0], b"\n".join(entries) + b"\n")
        self.assertEqual(self.tool("shard", "cat", "--raw", "--from", start, number)[0], b"".join(entries))
        self.assertEqual(self.tool("shard", "cat", "--ids", "--max", "1", "--from", str(first + 4), number)[0],
                         b"%d\t--dashes\n" % (first + 4))
        rows = [json.loads(row) for row in self.out("shard", "cat", "--json", "--from", start, number).splitlines()]
        self.assertEqual(rows[0], {"id": first, "entry": "first"})
        self.assertEqual(base64.b64decode(rows[1]["entry_base64"]), odd)
        # The shard's log is the stream of its name.
        self.assertEqual(self.tool("cat", "--from", start, "shard_0%d" % shard)[0], b"\n".join(entries) + b"\n")
        self.assertEqual(self.tool("get", "shard_0%d" % shard, str(first + 1))[0], odd)

    def test_keys_find_all_shards(self):
        found = {self.append("key %d" % i, "x")[0] for i in range(60)}
        self.assertEqual(found, set(range(SHARDS)))
        self.assertEqual(self.append("", "x")[0], self.append("--hex", "", "x")[0])
        self.assertIn(self.append("--hex", "00ff0a", "x")[0], range(SHARDS))

    def test_follow(self):
        shard, first = self.append("follow", "zero")
        with subprocess.Popen([IRONWAL, "--connect", self.address, "shard", "cat", "--follow", "--ids", "--from",
                               str(first), str(shard)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
            self.assertEqual(tool.stdout.readline(), b"%d\tzero\n" % first)
            self.append("follow", "one")
            self.assertEqual(tool.stdout.readline(), b"%d\tone\n" % (first + 1))
            tool.stdout.close()
            self.assertEqual(tool.wait(60), test_tool.OK)
            self.assertEqual(tool.stderr.read(), b"")

    def test_lines_pause(self):
        """What is there is sent while the input waits."""
        shard, first = self.append("pause", "x")
        with subprocess.Popen([IRONWAL, "--connect", self.address, "shard", "append", "--lines", "--ids"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tool:
            for i in range(3):
                tool.stdin.write(b"pause\tline %d\n" % i)
                tool.stdin.flush()
                self.assertEqual(tool.stdout.readline(), b"%d %d\n" % (shard, first + 1 + i))
            tool.stdin.close()
            self.assertEqual(tool.wait(60), 0)

    def test_refused(self):
        err = self.tool("shard", "cat", "5", expect=FAILED)[1]
        self.assertIn("'shard_05'", err)
        self.assertIn("(Config)", err)
        err = json.loads(self.tool("--json", "shard", "cat", "4294967295", expect=FAILED)[1])
        self.assertEqual(err["error"]["code"], "Config")
        limit = json.loads(self.out("--json", "ping"))["max_message_bytes"] - 1024
        err = self.tool("shard", "append", "k", stdin=b"y" * (limit + 1), expect=FAILED)[1]
        self.assertIn("nothing was written", err)
        self.assertNotIn("--lines", err)
        self.tool("shard", "append", "--file", self.dir + "/no such file", "k", expect=FAILED)


class Checkpoints(test_tool.DaemonCase):
    daemon_options = ["--shard-count=%d" % SHARDS, "--max-segment-size=1K"]

    def setUp(self):
        self.tool("checkpoint", "compact", "--keep", "0")

    def create(self, *args):
        return json.loads(self.out("checkpoint", "create", "--json", *args))

    def listed(self, *args):
        return [json.loads(row) for row in self.out("checkpoint", "list", "--json", *args).splitlines()]

    def table(self, *args):
        """What is printed for people: the id, the time, the offsets."""
        lines = self.out("checkpoint", *args).splitlines()
        self.assertEqual([line[:6] for line in lines[:3]], ["id    ", "time  ", ""])
        self.assertEqual(lines[3].split(), ["SHARD", "OFFSET"])
        rows = [[int(part) for part in line.split()] for line in lines[4:]]
        self.assertEqual([row[0] for row in rows], list(range(SHARDS)))
        return lines[0][6:], nanoseconds(lines[1][6:]), [row[1] for row in rows]

    def test_create_load_latest(self):
        err = self.tool("checkpoint", "latest", expect=FAILED)[1]
        self.assertIn("(NoCheckpoints); ironwal checkpoint create ID takes one", err)
        first = self.create("first")
        self.assertEqual((first["id"], first["shard_count"], len(first["offsets"])), ("first", SHARDS, SHARDS))
        shard, number = (int(part) for part in self.out("shard", "append", "k", "x").split())
        self.assertEqual(number, first["offsets"][shard])
        second = self.table("create", "second")
        self.assertEqual(second[2][shard], number + 1)
        self.assertGreater(second[1], first["timestamp"])
        self.assertEqual(self.table("load", "first"), ("first", first["timestamp"], first["offsets"]))
        self.assertEqual(json.loads(self.out("--json", "checkpoint", "load", "first")), first)
        self.assertEqual(self.table("load", "second"), second)
        self.assertEqual(self.table("latest"), second)
        # Of the same id: the new one takes the old one's place, and is the newest.
        again = self.create("first")
        self.assertEqual(again["offsets"], second[2])
        self.assertEqual(json.loads(self.out("checkpoint", "latest", "--json")), again)
        self.assertEqual([one["id"] for one in self.listed()], ["second", "first"])
        self.assertEqual(self.out("checkpoint", "count"), "2\n")
        self.assertEqual(json.loads(self.out("checkpoint", "count", "--json")), {"count": 2})

    def test_list_and_compact(self):
        made = [self.create("id %d" % i) for i in range(5)]
        everything = [{"id": one["id"], "timestamp": one["timestamp"]} for one in made]
        self.assertEqual(self.listed(), everything)
        self.assertEqual(self.listed("--limit", "2"), everything[3:])
        lines = self.out("checkpoint", "list").splitlines()
        self.assertEqual(lines[0].split(), ["TIME", "ID"])
        self.assertEqual([(nanoseconds(line[:30]), line[32:]) for line in lines[1:]],
                         [(one["timestamp"], one["id"]) for one in made])
        self.assertRegex(self.out("checkpoint", "compact", "--keep", "2"),
                         r"^5 checkpoints before, 2 after, [1-9]\d* bytes reclaimed\n$")
        self.assertEqual(self.listed(), everything[3:])
        answer = json.loads(self.out("checkpoint", "compact", "--json", "--keep", "9"))
        self.assertEqual(answer, {"checkpoints_before": 2, "checkpoints_after": 2, "bytes_reclaimed": 0})
        self.tool("checkpoint", "load", "id 0", expect=FAILED)
        self.assertRegex(self.out("checkpoint", "compact", "--keep", "0"), "^2 checkpoints before, 0 after, ")
        self.assertEqual(self.out("checkpoint", "list").count("\n"), 1)
        self.assertEqual(self.out("checkpoint", "list", "--json"), "")

    def test_ids_that_are_no_text(self):
        odd = b"\0\x1b[31m\xff\\\x9b"
        one = self.create("--hex", odd.hex())
        self.assertEqual(base64.b64decode(one["id_base64"]), odd)
        self.assertEqual(self.table("load", "--hex", odd.hex().upper())[0], odd.hex())
        self.assertEqual(self.table("latest")[0], "\\x00\\x1b[31m\\xff\\x5c\\x9b")
        self.assertEqual(base64.b64decode(self.listed()[0]["id_base64"]), odd)
        self.assertTrue(self.out("checkpoint", "list").endswith("Z  \\x00\\x1b[31m\\xff\\x5c\\x9b\n"))
        self.assertTrue(self.out("checkpoint", "list", "--hex").endswith("Z  " + odd.hex() + "\n"))
        self.assertEqual(self.out("prune", "--hex", odd.hex()), "0 segments of 0 shards deleted\n")
        err = self.tool("checkpoint", "load", "--hex", "1b0a", expect=FAILED)[1]
        self.assertIn("load the checkpoint '\\x1b\\x0a': ", err)
        self.assertEqual(self.table("create", "t\u00e4glich \u85cf")[0], "t\u00e4glich \u85cf")
        self.assertEqual(self.create("x" * 65535)["id"], "x" * 65535)

    def test_refused(self):
        for args in (["checkpoint", "create"], ["checkpoint", "load"], ["prune"]):
            err = self.tool(*args, "", expect=FAILED)[1]
            self.assertIn("InvalidCheckpointId", err)
            err = self.tool(*args, "x" * 65536, expect=FAILED)[1]
            self.assertIn("InvalidCheckpointId", err)
        for args in (["checkpoint", "load"], ["prune"]):
            err = self.tool(*args, "never", expect=FAILED)[1]
            self.assertIn("the checkpoint 'never': ", err)
            self.assertIn("CheckpointNotFound", err)
            self.assertIn("; ironwal checkpoint list names those that are there", err)
            err = json.loads(self.tool("--json", *args, "never", expect=FAILED)[1])
            self.assertEqual((err["error"]["code"], err["error"]["id"], err["checkpoint"], err["retriable"]),
                             ("CheckpointNotFound", "never", "never", False))

    def test_prune(self):
        keys = {}
        for i in range(60):
            shard = int(self.out("shard", "append", "key %d" % i, "x").split()[0])
            keys.setdefault(shard, "key %d" % i)
        self.assertEqual(len(keys), SHARDS)
        for _ in range(3):
            for key in keys.values():
                self.tool("shard", "append", key, stdin=b"y" * 1500)
        checkpoint = self.create("here")
        for key in keys.values():
            self.tool("shard", "append", key, "behind it")

        def wal_files():
            return sum(name.endswith(".wal") for _, _, names in os.walk(self.dir + "/data") for name in names)

        before = wal_files()
        found = re.fullmatch(r"(\d+) segments of 5 shards deleted\n", self.out("prune", "here"))
        self.assertTrue(found)
        deleted = int(found.group(1))
        self.assertGreaterEqual(deleted, 3 * SHARDS)
        test_tool.until(lambda: wal_files() == before - deleted, "the segments being gone")
        for shard, offset in enumerate(checkpoint["offsets"]):
            self.assertEqual(self.out("shard", "cat", "--from", str(offset), str(shard)), "behind it\n")
            self.assertIn("Truncated", self.tool("shard", "cat", "--from", "0", str(shard), expect=FAILED)[1])
        self.assertEqual(json.loads(self.out("prune", "--json", "here")), {"shards_pruned": 0, "segments_deleted": 0})


class WithoutDaemon(unittest.TestCase):
    def test_help(self):
        text = run("--help")[0].decode()
        for group, commands in GROUPS.items():
            group_text = run(group, "--help")[0].decode()
            for command in commands:
                self.assertIn(command, re.search(r"\n  %s .*" % group, text).group(0))
                self.assertRegex(group_text, r"\n  %s " % command)
                help_text = run(group, command, "--help")[0].decode()
                self.assertTrue(help_text.startswith("usage: ironwal %s %s [OPTIONS]" % (group, command)))
                self.assertIn("ironwal ", help_text.split("\nExample:\n  ")[1])

    def test_usage(self):
        for args in (["shard"], ["shard", "nonsense"], ["shard", "--nonsense", "count"], ["shard", "count", "more"],
                     ["shard", "append"], ["shard", "append", "k", "v", "more"],
                     ["shard", "append", "--file", "f", "k", "v"], ["shard", "append", "--hex", "abc", "v"],
                     ["shard", "append", "--hex", "0g", "v"], ["shard", "cat"], ["shard", "cat", "x"],
                     ["shard", "cat", "-1"], ["shard", "cat", "4294967296"], ["shard", "cat", "--from", "x", "1"],
                     ["shard", "cat", "--json", "--raw", "1"], ["checkpoint"], ["checkpoint", "nonsense"],
                     ["checkpoint", "create"], ["checkpoint", "create", "a", "b"], ["checkpoint", "load"],
                     ["checkpoint", "load", "--hex", "xx"], ["checkpoint", "latest", "more"],
                     ["checkpoint", "list", "--limit", "x"], ["checkpoint", "list", "--limit", "0"],
                     ["checkpoint", "compact"], ["checkpoint", "compact", "--keep", "-1"],
                     ["checkpoint", "compact", "5"], ["checkpoint", "count", "--hex"], ["prune"], ["prune", "a", "b"]):
            err = run(*args, expect=USAGE)[1]
            if "--json" in args:
                err = json.loads(err)["error"]["message"]
            else:
                self.assertTrue(err.startswith("ironwal"), err)
            self.assertRegex(err, r"; see ironwal( [a-z]+)* --help$")
        self.assertIn("see ironwal checkpoint compact --help", run("checkpoint", "compact", expect=USAGE)[1])

    def answered(self, answer, *args, **kwargs):
        """The tool against a server that answers this (error, result), or None: not at all."""
        def plan(server, connection, number, msgid, params):
            if answer is not None:
                connection.send([1, msgid, *answer])

        server = FakeServer(plan)
        out, err = run(*args, connect=server.address, **kwargs)
        server.join(60)
        return out.decode(), err

    def test_sync(self):
        for args, sent in (([], {}), (["--sync"], {"sync": True})):
            server = FakeServer(lambda server, connection, number, msgid, params:
                                connection.send([1, msgid, None, {"shard": 0, "id": 7}]))
            self.assertEqual(run("shard", "append", *args, "k", "v", connect=server.address)[0], b"0 7\n")
            server.join(60)
            self.assertEqual(server.requests, [("shard_append", dict(sent, key=b"k", value=b"v"))])

    def lines(self, answers, *args, count=3, stdin=None):
        """shard append --lines against a server that answers each batch with the next of these."""
        def plan(server, connection, number, msgid, params):
            if number >= len(answers):
                return "end"
            answer = answers[number]
            if callable(answer):
                answer = answer(params["entries"])
            connection.send([1, msgid, *answer])

        server = FakeServer(plan)
        stdin = stdin or b"".join(b"k%d\tv%d\n" % (i, i) for i in range(count))
        with tempfile.NamedTemporaryFile() as file:  # it never pauses, as a pipe may
            file.write(stdin)
            file.flush()
            command = [IRONWAL, "--connect", server.address, "shard", "append", "--lines", "--file", file.name, *args]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        server.join(60)
        return done.returncode, done.stdout.decode(), done.stderr.decode(), server.requests

    def test_lines_in_part(self):
        """A batch of which some shards failed: of each line it is said whether it is written."""
        def partly(entries):
            return ({"code": "Io", "message": "write: No space left on device", "errno": "ENOSPC", "path": "/a",
                     "outcome": "none", "results": [[0, 5], None, None, [0, 6]]}, None)

        status, out, err, requests = self.lines([partly], "--sync", count=4)
        self.assertEqual((status, out), (FAILED, ""))
        self.assertEqual(requests, [("shard_append_batch", {"sync": True, "entries": [
            [b"k%d" % i, b"v%d" % i] for i in range(4)]})])
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("append to the shards of keys: ", err)
        self.assertIn("(Io); lines 1 to 1 are written, lines 2 to 3 are not written, lines 4 to 4 are written, "
                      "nothing is written from line 5 on\n", err)
        status, out, err, _ = self.lines([partly], "--ids", count=4)
        self.assertEqual((status, out), (FAILED, "0 5\n0 6\n"))
        status, out, err, _ = self.lines([partly], "--json", count=4)
        self.assertEqual(json.loads(out), {"entries": 2, "complete": False, "ranges": [
            {"fate": "written", "lines": [1, 1]}, {"fate": "refused", "lines": [2, 3]},
            {"fate": "written", "lines": [4, 4]}]})
        self.assertIn("lines 2 to 3 are not written", json.loads(err)["hint"])

    def test_lines_of_which_nothing_is_known(self):
        def unknown(entries):
            return ({"code": "Io", "message": "sync: failed", "errno": "EIO", "path": "/a", "outcome": "unknown",
                     "results": [[0, 5], None, None]}, None)

        status, _, err, _ = self.lines([unknown])
        self.assertEqual(status, FAILED)
        self.assertIn("lines 1 to 1 are written, lines 2 to 3 may be written or not, nothing is written", err)
        good = lambda entries: (None, {"results": [[0, i] for i in range(len(entries))]})
        # The connection ends while the second batch is on its way; the third is not sent.
        status, out, err, requests = self.lines([good], count=20000)
        self.assertEqual(status, CONNECTION)
        self.assertEqual([len(params["entries"]) for _, params in requests], [8192, 8192])
        self.assertIn("lines 1 to 8192 are written, lines 8193 to 16384 may be written or not, "
                      "nothing is written from line 16385 on", err)
        refused = ({"code": "Busy", "message": "too much"}, None)
        status, out, err, requests = self.lines([good, refused], count=20000)
        self.assertEqual(status, FAILED)
        self.assertIn("lines 1 to 8192 are written, lines 8193 to 16384 are not written, nothing is written", err)

    def test_lines_fit_in_messages(self):
        good = lambda entries: (None, {"results": [[0, i] for i in range(len(entries))]})
        status, out, err, requests = self.lines([good] * 100, stdin=b"".join(
            b"k" * (i % 50) + b"\t" + b"x" * (i * 37 % 3000) + b"\n" for i in range(3000)))
        self.assertEqual((status, out), (0, "3000 entries\n"))
        self.assertGreater(len(requests), 3)
        got = [entry for _, params in requests for entry in params["entries"]]
        self.assertEqual(got, [[b"k" * (i % 50), b"x" * (i * 37 % 3000)] for i in range(3000)])
        self.assertLess(max(sum(len(k) + len(v) for k, v in params["entries"]) for _, params in requests), 512 << 10)

    def test_checkpoints_without_names(self):
        answer = (None, {"checkpoints": [[b"good", 10**18]], "damaged": 2})
        out, err = self.answered(answer, "checkpoint", "list", expect=FAILED)
        self.assertEqual(out.splitlines()[1], "2001-09-09T01:46:40.000000000Z  good")
        self.assertIn("2 more checkpoints are damaged", err)
        out, err = self.answered(answer, "--json", "checkpoint", "list", expect=FAILED)
        self.assertEqual(json.loads(out), {"id": "good", "timestamp": 10**18})
        self.assertIn("damaged", json.loads(err)["error"]["message"])

    def test_errors_with_fields(self):
        corrupted = ({"code": "CheckpointCorrupted", "message": "checkpoints is damaged", "offset": 512,
                      "reason": "its checksum is wrong"}, None)
        out, err = self.answered(corrupted, "checkpoint", "latest", expect=FAILED)
        self.assertIn("load the latest checkpoint: checkpoints is damaged (CheckpointCorrupted)", err)
        err = json.loads(self.answered(corrupted, "--json", "checkpoint", "load", "x", expect=FAILED)[1])
        self.assertEqual((err["error"]["offset"], err["error"]["reason"]), (512, "its checksum is wrong"))
        mismatch = ({"code": "ShardCountMismatch", "message": "of another log", "expected": 1, "found": 16}, None)
        err = json.loads(self.answered(mismatch, "--json", "prune", "x", expect=FAILED)[1])
        self.assertEqual((err["error"]["expected"], err["error"]["found"], err["fate"]), (1, 16, "refused"))
        too_large = ({"code": "TooLarge", "message": "the list", "limit": 1, "size": 2}, None)
        self.assertIn("; --limit N lists fewer", self.answered(too_large, "checkpoint", "list", expect=FAILED)[1])

    def test_no_answer_in_time(self):
        for args in (["checkpoint", "create", "x"], ["prune", "x"], ["checkpoint", "compact", "--keep", "1"]):
            err = self.answered(None, "--timeout", "1", *args, expect=CONNECTION)[1]
            self.assertIn("it may have been written: it is safe to repeat it", err)
            err = json.loads(self.answered(None, "--json", "--timeout", "1", *args, expect=CONNECTION)[1])
            self.assertEqual((err["fate"], err["retriable"]), ("unknown", True))
        err = self.answered(None, "--timeout", "1", "shard", "append", "k", "v", expect=CONNECTION)[1]
        self.assertIn("it may have been written: look before you repeat it", err)
        err = self.answered(None, "--timeout", "1", "checkpoint", "latest", expect=CONNECTION)[1]
        self.assertNotIn("written", err)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
