"""What a host may set for its whole process."""

import subprocess
import sys

SCRIPT = """
import gc, sys, time
import exporter

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
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
    )
    ratio, frozen, interval = map(float, done.stdout.split())
    assert ratio > 5
    assert frozen > 10_000
    assert interval == 0.000_5
