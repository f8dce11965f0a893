#!/usr/bin/python3
"""What the tests of one or more runs came to. Usage: tally.py RESULTS

RESULTS has lines `check<TAB>ok|FAILED<TAB>WHAT` and `log<TAB>WHAT<TAB>TESTLOG`, the latter a testlog.json of meson.
Prints the output of each program that failed, a line for each run, and last `N passed, N failed`, counting the single
tests inside the programs where these tell. Ends with 1 if anything failed, or if a run held no test.
"""

import json
import re
import sys

# Those that crash are among the failing ones.
CRITERION = re.compile(r"Synthesis: Tested: \d+ \| Passing: (\d+) \| Failing: (\d+) ")
UNITTEST = re.compile(r"^Ran (\d+) tests? in ", re.M)
UNITTEST_RESULT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.M)
ONE_A_LINE = re.compile(r"^test_\w+ +(ok|FAILED|skipped)\b", re.M)
# Criterion's processes end well with it.
LEAK = "LeakSanitizer: detected memory leaks"
OUTPUT_LINES = 400


def told(text):
    """(passed, failed, skipped) as the program's own output has it, or None."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    found = CRITERION.findall(text)
    if found:
        return sum(int(p) for p, _ in found), sum(int(f) for _, f in found), 0
    found = UNITTEST.search(text)
    if found:
        counts = {}
        result = UNITTEST_RESULT.search(text, found.end())
        for part in (result.group(1) or "").split(", ") if result else []:
            what, _, count = part.partition("=")
            counts[what] = int(count or 0)
        failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpected successes", 0)
        skipped = counts.get("skipped", 0)
        return int(found.group(1)) - failed - skipped - counts.get("expected failures", 0), failed, skipped
    found = ONE_A_LINE.findall(text)
    if found:
        return found.count("ok"), found.count("FAILED"), found.count("skipped")
    return None


def count(test):
    """(passed, failed, skipped) of one program; a skipped program is one."""
    if test["result"] == "SKIP":
        return 0, 0, 1
    good = test["result"] in ("OK", "EXPECTEDFAIL")
    output = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    numbers = told(output)
    good = good and LEAK not in output
    if numbers is None:
        return (1, 0, 0) if good else (0, 1, 0)
    passed, failed, skipped = numbers
    # The exit status has the last word: a leak at the end, a time limit, or a program in which nothing ran.
    if failed == 0 and (not good or passed + skipped == 0):
        failed = 1
    return passed, failed, skipped


def show(what, test):
    print("\n---- %s: %s: %s, status %s" % (what, test["name"], test["result"], test.get("returncode")))
    for stream in ("stdout", "stderr"):
        lines = (test.get(stream) or "").splitlines()
        if len(lines) > OUTPUT_LINES:
            print("(%d lines of %s before these)" % (len(lines) - OUTPUT_LINES, stream))
        print("\n".join(lines[-OUTPUT_LINES:]))


def main():
    all_passed, all_failed = 0, 0
    summary = []
    with open(sys.argv[1]) as results:
        rows = [line.rstrip("\n").split("\t") for line in results]
    for kind, *row in rows:
        if kind == "check":
            result, what = row
            passed, failed, skipped = (1, 0, 0) if result == "ok" else (0, 1, 0)
        else:
            what, path = row
            passed, failed, skipped = 0, 0, 0
            with open(path, errors="replace") as log:
                tests = [json.loads(line) for line in log]
            for test in tests:
                numbers = count(test)
                if numbers[1] > 0:
                    show(what, test)
                passed, failed, skipped = passed + numbers[0], failed + numbers[1], skipped + numbers[2]
            if passed + failed == 0:
                failed = 1
            what += " (%d programs)" % len(tests)
        summary.append("%s: %d passed, %d failed%s" %
                       (what, passed, failed, ", %d skipped" % skipped if skipped else ""))
        all_passed += passed
        all_failed += failed
    print("\n" + "\n".join(summary))
    if all_passed + all_failed == 0:
        all_failed = 1
    print("%d passed, %d failed" % (all_passed, all_failed), flush=True)
    return 1 if all_failed else 0


sys.exit(main())
