"""Which other generators have ended: an owner's life is its connection (P15).

Every generator subscribes, in each partition, to a channel of its own before it claims anything
(P15.10). The subscriptions of a process end with it, within milliseconds. So a few times a second,
the others look whether the owners that they know still have a subscriber. An owner without one is
*silent*: a claim may take its requests while their leases run, after another check.

An owner without a subscriber may live. So a look counts only under three conditions:

* The owner was seen there, in this life of the server and since this generator itself is subscribed
  there (P15.11). A server that was just started, promoted or given its first partition, or that has
  lost all its clients, has not heard from the owners yet.
* Two looks in a row, ``SILENT_S`` apart, found nobody (P15.12). A lost connection is back in a
  moment.
* The owner has not renewed the lease since. If it has, it lives and lost only its subscription: an
  owner that is not subscribed renews all its leases with every look (P15.13, ``claims.py``). The
  claim checks that by the store's clock (P15.14).

An owner that stands still, or whose machine has lost its power, keeps its connections. Its lease
decides.

Events come in with ``now``, in seconds; commands lie in ``outbox``; ``deadline`` says when
``on_time`` has something to do. All channels of an owner on one server share a connection, so a
look at one partition of a server covers all of them. The claim checks its own partition.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lore.protocol.commands import Look, Meet, Silent

LOOK_EVERY_S = 0.2
SILENT_S = 0.5
"""Seconds between the two looks. Longer than an owner takes to subscribe again: about 0.1 s, after
a failed first attempt.
"""
LOOKS_OF_NEWS = 2
KNOWN_S = 60.0
"""How many seconds a name is kept after its owner was last seen."""


class Looking(NamedTuple):
    """A look at a server: the server's life, and when it was asked."""

    life: str
    asked_s: float


class Presence:
    def __init__(
        self,
        owner: str,
        partitions: Sequence[int],
        *,
        run_id: Callable[[int], str],
        is_ready: Callable[[int], bool],
        now: float,
    ) -> None:
        """``run_id`` names the life of the server that has a partition. ``is_ready`` says whether
        this generator is connected to that server and heard there.
        """
        self.outbox: list[tuple[Looking | None, Look | Meet]] = []
        self._owner = owner
        self._run_id = run_id
        self._is_ready = is_ready
        self._known: tuple[str, ...] = ()
        self._partitions = partitions
        self._lives: dict[str, int] = {}
        """The life of each server on which this generator is subscribed, with one of its
        partitions.
        """
        self.unheard: list[int] = list(partitions)
        """Partitions in which the others may miss this generator."""
        self._seen: set[tuple[str, str]] = set()
        """(life, owner) of owners that have had a subscriber since this generator has one."""
        self._absent: dict[tuple[str, str], float] = {}
        """When the first of the current looks in a row that found nobody was answered."""
        self._silent: dict[str, dict[str, int]] = {}
        """The silent owners in each life of a server, each with the number of looks that found
        nobody.
        """
        self._under_way: set[str] = set()
        self._look_s = now

    # events

    def meet(self) -> None:
        """Announce this generator, and learn of the others."""
        self.outbox.append((None, Meet(self._owner, round(KNOWN_S * 1000))))

    def on_met(self, owners: Sequence[str]) -> None:
        self._known = tuple(owner for owner in owners if owner != self._owner)
        for life, owner in [*self._seen, *self._absent]:
            if owner not in self._known:
                self._forget(life, owner)

    def on_store_back(self) -> None:
        """The subscriptions are back after they were lost."""
        self._seen.clear()
        self._absent.clear()
        self._silent.clear()

    def on_looked(self, looking: Looking, look: Look, present: Sequence[str], now: float) -> bool:
        """``present``: the owners that have a subscriber. Returns True when there may be something
        to claim: an owner is silent since this look, or since the one before, when its last renewal
        may still have protected its leases.
        """
        life = looking.life
        self._under_way.discard(life)
        if self._run_id(look.partition) != life:
            return False  # another server may have answered
        news = False
        for owner in look.owners:
            if owner in present:
                self._seen.add((life, owner))
                self._absent.pop((life, owner), None)
                self._silent.get(life, {}).pop(owner, None)
            elif (life, owner) in self._seen:
                since_s = self._absent.setdefault((life, owner), now)
                if looking.asked_s >= since_s + SILENT_S:
                    silent = self._silent.setdefault(life, {})
                    silent[owner] = silent.get(owner, 0) + 1
                    news |= silent[owner] <= LOOKS_OF_NEWS
        return news

    def on_lost(self, looking: Looking) -> None:
        """A look got no answer."""
        self._under_way.discard(looking.life)

    def _forget(self, life: str, owner: str) -> None:
        self._seen.discard((life, owner))
        self._absent.pop((life, owner), None)
        self._silent.get(life, {}).pop(owner, None)

    def take(self) -> list[tuple[Looking | None, Look | Meet]]:
        """The commands since the last call."""
        taken, self.outbox = self.outbox, []
        return taken

    # time

    def deadline(self) -> float:
        return self._look_s

    def on_time(self, now: float) -> bool:
        """Return whether it was time to look."""
        if self._look_s > now:
            return False
        # The look that decides comes no later than it must.
        due = (since_s + SILENT_S for since_s in self._absent.values())
        self._look_s = min((at_s for at_s in due if at_s > now), default=math.inf)
        self._look_s = min(self._look_s, now + LOOK_EVERY_S)
        self._listen()
        for life, partition in self._lives.items():
            if self._known and life not in self._under_way:
                self._under_way.add(life)
                self.outbox.append((Looking(life, now), Look(partition, self._known)))
        return True

    def _listen(self) -> None:
        self._lives, self.unheard = {}, []
        for partition in self._partitions:
            if self._is_ready(partition):
                self._lives.setdefault(self._run_id(partition), partition)
            else:
                self.unheard.append(partition)
        for life, owner in [*self._seen, *self._absent]:
            if life not in self._lives:
                self._forget(life, owner)

    # conclusions

    @property
    def watched(self) -> int:
        """How many other generators this one watches for their end."""
        return len({owner for _, owner in self._seen})

    @property
    def silent(self) -> tuple[Silent, ...]:
        """The owners whose requests may be claimed."""
        return tuple(
            Silent(life, round(SILENT_S * 1000), tuple(owners))
            for life, owners in self._silent.items()
            if owners
        )
