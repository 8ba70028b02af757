"""Handles: the calls on streams. scripts/make_sync.py generates `_sync_streams.py` from this file."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs._suggest import suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions._arguments import KEPT
from flexcache_rs.sessions._containers import Handle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexcache_rs.sessions._arguments import Ttl

_ALL = 2**63 - 1
_MOST_DIGITS = 100
_MOST_SHOWN = 100


def _stream_id(argument: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be an id, a str, not {type(text).__name__}")
    millis, _, number = text.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in (millis, number)):
        shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
        raise ValueError(f'{argument} must be an id such as "1700000000000-0", not {shown!r}')
    return arguments.whole_number(argument, int(millis)), arguments.whole_number(argument, int(number))


@suggesting
class Stream(Handle):
    """Entries with ids "ms-n", which only grow.

    An id has the time in milliseconds since 1970 and a number within the millisecond.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         log = session.stream("log")
    ...         first = await log.add({"event": "start"})
    ...         await log.add({"event": "stop"})
    ...         print([fields for _, fields in await log.range(after=first)])
    >>> asyncio.run(main())
    [{'event': 'stop'}]
    """

    _kind = "stream"

    async def add(
        self, fields: Mapping[str, Any], *, maxlen: int | None = None, ttl: Ttl = None, ttl_if_new: Ttl = None
    ) -> str:
        """Append an entry, which is a dict.

        With `maxlen`, drop the first entries beyond that length. Returns its id.
        """
        most = None if maxlen is None else arguments.whole_number("maxlen", maxlen)
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        added: str = await self._act(touch, "stream_add", arguments.mapping("fields", fields), most)
        return added

    async def range(
        self, after: str | None = None, until: str | None = None, count: int | None = None
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return up to `count` entries after one id and up to another."""
        first, last = _stream_id("after", after), _stream_id("until", until)
        most = _ALL if count is None else arguments.whole_number("count", count)
        found: list[tuple[str, dict[str, Any]]] = await self._act(KEPT, "stream_range", first, last, most)
        return found

    async def read(self, after: str | None = None, timeout: Ttl = None) -> list[tuple[str, dict[str, Any]]]:
        """Wait for entries after an id, and return them. Returns an empty list after `timeout` seconds.

        It waits as `List.wait_pop` does.
        """
        first = _stream_id("after", after)
        found: list[tuple[str, dict[str, Any]]] = await self._wait(
            timeout, lambda: self._act(KEPT, "stream_range", first, None, _ALL)
        )
        return found

    async def trim(self, maxlen: int) -> int:
        """Drop the first entries beyond a length. Returns how many."""
        removed: int = await self._act(KEPT, "stream_trim", arguments.whole_number("maxlen", maxlen))
        return removed
