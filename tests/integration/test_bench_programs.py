#!/usr/bin/python3
"""The programs of tests/bench, each for a fraction of a second: they run, what they say adds up, and nothing is left.
Usage: test_bench_programs.py IRONWALD BUILD_DIRECTORY SOURCE_DIRECTORY [CASE...]"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time

import harness
from harness import DEADLINE_S, Daemon, Skipped, check, directory, same
from tls_peer import Certificates

BUILD = os.path.abspath(sys.argv.pop(2)) if len(sys.argv) > 2 else None
BENCH = os.path.join(os.path.abspath(sys.argv.pop(2)), "tests", "bench") if len(sys.argv) > 2 else None
FAILED, USAGE = 1, 2
if BENCH:
    sys.path.insert(0, BENCH)


def run(*command, status=0):
    """(stdout, stderr)"""
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
        text=True,
    )
    check(done.returncode == status, "%r: status %d, expected %d: %s%s", command, done.returncode, status, done.stdout,
          done.stderr)
    return done.stdout, done.stderr


def program(name):
    path = os.path.join(BUILD, "tests", "bench", name)
    if not os.access(path, os.X_OK):
        raise Skipped("%s was not built" % name)
    return path


def script(name, *options, status=0):
    return run("/usr/bin/python3", os.path.join(BENCH, name), "--build", BUILD, *options, status=status)


@contextlib.contextmanager
def emptied():
    """A directory in which nothing may be left."""
    with directory() as place:
        yield place
        same(os.listdir(place), [], "what is left behind")


def sane(result):
    """Of one measurement."""
    check(result["requests"] > 0 and result.get("errors", 0) == 0, "requests, errors: %r", result)
    rate = result["requests"] / result["seconds"]
    check(abs(result["requests_per_second"] - rate) < 1e-3 * rate + 0.1, "the rate is %f: %r", rate, result)
    check(0 < result["p50_us"] <= result["p99_us"] <= result["p999_us"] <= result["max_us"], "latencies: %r", result)


# ---- compare ----


def compare(place, *options, status=0):
    return script("compare", "--dir", place, "--seconds", 0.1, "--warmup", 0, *options, status=status)


def ordered(middle):
    check(0 < middle["least"] <= middle["median"] <= middle["greatest"], "least, median, greatest: %r", middle)


def test_rows():
    with emptied() as place:
        out, _ = compare(place, "--rows", "strict-async,shards-16,disk-64", "--rounds", 2, "--json", "-")
        found = json.loads(out)
        same([row["name"] for row in found["rows"]], ["strict-async", "shards-16", "disk-64"], "rows")
        same((found["skipped"], found["rounds"]), ([], 2), "skipped, rounds")
        for row in found["rows"]:
            for key in ("ours", "theirs", "ratio"):
                ordered(row[key])
        same([(row["floor"], row["aim"]) for row in found["rows"]], [(0.5, 0.8), (0.7, 1.0), (None, None)], "wanted")
        # Six measurements, none of them twice, the second round in reverse.
        systems = [(result["system"], result["shards"], result["round"]) for result in found["results"]]
        first = [("strict", 0), ("async", 0), ("strict", 16), ("strict", 1), ("strict", 0), ("disk", 0)]
        expected = [(*one, 0) for one in first] + [(*one, 1) for one in reversed(first)]
        same(systems, expected, "what was measured")
        for result in found["results"]:
            if result["system"] != "disk":
                sane(result)
                check(result["server_cpu_us_per_request"] >= 0 and result["sent"] >= result["requests"], "%r", result)
        shards = [result for result in found["results"] if result["shards"]]
        same({(result["streams"], result["by_key"]) for result in shards}, {(1024, True)}, "keys")
        for result in found["results"][:5]:
            same(result["sync_mode"], result["system"], "sync_mode")
            same(result["shard_count"], result["shards"] or 4, "shards")
        # The ratios are those of the results.
        deep = [result for result in found["results"] if result["load"]["pipeline"] == 16]
        rates = [[result["requests_per_second"] for result in deep if result["system"] == system]
                 for system in ("strict", "async")]
        ratios, ratio = [ours / theirs for ours, theirs in zip(*rates)], found["rows"][0]["ratio"]
        same((ratio["least"], ratio["greatest"]), (min(ratios), max(ratios)), "ratio")


def test_table():
    with emptied() as place:
        out, _ = compare(place, "--rows", "strict-async", "--rounds", 1)
        line = [line for line in out.splitlines() if line.startswith("strict-async ")]
        check(len(line) == 1 and " 0.5 " in line[0] and " 0.8 " in line[0], "the row: %s", out)
        check("ironwald async" in out and "p50 / p99" in out, "the table: %s", out)
        out, _ = compare(place, "--only", "ironwald", "--connections", 2, "--pipeline", "1,3", "--rounds", 1)
        check("\n2 x 1 " in out and "\n2 x 3 " in out, "the grid: %s", out)


def test_what_is_missing_is_said():
    with emptied() as place:
        options = ["--redis", "/nonexistent/redis-server", "--postgres", "/nonexistent"]
        out, _ = compare(place, "--rows", "strict-1,postgres-1,disk-1", "--rounds", 1, "--json", "-", *options)
        found = json.loads(out)
        same([row["name"] for row in found["rows"]], ["disk-1"], "rows")
        same([row["row"] for row in found["skipped"]], ["strict-1", "postgres-1"], "skipped")
        check("redis-server" in found["skipped"][0]["why"] and "PostgreSQL" in found["skipped"][1]["why"], "%r",
              found["skipped"])
        out, _ = compare(place, "--rows", "strict-1", "--rounds", 1, *options)
        check("strict-1 is left out: /nonexistent/redis-server" in out, "the table: %s", out)
        _, err = compare(place, "--rounds", 1, *options, status=FAILED)
        check("/nonexistent/redis-server is not installed" in err, "a grid: %s", err)
        _, err = compare(place, "--rows", "strict-1,strict-2", status=USAGE)
        check("no row strict-2" in err, "%s", err)


def test_rows_against_others():
    """Each row that is left out is one whose other side is not installed."""
    with emptied() as place:
        os.chmod(place, 0o711)  # PostgreSQL is run by another user, if we are root
        options = ["--rounds", 1, "--transport", "unix", "--json", "-"]
        out, _ = compare(place, "--rows", "strict-1,postgres-1,sqlite-1", *options)
        found = json.loads(out)
        if not found["rows"]:
            raise Skipped("; ".join(row["why"] for row in found["skipped"]))
        for row in found["rows"]:
            for key in ("ours", "theirs", "ratio"):
                ordered(row[key])
        same(len(found["rows"]) + len(found["skipped"]), 3, "rows")


# The first time it says no rate, then it does, and in the second round it fails.
PGBENCH = """#!/bin/sh
echo >>%s
case $(wc -l <%s) in
1) echo 'number of transactions actually processed: 0' ;;
2) printf 'latency average = 2.5 ms\\ntps = 400.5 (without initial connection time)\\n' ;;
*) echo 'it broke'; exit 1 ;;
esac
"""


def test_what_is_whole_is_told_after_a_failure():
    with directory() as place, emptied() as work:
        os.chmod(work, 0o711)
        os.chmod(place, 0o755)
        calls = os.path.join(place, "calls")
        scripts = {"pgbench": PGBENCH % (calls, calls), "initdb": "#!/bin/sh\n", "psql": "#!/bin/sh\n",
                   "postgres": "#!/bin/sh\nexec sleep 1000\n"}
        for name, text in scripts.items():
            with open(os.path.join(place, name), "w") as file:
                file.write(text)
            os.chmod(file.name, 0o755)
        with open(calls, "w"):
            os.chmod(calls, 0o666)
        options = ["--rows", "postgres-1", "--rounds", 3, "--postgres", place, "--transport", "unix", "--json", "-"]
        out, err = compare(work, *options, status=FAILED)
        found = json.loads(out)
        same((found["rounds"], len(found["results"])), (1, 2), "rounds, results")
        same(found["rows"][0]["theirs"]["median"], 400.5, "what pgbench said")
        check("after 1 of 3 rounds: " in err and "it broke" in err, "%s", err)
        _, err = compare(work, *options, status=FAILED)
        check("rounds" not in err and "it broke" in err, "without a round: %s", err)


def test_ratios_and_goals():
    """Made-up results, so that what is right is known."""
    from compare_rows import ROWS, evaluate, in_order

    def evaluated(name, ours, theirs):
        row = ROWS[name]
        return evaluate(row, [{row.ours: {row.figure: a}, row.theirs: {row.figure: b}} for a, b in zip(ours, theirs)])

    row = evaluated("strict-1", [100, 300, 200], [100, 100, 100])
    same((row["ratio"], row["reached"]), ({"median": 2, "least": 1, "greatest": 3}, "aim"), "ratio of each round")
    # The median of the ratios, not the ratio of the medians.
    same(evaluated("strict-1", [10, 20, 90], [10, 100, 90])["ratio"]["median"], 1, "ratio of neighbours")
    for name, ratio, reached in [
        ("strict-64x16", 2.4, "below"), ("strict-64x16", 2.5, "floor"), ("strict-64x16", 4, "aim"),
        ("p99-64", 1.1, "below"), ("p99-64", 1.0, "floor"), ("p99-64", 0.7, "aim"),
        ("cpu-64x16", 0.61, "below"), ("cpu-64x16", 0.3, "aim"), ("disk-1", 0.1, None),
    ]:
        same(evaluated(name, [ratio], [1])["reached"], reached, "%s at %g" % (name, ratio))
    for name, row in ROWS.items():
        same((name, row.floor is None), (row.name, row.aim is None), "a row's name; floor and aim")
    measurements = in_order(list(ROWS.values()))
    same(len(measurements), len(set(measurements)), "measurements")
    for row in ROWS.values():
        apart = abs(measurements.index(row.ours) - measurements.index(row.theirs))
        check(0 < apart <= 4, "%s is measured %d apart", row.name, apart)


# ---- load, as compare uses it ----


def load(daemon, *options, status=0):
    out, err = run(program("load"), "--tcp", "%s:%d" % daemon.tcp, "--json", "--warmup", 0, *options, status=status)
    return json.loads(out) if out else err


def test_entries_of_an_earlier_run():
    with directory() as place, Daemon(place) as daemon:
        same(load(daemon, "--mode", "iter", "--prefill", 1000, "--count", 1)["errors"], 0, "errors")
        with daemon.client() as client:
            same(client.stream_info("bench-000000")["end"], 1000, "entries")
            for mode, batch, entries in (("get", 1, 500), ("iter", 100, 50000)):
                result = load(daemon, "--mode", mode, "--prefilled", 1000, "--count", 500, "--duration", 60,
                              "--batch", batch)
                sane(result)
                same((result["requests"], result["entries"]), (500, entries), mode)
            same(client.stream_info("bench-000000")["end"], 1000, "entries, as before")
        result = load(daemon, "--mode", "get", "--prefilled", 100000, "--count", 500, "--duration", 60, status=FAILED)
        check(result["errors"] > 0, "what is not there was read: %r", result)
        check("--prefilled is for" in load(daemon, "--prefilled", 10, status=USAGE), "appends do not read")


def test_tokens_and_tls():
    """By the load itself, and as rows of compare, which make their own."""
    with directory() as place:
        certificates = Certificates(place)
        tokens, token = os.path.join(place, "tokens"), os.path.join(place, "token")
        with open(tokens, "w") as lines, open(token, "w") as own:
            own.write("x" * 40 + "\n")
            lines.write("sha256:%s bench append *\n" % hashlib.sha256(b"x" * 40).hexdigest())
        with Daemon(place, "--token-file=" + tokens, *certificates.options()) as daemon:
            ca, shown = ["--tls-ca", certificates.path("ca")], ["--token-file", token]
            sane(load(daemon, *ca, *shown, "--count", 50, "--pipeline", 5, "--duration", 60))
            check("token" in load(daemon, *ca, "--count", 1, status=FAILED), "it is asked for a token")
            check("certificate" in load(daemon, "--tls-ca", certificates.path("other"), *shown, "--count", 1, status=FAILED),
                  "whose certificate it is")
            load(daemon, *shown, "--count", 1, status=FAILED)
            load(daemon, *ca, "--token-file", "/none", status=USAGE)
            load(daemon, *ca, "--redis", status=USAGE)
    with emptied() as place:
        out, _ = script("compare", "--rows", "token-1,tls-1,tls-token-1", "--rounds", 1, "--seconds", 0.05, "--warmup", 0,
                        "--dir", place, "--json", "-")
        found = json.loads(out)
        same([row["name"] for row in found["rows"]], ["token-1", "tls-1", "tls-token-1"], "rows")
        same(len(found["results"]), 4, "each measured once")


# ---- the engine without sockets ----


def engine(root, *options, status=0):
    out, err = run(program("engine"), "--root-path", root, "--json", "--duration", 0.2, "--warmup", 0.05, *options,
                   status=status)
    return json.loads(out) if out else err


def stream_entries(place, root, name):
    """What the daemon finds in what the engine left."""
    with Daemon(place, root=root) as daemon, daemon.client() as client:
        return [entry for _, entry in client.scan(name)]


def syncs_of(result):
    return result["file_syncs"] + result["journal_syncs"]


def worked(result):
    check((result["groups"] > 0) and result["group_requests"]["mean"] >= 1, "groups: %r", result)
    check(result["group_requests"]["p50"] <= result["group_requests"]["p99"], "group sizes: %r", result)
    check(result["cpu_us_per_request"] > 0 and 0 < result["loop_cpu"] <= 1.1, "CPU: %r", result)


def test_engine_appends():
    with directory() as place:
        root = os.path.join(place, "engine")
        result = engine(root, "--clients", 2, "--depth", 50, "--payload", 33, "--batch", 2)
        sane(result)
        worked(result)
        check(0 < syncs_of(result) <= result["groups"] + 2, "syncs: %r", result)
        same((result["entries"], result["sync_mode"]), (2 * result["requests"], "strict"), "entries, sync_mode")
        # What waits during a sync is the next group: two of them are all that is in flight.
        check(result["group_requests"]["mean"] <= 100 and result["group_requests"]["p99"] >= 31, "groups: %r", result)
        check(result["appended"] > result["entries"], "the warmup is not counted: %r", result)
        entries = stream_entries(place, root, "bench-000000")
        same((len(entries), {len(entry) for entry in entries}), (result["appended"], {33}), "entries, lengths")
        # What was there stays, and entries differ; the groups are those of the measurement.
        more = engine(root)
        check(more["groups"] <= more["requests"] + 2, "more groups than requests one by one: %r", more)
        same(len(stream_entries(place, root, "bench-000000")), result["appended"] + more["appended"], "entries")
        check(len(set(entries)) > len(entries) / 2, "entries that differ: %d of %d", len(set(entries)), len(entries))


def test_engine_modes():
    with directory() as place:
        root = os.path.join(place, "engine")
        result = engine(root, "--sync-mode", "async", "--clients", 8, "--streams", 20)
        sane(result)
        worked(result)
        with Daemon(place, root=root) as daemon, daemon.client() as client:
            streams = list(client.streams("bench-"))
            same(streams, ["bench-%06d" % i for i in range(20)], "streams")
            ends = [client.stream_info(name)["end"] for name in streams]
            same(sum(ends), result["appended"], "entries")
            check(max(ends) < sum(ends) / 2, "they go to all streams: %r", ends)
        root = os.path.join(place, "shards")
        result = engine(root, "--shards", 3, "--depth", 10)
        worked(result)
        same((result["by_shard"], result["streams"]), (True, 3), "by_shard, streams")
        with Daemon(place, "--shard-count=3", root=root) as daemon, daemon.client() as client:
            same(sum(client.stream_info("shard_%02d" % i)["end"] for i in range(3)), result["appended"], "entries")


def test_engine_async():
    """One sync of the stream a second, however long this takes."""
    with directory() as place:
        began = time.monotonic()
        result = engine(os.path.join(place, "engine"), "--sync-mode", "async")
        most = time.monotonic() - began + 2
        check(syncs_of(result) <= most < result["groups"], "%d syncs, at most %f: %r", syncs_of(result), most, result)


def test_engine_reads():
    with directory() as place:
        for op, batch in (("get", 1), ("iter", 70)):
            result = engine(os.path.join(place, op), "--op", op, "--batch", batch, "--prefill", 1500, "--streams", 3)
            sane(result)
            same((result["appended"], result["entries"]), (6000, batch * result["requests"]), "appended, entries")


def test_engine_usage():
    with directory() as place:
        root = os.path.join(place, "engine")
        for options, said in ((["--clients", 0], "from 1 to"), (["--sync-mode", "lazy"], "strict, batch_only or async"),
                              (["--op", "put"], "append, get or iter"),
                              (["--batch", 2, "--op", "get"], "--batch is for"),
                              (["--clients", 1000000, "--depth", 2], "--clients times --depth"),
                              (["--payload", 8000000, "--depth", 200], "1 GiB"), (["word"], "what is this")):
            check(said in engine(root, *options, status=USAGE), "%r", options)
        check(not os.path.exists(root), "made before all was known")
        _, err = run(program("engine"), status=USAGE)
        check("--root-path is needed" in err, "%r", err)
        with open(root, "w"):
            pass
        check(root in engine(root, status=FAILED), "a file in the way")
        out, _ = run(program("engine"), "--root-path", os.path.join(place, "lines"), "--duration", 0.05)
        check(out.startswith("engine strict append: 1 clients x 1") and " groups/s" in out, "%s", out)


# ---- starts and neighbours ----


def test_starts():
    with emptied() as place:
        options = ["--dir", place, "--rounds", 1, "--entries", 1000, "--many-entries", 5000, "--streams", 30]
        out, _ = script("starts", *options, "--json")
        found = json.loads(out)
        for key in ("start_s", "many_start_s", "streams_start_s", "streams_clean_start_s", "many_ratio"):
            ordered(found[key])
        same((found["entries"], found["many_entries"], found["streams"]), (1000, 5000, 30), "sizes")
        check(found["empty_rss_bytes"] > 100000, "memory: %r", found)
        out, _ = script("starts", *options)
        check("start after SIGKILL, 5000 entries" in out and "under 1024 B" in out, "the table: %s", out)


def test_neighbours():
    with emptied() as place:
        options = ["--dir", place, "--rounds", 1, "--seconds", 0.2, "--data-bytes", 20000000, "--silent", 2]
        table = json.loads(script("neighbours", *options, "--json")[0])
        same([row["kind"] for row in table],
             ["alone", "silent", "warm scan", "cold scan", "disk alone", "disk, files read"], "rows")
        for row in table:
            check(0 < row["p50_us"] <= row["p99_us"] and row["requests_per_second"] > 0, "%r", row)
            ordered(row["p99_ratio"])
        same([table[i]["p99_ratio"]["median"] for i in (0, 4)], [1, 1], "ratio to itself")
        out, _ = script("neighbours", *options)
        check("\nsilent " in out and "disk MiB/s" in out, "the table: %s", out)


# ---- programs that need no server ----


def test_disk():
    with emptied() as place:
        for size in (1, 100, 70000):
            out, _ = run(program("disk"), "--dir", place, "--bytes", size, "--duration", 0.1, "--warmup", 0, "--json")
            result = json.loads(out)
            sane(result)
            same((result["target"], result["payload_bytes"]), ("disk", size), "target, bytes")
            longest = 0.1 + result["max_us"] / 1e6
            check(0.1 <= result["seconds"] <= longest * 1.02 + 0.001, "more was counted than was measured: %r", result)
        out, _ = run(program("disk"), "--dir", place, "--duration", 0.05)
        check(out.startswith("disk: 100 B: "), "%r", out)
        usage(program("disk"), place)


def test_sqlite():
    with emptied() as place:
        out, _ = run(program("sqlite_load"), "--dir", place, "--duration", 0.1, "--json")
        sane(json.loads(out))
        usage(program("sqlite_load"), place)


def usage(path, place):
    for options, said in ((["--bytes", "0"], "from 1 to"), (["--duration", "nan"], "seconds from"),
                          ([], "--dir is needed"), (["--dir", place, "word"], "what is this"), (["--nonsense"], "--help tells")):
        out, err = run(path, *options, status=USAGE)
        check(out == "" and said in err, "%r: %r %r", options, out, err)
    out, _ = run(path, "--help")
    check("--duration" in out, "help: %r", out)


harness.main(harness.cases_of(globals()))
