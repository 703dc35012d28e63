"""How often somebody may ask, as token buckets in the memory of this process: with n replicas, n times as often."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

FORGOTTEN = 10_000  # buckets that are kept; who has not asked for longest is forgotten, with a full bucket


class Buckets:
    """A bucket each, that fills at ``per_minute`` and holds as much as fills in a quarter of a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, and when it was that

    def take(self, who: str, per_minute: int) -> int:
        """Take one. Returns the seconds to wait for the next if there is none, else 0."""
        rate, size = per_minute / 60, max(1.0, per_minute / 4)
        now = self._clock()
        level, then = self._levels.pop(who, (size, now))
        level = min(size, level + (now - then) * rate)
        short = level < 1
        self._levels[who] = (level if short else level - 1, now)
        while len(self._levels) > FORGOTTEN:
            self._levels.popitem(last=False)
        return math.ceil((1 - level) / rate) if short else 0


def neighbourhood(host: str) -> str:
    """What of an address is one client: all of an IPv4 address, the first half of an IPv6 one."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:  # a test client, or a Unix socket
        return host
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ip_address(int(address) >> 64 << 64))
