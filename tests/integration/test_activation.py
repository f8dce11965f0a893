#!/usr/bin/python3
"""Sockets that a supervisor has opened, as systemd hands them over (LISTEN_FDS), and by its own systemd-socket-activate.

test_activation.py IRONWALD [CASE...]
"""

import hashlib
import os
import re
import shutil
import socket
import time

import harness
from harness import Daemon, Skipped, Worker, cases_of, check, directory, eventually, main, refused, same
from ironwal_client import Client, ConnectionLost, ServerError
from tls_peer import Certificates, TlsSocket

BACKLOG = 1024
RESTARTS = 6


def unix(path, kind=socket.SOCK_STREAM, listening=True):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(path)
    if listening:
        made.listen(BACKLOG)
    return made


def tcp(host="127.0.0.1", family=socket.AF_INET):
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: an address that this machine does not have can be told, too
    made.bind((host, 0))
    made.listen(BACKLOG)
    return made


def has_ipv6():
    try:
        tcp("::1", socket.AF_INET6).close()
    except OSError:
        return False
    return True


def handing_over(sockets):
    """For Daemon: descriptors from 3 on, as sd_listen_fds(3) wants them, and LISTEN_PID that of the daemon."""
    numbers = [made.fileno() for made in sockets]
    # Beyond those that are to be filled, so that none is overwritten before it was copied.
    high = [100 + i for i in range(len(numbers))]
    moves = ["%d<&%d" % move for move in zip(high, numbers)] + ["%d<&%d" % (3 + i, fd) for i, fd in enumerate(high)]
    script = "exec %s; LISTEN_PID=$$ LISTEN_FDS=%d exec \"$@\"" % (" ".join(moves), len(numbers))
    return {"through": (shutil.which("bash") or needs("bash"), "-c", script, "sh"), "fds": numbers}


def needs(program):
    found = shutil.which(program)
    if found is None:
        raise Skipped("%s is not installed" % program)
    return found


def built_with_systemd():
    """Without libsystemd there is only its refusal, which a unit test sees."""
    with directory() as place, unix(os.path.join(place, "s")) as made:
        with Daemon(place, "--log-level=error", ready=False, **handing_over([made])) as daemon:
            if daemon.process.stdout.readline() == "ready\n":
                return
            daemon.wait()
            if "built without libsystemd" in daemon.stderr():
                raise Skipped("ironwald was built without libsystemd")
            raise harness.Failed("it does not start: %s" % daemon.stderr())


def served(address):
    with Client(address, harness.DEADLINE_S) as client:
        return client.append("s", b"x")["id"]


# ---- what is taken ---------------------------------------------------------------------------------------------------


def test_inherited_sockets_replace_its_own():
    built_with_systemd()
    with directory() as place:
        path = os.path.join(place, "inherited")
        sockets = [unix(path), tcp(), tcp("::1", socket.AF_INET6) if has_ipv6() else tcp(), unix("\0" + path)]
        try:
            with Daemon(place, **handing_over(sockets)) as daemon:
                for number, made in enumerate(sockets):
                    same(served_on(made), number, "the id of an append over %s" % (made.getsockname(),))
                check(not os.path.exists(daemon.unix), "listen_unix is replaced")
                check("4 sockets: they replace listen_tcp and listen_unix" in daemon.stderr(), "%s", daemon.stderr())
                told = re.findall(r"net: listening on (\w+) (\S+), which the supervisor has opened$", daemon.stderr(), re.M)
                same(sorted(told), sorted([("unix", path), ("unix", "@" + path)] + [("tcp", name(made)) for made in sockets[1:3]]),
                     "where it listens")
                daemon.stopped_well()
                check("listening on unix " + daemon.unix not in daemon.stderr(), "nothing else: %s", daemon.stderr())
            check(os.path.exists(path), "the path of another one's socket is left where it is")
            # It can do without a place of its own, then.
            with Daemon(place, "--listen-unix=none", tcp=False, **handing_over(sockets[:1])) as daemon:
                same(served(path), 4, "the next id")
                daemon.stopped_well()
            refused(2, ["both none"], place, "--listen-unix=none", tcp=False)
        finally:
            for made in sockets:
                made.close()


def served_on(made):
    address = made.getsockname()
    if made.family == socket.AF_UNIX:
        return served(address if isinstance(address, str) else address.decode())
    return served(address[:2])


def name(made):
    host, port = made.getsockname()[:2]
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)


def test_sockets_for_somebody_else_are_not_taken():
    built_with_systemd()
    with directory() as place, unix(os.path.join(place, "inherited")) as made:
        fd = made.fileno()
        with Daemon(place, fds=[fd], env={"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}) as daemon:
            check("supervisor" not in daemon.stderr(), "LISTEN_PID is another one's: %s", daemon.stderr())
            same(served(daemon.unix), 0, "it listens by itself")
            daemon.stopped_well()


def test_what_may_not_be_served_is_refused():
    built_with_systemd()
    with directory() as place:
        path = os.path.join(place, "s")
        good = unix(os.path.join(place, "good"))
        open_address = "192.0.2.1"  # of no machine
        open_ipv6 = [(lambda: tcp("2001:db8::1", socket.AF_INET6), r"\[2001:db8::1\]:\d+: it is not a loopback")]
        for made, pattern in (
            (lambda: tcp(open_address), r"descriptor 4 .*192\.0\.2\.1:\d+: it is not a loopback address, and nobody is asked"),
            *(open_ipv6 if has_ipv6() else []),
            (lambda: unix(path, socket.SOCK_DGRAM, False), "descriptor 4 .* is no stream socket that listens"),
            (lambda: unix(path, socket.SOCK_SEQPACKET), "descriptor 4 .* is no stream socket that listens"),
            (lambda: unix(path, listening=False), "descriptor 4 .* is no stream socket that listens"),
            (lambda: open(path, "w"), "descriptor 4 .* is no stream socket that listens"),
        ):
            with made() as bad:
                refused(2, [pattern], place, **handing_over([good, bad]))
            if os.path.exists(path):
                os.unlink(path)
        many = [good.dup() for _ in range(17)]
        refused(2, ["17 sockets of the supervisor: at most 16"], place, **handing_over(many))
        for made in many:
            made.close()
        check(not os.path.exists(os.path.join(place, "data")), "refused before anything is made")
        good.close()


# ---- who may come in -------------------------------------------------------------------------------------------------


TOKEN = "a token that only this test has"


def guards(place):
    """Options that ask for the token, and for TLS; what a client says of it."""
    certificates = Certificates(place)
    path = os.path.join(place, "tokens")
    with open(path, "w") as file:
        file.write("sha256:%s test append *\n" % hashlib.sha256(TOKEN.encode()).hexdigest())
    return ["--token-file=" + path], certificates.options(), certificates.context()


def served_by_tls(made, context, **options):
    def wrap(raw):
        return TlsSocket(raw, context, harness.DEADLINE_S)

    with Client(made.getsockname()[:2], harness.DEADLINE_S, wrap=wrap, **options) as client:
        return client.append("s", b"x")["id"]


def is_cut_off(made):
    try:
        served_on(made)
    except ConnectionLost:
        return
    raise harness.Failed("it is served without TLS")


def test_tls_is_for_inherited_tcp():
    built_with_systemd()
    with directory() as place, unix(os.path.join(place, "inherited")) as plain, tcp() as made:
        _, tls, context = guards(place)
        with Daemon(place, *tls, **handing_over([plain, made])) as daemon:
            same(served_by_tls(made, context), 0, "an append over TLS")
            same(served_on(plain), 1, "an append over the Unix socket, which has none")
            is_cut_off(made)
            daemon.stopped_well()


def where_strangers_could_come_from(place, token, tls, context):
    with tcp(harness.OPEN_ADDRESS) as made:
        where = r"descriptor 3 .*%s: it is not a loopback address, and " % re.escape(name(made))
        for options, why in (([], "nobody is asked"), (tls, "nobody is asked"), (token, "without TLS")):
            refused(2, [where + why], place, *options, **handing_over([made]))
        check(not os.path.exists(os.path.join(place, "data")), "refused before anything is made")
        with Daemon(place, *token, *tls, **handing_over([made])) as daemon:
            same(served_by_tls(made, context, token=TOKEN), 0, "an append with all that it takes")
            harness.error_of("Unauthorized", served_by_tls, made, context)
            is_cut_off(made)
            daemon.stopped_well()
            check("is open to everyone" not in daemon.stderr(), "%s", daemon.stderr())
        with Daemon(place, "--insecure-allow-open-addresses=yes", **handing_over([made])) as daemon:
            same(served_on(made), 1, "an append that nothing stands before")
            daemon.stopped_well()
            check("tcp %s is open to everyone who reaches it: insecure" % name(made) in daemon.stderr(), "%s", daemon.stderr())


def test_open_addresses_want_what_keeps_strangers_out():
    """By the rule of listen_tcp."""
    built_with_systemd()
    with directory() as place:
        guard = guards(place)
        harness.in_private_network(lambda: where_strangers_could_come_from(place, *guard))


# ---- restarts --------------------------------------------------------------------------------------------------------


def connect_again_and_again(path, address, stop):
    """A new connection for each append. Returns the ids that were acknowledged; no connection may be refused."""
    ids, turns = [], 0
    while not os.path.exists(stop):
        turns += 1
        try:
            with Client(path if turns % 2 else tuple(address), harness.DEADLINE_S) as client:
                ids.append(client.append("s", b"%d" % len(ids))["id"])
        except ConnectionLost:
            pass  # accepted by the one that is stopping, or dies
        except ServerError as error:
            check(error.code == "ShuttingDown", "%s", error)
    return ids


def test_connections_wait_while_it_restarts():
    """It stops, or dies, and is started again: nobody is refused, and nothing that was acknowledged is lost."""
    built_with_systemd()
    with directory() as place:
        path, stop = os.path.join(place, "inherited"), os.path.join(place, "stop")
        with unix(path) as one, tcp() as other:
            handed = handing_over([one, other])
            daemon = Daemon(place, "--log-level=warn", **handed)
            with Worker(connect_again_and_again, path, other.getsockname(), stop) as worker:
                for number in range(RESTARTS):
                    with daemon:
                        with Client(path, harness.DEADLINE_S) as client:
                            before = client.stats()["connections"]["accepted"]
                            eventually(lambda: client.stats()["connections"]["accepted"] > before + 10, "a load")
                        if number % 2:
                            daemon.kill()
                        else:
                            same(daemon.stop(), 0, "SIGTERM: %s" % daemon.stderr())
                    time.sleep(0.05)  # what this is about: nobody is there for a while
                    check(worker.running(), "a connection was refused")
                    daemon = Daemon(place, "--log-level=warn", **handed)
                with daemon:
                    open(stop, "w").close()
                    ids = worker.result()
                    with Client(path, harness.DEADLINE_S) as client:
                        end = client.stream_info("s")["end"]
                        check(ids == sorted(set(ids)) and ids[-1] < end, "ids rise: %d, %d", len(ids), end)
                        daemon.stopped_well(client)
    return "%d connections acknowledged, %d restarts" % (len(ids), RESTARTS)


# ---- systemd's own tool ----------------------------------------------------------------------------------------------


def test_systemd_socket_activate():
    activate = needs("systemd-socket-activate")
    built_with_systemd()
    with directory() as place:
        path = os.path.join(place, "inherited")
        # It takes no port 0: one that was free, on an address of our own, where nobody else looks for one.
        host = "127.78.%d.%d" % (os.getpid() // 254 % 254 + 1, os.getpid() % 254 + 1)
        with tcp(host) as made:
            port = made.getsockname()[1]
        through = (activate, "-l", path, "-l", "%s:%d" % (host, port))
        with Daemon(place, ready=False, through=through) as daemon:
            listening = "Listening on %s:%d" % (host, port)
            eventually(lambda: listening in daemon.stderr(), "it listens for the daemon: %s" % daemon.stderr())
            # The first connection starts it, and is served.
            same(served(path), 0, "an append")
            same(served((host, port)), 1, "an append over TCP")
            daemon.stopped_well()
        check(os.path.exists(path), "the path is left where it is")


main(cases_of(globals()))
