"""What tests of TLS need: certificates of all kinds, made by openssl(1), and a socket with TLS over it that can be driven
step by step, and broken off anywhere."""

import os
import select
import shutil
import socket
import ssl
import subprocess

from harness import Skipped, check

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(*args):
    if not shutil.which("openssl"):
        raise Skipped("there is no openssl (Debian: openssl)")
    done = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    check(done.returncode == 0, "openssl %s: %s", " ".join(args), done.stderr)


class Certificates:
    """Two authorities, ca and other; NAME.pem and NAME.key of all that they sign."""

    def __init__(self, place):
        self.place = os.path.join(place, "certificates")
        os.mkdir(self.place, 0o700)
        for name in ("ca", "other"):
            openssl("req", "-x509", *CURVE, "-keyout", self.key(name), "-out", self.path(name), "-subj", "/CN=test-" + name, "-days", "2")
        self.sign("server", "ca", "DNS:localhost,IP:127.0.0.1")

    def path(self, name):
        return os.path.join(self.place, name + ".pem")

    def key(self, name):
        return os.path.join(self.place, name + ".key")

    def sign(self, name, authority, names, days=2, newkey=CURVE):
        request = os.path.join(self.place, name + ".csr")
        openssl("req", *newkey, "-keyout", self.key(name), "-out", request, "-subj", "/CN=" + name, "-addext", "subjectAltName=" + names)
        openssl("x509", "-req", "-in", request, "-CA", self.path(authority), "-CAkey", self.key(authority), "-copy_extensions", "copy",
                "-days", str(days), "-out", self.path(name))

    def options(self, name="server", client_ca=None):
        options = ["--tls-certificate=" + self.path(name), "--tls-key=" + self.key(name)]
        return options + (["--tls-client-ca=" + self.path(client_ca)] if client_ca else [])

    def context(self, ca="ca", client=None):
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.path(ca))
        if client:
            context.load_cert_chain(self.path(client), self.key(client))
        return context


class TlsSocket:
    """As a connected socket: TLS over `raw`, with the bytes in between at hand."""

    def __init__(self, raw, context, timeout_s, host="localhost", handshake=True):
        self.raw, self.timeout_s = raw, timeout_s
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.stash = b""
        self.ended = False  # the connection below
        self.closed_well = False  # by a close_notify: Python's read() itself does not tell it from a bare end
        raw.setblocking(False)
        if handshake:
            self.wait_for(self.tls.do_handshake)

    def pump_in(self):
        """What is there of encrypted bytes. False: nothing."""
        try:
            data = self.raw.recv(262144)
        except BlockingIOError:
            return False
        if data:
            self.incoming.write(data)
        else:
            self.ended = True
            self.incoming.write_eof()
        return True

    def pump_out(self):
        data = self.outgoing.read()
        while data:
            readable, writable, _ = select.select([] if self.ended else [self.raw], [self.raw], [], self.timeout_s)
            if readable:  # a peer that waits for us to read would not read either
                self.pump_in()
            if writable:
                data = data[self.raw.send(data):]
            if not readable and not writable:
                raise TimeoutError("the peer does not read")

    def wait_for(self, operation):
        while True:
            try:
                result = operation()
                self.pump_out()
                return result
            except ssl.SSLWantReadError:
                self.pump_out()
                if not select.select([self.raw], [], [], self.timeout_s)[0]:
                    raise TimeoutError("nothing comes")
                self.pump_in()
            except ssl.SSLError:
                self.pump_out()  # an alert
                raise

    def read(self, count):
        """What is decrypted; b"" at the end."""
        if self.stash:
            data, self.stash = self.stash[:count], self.stash[count:]
            return data
        try:
            data = self.tls.read(count)
        except ssl.SSLZeroReturnError:  # so it comes where our side is ended already
            self.closed_well = True
            return b""
        if not data:
            self.closed_well = not self.ended
        return data

    def recv(self, count):
        """As of a socket that does not wait; but all that has come, as select() sees only what is still below."""
        self.pump_in()
        data = b""
        try:
            while True:
                more = self.read(count)
                if not more:
                    break
                data += more
        except ssl.SSLWantReadError:
            if not data and not self.ended:
                raise BlockingIOError()
        except ssl.SSLError:
            if not data:
                raise
        self.pump_out()
        return data

    def send(self, data):
        self.tls.write(bytes(data))
        self.pump_out()
        return len(data)

    sendall = send

    def shutdown(self, how):
        """close_notify, which is the half-close; the socket below stays open."""
        check(how == socket.SHUT_WR, "only the sending side")
        try:
            while True:  # else OpenSSL would look for the peer's close_notify, and throw this away
                self.stash += self.tls.read(262144)
        except ssl.SSLWantReadError:
            pass
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.pump_out()

    def read_all(self):
        """To the end, which has to be a close_notify."""
        data = b""
        while not self.closed_well:
            some = self.wait_for(lambda: self.read(262144))
            if not some and not self.closed_well:
                raise ConnectionResetError("a bare end")
            data += some
        return data

    def fileno(self):
        return self.raw.fileno()

    def settimeout(self, timeout_s):
        self.timeout_s = timeout_s

    def setblocking(self, blocking):
        check(not blocking, "it does not wait")

    def close(self):
        """Politely, as far as that can be without waiting; raw.close() is the other way."""
        try:
            self.tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass
        try:
            self.raw.send(self.outgoing.read())
        except OSError:
            pass
        self.raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
