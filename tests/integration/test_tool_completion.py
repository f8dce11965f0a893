#!/usr/bin/python3
"""The completion for bash, driven as bash drives it, without the package bash-completion. Usage:
test_tool_completion.py IRONWAL IRONWALD COMPLETION"""

import os
import pty
import re
import select
import subprocess
import sys
import time
import unittest

import test_tool
from test_tool import IRONWAL, run
from test_tool_output import all_commands, options_of

COMPLETION = sys.argv[3]

# Completes a line as bash does when TAB is pressed at its end, and prints what is offered.
# bash itself splits lines so; that it is the same is seen in test_in_a_shell.
DRIVER = r"""
source "$1"
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
split=$(sed -E 's/([^:= ])([:=])/\1 \2/g; s/([:=])([^:= ])/\1 \2/g' <<<"$COMP_LINE")
IFS=' ' read -r -a COMP_WORDS <<<"$split"
[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
_ironwal ironwal "${COMP_WORDS[-1]}" ''
for word in "${COMPREPLY[@]}"; do
	printf '%s\n' "$word"
done
"""


def offered(line, connect=None):
    env = test_tool.environment(PATH=os.path.dirname(os.path.abspath(IRONWAL)) + ":" + os.environ["PATH"],
                                LC_ALL="C.UTF-8")
    if connect:
        env["IRONWAL_CONNECT"] = connect
    done = subprocess.run(["bash", "--norc", "--noprofile", "-c", DRIVER, "bash", COMPLETION, line], env=env,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0 and not done.stderr, "%s: status %d: %s" % (line, done.returncode, done.stderr.decode())
    return done.stdout.decode().splitlines()


class WithoutServer(unittest.TestCase):
    def test_commands(self):
        text = run("--help")[0].decode()
        block = re.search(r"^Commands .*\n((  .*\n)+)", text, re.M).group(1)
        listed = re.findall(r"^  ([a-z-]+)", block, re.M)
        self.assertEqual(offered("ironwal "), listed)
        self.assertEqual(offered("ironwal --timeout 3 --json "), listed)
        self.assertEqual(offered("ironwal s"), [name for name in listed if name.startswith("s")])
        self.assertEqual(offered("ironwal segment"), ["segment-start"])
        self.assertEqual(offered("ironwal nonsense"), [])
        for group in {command[0] for command in all_commands() if len(command) > 1}:
            names = [command[1] for command in all_commands() if command[0] == group]
            self.assertEqual(offered("ironwal %s " % group), names)
            self.assertEqual(offered("ironwal --json %s --timeout 1 c" % group), [n for n in names if n[0] == "c"])

    def test_options(self):
        """Those that --help lists, all of them and no others, of each command."""
        commands = [[]] + all_commands()
        for command in commands:
            got = offered(" ".join(["ironwal"] + command + ["--"]))
            self.assertEqual(sorted(got), sorted("--" + name for name in options_of(command)), command)
        self.assertEqual(offered("ironwal cat --f"), ["--from", "--follow"])
        self.assertEqual(offered("ironwal cat stream --fr"), ["--from"])

    def test_files(self):
        for line in ("ironwal append --file %s", "ironwal append --lines --file=%s", "ironwal shard append --file %s",
                     "ironwal --connect unix:%s", "ironwal --connect=unix:%s", "ironwal cat --connect unix:%s"):
            with self.subTest(line):
                found = offered(line % (os.path.dirname(COMPLETION) + "/ironwal.bash-compl"))
                self.assertEqual(found, [COMPLETION])

    def test_addresses(self):
        self.assertEqual(offered("ironwal --connect "), ["unix:", "tcp:127.0.0.1:7411", "tcp:localhost:", "tls:"])
        self.assertEqual(offered("ironwal --connect u"), ["unix:"])
        self.assertEqual(offered("ironwal info --connect=t"), ["tcp:127.0.0.1:7411", "tcp:localhost:", "tls:"])
        # What is before the last ':' is not for bash to replace.
        self.assertEqual(offered("ironwal --connect tcp:127.0.0.1:"), ["7411"])

    def test_nothing_where_there_is_nothing(self):
        begin = time.monotonic()
        nowhere = "unix:/nonexistent/socket"
        for line in ("ironwal cat ", "ironwal checkpoint load ", "ironwal shard cat ", "ironwal truncate s ",
                     "ironwal cat --from ", "ironwal append s ", "ironwal ping ", "ironwal stats x"):
            self.assertEqual(offered(line, nowhere), [], line)
        self.assertLess(time.monotonic() - begin, 60)


class WithDaemon(test_tool.DaemonCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("web/one", "web/two", "other", "with blank", "a:b", "a:c d", "it's", "control\x1b[31m", "\u00e4"):
            run("append", name, "x", connect=cls.address)
        for name in ("nightly", "before upgrade", "odd\x1b"):
            run("checkpoint", "create", name, connect=cls.address)

    def offered(self, line):
        return offered(line, self.address)

    def test_streams(self):
        names = ["a:b", "a:c\\ d", "it\\'s", "other", "web/one", "web/two", "with\\ blank", "\u00e4"]
        for command in all_commands():
            usage = run(*command, "--help")[0].decode().split("\n")[0]
            if re.search(r"\[OPTIONS\] \[?(STREAM|PREFIX)", usage):
                self.assertEqual(sorted(self.offered(" ".join(["ironwal"] + command + [""]))), sorted(names), command)
        self.assertEqual(self.offered("ironwal cat w"), ["web/one", "web/two", "with\\ blank"])
        self.assertEqual(self.offered("ironwal cat --from 3 --ids web/"), ["web/one", "web/two"])
        self.assertEqual(self.offered("ironwal cat a:"), ["b", "c\\ d"])
        self.assertEqual(self.offered("ironwal append other "), [])
        self.assertEqual(self.offered("ironwal cat nothing"), [])

    def test_where_it_asks(self):
        for given in ("--connect %s", "--connect=%s"):
            line = "ironwal %s cat web/" % (given % self.address)
            self.assertEqual(offered(line, "unix:/nonexistent/socket"), ["web/one", "web/two"])
        self.assertEqual(self.offered("ironwal --connect unix:/nonexistent/socket cat web/"), [])

    def test_shards_and_checkpoints(self):
        self.assertEqual(self.offered("ironwal shard cat "), ["0", "1", "2", "3"])
        for command in ("prune", "checkpoint load"):
            self.assertEqual(self.offered("ironwal %s " % command), ["nightly", "before\\ upgrade"])
        self.assertEqual(self.offered("ironwal prune n"), ["nightly"])
        self.assertEqual(self.offered("ironwal checkpoint create "), [])

    @unittest.skipUnless(test_tool.pty_there(), "no pseudo-terminals here: /dev/pts is not mounted")
    def test_in_a_shell(self):
        """In an interactive bash, by the key: what is typed, TAB, and what stands in the line then."""
        path = os.path.dirname(os.path.abspath(IRONWAL)) + ":" + os.environ["PATH"]
        env = test_tool.environment(PATH=path, TERM="dumb", PS1="$ ", IRONWAL_CONNECT=self.address, HISTFILE="",
                                    INPUTRC="/dev/null", LC_ALL="C.UTF-8")
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(self.dir)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)
        shown = b""

        def until(pattern):
            nonlocal shown
            end = time.monotonic() + 60
            while not re.search(pattern, shown):
                self.assertLess(time.monotonic(), end, (pattern, shown))
                if select.select([master], [], [], 0.05)[0]:
                    shown += os.read(master, 65536)
            shown = b""

        try:
            until(rb"\$ $")
            os.write(master, b"bind 'set enable-bracketed-paste off'; source '%s'\n" % COMPLETION.encode())
            os.write(master, b"echo loa'ded'\n")
            until(rb"loaded\r\n")
            for typed, line in ((b"ironwal segm\t", rb"ironwal segment-start $"),
                                (b"ironwal cat oth\t", rb"ironwal cat other $"),
                                (b"ironwal cat a:b\t", rb"ironwal cat a:b $"),
                                (b"ironwal cat a:c\t", rb"ironwal cat a:c\\ d $"),
                                (b"ironwal --connect u\t", rb"ironwal --connect unix:$"),
                                (b"ironwal --connect=unix:sock\t", rb"ironwal --connect=unix:socket $"),
                                (b"ironwal --connect unix:dat\t", rb"ironwal --connect unix:data/$"),
                                (b"ironwal append --fi\t", rb"ironwal append --file $"),
                                (b"ironwal checkpoint load ni\t", rb"ironwal checkpoint load nightly $")):
                os.write(master, typed)
                until(line)
                os.write(master, b"\x15")  # the line is cleared
                os.write(master, b"echo nex't'\n")
                until(rb"next\r\n")
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(master)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=1)
