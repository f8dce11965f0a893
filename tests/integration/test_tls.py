#!/usr/bin/python3
"""TLS between the real daemon and OpenSSL as Python has it, well and badly used.

test_tls.py IRONWALD [CASE...]
"""

import contextlib
import os
import re
import secrets
import select
import socket
import ssl
import struct
import subprocess
import time

from harness import *
from ironwal_client import request
from tls_peer import Certificates, TlsSocket


def tls_client(daemon, context, host="localhost", **options):
    return daemon.client(wrap=lambda raw: TlsSocket(raw, context, DEADLINE_S, host), **options)


def tls_plain(daemon, context, host="localhost", handshake=True):
    return TlsSocket(socket.create_connection(daemon.tcp, DEADLINE_S), context, DEADLINE_S, host, handshake)


def hello():
    return request(0, "hello", {"protocol": 1})


def access(daemon):
    with daemon.client(unix=True) as client:
        return client.call("stats")["access"]


def test_all_works_over_it():
    """As without: pipelines, large messages both ways, waiting iters, many connections; and the Unix socket beside it."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            with tls_client(daemon, certificates.context()) as client, daemon.client(unix=True) as plain:
                same(client.socket.tls.version(), "TLSv1.3", "version")
                for size in (0, 1, 100, 16383, 16384, 16385, 65536, 1000000, 16 * 1024 * 1024 - 1024):
                    entry = os.urandom(size) if size < 2000000 else os.urandom(1000) * (size // 1000) + bytes(size % 1000)
                    id = client.append("sizes", entry)["id"]
                    check(client.get("sizes", id) == entry, "%d bytes and back", size)
                    check(plain.get("sizes", id) == entry, "the same for others")
                numbers = [client.send("append", stream="many", entry=b"%d" % i) for i in range(5000)]
                same([client.wait(number)["id"] for number in numbers], list(range(5000)), "5,000 in flight")
                numbers = [client.send("get", stream="many", id=i) for i in range(5000)]
                same([client.wait(number)["entry"] for number in numbers], [b"%d" % i for i in range(5000)], "and back")
                waiting = client.send("iter", stream="many", start_id=5000, wait_ms=60000)
                client.flush()
                plain.append("many", b"late")
                same(client.wait(waiting)["entries"], [b"late"], "an iter that waited")
            others = [tls_client(daemon, certificates.context()) for _ in range(50)]
            for other in others:
                other.append("others", b"x")
            same(access(daemon)["tls_handshakes"], 51, "handshakes")
            same(access(daemon)["tls_failures"], 0, "failures")
            daemon.stopped_well(*others)


def test_small_pieces():
    """However the encrypted bytes are cut: one at a time, also in the handshake."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon, tls_plain(daemon, certificates.context(), handshake=False) as peer:
            def pump_out():
                data = peer.outgoing.read()
                for i in range(len(data)):
                    select.select([], [peer.raw], [])
                    peer.raw.send(data[i:i + 1])

            peer.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.pump_out = pump_out
            peer.wait_for(peer.tls.do_handshake)
            peer.send(hello() + request(1, "append", {"stream": "s", "entry": b"x"}))
            peer.shutdown(socket.SHUT_WR)
            check(b"durable" in peer.read_all(), "answered")
            daemon.stopped_well()


def test_close_notify_is_the_half_close():
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            with tls_client(daemon, certificates.context()) as client:
                client.append("s", b"so that the iter finds a stream")
                numbers = [client.send("append", stream="s", entry=os.urandom(1000)) for _ in range(1000)]
                numbers.append(client.send("iter", stream="s", start_id=1000000, wait_ms=60000))
                client.half_close()
                for number in numbers:
                    client.wait(number)
                check(client.at_end(), "all is answered")
                check(client.socket.closed_well, "by a close_notify")
            with tls_plain(daemon, certificates.context()) as peer:  # the server's own end is one, too
                peer.send(hello() + request(1, "nonsense", {}) + struct.pack(">I", 2**31))
                answers = peer.read_all()  # fails if there is a bare end
                check(b"UnknownMethod" in answers and b"BadRequest" in answers, "answered: %r", answers)
            same(access(daemon)["tls_failures"], 0, "no failures")
            daemon.stopped_well()


def test_a_bare_end_is_an_error():
    """In the handshake, between requests, in the middle of one, and with answers to come: what was sent in full may be
    done, the rest is not, and no answer follows."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon, daemon.client(unix=True) as other:
            frame = request(1, "append", {"stream": "s", "entry": b"x" * 100000})
            for case, data in (("no request", b""), ("hello", hello()), ("half a request", hello() + frame[:50000])):
                with tls_plain(daemon, certificates.context()) as peer:
                    peer.send(data)
                    if data:
                        check(b"protocol" in peer.wait_for(lambda: peer.read(1000)), "hello is answered")
                    before = access(daemon)["tls_failures"]
                    peer.raw.shutdown(socket.SHUT_WR)
                    broken_off(peer)
                    eventually(lambda: access(daemon)["tls_failures"] == before + 1, case + ": counted")
            with tls_plain(daemon, certificates.context()) as peer:  # the last record is cut
                peer.tls.write(hello() + frame)
                data = peer.outgoing.read()
                peer.raw.setblocking(True)
                peer.raw.sendall(data[:-1])
                peer.raw.shutdown(socket.SHUT_WR)
                while peer.raw.recv(65536):
                    pass
            error_of("StreamNotFound", other.call, "get", stream="s", id=0)
            with tls_plain(daemon, certificates.context(), handshake=False) as peer:  # in the middle of the handshake
                try:
                    peer.tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                peer.raw.sendall(peer.outgoing.read()[:50])
                peer.raw.shutdown(socket.SHUT_WR)
                same(until_end(peer.raw), b"", "nothing is said")
            check("without a close_notify" in daemon.stderr(), "logged")
            daemon.stopped_well(other)


def broken_off(peer):
    """The server ends it, and not by a close_notify: it is no end that one could rely on."""
    try:
        data = peer.read_all()
    except (ssl.SSLError, ConnectionResetError):
        return
    raise Failed("it was to be broken off, and ends well: %r" % data)


def until_end(raw):
    raw.setblocking(True)
    raw.settimeout(DEADLINE_S)
    data = b""
    while True:
        try:
            more = raw.recv(65536)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


def test_plain_text_to_a_tls_port():
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            for data in (hello(), b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, os.urandom(1000), b"\x16\x03\x01\xff\xff" + b"x" * 100000):
                with socket.create_connection(daemon.tcp, DEADLINE_S) as plain:
                    with contextlib.suppress(OSError):  # it may have hung up before it has read all
                        plain.sendall(data)
                        plain.shutdown(socket.SHUT_WR)
                    answer = until_end(plain)
                    check(b"protocol" not in answer and len(answer) <= 7, "no more than an alert: %r", answer)
            eventually(lambda: access(daemon)["tls_failures"] >= 4, "counted")
            with tls_client(daemon, certificates.context()) as client:
                client.ping()
            check("TLS handshake: " in daemon.stderr(), "logged: %s", daemon.stderr())
            daemon.stopped_well()
        with Daemon(place) as daemon:  # and the other way round
            try:
                tls_client(daemon, certificates.context())
                check(False, "TLS without TLS")
            except (ssl.SSLError, ConnectionResetError):
                pass
            daemon.stopped_well()


def refused_by_client(daemon, context, pattern, host="localhost"):
    try:
        with tls_client(daemon, context, host):
            check(False, "it was to be refused: %s", pattern)
    except ssl.SSLError as error:
        check(re.search(pattern, str(error)), "%r in %s", pattern, error)


def test_what_clients_refuse():
    """The server shows what it was told to show: another authority, another host, an expired one."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            refused_by_client(daemon, certificates.context("other"), "certificate verify failed")
            refused_by_client(daemon, certificates.context(), "Hostname mismatch", "example.org")
            with tls_client(daemon, certificates.context(), "127.0.0.1") as client:
                client.ping()
            daemon.stopped_well(client)
            check("TLS handshake: " in daemon.stderr(), "the alert is logged: %s", daemon.stderr())
        certificates.sign("expired", "ca", "DNS:localhost", days=-1)
        with Daemon(place, *certificates.options("expired")) as daemon:
            refused_by_client(daemon, certificates.context(), "certificate has expired")
            check("is not valid any more" in daemon.stderr(), "the operator is told: %s", daemon.stderr())
            daemon.stopped_well()


def test_client_certificates():
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("client", "ca", "DNS:client")
        certificates.sign("stranger", "other", "DNS:client")
        certificates.sign("expired", "ca", "DNS:client", days=-1)
        with Daemon(place, *certificates.options(client_ca="ca")) as daemon:
            with tls_client(daemon, certificates.context(client="client")) as client:
                client.append("s", b"x")
            check(re.search(r"127\.0\.0\.1:\d+: has the certificate of /CN=client\n", daemon.stderr()), "who: %s", daemon.stderr())
            for name, reason, logged in (
                (None, "CERTIFICATE_REQUIRED", "peer did not return a certificate"),
                ("stranger", "UNKNOWN_CA|CERTIFICATE_UNKNOWN", "unable to get local issuer certificate"),
                ("expired", "CERTIFICATE_EXPIRED", "certificate has expired"),
            ):
                # With TLS 1.3 a client only learns it when it reads; what it sent meanwhile is not done.
                with tls_plain(daemon, certificates.context(client=name)) as peer:
                    peer.send(hello() + request(1, "append", {"stream": "s", "entry": b"x" * 100000}))
                    try:
                        check(False, "let in: %r", peer.read_all())
                    except ssl.SSLError as error:
                        check(re.search(reason, error.reason), "%r: %s", reason, error)
                check_log = re.compile("TLS handshake: " + logged)
                # One line a second at most.
                eventually(lambda: check_log.search(daemon.stderr()) or logs_again(daemon, certificates, name), logged)
            with daemon.client(unix=True) as client:
                same(client.stream_info("s")["end"], 1, "nothing was appended")
            daemon.stopped_well()


def logs_again(daemon, certificates, name):
    try:
        with tls_client(daemon, certificates.context(client=name)):
            check(False, "let in")
    except (ssl.SSLError, ConnectionLost, OSError):
        pass
    return False


def test_versions_before_1_3_are_refused():
    """So there is no renegotiation, either."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            context = certificates.context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            refused_by_client(daemon, context, "(?i)protocol.version")
            with tls_plain(daemon, certificates.context()) as peer:
                # A second ClientHello in the middle is what asked for it: the record is no data, and is refused.
                peer.send(hello())
                check(b"protocol" in peer.wait_for(lambda: peer.read(1000)), "hello")
                again = tls_plain_hello(certificates)
                peer.raw.setblocking(True)
                peer.raw.sendall(again)
                peer.raw.setblocking(False)
                broken_off(peer)
            daemon.stopped_well()


def tls_plain_hello(certificates):
    outgoing = ssl.MemoryBIO()
    tls = certificates.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


def test_no_sessions():
    """Nothing is given out that another connection could begin with."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            with tls_client(daemon, certificates.context()) as client:
                client.ping()
                check(client.socket.tls.session is None or not client.socket.tls.session.has_ticket, "a ticket")
            daemon.stopped_well()


def test_a_handshake_that_never_ends():
    """Not begun, begun, or refused and kept open: hello's time holds for that, too."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, "--hello-timeout=2s", *certificates.options()) as daemon:
            begin = time.monotonic()
            silent, half, refused = [socket.create_connection(daemon.tcp, DEADLINE_S) for _ in range(3)]
            half.sendall(tls_plain_hello(certificates)[:100])
            refused.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with tls_client(daemon, certificates.context()) as good, tls_plain(daemon, certificates.context()) as mute:
                for plain in (silent, half, refused, mute.raw):
                    until_end(plain)
                took = time.monotonic() - begin
                check(took >= 2, "closed after %.3f s, before their time", took)
                good.ping()
                same(access(daemon)["tls_handshakes"], 2, "handshakes")
                with daemon.client(unix=True) as other:
                    same(other.call("stats")["connections"]["timeouts"], 4, "timeouts")
            for plain in (silent, half, refused):
                plain.close()
            daemon.stopped_well()


def announced(length, sent):
    """The beginning of a ClientHello, in records."""
    data = (b"\x01" + struct.pack(">I", length)[1:] + b"\0" * sent)[:sent]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(data[at:at + 16384])) + data[at:at + 16384]
                    for at in range(0, sent, 16384))


def test_a_hello_that_announces_much():
    """It is refused as soon as it has said how long it would be; what may be as long as it is, is held, and no more."""
    with directory() as place:
        certificates = Certificates(place)
        options = ["--hello-timeout=600s", *certificates.options()]
        with Daemon(place, *options) as daemon, daemon.client(unix=True) as other:
            with socket.create_connection(daemon.tcp, DEADLINE_S) as dribbling:
                dribbling.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answered = 0
                for byte in announced(200000, 200000):
                    try:
                        dribbling.send(bytes([byte]))
                    except (BrokenPipeError, ConnectionResetError):
                        break
                    answered += 1
                    if answered >= 9 or select.select([dribbling], [], [], 0)[0]:
                        break
                same(answered, 9, "bytes until the length was known")
                same(until_end(dribbling), b"\x15\x03\x03\x00\x02\x02\x2f", "an alert, illegal_parameter")
            check("a message of 200000 bytes is announced, and 16384 are the most" in daemon.stderr(), "logged: %s", daemon.stderr())
            same(access(daemon)["tls_failures"], 1, "counted")

            before, count = daemon.rss_bytes(), 300
            strangers = [socket.create_connection(daemon.tcp, DEADLINE_S) for _ in range(count)]
            for stranger in strangers:
                stranger.sendall(announced(16384, 16000) + b"\x16\x03\x01\x40\x00" + b"\0" * 16000)
            with tls_client(daemon, certificates.context()) as client:  # whose turn comes after theirs
                client.ping()
            held = (daemon.rss_bytes() - before) // count
            check(held < 128 * 1024 * Daemon.memory_factor(), "each stranger has %d bytes held", held)
            other.ping()
            for stranger in strangers:
                stranger.close()
            daemon.stopped_well(other)


def test_certificates_of_clients_are_bounded():
    """In their number and their length: what is more than any chain that is of use."""
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("client", "ca", "DNS:client")
        with Daemon(place, *certificates.options(client_ca="ca")) as daemon:
            with open(certificates.path("client")) as file, open(certificates.path("ca")) as ca:
                own, authority = file.read(), ca.read()
            for more, reason in ((9, None), (10, "certificate chain too long"), (100, "excessive message size")):
                with open(certificates.path("client"), "w") as file:
                    file.write(own + authority * more)
                if reason is None:
                    with tls_client(daemon, certificates.context(client="client")) as client:
                        client.ping()
                else:  # one line a second at most
                    eventually(lambda: "TLS handshake: " + reason in daemon.stderr() or logs_again(daemon, certificates, "client"), reason)
            daemon.stopped_well()


def test_a_peer_that_does_not_read():
    """The server's memory does not follow what it asks for, and it is closed as one without TLS."""
    with directory() as place:
        certificates = Certificates(place)
        options = ["--write-timeout=2s", "--max-inflight-bytes=4M", *certificates.options()]
        with Daemon(place, *options) as daemon, daemon.client(unix=True) as other:
            other.append("s", os.urandom(1024 * 1024))
            rss = daemon.rss_bytes()
            with tls_plain(daemon, certificates.context()) as peer:
                peer.tls.write(hello() + b"".join(request(i, "get", {"stream": "s", "id": 0}) for i in range(1, 200)))
                peer.raw.setblocking(True)
                peer.raw.settimeout(DEADLINE_S)
                peer.raw.sendall(peer.outgoing.read())
                eventually(lambda: "it did not take its answers within write_timeout" in daemon.stderr(), "closed")
                grown = daemon.rss_bytes() - rss
                check(grown < 32 * 1024 * 1024 * Daemon.memory_factor(), "memory grew by %d bytes", grown)
                other.ping()
            daemon.stopped_well(other)


def test_many_handshakes_at_once():
    """Those who are in are served in between."""
    count = 300
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon, daemon.client(unix=True) as other:
            context = certificates.context()
            peers = [tls_plain(daemon, context, handshake=False) for _ in range(count)]
            for peer in peers:
                try:
                    peer.tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
            for peer in peers:
                peer.raw.sendall(peer.outgoing.read())
            other.ping()
            for peer in peers:
                peer.wait_for(peer.tls.do_handshake)
                peer.send(hello())
            for peer in peers:
                check(b"protocol" in peer.wait_for(lambda: peer.read(1000)), "each is served")
                peer.close()
            same(access(daemon)["tls_handshakes"], count, "handshakes")
            daemon.stopped_well(other)


def shown_by(peer):
    """The name in the daemon's certificate."""
    return dict(pair for names in peer.tls.getpeercert()["subject"] for pair in names)["commonName"]


def test_a_reload_renews_certificates():
    """By SIGHUP, with the configuration as it was: for those who come then; what is wrong changes nothing."""
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("second", "ca", "DNS:localhost")
        context = certificates.context()
        with Daemon(place, *certificates.options()) as daemon, tls_client(daemon, context) as old:
            same(shown_by(old.socket), "server", "whose certificate")
            os.replace(certificates.path("second"), certificates.path("server"))
            reloaded(daemon, "reload refused, all stays as it was: tls_key")  # that of the first
            with tls_plain(daemon, context) as peer:
                same(shown_by(peer), "server", "whose certificate, after a bad reload")
            os.replace(certificates.key("second"), certificates.key("server"))
            reloaded(daemon)
            with tls_client(daemon, context) as new:
                same(shown_by(new.socket), "second", "whose certificate, after a good one")
                new.append("s", b"x")
            same(old.get("s", 0), b"x", "who came before goes on")
            daemon.stopped_well(old)


def test_open_addresses_with_all_that_they_want():
    in_private_network(open_with_all)


def open_with_all():
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("client", "ca", "DNS:client")
        tokens = os.path.join(place, "tokens")
        with open(tokens, "w") as file:
            file.write("sha256:%s n read *\n" % ("0" * 64))
        listen = "--listen-tcp=%s:0" % OPEN_ADDRESS
        for options in (
            ["--token-file=" + tokens, *certificates.options()],
            certificates.options(client_ca="ca"),
        ):
            with Daemon(place, listen, *options) as daemon:
                check("listening on tcp " + OPEN_ADDRESS in daemon.stderr(), "it listens")
                check("open to everyone" not in daemon.stderr(), "without a warning")
                daemon.stopped_well()
        for options, pattern in ((["--token-file=" + tokens], "without TLS"), (certificates.options(), "nobody is asked")):
            refused(2, [re.escape(OPEN_ADDRESS), pattern], place, listen, *options)


def test_new_keys_without_a_word():
    """Each costs the loop something, and no plain byte comes of it, which would have a limit."""
    with directory() as place:
        certificates = Certificates(place)
        with Daemon(place, *certificates.options()) as daemon:
            command = ["openssl", "s_client", "-connect", "127.0.0.1:%d" % daemon.tcp[1], "-CAfile", certificates.path("ca")]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as peer:
                asked = 0
                try:
                    deadline = time.monotonic() + DEADLINE_S
                    while peer.poll() is None and time.monotonic() < deadline:
                        # One at a time: it looks for commands at the beginning of what it reads at once.
                        peer.stdin.write(b"k\n")
                        peer.stdin.flush()
                        asked += 1
                        time.sleep(0.01)
                except BrokenPipeError:
                    peer.wait(DEADLINE_S)
                finally:
                    peer.kill()
            check(asked > 16, "ended after %d", asked)
            check("too many new keys" in daemon.stderr(), "it does not say why: %s", daemon.stderr())
            with tls_client(daemon, certificates.context()) as client:
                same(client.append("s", b"x")["id"], 0, "others go on")


def test_bad_files():
    with directory() as place:
        certificates = Certificates(place)
        certificates.sign("another", "ca", "DNS:localhost")
        path, key = certificates.path("server"), certificates.key("server")
        empty, locked = os.path.join(place, "empty"), os.path.join(place, "locked")
        open(empty, "w").close()
        subprocess.run(["openssl", "ec", "-aes128", "-passout", "pass:x", "-in", key, "-out", locked], check=True, capture_output=True)
        for certificate, its_key, ca, patterns in (
            (path, None, None, ["tls_certificate and tls_key go together"]),
            (None, key, None, ["tls_certificate and tls_key go together"]),
            (None, None, path, ["tls_client_ca is of no use without TLS"]),
            ("/none", key, None, ["tls_certificate /none: No such file"]),
            (empty, key, None, ["tls_certificate .*/empty: .*expected a PEM file"]),
            (key, key, None, ["tls_certificate .*server.key: .*expected a PEM file"]),
            (path, "/none", None, ["tls_key /none: No such file"]),
            (path, empty, None, ["tls_key .*/empty: "]),
            (path, path, None, ["tls_key .*server.pem: "]),
            (path, locked, None, ["tls_key .*/locked: "]),
            (path, certificates.key("another"), None, ["tls_key .*another.key: key values mismatch"]),
            (path, key, "/none", ["tls_client_ca /none: No such file"]),
            (path, key, empty, ["tls_client_ca .*/empty: "]),
        ):
            options = ["--tls-%s=%s" % (name, value) for name, value in
                       (("certificate", certificate), ("key", its_key), ("client-ca", ca)) if value]
            refused(2, patterns, place, *options)
        os.chmod(key, 0o644)
        refused(2, ["tls_key .*server.key: everyone on this machine can read it: chmod o-rwx"], place, *certificates.options())


if __name__ == "__main__":
    main(cases_of(globals()))
