"""The text of an option to its value. Each raises ArgumentTypeError or ValueError, of which argparse makes one line."""

from __future__ import annotations

import argparse


def words(text: str) -> tuple[str, ...]:
    """Words for a missing value, the empty one first."""
    return tuple(dict.fromkeys(("", *(word.strip() for word in text.split(",")))))


def count(text: str) -> int:
    """A whole number from 1."""
    return int(at_least(1, int(text)))


def window(text: str) -> int:
    """A whole number from 2."""
    return int(at_least(2, int(text)))


def levels(text: str) -> int:
    """A whole number from 0 to 65536."""
    if int(text) > 2**16:
        raise argparse.ArgumentTypeError(f"{text} is too large: at most 65536")
    return int(at_least(0, int(text)))


def draws(text: str) -> int:
    """A whole number from 0."""
    return int(at_least(0, int(text)))


def seed(text: str) -> int:
    """A whole number from 0 to 2**63 - 1."""
    if int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is too large: at most 2**63 - 1")
    return int(at_least(0, int(text)))


def threads(text: str) -> int:
    """A whole number from 0 to 256."""
    if int(text) > 256:
        raise argparse.ArgumentTypeError(f"{text} is too large: at most 256")
    return int(at_least(0, int(text)))


def share(text: str) -> float:
    """A number from 0."""
    return at_least(0, float(text))


def floor(text: str) -> float:
    """A number from 0.001 to 1."""
    if not 1e-3 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.001 and 1")
    return float(text)


def rate(text: str) -> float:
    """A number from 0 and below 1."""
    if float(text) >= 1:
        raise argparse.ArgumentTypeError(f"{text} is too large: below 1")
    return at_least(0, float(text))


def part(text: str) -> float:
    """A number between 0 and 1."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def positive(text: str) -> float:
    """A number above 0."""
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text} is too small: above 0")
    return float(text)


def widths(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, none where the text is empty or "none"."""
    try:
        return () if text in ("", "none") else tuple(count(width) for width in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: widths such as 128,64, or none") from None


def at_least(least: float, value: float) -> float:
    """*value*, which is at least *least*. Raises ArgumentTypeError where it is not."""
    if not value >= least:
        raise argparse.ArgumentTypeError(f"{value:g} is too small: at least {least:g}")
    return value
