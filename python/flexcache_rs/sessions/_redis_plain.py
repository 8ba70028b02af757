"""Calls that are one plain command of the server if the key holds what they expect.

A plain command takes the server a small part of the time of a script. The server refuses it, and changes nothing, if
the key holds anything else: a container without elements, another kind, a number that it cannot add to. Then the plan
of the call is followed, whose script knows what to do.
"""

# pyright: basic

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions._arguments import KEPT
from flexcache_rs.sessions._cells import MAP, SET, SORTED, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs.sessions._cells import Call
    from flexcache_rs.sessions._redis import Command

    _Make = Callable[..., Command | None]


def scored_arguments(scores: dict[bytes, float]) -> list[Any]:
    """Return scores and members alternately."""
    return [part for member, score in scores.items() for part in (repr(score), member)]


def _incr(name: bytes, by: float, initial: float) -> Command | None:
    starts_as_commands_do = type(initial) is int and initial == 0
    return ("INCRBY", name, by) if type(by) is int and starts_as_commands_do else None


def _sorted_add(name: bytes, scores: dict[bytes, float], if_absent: bool, greater: bool) -> Command:
    option = ("NX",) if if_absent else ("GT",) if greater else ()
    return ("ZADD", name, *option, *scored_arguments(scores))


# None of these commands removes elements, because the server deletes a container that becomes empty.
_OF_ACT: dict[str, _Make] = {
    "map_get": lambda name, fields: ("HMGET", name, *fields),
    "map_set": lambda name, pairs: ("HSET", name, *pairs),
    "map_incr": lambda name, field, by: ("HINCRBY", name, field, by) if type(by) is int else None,
    "set_add": lambda name, members: ("SADD", name, *members),
    "set_has": lambda name, members: ("SMISMEMBER", name, *members),
    "sorted_add": _sorted_add,
    "sorted_incr": lambda name, member, by: ("ZINCRBY", name, repr(by), member),
    "sorted_scores": lambda name, members: ("ZMSCORE", name, *members),
    "sorted_rank": lambda name, member, reverse: ("ZREVRANK" if reverse else "ZRANK", name, member),
}
# Without lists: a list on the server may be a queue, whose first elements are not values.
_LENGTHS = {MAP: "HLEN", SET: "SCARD", SORTED: "ZCARD", STREAM: "XLEN"}


def plain_command(call: Call, data: Callable[[bytes], bytes]) -> Command | None:
    """Return the plain command of a call, or None if it has none.

    Args:
        call: The call.
        data: Returns the name of a key's value.
    """
    # A plain command cannot change the deadline.
    if len(call.keys) != 1 or call.touch != KEPT:
        return None
    name = data(call.keys[0])
    if call.kind:
        if call.name == "len":
            return (_LENGTHS[call.kind], name) if call.kind in _LENGTHS else None
        make = _OF_ACT.get(call.name)
        return None if make is None else make(name, *call.arguments)
    if call.name == "get":
        return ("GET", name)
    return _incr(name, *call.arguments) if call.name == "incr" else None
