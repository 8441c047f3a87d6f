"""Retention and erasure, killed anywhere: what is not due stays, what is due goes, no orphan."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from archiver.migrations import migrate
from tests.fix_deletion import World, in_child, kill_once

KILLS = 12

pytestmark = pytest.mark.timeout(300)  # many processes, on a machine that may be busy


@pytest.fixture
def world(database: str, tmp_path: Path) -> World:
    """Return an archive without calls."""
    migrate(database)
    return World(database, tmp_path, random.Random(7))  # noqa: S311 - repeatable


def test_killed_at_random_moments(world: World) -> None:
    """A dozen kills in a row, each mended by one sweep."""
    seconds, kills = 0.2, 0
    while kills < KILLS:
        outcome = kill_once(world, seconds)
        kills += outcome.was_killed
        seconds = seconds if outcome.was_killed else max(seconds, outcome.seconds)


@pytest.mark.parametrize("is_erasure", [False, True])
def test_killed_in_every_gap(world: World, *, is_erasure: bool) -> None:
    """Killed after each step in turn, until the work ends by itself."""
    for _ in range(6):
        world.pass_an_hour(calls=2)
    world.drain()
    world.expire()
    world.sweep()
    world.check_whole()
    step, was_killed = 0, True
    while was_killed:
        step += 1
        if is_erasure:
            world.pass_an_hour(calls=1)
            trace_id = f"call-{world.hours - 1}-0"

            def work(on_step: Callable[..., None], name: str = trace_id) -> None:
                world.erase(name, on_step)

            was_killed = in_child(work, die_at=step).was_killed
            world.learn_erased(trace_id)
            assert trace_id in world.erased
        else:
            world.pass_an_hour(calls=2)
            was_killed = in_child(world.retain, die_at=step).was_killed
        world.expire()
        world.check_nothing_is_missing()
        world.sweep()
        world.check_whole()
        world.drain()
    assert step > (7 if is_erasure else 12)
