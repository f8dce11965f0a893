"""A daemon of one's own for a script that measures: how long it took to be ready, its memory, and its load."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time


class Failed(Exception):
    pass


class Place:
    """A private directory with the data of a daemon; removed when its block is left, and what runs on it ended."""

    def __init__(self, arguments, *options):
        self.build, self.options = arguments.build, options
        self.path = tempfile.mkdtemp(prefix="ironwald-bench-", dir=arguments.dir)
        self.data = os.path.join(self.path, "data")
        self.socket = os.path.join(self.path, "socket")
        self.children = []
        self.daemon = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def start(self):
        """Seconds until it is ready."""
        command = [os.path.join(self.build, "server", "ironwald"), "--root-path=" + self.data, "--listen-tcp=none",
                   "--listen-unix=" + self.socket, "--log-level=error", *self.options]
        begin = time.monotonic()
        self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.children.append(self.daemon)
        line = self.daemon.stdout.readline()
        took = time.monotonic() - begin
        if line != "ready\n":
            raise Failed("the daemon does not start")
        return took

    def kill(self):
        self.daemon.kill()
        self._ended()

    def stop(self):
        self.daemon.terminate()
        if self._ended() != 0:
            raise Failed("the daemon did not stop well: status %d" % self.daemon.returncode)

    def _ended(self):
        self.daemon.wait()
        self.daemon.stdout.close()
        return self.daemon.returncode

    def load_command(self, *options):
        return [os.path.join(self.build, "tests", "bench", "load"), "--unix", self.socket, "--json", *map(str, options)]

    def load(self, *options):
        done = subprocess.run(self.load_command(*options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed("the load failed: %s" % " ".join(done.args))
        return json.loads(done.stdout)

    def load_count(self, count, *options):
        """Until so many requests are done, however long it takes."""
        return self.load("--count", count, "--duration", 86400, "--warmup", 0, *options)

    def load_beside(self, *options, stderr=None):
        """A load that runs until it is ended, or the daemon is."""
        command = self.load_command("--duration", 86400, "--warmup", 0, *options)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        self.children.append(child)
        return child

    def rss_bytes(self):
        with open("/proc/%d/status" % self.daemon.pid) as file:
            return int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024

    def read_from_disk_bytes(self):
        with open("/proc/%d/io" % self.daemon.pid) as file:
            return int(re.search(r"^read_bytes: (\d+)", file.read(), re.M).group(1))

    def segment_files(self):
        return [os.path.join(path, name) for path, _, names in os.walk(self.data) for name in names
                if name.endswith(".wal")]


def end(child):
    if child.poll() is None:
        child.terminate()
    child.wait()
