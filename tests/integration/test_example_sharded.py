#!/usr/bin/python3
"""The example of client/examples/sharded.c against the real daemon, which ends between its phases, well or not.
Usage: test_example_sharded.py EXAMPLE IRONWALD [CASE...]"""

import os
import re
import subprocess
import sys

import harness
from harness import Daemon, check, directory, same, segments

EXAMPLE = os.path.abspath(sys.argv.pop(1))
SHARDS = 16
# Each shard has some 60 entries of 4 bytes before the checkpoint: more than one segment.
OPTIONS = ["--shard-count=%d" % SHARDS, "--max-segment-size=1K"]


def run(daemon, phase, status=0):
    done = subprocess.run(
        [EXAMPLE, "unix:" + daemon.unix, phase],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=harness.DEADLINE_S,
    )
    check(done.returncode == status, "%s: status %d: %s", phase, done.returncode, done.stderr)
    return done.stdout if status == 0 else done.stderr


def written(daemon):
    out = run(daemon, "write")
    same(
        out.splitlines(),
        ["1000 entries in 16 shards, checkpoint snapshot_1 covers 1000", "250 entries after it"],
        "what write says",
    )


def replayed(daemon, deletes):
    before = len(segments(daemon.root))
    lines = run(daemon, "replay").splitlines()
    same(lines[0], "250 entries replayed from 16 shards", "what replay says")
    found = re.fullmatch(r"(\d+) segments of (\d+) shards deleted", lines[1])
    check(found, "what replay says of pruning: %r", lines[1])
    deleted, shards = int(found.group(1)), int(found.group(2))
    if deletes:
        same(shards, SHARDS, "shards that were pruned")
        check(deleted >= SHARDS, "%d segments were deleted", deleted)
    else:
        same((deleted, shards), (0, 0), "what a second pruning finds")
    harness.eventually(lambda: len(segments(daemon.root)) == before - deleted, "the segments being gone")
    same(lines[2], "1 of 1 checkpoints kept, 0 bytes reclaimed", "what replay says of compaction")
    return deleted


def phases(end):
    with directory() as place:
        with Daemon(place, *OPTIONS) as daemon:
            written(daemon)
            end(daemon)
        with Daemon(place, *OPTIONS) as daemon:
            deleted = replayed(daemon, True)
            replayed(daemon, False)
            end(daemon)
        with Daemon(place, *OPTIONS) as daemon:
            replayed(daemon, False)
            daemon.stopped_well()
    return "%d segments deleted" % deleted


def test_with_a_restart_between():
    return phases(Daemon.stopped_well)


def test_with_a_kill_between():
    return phases(Daemon.kill)


def test_says_what_is_wrong():
    with directory() as place:
        with Daemon(place, *OPTIONS) as daemon:
            check("NoCheckpoints" in run(daemon, "replay", 1), "nothing was written yet")
            check("usage" in run(daemon, "rewrite", 2), "there is no such phase")
            daemon.stopped_well()


if __name__ == "__main__":
    harness.main(harness.cases_of(globals()))
