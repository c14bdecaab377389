"""Refusals of callers whom nobody knows, or who call too much: counted by peer and second, so that
they cannot make the log grow as fast as they call."""

import time
from collections.abc import Callable
from dataclasses import replace

from knowledged.interceptors.occurrence import Occurrence

_SECOND = 1.0
_MOST_PEERS = 1_000
_OTHERS = "others"

_Key = tuple[str, str, int]


class RefusalCounts:
    """Adds up refusals; each second's become one occurrence a peer, subject and code.

    Of more peers than `_MOST_PEERS` within a second the rest is counted together, as `others`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[_Key, Occurrence] = {}
        self._since = 0.0

    def add(self, what: Occurrence) -> None:
        """Counts one more; which RPC is kept only as long as all are of the same."""
        if not self._counts:
            self._since = self._clock()
        host = _host(what.peer)
        key = (host, what.actor, what.code)
        if key not in self._counts and len(self._counts) >= _MOST_PEERS:
            host, key = _OTHERS, (_OTHERS, "", what.code)
            what = replace(what, actor="")
        known = self._counts.get(key) or replace(what, peer=host, asked=(), count=0)
        rpc = known.rpc if known.rpc == what.rpc else ""
        self._counts[key] = replace(known, rpc=rpc, count=known.count + 1)

    def taken(self, *, all: bool = False) -> list[Occurrence]:
        """What was counted, once its second is over, or `all`."""
        if not all and self._clock() - self._since < _SECOND:
            return []
        counted, self._counts = self._counts, {}
        return list(counted.values())


def _host(peer: str) -> str:
    """Without the port, which is another for each connection."""
    kind, _, _ = peer.partition(":")
    return peer.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer
