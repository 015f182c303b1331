"""
Damage to bytes, and the numbers and words that parsers get wrong.

Every grammar here draws from a `random.Random`. The tests hand it one that hypothesis plays (`st.randoms`), so that
failures shrink; the long run hands it a seeded one as well, which is twenty times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

Item = TypeVar("Item")

NUMBERS = (
    *("0", "-0", "-0.0", "1", "-1", "0.1", "1e-400", "5e-324", "2.2250738585072014e-308", "1E5", "1e+2"),
    *("16777217", "9007199254740993", "1e6", "1000001", "3.4028235e38", "3.4028235677973366e38", "3.5e38", "1e39"),
    *("2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "1" + "0" * 300, "0." + "0" * 300 + "1", "1." + "3" * 400),
    *("1.7976931348623157e308", "-1.7976931348623157e308", "4.9e-324", "6.02214076e23", "100000000000000000000"),
)  # fmt: skip
"""JSON numbers that are finite as float64."""
NO_NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "nan", "+1", "01", "-01", ".5", "1.", "1e", "1e+", "0x10", "1_000", "-"),
    *("1e309", "-1e309", "1e400", "1.8e308", "9" * 400, "-" + "9" * 400, "1e99999999999999999999", "\u0661", "1 2"),
)  # fmt: skip
"""What is no JSON number, or none that a float64 holds."""
SIZES = (
    -1, 0, 1, 2, 3, 4, 7, 8, 12, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**40 + 1, 2**62, 2**63, 2**64, 10**30,
)  # fmt: skip


def chance(random: Random, share: float) -> bool:
    """True so often."""
    return random.random() < share


def pick(random: Random, *weighted: tuple[int, Item]) -> Item:
    """One of several, as often as its weight says."""
    at = random.randrange(sum(weight for weight, _ in weighted))
    for weight, item in weighted:
        at -= weight
        if at < 0:
            return item
    raise AssertionError("the weights are used up")


def octets(random: Random, most: int) -> bytes:
    """Up to so many bytes."""
    return bytes(random.randrange(256) for _ in range(random.randint(0, most)))


def mutate(random: Random, data: bytes, words: Sequence[bytes], times: int = 3) -> bytes:
    """*data* with up to so many things done to it; *words*: what its format is made of."""
    for _ in range(random.randint(1, times)):
        at, to = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
        to = min(to, at + random.choice((1, 2, 4, 16, 1000)))
        match random.randrange(10):
            case 0 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at] + bytes([random.choice((0, 1, 0x20, 0x7F, 0x80, 0xC0, 0xFE, 0xFF))]) + data[at + 1 :]
            case 2:
                data = data[:at] + octets(random, 4) + data[at:]
            case 3:
                data = data[:at] + data[to:]
            case 4:
                data = data[:at]
            case 5:
                data = data[:to] + data[at:]
            case 6:
                data = data[:at] + data[at:to] * random.choice((2, 3, 50)) + data[to:]
            case 7:
                data = data[to:] + data[:at]
            case 8:
                data = data[:at] + random.choice(words) + data[to:]
            case _:
                data = data[:at] + random.choice(words) + data[at:]
    return data
