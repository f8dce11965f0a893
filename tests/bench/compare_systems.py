"""The systems that `compare` measures: how each is started on a directory of its own, loaded, and ended.

A measurement is a system and a load. What cannot be had on this machine is Missing, and says why.
"""

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import time

START_S = 20
STOP_S = 30
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
# Streams are made, and entries to be read put in, before anything is measured: until then, and with many in flight.
PREPARE_S = "3600"
PREPARE_PIPELINE = "64"
TOKEN_LINE = "sha256:%s bench admin *\n"

# name: (kind, options, for people)
SYSTEMS = {
    "strict": ("ironwald", ["--sync-mode=strict"], "ironwald strict"),
    "always": ("redis", ["--appendfsync", "always"], "Redis always"),
    # The same as strict, measured next to the three that follow.
    "plain": ("ironwald", ["--sync-mode=strict"], "ironwald, neither TLS nor tokens"),
    "token": ("ironwald", ["--sync-mode=strict"], "ironwald with a token"),
    "tls": ("ironwald", ["--sync-mode=strict"], "ironwald over TLS"),
    "tls-token": ("ironwald", ["--sync-mode=strict"], "ironwald over TLS, with a token"),
    "async": ("ironwald", ["--sync-mode=async", "--async-sync-interval=1s"], "ironwald async"),
    "everysec": ("redis", ["--appendfsync", "everysec"], "Redis everysec"),
    "postgres": ("postgres", [], "PostgreSQL"),
    "sqlite": ("sqlite", [], "SQLite"),
    "disk": ("disk", [], "the disk"),
}


class Failed(Exception):
    pass


class Missing(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Load:
    connections: int = 1
    pipeline: int = 1  # requests in flight on each connection
    payload: int = 100  # bytes of an entry
    mode: str = "append"
    batch: int = 1  # entries of an append_batch or an iter
    streams: int = 1
    keys: int = 0  # not 0: to the shards of so many keys instead of to streams
    prefilled: int = 0  # get, iter: of so many entries, put in once, before all rounds; 0: of a few, each time

    def __str__(self):
        return "%d x %d" % (self.connections, self.pipeline)


@dataclasses.dataclass(frozen=True)
class Measurement:
    system: str
    load: Load = Load()
    shards: int = 0  # not 0: another number of them than the default

    def kind(self):
        return SYSTEMS[self.system][0]

    def stays(self):
        """Reading changes nothing, so that one server, filled once, serves all rounds."""
        return self.load.prefilled > 0


def program(arguments, name):
    return os.path.join(arguments.build, "tests", "bench", name)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def free_port():
    """Below the range from which the system gives ports, so that nobody is given it before the server has it."""
    for port in random.sample(range(20000, 32000), 1000):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("no free port from 20000 to 32000")


def can_connect(unix_path, port):
    with contextlib.closing(socket.socket(socket.AF_UNIX if unix_path else socket.AF_INET)) as probe:
        probe.settimeout(1)
        try:
            probe.connect(unix_path or ("127.0.0.1", port))
        except OSError:
            return False
        return True


def run_json(command, what):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failed("the load on %s failed: %s" % (what, " ".join(command)))
    return json.loads(done.stdout)


@contextlib.contextmanager
def process(command, directory, what, is_ready, **how):
    """A server that runs until the block is left. Ends what it started, and only that."""
    log_path = os.path.join(directory, "stderr")
    child = None
    try:
        with open(log_path, "wb") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **how)
        deadline = time.monotonic() + START_S
        while not is_ready():
            if child.poll() is not None or time.monotonic() > deadline:
                with open(log_path, errors="replace") as log:
                    raise Failed("%s did not start: %s" % (what, log.read().strip()))
            time.sleep(0.01)
        yield child
    finally:
        if child is not None:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def private_directory(arguments):
    path = tempfile.mkdtemp(prefix="ironwald-bench-", dir=arguments.dir)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---- ironwald and Redis: one load generator for both ----


class Server:
    """One of the two, running."""

    def __init__(self, arguments, measurement, child, where):
        self.arguments, self.measurement, self.child, self.where = arguments, measurement, child, where

    def of(self, measurement):
        """The same server, for another measurement of what is in it."""
        return Server(self.arguments, measurement, self.child, self.where)

    def command(self, *options):
        load = self.measurement.load
        command = [program(self.arguments, "load"), *self.where, "--json", "--payload", str(load.payload)]
        command += ["--keys"] if load.keys else []
        command += ["--streams", str(load.keys or load.streams), *options]
        return command + (["--redis"] if self.measurement.kind() == "redis" else [])

    def prepare(self):
        load = self.measurement.load
        if load.mode == "append" and load.streams > 1:
            options = ["--count", str(load.streams)]
        elif load.prefilled:
            options = ["--mode", "iter", "--prefill", str(load.prefilled), "--count", "1"]
        else:
            return
        options += ["--pipeline", PREPARE_PIPELINE, "--warmup", "0", "--duration", PREPARE_S]
        run_json(self.command(*options), self.measurement.system)

    def measure(self):
        arguments, load = self.arguments, self.measurement.load
        options = ["--connections", str(load.connections), "--pipeline", str(load.pipeline), "--mode", load.mode]
        options += ["--batch", str(load.batch), "--duration", str(arguments.seconds), "--warmup", str(arguments.warmup)]
        options += ["--prefilled", str(load.prefilled)] if load.prefilled else []
        before = cpu_seconds(self.child.pid)
        result = run_json(self.command(*options), self.measurement.system)
        spent = cpu_seconds(self.child.pid) - before
        result["server_cpu_us_per_request"] = spent * 1e6 / max(result["sent"], 1)
        return result


def check_guards(arguments, measurement):
    """Raises Missing."""
    if measurement.system.startswith("tls") and arguments.transport == "unix":
        raise Missing("there is no TLS over Unix sockets: --transport tcp")
    if measurement.system.startswith("tls") and shutil.which("openssl") is None:
        raise Missing("openssl is not installed, which makes the certificate (Debian: openssl)")


def guards(measurement, directory):
    """What the daemon, and the load, are told of tokens and TLS."""
    ours, theirs = [], []
    if measurement.system.endswith("token"):
        token, line = os.path.join(directory, "token"), os.path.join(directory, "tokens")
        text = secrets.token_hex(32)
        for path, content in ((token, text + "\n"), (line, TOKEN_LINE % hashlib.sha256(text.encode()).hexdigest())):
            with open(path, "w") as out:
                out.write(content)
        ours += ["--token-file=" + line]
        theirs += ["--token-file", token]
    if measurement.system.startswith("tls"):
        certificate, key = os.path.join(directory, "certificate"), os.path.join(directory, "key")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                   "-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=bench",
                   "-addext", "subjectAltName=IP:127.0.0.1"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failed("openssl makes no certificate: " + done.stdout.strip())
        os.chmod(key, 0o600)
        ours += ["--tls-certificate=" + certificate, "--tls-key=" + key]
        theirs += ["--tls-ca", certificate]
    return ours, theirs


def server_command(arguments, measurement, directory, unix_path, port):
    kind, options, _ = SYSTEMS[measurement.system]
    if kind == "ironwald":
        tcp = "none" if unix_path else "127.0.0.1:%d" % port
        listen = ["--listen-tcp=" + tcp, "--listen-unix=" + (unix_path or "none")]
        path = os.path.join(arguments.build, "server", "ironwald")
        shards = ["--shard-count=%d" % measurement.shards] if measurement.shards else []
        return [path, "--root-path=" + os.path.join(directory, "log"), "--log-level=warn", *listen, *shards, *options]
    listen = ["--port", "0", "--unixsocket", unix_path] if unix_path else ["--port", str(port), "--bind", "127.0.0.1"]
    # No rewriting of the log while it is measured: that would count against Redis only.
    quiet = ["--save", "", "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--loglevel", "warning"]
    return [arguments.redis, "--dir", directory, *listen, *quiet, *options]


@contextlib.contextmanager
def server(arguments, measurement):
    with private_directory(arguments) as directory:
        unix_path = os.path.join(directory, "socket") if arguments.transport == "unix" else None
        port = None if unix_path else free_port()
        ours, theirs = guards(measurement, directory)
        command = server_command(arguments, measurement, directory, unix_path, port) + ours
        with process(command, directory, measurement.system, lambda: can_connect(unix_path, port)) as child:
            where = (["--unix", unix_path] if unix_path else ["--tcp", "127.0.0.1:%d" % port]) + theirs
            running = Server(arguments, measurement, child, where)
            running.prepare()
            yield running


# ---- PostgreSQL: pgbench, a private cluster, a row a transaction ----

PGBENCH_SCRIPT = "".join("\\set %s random(1000000000000000000, 9000000000000000000)\n" % name for name in "abcde") + (
    "INSERT INTO log (entry) VALUES (%s || 'bytes');\n" % " || ".join(":%s::text" % name for name in "abcde"))
PGBENCH_PAYLOAD = 100  # 5 x 19 digits, and 5


def postgres_bin(arguments):
    if arguments.postgres:
        found = [arguments.postgres]
    else:  # Debian has several versions side by side, and not in PATH; the newest
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4].split(".")[0]))
    names = ("initdb", "postgres", "pgbench", "psql")
    if not found or not all(os.access(os.path.join(found[-1], name), os.X_OK) for name in names):
        raise Missing("PostgreSQL is not installed (Debian: postgresql; --postgres DIR says where its programs are)")
    return found[-1]


def other_user():
    """PostgreSQL does not run as root: arguments for subprocess with which it does not."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")


def pgbench_figures(run, options, seconds):
    """Its time includes connecting: on a busy machine nothing may be left of it, and then it says no rate."""
    for attempt in range(4):
        said = run("pgbench", *options, "--time", str(max(1, round(seconds)) << attempt), "postgres")
        lines = [line.split(" = ", 1) for line in said.splitlines() if " = " in line]
        found = {name: value.split()[0] for name, value in lines}
        if "tps" in found:
            return float(found["tps"]), float(found["latency average"]) * 1000
    raise Failed("pgbench said no rate: " + said)


def check_postgres(arguments):
    """Raises Missing."""
    postgres_bin(arguments)
    user, path = other_user(), arguments.dir
    while user and path != "/":
        found = os.stat(path)
        if not found.st_mode & 0o001 and found.st_uid != user["user"]:
            raise Missing("PostgreSQL does not run as root, and other users may not enter %s: another --dir" % path)
        path = os.path.dirname(path)


def postgres_measure(arguments, measurement):
    path, load, user = postgres_bin(arguments), measurement.load, other_user()
    with private_directory(arguments) as directory:
        if user:
            os.chown(directory, user["user"], user["group"])
        cluster, port = os.path.join(directory, "cluster"), free_port()
        how = dict(user, cwd=directory, text=True)
        how.update(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def run(name, *options):
            command = [os.path.join(path, name), *options]
            done = subprocess.run(command, **how)
            if done.returncode != 0:
                raise Failed("%s failed: %s" % (" ".join(command), done.stdout.strip()))
            return done.stdout

        run("initdb", "--pgdata", cluster, "--auth", "trust", "--username", "bench", "--no-locale",
            "--encoding", "UTF8", "--no-sync")
        unix = arguments.transport == "unix"
        at = ["--host", directory if unix else "127.0.0.1", "--port", str(port),
              "--username", "bench"]
        # Durability is that of its defaults: fsync and synchronous_commit are on.
        command = [os.path.join(path, "postgres"), "-D", cluster, "-p", str(port), "-k", directory,
                   "-c", "listen_addresses=" + ("" if unix else "127.0.0.1"),
                   "-c", "max_connections=%d" % (load.connections + 10)]
        is_ready = lambda: subprocess.run(  # noqa: E731
            [os.path.join(path, "psql"), *at, "postgres", "-c", "SELECT 1"], **how).returncode == 0
        with process(command, directory, "PostgreSQL", is_ready, cwd=directory, **user):
            run("psql", *at, "postgres", "-c", "CREATE TABLE log (id bigserial PRIMARY KEY, entry text NOT NULL)")
            script = os.path.join(directory, "script")
            with open(script, "w") as out:
                out.write(PGBENCH_SCRIPT)
            pgbench = ["--no-vacuum", "--protocol", "prepared", "--file", script, "--client", str(load.connections)]
            rate, mean_us = pgbench_figures(run, [*at, *pgbench], arguments.seconds)
        return {"requests_per_second": rate, "entries_per_second": rate, "mean_us": mean_us}


# ---- programs that are their own server ----


def own_measure(arguments, measurement):
    name = {"sqlite": "sqlite_load", "disk": "disk"}[measurement.kind()]
    if not os.access(program(arguments, name), os.X_OK):
        raise Missing("%s is not built (libsqlite3-dev is needed)" % program(arguments, name))
    load = measurement.load
    # Of the disk: one write and sync for all that can be in flight.
    together = load.connections * load.pipeline if name == "disk" else 1
    command = [program(arguments, name), "--dir", arguments.dir, "--bytes", str(load.payload * together), "--json"]
    command += ["--duration", str(arguments.seconds), "--warmup", str(arguments.warmup)]
    result = run_json(command, name)
    result["requests_per_second"] *= together
    result["entries_per_second"] *= together
    return result


def check_available(arguments, measurement):
    """Raises Missing."""
    kind = measurement.kind()
    if kind == "redis" and shutil.which(arguments.redis) is None:
        raise Missing("%s is not installed (Debian: redis-server; --redis says which to run)" % arguments.redis)
    if kind == "ironwald":
        check_guards(arguments, measurement)
    if kind == "postgres":
        check_postgres(arguments)
    if kind == "sqlite" and not os.access(program(arguments, "sqlite_load"), os.X_OK):
        raise Missing("sqlite_load was not built (Debian: libsqlite3-dev; then configure and build again)")


def measure(arguments, measurement, running=None):
    """running: a server that stays. The result is what the load generator says, and what was measured."""
    if measurement.kind() == "postgres":
        result = postgres_measure(arguments, measurement)
    elif measurement.kind() in ("sqlite", "disk"):
        result = own_measure(arguments, measurement)
    elif running is not None:
        result = running.measure()
    else:
        with server(arguments, measurement) as fresh:
            result = fresh.measure()
    return dict(result, system=measurement.system, shards=measurement.shards, load=dataclasses.asdict(measurement.load))
