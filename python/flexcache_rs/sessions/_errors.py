"""What calls of sessions raise."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations


class SessionError(Exception):
    """The base of all errors of sessions."""


class ClosedError(SessionError, ValueError):
    """The session is closed."""


class KindError(SessionError, TypeError):
    """A key holds something of another kind than the call is for."""


class CodecError(SessionError, TypeError):
    """A value cannot be stored, or what is stored cannot be read."""


class ConflictError(SessionError):
    """Another write changed what a transaction had read. Nothing of the transaction was stored."""


class CrossShardError(SessionError, ValueError):
    """A call or a transaction needs keys of several shards. Nothing of the call was made."""


class ShardError(SessionError):
    """A call that several shards took part in failed on some of them.

    Attributes:
        done: the keys for which it was made; of calls on all keys the names of the shards.
        failed: for each other key, or shard, what was raised.
    """

    def __init__(self, message: str, done: list[str], failed: dict[str, BaseException]) -> None:
        super().__init__(message)
        self.done = done
        self.failed = failed


class UnsupportedError(SessionError, NotImplementedError):
    """The backend cannot do this."""


class Unavailable(SessionError, ConnectionError):  # noqa: N818
    """The backend could not be reached."""


class TimedOut(Unavailable, TimeoutError):  # noqa: N818
    """The backend did not answer, or give its lock, in time. Nothing has changed."""


class OutcomeUnknown(Unavailable):
    """The connection failed during a write: it may have been made."""


class RateLimitExceeded(SessionError):  # noqa: N818
    """A limiter refused a call.

    Attributes:
        retry_after: after how many seconds it would let the call through.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
