"""
What can go wrong offline, and what the user is told: one line, on stderr, and exit status 2.

TrainingError
├── DataError       a file that cannot be read as rows; names the file, the row, the column and the reason
├── Interrupted     Ctrl-C or SIGTERM during a fit, whose state was saved; exit status 130 or 143 instead of 2
├── FitError        options that do not fit the data, or a fit that does not converge
└── ParityError     onnxruntime and PyTorch disagree; nothing is written
"""

from __future__ import annotations


class TrainingError(Exception):
    """The user must change the data, the options, or tell us of a fault; the message says which."""


class DataError(TrainingError):
    """Data that cannot be used as it is."""


class FitError(TrainingError):
    """A fit that cannot start, or cannot go on."""


class Interrupted(TrainingError):
    """A signal ended the fit between two steps. *signal*: its number."""

    def __init__(self, signal: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.signal = signal


class ParityError(TrainingError):
    """An exported graph does not compute what PyTorch computes."""
