#!/usr/bin/python3
"""Who may come in, and what they may do then, on the real daemon.

test_auth.py IRONWALD [CASE...]
"""

import grp
import hashlib
import os
import re
import secrets
import socket
import stat
import struct
import time

from harness import *
from ironwal_client import ConnectionLost, request

# Of the four shards, that of the key a is 0, and so on.
SHARDS = 4


class Tokens:
    """The daemon's token file, and the tokens themselves."""

    def __init__(self, place):
        self.path = os.path.join(place, "tokens")
        self.lines = []

    def add(self, roles, *streams, name="somebody"):
        token = secrets.token_urlsafe(24)
        self.lines.append("sha256:%s %s %s %s\n" % (hashlib.sha256(token.encode()).hexdigest(), name, roles, " ".join(streams)))
        self.write()
        return token

    def write(self):
        with open(self.path, "w") as file:
            file.write("# who    what    where\n\n" + "".join(self.lines))

    def daemon(self, place, *options, **how):
        return Daemon(place, "--token-file=" + self.path, *options, **how)


def keys_by_shard(client):
    """A key of each shard."""
    keys = {}
    number = 0
    while len(keys) < SHARDS:
        key = b"key-%d" % number
        keys.setdefault(client.call("shard_append", key=key, value=b"first")["shard"], key)
        number += 1
    return keys


# ---- the matrix ----

ROLES = {"read": {"read"}, "append": {"append"}, "read,append": {"read", "append"}, "admin": {"read", "append", "admin"}}
STREAMS = {
    ("*",): lambda name: True,
    ("a/*",): lambda name: name.startswith("a/"),
    ("b/*", "a/%31*", "shard_00*"): lambda name: name.startswith(("b/", "a/1", "shard_00")),
    ("shard_*",): lambda name: name.startswith("shard_"),
    ("sh*", "zzz*"): lambda name: name.startswith(("sh", "zzz")),
    ("shard_01*", "shard_02*"): lambda name: name.startswith(("shard_01", "shard_02")),
}
NAMES = ["a/1", "a/2", "b/1", "shard_00", "shard_01", "missing", "a/missing"]
EVERY_SHARD = ["shard_%02d" % shard for shard in range(SHARDS)]


def matrix(keys):
    """Each method with its params, as often as it is about something else: (method, params, right, what it touches).
    What it touches: names of streams, "everything", or "all shards", also those that may come."""
    yield "hello", {"protocol": 1}, None, []
    yield "ping", {}, None, []
    yield "shard_count", {}, "read", []
    yield "stats", {}, "read", "everything"
    yield "sync", {}, "append", "everything"
    yield "list_streams", {}, "read", []
    for name in NAMES:
        yield "append", {"stream": name, "entry": b"x", "expected_id": 2**60}, "append", [name]
        yield "append_batch", {"stream": name, "entries": [b"x"], "expected_id": 2**60}, "append", [name]
        yield "get", {"stream": name, "id": 0}, "read", [name]
        yield "get_batch", {"stream": name, "ids": [0]}, "read", [name]
        yield "iter", {"stream": name}, "read", [name]
        yield "truncate", {"stream": name, "safe_id": 0}, "admin", [name]
        yield "current_segment_start_id", {"stream": name}, "read", [name]
        yield "stream_info", {"stream": name}, "read", [name]
        yield "sync", {"stream": name}, "append", [name]
    for shard, key in keys.items():
        log = ["shard_%02d" % shard]
        yield "shard_append", {"key": key, "value": b"x"}, "append", log
        yield "shard_append_batch", {"entries": [[key, b"x"]]}, "append", log
        yield "shard_append_batch_for_key", {"key": key, "values": [b"x"]}, "append", log
        yield "iter_shard", {"shard": shard}, "read", log
    yield "shard_append_batch", {"entries": [[keys[1], b"x"], [keys[2], b"x"]]}, "append", ["shard_01", "shard_02"]
    yield "shard_append_batch", {"entries": [[key, b"x"] for key in keys.values()]}, "append", EVERY_SHARD
    for method, params, right in (
        ("create_checkpoint", {"id": b"c"}, "admin"),
        ("load_checkpoint", {"id": b"c"}, "read"),
        ("load_latest_checkpoint", {}, "read"),
        ("list_checkpoints", {}, "read"),
        ("checkpoint_count", {}, "read"),
        ("prune_before_checkpoint", {"id": b"c"}, "admin"),
        ("compact_checkpoints", {"keep_latest_n": 5}, "admin"),
    ):
        yield method, params, right, "all shards"


def may(roles, streams, right, touched):
    if right is not None and right not in ROLES[roles]:
        return False
    if touched == "everything":
        return streams == ("*",)
    if touched == "all shards":
        return streams in (("*",), ("shard_*",), ("sh*", "zzz*"))
    return all(STREAMS[streams](name) for name in touched)


def ends(client):
    """What has been written, and what there is."""
    names = client.call("list_streams")["streams"]
    return {name: client.call("stream_info", stream=name)["end"] for name in names}, client.call("checkpoint_count")


def test_matrix():
    """Role by method by prefix. What is refused has done nothing; what is allowed is answered as without tokens."""
    with directory() as place:
        tokens = Tokens(place)
        root = tokens.add("admin", "*", name="root")
        given = {(roles, streams): tokens.add(roles, *streams, name="m") for roles in ROLES for streams in STREAMS}
        count = refusals = 0
        with tokens.daemon(place, "--shard-count=%d" % SHARDS) as daemon:
            with daemon.client(token=root) as admin:
                for name in NAMES[:3]:
                    admin.append(name, b"first")
                keys = keys_by_shard(admin)
                admin.call("create_checkpoint", id=b"c")
                with open(os.path.join(os.path.dirname(__file__), "../../proto/PROTOCOL.md")) as file:
                    text = file.read()
                methods = set(re.findall(r"^### (\w+)$", text[text.index("## Methods"):text.index("## Errors")], re.M))
                same({method for method, _, _, _ in matrix(keys)}, methods, "the methods of the matrix")
                for (roles, streams), token in given.items():
                    with daemon.client(token=token) as client:
                        for method, params, right, touched in matrix(keys):
                            allowed = may(roles, streams, right, touched)
                            before = None if allowed else ends(admin)
                            code = "ok"
                            try:
                                client.call(method, **params)
                            except ServerError as error:
                                code = error.code
                                check(token not in error.message, "a token in an error")
                            count += 1
                            what = "%s %s: %s %r: %s" % (roles, streams, method, params, code)
                            if allowed:
                                check(code in ("ok", "Conflict", "StreamNotFound"), "is allowed: %s", what)
                                continue
                            refusals += 1
                            check(code == "Unauthorized", "is not allowed: %s", what)
                            same(ends(admin), before, "and does nothing: " + what)
                stats = admin.call("stats")
                same(stats["errors"]["Unauthorized"], refusals, "counted")
                same(stats["access"], {"tokens": len(given) + 1, "wrong_tokens": 0, "held_off": 0, "tls_handshakes": 0, "tls_failures": 0}, "access")
            daemon.stopped_well()
            check("root" in daemon.stderr(), "the log says who came")
            for token in given.values():
                check(token not in daemon.stderr(), "a token in the log")
        check(refusals > 500 and count > refusals + 300, "%d of %d were refused", refusals, count)
        return "%d cases, %d refused" % (count, refusals)


def test_malformed_params_are_told():
    """Also to those who may not do everything: nothing is looked up for that."""
    with directory() as place:
        tokens = Tokens(place)
        token = tokens.add("admin", "a/*", "shard_00*")
        with tokens.daemon(place) as daemon, daemon.client(token=token) as client:
            for code, method, params in (
                ("BadRequest", "append", {"entry": b"x"}),
                ("BadRequest", "append", {"stream": 7, "entry": b"x"}),
                ("InvalidFilename", "append", {"stream": "", "entry": b"x"}),
                ("BadRequest", "sync", {"stream": 7}),
                ("BadRequest", "get", {}),
                ("BadRequest", "shard_append", {"value": b"x"}),
                ("BadRequest", "shard_append_batch", {"entries": [[b"x"]]}),
                ("BadRequest", "shard_append_batch_for_key", {"values": []}),
                ("BadRequest", "iter_shard", {}),
                ("Config", "iter_shard", {"shard": 99}),
                ("UnknownMethod", "no such", {}),
            ):
                error_of(code, client.call, method, **params)
            error_of("Unauthorized", client.call, "sync", stream=None)
            same(client.call("shard_append_batch", entries=[]), {"results": []}, "nothing is of no shard")
            client.close()
            daemon.stopped_well()


def listed(client, **params):
    answer = client.call("list_streams", **params)
    return answer["streams"], answer["more"]


def test_list_streams_shows_only_ones_own():
    with directory() as place:
        tokens = Tokens(place)
        root = tokens.add("admin", "*")
        own = tokens.add("read", "b/*", "d*", "b/1/*", "x*", "caf%c3%a9*", "%2a*", "with%20blank*")
        names = ["a", "b", "b/", "b/1", "b/1/2", "b/2", "c", "d", "da", "db", "e", "x1", "x2", "café/1", "cafe", "*", "with blank", "withblank"]
        visible = sorted(
            (n for n in names if n.startswith(("b/", "d", "x", "café", "*", "with blank"))), key=lambda n: n.encode())
        with tokens.daemon(place) as daemon:
            with daemon.client(token=root) as admin, daemon.client(token=own) as client:
                for name in names:
                    admin.append(name, b"x")
                same(listed(client), (visible, False), "all of them")
                same(listed(admin), (sorted(names, key=lambda n: n.encode()), False), "and all there are")
                for limit in range(1, len(visible) + 2):
                    got, after, more = [], None, True
                    while more:
                        some, more = listed(client, limit=limit, after=after)
                        check(len(some) <= limit and (some or not more), "a portion of %d: %r", limit, some)
                        got += some
                        after = some[-1] if some else None
                    same(got, visible, "in portions of %d" % limit)
                for prefix in ("", "b", "b/", "b/1", "b/1/", "b/1/2/3", "a", "d", "da", "x", "c", "caf", "w"):
                    same(listed(client, prefix=prefix), ([n for n in visible if n.startswith(prefix)], False), "of " + prefix)
                same(listed(client, prefix="x", limit=1), (["x1"], True), "one, and there is more")
                same(listed(client, prefix="b", after="b/1", limit=9), (["b/1/2", "b/2"], False), "after")
            daemon.stopped_well()


# ---- hello ----


def test_hello_asks_for_a_token():
    with directory() as place:
        tokens = Tokens(place)
        token, other = tokens.add("read", "*", name="reader"), tokens.add("append", "*", name="writer")
        with tokens.daemon(place) as daemon:
            for unix in (False, True):
                for wrong, params in (
                    ("none", {}),
                    ("nil", {"token": None}),
                    ("empty", {"token": ""}),
                    ("another", {"token": "x" * len(token)}),
                    ("cut short", {"token": token[:-1]}),
                    ("longer", {"token": token + "x"}),
                    ("its hash", {"token": hashlib.sha256(token.encode()).hexdigest()}),
                    ("of the other case", {"token": token.swapcase()}),
                ):
                    with daemon.client(unix, hello=False) as client:
                        numbers = [client.send("hello", protocol=1, **params), client.send("append", stream="s", entry=b"x")]
                        fields = error_of("Unauthorized", client.wait, numbers[0])
                        check(token not in fields["message"], "a token in an error")
                        check(not client.at_end() and client.take(numbers[1]) is None, "and that is all: %s", wrong)
                with daemon.client(unix, hello=False) as client:  # a mistyped one is not looked at
                    for value in (7, b"x", token.encode(), [token]):
                        error_of("BadRequest", client.call, "hello", protocol=1, token=value)
                    check(client.call("hello", protocol=1, token=token)["protocol"] == 1, "the right one then")
                    error_of("StreamNotFound", client.call, "get", stream="s", id=0)
                    error_of("Unauthorized", client.call, "append", stream="s", entry=b"x")
                    client.call("hello", protocol=1)  # without one it stays what it is
                    error_of("Unauthorized", client.call, "append", stream="s", entry=b"x")
                    client.call("hello", protocol=1, token=other)  # and with another it is another
                    client.call("append", stream="s%d" % unix, entry=b"x")
                    error_of("Unauthorized", client.call, "get", stream="s", id=0)
                    error_of("Unauthorized", client.call, "hello", protocol=1, token="wrong")
                    check(client.at_end(), "a wrong one is the end, also later")
            with daemon.client(token=token) as client:
                same(listed(client)[0], ["s0", "s1"], "what came behind a wrong token was not done")
            daemon.stopped_well()
            log = daemon.stderr()
            check(re.search(r"127\.0\.0\.1:\d+: is reader\n", log), "who came over TCP: %s", log)
            who = r"unix #\d+ \(pid %d, uid %d, gid %d\): is reader\n" % (os.getpid(), os.getuid(), os.getgid())
            check(re.search(who, log), "and over the Unix socket: %s", log)


def hello_bytes(**params):
    return request(0, "hello", dict(params, protocol=1))


def ended(plain):
    """Reads to the end of the connection."""
    data = b""
    while True:
        try:
            more = plain.recv(65536)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


def connect(daemon):
    plain = socket.create_connection(daemon.tcp, DEADLINE_S)
    return plain


def test_a_hello_that_never_comes():
    """Nothing at all, half of one, one byte now and then, or another one that is refused: all closed in time."""
    with directory() as place, Daemon(place, "--hello-timeout=2s") as daemon:
        begin = time.monotonic()
        silent, half, slow, mistyped = [connect(daemon) for _ in range(4)]
        half.sendall(hello_bytes()[:9])
        mistyped.sendall(hello_bytes(token=7))
        with daemon.client() as good, daemon.client(unix=True) as other:
            data, at, closed = hello_bytes(client="x" * 2000), 0, False
            while not closed:  # ever something new: it does not help
                try:
                    slow.sendall(data[at:at + 1])
                    at += 1
                    slow.settimeout(0.01)
                    closed = slow.recv(1) == b""
                except (TimeoutError, socket.timeout):
                    check(time.monotonic() < begin + DEADLINE_S, "a slow hello is let go on for ever")
                except OSError:
                    closed = True
            took = time.monotonic() - begin
            check(took >= 2, "closed after %.3f s, before its time", took)
            same(ended(silent), b"", "nothing was said")
            same(ended(half), b"", "half a hello")
            check(b"BadRequest" in ended(mistyped), "a mistyped one is told, and closed all the same")
            eventually(lambda: good.call("stats")["connections"]["timeouts"] == 4, "four timeouts are counted")
            # Those that said hello may be silent.
            same((good.call("ping"), other.call("ping")), ({}, {}), "the others")
        for plain in (silent, half, slow, mistyped):
            plain.close()
        same(daemon.stderr().count("it did not say hello within hello_timeout"), 4, "logged")
        daemon.stopped_well()


def test_a_first_frame_is_small():
    with directory() as place, Daemon(place) as daemon:
        for size in (4097, 65536, 16 * 1024 * 1024, 2**32 - 1):
            with connect(daemon) as plain:
                plain.sendall(struct.pack(">I", size))
                answer = ended(plain)
                check(b"BadRequest" in answer and b"hello" in answer, "%d: %r", size, answer)
        with daemon.client(hello=False) as client:
            name = "x" * (4096 - len(hello_bytes(client="x" * 1000)) + 4 + 1000)
            same(len(hello_bytes(client=name)), 4096 + 4, "the longest one")
            check(client.call("hello", protocol=1, client=name)["protocol"] == 1, "is taken")
            client.append("s", b"x" * 100000)  # and what comes then is not bound by it
        with daemon.client(hello=False) as client:  # nor what comes right behind it
            numbers = [client.send("hello", protocol=1), client.send("append", stream="s", entry=b"x" * 100000)]
            same(client.wait(numbers[1])["id"] if client.wait(numbers[0]) else None, 1, "pipelined")
        daemon.stopped_well()


# ---- wrong tokens ----


def wrong(address, token):
    """The code of the answer to it."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as plain:
        plain.settimeout(DEADLINE_S)
        plain.connect(address)
        plain.sendall(hello_bytes(token=token))
        answer = ended(plain)
    found = re.search(rb"Unauthorized|Busy", answer)
    return found.group(0).decode() if found else repr(answer)


def test_ten_thousand_wrong_tokens():
    """Only a few are looked at. Others are let in meanwhile; and so is who has an old token and tries again and again."""
    count = 10000
    with directory() as place:
        tokens = Tokens(place)
        token = tokens.add("admin", "*")
        with tokens.daemon(place, "--max-connections=64") as daemon, daemon.client(unix=True, token=token) as admin:
            begin = time.monotonic()
            codes = {}
            rss = None
            for number in range(count):
                code = wrong(daemon.tcp, "guess-%d" % number)
                codes[code] = codes.get(code, 0) + 1
                if number % 1000 == 0:  # others go on, and come in
                    admin.ping()
                    with daemon.client(unix=True, token=token) as other:
                        other.ping()
                    rss = rss or daemon.rss_bytes()
            took = time.monotonic() - begin
            check(set(codes) <= {"Unauthorized", "Busy"}, "answers: %r", codes)
            looked_at = codes["Unauthorized"]
            check(10 <= looked_at <= 10 + took + 1, "%d of %d were looked at in %.1f s", looked_at, count, took)
            grown = daemon.rss_bytes() - rss
            check(grown < 8 * 1024 * 1024 * Daemon.memory_factor(), "memory grew by %d bytes", grown)
            access = admin.call("stats")["access"]
            same((access["wrong_tokens"], access["held_off"]), (looked_at, codes["Busy"]), "counted")
            lines = daemon.stderr().count("a wrong token")
            check(1 <= lines <= took + 2, "%d lines in the log", lines)
            check("guess-" not in daemon.stderr(), "a wrong token in the log")
            # The right one is not looked at either, from there: until the time that it is told.
            eventually(lambda: is_held_off(daemon, token), "it is not looked at")
            eventually(lambda: can_come_in(daemon, token), "it is let in again")
            admin.close()
            daemon.stopped_well()
    return "%d looked at in %.1f s" % (looked_at, took)


def is_held_off(daemon, token):
    wrong(daemon.tcp, secrets.token_hex(8))  # as a second that passes lets in one more
    try:
        with daemon.client(token=token):
            return False
    except ServerError as error:
        found = re.search(r"Busy.*connect again in (\d+) s", str(error))
        check(found and 1 <= int(found.group(1)) <= 10, "how long it is to wait: %s", error)
        return True


def can_come_in(daemon, token, unix=False):
    try:
        with daemon.client(unix, token=token):
            return True
    except ServerError as error:
        check(error.code == "Busy", "Busy until then: %s", error)
        return False


def test_the_same_wrong_token_again_keeps_nobody_out():
    with directory() as place:
        tokens = Tokens(place)
        token = tokens.add("read", "*")
        with tokens.daemon(place) as daemon:
            for _ in range(200):
                same(wrong(daemon.tcp, "an-old-one"), "Unauthorized", "each time")
                same(wrong(daemon.unix, "another-old-one"), "Unauthorized", "each time")
            with daemon.client(token=token) as client, daemon.client(unix=True, token=token) as other:
                client.ping()
                other.ping()
            for number in range(30):
                wrong(daemon.unix, "guess-%d" % number)
            same(wrong(daemon.unix, "an-old-one"), "Busy", "of this user")
            with daemon.client(token=token) as client:  # another peer
                client.ping()
            daemon.stopped_well()


# ---- the token file ----


def test_bad_token_files():
    good = "sha256:" + 64 * "0" + " n read *\n"
    with directory() as place:
        path = os.path.join(place, "tokens")
        option = "--token-file=" + path
        refused(2, ["token_file .*tokens: No such file"], place, option)
        for text, patterns in (
            ("", ["there is no token in it"]),
            ("# nothing\n\n \t \n", ["there is no token in it"]),
            ("secret-token n read *\n", [":1: .*sha256: and 64 hex digits"]),
            (good + "sha256:12 n read *\n", [":2: .*sha256: and 64 hex digits"]),
            ("sha256:" + 63 * "0" + "g n read *\n", [":1: "]),
            ("sha256:" + 64 * "1" + "\n", [":1: a name has"]),
            ("sha256:" + 64 * "1" + " n/n read *\n", [":1: a name has"]),
            ("sha256:" + 64 * "1" + " " + 65 * "n" + " read *\n", [":1: a name has"]),
            ("sha256:" + 64 * "1" + " n\n", [":1: roles are"]),
            ("sha256:" + 64 * "1" + " n read,write *\n", [":1: roles are"]),
            ("sha256:" + 64 * "1" + " n read, *\n", [":1: roles are"]),
            ("sha256:" + 64 * "1" + " n read\n", [":1: .*streams are missing"]),
            ("sha256:" + 64 * "1" + " n read a/\n", [":1: streams are given as PREFIX"]),
            ("sha256:" + 64 * "1" + " n read * a\n", [":1: streams are given as PREFIX"]),
            ("sha256:" + 64 * "1" + " n read a%2*\n", [":1: .*%25"]),
            ("sha256:" + 64 * "1" + " n read a%zz*\n", [":1: .*%25"]),
            ("sha256:" + 64 * "1" + " n read a%ff*\n", [":1: a prefix is UTF-8"]),
            ("sha256:" + 64 * "1" + " n read " + 256 * "a" + "*\n", [":1: a prefix has at most 255"]),
            ("sha256:" + 64 * "1" + " n read" + 33 * " a*" + "\n", [":1: .*at most 32 prefixes"]),
            (good + "#\n" + good, [":3: the token of n is there twice"]),
            (good + "\0\n", [":2: a NUL byte"]),
            ("".join("sha256:%064x n read *\n" % i for i in range(1025)), [":1025: there are at most 1024"]),
            ("# " + 1024 * 1024 * "x", ["over 1048576 bytes"]),
        ):
            with open(path, "w") as file:
                file.write(text)
            line = refused(2, ["token_file .*tokens"] + patterns, place, option)
            check("secret-token" not in line, "what may be a token is not shown: %s", line)
        with open(path, "w") as file:
            file.write(good)
        os.chmod(path, 0o602)
        refused(2, ["everyone on this machine can write to it: chmod o-w"], place, option)
        os.unlink(path)
        os.mkfifo(path)
        refused(2, ["it is not a file"], place, option)
        os.unlink(path)
        refused(2, ["it is not a file"], place, "--token-file=" + place)
        token = "t" * 40
        with open(path, "w") as file:  # without a newline at its end, with tabs and capitals, by CR LF
            digest = hashlib.sha256(token.encode()).hexdigest().upper()
            file.write("#\r\n\r\nsha256:%s\tn@h-1.x_y\tread,append\ta*\t%%62*\r\n%s" % (digest, good.strip()))
        with Daemon(place, option) as daemon:
            with daemon.client(token=token) as client:
                client.append("b", b"x")
            daemon.stopped_well()


def test_a_reload_renews_tokens():
    """By SIGHUP, with the configuration as it was: who has lost theirs is ended, and what is wrong changes nothing."""
    with directory() as place:
        tokens = Tokens(place)
        old, stays = tokens.add("append", "*"), tokens.add("read", "*")
        with tokens.daemon(place) as daemon, daemon.client(token=old) as gone, daemon.client(token=stays) as client:
            gone.append("s", b"x")
            tokens.lines.pop(0)
            new = tokens.add("append", "*")
            reloaded(daemon)

            def is_ended():
                try:
                    gone.append("s", b"x")
                    return False
                except ServerError as error:
                    check(error.code == "Unauthorized" and "not valid any more" in error.message, "%s", error)
                except ConnectionLost:
                    pass
                return True

            eventually(is_ended, "whose token is gone is ended")
            same(client.get("s", 0), b"x", "the other goes on")
            error_of("Unauthorized", daemon.client, token=old)
            with open(tokens.path, "a") as file:
                file.write("nonsense\n")
            reloaded(daemon, "reload refused")
            with daemon.client(token=new) as other:
                other.append("s", b"y")
            daemon.stopped_well(client)


# ---- where it listens ----


def test_open_addresses():
    with directory() as place:
        tokens = Tokens(place)
        tokens.add("read", "*")
        token_file = "--token-file=" + tokens.path
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
            listen = "--listen-tcp=" + address
            refused(2, [re.escape(address), "not a loopback address", "nobody is asked"], place, listen)
            refused(2, [re.escape(address), "not a loopback address", "without TLS"], place, listen, token_file)
        check(not os.path.exists(os.path.join(place, "data")), "nothing was made")
    in_private_network(open_address_on_purpose)


def open_address_on_purpose():
    with directory() as place:
        tokens = Tokens(place)
        token = tokens.add("read", "*")
        for token_file, warning in (("none", "reaches it: insecure"), (tokens.path, "reaches it, and sends tokens in the clear: ")):
            with Daemon(place, "--insecure-allow-open-addresses=yes", "--listen-tcp=0.0.0.0:0", "--token-file=" + token_file) as daemon:
                found = re.search(r"listening on tcp 0\.0\.0\.0:(\d+)", daemon.stderr())
                daemon.tcp = (OPEN_ADDRESS, int(found.group(1)))
                with daemon.client(token=token) as client:
                    client.ping()
                check(re.search(r"warn .*0\.0\.0\.0:\d+ is open to everyone who " + warning, daemon.stderr()), "%s", daemon.stderr())
                daemon.stopped_well()


def test_unix_socket_mode_and_group():
    with directory() as place:
        for options, mode, gid in (
            ((), 0o600, os.getgid()),
            (("--listen-unix-mode=0660",), 0o660, os.getgid()),
            (("--listen-unix-mode=666", "--listen-unix-group=%d" % os.getgid()), 0o666, os.getgid()),
            (("--listen-unix-mode=0620", "--listen-unix-group=" + grp.getgrgid(os.getgid()).gr_name), 0o620, os.getgid()),
        ):
            with Daemon(place, *options) as daemon:
                status = os.stat(daemon.unix)
                same((oct(stat.S_IMODE(status.st_mode)), status.st_gid), (oct(mode), gid), "of the socket with %r" % (options,))
                daemon.stopped_well()
        refused(2, ["there is no group no-such-group", "listen_unix_group"], place, "--listen-unix-group=no-such-group")
        refused(2, ["there is no group"], place, "--listen-unix-group=4294967295")
        check(not os.path.exists(os.path.join(place, "socket")), "nothing is left")
        if os.getuid() != 0:
            others = sorted({entry.gr_gid for entry in grp.getgrall()} - set(os.getgroups()) - {os.getgid()})
            refused(2, ["Operation not permitted|operation not permitted"], place, "--listen-unix-group=%d" % others[0])
            return
        # As root: any group, and what the mode means is what the system makes of it.
        other = 12345
        with Daemon(place, "--listen-unix-mode=0660", "--listen-unix-group=%d" % other) as daemon:
            os.chmod(place, 0o711)
            same(os.stat(daemon.unix).st_gid, other, "another group")
            same(Worker(come_in_as, daemon.unix, 54321, other).result(), "ok", "a member of the group")
            same(Worker(come_in_as, daemon.unix, 54321, 54321).result(), "PermissionError", "somebody else")
            daemon.stopped_well()


def come_in_as(path, uid, gid):
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    try:
        with Client(path, DEADLINE_S) as client:
            client.ping()
        return "ok"
    except OSError as error:
        return type(error).__name__


if __name__ == "__main__":
    main(cases_of(globals()))
