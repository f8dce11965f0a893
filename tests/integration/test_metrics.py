#!/usr/bin/python3
"""The listener for metrics and health: what its pages say is true, and nobody who visits it harms the daemon.

test_metrics.py IRONWALD [CASE...]
"""

import collections
import contextlib
import math
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import harness
from harness import (OPEN_ADDRESS, Daemon, Failed, Skipped, Stalls, cases_of, check, directory, error_of, eventually,
                     in_private_network, main, refused, same)
from ironwal_client import ConnectionLost

RULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "conf", "ironwald.rules.yml")

# As server/net/metrics.h has them.
VISITORS_MAX, VISIT_S = 16, 10

Answer = collections.namedtuple("Answer", "status headers body")


class Watched(Daemon):
    """A daemon with listen_metrics."""

    def __init__(self, place, *options, listen="127.0.0.1:0", **how):
        super().__init__(place, "--listen-metrics=" + listen, *options, ready=False, **how)
        line = self.process.stdout.readline()
        if line != "ready\n":
            self.wait()
            if "built without libmicrohttpd" in self.stderr():
                raise Skipped("ironwald was built without libmicrohttpd")
            raise Failed("the daemon is not ready: %r: %s" % (line, self.stderr()))
        found = re.search(r"listening on tcp (\S+):(\d+) \(listen_metrics\)$", self.stderr(), re.M)
        self.metrics = (found.group(1).replace("0.0.0.0", OPEN_ADDRESS), int(found.group(2)))

    def visit(self, receive_bytes=None):
        visitor = socket.socket()
        if receive_bytes:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        visitor.settimeout(harness.DEADLINE_S)
        visitor.connect(self.metrics)
        return visitor

    def ask(self, request, half_close=False):
        """Sends these bytes, and returns all that comes until the end."""
        with self.visit() as visitor:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # of more than it read
                visitor.sendall(request)
            if half_close:
                with contextlib.suppress(OSError):  # it has answered and gone already
                    visitor.shutdown(socket.SHUT_WR)
            return received(visitor)

    def get(self, page, method="GET"):
        return answer_of(self.ask(b"%s %s HTTP/1.1\r\nHost: test\r\n\r\n" % (method.encode(), page.encode())))

    def values(self):
        answer = self.get("/metrics")
        same(answer.status, 200, "/metrics")
        return parsed(answer.body)

    def becomes(self, what, **wanted):
        """A page is good for some milliseconds, so it is asked for again until it shows these values, which it then returns."""
        seen = {}

        def there():
            seen.clear()
            seen.update(self.values())
            return all(total(seen, name) == value for name, value in wanted.items())

        try:
            eventually(there, what)
        except Failed as failed:
            raise Failed("%s: %s" % (failed, {name: total(seen, name) for name in wanted}))
        return dict(seen)


def received(visitor):
    data = b""
    try:
        while True:
            more = visitor.recv(1 << 20)
            if not more:
                return data
            data += more
    except ConnectionResetError:
        return data  # it was sent more than it read


def answer_of(data):
    """One answer, whole, and nothing behind it."""
    head, end, body = data.partition(b"\r\n\r\n")
    check(end, "an answer: %r", data[:200])
    first, *lines = head.decode().split("\r\n")
    found = re.fullmatch(r"HTTP/1\.[01] (\d{3}) [ -~]+", first)
    check(found, "a status line: %r", first)
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Answer(int(found.group(1)), headers, body.decode())


NAME = r"(?:ironwald|process)_[a-z_]+"
LABELS = r"\{(?:[a-z_]+=\"[^\"\\\n]*\",?)+\}"
NUMBER = r"[0-9]+(?:\.[0-9]+)?"


def parsed(text):
    """{(name, labels): value} of a page that is as it has to be; families in `parsed.types`."""
    check(text.endswith("\n"), "whole lines")
    values, types, family = {}, {}, None
    lines = iter(text.splitlines())
    for line in lines:
        found = re.fullmatch(r"# HELP (%s) (\S.*)" % NAME, line)
        if found:
            kind = re.fullmatch(r"# TYPE %s (counter|gauge|histogram)" % found.group(1), next(lines))
            check(kind, "TYPE behind %r", line)
            family = found.group(1)
            check(family not in types, "%s comes once", family)
            types[family] = kind.group(1)
            same(family.endswith("_total"), types[family] == "counter", "_total is of counters: %s" % family)
            check(not re.search(r"_(ms|us|ns|milliseconds|microseconds|kb|count|sum|bucket)(_total)?$", family), "%s", family)
            continue
        found = re.fullmatch(r"(%s)(%s)? (%s)" % (NAME, LABELS, NUMBER), line)
        check(found, "a line: %r", line)
        suffix = r"(_bucket|_sum|_count)" if types[family] == "histogram" else ""
        check(re.fullmatch(family + suffix, found.group(1)), "%r stands in the family %s", line, family)
        key = (found.group(1), found.group(2) or "")
        check(key not in values, "%r comes once", line)
        values[key] = float(found.group(3))
    for name, kind in types.items():
        if kind == "histogram":
            check_histogram(values, name)
    parsed.types = types
    return values


def check_histogram(values, name):
    series = collections.defaultdict(list)
    for (sample, labels), value in values.items():
        if sample == name + "_bucket":
            bound = re.search(r'le="([^"]+)"', labels).group(1)
            series[re.sub(r',?le="[^"]+"', "", labels).replace("{}", "")].append((float(bound), value))
    check(series, "buckets of %s", name)
    for labels, buckets in series.items():
        same(buckets, sorted(buckets), "buckets of %s%s rise" % (name, labels))
        same(buckets[-1], (math.inf, values[name + "_count", labels]), "count of %s%s" % (name, labels))
        check((values[name + "_sum", labels] > 0) <= (buckets[-1][1] > 0), "sum of %s%s", name, labels)


def total(values, name):
    """`name`, summed over its labels, or `name{labels}`."""
    name, brace, labels = name.partition("{")
    found = [value for (sample, has), value in values.items() if sample == name and (not brace or has == "{" + labels)]
    check(found, "there is %s", name + brace + labels)
    return sum(found)


@contextlib.contextmanager
def watched(*options, **how):
    with directory() as place, Watched(place, *options, **how) as daemon:
        yield daemon


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_promtool_has_no_complaint():
    promtool = shutil.which("promtool")
    with watched() as daemon, daemon.client() as client:
        client.append("s", b"x")
        for what, text in (("metrics", daemon.get("/metrics").body), ("rules", None)):
            if promtool is None:
                raise Skipped("promtool (prometheus) is not installed")
            done = subprocess.run([promtool, "check", what] + ([] if text else [RULES]), input=text, capture_output=True,
                                  text=True, timeout=harness.DEADLINE_S)
            same((done.returncode, done.stderr), (0, ""), "promtool check %s: %s" % (what, done.stdout))
        daemon.stopped_well(client)


def test_alerts_are_about_what_there_is():
    with open(RULES) as file:
        names = set(re.findall(r"\bironwald_[a-z_]+", "\n".join(re.findall(r"expr: (.*)", file.read()))))
    check(len(names) > 5, "they are found: %s", names)
    with watched() as daemon:
        there = {name for name, _ in daemon.values()}
        check(names <= there, "%s", names - there)


def test_work_is_counted():
    with watched() as daemon, daemon.client() as client:
        before = daemon.values()
        same(total(before, "ironwald_appends_total"), 0, "nothing yet")
        for number in range(25):
            client.append("stream %d" % (number % 3), b"." * 100)
        client.append_batch("batch", [b"12345"] * 40)
        for _ in range(7):
            client.get("batch", 3)
        for _ in range(3):
            error_of("StreamNotFound", client.get, "none", 0)
        error_of("Conflict", client.append, "batch", b"", expected_id=7)
        error_of("BadRequest", client.call, "append", stream="batch")
        error_of("UnknownMethod", client.call, "no_such_method")
        client.create_checkpoint(b"one")
        values = daemon.becomes("the appends", ironwald_appends_total=26, ironwald_checkpoints=1, ironwald_connections=1,
                                **{'ironwald_request_seconds_count{method="create_checkpoint"}': 1})
        for name, wanted in (
            ("ironwald_batches_total", 1), ("ironwald_entries_total", 65), ("ironwald_entry_bytes_total", 25 * 100 + 40 * 5),
            ("ironwald_conflicts_total", 1), ("ironwald_streams", 4), ("ironwald_segments", 4),
            ("ironwald_connections_accepted_total", 1), ("ironwald_connections_max", 1024),
            ('ironwald_request_seconds_count{method="append"}', 27),
            ('ironwald_request_seconds_count{method="append_batch"}', 1),
            ('ironwald_request_seconds_count{method="get"}', 10), ('ironwald_request_seconds_count{method="hello"}', 1),
            ('ironwald_request_seconds_count{method="unknown"}', 1), ('ironwald_request_seconds_count{method="iter"}', 0),
            ('ironwald_request_errors_total{method="get"}', 3), ('ironwald_request_errors_total{method="append"}', 2),
            ('ironwald_errors_total{code="StreamNotFound"}', 3), ('ironwald_errors_total{code="Conflict"}', 1),
            ('ironwald_errors_total{code="BadRequest"}', 1), ('ironwald_errors_total{code="UnknownMethod"}', 1),
            ('ironwald_errors_total{code="Busy"}', 0), ("ironwald_errors_total", 6), ("ironwald_inflight_bytes", 0),
            ("ironwald_writer_queue_depth", 0), ('ironwald_shards{state="writable"}', 4),
            ('ironwald_shards{state="refusing_writes"}', 0), ("ironwald_ready", 1), ("ironwald_alive", 1),
            ("ironwald_recovery_clean_start", 0), ("ironwald_checkpoints_created_total", 1),
            ("ironwald_entries_read_total", 7), ("ironwald_read_bytes_total", 35),
        ):
            same(total(values, name), wanted, name)
        # A group holds one request or more.
        groups = total(values, "ironwald_groups_total")
        same(total(values, "ironwald_group_requests_count"), groups, "groups")
        check(total(values, "ironwald_group_requests_sum") >= 27 >= groups > 0, "requests of %d groups", groups)
        check(total(values, "ironwald_queue_seconds_count") >= 27, "time of each write")
        same(total(values, "ironwald_sync_seconds_count"), total(values, "ironwald_syncs_total"), "each sync has its time")
        check(total(values, "ironwald_sync_seconds_sum") > 0, "and their time")
        check(total(values, "ironwald_segment_bytes") >= 2700, "bytes of the segments")
        check(total(values, "ironwald_received_bytes_total") > 2700, "bytes that came")
        same({name for name, _ in before}, {name for name, _ in values}, "all names are there from the beginning on")
        same(set(before), set(values), "and all labels")
        daemon.stopped_well(client)


def test_it_says_what_stats_says():
    """Each number of the one is in the other, but for what moves by itself."""
    renamed = {
        "server.uptime_seconds": None, "server.shard_count": "shards", "health.disk_waits_now": "disk_waiting_threads",
        "health.disk_waits_us": "disk_wait_seconds_total", "connections.current": "connections",
        "connections.timeouts": "connection_timeouts_total", "connections.max": "connections_max",
        "connections.max_inflight_bytes_total": "inflight_max_bytes", "connections.accepted": "connections_accepted_total",
        "connections.refused": "connections_refused_total", "connections.received_bytes": None, "connections.sent_bytes": None,
        "connections.inflight_bytes": None, "connections.receive_buffer_bytes": None,
        "connections.reads_on_loop": 'reads_total{where="loop"}', "connections.reads_in_pool": 'reads_total{where="pool"}',
        "connections.pool_reads_now": "pool_reads", "engine.writers": None, "engine.disk_total_bytes": "disk_size_bytes",
        "engine.disk_free_bytes": None, "recovery.duration_us": "recovery_duration_seconds", "checkpoints.count": "checkpoints",
        "checkpoints.damage_found": "checkpoint_damage_found_total", "checkpoints.failed": "checkpoint_log_failed",
        "checkpoints.groups": "checkpoint_groups_total", "checkpoints.compactions": "checkpoint_compactions_total",
        "checkpoints.records": "checkpoint_records", "checkpoints.log_bytes": "checkpoint_log_bytes",
        "checkpoints.created": "checkpoints_created_total", "checkpoints.loaded": "checkpoints_loaded_total",
        "writers.writer": None, "writers.failed": "writer_failed", "writers.queue_depth": "writer_queue_depth",
        "writers.held_bytes": "writer_held_bytes", "writers.shards": None,
        "writers.failed_shards": 'shards{state="refusing_writes"}',
        "writers.syncs_asked": "sync_requests_total", "writers.rotations": "segment_rotations_total",
        "writers.file_syncs": 'syncs_total{kind="file"}', "writers.dir_syncs": 'syncs_total{kind="directory"}',
        "writers.journal_syncs": 'syncs_total{kind="journal"}',
    }
    with watched() as daemon, daemon.client() as client:
        for number in range(10):
            client.append("s%d" % number, b"12345")
        client.iter("s1")
        client.sync()
        client.create_checkpoint(b"c")
        client.load_checkpoint(b"c")
        client.truncate("s1", 1)
        error_of("StreamNotFound", client.get, "none", 0)
        told = {}
        stats = client.stats()
        for section in ("server", "health", "connections", "access", "engine", "checkpoints"):
            told.update({"%s.%s" % (section, key): value for key, value in stats[section].items()})
        told.update({"recovery." + key: value for key, value in stats["recovery"].items()})
        for writer in stats["writers"]:
            for key, value in writer.items():
                if isinstance(value, int):
                    told["writers." + key] = told.get("writers." + key, 0) + value
                elif isinstance(value, dict):
                    told["writers.%s.count" % key] = told.get("writers.%s.count" % key, 0) + value["count"]
        told = {key: value for key, value in told.items() if isinstance(value, int)}
        values = daemon.becomes("stats was counted", **{'ironwald_request_seconds_count{method="stats"}': 1})
        summed = collections.defaultdict(float)
        for (name, labels), value in values.items():
            summed[name] += value
            summed[name + re.sub(r'writer="\d+",?', "", labels)] += value if labels else 0
        compared = 0
        for key, value in sorted(told.items()):
            name = key.split(".", 1)[1]
            name = {"writers.group_requests.count": "group_requests_count", "writers.sync_us.count": "sync_seconds_count",
                    "writers.queue_us.count": "queue_seconds_count"}.get(key, name)
            if key.startswith("recovery.") and key not in renamed:
                name = "recovery_" + name
            name = renamed.get(key, name)
            if name is None:
                continue
            name = "ironwald_" + name
            if name not in summed:
                name += "_total"
            check(name in summed, "%s of stats is in /metrics", key)
            shown = summed[name] * (1e6 if key.endswith("_us") else 1)
            check(abs(shown - value) < 1, "%s: stats says %s, %s says %s", key, value, name, shown)
            compared += 1
        check(compared > 60, "%d were compared", compared)
        for code, count in stats["errors"].items():
            same(total(values, 'ironwald_errors_total{code="%s"}' % code), count, code)
        for method, row in stats["requests"].items():
            same(total(values, 'ironwald_request_seconds_count{method="%s"}' % method), row["count"], method)
    return "%d numbers" % compared


def test_refusals_of_connections():
    with watched("--max-connections=2") as daemon:
        with daemon.client() as client, daemon.client():
            try:
                with daemon.client() as third:
                    error_of("Busy", third.ping)
            except (harness.ServerError, ConnectionLost):
                pass
            client.ping()
            daemon.becomes("it was refused", ironwald_connections_refused_total=1, ironwald_connections=2,
                           **{'ironwald_errors_total{code="Busy"}': 1})


def test_a_process_has_what_the_system_says():
    with watched() as daemon:
        values = daemon.values()
        check(abs(total(values, "process_start_time_seconds") - time.time()) < harness.DEADLINE_S, "it began now")
        check(0 < total(values, "process_cpu_seconds_total") < harness.DEADLINE_S, "processor time")
        check(abs(total(values, "process_resident_memory_bytes") - daemon.rss_bytes()) < 64 << 20, "memory")
        limit = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)[0]
        same(total(values, "process_max_fds"), limit, "the limit of files")
        # The connection that asks is one of them.
        eventually(lambda: total(daemon.values(), "process_open_fds") == daemon.descriptors_count() + 1, "open files")
        space = os.statvfs(daemon.root)
        same(total(values, "ironwald_disk_size_bytes"), space.f_blocks * space.f_frsize, "the disk")
        eventually(lambda: total(daemon.values(), "ironwald_uptime_seconds") > total(values, "ironwald_uptime_seconds"), "it runs")


def test_what_recovery_found():
    with directory() as place:
        with Watched(place) as daemon, daemon.client() as client:
            for number in range(20):
                client.append("s%d" % number, b"x" * 50)
            daemon.kill()
        with Watched(place) as daemon:
            values = daemon.values()
            same(total(values, "ironwald_recovery_clean_start"), 0, "after a crash")
            same(total(values, "ironwald_recovery_streams"), 20, "streams")
            check(total(values, "ironwald_recovery_journal_records") > 0, "the journal was needed")
            check(total(values, "ironwald_recovery_duration_seconds") > 0, "it took its time")
            daemon.stopped_well()
        with Watched(place) as daemon:
            same(total(daemon.values(), "ironwald_recovery_clean_start"), 1, "after a clean stop")


def test_nobody_is_named():
    names = ("secret-stream", "secret-entry", "secret-key", "secret-checkpoint", "secret-client")
    with watched() as daemon, daemon.client() as client:
        client.call("hello", protocol=1, client=names[4])
        client.append(names[0], names[1].encode())
        client.shard_append(names[2].encode(), names[1].encode())
        client.create_checkpoint(names[3].encode())
        error_of("StreamNotFound", client.get, names[0] + "-not", 0)
        error_of("UnknownMethod", client.call, "secret-method")
        error_of("Conflict", client.append, names[0], b"", expected_id=9)
        daemon.becomes("all was counted", **{"ironwald_errors_total": 3})
        for page in ("/metrics", "/healthz", "/readyz", "/secret-page"):
            answer = daemon.get(page)
            for text in (*answer.headers.values(), answer.body):
                check("secret" not in text and daemon.root not in text, "%s: %s", page, text[:200])


# ---- health ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stalled(*options):
    with directory() as place:
        stalls = Stalls(place)
        with Watched(place, *options, tcp=False, env=dict(stalls.env, WATCHDOG_USEC="1000000")) as daemon:
            yield daemon, stalls


def page(daemon, name):
    answer = daemon.get(name)
    same(answer.headers["content-type"], "text/plain; charset=utf-8", "text")
    return answer.status, answer.body


def test_healthy():
    with watched() as daemon:
        same(page(daemon, "/healthz"), (200, "ok\n"), "/healthz")
        same(page(daemon, "/readyz"), (200, "ok\n"), "/readyz")


def test_a_slow_disk():
    with stalled("--slow-disk-after=200ms") as (daemon, stalls), daemon.client() as client:
        client.append("secret", b"x")
        before = daemon.becomes("one sync", ironwald_appends_total=1)
        with stalls.of("sync"):
            number = client.send("append", stream="secret", entry=b"y")
            client.flush()
            eventually(lambda: daemon.get("/readyz").status == 503, "it is not ready")
            status, body = page(daemon, "/readyz")
            check(re.fullmatch(r"writer-\d waits for the disk \([a-z ]+\)\n", body), "%r", body)
            same(page(daemon, "/healthz"), (200, "ok\n"), "nobody is to end it")
            values = daemon.becomes("metrics say so", ironwald_ready=0, ironwald_disk_waiting_threads=1)
            same(total(values, "ironwald_alive"), 1, "alive")
            same(total(values, "ironwald_writer_queue_depth"), 1, "its append waits")
            check(total(values, "ironwald_inflight_bytes") > 0, "and is in flight")
        client.wait(number)
        eventually(lambda: page(daemon, "/readyz") == (200, "ok\n"), "ready again")
        values = daemon.becomes("it was counted", ironwald_appends_total=2, ironwald_disk_waits_total=1, ironwald_ready=1)
        check(total(values, "ironwald_disk_wait_seconds_total") >= 0.2, "its time")
        for name in ("ironwald_sync_seconds", 'ironwald_request_seconds{method="append"}', "ironwald_queue_seconds"):
            family, brace, label = name.partition("{")
            label = label.rstrip("}") + "," if brace else ""
            fast = '%s_bucket{%sle="0.134217727"}' % (family, label)
            all_of_them = '%s_bucket{%sle="+Inf"}' % (family, label)
            check(total(values, all_of_them) - total(values, fast) > total(before, all_of_them) - total(before, fast),
                  "one of %s took longer than 0.13 s", name)
        daemon.stopped_well(client)


def test_a_disk_that_fails():
    # Two shards, of one writer or two: it depends on the cores.
    with stalled("--shard-count=2") as (daemon, stalls), daemon.client() as client:
        client.append("secret", b"x")
        with stalls.of("eio"):
            error_of("Io", client.append, "secret", b"y")
        eventually(lambda: daemon.get("/readyz").status == 503, "it is not ready")
        status, body = page(daemon, "/readyz")
        check(re.fullmatch(r"1 of the \d shards of writer-\d take no writes until a restart: see the log\n", body), "%r", body)
        same(page(daemon, "/healthz"), (200, "ok\n"), "reads go on")
        values = daemon.becomes("its shard refuses", ironwald_writer_failed=1, ironwald_ready=0,
                                **{'ironwald_shards{state="refusing_writes"}': 1, 'ironwald_shards{state="writable"}': 1,
                                   'ironwald_errors_total{code="Io"}': 1})
        check("secret" not in str(values), "no name")
        check(re.search(r"shard \d: .* failed \(EIO\)", daemon.stderr()), "the log says why: %s", daemon.stderr())


def test_a_thread_that_hangs():
    with stalled() as (daemon, stalls), daemon.client() as client:
        client.append("s", b"x")
        with stalls.of("writer"):
            number = client.send("append", stream="s", entry=b"y")
            client.flush()
            eventually(lambda: daemon.get("/healthz").status == 503, "it is not alive")
            check(re.fullmatch(r"writer-\d hangs\n", page(daemon, "/healthz")[1]), "%r", page(daemon, "/healthz"))
            check(re.fullmatch(r"writer-\d hangs\n", page(daemon, "/readyz")[1]), "%r", page(daemon, "/readyz"))
            daemon.becomes("metrics say so", ironwald_alive=0, ironwald_ready=0)
        client.wait(number)
        eventually(lambda: page(daemon, "/healthz") == (200, "ok\n"), "it is over")
        daemon.stopped_well(client)


def test_while_it_stops():
    with watched("--shutdown-timeout=60s") as daemon:
        with daemon.client() as client:
            client.ping()
            daemon.process.send_signal(signal.SIGTERM)
            eventually(lambda: daemon.get("/readyz").status == 503, "it is not ready")
            same(page(daemon, "/readyz"), (503, "it stops\n"), "/readyz")
            same(page(daemon, "/healthz"), (200, "ok\n"), "/healthz")
            daemon.becomes("metrics say so", ironwald_ready=0)
        same(daemon.wait(), 0, "it ends as asked: %s" % daemon.stderr())


# ---- visitors --------------------------------------------------------------------------------------------------------


def test_requests_that_are_not_answered_so():
    get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
    cases = (
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /../metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"GET /METRICS HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /readyz%00 HTTP/1.1\r\nHost: x\r\n\r\n", (200, 404)),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"PUT /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 405),
        (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405), (b"BREW /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (get + b"Content-Length: 1\r\n\r\nx", 413), (get + b"Content-Length: 99999999999\r\n\r\n", 413),
        (get + b"Content-Length: 18446744073709551616\r\n\r\n", (400, 413)), (get + b"Content-Length: x\r\n\r\n", (400, 413)),
        (get + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", 413),
        (get + b"X: " + b"x" * 100000 + b"\r\n\r\n", 431), (b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n", (414, 431)),
        (get + b"X: y\r\n" * 20000 + b"\r\n", 431),
        (get + b"Content-Length: 0\r\n\r\n", 200), (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics?name=x HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", 200),
        (get + b"\r\n" + get + b"\r\n", 200),  # one connection, one answer
        (get + b"Expect: 100-continue\r\n\r\n", 200), (b"GET /metrics\r\n\r\n", (200, 400, None)),
        (b"\r\n\r\n\r\n\r\n", (400, None)), (b"", None), (b"GET", None),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None), (b"\0\0\0\1\xc1" * 100, (400, None)),
    )
    with watched() as daemon, daemon.client() as client:
        before, begin = daemon.descriptors_count(), time.monotonic()
        for request, status in cases * 5:
            data = daemon.ask(request, half_close=True)
            wanted = status if isinstance(status, tuple) else (status,)
            got = answer_of(data).status if data else None
            if data:
                same(answer_of(data).headers["connection"], "close", "after %r" % request[:50])
            check(got in wanted, "%r: got %s, expected %s: %r", request[:70], got, status, data[:100])
            if got == 405:
                same(answer_of(data).headers["allow"], "GET, HEAD", "what is allowed")
        head, whole = daemon.ask(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), daemon.get("/metrics")
        same(answer_of(head).body, "", "HEAD has no body")
        check(int(answer_of(head).headers["content-length"]) > len(whole.body) // 2, "but its length")
        same(answer_of(head).headers["content-type"], "text/plain; version=0.0.4; charset=utf-8", "the type")
        eventually(lambda: daemon.descriptors_count() == before, "their descriptors are closed")
        # An end in the middle of a request, whenever it comes, is the end.
        check(time.monotonic() - begin < VISIT_S * Daemon.memory_factor(), "it took %.1f s", time.monotonic() - begin)
        same(client.ping(), {}, "clients are served")
        daemon.stopped_well(client)
    return "%d requests" % len(cases)


def cpu_s(daemon):
    with open("/proc/%d/stat" % daemon.process.pid) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_many_who_say_nothing():
    """They get no more than their places; who asks is answered meanwhile, and clients do not notice."""
    with watched() as daemon, daemon.client() as client, contextlib.ExitStack() as visitors:
        client.append("s", b"x")
        before = daemon.descriptors_count()
        many = [visitors.enter_context(daemon.visit()) for _ in range(100)]
        for number in range(100):
            client.append("s", b"x")
            check(daemon.descriptors_count() <= before + VISITORS_MAX, "descriptors: %d", daemon.descriptors_count())
        # Behind all of them in the queue: each time that places are free, some of them go.
        begin = time.monotonic()
        same(daemon.get("/healthz").status, 200, "who asks")
        waited = time.monotonic() - begin
        client.append("s", b"x")
        # Those who were let in have been ended, with nothing.
        check(sum(1 for visitor in many if ended(visitor)) >= len(many) - VISITORS_MAX, "they were ended")
        for visitor in many:
            visitor.close()
        eventually(lambda: daemon.descriptors_count() == before, "their descriptors are closed")
        daemon.stopped_well(client)
    return "answered after %.1f s" % waited


def ended(visitor):
    visitor.setblocking(False)
    try:
        return visitor.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_who_is_slow_is_ended_and_costs_nothing():
    """One says nothing, one nothing sensible, one sends a byte now and then, one reads nothing: each is gone after its time."""
    with stalled() as (daemon, stalls), stalls.of("narrow"), daemon.client() as client:
        before, begin, spent = daemon.descriptors_count(), time.monotonic(), cpu_s(daemon)
        memory = daemon.rss_bytes()
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n"
        with daemon.visit() as silent, daemon.visit() as garbage, daemon.visit() as slow, \
                daemon.visit(receive_bytes=2048) as deaf:
            deaf.sendall(request)
            garbage.sendall(b"\0\0\0\1\xc1" * 100)  # a client of the other port
            eventually(lambda: daemon.descriptors_count() == before + 4, "they are there")
            sent = 0
            while not ended(slow):
                check(time.monotonic() - begin < 3 * VISIT_S, "it is still there: %d bytes", sent)
                with contextlib.suppress(OSError):
                    sent += slow.send(request[sent:sent + 1])
                same(client.ping(), {}, "a client")
                time.sleep(0.1)  # it is slow
            check(time.monotonic() - begin > VISIT_S * 0.8, "it had its time")
            eventually(lambda: daemon.descriptors_count() == before, "all are gone: the deaf one, too")
            check(ended(silent) and ended(garbage), "those who asked for nothing")
            deaf.settimeout(harness.DEADLINE_S)
            check(len(received(deaf)) < len(daemon.get("/metrics").body), "it did not get all of it")
        spent = cpu_s(daemon) - spent
        check(spent < 1 * Daemon.memory_factor(), "processor time: %.2f s", spent)
        check(daemon.rss_bytes() - memory < (8 << 20) * Daemon.memory_factor(), "memory")
        daemon.stopped_well(client)
    return "%.2f s of processor time" % spent


def test_who_asks_without_an_end_gets_no_more_than_a_share():
    """A page is made anew for a part of the time only: appends go on."""
    with watched("--sync-mode=async") as daemon, daemon.client() as client:
        until, asked, memory = time.monotonic() + 2, 0, daemon.rss_bytes()

        def ask_all():
            """So many at once; each is answered."""
            visitors = [daemon.visit() for _ in range(VISITORS_MAX)]
            for visitor in visitors:
                visitor.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            for visitor in visitors:
                same(answer_of(received(visitor)).status, 200, "an answer")
                visitor.close()
            return len(visitors)

        while time.monotonic() < until:
            numbers = [client.send("append", stream="s", entry=b"x") for _ in range(20)]
            client.flush()
            asked += ask_all()
            for number in numbers:
                client.wait(number)
        # A sanitizer keeps some of what was freed, 256 MiB of it, and tells at the end if something was not.
        bound = 16 << 20 if Daemon.memory_factor() == 1 else 400 << 20
        check(daemon.rss_bytes() - memory < bound, "memory: %d more", daemon.rss_bytes() - memory)
        daemon.stopped_well(client)
    return "%d pages" % asked


def test_no_descriptor_is_left():
    """Who cannot be accepted waits, and is served later."""
    with watched() as daemon, daemon.client() as client:
        was = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, was[1]))
        with daemon.visit() as visitor:
            visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: "cannot accept a connection of listen_metrics" in daemon.stderr(), "it says so")
            spent, begin = cpu_s(daemon), time.monotonic()
            while time.monotonic() - begin < 1:
                same(client.ping(), {}, "clients that are there")
                time.sleep(0.02)
            check(cpu_s(daemon) - spent < 0.5, "it does not run in circles: %.2f s", cpu_s(daemon) - spent)
            resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, was)
            same(answer_of(received(visitor)).status, 200, "served at last")
        daemon.stopped_well(client)


def test_a_stop_does_not_wait_for_a_visitor():
    for number in range(5):
        with stalled() as (daemon, stalls), stalls.of("narrow"), daemon.visit(receive_bytes=2048) as deaf, daemon.visit() as silent:
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            if number > 0:
                check(deaf.recv(100).startswith(b"HTTP/1.1 200"), "it is in the middle of its page")
            begin = time.monotonic()
            daemon.stopped_well()
            check(time.monotonic() - begin < VISIT_S / 2, "it took %.1f s", time.monotonic() - begin)
            check(len(received(deaf)) < 60000 and received(silent) == b"", "they are cut off")


# ---- the configuration -----------------------------------------------------------------------------------------------


def test_none_is_the_default():
    with directory() as place, Daemon(place) as daemon:
        check("listen_metrics" not in daemon.stderr(), "no listener: %s", daemon.stderr())


def test_several_addresses():
    with watched("--listen-metrics=127.0.0.1:0,[::1]:0" if os.path.exists("/proc/net/if_inet6") else "--listen-metrics=none",
                 listen="127.0.0.1:0") as daemon:
        for host, port in re.findall(r"listening on tcp \[?([0-9.:]+?)\]?:(\d+) \(listen_metrics\)$", daemon.stderr(), re.M):
            daemon.metrics = (host, int(port))
            with socket.create_connection(daemon.metrics, harness.DEADLINE_S) as visitor:
                visitor.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                same(answer_of(received(visitor)).status, 200, "at %s" % host)


def test_an_address_that_is_taken():
    with watched() as daemon, directory() as place:
        refused(2, [r"127\.0\.0\.1:%d" % daemon.metrics[1], "in use", "another address in listen_metrics"], place,
                "--listen-metrics=127.0.0.1:%d" % daemon.metrics[1])


def test_open_addresses():
    with watched():
        pass  # there is such a listener in this build
    with directory() as place:
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
            refused(2, [re.escape(address), "not a loopback address", "insecure_allow_open_addresses"], place,
                    "--listen-metrics=" + address)
        check(not os.path.exists(os.path.join(place, "data")), "nothing was made")
    in_private_network(open_address_on_purpose)


def open_address_on_purpose():
    with watched("--insecure-allow-open-addresses=yes", listen="0.0.0.0:0") as daemon:
        same(daemon.get("/healthz").status, 200, "it is served")
        check(re.search(r"warn .*metrics at tcp 0\.0\.0\.0:\d+ are open to everyone who reaches it", daemon.stderr()), "a warning")


def test_a_reload_says_that_it_stays():
    with directory() as place:
        path = os.path.join(place, "ironwald.conf")
        open(path, "w").close()
        with Watched(place, "--log-level=info", "--config=" + path):
            pass  # there is such a listener in this build
        for text in ("127.0.0.1:0", "127.0.0.1:1"):
            with open(path, "w") as file:
                file.write("listen_metrics = %s\n" % text)
            if text == "127.0.0.1:0":
                daemon = Daemon(place, "--config=" + path)
        with daemon:
            harness.reloaded(daemon)
            check("reload: listen_metrics stays 127.0.0.1:0: it cannot change while running" in daemon.stderr(), "%s",
                  daemon.stderr())


main(cases_of(globals()))
