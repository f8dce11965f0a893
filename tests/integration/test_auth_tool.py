#!/usr/bin/python3
"""The tool, and so libironwal, where the daemon asks for a token.

test_auth_tool.py IRONWALD IRONWAL [CASE...]
"""

import glob
import os
import re
import shutil
import sys

import tool_run
from harness import *
from tool_run import CONNECTION, FAILED, OK, USAGE, run

tool_run.IRONWAL = os.path.abspath(sys.argv.pop(2))

def make_token(place, name, *words):
    """As a user does it: the token in a file, its line in the daemon's. The path of the first, and what is in it."""
    path = os.path.join(place, name)
    with open(os.path.join(place, "tokens"), "a") as file:
        file.write(run("token", path, name, *words))
    with open(path) as file:
        token = file.read().strip()
    check(len(token) * 6 >= 128, "bits enough: %d characters", len(token))
    return path, token


def addresses(daemon):
    return ["unix:" + daemon.unix, "tcp:127.0.0.1:%d" % daemon.tcp[1]]


def test_token_file():
    with directory() as place:
        admin, secret = make_token(place, "admin", "admin", "*")
        reader, other = make_token(place, "reader", "read", "s*")
        check(secret != other, "another one each time")
        bad, empty, blank = (os.path.join(place, name) for name in ("bad", "empty", "blank"))
        wrong = secret[:-1] + ("x" if secret[-1] != "x" else "y")
        for path, text in ((bad, wrong + "\n"), (empty, "\n"), (blank, "two words\n")):
            with open(path, "w") as file:
                file.write(text)
        long = os.path.join(place, "long")
        with open(long, "w") as file:
            file.write("x" * 1025)
        crlf = os.path.join(place, "crlf")
        with open(crlf, "w") as file:
            file.write(secret + "\r\n")
        outputs = ""
        with Daemon(place, "--token-file=" + os.path.join(place, "tokens")) as daemon:
            for address in addresses(daemon):
                check(run("append", "s", "x", "--token-file", admin, connect=address).strip().isdigit(), "after the command")
                run("--token-file", admin, "append", "s", "x", connect=address)
                run("append", "s", "x", connect=address, IRONWAL_TOKEN_FILE=admin)
                run("ping", connect=address, IRONWAL_TOKEN_FILE=crlf)
                run("get", "s", "0", "--token-file", reader, connect=address, IRONWAL_TOKEN_FILE=bad)
                for args, env, status, patterns in (
                    (("ping",), {}, CONNECTION, ["asks for a token", "--token-file or IRONWAL_TOKEN_FILE"]),
                    (("ping", "--token-file", ""), {"IRONWAL_TOKEN_FILE": admin}, CONNECTION, ["asks for a token"]),
                    (("ping",), {"IRONWAL_TOKEN_FILE": ""}, CONNECTION, ["asks for a token"]),
                    (("ping", "--token-file", bad), {}, CONNECTION, ["the token is not valid", "Unauthorized"]),
                    (("ping", "--token-file", place + "/none"), {}, USAGE, ["cannot read the token in .*/none", "No such file"]),
                    (("ping", "--token-file", place), {}, USAGE, ["cannot read the token in", "Is a directory"]),
                    (("ping", "--token-file", empty), {}, USAGE, ["empty: a token has 1 to 1024 printable"]),
                    (("ping", "--token-file", blank), {}, USAGE, ["blank: a token has 1 to 1024 printable"]),
                    (("ping", "--token-file", long), {}, USAGE, ["long: a token has 1 to 1024 printable"]),
                    (("append", "s", "x", "--token-file", reader), {}, FAILED, ["append to 's': .*does not have that right"]),
                    (("get", "t", "0", "--token-file", reader), {}, FAILED, ["other streams only", "Unauthorized"]),
                ):
                    line = run(*args, connect=address, expect=status, **env)
                    outputs += line
                    for pattern in patterns:
                        check(re.search(pattern, line), "%r: %r in %r", args, pattern, line)
                outputs += run("ping", "--token-file", admin, connect=address) + run("--json", "stats", "--token-file", admin, connect=address)
            daemon.stopped_well()
            outputs += daemon.stderr()
        check(secret not in outputs and other not in outputs and "two words" not in outputs, "a token was printed")


def test_the_environment_of_somebody_else():
    """A program with more rights than its caller has would read files for it."""
    if os.getuid() != 0 or Daemon.memory_factor() != 1:
        raise Skipped("only root can make such a program, and sanitizers are no part of one")
    with directory() as place:
        copy = os.path.join(place, "ironwal")
        shutil.copy(tool_run.IRONWAL, copy)
        with Daemon(place, "--listen-unix-mode=0666") as daemon:
            address = "tcp:127.0.0.1:%d" % daemon.tcp[1]
            fails = run("ping", connect=address, expect=USAGE, IRONWAL_TOKEN_FILE="/none")
            check("/none" in fails, "for oneself it is looked at: %s", fails)
            own = tool_run.IRONWAL
            tool_run.IRONWAL = copy
            try:
                os.chown(copy, 54321, 54321)
                os.chmod(copy, 0o4755)
                if os.statvfs(place).f_flag & os.ST_NOSUID:
                    raise Skipped("there are no such programs in " + place)
                run("ping", connect=address, IRONWAL_TOKEN_FILE="/none")
                run("bench", "--count", "1", connect=address, IRONWAL_TOKEN_FILE="/none")
            finally:
                tool_run.IRONWAL = own
            daemon.stopped_well()


def test_bench_with_a_token():
    with directory() as place:
        path, _ = make_token(place, "load", "read,append", "bench-*")
        with Daemon(place, "--token-file=" + os.path.join(place, "tokens")) as daemon:
            for address in addresses(daemon):
                report = run("bench", "--count", "2000", "--connections", "4", "--pipeline", "8", "--prefix", "bench-" + address[:3],
                             "--verify", "--mix", "append=2,get=1,iter=1", "--token-file", path, connect=address)
                check("append" in report, "a report: %s", report)
                line = run("bench", "--count", "10", connect=address, expect=CONNECTION)
                check("asks for a token" in line, "without: %s", line)
            daemon.stopped_well()


def test_a_token_in_the_clear():
    """It goes to no other machine without encryption, unless one insists."""
    in_private_network(a_token_in_the_clear)


def a_token_in_the_clear():
    with directory() as place:
        path, _ = make_token(place, "t", "admin", "*")
        with Daemon(place, "--token-file=" + os.path.join(place, "tokens"), "--insecure-allow-open-addresses=yes",
                    "--listen-tcp=%s:0" % OPEN_ADDRESS) as daemon:
            port = re.search(r"listening on tcp %s:(\d+)" % re.escape(OPEN_ADDRESS), daemon.stderr()).group(1)
            address = "tcp:%s:%s" % (OPEN_ADDRESS, port)
            for command in (["ping"], ["bench", "--count", "5"]):
                line = run(*command, "--token-file", path, connect=address, expect=USAGE)
                check("the token is not sent to %s" % address in line and "--allow-plain-token" in line, "refused: %s", line)
                run(*command, "--token-file", path, "--allow-plain-token", connect=address)
            same(daemon.stderr().count("is t\n"), 1 + 2, "the daemon saw only what was allowed")
            daemon.stopped_well()


def test_making_tokens():
    with directory() as place:
        target = os.path.join(place, "t")
        for words, pattern in (
            ((), "an argument is missing"),
            (("n", "read"), "an argument is missing"),
            (("n", "write", "*"), "roles are"),
            (("n n", "read", "*"), "has blanks"),
            (("n", "read", "a b*"), "has blanks"),
            (("n", "read", "a\nb*"), "has blanks"),
            (("n", "read", ""), "is empty"),
            (("", "read", "*"), "is empty"),
            (("#", "read", "*"), "a name has"),
            (("n", "read", "a"), "streams are given as"),
            (("n", "read", *["a*"] * 33), "too many arguments"),
        ):
            line = run("token", target, *words, expect=USAGE)
            check(re.search(pattern, line), "%r: %r in %r", words, pattern, line)
            check(glob.glob(place + "/*") == [], "nothing was made")
        run("token", target, "n", "read", *["a%d*" % i for i in range(32)])
        line = run("token", target, "n", "read", "*", expect=FAILED)
        check("File exists" in line, "not over another: %s", line)
        line = run("token", place + "/no/t", "n", "read", "*", expect=FAILED)
        check("No such file" in line, "%s", line)
        same(oct(os.stat(target).st_mode & 0o777), "0o600", "for its owner alone")
        line = run("token", "/dev/full", "n", "read", "*", expect=FAILED)
        check("cannot make /dev/full" in line and os.path.exists("/dev/full"), "%s", line)


if __name__ == "__main__":
    main(cases_of(globals()))
