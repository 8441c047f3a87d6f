"""The long tests, by hand: kill retention and erasure again and again, and write SOAK.md.

``python -m benchmarks.soak --kills 1000``. It ends at the first check that fails; the seed repeats
what happened up to the moments of the kills from outside.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import psycopg

from archiver.migrations import migrate
from benchmarks.report import machine
from deploy.config import postgres_bin_dir
from deploy.postgres import EmbeddedPostgres
from tests.fix_deletion import World, kill_once

RESULTS = Path(__file__).with_name("SOAK.md")
FIRST_GUESS_S = 0.2
SAY_EVERY = 50


def kill_deletion(kills: int, seed: int) -> list[tuple[str, str]]:
    """Kill retention and erasure so many times; return what there is to report.

    Raises:
        AssertionError: A check has failed.
    """
    counts: Counter[str] = Counter()
    begun, seconds = time.monotonic(), FIRST_GUESS_S
    with (
        tempfile.TemporaryDirectory(prefix="monitoring-v2-soak-") as folder,
        EmbeddedPostgres(bin_dir=postgres_bin_dir(), fsync=False) as server,
    ):
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE soak TEMPLATE template0")
        migrate(server.conninfo("soak"))
        world = World(server.conninfo("soak"), Path(folder), random.Random(seed))  # repeatable
        while counts["killed"] < kills:
            outcome = kill_once(world, seconds)
            counts["killed" if outcome.was_killed else "ended before the kill"] += 1
            counts[f"in {outcome.what}"] += outcome.was_killed
            if not outcome.was_killed:
                seconds = 0.9 * seconds + 0.1 * outcome.seconds
            if outcome.was_killed and counts["killed"] % SAY_EVERY == 0:
                print(f"{counts['killed']} kills, {time.monotonic() - begun:.0f} s", flush=True)
        return [
            ("kills (SIGKILL of a forked child)", f"{counts['killed']:,}"),
            ("of these inside retention", f"{counts['in retention']:,}"),
            ("of these inside erasure", f"{counts['in erasure']:,}"),
            ("work that ended before its kill", f"{counts['ended before the kill']:,}"),
            ("simulated time", f"{world.hours / 24:.1f} days"),
            ("calls erased", f"{len(world.erased):,}"),
            ("after each kill: buckets that were not due and are missing", "0"),
            ("after one sweep: files without a row, rows without a file", "0, 0"),
            ("after one sweep: rows or files that are due and still there", "0"),
            ("time", f"{time.monotonic() - begun:.0f} s"),
        ]


def write(path: Path, rows: list[tuple[str, str]], seed: int) -> None:
    """Write the table."""
    lines = [
        "# Soak",
        "",
        f"`make soak` wrote this, with seed {seed}. A check that fails ends the run: the zeros are",
        "what every check has found. Both checks, against a model, follow every kill",
        "([tests/fix_deletion.py](../tests/fix_deletion.py)).",
        "",
        "| what | result |",
        "|---|---|",
        *(f"| {what} | {result} |" for what, result in rows),
    ]
    text = "\n".join(lines)
    path.write_text(f"{text}\n\n## Machine\n\n{machine()}", encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another run")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to write")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # that the simulated disk is full
    print(f"seed {options.seed}", flush=True)
    rows = kill_deletion(options.kills, options.seed)
    write(options.output, rows, options.seed)
    print(options.output.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
