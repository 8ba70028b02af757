"""The replies of the scripts of Valkey and Redis, which a program between a session and its server may have changed.

Each script has a check of the shape of its reply. The connection ends if it raises an error, as
`flexcache_rs.remote.replies` says, so that no plan meets a reply that its script never has.
"""

# pyright: basic

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from flexcache_rs.remote.replies import OF_SCRIPTS, is_score, unexpected
from flexcache_rs.sessions._cells import KINDS, LIST, MAP, QUEUE, SET, SORTED, STREAM, parse_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Command: TypeAlias = "Sequence[Any]"
    _Check: TypeAlias = "Callable[[_Command, Any], bool]"
    """Whether a command may have a reply."""

_KEYS = 3
"""The place of the first key in a command that runs a script."""
_BYTES, _NONE = frozenset((bytes,)), type(None)
_DATA = frozenset((bytes, _NONE))
_KIND_DIFFERS, _DONE, _NO_ELEMENT, _NO_SUM, _SHAPE_DIFFERS, _CHANGED, _NO_FIRST = range(7)
"""The states with which replies begin."""


def _arguments(command: _Command) -> Sequence[Any]:
    return command[_KEYS + command[2] :]


def _is_number(reply: Any, least: int = 0, most: int = 2**63 - 1) -> bool:
    return type(reply) is int and least <= reply <= most


def _number(_: _Command, reply: Any) -> bool:
    return _is_number(reply)


def _signed(_: _Command, reply: Any) -> bool:
    return type(reply) is int


def _bit(_: _Command, reply: Any) -> bool:
    return _is_number(reply, 0, 1)


def _place(_: _Command, reply: Any) -> bool:
    return reply is None or _is_number(reply)


def _cell(_: _Command, reply: Any) -> bool:
    return type(reply) is bytes


def _optional_cell(_: _Command, reply: Any) -> bool:
    return type(reply) in _DATA


def _cells(_: _Command, reply: Any) -> bool:
    return type(reply) is list and _BYTES.issuperset(map(type, reply))


def _pairs(command: _Command, reply: Any) -> bool:
    return _cells(command, reply) and len(reply) % 2 == 0


def _scored(command: _Command, reply: Any) -> bool:
    return _pairs(command, reply) and all(map(is_score, reply[1::2]))


def _is_id(reply: Any) -> bool:
    if type(reply) is not bytes:
        return False
    millis, _, number = reply.partition(b"-")
    return millis.isdigit() and number.isdigit()


def _id(_: _Command, reply: Any) -> bool:
    return _is_id(reply)


def _entries(command: _Command, reply: Any) -> bool:
    return type(reply) is list and all(
        type(entry) is list and len(entry) == 2 and _is_id(entry[0]) and _pairs(command, entry[1]) and entry[1]
        for entry in reply
    )


def _decimal(reply: Any) -> bool:
    return type(reply) is bytes and reply.isdigit()


def _is_array(reply: Any, length: int) -> bool:
    return type(reply) is list and len(reply) == length


def _found(command: _Command, reply: Any) -> bool:
    """Bytes or nothing for each argument of an act."""
    return _is_array(reply, len(_arguments(command)) - 3) and _DATA.issuperset(map(type, reply))


def _bits(command: _Command, reply: Any) -> bool:
    return _is_array(reply, len(_arguments(command)) - 3) and all(_is_number(bit, 0, 1) for bit in reply)


def _bits_of_items(command: _Command, reply: Any) -> bool:
    _, _, _, _, hashes, *places = _arguments(command)
    return _is_array(reply, len(places) // hashes) and all(_is_number(bit, 0, 1) for bit in reply)


def _scores(command: _Command, reply: Any) -> bool:
    return _is_array(reply, len(_arguments(command)) - 3) and all(score is None or is_score(score) for score in reply)


def _page(of_parts: _Check) -> _Check:
    return lambda command, reply: _is_array(reply, 2) and _decimal(reply[0]) and of_parts(command, reply[1])


def _job(_: _Command, reply: Any) -> bool:
    return reply is None or (_is_array(reply, 2) and _is_number(reply[0], 1) and type(reply[1]) is bytes)


def _is_sum(reply: Any) -> bool:
    return type(reply) is bytes and parse_number(reply) is not None


def _map_sum(_: _Command, reply: Any) -> bool:
    if not _is_array(reply, 2):
        return False
    state, cell = reply
    return (state == _DONE and _is_sum(cell)) or (state == _CHANGED and type(cell) in _DATA)


_PARTS: dict[int, _Check] = {
    **dict.fromkeys((LIST, QUEUE, SET), _cells),
    MAP: _pairs,
    SORTED: _scored,
    STREAM: _entries,
}
"""The checks of whole containers, by their kinds."""


def _whole(command: _Command, reply: Any) -> bool:
    if type(reply) in _DATA:
        return True
    return _is_array(reply, 2) and type(reply[0]) is int and reply[0] in _PARTS and _PARTS[reply[0]](command, reply[1])


def _wholes(command: _Command, reply: Any) -> bool:
    return _is_array(reply, command[2]) and all(_whole(command, one) for one in reply)


def _wrong_kind(reply: Any) -> bool:
    return _is_array(reply, 2) and _is_number(reply[1], 1, len(KINDS) - 1)


def _state(reply: Any) -> Any:
    """Return the state with which a reply begins, or None."""
    return reply[0] if type(reply) is list and reply and type(reply[0]) is int else None


def _act(of_answer: _Check, *states: int) -> _Check:
    """Return the check of an act. The states are those besides the usual ones, without an answer."""

    def check(command: _Command, reply: Any) -> bool:
        state = _state(reply)
        if state == _DONE:
            return len(reply) == 2 and of_answer(command, reply[1])
        return _wrong_kind(reply) if state == _KIND_DIFFERS else state in states and len(reply) == 1

    return check


def _sum(command: _Command, reply: Any) -> bool:
    state = _state(reply)
    if state == _KIND_DIFFERS:
        return _wrong_kind(reply)
    if state == _NO_FIRST:
        *_, first, _, _ = _arguments(command)
        return len(reply) == 1 and first == ""
    if not _is_array(reply, 2):
        return False
    return (state == _DONE and _is_sum(reply[1])) or (state == _CHANGED and type(reply[1]) is bytes)


def _combined(command: _Command, reply: Any) -> bool:
    state = _state(reply)
    if state == _KIND_DIFFERS:
        return _wrong_kind(reply[:2]) and len(reply) == 3 and _is_number(reply[2], 1, command[2])
    return state == _DONE and len(reply) == 2 and _cells(command, reply[1])


def _limited(_: _Command, reply: Any) -> bool:
    return _is_array(reply, 3) and _is_number(reply[0], 0, 1) and _decimal(reply[1]) and _is_number(reply[2])


_OF_ACTS: dict[str, _Check] = {
    **dict.fromkeys(("len", "bits_count", "push", "put", "trim", "remove", "insert", "end_job"), _act(_number)),
    **dict.fromkeys(("map_set", "map_delete", "set_add", "set_discard", "sorted_add", "sorted_remove"), _act(_number)),
    **dict.fromkeys(("pop", "range", "list_page", "set_pop"), _act(_cells)),
    **dict.fromkeys(("index", "sorted_rank"), _act(_place)),
    **dict.fromkeys(("sorted_range", "sorted_by_score", "sorted_page", "sorted_pop"), _act(_scored)),
    **dict.fromkeys(("bits_get", "bits_set", "bits_toggle"), _act(_bit)),
    "at": _act(_optional_cell),
    "put": _act(_number, _NO_ELEMENT),
    "reserve": _act(_job),
    "map_get": _act(_found),
    "map_page": _act(_page(_pairs)),
    "map_default": _act(_cell),
    "map_incr": _act(_map_sum),
    "set_has": _act(_bits),
    "set_page": _act(_page(_cells)),
    "sorted_scores": _act(_scores),
    "sorted_incr": _act(lambda _, reply: is_score(reply), _NO_SUM),
    "stream_range": _act(_entries),
    "stream_add": _act(_id),
    "stream_trim": _act(_number),
    "bloom_add": _act(_number, _SHAPE_DIFFERS),
    "bloom_has": _act(_bits_of_items, _SHAPE_DIFFERS),
}

_OTHER: dict[str, _Check] = {
    **dict.fromkeys(("set", "rename", "expire", "release"), _number),
    **dict.fromkeys(("BEGIN", "TOUCH", "COMMIT", "JOIN", "FORGET"), _bit),
    **dict.fromkeys(("gate", "log"), _limited),
    **dict.fromkeys(("get", "pop_key"), _wholes),
    "kind": lambda _, reply: _is_number(reply, 0, len(KINDS) - 1),
    "incr": _sum,
    "combine": _combined,
    "lease": _signed,
}

CHECKS: dict[str, _Check] = dict(chain(_OF_ACTS.items(), _OTHER.items()))
"""By the names of scripts: whether the command that runs it may have a reply."""


def register(name: str, *scripts: str | bytes) -> None:
    """Let the replies of a script be checked. It is known by its hash and by its text."""
    may_have = CHECKS[name]

    def check(command: _Command, reply: Any) -> None:
        if not may_have(command, reply):
            raise unexpected(f"the script of {name}() (EVALSHA)", reply)

    OF_SCRIPTS.update(dict.fromkeys(scripts, check))
