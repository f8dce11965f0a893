#!/usr/bin/python3
"""In the guest: a new connection for each append, over both kinds of sockets, until FILE is there.

guest-connect FILE; prints as JSON how many connections there were, how many appends were acknowledged, how many
connections were refused, and whether an id was given twice.
"""

import json
import os
import sys

from ironwal_client import Client, ConnectionLost, ServerError

counts = {"connections": 0, "acknowledged": 0, "refused": 0, "lost": 0, "rising": True}
last = -1
while not os.path.exists(sys.argv[1]):
    counts["connections"] += 1
    try:
        address = "/run/ironwald/socket" if counts["connections"] % 2 else ("127.0.0.1", 7411)
        with Client(address, 120) as client:
            number = client.append("restarts", b"%d" % counts["acknowledged"])["id"]
        counts["acknowledged"] += 1
        counts["rising"] &= number > last
        last = number
    except ConnectionLost:
        counts["lost"] += 1  # accepted by the daemon that stops
    except ServerError:
        counts["lost"] += 1  # and told so
    except OSError:
        counts["refused"] += 1
print(json.dumps(counts))
