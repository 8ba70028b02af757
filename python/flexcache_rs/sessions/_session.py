"""Sessions and transactions. scripts/make_sync.py generates `_sync_session.py` from this file."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import random
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from flexcache_rs._arguments import check_callable
from flexcache_rs._core import FlexCache, _canonical_key
from flexcache_rs._function_name import stable_name
from flexcache_rs._suggest import called_by_position, suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions import _async_side as side
from flexcache_rs.sessions._arguments import KEEP, MISSING
from flexcache_rs.sessions._backends import open_backend
from flexcache_rs.sessions._batch import AwaitedBatch
from flexcache_rs.sessions._calls import Calls, KeyspaceCalls
from flexcache_rs.sessions._errors import ClosedError, ConflictError, SessionError, UnsupportedError
from flexcache_rs.sessions._forgiving import ForgivingBackend
from flexcache_rs.sessions._limits import Limiter, Lock, new_token
from flexcache_rs.sessions._waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs._core import SessionCall
    from flexcache_rs.sessions._arguments import KeepType, Touch, Ttl
    from flexcache_rs.sessions._protocol import Backend, BackendTransaction
    from flexcache_rs.sessions._store import SessionStore
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._waiting import Waiting

_open: ContextVar[tuple[Transaction, ...]] = ContextVar("flexcache_rs sessions", default=())
_LEASE = 30.0
_LONGEST_PAUSE = 0.05
_UNCHANGING = (str, bytes, int, float, type(None))


def connect(
    url: str | Sequence[str] | Mapping[str, str],
    *,
    namespace: str = "",
    serializer: Any = None,
    timeout: float = 2.0,
    on_unavailable: str = "raise",
    **options: Any,
) -> Session:
    """Open a session, which is a connection to the data at `url`.

    Args:
        url: `memory://` for a separate store in this process, `memory://name` for a store that all sessions of that
            name share, or `disk://`, `redis://`, `mysql://` and others, which docs/sessions.md describes. A list or a
            dict of several URLs means shards.
        namespace: A text of at most 64 bytes that separates the keys of this session from the keys of others.
        serializer: An object with `dumps` and `loads` that stores objects of other types, such as the classes of
            `flexcache_rs.disk.serializers`.
        timeout: The number of seconds for which a call waits for the store.
        on_unavailable: "raise" or "miss". With "miss", while the store is unavailable, reads find nothing and writes
            store nothing. Transactions, limiters, locks, and calls without such a result, such as `incr`, raise.
        **options: The options of the backend, which may also be part of the URL, as in `memory://?max_items=1000`.

    Returns:
        The session. Close it, or use it as a context manager.

    Raises:
        ValueError: The scheme or an option is unknown. The message lists the allowed ones.
        NotImplementedError: The backend does not exist yet.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         await session.set("user:1", {"name": "Ann"}, ttl="1h")
    ...         print(await session.get("user:1"))
    >>> asyncio.run(main())
    {'name': 'Ann'}
    """
    forgives = arguments.one_of("on_unavailable", on_unavailable, ("raise", "miss")) == "miss"
    backend = open_backend(url, namespace, serializer, timeout, options)
    return Session(ForgivingBackend(backend) if forgives else backend)


@suggesting
class Session(KeyspaceCalls):
    """A connection to data. Any number of tasks or threads may use it.

    A time (`ttl`, `period` and so on) is a number of seconds, a timedelta, a datetime, or text such as "1h30m". In
    memory, a call takes microseconds. On disk, it is one transaction, and on a server, it is one round trip.

    Raises:
        ClosedError: Each call raises it after the session was closed.
        Unavailable, TimedOut: A call raises it if the store cannot be reached, or does not respond within `timeout`
            seconds.
        OutcomeUnknown: A write raises it if the connection failed while the store may have been making it.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         print(await session.set("visits", 1), await session.incr("visits"), await session.get("absent", 0))
    >>> asyncio.run(main())
    True 2 0
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._codec = backend.codec
        self._fast = backend.fast
        # The same until the session has had a transaction, which its calls have to ask for from then on.
        self._direct = self._fast
        # Whether the session has ever had a transaction.
        self._has_transactions = False
        # The computations of `get_or_set` in progress. It keeps no values.
        self._loads: FlexCache[str, Any] = FlexCache(max_items=1)
        # The computations that hold the lease of their key.
        self._computing: set[_Computation] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._backend.name}://>"

    def __reduce__(self) -> Any:
        raise TypeError("a session has a connection and cannot be copied or pickled: call connect() in each process")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the session. The data stays, except with `memory://`."""
        self._fast = self._direct = None
        try:
            for computation in list(self._computing):
                # The computation can no longer store its result, so other sessions need not wait for it.
                with contextlib.suppress(SessionError):
                    await computation._give_back()
        finally:
            await self._backend.aclose()

    @property
    def _page(self) -> int:
        return self._backend.page

    def _current(self) -> Transaction | None:
        """Return the transaction of this session that the task is in, or None."""
        for transaction in reversed(_open.get()):
            if transaction._session is self and transaction._is_open:
                return transaction
        return None

    async def _run(self, call: SessionCall) -> Any:
        if self._has_transactions:
            transaction = self._current()
            if transaction is not None:
                return await transaction._run(call)
        return await self._backend.arun(call)

    async def _take(self, call: SessionCall, undo: Undo) -> Any:
        if self._has_transactions and self._current() is not None:
            # A rollback of the transaction gives back what the call took.
            return await self._run(call)
        return await side.take(self._backend, call, undo)

    def _waiting(self, key: str) -> Waiting:
        if self._has_transactions and self._current() is not None:
            return super()._waiting(key)
        return waiting(self._backend, key, False)

    @called_by_position
    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default`. A container is returned as a new list, dict, set or deque."""
        direct = self._direct
        if direct is not None:
            return direct.get(key, default)
        return await super().get(key, default)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Ttl | KeepType = None,
        *,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> bool:
        """Store or replace a value. Returns True if it was stored. See `Calls.set`."""
        direct = self._direct
        if (
            direct is not None
            and ttl is not KEEP
            and not (if_absent or if_present)
            and direct.set_text(key, value, None if ttl is None else arguments.micros("ttl", ttl) or None)
        ):
            return True
        return await super().set(key, value, ttl, if_absent=if_absent, if_present=if_present)

    def transaction(self) -> Transaction:
        """Return a transaction, which is a context manager.

        It is committed at the end of the block. If the block raises any exception, it is rolled back, and the
        exception propagates. Inside the block, the task sees its writes, through the transaction and through the
        session. No other task sees them. A transaction inside another one of the same session is part of it. Its
        rollback undoes only itself.

        Raises:
            ConflictError: At the end of the block, if another write has changed a key that it had read. Nothing was
                stored. `run` repeats the transaction.
        """
        return Transaction(self)

    async def run(self, function: Callable[[Transaction], Awaitable[Any]], attempts: int = 10) -> Any:
        """Call a function with a transaction, and again after each `ConflictError`. Returns the result of the function.

        Raises:
            ConflictError: The last attempt raised it.
        """
        left = arguments.whole_number("attempts", attempts, 1)
        pause = 0.001
        while True:
            try:
                async with self.transaction() as transaction:
                    return await function(transaction)
            except ConflictError:
                left -= 1
                if not left:
                    raise
            await side.sleep(random.uniform(0, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def batch(self) -> AwaitedBatch:
        """Return a batch, which is a context manager that makes its calls together at the end of the block.

        Each call returns a `Pending`, whose `result()` is available after the block. The calls are made in their
        order, on disk in one transaction. A call that fails undoes only itself, and the block raises the exception of
        the first such call. If the block itself raises an exception, no call is made.
        """
        return AwaitedBatch(self)

    async def get_or_set(self, key: str, factory: Callable[[], Any], ttl: Ttl = None) -> Any:
        """Return the value of a key. If it has none, call `factory()`, store its result and return it.

        If several callers ask at the same time, one of them calls its factory, and the others wait. Callers of this
        session that wait get its exception, each their own copy. Other sessions and processes then compute again. If
        the process dies, or computes for longer than 30 seconds, another caller computes. If a caller writes to the
        key during the computation, or the session is closed, the result is returned but not stored. A `delete` during
        the computation does not keep it from being stored. In a transaction, the caller computes alone, and the value
        is stored with the transaction.

        Args:
            key: The key.
            factory: The function without arguments that computes the value.
            ttl: The time to live of the value. None means for ever.

        Raises:
            CircularLoadError: The factory would have to wait for itself.
            CodecError: The value cannot be stored.
            TypeError: The factory cannot be called.
        """
        check_callable("factory", factory)
        touch = arguments.touch_of_set(ttl)
        found = await self.get(key, MISSING)
        if found is not MISSING:
            return found
        if self._current() is not None:
            return await self._compute(key, factory, touch)

        async def compute(_: object) -> Any:
            return await self._compute_once(key, factory, touch)

        value = await side.load(self._loads, key, compute)
        # Copy a mutable value, because waiting callers get the same object.
        return value if isinstance(value, _UNCHANGING) else copy.deepcopy(value)

    async def _compute(self, key: str, factory: Callable[[], Any], touch: Touch) -> Any:
        value = factory()
        if inspect.isawaitable(value):
            value = await value
        try:
            # A value that was stored during the computation is newer.
            await self._run(self._codec.call("set", {key: value}, touch, "absent"))
        except ClosedError:
            # The session was closed during the computation. The caller gets the value.
            if self._current() is not None:
                raise
        return value

    async def _compute_once(self, key: str, factory: Callable[[], Any], touch: Touch) -> Any:
        """Compute the value under the lease of the key, unless another session has stored one."""
        async with _Computation(self, key) as computation:
            found = computation.found
            if found is MISSING:
                # Another session may have stored a value between the look and the lease.
                found = await self.get(key, MISSING)
            return await self._compute(key, factory, touch) if found is MISSING else found

    def memoize(self, ttl: Ttl = None, *, name: str | None = None) -> side.Memoizing:
        """Return a decorator that keeps the results of a function in the session, as `get_or_set` does.

        Args:
            ttl: The time to live of a result. None means for ever.
            name: The prefix of the keys of its results. The default is the function's module and qualified name. A
                function without a name of its own, such as a lambda, needs one.

        Raises:
            ValueError: The function needs a name.
            TypeError: `ttl` is not a time. A call raises it if an argument has no canonical key.
        """
        arguments.refuse_function("memoize", ttl)
        arguments.touch_of_set(ttl)

        def decorate(function: Callable[..., Any]) -> Any:
            stable, why = stable_name(function)
            prefix = name or stable
            if prefix is None:
                raise ValueError(f"name must be given for this function: {why}")

            @wraps(function)
            async def call(*args: Any, **kwargs: Any) -> Any:
                key = _canonical_key((prefix, args, tuple(sorted(kwargs.items()))))
                return await self.get_or_set(arguments.short("memo:" + key), lambda: function(*args, **kwargs), ttl)

            return call

        return decorate

    def limiter(
        self, name: str, limit: int, period: Ttl, *, burst: int | None = None, algorithm: str = "gcra"
    ) -> Limiter:
        """Return a limiter, which allows `limit` calls in each `period` at an even rate, and up to `burst` at once.

        Args:
            name: The name of the limiter. All limiters of the store with this name count together.
            limit: The number of calls. 0 allows none.
            period: The length of the period: seconds, a timedelta, or text such as "1m".
            burst: The number of calls that are allowed at once. The default is `limit`. At the even rate, these calls
                must take at most 292 years.
            algorithm: "gcra" or "sliding_window". With the latter, no period contains more than `limit` calls,
                wherever it begins. A sliding window remembers each call, so `limit` is at most 1000. Calls count
                together if their algorithm is the same.

        Raises:
            TypeError, ValueError: An argument is invalid.
        """
        return Limiter(self, name, limit, period, burst, algorithm)

    def lock(self, name: str, ttl: Ttl = 30) -> Lock:
        """Return a lock, which is a context manager. It ends after `ttl`, even if its holder has died.

        Args:
            name: The name of the lock. All users of the store exclude each other by it.
            ttl: The time after which the lock is free even if its holder has not released it. Acquiring it again
                extends it. None means for ever.

        Raises:
            TypeError, ValueError: An argument is invalid.
        """
        return Lock(self, name, ttl)

    async def _run_outside(self, call: SessionCall) -> Any:
        """Make a call outside any transaction."""
        return await self._backend.arun(call)

    async def snapshot(self) -> str:
        """Write the data of all namespaces at one moment from memory to a file. Returns the name of the file.

        Raises:
            UnsupportedError: The session was not opened with `snapshot=`, the directory of snapshots.
            OSError: The file cannot be written.
        """
        snapshots: Any = getattr(self._backend, "snapshots", None)
        if snapshots is None:
            raise UnsupportedError(f"{self._backend.name}:// has no snapshots here; open memory:// with snapshot=")
        return str(await side.in_thread(snapshots.take))

    def store(self) -> SessionStore:
        """Return a store for `FlexCache(store=...)`, which keeps copies in memory in front of the session.

        Only threads can use a store. A session with awaited calls has none, so open one of
        `flexcache_rs.sessions.sync`. With `coherence="strict"`, a hit asks the store only if there was a write since.
        With a number of seconds, it asks only after this time. Tags are refused.

        Raises:
            UnsupportedError: The session has awaited calls.
        """
        return side.store(self)

    def stats(self) -> dict[str, Any]:
        """Return information about the store: its backend and numbers."""
        return self._backend.stats()


class _Computation(side.Block):
    """A computation of a value, and its lease of the key."""

    found: Any = MISSING
    """The value that another session has stored while this one waited for the lease."""
    _has_ended = False
    """Whether giving back the lease was tried. If it failed, the computation is still in `_computing`."""

    def __init__(self, session: Session, key: str) -> None:
        self._session, self._key = session, key
        token, call = new_token(), session._codec.call
        self._lease = call("lease", "load:" + key, token, int(_LEASE * 1e6))
        self._release = call("release", "load:" + key, token)
        self._loop, self._process = side.loop(), os.getpid()

    def _is_over(self) -> bool:
        """Whether it can be given back for its caller: that failed before, or no thread or event loop computes it."""
        if self._has_ended or side.is_over(self._loop):
            return True
        # A forked child has a copy of the memory with the lease, and not the thread that computes.
        return self._process != os.getpid() and self._session._backend.name == "memory"

    def _before(self) -> None: ...

    async def _aenter(self) -> None:
        session = self._session

        def undo(left: object) -> Any:
            return self._release if left is None else None

        with waiting(session._backend, "load:" + self._key, True) as other:
            while (left := await side.take(session._backend, self._lease, undo)) is not None:
                for computation in list(session._computing):
                    if computation._is_over():
                        with contextlib.suppress(SessionError):
                            await computation._give_back()
                await other.arest(left)
                self.found = await session.get(self._key, MISSING)
                if self.found is not MISSING:
                    return
        session._computing.add(self)

    async def _give_back(self) -> None:
        self._has_ended = True
        if self.found is MISSING:
            await side.give_back(self._session._backend, self._release)
        self._session._computing.discard(self)

    async def _aleave(self, _: bool) -> None:
        await self._give_back()

    async def _aend(self, _: None) -> None:
        await self._give_back()


@suggesting
class Transaction(side.Block, Calls):
    """A transaction of a session: `async with session.transaction() as t`. Its calls are those on keys.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         async with session.transaction() as t:
    ...             await t.set("stock", await t.get("stock", 10) - 1)
    ...             await t.list("orders").push("a book")
    ...         print(await session.get("stock"), await session.get("orders"))
    >>> asyncio.run(main())
    9 ['a book']
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._codec = session._codec
        self._native: BackendTransaction | None = None
        self._level = 1
        self._is_open = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._session!r}>"

    @property
    def _page(self) -> int:
        return self._session._page

    def _before(self) -> None:
        if self._native is not None:
            raise ClosedError("the transaction was used before; call transaction() again")

    async def _aenter(self) -> None:
        session = self._session
        outer = session._current()
        if outer is None:
            self._native = await session._backend.abegin()
        else:
            native = outer._begun()
            self._level = await native.abegin_inner()
            self._native = native
        self._is_open = True
        session._has_transactions = True
        session._direct = None
        _open.set((*(transaction for transaction in _open.get() if transaction._is_open), self))

    async def _aleave(self, commits: bool) -> None:
        """Commit, or roll back."""
        native = self._begun()
        self._is_open = False
        if commits:
            await native.acommit()
        else:
            await native.aroll_back()
        _open.set(tuple(transaction for transaction in _open.get() if transaction._is_open))

    async def _aend(self, _: None) -> None:
        """Roll back the transaction if it is still open."""
        self._is_open = False
        if self._native is not None:
            await self._native.aend(self._level)

    def _begun(self) -> BackendTransaction:
        if self._native is None or not (self._is_open):
            raise ClosedError("the transaction has ended, or it has not begun")
        return self._native

    async def _run(self, call: SessionCall) -> Any:
        return await self._begun().arun(call)
