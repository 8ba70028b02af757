"""Shards: a backend that consists of several backends. Rendezvous hashing assigns each key to one of them."""

# pyright: basic

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlunsplit

from flexcache_rs import _urls
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.sessions._errors import ClosedError, CrossShardError, ShardError
from flexcache_rs.sessions._taking import unhurried
from flexcache_rs.sessions._waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flexcache_rs.sessions._protocol import Backend, BackendTransaction
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._waiting import Waiting


def urls_of(url: object) -> dict[str, str] | None:
    """Return the URLs of shards by name, or None for a single URL.

    Raises:
        TypeError: A URL or a name is not a str.
        ValueError: There is no URL, or two have the same name.
    """
    if isinstance(url, dict):
        pairs = list(url.items())
    elif isinstance(url, (list, tuple)):
        pairs = [(name_of(one), one) for one in url]
    elif isinstance(url, str) and url.startswith("shards:"):
        options = parse_qsl(_urls.split(url).query, keep_blank_values=True)
        wrong = [name for name, _ in options if name != "to"]
        if wrong:
            raise ValueError(f"shards:// has no option {wrong[0]!r} (it has to)")
        pairs = [(name_of(one), one) for _, one in options]
    else:
        return None
    if not pairs:
        raise ValueError("url must have at least one shard, as shards://?to=URL&to=URL")
    found: dict[str, str] = {}
    for name, one in pairs:
        if not isinstance(name, str) or not isinstance(one, str):
            raise TypeError(f"url of a shard and its name must be str, not {type(one).__name__}")
        if name in found or one == "memory://":
            raise ValueError(f"two shards are {name}: each must be a store of its own")
        if one.startswith("shards:"):
            raise ValueError("a shard must not consist of shards")
        found[name] = one
    return found


def name_of(url: object) -> str:
    """Return the name of a shard, which is hashed with keys: its URL without user, password and TLS options."""
    if not isinstance(url, str):
        raise TypeError(f"url of a shard must be a str, not {type(url).__name__}")
    parts = _urls.split(url)
    plain = {name: value for name, value in parse_qsl(parts.query) if name in ("db", "unix_socket")}
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(plain), ""))


def _hashed(key: str) -> bytes:
    """Return the part of a key that determines its shard: the part in braces, or the whole key."""
    tag, end, _ = key.partition("{")[2].partition("}")
    return (tag if end and tag else key).encode("utf-8", "surrogatepass")


class _Call(NamedTuple):
    """A call that was not assigned to a shard yet."""

    method: str
    name: str
    values: tuple[Any, ...]

    @property
    def writes(self) -> bool:
        return True


class _Codec:
    """Records calls. The codecs of the shards encode them later."""

    def call(self, name: str, *values: Any) -> _Call:
        """Record a call."""
        return _Call("call", name, values)

    def act(self, kind: str, key: str, touch: Any, name: str, *values: Any) -> _Call:
        """Record an act on a container."""
        return _Call("act", name, (kind, key, touch, name, *values))


class _Part(NamedTuple):
    """The part of a call that one shard makes."""

    shard: str
    call: Any
    keys: Sequence[str]


class _Plan(NamedTuple):
    parts: list[_Part]
    merge: Callable[[list[Any]], Any]


_SPLIT = ("get", "delete", "set")
_OF_ALL = ("keys", "count", "count_expired", "expiring", "clear", "purge")


class ShardedBackend:
    """The backend over several backends. Their order does not matter."""

    name = "shards"
    fast = None

    def __init__(self, shards: Mapping[str, Backend]) -> None:
        self.codec: Any = _Codec()
        self._shards = dict(shards)
        self._salts = {name: hashlib.blake2b(name.encode(), digest_size=16).digest() for name in shards}
        self._is_open = True

    @property
    def page(self) -> int:
        """The number of keys or elements per page."""
        return min(shard.page for shard in self._shards.values())

    def shard_of(self, key: object) -> str:
        """Return the shard of a key: the one whose name, hashed with the key, gives the greatest hash."""
        if not isinstance(key, str):
            raise TypeError(f"key must be a str, not {type(key).__name__}")
        what = _hashed(key)
        return max(self._salts, key=lambda name: hashlib.blake2b(what, key=self._salts[name], digest_size=8).digest())

    def only_shard_of(self, call: _Call) -> str:
        """Return the shard of a call whose keys must all be on the same one.

        Raises:
            CrossShardError: The keys are on several shards.
        """
        name, values = call.name, call.values
        if call.method == "act":
            keys: list[Any] = [values[1]]
        elif name in ("get", "delete", "combine", "set"):
            keys = list(values[0])
        elif name in _OF_ALL:
            raise CrossShardError(f"{name}() cannot be part of a transaction over shards")
        else:
            keys = list(values[:2]) if name == "rename" else [values[0]]
        shards = {self.shard_of(key): key for key in keys}
        if len(shards) > 1:
            named = " and ".join(repr(key) for key in list(shards.values())[:2])
            raise CrossShardError(
                f"{named} are on different shards; keys with the same text in braces, as {{a}}, are on one"
            )
        return next(iter(shards), next(iter(self._shards)))

    def made(self, shard: str, call: _Call) -> Any:
        """Encode a call for one shard."""
        make: Callable[..., Any] = getattr(self._shards[shard].codec, call.method)
        return make(*call.values) if call.method == "act" else make(call.name, *call.values)

    def _plan(self, call: _Call) -> _Plan:
        if not self._is_open:
            raise ClosedError("the session is closed")
        if call.method == "call" and call.name in _OF_ALL:
            parts = [_Part(name, self.made(name, call), (name,)) for name in self._shards]
            return _Plan(parts, lambda results: _merged(call, results))
        if call.method == "call" and call.name in _SPLIT:
            by_shard: dict[str, list[str]] = {}
            for key in call.values[0]:
                by_shard.setdefault(self.shard_of(key), []).append(key)
            if len(by_shard) > 1:
                return self._split(call, by_shard)
        shard = self.only_shard_of(call)
        return _Plan([_Part(shard, self.made(shard, call), ())], lambda results: results[0])

    def _split(self, call: _Call, by_shard: dict[str, list[str]]) -> _Plan:
        keys, *rest = call.values
        parts = []
        for shard, own in by_shard.items():
            some: Any = {key: keys[key] for key in own} if call.name == "set" else own
            # Encode all parts before sending the first, so that an invalid value changes nothing.
            parts.append(_Part(shard, self.made(shard, _Call("call", call.name, (some, *rest))), own))
        if call.name != "get":
            return _Plan(parts, sum)
        order = list(keys)

        def in_order(results: list[Any]) -> list[Any]:
            found: dict[str, Any] = {}
            for part, values in zip(parts, results, strict=True):
                found.update(zip(part.keys, values, strict=True))
            return [found[key] for key in order]

        return _Plan(parts, in_order)

    @staticmethod
    def _end(plan: _Plan, outcomes: list[tuple[Any, BaseException | None]]) -> Any:
        raised = [error for _, error in outcomes if error is not None]
        if not raised:
            return plan.merge([result for result, _ in outcomes])
        if len(outcomes) == 1 or not isinstance(raised[0], Exception):
            raise raised[0]
        done: list[str] = []
        failed: dict[str, BaseException] = {}
        for part, (_, error) in zip(plan.parts, outcomes, strict=True):
            if error is None:
                done += part.keys
            else:
                failed.update(dict.fromkeys(part.keys, error))
        raise ShardError(f"{len(raised)} of {len(outcomes)} shards failed: {raised[0]}", done, failed) from raised[0]

    def waiting(self, key: str, is_lease: bool) -> Waiting:
        """Return the object with which a call waits, on the shard of its key."""
        return waiting(self._shards[self.shard_of(key)], key, is_lease)

    def run(self, call: Any) -> Any:
        """Make a call, on one shard after the other."""
        plan = self._plan(call)
        outcomes: list[tuple[Any, BaseException | None]] = []
        for part in plan.parts:
            try:
                outcomes.append((self._shards[part.shard].run(part.call), None))
            except Exception as error:  # noqa: BLE001, PERF203 - `_end` raises it
                outcomes.append((None, error))
        return self._end(plan, outcomes)

    async def arun(self, call: Any, undo: Undo | None = None) -> Any:
        """Make a call, on all its shards at once. If the task is cancelled, `undo` gives back what it took."""
        plan = self._plan(call)
        if len(plan.parts) == 1:
            shard = plan.parts[0].shard

            def undo_there(found: Any) -> Any:
                back = None if undo is None else undo(found)
                return None if back is None else self.made(shard, back)

            undone = undo if undo is None or undo is unhurried else undo_there
            return plan.merge([await self._shards[shard].arun(plan.parts[0].call, undone)])
        calls = [self._shards[part.shard].arun(part.call) for part in plan.parts]
        results = await asyncio.gather(*calls, return_exceptions=True)
        outcomes: list[tuple[Any, BaseException | None]] = [
            (None, result) if isinstance(result, BaseException) else (result, None) for result in results
        ]
        return self._end(plan, outcomes)

    def begin(self) -> ShardedTransaction:
        """Begin a transaction, which belongs to the shard of its first key."""
        if not self._is_open:
            raise ClosedError("the session is closed")
        return ShardedTransaction(self, self._shards)

    async def abegin(self) -> ShardedTransaction:
        """Begin a transaction, which belongs to the shard of its first key."""
        return self.begin()

    def stats(self) -> dict[str, Any]:
        """Return information about each shard."""
        return {"backend": self.name, "shards": {name: shard.stats() for name, shard in self._shards.items()}}

    def close(self) -> None:
        """Close all shards."""
        self._is_open = False
        with contextlib.ExitStack() as stack:
            for shard in self._shards.values():
                stack.callback(shard.close)

    async def aclose(self) -> None:
        """Close all shards."""
        self._is_open = False
        async with contextlib.AsyncExitStack() as stack:
            for shard in self._shards.values():
                stack.push_async_callback(shard.aclose)


def _merged(call: _Call, results: list[Any]) -> Any:
    if call.name == "keys":
        return sorted((key for some in results for key in some), key=str.encode)[: call.values[1]]
    if call.name == "expiring":
        return [pair for some in results for pair in some]
    return sum(results)


class ShardedTransaction:
    """A transaction on one shard. The first call chooses the shard and begins the transaction there."""

    def __init__(self, backend: ShardedBackend, shards: dict[str, Backend]) -> None:
        self._backend, self._shards = backend, shards
        self._shard: str | None = None
        self._of_shard: BackendTransaction | None = None
        self._depth = 1
        # If several threads or tasks make the first call at the same time, one of them begins the transaction.
        self._beginning, self._abeginning = ForkSafeRLock(), asyncio.Lock()

    def _wanted(self, call: _Call) -> str:
        shard = self._backend.only_shard_of(call)
        if self._shard is not None and shard != self._shard:
            raise CrossShardError(
                f"the transaction belongs to the shard {self._shard}, and a key is on {shard}; keys with the same text "
                "in braces, as {a}, are on one"
            )
        return shard

    def run(self, call: Any) -> Any:
        """Make a call in the transaction."""
        begun = self._of_shard
        made = self._backend.made(self._wanted(call), call)
        if begun is None:
            with self._beginning:
                # Again, because another call may have chosen another shard meanwhile.
                shard = self._wanted(call)
                begun = self._of_shard or self._begun(shard)
        return begun.run(made)

    def _begun(self, shard: str) -> BackendTransaction:
        begun = self._shards[shard].begin()
        try:
            for _ in range(1, self._depth):
                begun.begin_inner()
        except BaseException:
            begun.end(1)
            raise
        self._shard, self._of_shard = shard, begun
        return begun

    async def arun(self, call: Any) -> Any:
        """Make a call in the transaction."""
        begun = self._of_shard
        made = self._backend.made(self._wanted(call), call)
        if begun is None:
            async with self._abeginning:
                shard = self._wanted(call)
                begun = self._of_shard or await self._abegun(shard)
        return await begun.arun(made)

    async def _abegun(self, shard: str) -> BackendTransaction:
        begun = await self._shards[shard].abegin()
        try:
            for _ in range(1, self._depth):
                await begun.abegin_inner()
        except BaseException:
            await begun.aend(1)
            raise
        self._shard, self._of_shard = shard, begun
        return begun

    def begin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        with self._beginning:
            if self._of_shard is not None:
                self._of_shard.begin_inner()
            self._depth += 1
            return self._depth

    async def abegin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        async with self._abeginning:
            if self._of_shard is not None:
                await self._of_shard.abegin_inner()
            self._depth += 1
            return self._depth

    def commit(self) -> None:
        """Commit."""
        self._depth -= 1
        if self._of_shard is not None:
            self._of_shard.commit()

    async def acommit(self) -> None:
        """Commit."""
        self._depth -= 1
        if self._of_shard is not None:
            await self._of_shard.acommit()

    def roll_back(self) -> None:
        """Roll back."""
        self._depth -= 1
        if self._of_shard is not None:
            self._of_shard.roll_back()

    async def aroll_back(self) -> None:
        """Roll back."""
        self._depth -= 1
        if self._of_shard is not None:
            await self._of_shard.aroll_back()

    def end(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        self._depth = min(self._depth, level - 1)
        if self._of_shard is not None:
            self._of_shard.end(level)

    async def aend(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        self._depth = min(self._depth, level - 1)
        if self._of_shard is not None:
            await self._of_shard.aend(level)
