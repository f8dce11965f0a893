"""What the integration scripts share: the daemon as a child, private directories, cases with a line each."""

import contextlib
import ctypes
import fcntl
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

from ironwal_client import Client, ConnectionLost, ServerError

DEADLINE_S = float(os.environ.get("IRONWALD_TEST_DEADLINE_S", "120"))

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Skipped(Exception):
    """What the case needs is not to be had here; says why."""


class Failed(Exception):
    pass


def check(condition, what, *values):
    if not condition:
        raise Failed(what % values if values else what)


def same(got, expected, what):
    if got != expected:
        raise Failed("%s: got %s, expected %s" % (what, _short(got), _short(expected)))


def _short(value):
    text = repr(value)
    return text if len(text) <= 300 else text[:200] + "... (%d characters)" % len(text)


def error_of(code, call, *args, **kwargs):
    """Calls, and returns the fields of the error, which must have this code."""
    try:
        result = call(*args, **kwargs)
    except ServerError as error:
        check(error.code == code, "%s was expected: %s %r", code, error, error.fields)
        check(error.message and "\n" not in error.message, "a message of one line: %r", error.message)
        return dict(error.fields, message=error.message)
    raise Failed("%s was expected: %s" % (code, _short(result)))


class Worker:
    """Runs a function in a child process, so that what it does and how long it takes is its own affair.

    What it returns comes back (through a pipe, as JSON); an exception in it is a failure of the case.
    """

    def __init__(self, work, *args):
        receive, send = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                os.close(receive)
                with os.fdopen(send, "w") as pipe:
                    json.dump(work(*args), pipe)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(send)
        self._pipe = os.fdopen(receive)
        self._ended = False

    def running(self):
        """It may have ended and not be reaped; then this is false."""
        return not select.select([self._pipe], [], [], 0)[0]

    def result(self):
        text = self._pipe.read()
        self._pipe.close()
        self._ended = True
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        check(status == 0, "a worker failed, status %d", status)
        return json.loads(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._pipe.close()


_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFADDR, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8914, 1

# Of documentation: nobody has it, and it is no loopback address.
OPEN_ADDRESS = "192.0.2.1"


def _enter_private_network():
    if _libc.unshare(_CLONE_NEWNET) != 0 and _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    with socket.socket() as control:
        for name, address in ((b"lo", "127.0.0.1"), (b"lo:1", OPEN_ADDRESS)):
            where = struct.pack("16sH2s4s8x", name, socket.AF_INET, b"", socket.inet_aton(address))
            fcntl.ioctl(control, _SIOCSIFADDR, where)
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name, _IFF_UP))
    return None


def in_private_network(work):
    """Runs it where OPEN_ADDRESS can be listened on, and nobody else can reach it: nothing here listens where others can."""

    def enter_and_work():
        failure = _enter_private_network()
        return [failure, None if failure else work()]

    with Worker(enter_and_work) as worker:
        failure, said = worker.result()
    if failure:
        raise Skipped("no network of its own: %s" % failure)
    return said


@contextlib.contextmanager
def directory():
    path = tempfile.mkdtemp(prefix="ironwald-test-")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def eventually(condition, what):
    """Polls; for what another process or thread does in its own time."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > until:
            raise Failed("did not come in %s s: %s" % (DEADLINE_S, what))
        time.sleep(0.002)


class Daemon:
    """Ready when the constructor returns; killed, if need be, when its block is left."""

    program = None

    def __init__(self, place, *options, files=None, ready=True, tcp=True, root=None, through=(), env=None, fds=()):
        """`place` is a private directory: the data go to place/data, the socket to place/socket. `through` is a command
        that runs the one behind it, `env` what is added to the environment, `fds` are descriptors that it inherits."""
        self.root = root or os.path.join(place, "data")
        self.unix = os.path.join(place, "socket")
        # To append, wherever it is read meanwhile: the position is the daemon's, too.
        self.stderr_file = tempfile.TemporaryFile("a+")

        def prepare():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing is left running if the script is killed
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        self.process = subprocess.Popen(
            [
                *through,
                Daemon.program,
                "--root-path=" + self.root,
                "--listen-tcp=" + ("127.0.0.1:0" if tcp else "none"),
                "--listen-unix=" + self.unix,
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.stderr_file,
            text=True,
            preexec_fn=prepare,
            pass_fds=fds,
            env=dict(os.environ, **env) if env else None,
        )
        self.tcp = None
        if ready:
            line = self.process.stdout.readline()
            if line != "ready\n":
                self.process.kill()
                self.process.communicate()
                raise Failed("the daemon is not ready: %r, status %s: %s" % (line, self.process.returncode, self.stderr()))
            found = re.search(r"listening on tcp 127\.0\.0\.1:(\d+)$", self.stderr(), re.M)
            if found:
                self.tcp = ("127.0.0.1", int(found.group(1)))

    def stderr(self):
        """Read without moving the place at which the daemon, whose descriptor shares it, writes its next line."""
        fd = self.stderr_file.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode()

    def client(self, unix=False, **options):
        return Client(self.unix if unix or self.tcp is None else self.tcp, DEADLINE_S, **options)

    def rss_bytes(self):
        with open("/proc/%d/status" % self.process.pid) as file:
            return int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024

    @staticmethod
    def memory_factor():
        """What bounds on memory are to be multiplied with: sanitizers keep freed memory for a while."""
        with open(Daemon.program, "rb") as file:
            return 4 if b"__asan_init" in file.read() else 1

    def descriptors_count(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        try:
            self.process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise Failed("the daemon does not end: %s" % self.stderr())
        return self.process.returncode

    def stopped_well(self, *clients):
        """The clients are closed first: a server that stops gives those that are open time to take their answers."""
        for client in clients:
            client.close()
        status = self.stop()
        check(status == 0, "SIGTERM: status %s: %s", status, self.stderr())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.stderr_file.close()


class Stalls:
    """What does not come back, in a daemon that gets self.env: see stall_shim.c."""

    def __init__(self, place):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Skipped("there is no C compiler")
        self.path = os.path.join(place, "stalls")
        os.mkdir(self.path)
        library = os.path.join(place, "stall_shim.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stall_shim.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        self.env = {
            "LD_PRELOAD": library,
            "STALL_SHIM": self.path,
            # A sanitizer's library wants to be the first one, and does not need to be for this.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
        }

    @contextlib.contextmanager
    def of(self, name):
        path = os.path.join(self.path, name)
        open(path, "w").close()
        try:
            yield
        finally:
            if os.path.exists(path):
                os.unlink(path)


def reloaded(daemon, how="reloaded"):
    """Has had SIGHUP, and said so."""
    before = daemon.stderr().count(how)
    os.kill(daemon.process.pid, signal.SIGHUP)
    eventually(lambda: daemon.stderr().count(how) > before, "a line that says: " + how)


def refused(status, patterns, place, *options, **how):
    """The daemon must refuse to start: with this status, and one line on stderr in which each pattern is found."""
    with Daemon(place, "--log-level=error", *options, ready=False, **how) as daemon:
        check(daemon.process.stdout.readline() == "", "it was to be refused and starts: %s", " ".join(options))
        got = daemon.wait()
        err = daemon.stderr()
        check(got == status, "start: status %s, expected %d: %s", got, status, err)
        check(len(err.splitlines()) == 1, "one line on stderr: %r", err)
        for pattern in patterns:
            check(re.search(pattern, err), "%r in the line on stderr: %r", pattern, err)
    return err


def segments(root, name=None):
    """The segment files under the data directory, in order; of one stream if its directory's name is given."""
    found = []
    for path, _, names in os.walk(os.path.join(root, name) if name else root):
        found += [os.path.join(path, file) for file in names if file.endswith(".wal")]
    return sorted(found)


def openpty():
    """A terminal: (master, slave)."""
    try:
        return pty.openpty()
    except OSError as error:
        raise Skipped("no pseudo-terminals here: %s" % error)


def main(cases):
    """Runs the cases (functions) that the command line names after the daemon, or all; a line for each."""
    if len(sys.argv) < 2:
        sys.exit("usage: %s IRONWALD [CASE...]" % sys.argv[0])
    Daemon.program = os.path.abspath(sys.argv[1])
    chosen = sys.argv[2:]
    unknown = set(chosen) - {case.__name__ for case in cases}
    if unknown:
        sys.exit("no such case: %s" % ", ".join(sorted(unknown)))
    failed = 0
    for case in cases:
        if chosen and case.__name__ not in chosen:
            continue
        begin = time.monotonic()
        try:
            said = case()
            outcome = "ok"
        except Skipped as reason:
            said, outcome = str(reason), "skipped"
        except (Failed, ServerError, ConnectionLost) as error:
            failed += 1
            line = traceback.extract_tb(error.__traceback__)
            where = [entry for entry in line if entry.filename == os.path.abspath(sys.argv[0])]
            said = "%s (line %d)" % (error, where[-1].lineno if where else line[-1].lineno)
            outcome = "FAILED"
        except Exception:
            failed += 1
            said = traceback.format_exc()
            outcome = "FAILED"
        print(
            "%-44s %-7s %6.2f s%s" % (case.__name__, outcome, time.monotonic() - begin, "  " + said if said else ""),
            flush=True,
        )
    sys.exit(1 if failed else 0)


def cases_of(namespace):
    return [value for name, value in namespace.items() if name.startswith("test_") and callable(value)]
