"""
Instants: ISO 8601 text to seconds since 1970-01-01 UTC, and back.

Text without an offset from UTC is taken as UTC. Seconds are float64, which has the microsecond from 1970 to 2100. Knows
nothing of tables.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MAX_TEXT = 64
"""Characters of an instant; the longest form that there is has some 35."""

FIRST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def seconds(text: str) -> float:
    """
    What ISO 8601 *text* means: a date, or a date and a time, with an offset from UTC or without (then it is UTC).

    Raises ValueError for anything else.
    """
    if len(text) > MAX_TEXT or not text.isascii():
        raise ValueError("not ISO 8601")
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)).timestamp()


def texts(instants: NDArray[np.float64]) -> NDArray[np.str_]:
    """
    ISO 8601 with the offset Z of each of *instants*: in seconds where all are whole, else in microseconds.

    What is beyond the years 1 to 9999 becomes the first or the last second of them; NaN is the empty text.
    """
    known = ~np.isnan(instants)
    kept = np.clip(np.where(known, instants, 0.0), FIRST, LAST)
    micros: NDArray[np.datetime64] = np.rint(kept * 1e6).astype(np.int64).astype("datetime64[us]")
    unit: Literal["s", "us"] = "s" if (kept == np.floor(kept)).all() else "us"
    written: NDArray[np.str_] = np.where(known, np.datetime_as_string(micros, unit=unit, timezone="UTC"), "")
    return written
