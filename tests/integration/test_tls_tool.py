#!/usr/bin/python3
"""The tool, and so libironwal, over TLS: with the real daemon, and with servers that are not what they should be.

test_tls_tool.py IRONWALD IRONWAL [CASE...]
"""

import contextlib
import functools
import os
import re
import socket
import ssl
import struct
import sys
import threading

import msgpack

import tool_run
from harness import *
from tls_peer import Certificates
from tool_run import CONNECTION, OK, USAGE, run

tool_run.IRONWAL = os.path.abspath(sys.argv.pop(2))


def ca(certificates, name="ca"):
    return ["--tls-ca", certificates.path(name)]


def fails(status, patterns, *args, **how):
    line = run(*args, expect=status, **how)
    for pattern in patterns:
        check(re.search(pattern, line), "%r: %r in %r", args, pattern, line)


def test_works():
    """By name, by address in numbers, by options and by the environment; what was written is there."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            port = daemon.tcp[1]
            text = "".join("line %d\n" % i for i in range(20000))
            for host in ("localhost", "127.0.0.1"):
                address = "tls:%s:%d" % (host, port)
                run("ping", *ca(certificates), connect=address)
                run("append", "--lines", "s-" + host, connect=address, stdin=text, IRONWAL_TLS_CA=certificates.path("ca"))
                same(run("cat", "s-" + host, *ca(certificates), connect=address), text, "cat")
                check(address in run("ping", *ca(certificates), IRONWAL_CONNECT=address), "IRONWAL_CONNECT")
            # The environment is for tls: addresses; others go on without.
            run("ping", connect="unix:" + daemon.unix, IRONWAL_TLS_CA="/none")
            with daemon.client(unix=True) as client:
                same(client.stream_info("s-localhost")["end"], 20000, "entries")
                same(client.call("stats")["access"]["tls_failures"], 0, "each ended by a close_notify")
            daemon.stopped_well()


def test_large_and_many():
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            address = "tls:localhost:%d" % daemon.tcp[1]
            path = os.path.join(place, "large")
            with open(path, "wb") as file:
                file.write(os.urandom(15 * 1024 * 1024))
            run("append", "large", "--file", path, *ca(certificates), connect=address)
            with daemon.client(unix=True) as client, open(path, "rb") as file:
                check(client.get("large", 0) == file.read(), "15 MiB and back")
            report = run("bench", "--count", "20000", "--connections", "20", "--threads", "2", "--pipeline", "32", "--payload", "2000",
                         "--mix", "append=3,get=2,iter=1", "--verify", *ca(certificates), connect=address)
            check("verified" in report, "a report: %s", report)
            daemon.stopped_well()


def test_whom_it_does_not_trust():
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("expired", "ca", "DNS:localhost", days=-1)
        certificates.sign("elsewhere", "ca", "DNS:example.org,DNS:*.localhost,IP:127.0.0.2")
        certificates.sign("by-name", "ca", "DNS:localhost,DNS:127.0.0.1")
        for name, host, authority, reason in (
            ("server", "localhost", "other", "unable to get local issuer certificate"),
            ("server", "localhost", None, "unable to get local issuer certificate"),  # the system's
            ("expired", "localhost", "ca", "certificate has expired"),
            ("elsewhere", "localhost", "ca", "hostname mismatch"),
            ("elsewhere", "127.0.0.1", "ca", "IP address mismatch"),
            ("by-name", "127.0.0.1", "ca", "IP address mismatch"),
            ("by-name", "localhost", "ca", None),
        ):
            with Daemon(place, *certificates.options(name)) as daemon:
                how = ca(certificates, authority) if authority else []
                for command in (["append", "s", "x"], ["bench", "--count", "1"]):
                    address = "tls:%s:%d" % (host, daemon.tcp[1])
                    if reason is None:
                        run(*command, *how, connect=address)
                        continue
                    fails(CONNECTION, ["the server's certificate is not accepted: " + reason], *command, *how, connect=address)
                    with daemon.client(unix=True) as client:
                        same(list(client.streams()), [], "nothing was sent")
                daemon.stopped_well()


def test_certificates_of_its_own():
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("client", "ca", "DNS:client")
        certificates.sign("stranger", "other", "DNS:client")

        def own(name, key=None):
            return ["--tls-cert", certificates.path(name), "--tls-key", certificates.key(key or name)]

        with Daemon(place, *certificates.options(client_ca="ca")) as daemon:
            address = "tls:localhost:%d" % daemon.tcp[1]
            how = dict(connect=address)
            run("append", "s", "x", *ca(certificates), *own("client"), **how)
            run("append", "s", "x", *ca(certificates), IRONWAL_TLS_CERT=certificates.path("client"),
                IRONWAL_TLS_KEY=certificates.key("client"), **how)
            fails(CONNECTION, ["certificate required"], "append", "s", "x", *ca(certificates), **how)
            fails(CONNECTION, ["unknown ca"], "append", "s", "x", *ca(certificates), *own("stranger"), **how)
            fails(USAGE, ["the key in .*stranger.key: key values mismatch"], "ping", *ca(certificates), *own("client", "stranger"), **how)
            fails(USAGE, ["go together"], "ping", *ca(certificates), "--tls-cert", certificates.path("client"), **how)
            fails(USAGE, ["go together"], "ping", *ca(certificates), "--tls-key", certificates.key("client"), **how)
            fails(USAGE, ["authorities in /none: No such file"], "ping", "--tls-ca", "/none", **how)
            fails(USAGE, ["authorities in .*ca.key: "], "ping", "--tls-ca", certificates.key("ca"), **how)
            fails(USAGE, ["the certificate in /none: No such file"], "ping", *ca(certificates), "--tls-cert", "/none", "--tls-key", "/none", **how)
            with daemon.client(unix=True) as client:
                same(client.stream_info("s")["end"], 2, "what was let in, and no more")
            daemon.stopped_well()


def test_plain_where_tls_is_and_the_other_way_round():
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            port = daemon.tcp[1]
            fails(CONNECTION, ["tls:HOST:PORT|does not speak the protocol"], "ping", connect="tcp:localhost:%d" % port)
            for address in ("tcp:localhost:%d" % port, "unix:" + daemon.unix):
                fails(USAGE, ["certificates are for TLS: expected tls:HOST:PORT"], "ping", *ca(certificates), connect=address)
            fails(USAGE, ["expected tls:HOST:PORT"], "ping", connect="tls:localhost")
            daemon.stopped_well()
        with Daemon(place) as daemon:
            address = "tls:localhost:%d" % daemon.tcp[1]
            fails(CONNECTION, ["cannot connect to " + address], "ping", *ca(certificates), connect=address)
            daemon.stopped_well()


# ---- servers that are none ----


@contextlib.contextmanager
def server(certificates, behave, version=None):
    """Serves one connection after the other: behave(connection, raw), after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path("server"), certificates.key("server"))
    if version:
        context.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                with raw:
                    raw.settimeout(DEADLINE_S)
                    try:
                        with context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as connection:
                            behave(connection)
                    except (OSError, EOFError):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "tls:localhost:%d" % listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def receive(connection):
    """A request."""
    def exactly(count):
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            if not more:
                raise EOFError()
            data += more
        return data

    (length,) = struct.unpack(">I", exactly(4))
    return msgpack.unpackb(exactly(length))


def response(number, result):
    message = msgpack.packb([1, number, None, result])
    return struct.pack(">I", len(message)) + message


HELLO = {"protocol": 1, "server": "x/1", "shard_count": 1, "max_message_bytes": 1 << 20, "sync_mode": "strict", "compression": "none"}


def test_cut_off():
    """The server's bytes end without a close_notify: in front of an answer, in the middle of one; and with one, for comparison."""
    with directory() as place:
        certificates = Certificates(place)

        def serve(bytes_of_answer, well):
            def behave(connection):
                number = receive(connection)[1]
                connection.sendall(response(number, HELLO))
                number = receive(connection)[1]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # so that the end comes with them
                connection.sendall(response(number, {"entry": b"x" * 1000})[:bytes_of_answer])
                if well:
                    connection.unwrap()
            return behave

        for bytes_of_answer in (0, 500):
            with server(certificates, serve(bytes_of_answer, False)) as address:
                fails(CONNECTION, ["was lost: it was cut off: there was no close_notify"], "get", "s", "0", *ca(certificates), connect=address)
            with server(certificates, serve(bytes_of_answer, True)) as address:
                fails(CONNECTION, ["was lost: the server closed it"], "get", "s", "0", *ca(certificates), connect=address)


def test_old_versions():
    with directory() as place:
        certificates = Certificates(place)
        with server(certificates, receive, ssl.TLSVersion.TLSv1_2) as address:
            fails(CONNECTION, ["cannot connect to .*protocol version"], "ping", *ca(certificates), connect=address)


def test_a_server_that_is_silent():
    """In the handshake, and after it: the timeout is for all of it."""
    with directory() as place:
        certificates = Certificates(place)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = "tls:localhost:%d" % listener.getsockname()[1]
            for command in (["ping"], ["bench", "--count", "1"]):
                fails(CONNECTION, ["in time|Timeout|timed out"], "--timeout", "0.3", *command, *ca(certificates), connect=address)
        with server(certificates, lambda connection: receive(connection) and connection.recv(1)) as address:
            fails(CONNECTION, ["in time"], "--timeout", "0.3", "ping", *ca(certificates), connect=address)


def test_one_byte_at_a_time():
    """Answers in records of a byte each."""
    with directory() as place:
        certificates = Certificates(place)

        def behave(connection):
            for result in (HELLO, {"entry": b"hello" * 10000}):
                for byte in response(receive(connection)[1], result):
                    connection.sendall(bytes([byte]))
            receive(connection)

        with server(certificates, behave) as address:
            same(run("get", "s", "0", *ca(certificates), connect=address), "hello" * 10000, "get")


def needs_localhost(case):
    """Names are looked up by the system: where /etc/hosts says nothing of this one, there is none to use."""

    @functools.wraps(case)
    def wrapped():
        try:
            socket.getaddrinfo("localhost", None, socket.AF_INET)
        except OSError as error:
            raise Skipped("localhost is no name here: %s" % error)
        case()

    return wrapped


if __name__ == "__main__":
    main([needs_localhost(case) for case in cases_of(globals())])
