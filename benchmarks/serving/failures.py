"""
What can go wrong while measuring.

    Failure         this server cannot be measured: a peer is left out with the reason, ours fails the part
      NotStarted    it did not answer, or its port is taken
      Refused       a reply other than 200, a closed connection, no reply in time
    WrongAnswer     the answer is not the model's: nothing more is measured
"""

from __future__ import annotations


class Failure(Exception):
    """This server cannot be measured."""


class NotStarted(Failure):
    """A server did not answer; the message has the end of its log."""


class Refused(Failure):
    """Requests failed: the figures would be of something else."""


class WrongAnswer(Exception):
    """A server's answer is not the model's: the speed of something else would be measured."""
