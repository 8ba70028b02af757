"""Handles. scripts/make_sync.py generates `_sync_containers.py` from this file."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from flexcache_rs._suggest import suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions._arguments import KEPT, MISSING
from flexcache_rs.sessions._protocol import following

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from flexcache_rs.sessions._arguments import Touch, Ttl
    from flexcache_rs.sessions._protocol import Owner
    from flexcache_rs.sessions._taking import Undo

_ALL = 2**63 - 1


@suggesting
class Handle:
    """A key whose container is read and changed in place. Each call is atomic.

    An absent key is an empty container. Writes that add elements create the key. `ttl=` sets the deadline of the key,
    and `ttl_if_new=` sets it only if the call creates the key. Without either, the deadline stays. Both are seconds, a
    timedelta, a datetime, or text such as "1h30m".

    Raises:
        KindError: Each call raises it if the key holds another kind.
        CodecError: A call raises it if a value cannot be stored, or if a stored value cannot be read.
    """

    _kind = ""

    def __init__(self, owner: Owner, key: str) -> None:
        self._owner = owner
        self._key = key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key!r}>"

    async def _act(self, touch: Touch, name: str, *values: Any) -> Any:
        owner = self._owner
        return await owner._run(owner._codec.act(self._kind, self._key, touch, name, *values))

    def _undo(self, taken: Any, name: str, *values: Any) -> Any:
        """Return the call that gives back what another one has taken, or None if it took nothing."""
        return self._owner._codec.act(self._kind, self._key, KEPT, name, *values) if taken else None

    async def _take(self, undo: Undo, name: str, *values: Any) -> Any:
        """Make a call that takes something. If the task is cancelled before it has it, it is given back."""
        owner = self._owner
        return await owner._take(owner._codec.act(self._kind, self._key, KEPT, name, *values), undo)

    async def _wait(self, timeout: Ttl, look: Callable[[], Awaitable[Any]]) -> Any:
        """Call `look` repeatedly until it finds something, for at most `timeout` seconds."""
        most = math.inf if timeout is None else 0.0 if timeout == 0 else arguments.seconds("timeout", timeout)
        deadline = time.monotonic() + most
        found = await look()
        if found or not most:
            return found
        with self._owner._waiting(self._key) as waiting:
            while not found and (left := deadline - time.monotonic()) > 0:
                await waiting.arest(left)
                found = await look()
        return found

    async def len(self) -> int:
        """Return the number of elements. O(1)."""
        count: int = await self._act(KEPT, "len")
        return count


@suggesting
class List(Handle):
    """A list. The time of a push or a pop at either end does not depend on its length.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         jobs = session.list("jobs")
    ...         print(await jobs.push("a", "b", ttl=3600), await jobs.pop_left(), await jobs.range())
    >>> asyncio.run(main())
    2 a ['b']
    """

    _kind = "list"

    async def push(self, *values: Any, maxlen: int | None = None, ttl: Ttl = None, ttl_if_new: Ttl = None) -> int:
        """Append values. With `maxlen`, drop the first elements beyond that length. Returns the length."""
        return await self._push(values, False, maxlen, ttl, ttl_if_new)

    async def push_left(self, *values: Any, maxlen: int | None = None, ttl: Ttl = None, ttl_if_new: Ttl = None) -> int:
        """Prepend values, one after the other.

        With `maxlen`, drop the last elements beyond that length. Returns the length.
        """
        return await self._push(values, True, maxlen, ttl, ttl_if_new)

    async def extend(self, values: Iterable[Any], *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> int:
        """Append values. Returns the length."""
        return await self._push(tuple(values), False, None, ttl, ttl_if_new)

    async def _push(self, values: tuple[Any, ...], left: bool, maxlen: int | None, ttl: Ttl, ttl_if_new: Ttl) -> int:
        most = None if maxlen is None else arguments.whole_number("maxlen", maxlen)
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        if not values:
            return await self.len()
        count: int = await self._act(touch, "push", values, left, most)
        return count

    async def _pop(self, left: bool, n: int | None) -> Any:
        count = 1 if n is None else arguments.whole_number("n", n)
        found: list[Any] = await self._take_elements(left, count)
        if n is None:
            return found[0] if found else None
        return found

    async def _take_elements(self, left: bool, count: int) -> list[Any]:
        def undo(found: list[Any] | None) -> Any:
            return self._undo(found, "push", list(reversed(found or ())), left, None)

        found: list[Any] = await self._take(undo, "pop", left, count)
        return found

    async def pop(self, n: int | None = None) -> Any:
        """Remove and return the last element, or None.

        With `n`, return a list of up to `n` elements, the last one first.
        """
        return await self._pop(False, n)

    async def pop_left(self, n: int | None = None) -> Any:
        """Remove and return the first element, or None. With `n`, return a list of up to `n` elements."""
        return await self._pop(True, n)

    async def wait_pop(self, timeout: Ttl = None) -> Any:
        """Wait for an element, remove and return the first one. Returns None after `timeout` seconds.

        On Valkey and Redis, the server notifies the call. Elsewhere, and in a transaction, the call looks again after
        pauses that grow from 1 ms to 50 ms. If the task is cancelled while the call looks, the element is returned to
        the front. If a signal handler raises while the call looks, the element may be lost. `reserve` of a queue loses
        none.

        Args:
            timeout: A number of seconds, or a text as for a time to live. 0 means a single attempt, and None means
                for ever.
        """
        found: list[Any] = await self._wait(timeout, lambda: self._take_elements(True, 1))
        return found[0] if found else None

    async def at(self, i: int, default: Any = None) -> Any:
        """Return the element at a position, or `default`. Negative positions count from the end."""
        found = await self._act(KEPT, "at", arguments.index("i", i))
        return default if found is MISSING else found

    async def put(self, i: int, value: Any) -> None:
        """Replace the element at a position.

        Raises:
            IndexError: There is no such element.
        """
        await self._act(KEPT, "put", arguments.index("i", i), value)

    async def insert(self, i: int, value: Any) -> int:
        """Insert an element before a position, or at the end if there is no such position. Returns the length. O(n)."""
        count: int = await self._act(KEPT, "insert", arguments.index("i", i), value)
        return count

    async def index(self, value: Any) -> int | None:
        """Return the first position of a value, or None. O(n)."""
        place: int | None = await self._act(KEPT, "index", value)
        return place

    async def range(self, start: int = 0, stop: int = -1) -> list[Any]:
        """Return the elements from `start` to `stop`, including both. -1 is the last one."""
        found: list[Any] = await self._act(
            KEPT, "range", arguments.index("start", start), arguments.index("stop", stop)
        )
        return found

    async def trim(self, start: int, stop: int) -> int:
        """Keep only the elements from `start` to `stop`, including both. Returns the length."""
        count: int = await self._act(KEPT, "trim", arguments.index("start", start), arguments.index("stop", stop))
        return count

    async def remove(self, value: Any, count: int = 0) -> int:
        """Remove elements that equal a value: the first `count`, the last ones if it is negative, or all if it is 0.

        Returns how many were present.
        """
        removed: int = await self._act(KEPT, "remove", value, arguments.index("count", count))
        return removed

    async def pages(self, size: int = 1000) -> AsyncIterator[list[Any]]:
        """Iterate over the elements in lists of up to `size` elements."""
        most = arguments.whole_number("size", size, 1)
        after: int | None = None
        while True:
            found: list[tuple[int, Any]] = await self._act(KEPT, "list_page", after, most)
            if not found:
                return
            yield [value for _, value in found]
            after = found[-1][0]


@suggesting
class Job:
    """A job that was reserved.

    Attributes:
        value: The value that was pushed.
    """

    def __init__(self, queue: Queue, number: int, value: Any) -> None:
        self._queue = queue
        self._number = number
        self.value = value

    def __repr__(self) -> str:
        return f"<Job {self._number} of {self._queue!r}: {self.value!r}>"

    async def ack(self) -> bool:
        """Mark the job as done. Returns False if its time was over. Another worker may then do it again."""
        return await self._queue.ack(self)

    async def release(self) -> bool:
        """Return the job to the front of the queue. Returns False if its time was over."""
        return await self._queue.release(self)


@suggesting
class Queue(List):
    """A queue, which is a list whose jobs can be reserved. The job of a worker that dies is then not lost.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         queue = session.queue("mails")
    ...         await queue.push("mail to Ann")
    ...         job = await queue.reserve(visibility=60)
    ...         print(job.value, await queue.len(), await job.ack())
    >>> asyncio.run(main())
    mail to Ann 0 True
    """

    _kind = "queue"

    async def reserve(self, visibility: Ttl = 30, timeout: Ttl = 0) -> Job | None:
        """Take the first job for a limited time. If it is not acknowledged by then, it returns to the front.

        The job returns at the next pop or reserve. Until then, `len` and `range` do not include it.

        Args:
            visibility: The time for which the job is reserved. None means for ever.
            timeout: The time to wait for a job, as for `wait_pop`. 0 means a single attempt, and None means for ever.

        Returns:
            The job, or None if there was none.
        """
        micros = _ALL if visibility is None else arguments.micros("visibility", visibility) or _ALL

        def undo(found: tuple[int, Any] | None) -> Any:
            return self._undo(found, "release", None if found is None else found[0])

        found: tuple[int, Any] | None = await self._wait(timeout, lambda: self._take(undo, "reserve", micros))
        return None if found is None else self._job(*found)

    def _job(self, number: int, value: Any) -> Job:
        return Job(self, number, value)

    def _number(self, job: Job) -> int:
        if not isinstance(job, Job):
            raise TypeError(f"job must be a Job, as reserve() returns, not {type(job).__name__}")
        if job._queue._key != self._key:
            raise ValueError(f"job must be one of the queue {self._key!r}, not of {job._queue._key!r}")
        return job._number

    async def ack(self, job: Job) -> bool:
        """Remove a reserved job permanently. Returns False if its time was over."""
        done: bool = await self._act(KEPT, "ack", self._number(job))
        return done

    async def release(self, job: Job) -> bool:
        """Return a reserved job to the front. Returns False if its time was over."""
        done: bool = await self._act(KEPT, "release", self._number(job))
        return done


@suggesting
class Map(Handle):
    """A map from fields to values. Fields that are equal in Python are the same field: 1, 1.0 and True.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         user = session.map("user:1")
    ...         await user.update({"name": "Ann", "visits": 1})
    ...         print(await user.incr("visits"), await user.get("name"))
    >>> asyncio.run(main())
    2 Ann
    """

    _kind = "map"

    async def get(self, field: Any, default: Any = None) -> Any:
        """Return the value of a field, or `default`."""
        found = (await self._act(KEPT, "map_get", (field,)))[0]
        return default if found is MISSING else found

    async def get_many(self, fields: Iterable[Any]) -> dict[Any, Any]:
        """Return a dict with the values of the present fields."""
        names = arguments.several("fields", fields)
        found = await self._act(KEPT, "map_get", names)
        return {name: value for name, value in zip(names, found, strict=True) if value is not MISSING}

    async def has(self, field: Any) -> bool:
        """Return whether a field is present."""
        return (await self._act(KEPT, "map_get", (field,)))[0] is not MISSING

    async def set(self, field: Any, value: Any, *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> bool:
        """Set the value of a field. Returns True if the field is new."""
        added: int = await self._act(arguments.touch_of_write(ttl, ttl_if_new), "map_set", {field: value})
        return added == 1

    async def update(self, fields: Mapping[Any, Any], *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> int:
        """Set the values of several fields at once. Returns how many are new."""
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        pairs = arguments.mapping("fields", fields)
        if not pairs:
            return 0
        added: int = await self._act(touch, "map_set", pairs)
        return added

    async def setdefault(self, field: Any, default: Any = None, *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> Any:
        """Return the value of a field. If there is none, store `default` first."""
        return await self._act(arguments.touch_of_write(ttl, ttl_if_new), "map_default", field, default)

    async def incr(self, field: Any, by: float = 1, *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> Any:
        """Add to the number of a field. An absent field starts as 0. Returns the sum."""
        return await self._act(arguments.touch_of_write(ttl, ttl_if_new), "map_incr", field, by)

    async def delete(self, *fields: Any) -> int:
        """Remove fields. Returns how many were present."""
        removed: int = await self._act(KEPT, "map_delete", fields)
        return removed

    async def all(self) -> dict[Any, Any]:
        """Return all fields and values, in the order of the fields' bytes."""
        found: list[tuple[Any, Any]] = await self._act(KEPT, "map_page", MISSING, _ALL)
        return dict(found)

    async def pages(self, size: int = 1000) -> AsyncIterator[dict[Any, Any]]:
        """Iterate over all fields, up to `size` at a time.

        A field that is present all the time is returned exactly once.
        """
        most = arguments.whole_number("size", size, 1)
        after = MISSING
        while True:
            found: list[tuple[Any, Any]] = await self._act(KEPT, "map_page", after, most)
            if not found:
                return
            yield dict(found)
            after = following(found, found[-1][0])


@suggesting
class SetOf(Handle):
    """A set. Members that are equal in Python are the same member: 1, 1.0 and True.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         online = session.set_of("online")
    ...         print(await online.add("ann", "bob"), await online.has("ann"), await online.len())
    >>> asyncio.run(main())
    2 True 2
    """

    _kind = "set"

    async def add(self, *members: Any, ttl: Ttl = None, ttl_if_new: Ttl = None) -> int:
        """Add members. Returns how many are new."""
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        if not members:
            return 0
        added: int = await self._act(touch, "set_add", members)
        return added

    async def discard(self, *members: Any) -> int:
        """Remove members. Returns how many were present."""
        removed: int = await self._act(KEPT, "set_discard", members)
        return removed

    async def has(self, member: Any) -> bool:
        """Return whether a value is a member."""
        found: list[bool] = await self._act(KEPT, "set_has", (member,))
        return found[0]

    async def has_many(self, members: Iterable[Any]) -> list[bool]:
        """Return for each of several values whether it is a member."""
        found: list[bool] = await self._act(KEPT, "set_has", arguments.several("members", members))
        return found

    async def pop(self, n: int = 1) -> list[Any]:
        """Remove and return up to `n` members, in no particular order."""

        def undo(found: list[Any] | None) -> Any:
            return self._undo(found, "set_add", found)

        found: list[Any] = await self._take(undo, "set_pop", arguments.whole_number("n", n))
        return found

    async def all(self) -> set[Any]:
        """Return all members."""
        found: list[Any] = await self._act(KEPT, "set_page", MISSING, _ALL)
        return set(found)

    async def pages(self, size: int = 1000) -> AsyncIterator[list[Any]]:
        """Iterate over all members, up to `size` at a time.

        A member that is present all the time is returned exactly once.
        """
        most = arguments.whole_number("size", size, 1)
        after = MISSING
        while True:
            found: list[Any] = await self._act(KEPT, "set_page", after, most)
            if not found:
                return
            yield list(found)
            after = following(found, found[-1])

    async def _combine(self, keys: tuple[str, ...], how: str) -> set[Any]:
        owner = self._owner
        found: list[Any] = await owner._run(owner._codec.call("combine", (self._key, *keys), how))
        return set(found)

    async def union(self, *keys: str) -> set[Any]:
        """Return the members of this set and of the sets of other keys."""
        return await self._combine(keys, "union")

    async def intersection(self, *keys: str) -> set[Any]:
        """Return the members that the sets of all other keys have too."""
        return await self._combine(keys, "intersection")

    async def difference(self, *keys: str) -> set[Any]:
        """Return the members that none of the sets of other keys has."""
        return await self._combine(keys, "difference")


@suggesting
class Sorted(Handle):
    """Members with scores, in the order of the scores and then of the bytes of the members.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         board = session.sorted("board")
    ...         await board.add({"ann": 3, "bob": 5})
    ...         print(await board.incr("ann", 4), await board.range(0, 0, reverse=True))
    >>> asyncio.run(main())
    7.0 [('ann', 7.0)]
    """

    _kind = "sorted"

    async def add(
        self,
        members: Mapping[Any, float],
        *,
        if_absent: bool = False,
        greater: bool = False,
        ttl: Ttl = None,
        ttl_if_new: Ttl = None,
    ) -> int:
        """Add members with their scores, or change the scores of existing members. Returns how many are new.

        Args:
            members: A score for each member.
            if_absent: Keep the scores of existing members.
            greater: Change a score only to a larger one.
            ttl: As in every call of a handle that writes.
            ttl_if_new: The same.

        Raises:
            ValueError: A score is no number, or it is NaN.
        """
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        scores = arguments.mapping("members", members)
        if not scores:
            return 0
        added: int = await self._act(touch, "sorted_add", scores, bool(if_absent), bool(greater))
        return added

    async def incr(self, member: Any, by: float = 1, *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> float:
        """Add to the score of a member. An absent member starts as 0. Returns the sum."""
        score: float = await self._act(arguments.touch_of_write(ttl, ttl_if_new), "sorted_incr", member, by)
        return score

    async def score(self, member: Any) -> float | None:
        """Return the score of a member, or None."""
        found: list[float | None] = await self._act(KEPT, "sorted_scores", (member,))
        return found[0]

    async def rank(self, member: Any, *, reverse: bool = False) -> int | None:
        """Return the number of members before this one, or None if it is absent. O(n)."""
        place: int | None = await self._act(KEPT, "sorted_rank", member, bool(reverse))
        return place

    async def range(self, start: int = 0, stop: int = -1, *, reverse: bool = False) -> list[tuple[Any, float]]:
        """Return members with their scores by rank, including both ends."""
        first, last = arguments.index("start", start), arguments.index("stop", stop)
        found: list[tuple[Any, float]] = await self._act(KEPT, "sorted_range", first, last, bool(reverse))
        return found

    async def by_score(
        self, low: float = -math.inf, high: float = math.inf, limit: int | None = None, *, reverse: bool = False
    ) -> list[tuple[Any, float]]:
        """Return up to `limit` members whose scores are from `low` to `high`, including both."""
        most = _ALL if limit is None else arguments.whole_number("limit", limit)
        found: list[tuple[Any, float]] = await self._act(KEPT, "sorted_by_score", low, high, most, bool(reverse))
        return found

    async def remove(self, *members: Any) -> int:
        """Remove members. Returns how many were present."""
        removed: int = await self._act(KEPT, "sorted_remove", members)
        return removed

    async def _pop(self, n: int, largest: bool) -> list[tuple[Any, float]]:
        def undo(found: list[tuple[Any, float]] | None) -> Any:
            # If another caller has set a score meanwhile, that one stays.
            return self._undo(found, "sorted_add", dict(found or ()), True, False)

        found: list[tuple[Any, float]] = await self._take(undo, "sorted_pop", arguments.whole_number("n", n), largest)
        return found

    async def pop_min(self, n: int = 1) -> list[tuple[Any, float]]:
        """Remove and return up to `n` members with the smallest scores."""
        return await self._pop(n, False)

    async def pop_max(self, n: int = 1) -> list[tuple[Any, float]]:
        """Remove and return up to `n` members with the largest scores, the largest one first."""
        return await self._pop(n, True)

    async def pages(self, size: int = 1000) -> AsyncIterator[list[tuple[Any, float]]]:
        """Iterate over all members with their scores, up to `size` at a time."""
        most = arguments.whole_number("size", size, 1)
        after: tuple[Any, float] | None = None
        while True:
            found: list[tuple[Any, float]] = await self._act(KEPT, "sorted_page", after, most)
            if not found:
                return
            yield found
            after = found[-1]
