"""The health score: 100 less what each defect costs, and which defect cost how much.

A defect costs ``points * min(1, amount / full_at)``: nothing when it is absent, all its points from
``full_at`` on, never less for more of it. What is unknown costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BEST = 100.0


@dataclass(frozen=True, slots=True)
class Weight:
    """What one defect costs.

    Attributes:
        points: At most.
        full_at: Amount from which on it costs all of them.
    """

    points: float
    full_at: float


DEFECTS: dict[str, Weight] = {
    "clipping": Weight(25.0, 0.01),
    "limiting": Weight(15.0, 0.05),
    "noise": Weight(20.0, 20.0),
    "mute": Weight(20.0, 1.0),
    "freeze": Weight(30.0, 0.5),
    "loss": Weight(50.0, 0.1),
    "lost_speech": Weight(50.0, 0.2),
}
"""Weights unless the configuration says otherwise; the amounts are those of ``Defects``."""


@dataclass(frozen=True, slots=True)
class Defects:
    """How much there is of each defect in a bucket; None is unknown.

    Attributes:
        clipping: Mean of ``pcm.clipping_ratio``.
        limiting: ``pair.limited_ratio``.
        noise: How many dB the mean of ``pcm.snr_estimate`` lies below 25 dB.
        mute: At POST what is muted and was not at PRE (``pair.added_silence_ratio``); elsewhere
            the mean of ``pcm.muted_signal``.
        freeze: Share of frames that are frozen and not muted.
        loss: ``pipe.frame_drop_ratio``.
        lost_speech: ``pair.speech_lost_ratio``.
    """

    clipping: float | None = None
    limiting: float | None = None
    noise: float | None = None
    mute: float | None = None
    freeze: float | None = None
    loss: float | None = None
    lost_speech: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """A score and its reasons.

    Attributes:
        score: 0 to 100.
        costs: Points by defect, of those that cost any.
    """

    score: float
    costs: Mapping[str, float] = field(default_factory=dict)


def judge(defects: Defects, weights: Mapping[str, Weight]) -> Health:
    """Return the score of a bucket and what it is made of."""
    costs: dict[str, float] = {}
    for name, weight in weights.items():
        amount = getattr(defects, name)
        if amount is not None and amount > 0 and weight.points > 0:
            costs[name] = weight.points * min(1.0, amount / weight.full_at)
    return Health(max(0.0, BEST - sum(costs.values())), costs)
