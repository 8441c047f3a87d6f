"""What a host may set for its whole process."""

import subprocess
import sys

MADE_BY_A_BUCKET = """
import gc
from collections import Counter
from tests.fix_host import Host

host = Host()
host.send(15)
host.archive.records.clear()
gc.collect()
gc.disable()
host.send(5)
host.archive.records.clear()
gc.collect(0)
made = Counter(type(each).__name__ for each in gc.get_objects(generation=1))
print(made.total(), made)
"""

COLLECTIONS = """
import gc, sys, time
import exporter, exporter.monitor

def collect():
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        gc.collect()
        best = min(best, time.perf_counter() - begun)
    return best

before = collect()
assert (gc.get_freeze_count(), sys.getswitchinterval()) == (0, 0.005), "an import has set it"
exporter.favour_audio()
print(before / collect(), gc.get_freeze_count(), sys.getswitchinterval())
"""


def test_collections_pass_over_what_lives_and_threads_wait_less() -> None:
    """A full collection costs a fraction; importing alone sets nothing."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTIONS], check=True, capture_output=True, text=True
    )
    ratio, frozen, interval = map(float, done.stdout.split())
    assert ratio > 5
    assert frozen > 10_000
    assert interval == 0.000_5


def test_a_bucket_makes_hardly_anything_that_lives_for_seconds() -> None:
    """What outlives a collection is what makes a full one come; of a bucket, next to nothing is."""
    done = subprocess.run(
        [sys.executable, "-c", MADE_BY_A_BUCKET], check=True, capture_output=True, text=True
    )
    assert int(done.stdout.split()[0]) < 10, done.stdout
