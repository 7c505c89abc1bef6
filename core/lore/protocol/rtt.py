"""The round trip to one reader and the retransmission timeout (protocol P11, RFC 6298).

All times are seconds on one clock, the edge's. The caller keeps Karn's rule (RFC 6298 section 3):
it gives no sample for a chunk that was sent twice.
"""

from dataclasses import dataclass

ALPHA = 1 / 8  # RFC 6298 section 2
BETA = 1 / 4
K = 4


@dataclass(frozen=True, slots=True)
class RttConfig:
    initial_rto_s: float = 1.0  # RFC 6298 section 2.1
    min_rto_s: float = 1.0  # section 2.4
    max_rto_s: float = 60.0  # section 2.5
    granularity_s: float = 0.001


class RoundTrip:
    def __init__(self, config: RttConfig) -> None:
        self._config = config
        self.srtt_s: float | None = None
        self.rttvar_s = 0.0
        self._base_rto_s = config.initial_rto_s
        self._backoff = 1

    @property
    def rto_s(self) -> float:
        return min(self._base_rto_s * self._backoff, self._config.max_rto_s)

    def on_sample(self, rtt_s: float) -> None:
        """Take a measured round trip (RFC 6298 sections 2.2 and 2.3) and end any backoff."""
        assert rtt_s >= 0, "P11.1: both ends of a sample are read from one clock"
        if self.srtt_s is None:
            self.srtt_s, self.rttvar_s = rtt_s, rtt_s / 2
        else:
            self.rttvar_s = (1 - BETA) * self.rttvar_s + BETA * abs(self.srtt_s - rtt_s)
            self.srtt_s = (1 - ALPHA) * self.srtt_s + ALPHA * rtt_s
        rto_s = self.srtt_s + max(self._config.granularity_s, K * self.rttvar_s)
        self._base_rto_s = max(rto_s, self._config.min_rto_s)
        self._backoff = 1

    def on_timeout(self) -> None:
        """Back off (RFC 6298 section 5.5)."""
        if self.rto_s < self._config.max_rto_s:
            self._backoff *= 2
