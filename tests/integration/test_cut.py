#!/usr/bin/python3
"""Checkpoints are consistent cuts: what happened before what they cover, they cover, under load, in every sync mode.

test_cut.py IRONWALD [CASE...]

Chains of appends run over all shards: each step is sent only after the one before was acknowledged, be it to the same
client or to another one. Meanwhile others create checkpoints as fast as they go, load them, and follow the shards. In
the end each checkpoint is held against each chain, by the offsets of its answer and again by what a restarted server
loads. All processes share one clock (CLOCK_MONOTONIC), read after an answer and before a request.

IRONWALD_CUT_SECONDS (15) is how long the load of all modes together takes, IRONWALD_CUT_SEED picks what is random.
"""

import bisect
import os
import random
import socket
import struct
import time

from harness import Daemon, Worker, cases_of, check, directory, main, same
from ironwal_client import Client, shard_name

SECONDS = float(os.environ.get("IRONWALD_CUT_SECONDS", "15"))
SEED = int(os.environ.get("IRONWALD_CUT_SEED", "20261126"))
SHARDS = 16
CHAINS = 8  # of each worker that has its own
TOKENS = 3  # chains that hop between two workers
CREATES_IN_FLIGHT = 3


# ---- the workers -----------------------------------------------------------------------------------------------------


def entry_of(chain, step, index, rng):
    return b"%d/%d/%d/" % (chain, step, index) + b"." * rng.randrange(60)


def places_of(result, named):
    """[shard, id] of each entry of a step, from the answer; `named` is the shard, if it was asked for by its name."""
    if "results" in result:
        return result["results"]
    shard = result.get("shard", named)
    if "first" in result:
        return [[shard, id] for id in range(result["first"], result["end"])]
    return [[shard, result["id"]]]


class Steps:
    """Sends steps, and keeps what was acknowledged: (chain, step, [[shard, id]...], when)."""

    def __init__(self, client, seed):
        self.client = client
        self.rng = random.Random(seed)
        self.done = []
        self.named = {}

    def send(self, chain, step):
        """One request of one or several entries, all of this step. Returns its msgid."""
        rng, named = self.rng, None
        kind = rng.random()
        key = b"%d" % rng.randrange(1000)
        values = [entry_of(chain, step, i, rng) for i in range(rng.randrange(1, 6))]
        params = {"sync": True} if rng.random() < 0.05 else {}
        if kind < 0.7:
            method, more = "shard_append", {"key": key, "value": values[0]}
        elif kind < 0.85:
            entries = [[b"%d" % rng.randrange(1000), value] for value in values]
            method, more = "shard_append_batch", {"entries": entries}
        elif kind < 0.92:
            method, more = "shard_append_batch_for_key", {"key": key, "values": values}
        else:
            named = rng.randrange(SHARDS)
            method, more = "append", {"stream": shard_name(named), "entry": values[0]}
        number = self.client.send(method, **more, **params)
        self.named[number] = named
        return number

    def acknowledged(self, chain, step, number):
        result = self.client.wait(number)
        now = time.monotonic_ns()
        self.done.append((chain, step, places_of(result, self.named.pop(number)), now))
        return now


def run_chains(address, seed, first_chain, until):
    """Several chains over one connection: one request of each is in flight."""
    with Client(address) as client:
        steps = Steps(client, seed)
        waiting = [(chain, 0, steps.send(chain, 0)) for chain in range(first_chain, first_chain + CHAINS)]
        while waiting:
            now = [one for one in waiting if client.answered(one[2])] or waiting[:1]
            for one in now:
                waiting.remove(one)
                chain, step, number = one
                if steps.acknowledged(chain, step, number) < until:
                    waiting.append((chain, step + 1, steps.send(chain, step + 1)))
            client.flush()
        return steps.done


def run_hops(address, seed, mine, other, chains, until):
    """Chains of which every other step is done here: whoever has the token does the next one and passes it on."""
    other.close()
    token = struct.Struct("<II")
    with Client(address) as client, mine:
        steps = Steps(client, seed)
        try:
            for chain in chains:
                mine.sendall(token.pack(chain, 0))
            while time.monotonic_ns() < until:
                data = mine.recv(token.size, socket.MSG_WAITALL)
                if len(data) < token.size:
                    break
                chain, step = token.unpack(data)
                steps.acknowledged(chain, step, steps.send(chain, step))
                mine.sendall(token.pack(chain, step + 1))
        except (BrokenPipeError, ConnectionResetError):
            pass
        return steps.done


def run_creations(address, name, until):
    """[id, before it was sent, after it was answered, offsets, timestamp] of each."""
    made, asked, number = [], [], 0
    with Client(address) as client:
        while asked or time.monotonic_ns() < until:
            while len(asked) < CREATES_IN_FLIGHT and time.monotonic_ns() < until:
                id = "%s/%d" % (name, number)
                number += 1
                sent = time.monotonic_ns()
                asked.append((id, sent, client.send("create_checkpoint", id=id.encode())))
                client.flush()
            id, sent, msgid = asked.pop(0)
            result = client.wait(msgid)
            same(result["shard_count"], SHARDS, "shard_count")
            made.append((id, sent, time.monotonic_ns(), result["offsets"], result["timestamp"]))
    return made


def run_reads(address, seed, until):
    """Follows all shards, and loads checkpoints; returns what was seen and when."""
    rng = random.Random(seed)
    seen, loaded, latest = [], [], []
    ends = [0] * SHARDS
    with Client(address) as client:
        while time.monotonic_ns() < until:
            numbers = [client.send("iter_shard", shard=shard, start_id=ends[shard]) for shard in range(SHARDS)]
            for shard, number in enumerate(numbers):
                part = client.wait(number)
                if part["entries"]:
                    ends[shard] = part["next"]
                    seen.append((shard, part["next"], time.monotonic_ns()))
            sent = time.monotonic_ns()
            if rng.random() < 0.5:
                for id, timestamp in client.list_checkpoints(rng.randrange(4)):
                    one = client.load_checkpoint(id)
                    same(one["timestamp"], timestamp, "listed and loaded")
                    loaded.append((id.decode(), one["offsets"], timestamp))
            elif client.checkpoint_count() > 0:
                one = client.load_latest_checkpoint()
                loaded.append((one["id"].decode(), one["offsets"], one["timestamp"]))
                latest.append((sent, one["timestamp"]))
    return {"seen": seen, "loaded": loaded, "latest": latest}


# ---- what is checked -------------------------------------------------------------------------------------------------


def check_order(made):
    """In the order of their timestamps offsets do not go back, and neither do timestamps in the order of time."""
    for a, b in zip(made, made[1:]):
        check(a[4] < b[4], "a timestamp twice: %r, %r", a, b)
        check(all(x <= y for x, y in zip(a[3], b[3])), "offsets go back: %r, %r", a, b)
    newest = 0
    answered = sorted((one[2], one[4]) for one in made)
    at = 0
    for _, sent, _, _, timestamp in sorted(made, key=lambda one: one[1]):
        while at < len(answered) and answered[at][0] < sent:
            newest = max(newest, answered[at][1])
            at += 1
        check(timestamp > newest, "timestamp %d of one that was sent after %d was answered", timestamp, newest)


def check_chains(made, steps):
    """What a checkpoint covers of a chain is a prefix: a step is covered first when, or after, the one before it is."""
    columns = [[one[3][shard] for one in made] for shard in range(SHARDS)]
    chains = {}
    for chain, step, places, _ in steps:
        first = [bisect.bisect_right(columns[shard], id) for shard, id in places]
        chains.setdefault(chain, []).append((step, min(first), max(first), places))
    for chain, links in chains.items():
        links.sort()
        same([link[0] for link in links], list(range(len(links))), "chain %d: its steps" % chain)
        for (_, _, before, places), (step, first, _, more) in zip(links, links[1:]):
            if first < before:
                one = made[first]
                check(False, "checkpoint %s covers step %d of chain %d at %r and not all of the step before, at %r: %r",
                      one[0], step, chain, more, places, one[3])
    return len(chains)


def required(made, shard, times, offsets):
    """Each checkpoint covers what was known of this shard before it was asked for: (when, offset), rising."""
    for id, sent, _, covered, _ in made:
        at = bisect.bisect_left(times, sent)
        if at > 0 and covered[shard] < offsets[at - 1]:
            check(False, "checkpoint %s covers shard %d up to %d, and %d was known %d us before it was sent", id, shard,
                  covered[shard], offsets[at - 1], (sent - times[at - 1]) // 1000)


def check_known(made, facts):
    """facts: (shard, offset, when): acknowledged, or read."""
    for shard in range(SHARDS):
        rising = sorted((when, offset) for one, offset, when in facts if one == shard)
        most, times, offsets = 0, [], []
        for when, offset in rising:
            most = max(most, offset)
            times.append(when)
            offsets.append(most)
        required(made, shard, times, offsets)


def check_after(client, made, steps, reads):
    """In a server that was started again."""
    answers = {one[0]: (one[3], one[4]) for one in made}
    for id, offsets, timestamp in reads["loaded"]:
        if id in answers:  # else it was sent just before the end, and its answer was not waited for
            same((offsets, timestamp), answers[id], "what was loaded of " + id)
    same([[id.decode(), timestamp] for id, timestamp in client.list_checkpoints()], [[one[0], one[4]] for one in made],
         "list_checkpoints")
    loaded = []
    for begin in range(0, len(made), 500):
        part = made[begin : begin + 500]
        numbers = [client.send("load_checkpoint", id=one[0].encode()) for one in part]
        for one, number in zip(part, numbers):
            result = client.wait(number)
            loaded.append(one[:3] + (result["offsets"], result["timestamp"]))
    same(loaded == made, True, "what is loaded is what was answered")
    entries = {(shard, id): b"%d/%d/" % (chain, step) for chain, step, places, _ in steps for shard, id in places}
    for shard in range(SHARDS):
        count = 0
        for id, entry in client.scan_shard(shard):
            same(id, count, "shard %d: ids without gaps" % shard)
            count += 1
            expected = entries.pop((shard, id), None)
            ok = expected is None or entry.startswith(expected)
            check(ok, "shard %d: %d is %r, not %r", shard, id, entry, expected)
        check(made[-1][3][shard] <= count, "shard %d ends at %d: %r", shard, count, made[-1])
    check(not entries, "acknowledged and not there: %r", sorted(entries.items())[:5])


def run(mode, seconds, how, seed, *options):
    with directory() as place:
        options = ("--sync-mode=" + mode, "--shard-count=%d" % SHARDS, "--max-segment-size=64K") + options
        with Daemon(place, *options) as daemon:
            until = time.monotonic_ns() + int(seconds * 1e9)
            ends = socket.socketpair()
            hops = [Worker(run_hops, daemon.tcp, seed + 1, ends[0], ends[1], (), until)]
            hops.append(Worker(run_hops, daemon.unix, seed + 2, ends[1], ends[0], range(TOKENS), until))
            for end in ends:
                end.close()
            chains = [Worker(run_chains, daemon.unix, seed + 3, 100, until)]
            chains.append(Worker(run_chains, daemon.tcp, seed + 4, 200, until))
            creators = [Worker(run_creations, daemon.unix, "a", until), Worker(run_creations, daemon.tcp, "b", until)]
            reader = Worker(run_reads, daemon.unix, seed + 5, until)
            steps = [step for worker in hops + chains for step in worker.result()]
            made = [tuple(one) for worker in creators for one in worker.result()]
            reads = reader.result()
            if how == "SIGKILL":
                daemon.kill()
            else:
                daemon.stopped_well()
        made.sort(key=lambda one: one[4])
        check(len(made) > 20 and len(steps) > 100, "there was no load: %d checkpoints, %d steps", len(made), len(steps))
        check_order(made)
        chain_count = check_chains(made, steps)
        same(chain_count, 2 * CHAINS + TOKENS, "all chains went on")
        check_known(made, [(shard, id + 1, when) for _, _, places, when in steps for shard, id in places])
        check_known(made, [tuple(one) for one in reads["seen"]])
        times = sorted((one[2], one[4]) for one in made)
        newest = [0]
        for _, timestamp in times:
            newest.append(max(newest[-1], timestamp))
        for sent, timestamp in reads["latest"]:
            at = bisect.bisect_left(times, (sent,))
            check(timestamp >= newest[at], "load_latest: %d, and %d was answered before", timestamp, newest[at])
        with Daemon(place, *options) as daemon, daemon.client(True) as client:
            check_after(client, made, steps, reads)
            daemon.stopped_well(client)
    hopped = sum(1 for step in steps if step[0] < TOKENS)
    return "%d checkpoints, %d steps (%d hopped), %d reads, %d loads" % (
        len(made), len(steps), hopped, len(reads["seen"]), len(reads["loaded"]))


def test_strict():
    return run("strict", SECONDS / 3, "SIGKILL", SEED)


def test_batch_only():
    return run("batch_only", SECONDS / 3, "SIGTERM", SEED + 100, "--async-sync-interval=10ms")


def test_async():
    return run("async", SECONDS / 3, "SIGKILL", SEED + 200)


if __name__ == "__main__":
    main(cases_of(globals()))
