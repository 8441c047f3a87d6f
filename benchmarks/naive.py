"""The naive port: each frame measured by itself with numpy, each metric told to prometheus_client.

It is written as one would write it with care: one conversion of the frame, one spectrum, labels
looked up once. It has the same thirty metrics of a frame, with a simpler voice decision.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Gauge, Histogram
from scipy.signal import sosfilt

from exporter.analysis.loudness import k_weighting
from exporter.metrics import FRAME_METRICS

SILENCE_DBFS = -60.0
LABELS = ("station", "tap")
RATE = 16_000

Samples = npt.NDArray[np.float64]


def measure_frame(frame: npt.NDArray[np.int16]) -> dict[str, float]:
    """Measure one frame.

    Args:
        frame: int16 ``[samples]``.

    Returns:
        The value of each of the 15 metrics of the time domain by key.
    """
    real = frame.astype(np.float64)
    magnitude = np.abs(real)
    peak = float(magnitude.max())
    low, high = float(real.min()), float(real.max())
    energy = float(np.mean((real / 32768.0) ** 2))
    rms = energy**0.5
    rms_dbfs = max(20.0 * float(np.log10(rms)), -120.0) if rms else -120.0
    clipped = magnitude >= 32760
    count = int(np.count_nonzero(clipped))
    return {
        "pcm.rms_dbfs": rms_dbfs,
        "pcm.peak_dbfs": max(20.0 * float(np.log10(peak / 32768.0)), -120.0) if peak else -120.0,
        "pcm.peak_amplitude": peak,
        "pcm.peak_to_peak": high - low,
        "pcm.average_absolute": float(magnitude.mean()),
        "pcm.energy": energy,
        "pcm.crest_factor": peak / 32768.0 / rms if rms else float("nan"),
        "pcm.dc_offset": float(real.mean()) / 32768.0,
        "pcm.clipped_samples": count,
        "pcm.clipping_ratio": count / len(real),
        "pcm.consecutive_clipped": _longest_run(clipped) if count else 0,
        "pcm.silence_detected": rms_dbfs < SILENCE_DBFS,
        "pcm.muted_signal": peak == 0,
        "pcm.frozen_signal": high == low,
        "pcm.zero_crossing_rate": _crossings(frame) / (len(real) - 1),
    }


def _crossings(frame: npt.NDArray[np.int16]) -> int:
    return int(np.count_nonzero(np.diff(np.signbit(frame))))


def _longest_run(hot: npt.NDArray[np.bool_]) -> int:
    longest = run = 0
    for each in hot.tolist():
        run = run + 1 if each else 0
        longest = max(longest, run)
    return longest


class NaiveAnalysis:
    """What one tap remembers, and the metrics that need it."""

    def __init__(self, rate: int = RATE) -> None:
        size = rate // 50
        self._window = np.hanning(size + 1)[:-1]
        self._frequencies = np.fft.rfftfreq(size, 1 / rate)[1:]
        self._lags = (rate // 400, rate // 60)
        self._before = np.zeros(size)
        self._magnitudes = np.zeros(len(self._frequencies))
        self._levels: deque[float] = deque(maxlen=150)
        self._energies: deque[float] = deque(maxlen=150)
        self._sos = k_weighting(rate)
        self._state = np.zeros((len(self._sos), 2))

    def measure(self, frame: npt.NDArray[np.int16]) -> dict[str, float]:
        """Measure a frame: time domain, spectrum, voice, loudness."""
        values = measure_frame(frame)
        real = frame.astype(np.float64) / 32768.0
        values |= self._spectrum(real)
        values |= self._voice(values)
        values |= self._loudness(real)
        self._before = real
        return values

    def _spectrum(self, real: Samples) -> dict[str, float]:
        spectrum = np.fft.rfft((real - real.mean()) * self._window)[1:]
        power = np.abs(spectrum) ** 2 + 1e-20
        share = power / power.sum()
        centroid = float((share * self._frequencies).sum())
        spread = float(np.sqrt((share * (self._frequencies - centroid) ** 2).sum()))
        magnitudes = np.sqrt(power) / np.linalg.norm(np.sqrt(power))
        flux = float(np.linalg.norm(magnitudes - self._magnitudes))
        self._magnitudes = magnitudes
        scale = 2.0 / (len(real) * (self._window**2).sum())
        bands = [
            10 * float(np.log10(scale * power[(self._frequencies >= low) & inside].sum() + 1e-12))
            for low, high in ((0, 500), (500, 2_000), (2_000, 8_000))
            for inside in [self._frequencies < high]
        ]
        return {
            "fft.dominant_frequency": float(self._frequencies[power.argmax()]),
            "fft.spectral_centroid": centroid,
            "fft.spectral_bandwidth": spread,
            "fft.spectral_rolloff": float(
                self._frequencies[np.searchsorted(np.cumsum(share), 0.85)]
            ),
            "fft.spectral_flatness": float(np.exp(np.log(power).mean()) / power.mean()),
            "fft.spectral_flux": flux,
            "fft.harmonic_ratio": self._harmonic_ratio(real),
            "fft.low_band_energy": bands[0],
            "fft.mid_band_energy": bands[1],
            "fft.high_band_energy": bands[2],
        }

    def _harmonic_ratio(self, real: Samples) -> float:
        both = np.concatenate([self._before, real])
        correlation = np.correlate(both, both, "full")[len(both) - 1 :]
        low, high = self._lags
        return float(max(0.0, correlation[low:high].max() / (correlation[0] + 1e-20)))

    def _voice(self, values: dict[str, float]) -> dict[str, float]:
        self._levels.append(values["pcm.rms_dbfs"])
        floor = float(np.percentile(self._levels, 10))
        above = max(0.0, values["pcm.rms_dbfs"] - floor)
        voiced = 1 / (1 + float(np.exp(6.0 - 0.5 * above - 3 * values["fft.harmonic_ratio"])))
        return {
            "pcm.noise_floor": floor,
            "pcm.snr_estimate": above,
            "pcm.vad_probability": voiced,
        }

    def _loudness(self, real: Samples) -> dict[str, float]:
        weighted, self._state = sosfilt(self._sos, real, zi=self._state)
        self._energies.append(float(np.mean(weighted**2)))
        recent = list(self._energies)
        return {
            "advanced.lufs_momentary": -0.691 + 10 * float(np.log10(np.mean(recent[-20:]) + 1e-20)),
            "advanced.lufs_short_term": -0.691 + 10 * float(np.log10(np.mean(recent) + 1e-20)),
        }


class NaiveRegistry:
    """One gauge and one histogram for each metric."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        names = {metric.key: metric.key.replace(".", "_") for metric in FRAME_METRICS}
        self.gauges = {
            key: Gauge(name, key, LABELS, registry=registry) for key, name in names.items()
        }
        self.histograms = {
            key: Histogram(f"{name}_distribution", key, LABELS, registry=registry)
            for key, name in names.items()
        }


class NaiveTap:
    """A tap that measures and tells on the audio thread."""

    def __init__(self, registry: NaiveRegistry, station: str) -> None:
        self._analysis = NaiveAnalysis()
        self._tell = [
            (key, gauge.labels(station, "pre").set, registry.histograms[key].labels(station, "pre"))
            for key, gauge in registry.gauges.items()
        ]

    def pre(self, block: bytes) -> None:
        """Measure a frame of 20 ms and publish its values."""
        values = self._analysis.measure(np.frombuffer(block, "<i2"))
        for key, put, histogram in self._tell:
            put(values[key])
            histogram.observe(values[key])
