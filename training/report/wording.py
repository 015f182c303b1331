"""How numbers are written on the page: a real minus, no zero with a sign, a space that does not break before %."""

from __future__ import annotations

import math


def number(value: float, digits: int = 1) -> str:
    """With *digits* decimals; very large and very small ones with a power of ten."""
    if not math.isfinite(value):
        return str(value).replace("-", "\u2212")
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}".replace("-", "\u2212")
    return _plain(f"{value:,.{digits}f}")


def signed(value: float, digits: int = 1) -> str:
    """With its sign, unless it is 0 in so many digits."""
    text = number(value, digits)
    return text if value <= 0 or not text.strip("0.") else f"+{text}"


def percent(share: float, digits: int = 0) -> str:
    """A share of 1 as per cent."""
    return _plain(f"{100 * share:.{digits}f}") + "\u00a0%"


def with_error(figure: dict[str, float | None], digits: int = 1) -> str:
    """A mean and its standard error, where there is one."""
    mean, error = figure["mean"], figure["standard_error"]
    text = number(float(mean or 0.0), digits)
    return text if error is None else f"{text} \u00b1 {number(error, digits)}"


def _plain(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.,") else text.replace("-", "\u2212")
