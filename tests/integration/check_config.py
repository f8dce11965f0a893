#!/usr/bin/python3
"""The daemon's options, refusals, exit statuses and signals, as a user meets them.

check_config.py IRONWALD SOURCE_ROOT
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import msgpack

DEADLINE_S = 60

ironwald = os.path.abspath(sys.argv[1])
source = os.path.abspath(sys.argv[2])
failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
        print("FAILED: " + what, file=sys.stderr)


def run(*options, preexec=None):
    try:
        done = subprocess.run(
            [ironwald, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            preexec_fn=preexec,
        )
    except subprocess.TimeoutExpired:
        return "none: still running", "", ""
    return done.returncode, done.stdout, done.stderr


def refused(status, pattern, *options, preexec=None):
    got, out, err = run(*options, preexec=preexec)
    check(got == status, "%s: exit status %s, not %d: %s" % (options, got, status, err))
    lines = err.splitlines()
    check(len(lines) == 1, "%s: one line on stderr: %r" % (options, err))
    check(re.search(pattern, err) is not None, "%s: %r in %r" % (options, pattern, err))
    check(out == "", "%s: nothing on stdout: %r" % (options, out))


@contextlib.contextmanager
def directory():
    path = tempfile.mkdtemp(prefix="ironwald-config-")
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Daemon:
    """Started, and ready when the constructor returns."""

    def __init__(self, *options, preexec=None, ready=True):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [ironwald, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            preexec_fn=preexec,
        )
        if ready:
            line = self.process.stdout.readline()
            check(line == "ready\n", "%s: ready on stdout, not %r: %s" % (options, line, self.stderr()))

    def stderr(self):
        self.log.seek(0)
        return self.log.read()

    def address(self):
        found = re.search(r"listening on tcp (127\.0\.0\.1):(\d+)", self.stderr())
        return (found.group(1), int(found.group(2))) if found else None

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        try:
            self.process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            check(False, "does not stop")
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.log.close()


class Client:
    """Just enough of one: a request at a time."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, DEADLINE_S)
        self.last = 0
        self.call("hello", protocol=1)

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the daemon hung up")
            data += more
        return data

    def call(self, method, **params):
        self.last += 1
        message = msgpack.packb([0, self.last, method, params])
        self.socket.sendall(struct.pack(">I", len(message)) + message)
        (length,) = struct.unpack(">I", self.read(4))
        kind, number, error, result = msgpack.unpackb(self.read(length))
        check((kind, number) == (1, self.last), "%s: an answer to it: %r" % (method, (kind, number)))
        if error is not None:
            raise RuntimeError("%s: %r" % (method, error))
        return result

    def close(self):
        self.socket.close()


def limit_files(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def reloaded_keys_of_help():
    return re.findall(r"^  --([a-z-]+)=.*\n        .*; reload\)$", run("--help")[1], re.M)


def keys_of_help():
    """{key: (syntax, default)}; the default of a required key is None."""
    status, out, err = run("--help")
    check(status == 0 and err == "", "--help")
    found = re.findall(r"^  --([a-z-]+)=(\S+)\n        .*\((?:default: (\S+?)(?:; reload)?|required)\)$", out, re.M)
    return {name.replace("-", "_"): (syntax, default or None) for name, syntax, default in found}


def test_information():
    status, out, err = run("--version")
    check(status == 0 and err == "" and re.fullmatch(r"ironwald \d+\.\d+\.\d+\n", out), "--version: %r" % out)
    keys = keys_of_help()
    check(len(keys) >= 25 and keys["sync_mode"] == ("strict|batch_only|async", "strict"), "--help: %r" % keys)
    check(keys["root_path"][1] is None, "root_path is required")


def test_sample_file():
    sample = os.path.join(source, "conf", "ironwald.conf")
    status, out, err = run("--check-config", "--config=" + sample, "--root-path=/nonexistent/x")
    check((status, out, err) == (0, "configuration ok\n", ""), "the sample as it is: %s" % err)
    with open(sample) as file:
        text = file.read()
    keys = keys_of_help()
    found = re.findall(r"^#([a-z_]+) = (.*)$", text, re.M)
    check(sorted(name for name, _ in found) == sorted(keys), "the keys of the sample are those of --help")
    with directory() as place:
        path = os.path.join(place, "all.conf")
        with open(path, "w") as file:
            file.write(re.sub(r"^#([a-z_]+ = )", r"\1", text, flags=re.M))
        status, out, err = run("--check-config", "--config=" + path)
        check((status, out, err) == (0, "configuration ok\n", ""), "the sample, all of it set: %s" % err)
    for name, value in found:
        check(keys[name][1] in (None, value), "%s: %s in the sample, %s in --help" % (name, value, keys[name][1]))


def test_manual():
    with open(os.path.join(source, "server", "ironwald.conf.5")) as file:
        text = file.read()
    keys = keys_of_help()
    items = re.findall(r"^\.It Cm ([a-z_]+) No = (.*)\n((?:(?!\.It |\.El).*\n)*)", text, re.M)
    check(sorted(name for name, _, _ in items) == sorted(keys), "ironwald.conf(5) has the keys of --help")
    reloaded = re.search(r"^Only these keys change while it runs:\n((?:\.Cm [a-z_]+ [,.]\n)+)", text, re.M).group(1)
    check(
        sorted(re.findall(r"Cm (\S+)", reloaded)) == sorted(key.replace("-", "_") for key in reloaded_keys_of_help()),
        "ironwald.conf(5) has the keys that a reload changes",
    )
    for name, syntax, prose in items:
        default = keys[name][1]
        said = re.search(r"[Tt]he default is\s+(?:\.Cm )?(\S+?)(?: \.|\.)\n", prose)
        check(
            default is None or (said is not None and said.group(1) == default),
            "ironwald.conf(5): %s: default %s" % (name, default),
        )
        words = keys[name][0].split("|")
        if words[-1].islower():
            check(syntax == "Cm " + " | ".join(words), "ironwald.conf(5): %s: values %s" % (name, words))


def test_check_config():
    with directory() as place:
        root = os.path.join(place, "data")
        status, out, err = run("--check-config", "--root-path=" + root, "--sync-mode=async")
        check((status, out, err) == (0, "configuration ok\n", ""), "--check-config: %s" % err)
        check(os.listdir(place) == [], "--check-config makes nothing")

        path = os.path.join(place, "bad.conf")
        for text, line, message in (
            ("root_path = x\n\nsync_mode = maybe\n", 3, 'sync_mode: bad value "maybe": expected strict, batch_only or async'),
            ("root_pth = x\n", 1, 'unknown key "root_pth": did you mean root_path?'),
            ("[main]\n", 1, "sections are not known here: expected key = value"),
            ("shard_count = 1\nshard_count = 1\n", 2, "shard_count: given already in line 1"),
            ("shard_count = 1 ; one\n", 1, "a comment stands on a line of its own"),
            ("#\nroot_path = /" + 200 * "x" + "\n", 2, "the line is longer than 198 bytes"),
        ):
            with open(path, "w") as file:
                file.write(text)
            for options in (("--check-config",), ()):
                refused(2, "^" + re.escape("%s:%d: " % (path, line)) + ".*" + re.escape(message), "--config=" + path, *options)
        with open(path, "w") as file:
            file.write("root_path = x\nshard_count = 3\nlisten_tcp = none\nlisten_unix = none\n")
        refused(2, "listen_tcp and listen_unix are both none", "--check-config", "--config=" + path)
        status, out, err = run("--check-config", "--config=" + path, "--listen-unix=s")
        check((status, out) == (0, "configuration ok\n"), "an option wins over the file: %s" % err)
        refused(2, "No such file", "--check-config", "--config=" + os.path.join(place, "none.conf"))


def test_usage_refusals():
    refused(2, "root_path is not given")
    refused(2, "root_path is not given", "--check-config")
    refused(2, r"unknown option \"--root\": did you mean", "--root=/x")
    refused(2, r"unknown option \"--sync-modes\": did you mean --sync-mode\?", "--sync-modes=async")
    refused(2, "--config: expected a value", "--config")
    refused(2, "unexpected argument \"x\"", "x")
    for address in ("0.0.0.0:0", "[::]:0", "10.1.2.3:7411"):
        refused(2, "not a loopback address", "--root-path=/nonexistent/x", "--listen-tcp=" + address)


def test_directory_refusals():
    with directory() as place:
        refused(1, "no-parent/data", "--root-path=" + os.path.join(place, "no-parent", "data"), "--listen-tcp=127.0.0.1:0")
        check(os.listdir(place) == [], "a parent is not made")
        path = os.path.join(place, "file")
        with open(path, "w") as file:
            file.write("x")
        refused(1, "file", "--root-path=" + path, "--listen-tcp=127.0.0.1:0")
        foreign = os.path.join(place, "foreign")
        os.mkdir(foreign)
        with open(os.path.join(foreign, "letter.txt"), "w") as file:
            file.write("dear reader")
        refused(2, "foreign", "--root-path=" + foreign, "--listen-tcp=127.0.0.1:0")
        with open(os.path.join(foreign, "letter.txt")) as file:
            check(file.read() == "dear reader", "a file that is not ours is left as it was")
        check(
            set(os.listdir(foreign)) <= {"letter.txt", "ironwald.lock"},
            "nothing but the lock comes into a directory that is not ours: %s" % os.listdir(foreign),
        )


def test_serving_and_signals():
    with directory() as place:
        root = "--root-path=" + os.path.join(place, "data")
        path = os.path.join(place, "socket")
        for number in (signal.SIGTERM, signal.SIGINT):
            with Daemon(root, "--listen-tcp=127.0.0.1:0", "--listen-unix=" + path) as daemon:
                address = daemon.address()
                check(address is not None and address[1] != 0, "port 0 is chosen and told: %s" % daemon.stderr())
                check("listening on unix " + path in daemon.stderr(), "the path is told")
                if address is not None:
                    socket.create_connection(address, DEADLINE_S).close()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                refused(2, "", root, "--listen-tcp=127.0.0.1:0")  # in use
                if address is not None:
                    other = "--root-path=" + os.path.join(place, "other")
                    refused(2, str(address[1]), other, "--log-level=error", "--listen-tcp=127.0.0.1:%d" % address[1])
                check(daemon.stop(number) == 0, "%s: status 0: %s" % (number.name, daemon.stderr()))
                check(not os.path.exists(path), "the socket file is gone")
        refused(2, "4", root, "--shard-count=5", "--listen-tcp=127.0.0.1:0", "--log-level=error")
        with Daemon(root, "--listen-tcp=127.0.0.1:0", "--log-level=error") as daemon:
            check(daemon.stop() == 0, "stops")
            check(daemon.stderr() == "", "log_level = error says nothing of a good day: %s" % daemon.stderr())
        with Daemon(root, "--listen-tcp=127.0.0.1:0", "--max-message-bytes=1") as daemon:
            check("max_message_bytes of 1 is raised to 128K" in daemon.stderr(), "raised and told: %s" % daemon.stderr())
            check(daemon.stop() == 0, "stops")


def test_early_signal():
    """A stop signal at any time from the making of the directory on ends it with 0, and the next start is a good one."""
    with directory() as place:
        for i in range(20):
            root = os.path.join(place, "data%d" % i)
            with Daemon("--root-path=" + root, "--listen-tcp=127.0.0.1:0", ready=False) as daemon:
                until = time.monotonic() + DEADLINE_S
                while not os.path.exists(root) and daemon.process.poll() is None and time.monotonic() < until:
                    pass
                # A few more system calls each time, so that the signal meets another step.
                for _ in range(i * 20):
                    os.stat(root)
                status = daemon.stop()
                check(status == 0, "stopped early (%d): status %d: %s" % (i, status, daemon.stderr()))
            with Daemon("--root-path=" + root, "--listen-tcp=127.0.0.1:0") as daemon:
                check(daemon.stop() == 0, "and started again: %s" % daemon.stderr())


def test_stop_signals_go_to_the_main_thread():
    """The others block them, so that while the dispositions change hands no signal ends the process by default."""
    with directory() as place:
        root = "--root-path=" + os.path.join(place, "data")
        with Daemon(root, "--listen-tcp=127.0.0.1:0") as daemon:
            tasks = os.listdir("/proc/%d/task" % daemon.process.pid)
            check(len(tasks) > 4, "writers and readers are there: %s" % tasks)
            for task in tasks:
                with open("/proc/%d/task/%s/status" % (daemon.process.pid, task)) as file:
                    status = file.read()
                blocked = int(re.search(r"SigBlk:\s*(\w+)", status).group(1), 16)
                stops = 1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1
                expected = 0 if int(task) == daemon.process.pid else stops
                check(blocked & stops == expected, "blocked in %s: %x" % (status.split("\n")[0], blocked))
            check(daemon.stop() == 0, "stops")


def test_descriptors():
    with directory() as place:
        root = "--root-path=" + os.path.join(place, "data")
        options = (root, "--listen-tcp=127.0.0.1:0")
        refused(1, r"limit of 32 open files is too low: at least \d+ are needed", *options, preexec=limit_files(32))
        check(os.listdir(place) == [], "refused before anything is made")
        for count in (64, 256):
            with Daemon(*options, preexec=limit_files(count)) as daemon:
                check(
                    re.search(
                        r"limit of %d open files is below the \d+ .*max_connections is \d+ instead of 1024" % count,
                        daemon.stderr(),
                    ),
                    "%d descriptors: a warning with the numbers: %s" % (count, daemon.stderr()),
                )
                check(daemon.stop() == 0, "%d descriptors: stops" % count)
        # The soft limit is raised to the hard one: no warning then.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard == resource.RLIM_INFINITY or hard >= 2000:
            with Daemon(*options, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2000))) as daemon:
                check("open files" not in daemon.stderr(), "raised in silence: %s" % daemon.stderr())
                check(daemon.stop() == 0, "stops")


def test_few_descriptors_suffice():
    """What the budget grants is really there: as many clients as it says, and streams far beyond the open segments."""
    with directory() as place:
        options = ("--root-path=" + os.path.join(place, "data"), "--listen-tcp=127.0.0.1:0", "--sync-mode=async")
        for round in range(2):
            with Daemon(*options, preexec=limit_files(64)) as daemon:
                granted = int(re.search(r"max_connections is (\d+) instead", daemon.stderr()).group(1))
                clients = [Client(daemon.address()) for _ in range(granted)]
                for i in range(100):
                    for client in clients:
                        result = client.call("append", stream="s%d" % (i * 7 % 100), entry=b"x")
                        check("id" in result, "append: %r" % result)
                for i in range(100):
                    end = clients[i % granted].call("stream_info", stream="s%d" % i)["end"]
                    check(end == granted * (round + 1), "all is there: %d" % end)
                    got = clients[0].call("iter", stream="s%d" % i)
                    check(got["entries"] == [b"x"] * end, "and can be read")
                for client in clients:
                    client.close()
                check(daemon.stop() == 0, "stops: %s" % daemon.stderr())


def test_second_signal():
    with directory() as place:
        options = ("--root-path=" + os.path.join(place, "data"), "--listen-tcp=127.0.0.1:0", "--shutdown-timeout=60m")
        with Daemon(*options) as daemon:
            client = Client(daemon.address())
            client.call("append", stream="s", entry=b"x")
            daemon.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + DEADLINE_S
            while "stopping" not in daemon.stderr() and time.monotonic() < until:
                time.sleep(0.01)
            check(daemon.process.poll() is None, "waits for its client")
            check(daemon.stop() == 1, "a second signal ends it with 1: %s" % daemon.stderr())
            client.close()
        with Daemon(*options) as daemon:
            client = Client(daemon.address())
            check(client.call("get", stream="s", id=0)["entry"] == b"x", "and nothing is lost")
            client.close()
            check(daemon.stop() == 0, "stops")


def test_damage_status():
    """Rot in what was durable: 3 and one line that names the file; on_corruption = truncate goes on."""
    with directory() as place:
        root = os.path.join(place, "data")
        options = ("--root-path=" + root, "--listen-tcp=127.0.0.1:0")
        with Daemon(*options) as daemon:
            client = Client(daemon.address())
            for i in range(10):
                client.call("append", stream="s", entry=b"entry %d" % i)
            client.close()
            daemon.process.kill()
            daemon.wait()
        (segment,) = [
            os.path.join(path, name)
            for path, _, names in os.walk(root)
            for name in names
            if name.endswith(".wal")
        ]
        with open(segment, "r+b") as file:
            data = file.read()
            place_of = data.index(b"entry 4")
            file.seek(place_of)
            file.write(b"E")
        for _ in range(2):
            refused(3, re.escape(os.path.basename(segment)), *options, "--log-level=error")
        with Daemon(*options, "--on-corruption=truncate") as daemon:
            client = Client(daemon.address())
            info = client.call("stream_info", stream="s")
            check(info["end"] >= 4, "what is before the damage stays: %r" % info)
            check(client.call("get", stream="s", id=3)["entry"] == b"entry 3", "and can be read")
            client.close()
            check(daemon.stop() == 0, "stops")


def test_closed_standard_streams():
    """Files of the directory must not become descriptor 2, where log lines go."""
    with directory() as place:
        root = os.path.join(place, "data")
        path = os.path.join(place, "socket")

        def close_all():
            for fd in (0, 1, 2):
                os.close(fd)

        process = subprocess.Popen(
            [ironwald, "--root-path=" + root, "--listen-tcp=none", "--listen-unix=" + path, "--log-level=debug"],
            preexec_fn=close_all,
        )
        try:
            until = time.monotonic() + DEADLINE_S
            while not os.path.exists(path) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            check(process.poll() is None, "runs without standard streams")
            for fd in (0, 1, 2):
                target = os.readlink("/proc/%d/fd/%d" % (process.pid, fd))
                check(target == "/dev/null", "descriptor %d is /dev/null, not %s" % (fd, target))
            process.terminate()
            check(process.wait(DEADLINE_S) == 0, "stops")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def main():
    tests = [value for name, value in sorted(globals().items()) if name.startswith("test_")]
    chosen = sys.argv[3:]
    for test in tests:
        if chosen and test.__name__ not in chosen:
            continue
        before = failures
        try:
            test()
        except Exception as error:  # the other tests still have something to say
            check(False, "%s: %r" % (test.__name__, error))
        print("%-40s %s" % (test.__name__, "ok" if failures == before else "FAILED"), flush=True)
    sys.exit(1 if failures else 0)


main()
