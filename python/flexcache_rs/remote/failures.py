"""Converts failures of the packages and of native connections to our own errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError, RemoteValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODES = {
    "NOSCRIPT": "NoScriptError",
    "NOAUTH": "AuthenticationError",
    "WRONGPASS": "AuthenticationError",
    "MOVED": "MovedError",
    "ASK": "AskError",
    "LOADING": "BusyLoadingError",
    "MASTERDOWN": "MasterDownError",
    "READONLY": "ReadOnlyError",
    "TRYAGAIN": "TryAgainError",
    "CLUSTERDOWN": "ClusterDownError",
}
"""The error codes of refusals, and the packages' exceptions for them."""

_MOST_SHOWN = 200
"""The largest number of characters of foreign data in a message."""


def translated(kinds: Any, error: Exception) -> Exception:
    """Convert an error of a package to one of ours. Returns other errors unchanged.

    Args:
        kinds: The package's module of exceptions.
        error: The error.
    """
    if isinstance(error, RemoteError):
        # The error is already one of ours: a nested reply on the direct lane.
        return error
    text = str(error) or type(error).__name__
    if isinstance(error, (kinds.TimeoutError, TimeoutError)):
        return RemoteTimeoutError(f"the server did not answer in time: {text}")
    if isinstance(error, kinds.AuthenticationError):
        return RemoteError(f"the server refused the password: {text}")
    if isinstance(error, kinds.ConnectionError):
        return RemoteConnectionError(f"no connection to the server: {text}")
    if isinstance(error, kinds.AskError):  # MovedError is a subclass of it.
        return RemoteError("the server is of a cluster: give a client for clusters, such as redis.cluster.RedisCluster")
    if isinstance(error, kinds.ResponseError):
        return RemoteError(f"the server refused a command: {text}")
    if isinstance(error, kinds.RedisError if hasattr(kinds, "RedisError") else kinds.ValkeyError):
        return RemoteError(text)
    if isinstance(error, OSError):
        return RemoteConnectionError(f"no connection to the server: {text}")
    return error


def is_of_another_type(error: Exception) -> bool:
    """Whether a command was refused because its key holds another type than a string, so no value of a cache."""
    return "WRONGTYPE" in str(error)


def foreign(places: Sequence[bytes], there: Any) -> RemoteValueError:
    """Return the error for something that another program has stored where only the cache stores something.

    Args:
        places: The places, one of which has it.
        there: What is there, or the error of reading it.
    """
    names = " or ".join(repr(place.decode("utf-8", "backslashreplace")) for place in places)
    return RemoteValueError(f"the server has something under {names} that is not of this cache: {shown(there)}")


def shown(there: Any) -> str:
    """Return the text for foreign data, or for the error of reading it, in a message."""
    text = str(there) if isinstance(there, Exception) else repr(there)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def without_other_types(replies: list[Any]) -> list[Any]:
    """Replies to `GET`, with None where something of another type is, as `MGET` has it.

    Raises:
        RemoteError: A command was refused for another reason.
    """
    for number, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if not is_of_another_type(reply):
                raise reply
            replies[number] = None
    return replies


def failed(kinds: Any, kind: str, text: str) -> Exception:
    """Return the exception for a command that has no reply, or was refused.

    Args:
        kinds: The package's module of exceptions.
        kind: "timeout", "lost", "refused" or "protocol". For a command that was not sent, "unsent_timeout" or "unsent".
        text: The message of the connection or the server.
    """
    if kind in ("timeout", "unsent_timeout"):
        return RemoteTimeoutError(text)
    if kind == "unsent":
        unsent = RemoteConnectionError(text)
        unsent._is_unsent = True  # pyright: ignore[reportPrivateUsage]
        return unsent
    if kind == "lost":
        return RemoteConnectionError(text)
    cause = refusal(kinds, text)
    error = translated(kinds, cause)
    error.__cause__ = cause
    return error


def refusal(kinds: Any, text: str) -> Exception:
    """Return the package's exception for a refused command.

    Args:
        kinds: The package's module of exceptions.
        text: The message of the server.
    """
    code, _, rest = text.partition(" ")
    error: Exception
    if code in _CODES:
        try:
            error = getattr(kinds, _CODES[code])(rest)
        except ValueError:
            # A redirection without a slot or an address.
            error = kinds.ResponseError(text)
    elif "max number of clients" in text:
        error = kinds.ConnectionError(text)
    else:
        error = kinds.ResponseError(rest if code == "ERR" else text)
    return error
