"""Checks of replies, which another program between a cache and its server may have changed.

Without them, such a reply would raise a `TypeError` or `ValueError` somewhere, as a wrong argument does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.failures import shown

if TYPE_CHECKING:
    from collections.abc import Sequence


def unexpected(command: str, reply: Any) -> RemoteError:
    """Return the error for a reply that a command never has. The error of a refused command is returned itself."""
    if isinstance(reply, RemoteError):
        return reply
    return RemoteError(f"the server sent a reply to {command} that this command does not have: {shown(reply)}")


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
    return parts(command, reply, *((bytes, type(None)) for _ in places))
