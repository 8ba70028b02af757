"""The exceptions of sessions."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import copy
from typing import Any, TypeVar

_Error = TypeVar("_Error", bound=BaseException)


class SessionError(Exception):
    """The base of all errors of sessions."""


class ClosedError(SessionError, ValueError):
    """The session is closed."""


class KindError(SessionError, TypeError):
    """The key holds a value of another kind than the call needs."""


class CodecError(SessionError, TypeError):
    """A value cannot be stored, or a stored value cannot be read."""


class ConflictError(SessionError):
    """Another write changed a key that the transaction had read. Nothing of the transaction was stored."""


class CrossShardError(SessionError, ValueError):
    """A call or a transaction needs keys of several shards. The call changed nothing."""


class ShardError(SessionError):
    """A call on several shards failed on some of them.

    Attributes:
        done: The keys for which it succeeded. For calls on all keys, the names of the shards.
        failed: The exception for each other key or shard.
    """

    def __init__(self, message: str, done: list[str], failed: dict[str, BaseException]) -> None:
        super().__init__(message)
        self.done = done
        self.failed = failed

    def __reduce__(self) -> Any:
        # What an exception inherits passes only the message. A pool of processes cannot return such an exception.
        return type(self), (str(self), self.done, self.failed), self.__dict__


class UnsupportedError(SessionError, NotImplementedError):
    """The backend cannot do this."""


class Unavailable(SessionError, ConnectionError):  # noqa: N818
    """The backend could not be reached."""


class TimedOut(Unavailable, TimeoutError):  # noqa: N818
    """The backend did not respond, or its lock was not acquired, in time. Nothing was changed."""


class OutcomeUnknown(Unavailable):
    """The connection failed during a write, which may have taken place."""


class RateLimitExceeded(SessionError):  # noqa: N818
    """A limiter refused a call.

    Attributes:
        retry_after: The number of seconds after which the call would be allowed.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.retry_after), self.__dict__


def another(error: _Error) -> _Error:
    """Return a copy of an exception, so that each caller gets its own. Returns the same one if it cannot be copied."""
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001 - an exception whose parameters are not its `args`
        return error
