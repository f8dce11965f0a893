#!/usr/bin/python3
"""The units as they are installed: what systemd says about them. Usage: test_units.py UNIT-DIRECTORY SERVICE IRONWALD"""

import json
import os
import re
import shutil
import subprocess
import sys

import harness
from harness import Skipped, cases_of, check, directory, main, same

UNITS, SERVICE = (sys.argv.pop(1) for _ in range(2))
EXPOSURE_MAX = 1.5


def analyze(*args, **how):
    program = shutil.which("systemd-analyze")
    if program is None:
        raise Skipped("systemd-analyze is not installed")
    # Whether this machine was booted with systemd does not matter to it, nor does its own configuration.
    return subprocess.run([program, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=harness.DEADLINE_S, **how)


def text_of(*path):
    with open(os.path.join(*path)) as file:
        return file.read()


def placed(place):
    """Both units in a directory, the daemon where the service looks for it."""
    service, changed = re.subn(r"^ExecStart=\S+/ironwald ", "ExecStart=%s " % harness.Daemon.program, text_of(SERVICE),
                               flags=re.M)
    same(changed, 1, "ExecStart=")
    with open(os.path.join(place, "ironwald.service"), "w") as file:
        file.write(service)
    shutil.copy(os.path.join(UNITS, "ironwald.socket"), place)
    return place


def test_verify():
    with directory() as place:
        done = analyze("verify", "--man=no", "./ironwald.service", "./ironwald.socket", cwd=placed(place))
        same((done.returncode, done.stdout, done.stderr), (0, "", ""), "systemd-analyze verify")
        with open(os.path.join(place, "ironwald.service"), "a") as file:
            file.write("[Service]\nWatchdogSecs=1\n")
        done = analyze("verify", "--man=no", "./ironwald.service", cwd=place)
        check("WatchdogSecs" in done.stderr, "it would see a mistake: %s", done.stderr)


def test_verify_with_credentials():
    """The lines that are there for who wants tokens and TLS, as comments."""
    lines = re.findall(r"^#((?:LoadCredential|ExecStart)=.*)$", text_of(SERVICE), re.M)
    same([line.partition("=")[0] for line in lines], ["LoadCredential"] * 3 + ["ExecStart"] * 2, "the lines")
    given = set(re.findall(r"%d/(\S+)", lines[-1]))
    same(given, {line.split("=", 1)[1].partition(":")[0] for line in lines[:3]}, "all that it gets has a place")
    with directory() as place:
        placed(place)
        with open(os.path.join(place, "ironwald.service"), "a") as file:
            file.write("[Service]\n" + "\n".join(lines).replace("ExecStart=%s" % lines[-1].split("=")[1].split()[0],
                                                                "ExecStart=%s" % harness.Daemon.program) + "\n")
        done = analyze("verify", "--man=no", "./ironwald.service", "./ironwald.socket", cwd=place)
        same((done.returncode, done.stdout, done.stderr), (0, "", ""), "systemd-analyze verify")


def test_security():
    """The score, and for each directive that costs some of it the reason, in a comment."""
    with directory() as place:
        placed(place)
        done = analyze("security", "--offline=yes", "./ironwald.service", cwd=place)
        found = re.search(r"Overall exposure level for ironwald.service: (\S+) (\w+)", done.stdout)
        check(found and float(found.group(1)) <= EXPOSURE_MAX, "at most %s: %s%s", EXPOSURE_MAX, done.stdout, done.stderr)
        table = analyze("security", "--offline=yes", "--json=short", "./ironwald.service", cwd=place)
    reasons = text_of(SERVICE).partition("# ---- what is left out")[2]
    for row in json.loads(table.stdout):
        if float(row["exposure"] or 0) == 0:
            continue
        for name in re.findall(r"\w+=", row["name"]):
            check(re.search(r"^#.*\b%s" % name, reasons, re.M), "%s is left out, and nobody says why", row["name"])
    return "%s %s" % found.groups()


def test_what_the_daemon_relies_on():
    """What no tool checks, and other tests or the manual pages count on."""
    service, socket = text_of(SERVICE), text_of(UNITS, "ironwald.socket")
    for line in ("Type=notify", "RestartPreventExitStatus=2 3", "RuntimeDirectoryPreserve=yes", "UMask=0077"):
        check(re.search("^%s$" % line, service, re.M), "%s", line)
    command = re.search(r"^ExecStart=(.*)$", service, re.M).group(1)
    # /var/lib/ironwald is StateDirectory=, /run/ironwald that of the socket.
    check("--root-path=/var/lib/ironwald" in command and "StateDirectory=ironwald\n" in service, "%s", command)
    check("ListenStream=/run/ironwald/" in socket and "RuntimeDirectory=ironwald\n" in service, "%s", socket)
    user = re.search(r"^User=(.*)$", service, re.M).group(1)
    check(re.search(r"^u %s " % user, text_of(UNITS, "ironwald.sysusers"), re.M), "sysusers makes %s", user)


def test_users_and_files_can_be_made():
    """Below a directory of our own, as this is no machine's root."""
    sysusers = shutil.which("systemd-sysusers")
    if sysusers is None:
        raise Skipped("systemd-sysusers is not installed")
    with directory() as place:
        os.mkdir(os.path.join(place, "etc"))
        subprocess.run([sysusers, "--root=" + place, os.path.join(UNITS, "ironwald.sysusers")], check=True,
                       capture_output=True, timeout=harness.DEADLINE_S)
        check(re.search(r"^ironwald:x?!?\*?:", text_of(place, "etc", "passwd"), re.M), "the user")
        check(re.search(r"^ironwald:", text_of(place, "etc", "group"), re.M), "the group")


main(cases_of(globals()))
