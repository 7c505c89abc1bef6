"""Which other generators have ended: an owner's life is its connection (P15).

Every generator subscribes, in each partition, to a channel of its own before it claims anything.
The subscriptions of a process end with it, within milliseconds. So the others look a few times a
second whether the owners that they know still have a subscriber. An owner without one is *silent*:
a claim may take its requests under a running lease, and checks again when it does.

An owner without a subscriber may live. So there are three reasons not to believe a look:

* The owner has not been seen there, in this life of the server and since this generator itself is
  subscribed there (P15.11). A server that was just started, promoted or given its first partition,
  or that has lost all its clients, has not heard from the owners yet.
* It is the first look that found nobody. A lost connection is back in a moment, so it takes two
  looks, ``SILENT_S`` apart (P15.12).
* The owner has renewed the lease since: it lives, and has lost only its subscription. An owner that
  is not subscribed renews all its leases with every look (P15.13, ``claims.py``). The claim checks
  that by the store's clock (P15.14).

An owner that stands still, or whose machine has lost its power, keeps its connections. Its lease
decides.

Events come in with ``now``, commands lie in ``outbox``; ``deadline`` says when ``on_time`` has
something to do. All channels of an owner on one server share a connection, so one partition of a
server is looked at for all of them; the claim looks at its own.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lore.protocol.commands import Look, Meet, Silent

LOOK_EVERY_S = 0.2
SILENT_S = 0.5
"""Longer than an owner takes to subscribe again: about 0.1 s, after a failed first attempt."""
LOOKS_OF_NEWS = 2
KNOWN_S = 60.0
"""How long a name is kept after its owner was last there."""


class Looking(NamedTuple):
    """A look at a server: its life, and when it was asked."""

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
        """``run_id`` names the life of the server that has a partition, ``is_ready`` says whether
        this generator is connected to it and heard there."""
        self.outbox: list[tuple[Looking | None, Look | Meet]] = []
        self._owner = owner
        self._run_id = run_id
        self._is_ready = is_ready
        self._known: tuple[str, ...] = ()
        self._partitions = partitions
        self._lives: dict[str, int] = {}
        """The life of each server where this generator is subscribed, with a partition of it."""
        self.unheard: list[int] = list(partitions)
        """Partitions in which the others may miss this generator."""
        self._seen: set[tuple[str, str]] = set()
        """(life, owner) of those that have had a subscriber since this generator has one."""
        self._absent: dict[tuple[str, str], float] = {}
        """When the first look of the current row that found nobody was answered."""
        self._silent: dict[str, dict[str, int]] = {}
        """The silent owners in each life of a server, each with the number of looks that say so."""
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
        """``present``: the owners that have a subscriber. True when there may be something to
        claim: an owner is silent since this look, or since the one before, when its last renewal
        may still have protected its leases."""
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
        """The commands since the last time."""
        taken, self.outbox = self.outbox, []
        return taken

    # time

    def deadline(self) -> float:
        return self._look_s

    def on_time(self, now: float) -> bool:
        """Whether it was time to look."""
        if self._look_s > now:
            return False
        # The look that settles it comes no later than it has to.
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

    # what follows from it

    @property
    def watched(self) -> int:
        """How many other generators would be missed if they ended."""
        return len({owner for _, owner in self._seen})

    @property
    def silent(self) -> tuple[Silent, ...]:
        """The owners whose requests may be claimed."""
        return tuple(
            Silent(life, round(SILENT_S * 1000), tuple(owners))
            for life, owners in self._silent.items()
            if owners
        )
