"""Transcripts: command lines as they stand in a help text, a manual, a README or a test, run by sh and held against
what is said to come out. A line `$ COMMAND` is run; the lines behind it are its output, standard error behind standard
output, and `[STATUS]` if that is not 0. In them {n} is a number, {x} any text, {time} a time; `...` any lines."""

import os
import re
import subprocess

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
_PLACES = {"{n}": r"\d+(\.\d+)?", "{x}": r".*", "{time}": TIME}


def steps(text):
    """[(command, [lines of output])...]"""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found


def matches(expected, got):
    if "..." in expected:
        at = expected.index("...")
        behind = expected[at + 1:]
        return (len(got) >= at + len(behind) and matches(expected[:at], got[:at]) and
                matches(behind, got[len(got) - len(behind):]))
    if len(expected) != len(got):
        return False
    for line, said in zip(expected, got):
        pattern = re.sub(r"\\\{([a-z]+)\\\}", lambda found: _PLACES["{%s}" % found.group(1)], re.escape(line))
        if not re.fullmatch(pattern, said):
            return False
    return True


def shell(command, directory, environment, program, timeout=120):
    """What comes out of it, and its status, as a transcript has it. `program` is found as `ironwal`."""
    path = os.path.dirname(os.path.abspath(program)) + ":" + environment.get("PATH", "/usr/bin:/bin")
    done = subprocess.run(["sh", "-c", command], cwd=directory, env=dict(environment, PATH=path, LC_ALL="C.UTF-8"),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    lines = (done.stdout + done.stderr).decode(errors="backslashreplace").splitlines()
    return lines + (["[%d]" % done.returncode] if done.returncode else [])
