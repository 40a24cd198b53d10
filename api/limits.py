"""Every limit of the front end, and the bucket that counts a caller's requests. Owner: security."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may take. The defaults are the product's; a benchmark lifts the rate and says so."""

    order_bytes: int = 256 * 1024
    command_bytes: int = 64 * 1024
    header_bytes: int = 16 * 1024
    nesting: int = 16
    requests_per_s: float = 50  # 0 switches the rate limit off
    burst: int = 100
    credential_cache_s: float = 30
    connections: int = 1000


PAGE_ROWS = 200
_MAX_BUCKETS = 10_000


class RateLimiter:
    """A token bucket per caller, in this process."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now: float | None = None) -> int:
        """Take one token; 0 when there was one, else after how many seconds there will be."""
        if self._rate <= 0:
            return 0
        at = time.monotonic() if now is None else now
        tokens, since = self._buckets.pop(caller, (float(self._burst), at))
        tokens = min(float(self._burst), tokens + (at - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, at)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) / self._rate))
