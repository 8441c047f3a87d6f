"""The reference chain: its delay, its stages, and its indifference to block sizes."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from exporter.knobs import KnobValues, shipped_registry
from exporter.processing import IMPLEMENTS, ReferenceChain, bypassed

RATE = 16_000
DELAY = 160
Samples = npt.NDArray[np.int16]


def knobs(**changes: object) -> KnobValues:
    """Return the defaults with changes; ``__`` stands for the dot."""
    registry = shipped_registry()
    values = registry.defaults()
    for name, value in changes.items():
        key = name.replace("__", ".")
        values[key] = registry[key].check(value)
    return KnobValues(values)


def run(x: Samples, values: KnobValues) -> Samples:
    """Process a whole signal in one block, and return it without the delay."""
    padded = np.concatenate([x, np.zeros(DELAY, np.int16)])
    made = ReferenceChain(RATE)(padded.astype("<i2").tobytes(), values)
    return np.frombuffer(made, "<i2")[DELAY:]


def sine(dbfs: float, hertz: float = 440.0, seconds: float = 1.0) -> Samples:
    """Return a sine of a given peak level."""
    t = np.arange(int(RATE * seconds)) / RATE
    return np.asarray(np.rint(32_768 * 10 ** (dbfs / 20) * np.sin(2 * np.pi * hertz * t)), np.int16)


def level(x: Samples) -> float:
    """Return the rms level of the second half, in dB."""
    half = x[len(x) // 2 :].astype(float)
    return float(10 * np.log10(np.mean(half**2)))


EVERYTHING: dict[str, object] = {
    "pcm__input_gain_db": 9.0,
    "highpass__enabled": True,
    "lowpass__enabled": True,
    "noise_gate__enabled": True,
    "noise_gate__threshold_dbfs": -30.0,
    "compressor__enabled": True,
    "limiter__threshold_dbfs": -12.0,
    "pcm__output_gain_db": 6.0,
}


def test_defaults_are_a_delay_of_ten_milliseconds() -> None:
    """Below the limiter's threshold the chain changes nothing but the time."""
    x = sine(-12)

    made = ReferenceChain(RATE)(x.astype("<i2").tobytes(), knobs())

    out = np.frombuffer(made, "<i2")
    assert np.array_equal(x[:-DELAY], out[DELAY:])
    assert not out[:DELAY].any()


TURNS: list[dict[str, object]] = [
    {"limiter__lookahead_ms": 2.0},
    {"limiter__lookahead_ms": 10.0},
    {"limiter__enabled": False},
    {"compressor__enabled": False},
    {"noise_gate__enabled": False},
    {"lowpass__enabled": False, "highpass__order": 4},
    {"safety__emergency_mute": True, "safety__clipping_protection": False},
]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4_000) | st.integers(1, 3), min_size=1, max_size=20),
    turn_at=st.integers(0, 4_000),
    turn=st.sampled_from(TURNS),
    seed=st.integers(0, 2**16),
)
def test_block_sizes_change_no_bit(
    sizes: list[int], turn_at: int, turn: dict[str, object], seed: int
) -> None:
    """Any partition, with knobs turned and turned back at the same samples, gives the same bits."""
    rng = np.random.default_rng(seed)
    loud = rng.normal(0, 1, 6_000) * np.repeat(rng.uniform(0, 15_000, 6), 1_000)
    x = np.clip(loud, -32_768, 32_767).astype("<i2")
    first, second = knobs(**EVERYTHING), knobs(**{**EVERYTHING, **turn})
    whole, parts = ReferenceChain(RATE), ReferenceChain(RATE)
    expected, actual = b"", b""
    spells = [
        (0, turn_at, first),
        (turn_at, turn_at + 1_500, second),
        (turn_at + 1_500, 6_000, first),
    ]

    for begin, end, values in spells:
        expected += whole(x[begin:end].tobytes(), values)
        start = begin
        for size in itertools.cycle(sizes):
            actual += parts(x[start : min(start + size, end)].tobytes(), values)
            start += size
            if start >= end:
                break

    assert expected == actual


def test_five_seconds_at_once_equal_small_blocks() -> None:
    """The largest block gives the bits of single samples and of 20 ms blocks after them."""
    x = np.random.default_rng(3).normal(0, 9_000, 5 * RATE).clip(-32_768, 32_767).astype("<i2")
    values, chain = knobs(**EVERYTHING), ReferenceChain(RATE)
    borders = [*range(4_000), *range(4_000, len(x), 320), len(x)]

    parts = b"".join(chain(x[a:b].tobytes(), values) for a, b in itertools.pairwise(borders))

    assert ReferenceChain(RATE)(x.tobytes(), values) == parts


@pytest.mark.parametrize("gain", [-12.0, 6.0])
def test_gains_are_exact(gain: float) -> None:
    """Input and output gain move the level by what they say."""
    x = sine(-24)
    for key in ("pcm__input_gain_db", "pcm__output_gain_db"):
        assert gain == pytest.approx(level(run(x, knobs(**{key: gain}))) - level(x), abs=0.01)


@pytest.mark.parametrize("lookahead", [0.0, 1.0, 5.0, 10.0])
def test_nothing_passes_the_limiter(lookahead: float, rng_noise: Samples) -> None:
    """No sample is above the threshold, whatever the look-ahead."""
    values = knobs(limiter__threshold_dbfs=-20.0, limiter__lookahead_ms=lookahead)

    peak = int(np.abs(run(rng_noise, values).astype(int)).max())

    assert peak <= round(32_768 * 10 ** (-20 / 20))
    assert peak > 0.9 * 32_768 * 10 ** (-20 / 20)


@pytest.fixture
def rng_noise() -> Samples:
    """Yield loud noise in bursts."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 8_000, RATE) * np.repeat(rng.uniform(0, 1, 20), RATE // 20)
    return np.clip(x, -32_768, 32_767).astype(np.int16)


def steps(*parts: tuple[float, int]) -> Samples:
    """Return constant stretches, each of a level in dBFS and a number of samples."""
    made = [np.full(count, 32_768 * 10 ** (dbfs / 20)) for dbfs, count in parts]
    return np.asarray(np.rint(np.concatenate(made)), np.int16)


def test_the_limiter_recovers_with_its_release() -> None:
    """After a peak, 63 % of the gain that was taken is back when the release time is over."""
    values = knobs(
        limiter__threshold_dbfs=-20.0, limiter__lookahead_ms=0.0, limiter__release_ms=50.0
    )
    x = steps((-2, 800), (-26, 3_200))

    gain = run(x, values) / x

    assert gain[799] == pytest.approx(10 ** (-18 / 20), abs=0.001)
    left = 1 - 10 ** (-18 / 20)
    assert gain[799 + 800] == pytest.approx(1 - left * np.exp(-1), abs=0.002)


def test_silence_after_a_filter_raises_nothing() -> None:
    """The tail of a filter, too small to divide by, passes a limiter that still recovers."""
    values = knobs(highpass__enabled=True, highpass__cutoff_hz=1_000, limiter__release_ms=1_000.0)
    x = np.concatenate([sine(0, seconds=0.1), np.zeros(RATE, np.int16)])

    assert not run(x, values)[RATE // 2 :].any()


@pytest.mark.parametrize("ratio", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("dbfs", [-30.0, -20.0, -12.0, -3.0])
def test_compressor_has_its_static_curve(dbfs: float, ratio: float) -> None:
    """A steady level above the threshold comes out at its excess / ratio; below it, unchanged."""
    values = knobs(
        limiter__enabled=False,
        safety__max_output_level_dbfs=0.0,
        compressor__enabled=True,
        compressor__threshold_dbfs=-24.0,
        compressor__ratio=ratio,
    )
    x = steps((dbfs, RATE))

    change = level(run(x, values)) - level(x)

    assert change == pytest.approx(-max(dbfs + 24.0, 0.0) * (1 - 1 / ratio), abs=0.1)


def test_gate_closes_in_pauses_and_opens_for_sound() -> None:
    """What is below the threshold fades out; what is above passes."""
    values = knobs(
        noise_gate__enabled=True, noise_gate__threshold_dbfs=-40.0, noise_gate__release_ms=20.0
    )

    assert not run(sine(-50), values)[RATE // 2 :].any()
    assert level(run(sine(-20), values)) == pytest.approx(level(sine(-20)), abs=0.05)


def test_gate_keeps_its_times() -> None:
    """The gate holds, closes by 63 % in the release time, and opens by 63 % in the attack time."""
    values = knobs(
        limiter__enabled=False,
        noise_gate__enabled=True,
        noise_gate__threshold_dbfs=-20.0,
        noise_gate__hold_ms=20.0,
        noise_gate__release_ms=40.0,
        noise_gate__attack_ms=2.0,
    )
    x = steps((-19.99, 800), (-26, 8_000), (-12, 800))

    gain = run(x, values) / x

    # The detector falls through the last hundredth of a decibel within one sample.
    closes = int(np.argmax(gain < 0.9995))
    assert closes == 800 + 320
    assert gain[closes - 1 + 640] == pytest.approx(np.exp(-1), abs=0.003)
    assert gain[8_799] == pytest.approx(0.0, abs=0.001)
    assert gain[8_800 + 31] == pytest.approx(1 - np.exp(-1), abs=0.003)


def test_a_filter_that_comes_back_brings_no_old_audio() -> None:
    """Turned off in sound and on in silence, a filter stays silent."""
    chain, on = ReferenceChain(RATE), knobs(lowpass__enabled=True, lowpass__cutoff_hz=1_000)

    chain(steps((-6, 1_600)).tobytes(), on)
    chain(bytes(3_200), knobs())

    assert chain(bytes(3_200), on) == bytes(3_200)


@pytest.mark.parametrize("hertz", [40.0, 300.0, 2_000.0, 6_000.0])
def test_filters_have_the_response_of_their_design(hertz: float) -> None:
    """High-pass and low-pass weigh a tone as scipy's response of a Butterworth filter says."""
    x = sine(-12, hertz)
    on = knobs(
        highpass__enabled=True,
        highpass__cutoff_hz=80,
        lowpass__enabled=True,
        lowpass__cutoff_hz=3_400,
    )
    sections = np.vstack(
        [
            signal.butter(2, 80, "highpass", fs=RATE, output="sos"),
            signal.butter(4, 3_400, "lowpass", fs=RATE, output="sos"),
        ]
    )
    _, response = signal.sosfreqz(sections, worN=[hertz], fs=RATE)

    assert level(run(x, on)) - level(x) == pytest.approx(20 * np.log10(abs(response[0])), abs=0.1)


@pytest.mark.parametrize("is_soft", [True, False])
def test_maximum_level_holds(is_soft: bool, rng_noise: Samples) -> None:
    """No sample is above the maximum level, bent or cut."""
    values = knobs(
        limiter__enabled=False,
        pcm__input_gain_db=20.0,
        safety__max_output_level_dbfs=-6.0,
        safety__clipping_protection=is_soft,
    )

    assert np.abs(run(rng_noise, values).astype(int)).max() <= 32_768 * 10 ** (-6 / 20)


def test_emergency_mute_is_silence(rng_noise: Samples) -> None:
    """Mute gives zeros."""
    assert not run(rng_noise, knobs(safety__emergency_mute=True)).any()


def test_a_cutoff_out_of_range_bypasses_its_filter() -> None:
    """At 8 kHz, a low-pass of 8 kHz does nothing, and the list says so."""
    values = knobs(
        lowpass__enabled=True,
        lowpass__cutoff_hz=8_000,
        highpass__enabled=True,
        highpass__cutoff_hz=0,
    )

    assert {"lowpass.cutoff_hz", "highpass.cutoff_hz"} == set(bypassed(values, 8_000))
    assert np.array_equal(sine(-12), run(sine(-12), values))


def test_the_chain_reads_every_knob_that_it_claims() -> None:
    """A chain that is called with its own knobs alone finds all it asks for."""
    values = knobs()
    own = KnobValues({key: values[key] for key in IMPLEMENTS})

    assert ReferenceChain(RATE)(bytes(640), own) == bytes(640)
