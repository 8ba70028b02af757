"""Calls as commands of Valkey and Redis.

The value of a key is at `sessions:namespace:{key}`. Text, numbers and other single values are strings, lists are lists,
maps are hashes, sets are sets, sorted sets and streams are what they are there: others that read the server see them.

What the server cannot tell apart has a mark, the bytes 0xFF and "K" and the number of the kind. A list, map, set or
sorted set without elements is a string of these three bytes. Bits are a string that begins with them, and a Bloom
filter has its shape and the number of its items after them. The first element of a queue is its mark, and the second
has the jobs that are reserved.

A plan is a generator: it yields commands, gets their replies, and returns the result. It does no IO itself.
"""

# pyright: basic

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from flexcache_rs.sessions import _cells as cells
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._cells import BITS, BLOOM, LIST, MAP, SCALAR, SET, SORTED, STREAM, Cursor, CursorPage
from flexcache_rs.sessions._redis_plain import plain_command, scored_arguments
from flexcache_rs.sessions._redis_scripts import script

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from flexcache_rs.sessions._arguments import Touch
    from flexcache_rs.sessions._cells import Call, Codec

Command: TypeAlias = "tuple[Any, ...]"
Plan: TypeAlias = "Generator[list[Command], list[Any], Any]"

_MARK = b"\xffK"
_BEFORE_BITS = 24
_BEFORE_BLOOM = 48 * 8
_MOST_BITS = 2**32
"""The server's limit for one string, in bits."""

_MOST_ELEMENTS = 2**32
_SCANNED = 1000
_LONGEST = 2**52
_END = Cursor()
_END.place = None


class Names:
    """The names of all server keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        # After quoting, the namespace has no character with a special meaning in names and patterns.
        self.base = b"sessions:" + quote(namespace, safe="").encode()
        self._begin = self.base + b":{"

    def data(self, key: bytes) -> bytes:
        """Return the name of a key's value. In a cluster, the part in braces determines the slot."""
        return b"%b%b}" % (self._begin, key)

    def is_data(self, name: bytes) -> bool:
        """Return whether this is the name of a value. Other programs may have names that match the pattern."""
        return name.startswith(self._begin) and name.endswith(b"}")

    def key(self, name: bytes) -> bytes:
        """Return the key for the name of a value."""
        return name[len(self._begin) : -1]

    @property
    def pattern(self) -> bytes:
        """The pattern that matches the names of all values."""
        return self._begin + b"*"

    def gate(self, name: bytes) -> bytes:
        """Return the name of a limiter's number."""
        return b"%b#gate:{%b}" % (self.base, name)

    def log(self, name: bytes) -> bytes:
        """Return the name of a sliding window's log of calls."""
        return b"%b#log:{%b}" % (self.base, name)

    def lease(self, name: bytes) -> bytes:
        """Return the name of a lease's holder."""
        return b"%b#lease:{%b}" % (self.base, name)

    def copy(self, transaction: bytes, level: int, key: bytes) -> bytes:
        """Return the name of a transaction's working copy of a key."""
        return b"%b#copy:%b:%d:{%b}" % (self.base, transaction, level, key)

    @property
    def transactions(self) -> bytes:
        """The name of the set of open transactions and their deadlines."""
        return self.base + b"#transactions"

    @property
    def wakes(self) -> bytes:
        """The channel for the names of lists and queues that got an element, and of leases that were released."""
        return self.base + b"#wakes"

    @property
    def version(self) -> bytes:
        """The name of the version of the format."""
        return self.base + b"#version"


def _millis(touch: Touch) -> tuple[str, int]:
    return touch[0], -(-touch[1] // 1000)


def _floats(parts: Sequence[Any]) -> list[tuple[bytes, float]]:
    return [(parts[i], cells.plain_score(float(parts[i + 1]))) for i in range(0, len(parts), 2)]


def _pairs(parts: Sequence[Any]) -> list[tuple[bytes, bytes]]:
    return [(parts[i], parts[i + 1]) for i in range(0, len(parts), 2)]


def _entries(parts: Sequence[Any]) -> list[tuple[str, bytes]]:
    return [(name.decode(), fields[1]) for name, fields in parts]


def _positions(text: bytes, before: int) -> list[int]:
    """Return the positions of the bits that are 1. The first bit of a byte is its highest."""
    return [
        (at * 8 + bit) - before
        for at in range(before // 8, len(text))
        if text[at]
        for bit in range(8)
        if text[at] & (128 >> bit)
    ]


def _whole(codec: Codec, found: Any) -> Any:
    """Decode the whole content of a key from the reply of a script."""
    if found is None:
        return MISSING
    if isinstance(found, bytes):
        if not found.startswith(_MARK):
            return codec.decode(found)
        kind = found[2] - 48 if len(found) > 2 else SCALAR
        if not LIST <= kind <= BITS:
            # This is of another program, and decoding it raises the error for that.
            return codec.decode(found)
        if kind in (BITS, BLOOM):
            return codec.whole(kind, _positions(found, _BEFORE_BITS if kind == BITS else _BEFORE_BLOOM))
        return codec.whole(kind, ())
    kind, parts = found
    if kind == MAP:
        # In the order of the fields' bytes, as on the other backends.
        return codec.whole(kind, sorted(_pairs(parts)))
    if kind == SORTED:
        return codec.whole(kind, _floats(parts))
    return codec.whole(kind, _entries(parts) if kind == STREAM else parts)


def _bit(number: int) -> int:
    if number + _BEFORE_BITS >= _MOST_BITS:
        raise ValueError(f"i must be less than 2**32 - {_BEFORE_BITS} on this backend, not {number}")
    return number + _BEFORE_BITS


def _bloom(values: tuple[Any, ...]) -> list[Any]:
    items, bits, hashes = values
    if bits + _BEFORE_BLOOM > _MOST_BITS:
        raise ValueError(
            f"capacity must be smaller on this backend: the filter would have {bits} bits, more than 2**32"
        )
    shape = f"{bits} {hashes}".ljust(24)
    return [shape, hashes, *(place + _BEFORE_BLOOM for item in items for place in item)]


def _id(number: tuple[int, int] | None, otherwise: str, before: str = "") -> str:
    return otherwise if number is None else f"{before}{number[0]}-{number[1]}"


def _text(value: object) -> str:
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


# The arguments of the scripts of acts, after the deadline and the kind.
_ARGUMENTS: dict[str, Callable[..., Sequence[Any]]] = {
    "len": lambda: (),
    "push": lambda elements, left, most: (_text(left), _text(most), *elements),
    "pop": lambda left, count: (_text(left), count),
    "map_get": lambda fields: fields,
    "map_set": lambda pairs: pairs,
    "map_delete": lambda fields: fields,
    "set_add": lambda members: members,
    "set_discard": lambda members: members,
    "set_has": lambda members: members,
    "sorted_add": lambda scores, if_absent, greater: (
        "NX" if if_absent else "GT" if greater else "",
        *scored_arguments(scores),
    ),
    "sorted_incr": lambda member, by: (member, repr(by)),
    "sorted_scores": lambda members: members,
    "sorted_rank": lambda member, reverse: (member, _text(reverse)),
    "sorted_range": lambda start, stop, reverse: (start, stop, _text(reverse)),
    "sorted_by_score": lambda low, high, limit, reverse: (repr(low), repr(high), limit, _text(reverse)),
    "sorted_remove": lambda members: members,
    "sorted_pop": lambda count, largest: (count, _text(largest)),
    "sorted_page": lambda after, count: (
        min(count, _MOST_ELEMENTS),
        *(("", "") if after is None else (repr(after[0]), after[1])),
    ),
    "stream_add": lambda fields, most: (fields, _text(most)),
    "stream_range": lambda after, until, count: (_id(after, "-", "("), _id(until, "+"), count),
    "bits_set": lambda number, value: (_bit(number), _text(value)),
    "bits_toggle": lambda number: (_bit(number),),
    "bloom_add": lambda *values: _bloom(values),
    "bloom_has": lambda *values: _bloom(values),
    "list_page": lambda after, count: (0 if after is None else after + 1, count),
}


def _job(codec: Codec, found: Any) -> Any:
    return None if found is None else (found[0], codec.decode(found[1]))


# The decoders of their replies.
_ANSWERS: dict[str, Callable[[Codec, Any], Any]] = {
    "pop": lambda codec, found: codec.objects(found),
    "at": lambda codec, found: codec.optional(found),
    "put": lambda _, found: bool(found),
    "range": lambda codec, found: codec.objects(found),
    "reserve": _job,
    "end_job": lambda _, found: bool(found),
    "map_get": lambda codec, found: list(map(codec.optional, found)),
    "map_default": lambda codec, found: codec.decode(found),
    "set_has": lambda _, found: list(map(bool, found)),
    "set_pop": lambda codec, found: codec.objects(found),
    "sorted_incr": lambda _, found: cells.plain_score(float(found)),
    "sorted_scores": lambda _, found: [None if score is None else float(score) for score in found],
    "sorted_range": lambda codec, found: [(codec.decode(member), score) for member, score in _floats(found)],
    "stream_add": lambda _, found: found.decode(),
    "stream_range": lambda codec, found: codec.whole(STREAM, _entries(found)),
    "bits_get": lambda _, found: bool(found),
    "bits_set": lambda _, found: bool(found),
    "bits_toggle": lambda _, found: bool(found),
    "bloom_has": lambda _, found: list(map(bool, found)),
}
_ANSWERS |= dict.fromkeys(("sorted_by_score", "sorted_page", "sorted_pop"), _ANSWERS["sorted_range"])


class Plans:
    """The plans of calls.

    Args:
        names: The names of server keys.
        codec: Decodes the replies.
        data: Returns the name of a key's value. A transaction has working copies.
    """

    def __init__(self, names: Names, codec: Codec, data: Callable[[bytes], bytes]) -> None:
        self._names, self._codec, self._data = names, codec, data

    def plan(self, call: Call) -> Plan:
        """Return the plan of a call."""
        if call.kind:
            of_act: Callable[[Call], Plan] = getattr(self, f"_act_{call.name}", self._act)
            return of_act(call)
        plan: Plan = getattr(self, f"_{call.name}")(call)
        return plan

    def plain(self, call: Call) -> Command | None:
        """Return the plain command of a call, or None. If the server refuses the command, follow the plan."""
        return plain_command(call, self._data)

    def answer(self, call: Call, reply: Any) -> Any:
        """Return the result of a call from the reply to its plain command."""
        if call.kind:
            answer = _ANSWERS.get(call.name)
            return reply if answer is None else answer(self._codec, reply)
        return [_whole(self._codec, reply)] if call.name == "get" else reply

    # Acts on the container of a key.

    def _script(self, call: Call, name: str, *arguments: Any) -> Plan:
        mode, millis = _millis(call.touch)
        (reply,) = yield [script(name, (self._data(call.keys[0]),), mode, millis, call.kind, *arguments)]
        if reply[0] == 0:
            raise cells.wrong_kind(call.keys[0], reply[1], call.kind)
        if reply[0] == 2:
            raise cells.no_element(call.arguments[0])
        if reply[0] == 3:
            raise OverflowError("the sum is not a number (NaN) and cannot be stored")
        if reply[0] == 4:
            raise cells.wrong_shape()
        return reply[1]

    def _act(self, call: Call) -> Plan:
        make = _ARGUMENTS.get(call.name)
        arguments = call.arguments if make is None else make(*call.arguments)
        found = yield from self._script(call, call.name, *arguments)
        answer = _ANSWERS.get(call.name)
        return found if answer is None else answer(self._codec, found)

    def _act_list_page(self, call: Call) -> Plan:
        after = call.arguments[0]
        found = yield from self._script(call, "list_page", *_ARGUMENTS["list_page"](*call.arguments))
        return list(enumerate(self._codec.objects(found), 0 if after is None else after + 1))

    def _act_ack(self, call: Call) -> Plan:
        return bool((yield from self._script(call, "end_job", call.arguments[0], 0)))

    def _act_release(self, call: Call) -> Plan:
        return bool((yield from self._script(call, "end_job", call.arguments[0], 1)))

    def _act_bits_get(self, call: Call) -> Plan:
        number = call.arguments[0]
        if number + _BEFORE_BITS >= _MOST_BITS:
            # The server cannot have such a bit. Any script checks the kind.
            yield from self._script(call, "bits_count")
            return False
        return bool((yield from self._script(call, "bits_get", _bit(number))))

    def _act_map_incr(self, call: Call) -> Plan:
        field, by = call.arguments
        amount = str(by) if isinstance(by, int) else ""
        state, found = yield from self._script(call, "map_incr", field, amount, "", "", "")
        changes = cells.Changes()
        while state == 5:
            changes.find(found)
            new = cells.number_cell(cells.add(found, by))
            there = ("", 1) if found is None else (found, 0)
            state, found = yield from self._script(call, "map_incr", field, "", new, *there)
        return cells.parse_number(found)

    def _act_map_page(self, call: Call) -> Plan:
        after, count = call.arguments
        if count >= _MOST_ELEMENTS and after is None:
            _, parts = yield from self._script(call, "map_page", "")
            pairs = sorted(_pairs(parts))
            return CursorPage([(self._codec.decode(field), self._codec.decode(value)) for field, value in pairs], _END)
        return (yield from self._cursor_page(call, after, count, _pairs, lambda pair: pair[0]))

    def _act_set_page(self, call: Call) -> Plan:
        after, count = call.arguments
        if count >= _MOST_ELEMENTS and after is None:
            _, parts = yield from self._script(call, "set_page", "")
            return CursorPage(self._codec.objects(sorted(parts)), _END)
        return (yield from self._cursor_page(call, after, count, list, lambda member: member))

    def _cursor_page(
        self,
        call: Call,
        after: Cursor | None,
        count: int,
        parse: Callable[[Any], list[Any]],
        name: Callable[[Any], bytes],
    ) -> Plan:
        cursor = after or Cursor()
        while len(cursor.fetched) < count and cursor.place is not None:
            place, parts = yield from self._script(call, call.name, cursor.place, min(count, _SCANNED))
            cursor.advance(place)
            for element in parse(parts):
                known = hash(name(element))
                if known not in cursor.seen:
                    cursor.seen.add(known)
                    cursor.fetched.append(element)
        page, cursor.fetched = cursor.fetched[:count], cursor.fetched[count:]
        if call.name == "map_page":
            page = [(self._codec.decode(field), self._codec.decode(value)) for field, value in page]
        else:
            page = self._codec.objects(page)
        return CursorPage(page, cursor)

    # Calls on keys.

    def _get(self, call: Call) -> Plan:
        if not call.keys:
            return []
        (found,) = yield [script("get", [self._data(key) for key in call.keys])]
        return [_whole(self._codec, one) for one in found]

    def _set(self, call: Call) -> Plan:
        wholes, mode = call.arguments
        touch, millis = _millis(call.touch)
        if len(wholes) == 1 and wholes[0].kind == SCALAR:
            command: Command = ("SET", self._data(call.keys[0]), wholes[0].cells[0])
            command += {"after": ("PX", millis), "keep": ("KEEPTTL",)}.get(touch, ())
            command += {"absent": ("NX",), "present": ("XX",)}.get(mode, ())
            (stored,) = yield [command]
            return int(stored is not None)
        arguments: list[Any] = [mode, touch, millis]
        for whole in wholes:
            elements = whole.cells
            if whole.scores:
                elements = scored_arguments(dict(zip(whole.cells, whole.scores, strict=True)))
            arguments += [whole.kind, len(elements), *elements]
        if not wholes:
            return 0
        (stored,) = yield [script("set", [self._data(key) for key in call.keys], *arguments)]
        return stored

    def _delete(self, call: Call) -> Plan:
        if not call.keys:
            return 0
        (removed,) = yield [("UNLINK", *dict.fromkeys(map(self._data, call.keys)))]
        return removed

    def _pop(self, call: Call) -> Plan:
        (found,) = yield [script("pop_key", [self._data(call.keys[0])])]
        return [_whole(self._codec, found[0])]

    def _rename(self, call: Call) -> Plan:
        (renamed,) = yield [script("rename", [self._data(key) for key in call.keys])]
        return bool(renamed)

    def _kind(self, call: Call) -> Plan:
        (kind,) = yield [script("kind", [self._data(call.keys[0])])]
        return cells.KINDS[kind] or None

    def _expire(self, call: Call) -> Plan:
        mode, millis = _millis(call.touch)
        name = self._data(call.keys[0])
        plain: Command = ("PEXPIRE", name, millis)
        (changed,) = yield [plain if mode == "after" else script("expire", [name], mode)]
        return bool(changed)

    def _persist(self, call: Call) -> Plan:
        (changed,) = yield [("PERSIST", self._data(call.keys[0]))]
        return bool(changed)

    def _ttl(self, call: Call) -> Plan:
        (left,) = yield [("PTTL", self._data(call.keys[0]))]
        return MISSING if left == -2 else None if left == -1 else left / 1000

    def _incr(self, call: Call) -> Plan:
        by, initial = call.arguments
        names, touch = [self._data(call.keys[0])], _millis(call.touch)
        amount = str(by) if isinstance(by, int) else ""
        try:
            first: Any = cells.number_cell(cells.add(cells.number_cell(initial), by))
        except OverflowError:
            first = ""
        (reply,) = yield [script("incr", names, *touch, amount, first, "", "")]
        changes = cells.Changes()
        while reply[0] == 5:
            changes.find(reply[1])
            total = cells.number_cell(cells.add(reply[1], by))
            (reply,) = yield [script("incr", names, *touch, "", first, total, reply[1])]
        if reply[0] == 0:
            raise cells.wrong_kind(call.keys[0], reply[1], SCALAR)
        if reply[0] == 6:
            cells.add(cells.number_cell(initial), by)
        return cells.parse_number(reply[1])

    def _combine(self, call: Call) -> Plan:
        (reply,) = yield [script("combine", [self._data(key) for key in call.keys], call.arguments[0])]
        if reply[0] == 0:
            raise cells.wrong_kind(call.keys[reply[2] - 1], reply[1], SET)
        return self._codec.objects(reply[1])

    # Calls on all keys.

    def _found(self) -> Plan:
        """Find the names of all values, each once."""
        found: dict[bytes, None] = {}
        cursor = Cursor()
        while cursor.place is not None:
            ((place, names),) = yield [("SCAN", cursor.place, "MATCH", self._names.pattern, "COUNT", _SCANNED)]
            found.update(dict.fromkeys(filter(self._names.is_data, names)))
            cursor.advance(place)
        return list(found)

    def _keys(self, call: Call) -> Plan:
        after, count = call.arguments
        names = yield from self._found()
        keys = sorted(map(self._names.key, names))
        return [key.decode("utf-8", "replace") for key in keys if after is None or key > after][:count]

    def _count(self, _: Call) -> Plan:
        return len((yield from self._found()))

    def _count_expired(self, _: Call) -> Plan:
        # The server never returns expired keys.
        yield []
        return 0

    def _expiring(self, _: Call) -> Plan:
        names = sorted((yield from self._found()))
        found: list[tuple[str, float]] = []
        for start in range(0, len(names), _SCANNED):
            some = names[start : start + _SCANNED]
            left = yield [("PTTL", name) for name in some]
            found += [
                (self._names.key(name).decode("utf-8", "replace"), millis / 1000)
                for name, millis in zip(some, left, strict=True)
                if millis >= 0
            ]
        return found

    def _clear(self, _: Call) -> Plan:
        names = yield from self._found()
        removed = 0
        for start in range(0, len(names), _SCANNED):
            (count,) = yield [("UNLINK", *names[start : start + _SCANNED])]
            removed += count
        return removed

    def _purge(self, _: Call) -> Plan:
        # The server removes expired keys itself. Only copies of abandoned transactions remain.
        yield [script("BEGIN", [self._names.transactions], "")]
        return 0

    # Limiters and leases.

    def _gate(self, call: Call) -> Plan:
        (reply,) = yield [script("gate", [self._names.gate(call.keys[0])], *call.arguments)]
        return bool(reply[0]), int(reply[1]) / 1e6, reply[2]

    def _log(self, call: Call) -> Plan:
        limit, window, cost = call.arguments
        (reply,) = yield [script("log", [self._names.log(call.keys[0])], limit, window, cost, os.urandom(8))]
        return bool(reply[0]), int(reply[1]) / 1e6, reply[2]

    def _lease(self, call: Call) -> Plan:
        token, micros = call.arguments
        millis = min(math.ceil(micros / 1000), _LONGEST)
        (left,) = yield [script("lease", [self._names.lease(call.keys[0])], token, millis)]
        return None if left < 0 else left / 1000

    def _release(self, call: Call) -> Plan:
        (released,) = yield [script("release", [self._names.lease(call.keys[0])], call.arguments[0])]
        return bool(released)
