#!/usr/bin/python3
"""File systems that are full, really: tmpfs, and ext4 in a file.

test_real_faults_disk.py IRONWALD [CASE...]

It needs to mount. So that nothing stays mounted, whatever happens, it runs in a mount namespace of its own; one who is
not root gets a user namespace too, and no ext4. A case that cannot be run says why, and is counted as skipped.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys

from harness import Daemon, Skipped, cases_of, check, directory, error_of, main, refused, same, segments
from ironwal_client import ServerError

MODES = ("strict", "batch_only", "async")
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MIB = 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
_why_not = None


def enter_namespace():
    """Returns None, or why nothing can be mounted."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER
    if _libc.unshare(flags) != 0:
        return "unshare: %s" % os.strerror(ctypes.get_errno())
    if uid != 0:
        try:
            for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
                with open("/proc/self/" + name, "w") as file:
                    file.write(text)
        except OSError as error:
            return "a user namespace: %s" % error
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip()


@contextlib.contextmanager
def mounted(kind, size):
    """A private directory that holds `size` bytes, and a file system of its own in it."""
    if _why_not is not None:
        raise Skipped(_why_not)
    with directory() as place:
        path = os.path.join(place, "mounted")
        os.mkdir(path)
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", "size=%d,mode=0700" % size, "tmpfs", path]
        else:
            image = os.path.join(place, "image")
            with open(image, "wb") as file:
                file.truncate(size)
            if shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
                raise Skipped("there is no mkfs.ext4")
            environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, env=environment)
            command = ["mount", "-t", "ext4", "-o", "loop", image, path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Skipped("%s: %s" % (" ".join(command[:4]), done.stderr.strip()))
        try:
            yield path
        finally:
            subprocess.run(["umount", path], check=True)


def fill(path, leave=0):
    """A file of ballast that takes all but `leave` bytes, to the last one that is to be had."""
    name = os.path.join(path, "ballast")
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = 256 * 1024
        while size > 0:
            free = os.statvfs(path)
            if leave and free.f_bavail * free.f_bsize <= leave:
                break
            try:
                os.write(fd, b"\xff" * size)
            except OSError as error:
                check(error.errno == 28, "%s", error)
                size = size // 2 if size > 1 else 0
        if not leave:
            os.fsync(fd)
    finally:
        os.close(fd)
    return name


class Appended:
    """What was acknowledged, by stream; entry i of a stream says so."""

    def __init__(self, size):
        self.counts, self.size = {}, size

    def entry(self, stream, number):
        head = b"%s %d " % (stream.encode(), number)
        return head + b"x" * (self.size - len(head))

    def append(self, client, stream):
        """None, or the error, which must be of the kind that a full disk makes and has changed nothing."""
        number = self.counts.get(stream, 0)
        try:
            answer = client.append(stream, self.entry(stream, number))
        except ServerError as error:
            same(error.code, "Io", "the error of a full disk: %s" % error)
            check(error.fields["errno"] in ("ENOSPC", "EDQUOT"), "its errno: %s", error.fields)
            same(error.fields["outcome"], "none", "its outcome")
            check("\n" not in error.message and error.fields["path"], "it says what and where: %s", error.message)
            return error
        same(answer["id"], number, "the id of an entry of " + stream)
        self.counts[stream] = number + 1
        return None

    def until_full(self, client, streams, most=100000):
        """Appends to each in turn until all of them are refused."""
        left = list(streams)
        for turn in range(most):
            if not left:
                return
            if self.append(client, left[turn % len(left)]) is not None:
                left.remove(left[turn % len(left)])
        check(not left, "the disk does not get full")

    def check(self, client, from_first=False):
        for stream, count in self.counts.items():
            first = client.stream_info(stream)["first"] if from_first else 0
            number = first
            for id, entry in client.scan(stream, first):
                same(id, number, "ids of " + stream)
                check(entry == self.entry(stream, number), "%s: entry %d is %r", stream, number, entry[:40])
                number += 1
            same(number, count, "entries of " + stream)
        for name in client.streams():
            check(name in self.counts, "a stream of which nothing was acknowledged: %s", name)


def options_of(mode, *more):
    return ("--sync-mode=" + mode, "--shard-count=1", "--max-segment-size=64K", "--async-sync-interval=10ms",
            "--log-level=warn") + more


def groups(client, appended, names):
    """One entry to each at once: the journal's case. What is refused is refused for want of room; returns how many."""
    asked = [(name, client.send("append", stream=name, entry=appended.entry(name, appended.counts.get(name, 0)))) for name in names]
    refused_count = 0
    for name, number in asked:
        try:
            same(client.wait(number)["id"], appended.counts.get(name, 0), "the id in a group")
            appended.counts[name] = appended.counts.get(name, 0) + 1
        except ServerError as error:
            refused_count += 1
            same((error.code, error.fields.get("errno"), error.fields.get("outcome")), ("Io", "ENOSPC", "none"), "%s" % error)
    return refused_count


def full_while_running(kind, size, mode):
    names = ["many %d" % i for i in range(40)]
    with mounted(kind, size) as path, directory() as place:
        root, appended = os.path.join(path, "data"), Appended(3000)
        with Daemon(place, *options_of(mode), root=root, tcp=False) as daemon, daemon.client() as client:
            for _ in range(30):
                for stream in ("a", "b", "c"):
                    appended.append(client, stream)
            same(groups(client, appended, names), 0, "refused while there is room")
            fill(path, leave=512 * 1024)
            appended.until_full(client, ("a", "b", "c"))
            ballast = fill(path)
            for stream in ("a", "b", "c"):
                appended.append(client, stream)  # what is reserved may still do for one
            check(appended.append(client, "new") is not None or kind != "tmpfs", "a new stream on a full disk")
            same(groups(client, appended, names + ["newer %d" % i for i in range(20)]) > 0, True, "a group on a full disk")
            appended.check(client)
            try:
                client.create_checkpoint(b"on a full disk")
            except ServerError as error:
                same((error.code, error.fields.get("outcome")), ("Io", "none"), "a checkpoint: %s" % error)
            writers = client.stats()["writers"]
            check(not any(writer["failed"] for writer in writers), "no shard stops: %r", writers)
            check(sum(writer["no_space_errors"] for writer in writers) > 0, "it counts them: %r", writers)
            os.unlink(ballast)
            for stream in ("a", "b", "c", "new"):
                same(appended.append(client, stream), None, "an append to %s, there being room again" % stream)
            same(groups(client, appended, names), 0, "refused, there being room again")
            client.create_checkpoint(b"there is room")
            appended.check(client)

            # Room by truncation: of what the daemon holds itself.
            fill(path)
            appended.until_full(client, ("a", "b", "c"))
            end = client.stream_info("a")["end"]
            check(client.truncate("a", end) > 0, "segments of a go")
            for _ in range(10000):
                if appended.append(client, "b") is None:
                    break
            else:
                check(False, "there is no room after a truncation")
            appended.check(client, from_first=True)
            daemon.kill()
        with Daemon(place, *options_of(mode), root=root, tcp=False) as daemon, daemon.client() as client:
            appended.check(client, from_first=True)
            daemon.stopped_well(client)
    return "%d appends" % sum(appended.counts.values())


def full_at_start(kind, size, mode):
    """Not one byte is free: it starts, reads, refuses clearly, and stops."""
    with mounted(kind, size) as path, directory() as place:
        root, appended = os.path.join(path, "data"), Appended(500)
        for killed in (True, False):
            with Daemon(place, *options_of(mode), root=root, tcp=False) as daemon, daemon.client() as client:
                for _ in range(50):
                    for stream in ("a", "b", "shard_00"):
                        same(appended.append(client, stream), None, "an append")
                same(groups(client, appended, ["many %d" % i for i in range(40)]), 0, "refused while there is room")
                client.create_checkpoint(b"%d" % killed)
                ballast = fill(path)
                if killed:
                    daemon.kill()
                else:
                    daemon.stopped_well(client)
                    for name in os.listdir(root):  # behind a clean stop nobody needs them: they have no room to be made anew
                        if name.startswith("ironwald.journal-"):
                            os.unlink(os.path.join(root, name))
            fill(path)
            for _ in range(2):  # twice: a start and a stop without room leave nothing behind that harms the next
                with Daemon(place, *options_of(mode), root=root, tcp=False) as daemon, daemon.client() as client:
                    appended.check(client)
                    same(client.load_latest_checkpoint()["id"], b"%d" % killed, "the checkpoint")
                    fill(path)  # a start gives back what a killed one had reserved behind its segments
                    check(appended.append(client, "new") is not None, "a new stream on a full disk")
                    for _ in range(300):
                        if appended.append(client, "a") is not None:
                            break
                    else:
                        check(False, "appends to a do not get refused")
                    appended.check(client)
                    daemon.stopped_well(client)
                    fill(path)
            os.unlink(ballast)
    return "%d appends" % sum(appended.counts.values())


def each_mode(run, kind, size):
    return "; ".join("%s: %s" % (mode, run(kind, size, mode)) for mode in MODES)


def test_full_tmpfs():
    return each_mode(full_while_running, "tmpfs", 16 * MIB)


def test_full_ext4():
    return each_mode(full_while_running, "ext4", 32 * MIB)


def test_start_on_a_full_tmpfs():
    return each_mode(full_at_start, "tmpfs", 16 * MIB)


def test_start_on_a_full_ext4():
    return each_mode(full_at_start, "ext4", 32 * MIB)


def test_setting_rot_aside_needs_room_and_says_so():
    with mounted("tmpfs", 16 * MIB) as path, directory() as place:
        root, appended = os.path.join(path, "data"), Appended(200)
        options = ("--shard-count=1", "--on-corruption=truncate")
        with Daemon(place, *options, root=root, tcp=False) as daemon, daemon.client() as client:
            for _ in range(20):
                appended.append(client, "a")
            daemon.stopped_well(client)
        segment = segments(root)[-1]
        with open(segment, "r+b") as file:
            content = file.read()
            at = content.index(appended.entry("a", 10)[:5]) + 50
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
        ballast = fill(path)
        line = refused(1, ["free space|No space left|ENOSPC", re.escape(root)], place, *options, root=root, tcp=False)
        with open(segment, "rb") as file:
            check(len(file.read()) == len(content), "a start that is refused changes nothing")
        os.unlink(ballast)
        with Daemon(place, *options, root=root, tcp=False) as daemon, daemon.client() as client:
            same(client.iter("a", 0, max_entries=5)["entries"], [appended.entry("a", i) for i in range(5)], "what is before the damage")
            check(error_of("Corruption", client.get, "a", 10), "the damage")
            same(client.append("a", b"next")["id"], 20, "no id is given twice")
            daemon.stopped_well(client)
        return line.strip()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _why_not = enter_namespace()
    main(cases_of(globals()))
