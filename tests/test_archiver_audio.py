"""The audio store: five seconds exactly, at the true offset, with our modes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from archiver.audio import AudioStore
from exporter.model import Run
from tests.fix_archive import bucket

_PCM = b"\x01\x02" * 1_600


def _audio(path: Path) -> bytes:
    return path.read_bytes()[44:]


def test_runs_stand_at_their_offset(tmp_path: Path) -> None:
    """A segment has 80,000 samples: the run at its offset, silence elsewhere."""
    one = bucket(first=4_000)
    segment = AudioStore(tmp_path).write(one, one.taps[0])

    audio = _audio(tmp_path / segment.file_path)

    assert 2 * 80_000 == len(audio)
    assert bytes(8_000) + _PCM + bytes(160_000 - 8_000 - len(_PCM)) == audio


def test_second_half_is_laid_in(tmp_path: Path) -> None:
    """What a segment holds stays, and the other half comes to it."""
    store = AudioStore(tmp_path)
    early, late = bucket(), bucket(first=40_000)
    store.write(early, early.taps[0])
    segment = store.write(late, late.taps[0])

    gap = bytes(80_000 - len(_PCM))

    assert (_PCM + gap) * 2 == _audio(tmp_path / segment.file_path)


def test_other_audio_does_not_replace_it(tmp_path: Path) -> None:
    """Audio that stands in a segment is not overwritten by other audio, nor by another rate."""
    store, one = AudioStore(tmp_path), bucket()
    segment = store.write(one, one.taps[0])
    other = replace(one.taps[0], runs=(Run(800, b"\x07\x07" * 1_600),))
    slower = replace(one.taps[0], rate=8_000, runs=(Run(20_000, _PCM),))

    for tap in (other, slower):
        with pytest.raises(FileExistsError):
            store.write(one, tap)

    assert _PCM + bytes(160_000 - len(_PCM)) == _audio(tmp_path / segment.file_path)


@pytest.mark.parametrize("key", ["../x", "a/b", "", ".", "a\0b", "a\n"])
def test_hostile_keys_are_refused(tmp_path: Path, key: str) -> None:
    """A key that is no safe file name is refused, and nothing is written."""
    one = replace(bucket(), trace_id=key)
    with pytest.raises(ValueError, match="no safe file name"):
        AudioStore(tmp_path).write(one, one.taps[0])
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    """Files are 0640 and folders 0750, whatever the process's umask."""
    one, before = bucket(), os.umask(umask)
    try:
        AudioStore(tmp_path / "root").write(one, one.taps[0])
    finally:
        os.umask(before)
    found = list(tmp_path.rglob("*"))
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in found}

    assert {(True, 0o750), (False, 0o640)} == modes


@pytest.mark.parametrize("umask", [0, 0o027, 0o077])
def test_the_group_of_the_root_is_handed_down(tmp_path: Path, umask: int) -> None:
    """Below a root that hands its group down, every folder does, and nobody else gets in."""
    tmp_path.chmod(0o3770)
    one = bucket()
    before = os.umask(umask)
    try:
        segment = AudioStore(tmp_path).write(one, one.taps[0])
    finally:
        os.umask(before)

    folders = list((tmp_path / segment.file_path).relative_to(tmp_path).parents)[:-1]

    assert 4 == len(folders)
    assert {0o2750} == {(tmp_path / each).stat().st_mode & 0o7777 for each in folders}
