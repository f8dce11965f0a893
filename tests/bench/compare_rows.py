"""The rows of `compare`: what is held against what, and how much is wanted.

A ratio is ours : theirs. floor and aim are those of the project's goals; a row without them is there to be looked at.
"""

import dataclasses
import statistics

from compare_systems import SYSTEMS, Load, Measurement

KEYS = 1024  # for the rows with shards: enough that each shard gets its part
STREAMS = 10000
READ_ENTRIES = 1000000


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    what: str
    ours: Measurement
    theirs: Measurement
    floor: float = None
    aim: float = None
    figure: str = "requests_per_second"
    against: str = None  # None: the other system's name

    def lower_is_better(self):
        return self.figure not in ("requests_per_second", "entries_per_second")

    def against_text(self):
        return self.against or SYSTEMS[self.theirs.system][2]


APPENDS = {
    "1": ("1 connection", Load(1, 1)),
    "16": ("16 connections", Load(16, 1)),
    "64": ("64 connections", Load(64, 1)),
    "64x16": ("64 connections x 16", Load(64, 16)),
    "64x16-1k": ("64 x 16, 1 KiB", Load(64, 16, payload=1024)),
}
STRICT_GOALS = {"1": (0.9, 1.2), "16": (1.3, 1.6), "64": (1.2, 1.6), "64x16": (2.5, 4), "64x16-1k": (4, 7)}
BATCH = Load(16, 1, batch=100)
DEEP = Load(64, 16)


def _rows():
    for key, (text, load) in APPENDS.items():
        ours, theirs = Measurement("strict", load), Measurement("always", load)
        yield Row("strict-" + key, "strict append, " + text, ours, theirs, *STRICT_GOALS[key])
        if key == "64":
            yield Row("p99-64", "p99 of strict, 64 connections", ours, theirs, 1.0, 0.7, "p99_us")
        if key == "64x16":
            yield Row("cpu-64x16", "server's CPU per strict append, 64 x 16", ours, theirs, 0.6, 0.3,
                      "server_cpu_us_per_request")
            yield Row("strict-async", "strict, 64 x 16", ours, Measurement("async", load), 0.5, 0.8)
            yield Row("streams-10k", "strict, 64 x 16, over 10,000 streams", Measurement(
                "strict", dataclasses.replace(load, streams=STREAMS)), ours, 0.3, 0.7, against="one stream")
            yield Row("async-64x16", "async append, 64 x 16", Measurement("async", load), Measurement("everysec", load),
                      2, 3.5)
    yield Row("batch-16", "strict batches of 100, 16 connections", Measurement("strict", BATCH),
              Measurement("always", Load(16, 100)), 4, 8, "entries_per_second", "Redis always 16 x 100")
    for key, (text, load) in {**APPENDS, "batch-16": ("batches of 100, 16 connections", BATCH)}.items():
        yield _shards("shards-" + key, "strict, 16 shards, " + text, "strict", load)
    yield _shards("shards-async-64x16", "async, 16 shards, 64 x 16", "async", DEEP)
    iter_load = Load(1, 1, mode="iter", batch=1000, prefilled=READ_ENTRIES)
    get_load = Load(64, 16, mode="get", prefilled=READ_ENTRIES)
    yield Row("iter-1m", "iter of 1 M entries, 1000 each", Measurement("strict", iter_load),
              Measurement("everysec", iter_load), 2, 4, "entries_per_second", "XRANGE COUNT 1000")
    yield Row("get-1m", "get at random of 1 M, 64 x 16", Measurement("strict", get_load),
              Measurement("everysec", get_load), 1.0, 2, against="XRANGE id id")
    yield from _guarded()
    for key in ("1", "16", "64"):
        text, load = APPENDS[key]
        ours, theirs = Measurement("strict", load), Measurement("postgres", load)
        yield Row("postgres-" + key, "strict append, " + text, ours, theirs)
    yield Row("sqlite-1", "strict append, 1 connection", Measurement("strict", Load()), Measurement("sqlite", Load()))
    for key in ("1", "64", "64x16"):
        text, load = APPENDS[key]
        yield Row("disk-" + key, "strict append, " + text, Measurement("strict", load), Measurement("disk", load),
                  against="the disk, %s a sync" % ("1" if key == "1" else load.connections * load.pipeline))


def _guarded():
    for key in ("1", "64", "64x16", "64x16-1k"):
        text, load = APPENDS[key]
        for system in ("token", "tls", "tls-token"):
            yield Row("%s-%s" % (system, key), "%s, %s" % (SYSTEMS[system][2].replace("ironwald ", "strict append "), text),
                      Measurement(system, load), Measurement("plain", load), against="without")


def _shards(name, what, system, load):
    keyed = dataclasses.replace(load, keys=KEYS)
    figure = "entries_per_second" if load.batch > 1 else "requests_per_second"
    ours, theirs = Measurement(system, keyed, shards=16), Measurement(system, keyed, shards=1)
    return Row(name, what, ours, theirs, 0.7, 1.0, figure, "1 shard")


ROWS = {row.name: row for row in _rows()}


def in_order(rows):
    """What is to be measured for these rows, each once. What is in several rows stands between its counterparts, those
    of the first rows next to it, so that the two sides of a row are neighbours or nearly so."""
    wanted = {}
    for row in rows:
        sides = [(other.ours, other.theirs) for other in rows]
        others = list(dict.fromkeys(
            theirs if ours == row.ours else ours for ours, theirs in sides if row.ours in (ours, theirs)))
        for measurement in [*others[1::2][::-1], row.ours, *others[0::2], row.theirs]:
            wanted.setdefault(measurement)
    return list(wanted)


def middle(values):
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def _reached(row, ratio):
    if row.floor is None:
        return None
    for name, bound in (("aim", row.aim), ("floor", row.floor)):
        if ratio <= bound if row.lower_is_better() else ratio >= bound:
            return name
    return "below"


def evaluate(row, rounds):
    """rounds: of each, results by measurement. The ratio is taken in each round, as machines change over minutes."""
    ours = [results[row.ours][row.figure] for results in rounds]
    theirs = [results[row.theirs][row.figure] for results in rounds]
    ratio = middle([a / max(b, 1e-9) for a, b in zip(ours, theirs)])
    return {
        "name": row.name, "what": row.what, "against": row.against_text(), "figure": row.figure,
        "lower_is_better": row.lower_is_better(), "ours": middle(ours), "theirs": middle(theirs), "ratio": ratio,
        "floor": row.floor, "aim": row.aim, "reached": _reached(row, ratio["median"]),
    }
