"""Batches: calls that are collected and made together, and their results."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._suggest import suggesting
from flexcache_rs.sessions._calls import Calls
from flexcache_rs.sessions._containers import Handle, Job
from flexcache_rs.sessions._errors import ClosedError
from flexcache_rs.sessions._taking import unhurried

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs._core import SessionCall, SessionCodec
    from flexcache_rs.sessions._gathered import Result
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._waiting import Waiting


_NOTHING: Any = object()


class Pending:
    """The result of a call of a batch."""

    def __init__(self) -> None:
        self._value: Any = _NOTHING
        self._raised: BaseException | None = None

    def result(self) -> Any:
        """Return the result of the call, or raise its exception.

        Raises:
            ClosedError: The batch has not made its calls.
        """
        if self._raised is not None:
            raise self._raised
        if self._value is _NOTHING:
            raise ClosedError("the batch has not made this call: it makes its calls at the end of its block")
        return self._value


class _Ask:
    """An awaitable that suspends the coroutine of a call until the reply to its request is there."""

    def __init__(self, call: SessionCall, undo: Undo | None = None) -> None:
        self.call, self.undo = call, undo

    def __await__(self) -> Generator[_Ask, Any, Any]:
        return (yield self)


class _Asked(NamedTuple):
    """A gathered call that is suspended at its request."""

    pending: Pending
    coroutine: Coroutine[Any, Any, Any]
    ask: _Ask


def _giving_back(asking: list[_Asked], answers: list[Result] | None) -> list[SessionCall] | None:
    """Return the calls that give back what the answered ones have taken, the last one first; None if there are none."""
    taken = [
        asked.ask.undo(answer)
        for asked, (answer, raised) in zip(asking, answers or (), strict=False)
        if asked.ask.undo is not None and raised is None
    ]
    return [back for back in reversed(taken) if back is not None] or None


class _Gathering(Calls):
    """The calls as coroutines that request, and get their replies from the code that makes the batch."""

    def __init__(self, codec: SessionCodec) -> None:
        self._codec = codec

    async def _run(self, call: SessionCall) -> Any:
        return await _Ask(call)

    async def _take(self, call: SessionCall, undo: Undo) -> Any:
        return await _Ask(call, undo)

    def _waiting(self, key: str) -> Waiting:
        raise TypeError(f"a batch cannot wait for an element of {key!r}: give timeout=0")


@suggesting
class _Gathered:
    """A session or a handle whose calls are gathered and made later."""

    def __init__(self, target: Any, batch: Batch) -> None:
        self._target = target
        self._batch = batch

    def __repr__(self) -> str:
        return f"<{self._target!r} in a batch>"

    def __getattr__(self, name: str) -> Any:
        # Do not look up private and special names: `copy` asks for special methods before `_target` exists.
        found: Any = None if name.startswith("_") else getattr(self._target.__class__, name, None)
        if not callable(found):
            raise AttributeError(f"a batch has no call {name!r}")

        def gather(*arguments: Any, **options: Any) -> Any:
            made: Any = found(self._target, *arguments, **options)
            if isinstance(made, Handle):
                return _Gathered(made, self._batch)
            if not hasattr(made, "send"):
                raise TypeError(f"{name} asks for pages, which a batch cannot")
            return self._batch._gather(made)

        return gather


@suggesting
class Batch(_Gathered):
    """Calls that are made together at the end of the block, in their order.

    Each call returns a `Pending`, whose `result()` is available after the block. On disk, the calls share one
    transaction. A call that fails undoes only itself, and the block raises the exception of the first such call. If
    the block itself raises an exception, no call is made.
    """

    def __init__(self, session: Any) -> None:
        super().__init__(_Gathering(session._codec), self)
        self._session = session
        self._asking: list[_Asked] = []
        self._first: Exception | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._session!r}>"

    def _gather(self, coroutine: Coroutine[Any, Any, Any]) -> Pending:
        pending = Pending()
        try:
            # Run the call up to its request. A wrong argument raises here at once.
            ask: _Ask = coroutine.send(None)
        except StopIteration as done:
            pending._value = done.value
        else:
            self._asking.append(_Asked(pending, coroutine, ask))
        return pending

    def _take(self) -> list[_Asked]:
        """Return the gathered requests, and forget them."""
        asking, self._asking = self._asking, []
        return asking

    def _answer(self, asking: list[_Asked], answers: list[Result]) -> None:
        """Pass the replies to the calls, and run each until its next request or its end."""
        for (pending, coroutine, _), answer in zip(asking, answers, strict=True):
            self._go_on(pending, coroutine, *answer)

    def _go_on(
        self, pending: Pending, coroutine: Coroutine[Any, Any, Any], answer: Any, raised: BaseException | None
    ) -> None:
        try:
            ask: _Ask = coroutine.send(answer) if raised is None else coroutine.throw(raised)
        except StopIteration as done:
            pending._value = self._usable(done.value)
        except Exception as error:  # noqa: BLE001 - it is told at the end
            pending._raised = error
            self._first = self._first or error
        else:
            self._asking.append(_Asked(pending, coroutine, ask))

    def _usable(self, value: Any) -> Any:
        """Return the result of a call. A job is one of the session, because the batch makes no calls any more."""
        if type(value) is Job:
            return self._session.queue(value._queue._key)._job(value._number, value.value)
        return value

    def _drop(self) -> None:
        for _, coroutine, _ in self._take():
            coroutine.close()

    def _raise_first(self) -> None:
        if self._first is not None:
            raise self._first


class AwaitedBatch(Batch):
    """A batch of a session with awaited calls."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while kind is None and (asking := self._take()):
                self._answer(asking, await self._make(asking))
        finally:
            self._drop()
        if kind is None:
            self._raise_first()

    async def _make(self, asking: list[_Asked]) -> list[Result]:
        session = self._session
        many = getattr(session._backend, "arun_many", None)
        if many is not None and session._current() is None:
            takes = any(asked.ask.undo is not None for asked in asking)
            undo = partial(_giving_back, asking) if takes else None
            made: list[Result] = await many([asked.ask.call for asked in asking], undo)
            return made
        answers: list[Result] = []
        try:
            for asked in asking:
                answers.append(await self._attempt(asked.ask))  # noqa: PERF401 - a cancellation needs those before it
        except asyncio.CancelledError:
            # A rollback of the transaction gives back what its calls took.
            for back in () if session._current() is not None else _giving_back(asking, answers) or ():
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await session._backend.arun(back, unhurried)
            raise
        return answers

    async def _attempt(self, ask: _Ask) -> Result:
        session = self._session
        try:
            made = session._run(ask.call) if ask.undo is None else session._take(ask.call, ask.undo)
            return await made, None
        except Exception as error:  # noqa: BLE001 - it is that call's
            return None, error


class SyncBatch(Batch):
    """A batch of a session without `await`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while kind is None and (asking := self._take()):
                self._answer(asking, self._make([asked.ask.call for asked in asking]))
        finally:
            self._drop()
        if kind is None:
            self._raise_first()

    def _make(self, calls: list[SessionCall]) -> list[Result]:
        session = self._session
        many = getattr(session._backend, "run_many", None)
        if many is not None and session._current() is None:
            answers: list[Result] = many(calls)
            return answers
        return [self._attempt(call) for call in calls]

    def _attempt(self, call: SessionCall) -> Result:
        try:
            return self._session._run(call), None
        except Exception as error:  # noqa: BLE001 - it is that call's
            return None, error
