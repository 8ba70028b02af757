"""Checks of replies, which another program between a cache and its server may have changed.

A reply that its command never has belongs to another command. So do the later replies of the connection, which a
caller would take for values of its keys. Whatever owns a connection therefore checks the replies that arrive on it, by
`check` or `check_all`, and ends the connection if they raise an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.failures import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _unexpected(message: str) -> RemoteError:
    error = RemoteError(message)
    error._is_unexpected = True  # pyright: ignore[reportPrivateUsage]
    return error


def is_unexpected(error: BaseException) -> bool:
    """Whether the error is about a reply that a command never has. The command may have been executed."""
    return isinstance(error, RemoteError) and error._is_unexpected  # pyright: ignore[reportPrivateUsage]


def unexpected(command: str, reply: Any) -> RemoteError:
    """Return the error for a reply that a command never has. The error of a refused command is returned itself."""
    if isinstance(reply, RemoteError):
        return reply
    return _unexpected(f"the server sent a reply to {command} that this command does not have: {shown(reply)}")


def data(command: str, reply: Any) -> bytes | None:
    """Return a reply that is bytes or nothing."""
    if reply is None or type(reply) is bytes:
        return reply
    raise unexpected(command, reply)


def number(command: str, reply: Any) -> int:
    """Return a reply that is an int."""
    if type(reply) is int:
        return reply
    raise unexpected(command, reply)


def _is_one_of(kinds: tuple[type, ...], reply: Any) -> bool:
    return type(reply) in kinds


def array(command: str, reply: Any, least: int = 0) -> list[Any]:
    """Return a reply that is an array of at least this length."""
    if _is_one_of((list,), reply) and len(reply) >= least:
        found: list[Any] = reply
        return found
    raise unexpected(command, reply)


def parts(command: str, reply: Any, *kinds: Any) -> list[Any]:
    """Return a reply that is an array. Each kind is the class of a part, or a tuple of classes."""
    found = array(command, reply)
    if len(found) == len(kinds) and all(map(isinstance, found, kinds)):
        return found
    raise unexpected(command, reply)


def entry_data(command: str, reply: Any) -> Any:
    """Return what a command for an entry has brought: bytes, nothing, or the decoded entry."""
    if _is_one_of((bytes, type(None), tuple), reply):
        return reply
    raise unexpected(command, reply)


def values(command: str, reply: Any, places: Sequence[bytes]) -> list[bytes | None]:
    """Return a reply that is an array with bytes or nothing for each place."""
    if _is_one_of((list,), reply) and len(reply) == len(places) and _VALUES.issuperset(map(type, reply)):
        found: list[bytes | None] = reply
        return found
    raise unexpected(command, reply)


_VALUES = frozenset((bytes, type(None)))
"""The classes of values."""

OF_SCRIPTS: dict[str | bytes, Callable[[Sequence[Any], Any], object]] = {}
"""The checks of the replies of scripts, by the hashes and by the texts of the scripts."""


def _ok(command: Sequence[Any], reply: Any) -> None:
    if reply != b"OK":
        raise unexpected(command[0], reply)


def _stored(command: Sequence[Any], reply: Any) -> None:
    # Options such as `NX` may keep it from being stored.
    if reply != b"OK" and (reply is not None or len(command) == _LEAST_OF_SET):
        raise unexpected("SET", reply)


_LEAST_OF_SET = 3
"""The length of a `SET` without options."""


def _scanned(_: Sequence[Any], reply: Any) -> None:
    _, places = parts("SCAN", reply, bytes, list)
    if not all(type(place) is bytes for place in places):
        raise unexpected("SCAN", reply)


def _time(_: Sequence[Any], reply: Any) -> None:
    if not all(
        type(part) is int or (type(part) is bytes and part.isdigit()) for part in parts("TIME", reply, object, object)
    ):
        raise unexpected("TIME", reply)


def _of_script(command: Sequence[Any], reply: Any) -> None:
    of_reply = OF_SCRIPTS.get(command[1])
    if of_reply is not None:
        of_reply(command, reply)


def _number(command: Sequence[Any], reply: Any) -> None:
    number(command[0], reply)


def _rank(command: Sequence[Any], reply: Any) -> None:
    if reply is not None:
        number(command[0], reply)


def _booleans(command: Sequence[Any], reply: Any) -> None:
    if len(array(command[0], reply)) != len(command) - 2 or not {0, 1}.issuperset(
        part if type(part) is int else None for part in reply
    ):
        raise unexpected(command[0], reply)


def is_score(reply: Any) -> bool:
    """Whether a reply is a score: a number, or its text."""
    if type(reply) is float:
        return reply == reply
    if type(reply) is bytes:
        try:
            score = float(reply)
        except ValueError:
            return False
        return score == score
    return False


def _score(command: Sequence[Any], reply: Any) -> None:
    if not is_score(reply):
        raise unexpected(command[0], reply)


def _scores(command: Sequence[Any], reply: Any) -> None:
    if len(array(command[0], reply)) != len(command) - 2 or not all(part is None or is_score(part) for part in reply):
        raise unexpected(command[0], reply)


_CHECKS: dict[Any, Callable[[Sequence[Any], Any], object]] = {
    "GET": lambda _, reply: data("GET", reply),
    "GETRANGE": lambda _, reply: data("GETRANGE", reply),
    "MGET": lambda command, reply: values("MGET", reply, command[1:]),
    "SET": _stored,
    "DEL": lambda _, reply: number("DEL", reply),
    "UNLINK": lambda _, reply: number("UNLINK", reply),
    "SCAN": _scanned,
    "TIME": _time,
    "CLUSTER": lambda _, reply: array("CLUSTER SLOTS", reply),
    "EVALSHA": _of_script,
    "EVAL": _of_script,
    "ASKING": _ok,
    "MULTI": _ok,
    "WATCH": _ok,
    "UNWATCH": _ok,
    "HMGET": lambda command, reply: values("HMGET", reply, command[2:]),
    "SMISMEMBER": _booleans,
    "ZINCRBY": _score,
    "ZMSCORE": _scores,
    "ZRANK": _rank,
    "ZREVRANK": _rank,
    **dict.fromkeys(("INCRBY", "HINCRBY", "HSET", "SADD", "ZADD", "HLEN", "SCARD", "ZCARD", "XLEN"), _number),
    **dict.fromkeys(("PEXPIRE", "PERSIST", "PTTL"), _number),
}
"""The checks of replies, by the names of commands. Other commands may have any reply."""


def check(command: Sequence[Any], reply: Any) -> None:
    """Check the reply to a command. The error of a refused command is a possible reply.

    Raises:
        RemoteError: The command has no such reply.
    """
    of_reply = _CHECKS.get(command[0])
    if of_reply is not None and not isinstance(reply, Exception):
        of_reply(command, reply)


def check_all(commands: Sequence[Sequence[Any]], replies: Sequence[Any], *, watches: bool = False) -> None:
    """Check the replies to commands, which may be those of transactions.

    Args:
        commands: The commands.
        replies: Their replies.
        watches: Whether a transaction may not be executed because a watched key has changed.

    Raises:
        RemoteError: There are too many replies or too few, or a command has no such reply.
    """
    if len(replies) != len(commands):
        message = f"the server sent {len(replies)} replies to {len(commands)} commands"
        raise _unexpected(message)
    if len(commands) == 1:
        check(commands[0], replies[0])
        return
    queued: list[Sequence[Any]] | None = None
    for command, reply in zip(commands, replies, strict=True):
        name = command[0]
        if name == "EXEC":
            is_executed = not isinstance(reply, Exception) and (reply is not None or not watches)
            if queued is not None and is_executed:
                check_all(queued, array("EXEC", reply))
            queued = None
        elif queued is not None:
            queued.append(command)
            if reply != b"QUEUED" and not isinstance(reply, Exception):
                raise unexpected(name, reply)
        elif name == "MULTI":
            check(command, reply)
            # A server that refuses it executes the next commands at once.
            queued = None if isinstance(reply, Exception) else []
        elif reply != b"OK" or name != "SET":
            # There may be many of the others.
            check(command, reply)
