#!/usr/bin/python3
"""What every command of `ironwal` prints, for people and as JSON, on a real daemon; and that every example works as it
stands: those of --help, of the manual, and of the README. Usage: test_tool_output.py IRONWAL IRONWALD SOURCE"""

import json
import os
import re
import shutil
import subprocess
import sys
import unittest

import test_tool
from test_tool import FAILED, IRONWAL, IRONWALD, USAGE, run
from tool_transcript import matches, shell, steps

SOURCE = sys.argv[3]

# Of a fresh daemon with 4 shards. (Which shard a key has is the same everywhere.)
STREAMS = r"""
$ ironwal append greetings hello
0
$ ironwal --json append greetings 'hello again'
{"id":1,"durable":true}
$ printf 'one\ntwo\n' | ironwal append --lines numbers
2 entries, ids 0 to 1
$ printf 'three' | ironwal --json append --lines numbers
{"entries":1,"complete":true,"durable":true,"ranges":[{"fate":"written","lines":[1,1],"first":2,"end":3}]}
$ printf 'a\n\nb\n' | ironwal append --batch all
3 entries, ids 0 to 2
$ printf 'c\nd' | ironwal append --json --batch --expected-id 3 all
{"first":3,"end":5,"durable":true}
$ printf '' | ironwal append --batch all
0 entries
$ printf 'x\ny\n' | ironwal append --batch --expected-id 3 all
ironwal: append to 'all': {x} (Conflict; nothing was written)
[1]
$ printf 'x\0two\nlines\0' | ironwal append --lines --null odd
2 entries, ids 0 to 1
$ printf '\377\0' | ironwal append --batch --null odd
1 entry, ids 2 to 2
$ ironwal get greetings 0 && echo ' and no more'
hello and no more
$ ironwal get numbers 2 0
three
one
$ ironwal get --ids numbers 1
1	two
$ ironwal get --raw numbers 0 1 && echo .
onetwo.
$ ironwal get --null odd 0 1 | tr '\0' '|'
x|two
lines|
$ ironwal get numbers 7 1 8
two
ironwal: 'numbers' has no entries 7, 8 (not yet, or truncated away); see ironwal info
[1]
$ ironwal get numbers 18446744073709551615
ironwal: 'numbers' has no entry 18446744073709551615 (not yet, or truncated away); see ironwal info
[1]
$ ironwal --json get numbers 0
{"id":0,"entry":"one"}
$ ironwal --json get odd 2 9
{"id":2,"entry_base64":"/w=="}
{"id":9,"entry":null}
{"error":{"code":"Local","message":"'odd' has no entry 9 (not yet, or truncated away); see ironwal info"}}
[1]
$ ironwal cat numbers
one
two
three
$ ironwal cat --from 1 --max 1 --ids numbers
1	two
$ ironwal cat --raw numbers && echo .
onetwothree.
$ ironwal cat --null odd | ironwal append --lines --null copy
3 entries, ids 0 to 2
$ ironwal cat --json copy
{"id":0,"entry":"x"}
{"id":1,"entry":"two\nlines"}
{"id":2,"entry_base64":"/w=="}
$ ironwal cat --from 9 numbers
$ ironwal streams
       FIRST          END      ENTRIES  SEGMENTS          BYTES  STREAM
           0            5            5         1            {n}  all
           0            3            3         1            {n}  copy
           0            2            2         1            {n}  greetings
           0            3            3         1            {n}  numbers
           0            3            3         1            {n}  odd
$ ironwal streams --names g
greetings
$ ironwal streams --json --names g
{"stream":"greetings"}
$ ironwal streams --json g
{"stream":"greetings","first":0,"end":2,"durable_end":2,"segments":1,"bytes":{n}}
$ ironwal append "$(printf 'tab\there \\ ')" x && ironwal streams --names tab
0
tab\x09here \x5c 
$ ironwal streams --names --null tab | tr '\0\t' '|>'
tab>here \ |
$ ironwal info greetings
stream       greetings
first        0
end          2
entries      2
durable end  2
segments     1
bytes        {n}
$ ironwal info --json greetings
{"stream":"greetings","first":0,"end":2,"durable_end":2,"segments":1,"bytes":{n}}
$ ironwal info nowhere
ironwal: look at 'nowhere': {x} (StreamNotFound)
[1]
$ ironwal truncate greetings 1
0 segments deleted
$ ironwal --json truncate greetings 1
{"segments_deleted":0}
$ ironwal segment-start greetings
0
$ ironwal --json segment-start greetings
{"id":0}
$ ironwal segment-start nowhere
ironwal: there is no stream 'nowhere'; ironwal streams lists those that are
[1]
$ ironwal --json segment-start nowhere
{"id":null}
[1]
$ ironwal sync && ironwal sync greetings && ironwal --json sync
{}
$ ironwal ping
ironwald/0.1.0 at unix:{x} answered in {n} ms (sync_mode strict, compression none)
$ ironwal ping --json
{"server":"ironwald/0.1.0","address":"unix:{x}","protocol":1,"shard_count":4,{x},"sync_mode":"strict","compression":"none","ms":{n}}
$ ironwal token a.token billing read,append 'orders/*' 'b%20*' | sed 's/[0-9a-f]\{64\}/HEX/'
sha256:HEX billing read,append orders/* b%20*
$ ironwal --json token b.token ops admin '*' | sed 's/[0-9a-f]\{64\}/HEX/'
{"file":"b.token","line":"sha256:HEX ops admin *"}
$ ironwal token a.token billing read '*'
ironwal: cannot make a.token: File exists
[1]
$ ls -l a.token | cut -c 1-10 && wc -c <a.token
-rw-------
45
$ ironwal stats
server
  version         0.1.0
  sync_mode       strict
  compression     none
  shard_count     4
...
$ ironwal --json stats
{"server":{"version":"0.1.0",{x}}
$ ironwal stats --watch 0.2 --count 2 | cut -d ' ' -f 2- | tr -s ' '
 STATE REFUSED/S APPENDS/S ENTRIES/S BYTES/S SYNCS/S {x} SYNC_P99_US QUEUE CONNECTIONS {x} DISK_FREE_BYTES UPTIME_S
ok - - - - - - - {n} 0 1 0 {n} {n}
ok 0.0 0.0 0.0 0 0.0 - - {n} 0 1 0 {n} {n}
$ ironwal stats --json --watch --count 1
{"time":"{x}Z","state":"ok","reason":"","silent_seconds":0,"restarts":0,"seconds":null,{x}}
"""

SHARDS = r"""
$ ironwal checkpoint latest
ironwal: load the latest checkpoint: {x} (NoCheckpoints); ironwal checkpoint create ID takes one
[1]
$ ironwal shard append user-17 'logged in'
1 0
$ ironwal shard append --json user-18 'logged in'
{"shard":3,"id":0}
$ printf 'user-17\tagain\nuser-18\t\nuser-18\ttab\there\n' | ironwal shard append --lines
3 entries
$ printf 'user-18\tx\nuser-17\ty' | ironwal shard append --lines --ids
3 3
1 2
$ printf 'user-18\tz\n' | ironwal shard append --lines --ids --json
{"line":1,"shard":3,"id":4}
$ printf 'user-18\tq\n' | ironwal shard append --lines --json
{"entries":1,"complete":true,"ranges":[{"fate":"written","lines":[1,1]}]}
$ printf '757365722d3138\thex\n' | ironwal shard append --lines --ids --hex
3 6
$ printf 'user-17\tw\nuser-17 w\nuser-17\tw\n' | ironwal shard append --lines
ironwal: line 2 has no tab between a key and a value; lines 1 to 1 are written, nothing is written from line 2 on
[1]
$ printf '12\tw\nx\tw\n' | ironwal shard append --json --lines --hex
{"entries":1,"complete":false,"ranges":[{"fate":"written","lines":[1,1]}]}
{"error":{"code":"Local","message":"line 2: the key is not {x}; lines 1 to 1 are written, nothing {x} line 2 on"}}
[1]
$ printf 'out\nin\n' | ironwal shard append --batch user-17
2 entries, shard 1, ids 4 to 5
$ printf 'out\0in\n\0' | ironwal shard append --json --batch --null user-17
{"shard":1,"first":6,"end":8}
$ ironwal shard cat --from 1 1
again
y
w
out
in
out
in

$ ironwal shard cat --ids --max 3 3
0	logged in
1	
2	tab	here
$ ironwal shard cat --json --from 5 3
{"id":5,"entry":"q"}
{"id":6,"entry":"hex"}
$ ironwal shard count
4
$ ironwal --json shard count
{"count":4}
$ ironwal checkpoint create nightly
id    nightly
time  {time}

     SHARD               OFFSET
         0                    0
         1                    8
         2                    1
         3                    7
$ ironwal checkpoint --json create again
{"id":"again","timestamp":{n},"shard_count":4,"offsets":[0,8,1,7]}
$ ironwal checkpoint load nightly | head -n 2
id    nightly
time  {time}
$ ironwal --json checkpoint load nightly
{"id":"nightly","timestamp":{n},"shard_count":4,"offsets":[0,8,1,7]}
$ ironwal checkpoint latest --hex | head -n 1
id    616761696e
$ ironwal --json checkpoint latest
{"id":"again","timestamp":{n},"shard_count":4,"offsets":[0,8,1,7]}
$ ironwal checkpoint list
TIME                            ID
{time}  nightly
{time}  again
$ ironwal checkpoint list --limit 1 --json
{"id":"again","timestamp":{n}}
$ ironwal checkpoint count
2
$ ironwal --json checkpoint count
{"count":2}
$ ironwal prune nightly
0 segments of 0 shards deleted
$ ironwal --json prune nightly
{"shards_pruned":0,"segments_deleted":0}
$ ironwal checkpoint compact --keep 1
2 checkpoints before, 1 after, {n} bytes reclaimed
$ ironwal checkpoint compact --keep 1 --json
{"checkpoints_before":1,"checkpoints_after":1,"bytes_reclaimed":0}
$ ironwal prune nightly
ironwal: prune before the checkpoint 'nightly': {x} (CheckpointNotFound{x}); ironwal checkpoint list {x}
[1]
"""

# Which of them are not run as they stand, and why.
NOT_RUN = {
    "journalctl -f -o cat | ironwal append --lines --sync journal": "there may be no journal, and it does not end",
    "ironwal cat --from 100 --follow --ids journal": "does not end",
    "ironwal cat --follow --from 2 greetings    # waits for more, until ^C": "does not end",
    "ironwal stats --watch                      # the same as a living picture with rates, until q": "does not end",
    "PATH=$PWD/build/server:$PWD/build/client:$PATH": "the test has its own",
    "kill %1": "the test has its own daemon",
}


# What it prints are rates, it does nothing but load the machine, and it has a test of its own.
BENCH = ["bench"]


def all_commands():
    """Of --help, those of the groups among them: [["append"], ..., ["shard", "append"], ...]"""
    def listed(*group):
        text = run(*group, "--help")[0].decode()
        block = re.search(r"^Commands .*\n((  .*\n)+)", text, re.M)
        return [re.match("  ([a-z-]+)", line).group(1) for line in block.group(1).splitlines()] if block else []

    found = []
    for command in listed():
        found += [[command, name] for name in listed(command)] or [[command]]
    return found


class Daemon(test_tool.DaemonCase):
    """A daemon for each test: ids begin at 0."""

    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def begin(self, *options):
        type(self).daemon_options = list(options)
        super().setUpClass()
        self.addCleanup(super().tearDownClass)
        os.mkdir(self.dir + "/work")

    def shell(self, command):
        return shell(command, self.dir + "/work", test_tool.environment(IRONWAL_CONNECT=self.address), IRONWAL)

    def transcript(self, text, compared=lambda command: True):
        """Runs it, and returns the commands that it ran."""
        done = []
        for command, expected in steps(text):
            if command in NOT_RUN:
                continue
            got = self.shell(command)
            if compared(command):
                self.assertTrue(matches(expected, got), "$ %s\n%s\n--- and not\n%s" % (
                    command, "\n".join(got), "\n".join(expected)))
            else:
                self.assertFalse(got and re.fullmatch(r"\[\d+\]", got[-1]), "$ %s\n%s" % (command, "\n".join(got)))
            done.append(command)
        return done


class Output(Daemon):
    ran = []

    def test_streams(self):
        self.begin()
        Output.ran += self.transcript(STREAMS)

    def test_shards(self):
        self.begin()
        Output.ran += self.transcript(SHARDS)

    def test_z_every_command_was_run(self):
        """And each of them with --json, too. (Tests run in the order of their names.)"""
        def parts(line):
            return [found.group(1).split() for found in re.finditer(r"\bironwal ((?:[^|&;']|'[^']*')*)", line)]

        ran = [[word for word in words if word != "--json"][:2] + words for line in Output.ran for words in parts(line)]
        for command in all_commands():
            if command == BENCH:
                continue
            of_it = [words for words in ran if words[:len(command)] == command]
            self.assertTrue(of_it, "never run: %s" % command)
            self.assertTrue([words for words in of_it if "--json" in words], "never run with --json: %s" % command)


class Examples(Daemon):
    def test_help(self):
        """In the order in which `ironwal --help` lists the commands, all on one daemon."""
        self.begin()
        count = 0
        for command in [[]] + all_commands():
            if command == BENCH:
                continue
            text = run(*command, "--help")[0].decode()
            self.assertTrue(text.startswith("usage: " + " ".join(["ironwal"] + command)), text)
            examples = text.split("\nExample:\n")[1].splitlines()
            self.assertTrue(examples)
            for line in examples:
                self.assertTrue(line.startswith("  "), line)
                self.assertIn(" ".join(["ironwal"] + command[:1]), line.replace(" --json ", " ").replace(
                    " --timeout 1 ", " "))
                got = self.shell(line)
                self.assertFalse(got and re.fullmatch(r"\[\d+\]", got[-1]), "$ %s\n%s" % (line, "\n".join(got)))
                count += 1
        self.assertGreater(count, 20)

    def test_groups_help(self):
        self.begin()
        for group in ("shard", "checkpoint"):
            for line in run(group, "--help")[0].decode().split("\nExample:\n")[1].splitlines():
                got = self.shell(line)
                self.assertFalse(got and re.fullmatch(r"\[\d+\]", got[-1]), "$ %s\n%s" % (line, "\n".join(got)))

    def test_manual(self):
        with open(os.path.join(SOURCE, "client/ironwal.1")) as file:
            text = file.read()
        examples = text[text.index(".Sh EXAMPLES"):text.index(".Sh DIAGNOSTICS")]
        commands = [line.replace("\\e", "\\") for line in re.findall(r"^\$ .*", examples, re.M)]
        self.assertGreater(len(commands), 10)
        self.begin()
        # Variables live on from line to line, as in a shell: a line that sets one is run with the next one.
        lines = []
        for command in commands:
            if lines and re.match(r"\$ [a-z]+=", lines[-1]) and " && " not in lines[-1]:
                lines[-1] += " && " + command[2:]
            else:
                lines.append(command)
        ran = self.transcript("\n".join(lines), compared=lambda command: False)
        self.assertEqual(len(lines) - len(ran), 2, "those that are not run")

    def test_readme(self):
        """What it says that comes out, too; a daemon of the test for each of its blocks."""
        with open(os.path.join(SOURCE, "README.md")) as file:
            blocks = re.findall(r"^```console\n(.*?)^```", file.read(), re.M | re.S)
        blocks = [block for block in blocks if "$ ironwald " in block and "$ ironwal " in block]
        self.assertGreaterEqual(len(blocks), 2)
        for block in blocks:
            daemons = [command for command, _ in steps(block) if command.startswith("ironwald ")]
            self.assertEqual(len(daemons), 1, daemons)
            options = [word for word in daemons[0].split() if word.startswith("--") and "root-path" not in word]
            self.begin(*options)
            shutil.copy(os.path.join(SOURCE, "LICENSE"), self.dir + "/work")
            text = re.sub(r"^\$ ironwald .*\n(ready\n)?", "", block, flags=re.M)
            # Of these it does not show what comes out.
            ran = self.transcript(text, compared=lambda command: not command.startswith("ironwal stats"))
            self.assertGreater(len(ran), 5)
            self.doCleanups()

    def test_nothing_is_skipped_that_is_not_there(self):
        text = ""
        for name in ("README.md", "client/ironwal.1"):
            with open(os.path.join(SOURCE, name)) as file:
                text += file.read()
        for command in NOT_RUN:
            self.assertIn("$ " + command, text)


class Manual(unittest.TestCase):
    def test_options(self):
        """The SYNOPSIS has the options that --help lists, for each command."""
        with open(os.path.join(SOURCE, "client/ironwal.1")) as file:
            text = file.read()
        synopsis = text[text.index(".Sh SYNOPSIS"):text.index(".Sh DESCRIPTION")].split("\n.Nm\n")[2:]
        common = {"connect", "timeout", "json", "help", "token-file", "allow-plain-token", "tls-ca",
                  "tls-cert", "tls-key"}
        for command in all_commands():
            if command == BENCH:
                continue
            usages = [usage for usage in synopsis if re.match(r"\.Cm %s( |\n|$)" % " ".join(command), usage)]
            self.assertTrue(usages, "not in the SYNOPSIS: %s" % command)
            said = {name for usage in usages for name in re.findall(r"Fl -([a-z0-9-]+)", usage)}
            self.assertEqual(said, options_of(command) - common, command)

    def test_getopt_knows_what_help_lists(self):
        """Each is taken, with a value or without, as it says: the error is about something that comes behind it."""
        for command in [[]] + all_commands():
            for name in options_of(command) if command != BENCH else []:
                value = re.search(r"--%s( [A-Z]+)?" % name, options_text(command)).group(1)
                if name == "help":
                    continue
                args = command + ["--" + name] + (["1"] if value else [])
                err = run(*args, "--no-such-option", expect=USAGE)[1] if name != "version" else ""
                if err:
                    self.assertIn("--no-such-option", err)
                if value:
                    self.assertIn("is missing", run(*command, "--" + name, expect=USAGE)[1])
                elif "--%s [" % name in options_text(command):  # one that can be left out
                    self.assertIn("is not a number", run(*command, "--%s=x" % name, expect=USAGE)[1])
                elif name != "version":
                    self.assertIn("takes no argument", run(*command, "--%s=x" % name, expect=USAGE)[1])


def options_text(command):
    text = run(*command, "--help")[0].decode().split("\nExample:")[0]
    return "\n".join(line for line in text.splitlines() if line.startswith("  --"))


def options_of(command):
    return set(re.findall(r"(?:^  |, )--([a-z0-9-]+)", options_text(command), re.M))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=1)
