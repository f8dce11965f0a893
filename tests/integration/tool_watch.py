"""What watches `ironwal stats --watch`: an emulated terminal, a reader of its lines, and a server that counts what a
test wants."""

import fcntl
import json
import os
import re
import select
import socket
import struct
import subprocess
import termios
import threading
import time

import test_tool
import test_tool_terminal
from test_tool import IRONWAL, Connection

BEGIN, END = b"\x1b[?1049h", b"\x1b[?1049l"
SEQUENCE = re.compile(rb"\x1b\[([?]?[0-9;]*)([A-Za-z])")


class Screen:
    """What a terminal shows of the bytes that came. It wraps and scrolls for nobody: whoever needs that is wrong."""

    def __init__(self, columns, rows):
        self.size(columns, rows)
        self.second = self.hidden = False
        self.rest = b""
        self.styles = set()

    def size(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.clear()

    def clear(self):
        self.cells = [[" "] * self.columns for _ in range(self.rows)]
        self.row = self.column = 0

    def feed(self, data):
        data = self.rest + data
        at = 0
        while at < len(data):
            if data[at] == 0x1b:
                found = SEQUENCE.match(data, at)
                if not found:
                    assert len(data) - at < 16, "no sequence that is known here: %r" % data[at:at + 20]
                    break
                self.control(found.group(1), found.group(2))
                at = found.end()
                continue
            self.put(data[at:at + 1])
            at += 1
        self.rest = data[at:]

    def control(self, parameters, final):
        if (parameters, final) == (b"?1049", b"h"):
            self.second = True
            self.clear()
        elif (parameters, final) == (b"?1049", b"l"):
            self.second = False
        elif (parameters, final) in ((b"?25", b"h"), (b"?25", b"l")):
            self.hidden = final == b"l"
        elif (parameters, final) == (b"", b"H"):
            self.row = self.column = 0
        elif (parameters, final) == (b"2", b"J"):
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        elif (parameters, final) == (b"", b"J"):
            self.erase_row()
            for row in range(self.row + 1, self.rows):
                self.cells[row] = [" "] * self.columns
        elif (parameters, final) == (b"", b"K"):
            self.erase_row()
        elif final == b"m":
            self.styles.add(parameters)
        else:
            raise AssertionError("an unknown sequence: %r %r" % (parameters, final))

    def erase_row(self):
        self.cells[self.row][self.column:] = [" "] * (self.columns - self.column)

    def put(self, byte):
        if not self.second:
            return
        if byte == b"\r":
            self.column = 0
        elif byte == b"\n":
            assert self.row + 1 < self.rows, "it scrolls: %r" % self.text()
            self.row += 1
        else:
            assert 0x20 <= byte[0] < 0x7f, "not to be shown: %r" % byte
            assert self.column < self.columns, "it wraps: %r" % self.text()
            self.cells[self.row][self.column] = byte.decode()
            self.column += 1

    def text(self):
        return ["".join(row).rstrip() for row in self.cells]


class Watched(test_tool_terminal.Terminal):
    """`stats --watch` at a terminal of some size."""

    def __init__(self, *args, connect, columns=80, rows=24, env=None, options=(), program=None):
        self.screen = Screen(columns, rows)
        self.fed = 0
        super().__init__(*options, "stats", "--watch", *args, connect=connect, columns=columns, rows=rows, env=env,
                         program=program)

    def read_some(self, wait_s):
        more = super().read_some(wait_s)
        self.screen.feed(self.shown[self.fed:])
        self.fed = len(self.shown)
        return more

    def resize(self, columns, rows):
        """Once nothing is on its way any more: that would be for the old size."""
        self.screen.size(columns, rows)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until_text(self, *patterns):
        def there():
            text = "\n".join(self.screen.text())
            return self.screen.second and all(re.search(pattern, text, re.M) for pattern in patterns)

        self.until(there, "on the screen: %s" % (patterns,))
        return self.screen.text()

    def value(self, name):
        """Of a figure in the picture."""
        found = re.search(r"(?:^|  )%s +(\S+(?: [a-zA-Z]+)?)(?:  |$)" % re.escape(name),
                          "\n".join(self.screen.text()), re.M)
        return found.group(1) if found else None


class Log:
    """`stats --watch` into a pipe, line by line."""

    def __init__(self, *args, connect, env=None, before=None):
        self.process = subprocess.Popen([IRONWAL, "--connect", connect, *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=env or test_tool.environment(), preexec_fn=before)
        self.read = b""

    def line(self):
        end = time.monotonic() + 60
        while b"\n" not in self.read:
            assert time.monotonic() < end, "no line: %r" % self.read
            if not select.select([self.process.stdout], [], [], 0.1)[0]:
                continue
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, "it ended: %r, %r" % (self.read, self.process.stderr.read())
            self.read += part
        line, self.read = self.read.split(b"\n", 1)
        return line.decode() + "\n"

    def object(self):
        return json.loads(self.line())

    def until_object(self, condition):
        """All of them up to the first for which that is so."""
        end = time.monotonic() + 60
        objects = []
        while True:
            assert time.monotonic() < end, "never: %r" % objects[-1:]
            objects.append(self.object())
            if condition(objects[-1]):
                return objects

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return (self.read + out).decode(), err.decode(), self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Counting(threading.Thread):
    """A server that answers stats with what `answer` returns (None: never), and hello unless it is to be refused."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer = answer
        self.refuse_hello = False
        self.is_away = False  # who connects is sent away
        self.asked = 0
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection = Connection(self.listener.accept()[0])
            except OSError:
                return
            if self.is_away:
                connection.close()
                continue
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            while (request := connection.receive()) is not None:
                _, msgid, method, _ = request
                if method == "hello" and self.refuse_hello:
                    connection.send([1, msgid, {"code": "Unauthorized", "message": "who are you"}, None])
                elif method == "hello":
                    connection.send([1, msgid, None, {
                        "protocol": 1, "server": "fake/0", "shard_count": 1, "sync_mode": "strict",
                        "compression": "none", "max_message_bytes": 1 << 20}])
                else:
                    self.asked += 1
                    answer = self.answer()
                    if answer is not None:
                        connection.send([1, msgid, None, answer])
        except (OSError, ValueError):
            pass
        connection.close()

    def drop(self):
        for connection in self.connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections = []

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop()


def writer(number, entries=0, queue=0, failed=False, **more):
    return {"writer": number, "failed": failed, "queue_depth": queue, "appends": entries, "entries": entries,
            "entry_bytes": entries * 10, "groups": entries, "file_syncs": entries,
            "sync_us": {"count": entries, "mean": 100, "p50": 100, "p99": 200, "max": 300}, **more}


def counted(*writers, uptime=1000, **more):
    return {"server": {"version": "9.9", "sync_mode": "strict", "uptime_seconds": uptime},
            "health": {"ready": True, "alive": True, "reason": "", "disk_waits": 0, "disk_waits_us": 0,
                       "disk_waits_now": 0},
            "errors": {}, "writers": list(writers), **more}


def rates(answer):
    """All of them, wherever in the object."""
    found = []
    for key, value in answer.items():
        if isinstance(value, dict):
            found += rates(value)
        elif isinstance(value, list):
            found += [rate for part in value for rate in rates(part)]
        elif key.endswith("per_second") and value is not None:
            found.append(value)
    return found
