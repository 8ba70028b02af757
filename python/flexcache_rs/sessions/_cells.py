"""Converts calls and their values to cells, for the backends of servers, which are written in Python."""

# pyright: basic

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from flexcache_rs._arguments import as_number, plain_number
from flexcache_rs._core import SessionCodec
from flexcache_rs.sessions._arguments import KEPT, MISSING, summand
from flexcache_rs.sessions._errors import KindError, TimedOut, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flexcache_rs.sessions._arguments import Touch

Cell: TypeAlias = bytes
Number: TypeAlias = int | float

KINDS = ("", "scalar", "list", "queue", "map", "set", "sorted", "stream", "bloom", "bits")
"""The kinds. Stores record their indices."""

_WITH_ARTICLE = (
    *("nothing", "a single value", "a list", "a queue", "a map", "a set", "a sorted set", "a stream"),
    *("a Bloom filter", "bits"),
)

SCALAR, LIST, QUEUE, MAP, SET, SORTED, STREAM, BLOOM, BITS = range(1, 10)

_MOST = 2**63 - 1
_MOST_TIMES = 1000


class Whole(NamedTuple):
    """The whole new content of a key."""

    kind: int
    cells: list[Cell]
    """The cells. For a map, fields and values alternate."""
    scores: list[float]


class Call(NamedTuple):
    """A call that is ready to be made. `name` is the name of the call, or of the act on a container."""

    name: str
    keys: tuple[bytes, ...]
    kind: int
    """The kind of the container, or 0 for calls without one."""
    touch: Touch
    arguments: tuple[Any, ...]
    writes: bool


class CursorPage(list[Any]):
    """A page of an unordered container, and the cursor of the next one."""

    def __init__(self, elements: list[Any], following: Cursor) -> None:
        super().__init__(elements)
        self.following = following


class Cursor:
    """The position of an iteration over a map or a set: the fetched elements not yet returned, and the server's cursor.

    The server may return an element twice while it resizes its table, so the hashes of all returned ones are kept.
    """

    def __init__(self) -> None:
        self.fetched: list[Any] = []
        self.place: bytes | None = b"0"
        self.seen: set[int] = set()
        self.places: set[bytes] = set()

    def advance(self, place: bytes) -> None:
        """Move to the next place of the server, which is 0 at the end.

        Raises:
            Unavailable: It was there before. A server never returns to a place, so the iteration would not end.
        """
        if place in self.places:
            raise Unavailable(f"the server sent the place {place.decode()} of an iteration twice")
        self.places.add(place)
        self.place = None if place == b"0" else place


# By name: the type of each argument, and whether the call writes. c: a cell; C: cells; m: a member; M:
# members; o: a member, a cursor or MISSING; p: pairs; s: members with scores; f: a score; n: a number; a: a member and
# its score, or None; b: items of a Bloom filter, with its bits and hashes; r: passed unchanged.
_ACTS: dict[str, tuple[str, bool]] = {
    "len": ("", False),
    "push": ("Crr", True),
    "pop": ("rr", True),
    "at": ("r", False),
    "put": ("rc", True),
    "range": ("rr", False),
    "trim": ("rr", True),
    "remove": ("cr", True),
    "insert": ("rc", True),
    "index": ("c", False),
    "list_page": ("rr", False),
    "reserve": ("r", True),
    "ack": ("r", True),
    "release": ("r", True),
    "map_get": ("M", False),
    "map_set": ("p", True),
    "map_default": ("mc", True),
    "map_incr": ("mn", True),
    "map_delete": ("M", True),
    "map_page": ("or", False),
    "set_add": ("M", True),
    "set_discard": ("M", True),
    "set_has": ("M", False),
    "set_pop": ("r", True),
    "set_page": ("or", False),
    "sorted_add": ("srr", True),
    "sorted_incr": ("mf", True),
    "sorted_scores": ("M", False),
    "sorted_rank": ("mr", False),
    "sorted_range": ("rrr", False),
    "sorted_by_score": ("ffrr", False),
    "sorted_remove": ("M", True),
    "sorted_pop": ("rr", True),
    "sorted_page": ("ar", False),
    "stream_add": ("cr", True),
    "stream_range": ("rrr", False),
    "stream_trim": ("r", True),
    "bits_get": ("r", False),
    "bits_set": ("rr", True),
    "bits_toggle": ("r", True),
    "bits_count": ("", False),
    "bloom_add": ("b", True),
    "bloom_has": ("b", False),
}

CREATING = frozenset(
    (
        *("push", "insert", "map_set", "map_default", "map_incr", "set_add", "sorted_add", "sorted_incr", "stream_add"),
        *("bits_set", "bits_toggle", "bloom_add"),
    )
)
"""The acts that create an absent key."""

_READING = frozenset(("get", "kind", "ttl", "combine", "keys", "expiring", "count", "count_expired"))


def logged(log: Sequence[tuple[int, int]], now: int, limit: int, cost: int) -> tuple[bool, float, int]:
    """Decide about a call by the log of a sliding window.

    Returns whether the call is allowed, when it would be, and how many further calls are allowed.

    Args:
        log: For each call that counts, the oldest first: until when it counts, and its cost.
        now: The time of the call in microseconds, like those of the log.
        limit: The largest sum of costs in the window.
        cost: The cost of the call.
    """
    counted = sum(count for _, count in log)
    excess = counted + cost - limit
    if excess <= 0:
        return True, 0.0, -excess
    wait = 0
    for until, count in log:
        wait, excess = until - now, excess - count
        if excess <= 0:
            break
    return False, wait / 1e6, max(0, limit - counted)


def elements(call: Call) -> int:
    """Return an upper bound of the number of container elements that a call stores."""
    if call.kind:
        first = call.arguments[0] if call.arguments else None
        return len(first) if isinstance(first, (list, dict)) else 1
    if call.name == "set":
        return sum(len(whole.cells) for whole in call.arguments[0] if whole.kind != SCALAR)
    return 0


def key_cell(key: object) -> bytes:
    """Return the bytes of a key."""
    if not isinstance(key, str):
        raise TypeError(f"key must be a str, not {type(key).__name__}")
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"key must be text without surrogates, not {key!r}") from None


def parse_number(cell: Cell) -> Number | None:
    """Parse a number in its canonical text: an int of 64 bits, or a float as `repr` writes it."""
    if not cell or len(cell) > 24 or cell[:1] not in b"-0123456789in":
        return None
    try:
        text = cell.decode("ascii")
    except UnicodeDecodeError:
        return None
    digits = text.removeprefix("-")
    if digits.isdigit():
        value = int(text)
        return value if str(value) == text and -_MOST - 1 <= value <= _MOST else None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if repr(number) == text else None


def add(cell: Cell | None, by: Number) -> Number:
    """Return the sum of the number in a cell, 0 if there is no cell, and another number.

    Raises:
        TypeError: The cell is not a number of 64 bits.
        OverflowError: The sum does not fit 64 bits, or is NaN.
    """
    old = 0 if cell is None else parse_number(cell)
    if old is None:
        raise TypeError("the value is not a number of 64 bits, to which could be added")
    total = old + by
    if isinstance(total, int) and not -_MOST - 1 <= total <= _MOST:
        raise OverflowError("the sum does not fit 64 bits")
    if total != total:
        raise OverflowError("the sum is not a number (NaN) and cannot be stored")
    return total


class Changes:
    """What a call has found that begins again because others change the same key meanwhile.

    If many calls do that, one of them begins again often, and finds something else each time. A server or a proxy that
    gives wrong replies says again and again that the same has changed.
    """

    def __init__(self) -> None:
        self._found: Any = None
        self._times = 0

    def find(self, found: Any) -> None:
        """Note what was found.

        Raises:
            TimedOut: It was the same too often.
        """
        self._times = self._times + 1 if found == self._found else 1
        self._found = found
        if self._times > _MOST_TIMES:
            raise TimedOut(f"the key is said to have changed, {_MOST_TIMES} times to the same; nothing was changed")


def number_cell(number: Number) -> Cell:
    """Return the canonical text of a number."""
    return repr(number).encode()


def wrong_kind(key: bytes, held: int, wanted: int) -> KindError:
    """Return the exception for a key that holds another kind."""
    return KindError(f'"{key.decode("utf-8", "replace")}" holds {_WITH_ARTICLE[held]}, not {_WITH_ARTICLE[wanted]}')


def wrong_shape() -> ValueError:
    """Return the exception for a filter that was made with another capacity or error rate."""
    return ValueError("the Bloom filter was made with another capacity or error rate")


def no_element(index: int) -> IndexError:
    """Return the exception for a position at which a list has no element."""
    return IndexError(f"the list has no element {index}")


def bounds(start: int, stop: int, length: int) -> tuple[int, int]:
    """Convert an inclusive range, whose negative ends count from the end, to the first position and the end."""
    first = min(max(0, start + length if start < 0 else start), length)
    end = min(max(0, (stop + length if stop < 0 else stop) + 1), length)
    return first, max(first, end)


def plain_score(score: float) -> float:
    """Normalize a score: -0.0 becomes 0.0."""
    return 0.0 if score == 0 else score


def _score(value: object) -> float:
    number = as_number(value)
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        try:
            score: float = plain_number(number) * 1.0
        except OverflowError:
            score = float("nan")
        if score == score:
            return plain_score(score)
    raise ValueError(f"a score must be a number other than NaN, not {value!r}")


class Codec:
    """Encodes the calls of one session, and decodes the cells of replies to objects."""

    def __init__(self, serializer: Any) -> None:
        native = SessionCodec(serializer, MISSING)
        self.decode, self._encode = native.decode, native.encode
        self._taking: dict[str, Callable[[Any], Any]] = {
            "r": lambda value: value,
            "c": self._encode,
            "C": lambda values: [self._encode(value) for value in values],
            "m": lambda value: self._encode(value, True),
            "M": self._members,
            "o": self._optional_member,
            "p": self._pairs,
            "s": self._scored,
            "f": _score,
            "n": lambda by: summand("by", by),
            "a": lambda after: None if after is None else (after[1], self._encode(after[0], True)),
        }

    def _take(self, what: str, value: Any) -> Any:
        return self._taking[what](value)

    # A serializer may be Python code, in which other threads change what is encoded. Lists keep what was there before.

    def _members(self, objects: Iterable[Any]) -> list[Cell]:
        return [self._encode(member, True) for member in list(objects)]

    def _pairs(self, pairs: dict[Any, Any]) -> list[Cell]:
        pairs_now = list(pairs.items())
        return [cell for field, value in pairs_now for cell in (self._encode(field, True), self._encode(value))]

    def _whole(self, value: Any) -> Whole:
        kind = type(value)
        if kind is list:
            return Whole(LIST, [self._encode(element) for element in value], [])
        if kind is dict:
            return Whole(MAP, self._pairs(value), [])
        if kind is set:
            return Whole(SET, list(dict.fromkeys(self._members(value))), [])
        if kind is deque:
            return Whole(QUEUE, [self._encode(element) for element in list(value)], [])
        return Whole(SCALAR, [self._encode(value)], [])

    def _scored(self, members: dict[Any, float]) -> dict[Cell, float]:
        return {self._encode(member, True): _score(score) for member, score in list(members.items())}

    @staticmethod
    def _places(cells: list[Cell], bits: int, hashes: int) -> list[list[int]]:
        """Return the positions of the bits of each item of a Bloom filter."""
        found: list[list[int]] = []
        for cell in cells:
            digest = hashlib.blake2b(cell, digest_size=16).digest()
            first, step = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1
            found.append([(first + step * number) % 2**64 % bits for number in range(hashes)])
        return found

    def _optional_member(self, value: Any) -> Any:
        if value is MISSING or isinstance(value, Cursor):
            return None if value is MISSING else value
        return self._encode(value, True)

    def act(self, kind: str, key: str, touch: Touch, name: str, *values: Any) -> Call:
        """Return a call on the container of one key."""
        what, writes = _ACTS[name]
        if what == "b":
            items, bits, hashes = values
            made: tuple[Any, ...] = (self._places(self._members(items), bits, hashes), bits, hashes)
        else:
            made = tuple(map(self._take, what, values))
        return Call(name, (key_cell(key),), KINDS.index(kind), touch, made, writes)

    def call(self, name: str, *values: Any) -> Call:
        """Return any other call."""
        keys: tuple[bytes, ...] = ()
        touch = KEPT
        rest: tuple[Any, ...] = values
        if name in ("get", "delete", "combine"):
            keys, rest = tuple(map(key_cell, values[0])), values[1:]
        elif name in ("pop", "kind", "expire", "persist", "ttl", "incr", "gate", "log", "lease", "release"):
            keys, rest = (key_cell(values[0]),), values[1:]
        elif name == "rename":
            keys, rest = (key_cell(values[0]), key_cell(values[1])), ()
        match name:
            case "set":
                wholes = {key_cell(key): self._whole(value) for key, value in list(values[0].items())}
                keys, touch, rest = tuple(wholes), values[1], (list(wholes.values()), values[2])
            case "set_sorted":
                scored = self._scored(values[1])
                whole = Whole(SORTED, list(scored), list(scored.values()))
                name, keys, touch, rest = "set", (key_cell(values[0]),), values[2], ([whole], "always")
            case "expire":
                touch, rest = values[1], ()
            case "incr":
                touch, rest = values[3], (summand("by", values[1]), summand("initial", values[2]))
            case "keys":
                rest = (None if values[0] is None else key_cell(values[0]), values[1])
            case _:
                pass
        return Call(name, keys, 0, touch, rest, name not in _READING)

    # Decoding of replies.

    def objects(self, cells: Iterable[Cell]) -> list[Any]:
        """Decode cells to objects."""
        return list(map(self.decode, cells))

    def optional(self, cell: Cell | None) -> Any:
        """Decode a cell, or return MISSING for None."""
        return MISSING if cell is None else self.decode(cell)

    def whole(self, kind: int, parts: Any) -> Any:
        """Decode the whole content of a key.

        `parts` are cells, pairs, pairs of members and scores, entries, or positions.
        """
        match kind:
            case 2:
                return self.objects(parts)
            case 3:
                return deque(self.objects(parts))
            case 5:
                return set(self.objects(parts))
            case 4:
                return {self.decode(field): self.decode(value) for field, value in parts}
            case 6:
                return {self.decode(member): score for member, score in parts}
            case 7:
                return [(name, self.decode(cell)) for name, cell in parts]
            case 8:
                return set(parts)
            case 9:
                return list(parts)
            case _:
                return self.decode(parts)
