"""Which frames the output has (`plan`), and what is in the source frames (`sources`, `cuts`, `repeats`)."""

from .plan import (
    MOST_PASSES,
    TOLERANCE,
    End,
    Instant,
    Plan,
    Span,
    dyadic,
    dyadic_times,
    exact_rate,
    frame_count,
    halved,
    halvings,
    multiples,
    resampled,
)

__all__ = [
    "MOST_PASSES",
    "TOLERANCE",
    "End",
    "Instant",
    "Plan",
    "Span",
    "dyadic",
    "dyadic_times",
    "exact_rate",
    "frame_count",
    "halved",
    "halvings",
    "multiples",
    "resampled",
]
