"""The tool `ironwal`, as a user calls it."""

import os
import subprocess

from harness import DEADLINE_S, check

IRONWAL = None  # the program
OK, FAILED, USAGE, CONNECTION = 0, 1, 2, 3


def run(*args, connect=None, expect=OK, stdin="", **env):
    """What it prints on standard output; or, if it is to fail, the one line on standard error."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("IRONWAL_")}
    done = subprocess.run(
        [IRONWAL, *(["--connect", connect] if connect else []), *args],
        input=stdin, capture_output=True, text=True, timeout=DEADLINE_S, env=dict(environment, **env))
    check(done.returncode == expect, "%r: status %d: %s", args, done.returncode, done.stderr)
    if expect == OK:
        return done.stdout
    check(len(done.stderr.splitlines()) == 1, "one line: %r", done.stderr)
    return done.stderr
