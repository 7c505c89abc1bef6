"""Liveness of an edge: what the store has, its feeds have soon, without anything else waking them.

A bound counts from a moment at which the edge could know: it heard of a later chunk, it was
subscribed anew, or it has heard nothing for so long that it has to look. Calls that fail, and a
store that is away or cut off, begin it anew.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.feed import Feed

SLACK_S = 1.5
"""For the longest pause between two tries, and a little more."""
TRIPS = 8
"""A look, a page of the log and another, there and back, and one more for each to come anew."""


class Promptness:
    def __init__(self, feed: "Feed") -> None:
        self._feed = feed
        self._failures = 0

    def on_failed(self) -> None:
        self._failures += 1

    def expect(self, why: str, after_s: float = 0.0) -> None:
        """What the store has now must be here in time."""
        feed, store = self._feed, self._feed.edge.store
        view = store.state.view(feed.request_id, now_ms=store.world.now_ms)
        if view is not None:
            self._watch(why, after_s, view.log_id, view.next_seq - 1)

    def expect_chunk(self, log_id: str, seq: int) -> None:
        self._watch("heard of a later chunk", 0.0, log_id, seq)

    def expect_again(self, every_s: float) -> None:
        """Forever: silence is a reason to look."""
        feed = self._feed
        if feed.is_current:
            if feed.follower.is_open:
                self.expect("has heard nothing for long", every_s)
            feed.edge.world.after(every_s, feed.edge, self.expect_again, every_s)

    def _watch(self, why: str, after_s: float, log_id: str, seq: int) -> None:
        feed, world = self._feed, self._feed.edge.world
        within_s = after_s + SLACK_S + TRIPS * world.options.delay_max_s
        state = (self._failures, feed.edge.store.incarnation)
        world.after(within_s, feed.edge, self._check, why, after_s, log_id, seq, state)

    def _check(
        self, why: str, after_s: float, log_id: str, seq: int, before: tuple[int, int]
    ) -> None:
        feed, store = self._feed, self._feed.edge.store
        world, follower = store.world, self._feed.follower
        if not feed.is_current or follower.gone or before[1] != store.incarnation:
            return
        now = store.state.view(feed.request_id, now_ms=world.now_ms)
        if now is None or now.log_id != log_id or now.next_seq <= seq:
            return  # another log, or a store that forgot: it has promises of its own
        if follower.is_open and follower.view.log_id == log_id and follower.head >= seq:
            return
        is_under_way = not follower.is_open or follower.deadline() is None
        if is_under_way or before[0] != self._failures or world.is_cut(feed.edge, store):
            self._watch(why, after_s, log_id, seq)
            return
        store.safety.fail(
            "liveness",
            f"{feed.edge.name} {why}, and it has {follower.head} of {seq} chunks "
            f"of {feed.request_id}",
        )
