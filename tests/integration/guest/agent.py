#!/usr/bin/python3
"""In the guest: runs what the host asks for over a serial port, a JSON line for each, and answers with one.

A request is {"command": TEXT}; the answer {"status": NUMBER, "output": TEXT} of `sh -c TEXT`.
"""

import json
import os
import subprocess
import time

PORT = "/dev/virtio-ports/agent"

while not os.path.exists(PORT):
    time.sleep(0.1)
port = os.open(PORT, os.O_RDWR)  # it can be opened once


def answer(message):
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


answer({"ready": True})
pending = b""
while True:
    data = os.read(port, 65536)
    if not data:  # nobody has the other end
        time.sleep(0.1)
    pending += data
    while b"\n" in pending:
        line, _, pending = pending.partition(b"\n")
        done = subprocess.run(["sh", "-c", json.loads(line)["command"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        answer({"status": done.returncode, "output": done.stdout.decode(errors="replace")})
