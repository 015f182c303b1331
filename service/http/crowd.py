"""
All connections of this process together: how many there are, and what they hold that their clients have not taken.

Each alone is within limits (protocol.py), and ten thousand of them are not. Who gets on least goes first: that is who
does harm, if anybody does. Knows connections as `Member`; nothing of sockets or requests. Figures: docs/decisions/0013.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

Why = Literal["idle", "refused", "unread"]
"""Why a connection was ended: for a newer one; as it came, because there was none to end; for what was left unread."""


GRACE_S = 2.0
"""Who has taken something within so many seconds is getting on: a slow client is seen to take some now and then."""


class Member(Protocol):
    """One connection."""

    @property
    def answering(self) -> bool:
        """Whether it has a request that is not answered yet."""

    @property
    def unread(self) -> int:
        """Bytes of replies that wait in this process."""

    @property
    def untaken(self) -> int:
        """The same, and those that wait in the system: less whenever the client takes some."""

    def end(self) -> None:
        """Close it, and forget what is unread."""


class _Held(NamedTuple):
    """What waits for a client: bytes here, bytes in all, and since when they are so many."""

    size: int
    untaken: int
    since: float


_NOTHING = _Held(0, 0, 0.0)


class Crowd:
    """
    At most *most* connections, and *most_unread* bytes of replies that wait for clients.

    What counts is what waits behind a write buffer that is full (some 64 KiB). *ended* hears why one was ended.
    """

    def __init__(self, most: int, most_unread: int, ended: Callable[[Why], None]) -> None:
        self._most = most
        self._most_unread = most_unread
        self._ended = ended
        self._members: dict[Member, None] = {}  # who was heard of least recently comes first
        self._unread: dict[Member, _Held] = {}
        self._unread_bytes = 0  # at most: clients may have taken a part of it

    def __len__(self) -> int:
        """How many there are."""
        return len(self._members)

    def enter(self, member: Member) -> bool:
        """Whether there is room for *member*, made if need be by ending the one that has asked for nothing longest."""
        if len(self._members) >= self._most and not self._made_room():
            self._ended("refused")
            return False
        self._members[member] = None
        return True

    def heard(self, member: Member) -> None:
        """A request of *member* came."""
        if member in self._members:
            del self._members[member]
            self._members[member] = None

    def stuck(self, member: Member, now: float) -> None:
        """The write buffer of *member* is full. Ends who has taken nothing for longest while all hold too much."""
        self._hold(member, now)
        if self._unread_bytes > self._most_unread:
            self._look(now)
        while self._unread_bytes > self._most_unread:
            victim = min(self._unread, key=lambda one: self._unread[one].since)
            if now - self._unread[victim].since < GRACE_S and member in self._unread:
                victim = member  # all others are getting on
            self._end(victim, "unread")

    def flowing(self, member: Member) -> None:
        """The write buffer of *member* has room."""
        self._unread_bytes -= self._unread.pop(member, _NOTHING).size

    def leave(self, member: Member) -> None:
        """*member* is closed."""
        self.flowing(member)
        self._members.pop(member, None)

    def _made_room(self) -> bool:
        """Whether one could be ended: rather one that has its reply."""
        for reading in (False, True):
            for member in self._members:
                if not member.answering and (member.unread > 0) == reading:
                    self._end(member, "idle")
                    return True
        return False

    def _look(self, now: float) -> None:
        """See what has been taken meanwhile."""
        for member, held in list(self._unread.items()):
            self._hold(member, now if member.untaken < held.untaken else held.since)

    def _hold(self, member: Member, since: float) -> None:
        self.flowing(member)
        held = self._unread[member] = _Held(member.unread, member.untaken, since)
        self._unread_bytes += held.size

    def _end(self, member: Member, why: Why) -> None:
        self.leave(member)
        self._ended(why)
        member.end()
