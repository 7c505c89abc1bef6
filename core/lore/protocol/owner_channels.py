"""The claim for which a generator listens to the owner channel of a request.

A request has one channel for all its owners. A generator that has claimed a request again may learn
later that its earlier claim has ended. It must not stop listening then (P2.10).
"""


class OwnerChannels:
    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}

    def begin(self, request_id: str, epoch: int) -> None:
        """Listen for a claim, in place of an earlier one."""
        self._epochs[request_id] = max(epoch, self._epochs.get(request_id, 0))

    def end(self, request_id: str, epoch: int) -> bool:
        """Whether to stop listening: only if this claim is the one that listens."""
        if self._epochs.get(request_id) != epoch:
            return False
        del self._epochs[request_id]
        return True
