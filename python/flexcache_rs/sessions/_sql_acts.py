"""What is done to containers, as statements of MySQL and MariaDB: a row for each element, as in a directory."""

# pyright: basic

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions import _cells as cells
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._cells import LIST, MAP, QUEUE, SCALAR, SET, SORTED, STREAM
from flexcache_rs.sessions._sql_schema import MOST_MEMBER_BYTES
from flexcache_rs.sessions._sql_statements import CHUNK, Last, inserted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexcache_rs.sessions._cells import Call, Codec, Whole
    from flexcache_rs.sessions._sql_statements import Head, Plan, Statement

_MOST = 2**63 - 1
_PAGE = 4096
_MANY = frozenset(("map_get", "map_delete", "set_add", "set_discard", "set_has", "sorted_scores", "sorted_remove"))
_ONE = frozenset(("map_default", "map_incr", "sorted_incr", "sorted_rank"))


def score_cell(score: float) -> bytes:
    """A score as bytes in the order of the numbers."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", score))
    return struct.pack(">Q", bits ^ (2**64 - 1 if bits >> 63 else 1 << 63))


def score_of(cell: bytes) -> float:
    """The score of such bytes."""
    (bits,) = struct.unpack(">Q", cell)
    score: float
    (score,) = struct.unpack(">d", struct.pack(">Q", bits ^ (1 << 63 if bits >> 63 else 2**64 - 1)))
    return score


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))


def _check_lengths(members: Iterable[bytes]) -> None:
    for member in members:
        if len(member) > MOST_MEMBER_BYTES:
            raise ValueError(
                f"a member or a field must be at most {MOST_MEMBER_BYTES} bytes on this backend, not {len(member)}"
            )


class Acts:
    """Plans of what is done to a container. They change the head, which is stored afterwards."""

    _codec: Codec
    now: int

    @staticmethod
    def _check_members(call: Call) -> None:
        first: Any = call.arguments[0] if call.arguments else ()
        if call.name in _MANY or call.name == "sorted_add":
            _check_lengths(first)
        elif call.name == "map_set":
            _check_lengths(first[::2])
        elif call.name in _ONE:
            _check_lengths((first,))

    @staticmethod
    def _check_whole(whole: Whole) -> None:
        if whole.kind in (SET, SORTED):
            _check_lengths(whole.cells)
        elif whole.kind == MAP:
            _check_lengths(whole.cells[::2])

    @staticmethod
    def _filling(head: Head, whole: Whole) -> list[Statement]:
        """Stores all of a container that is new."""
        id_, elements = head.id, whole.cells
        if whole.kind in (LIST, QUEUE):
            head.n = head.hi = len(elements)
            return inserted("INSERT INTO fx_list (id, pos, v)", [(id_, at, v) for at, v in enumerate(elements)])
        if whole.kind == MAP:
            head.n = len(elements) // 2
            rows: list[tuple[Any, ...]] = [(id_, elements[i], elements[i + 1]) for i in range(0, len(elements), 2)]
            return inserted("INSERT INTO fx_map (id, f, v)", rows)
        head.n = len(elements)
        if whole.kind == SET:
            return inserted("INSERT INTO fx_set (id, m)", [(id_, member) for member in elements])
        rows = [(id_, m, score_cell(score)) for m, score in zip(elements, whole.scores, strict=True)]
        return inserted("INSERT INTO fx_sorted (id, m, score)", rows)

    def _rows(self, sql: str, *values: Any) -> Plan:
        (result,) = yield [(sql, values)]
        return result.rows

    def _whole(self, head: Head) -> Plan:
        """All of what a key holds."""
        kind, id_ = head.kind, head.id
        if kind == SCALAR:
            return self._codec.decode(head.value or b"")
        if kind in (LIST, QUEUE):
            rows = yield from self._rows("SELECT v FROM fx_list WHERE id = %s ORDER BY pos", id_)
            return self._codec.whole(kind, [cell for (cell,) in rows])
        if kind == MAP:
            rows = yield from self._rows("SELECT f, v FROM fx_map WHERE id = %s ORDER BY f", id_)
            return self._codec.whole(kind, rows)
        if kind == SET:
            rows = yield from self._rows("SELECT m FROM fx_set WHERE id = %s", id_)
            return self._codec.whole(kind, [cell for (cell,) in rows])
        if kind == SORTED:
            rows = yield from self._rows("SELECT m, score FROM fx_sorted WHERE id = %s ORDER BY score, m", id_)
            return self._codec.whole(kind, [(member, score_of(score)) for member, score in rows])
        if kind == STREAM:
            rows = yield from self._rows("SELECT ms, seq, v FROM fx_stream WHERE id = %s ORDER BY ms, seq", id_)
            return self._codec.whole(kind, [(f"{ms}-{seq}", cell) for ms, seq, cell in rows])
        rows = yield from self._rows("SELECT page, v FROM fx_page WHERE id = %s ORDER BY page", id_)
        return self._codec.whole(
            kind,
            [
                page * _PAGE * 8 + at * 8 + bit
                for page, text in rows
                for at, byte in enumerate(text)
                if byte
                for bit in range(8)
                if byte & 1 << bit
            ],
        )

    def _act_len(self, head: Head) -> Plan:
        yield from ()
        return head.n

    _act_bits_count = _act_len

    # Lists and queues. Positions have no gaps unless something was removed from the middle.

    def _push_rows(self, head: Head, elements: Sequence[bytes], left: bool) -> list[Statement]:
        if left:
            rows = [(head.id, head.lo - 1 - at, cell) for at, cell in enumerate(elements)]
            head.lo -= len(elements)
        else:
            rows = [(head.id, head.hi + at, cell) for at, cell in enumerate(elements)]
            head.hi += len(elements)
        head.n += len(elements)
        return inserted("INSERT INTO fx_list (id, pos, v)", rows)

    def _drop(self, head: Head, left: bool, count: int) -> Plan:
        """Removes the first or the last elements, and returns them, those of the end first."""
        count = min(count, head.n)
        if count <= 0:
            return []
        order, compare = ("ASC", "<=") if left else ("DESC", ">=")
        rows = yield from self._rows(
            f"SELECT pos, v FROM fx_list WHERE id = %s ORDER BY pos {order} LIMIT %s", head.id, count
        )
        end = rows[-1][0]
        yield [(f"DELETE FROM fx_list WHERE id = %s AND pos {compare} %s", (head.id, end))]
        head.n -= len(rows)
        if left:
            head.lo = end + 1
        else:
            head.hi = end
        if head.n == 0:
            head.lo = head.hi
        return [cell for _, cell in rows]

    def _position(self, head: Head, place: int) -> Plan:
        if head.n == head.hi - head.lo:
            return head.lo + place
        rows = yield from self._rows(
            "SELECT pos FROM fx_list WHERE id = %s ORDER BY pos LIMIT 1 OFFSET %s", head.id, place
        )
        return rows[0][0]

    def _position_of(self, head: Head, i: int) -> Plan:
        place = i + head.n if i < 0 else i
        if not 0 <= place < head.n:
            return None
        return (yield from self._position(head, place))

    def _act_push(self, head: Head, elements: list[bytes], left: bool, most: int | None) -> Plan:
        statements = self._push_rows(head, elements, left)
        if most is not None and head.n > most:
            yield statements
            statements = []
            yield from self._drop(head, not left, head.n - most)
        count = head.n
        return self._last(statements, count)

    @staticmethod
    def _last(statements: list[Statement], result: Any) -> Any:
        return Last(statements, lambda _: result)

    def _act_pop(self, head: Head, left: bool, count: int) -> Plan:
        found = yield from self._drop(head, left, count)
        return self._codec.objects(found)

    def _act_at(self, head: Head, i: int) -> Plan:
        position = yield from self._position_of(head, i)
        if position is None:
            return MISSING
        rows = yield from self._rows("SELECT v FROM fx_list WHERE id = %s AND pos = %s", head.id, position)
        return self._codec.decode(rows[0][0])

    def _act_put(self, head: Head, i: int, cell: bytes) -> Plan:
        position = yield from self._position_of(head, i)
        if position is None:
            raise cells.no_element(i)
        yield [("UPDATE fx_list SET v = %s WHERE id = %s AND pos = %s", (cell, head.id, position))]
        return True

    def _act_range(self, head: Head, start: int, stop: int) -> Plan:
        first, end = cells.bounds(start, stop, head.n)
        if first == end:
            return []
        position = yield from self._position(head, first)
        rows = yield from self._rows(
            "SELECT v FROM fx_list WHERE id = %s AND pos >= %s ORDER BY pos LIMIT %s", head.id, position, end - first
        )
        return self._codec.objects(cell for (cell,) in rows)

    def _act_trim(self, head: Head, start: int, stop: int) -> Plan:
        first, end = cells.bounds(start, stop, head.n)
        yield from self._drop(head, False, head.n - end)
        yield from self._drop(head, True, first)
        return head.n

    def _act_index(self, head: Head, cell: bytes) -> Plan:
        rows = yield from self._rows(
            "SELECT pos FROM fx_list WHERE id = %s AND v = %s ORDER BY pos LIMIT 1", head.id, cell
        )
        if not rows:
            return None
        rows = yield from self._rows("SELECT COUNT(*) FROM fx_list WHERE id = %s AND pos < %s", head.id, rows[0][0])
        return rows[0][0]

    def _act_list_page(self, head: Head, after: int | None, count: int) -> Plan:
        first = -_MOST if after is None else after + 1
        rows = yield from self._rows(
            "SELECT pos, v FROM fx_list WHERE id = %s AND pos >= %s ORDER BY pos LIMIT %s", head.id, first, count
        )
        return [(position, self._codec.decode(cell)) for position, cell in rows]

    def _act_remove(self, head: Head, cell: bytes, count: int) -> Plan:
        order = "DESC" if count < 0 else "ASC"
        rows = yield from self._rows(
            f"SELECT pos FROM fx_list WHERE id = %s AND v = %s ORDER BY pos {order} LIMIT %s",
            *(head.id, cell, abs(count) or _MOST),
        )
        for start in range(0, len(rows), CHUNK):
            some = [position for (position,) in rows[start : start + CHUNK]]
            yield [(f"DELETE FROM fx_list WHERE id = %s AND pos IN ({_marks(some)})", (head.id, *some))]
        head.n -= len(rows)
        return len(rows)

    def _act_insert(self, head: Head, i: int, cell: bytes) -> Plan:
        if head.id < 0:
            return 1
        place, _ = cells.bounds(i, -1, head.n)
        position = head.hi if place == head.n else (yield from self._position(head, place))
        yield [
            ("UPDATE fx_list SET pos = pos + 1 WHERE id = %s AND pos >= %s ORDER BY pos DESC", (head.id, position)),
            ("INSERT INTO fx_list (id, pos, v) VALUES (%s, %s, %s)", (head.id, position, cell)),
        ]
        head.hi += 1
        head.n += 1
        return head.n

    # Jobs that are reserved.

    def _reclaim(self, head: Head) -> Plan:
        """Puts jobs back whose time is over, in their order, before those that wait."""
        rows = yield from self._rows(
            "SELECT job, v FROM fx_job WHERE id = %s AND until <= %s ORDER BY job DESC", head.id, self.now
        )
        if rows:
            yield [
                ("DELETE FROM fx_job WHERE id = %s AND until <= %s", (head.id, self.now)),
                *self._push_rows(head, [cell for _, cell in rows], True),
            ]

    def _act_reserve(self, head: Head, micros: int) -> Plan:
        found = yield from self._drop(head, True, 1)
        if not found:
            return None
        head.seq += 1
        until = min(self.now + micros, _MOST)
        yield [("INSERT INTO fx_job (id, job, until, v) VALUES (%s, %s, %s, %s)", (head.id, head.seq, until, found[0]))]
        return head.seq, self._codec.decode(found[0])

    def _end_job(self, head: Head, job: int) -> Plan:
        rows = yield from self._rows("SELECT v FROM fx_job WHERE id = %s AND job = %s", head.id, job)
        if rows:
            yield [("DELETE FROM fx_job WHERE id = %s AND job = %s", (head.id, job))]
        return [cell for (cell,) in rows]

    def _act_ack(self, head: Head, job: int) -> Plan:
        return bool((yield from self._end_job(head, job)))

    def _act_release(self, head: Head, job: int) -> Plan:
        found = yield from self._end_job(head, job)
        if found:
            yield self._push_rows(head, found, True)
        return bool(found)

    # Maps.

    def _fields(self, table: str, column: str, wanted: str, head: Head, members: Sequence[bytes]) -> Plan:
        """What the rows of some members have, by member."""
        found: dict[bytes, Any] = {}
        for start in range(0, len(members), CHUNK):
            some = members[start : start + CHUNK]
            sql = f"SELECT {column}, {wanted} FROM {table} WHERE id = %s AND {column} IN ({_marks(some)})"
            found |= {bytes(name): value for name, value in (yield from self._rows(sql, head.id, *some))}
        return found

    def _remove(self, table: str, column: str, head: Head, members: Sequence[bytes]) -> Plan:
        removed = 0
        for start in range(0, len(members), CHUNK):
            some = members[start : start + CHUNK]
            sql = f"DELETE FROM {table} WHERE id = %s AND {column} IN ({_marks(some)})"
            (result,) = yield [(sql, (head.id, *some))]
            removed += result.changed
        head.n -= removed
        return removed

    def _act_map_get(self, head: Head, fields: list[bytes]) -> Plan:
        found = yield from self._fields("fx_map", "f", "v", head, fields)
        return [self._codec.optional(found.get(field)) for field in fields]

    def _put_pairs(self, head: Head, pairs: dict[bytes, bytes]) -> Plan:
        there = yield from self._fields("fx_map", "f", "1", head, list(pairs))
        rows = [(head.id, field, value) for field, value in pairs.items()]
        head.n += len(pairs) - len(there)
        yield inserted("INSERT INTO fx_map (id, f, v)", rows, " ON DUPLICATE KEY UPDATE v = VALUES(v)")
        return len(pairs) - len(there)

    def _act_map_set(self, head: Head, pairs: list[bytes]) -> Plan:
        return (yield from self._put_pairs(head, {pairs[i]: pairs[i + 1] for i in range(0, len(pairs), 2)}))

    def _act_map_default(self, head: Head, field: bytes, cell: bytes) -> Plan:
        found = yield from self._fields("fx_map", "f", "v", head, [field])
        if field in found:
            return self._codec.decode(found[field])
        yield from self._put_pairs(head, {field: cell})
        return self._codec.decode(cell)

    def _act_map_incr(self, head: Head, field: bytes, by: cells.Number) -> Plan:
        found = yield from self._fields("fx_map", "f", "v", head, [field])
        total = cells.add(found.get(field), by)
        yield from self._put_pairs(head, {field: cells.number_cell(total)})
        return total

    def _act_map_delete(self, head: Head, fields: list[bytes]) -> Plan:
        return (yield from self._remove("fx_map", "f", head, fields))

    def _act_map_page(self, head: Head, after: bytes | None, count: int) -> Plan:
        later = "f >= %s" if after is None else "f > %s"
        rows = yield from self._rows(
            f"SELECT f, v FROM fx_map WHERE id = %s AND {later} ORDER BY f LIMIT %s", head.id, after or b"", count
        )
        return [(self._codec.decode(field), self._codec.decode(cell)) for field, cell in rows]

    # Sets.

    def _act_set_add(self, head: Head, members: list[bytes]) -> Plan:
        rows = [(head.id, member) for member in dict.fromkeys(members)]
        results = yield inserted("INSERT IGNORE INTO fx_set (id, m)", rows)
        added = sum(result.changed for result in results)
        head.n += added
        return added

    def _act_set_discard(self, head: Head, members: list[bytes]) -> Plan:
        return (yield from self._remove("fx_set", "m", head, members))

    def _act_set_has(self, head: Head, members: list[bytes]) -> Plan:
        found = yield from self._fields("fx_set", "m", "1", head, members)
        return [member in found for member in members]

    def _act_set_pop(self, head: Head, count: int) -> Plan:
        rows = yield from self._rows("SELECT m FROM fx_set WHERE id = %s ORDER BY m LIMIT %s", head.id, count)
        found = [cell for (cell,) in rows]
        yield from self._remove("fx_set", "m", head, found)
        return self._codec.objects(found)

    def _act_set_page(self, head: Head, after: bytes | None, count: int) -> Plan:
        later = "m >= %s" if after is None else "m > %s"
        rows = yield from self._rows(
            f"SELECT m FROM fx_set WHERE id = %s AND {later} ORDER BY m LIMIT %s", head.id, after or b"", count
        )
        return self._codec.objects(cell for (cell,) in rows)

    # Sorted sets.

    def _scored(self, condition: str, *values: Any) -> Plan:
        rows = yield from self._rows(f"SELECT m, score FROM fx_sorted WHERE id = %s {condition}", *values)
        return [(self._codec.decode(member), score_of(score)) for member, score in rows]

    def _put_scores(self, head: Head, scores: dict[bytes, float], added: int) -> list[Statement]:
        head.n += added
        rows = [(head.id, member, score_cell(cells.plain_score(score))) for member, score in scores.items()]
        return inserted("INSERT INTO fx_sorted (id, m, score)", rows, " ON DUPLICATE KEY UPDATE score = VALUES(score)")

    def _act_sorted_add(self, head: Head, scores: dict[bytes, float], if_absent: bool, greater: bool) -> Plan:
        there = yield from self._fields("fx_sorted", "m", "score", head, list(scores))
        wanted = {
            member: score
            for member, score in scores.items()
            if member not in there or not (if_absent or (greater and score <= score_of(there[member])))
        }
        added = len(scores) - len(there)
        return self._last(self._put_scores(head, wanted, added), added)

    def _act_sorted_incr(self, head: Head, member: bytes, by: float) -> Plan:
        there = yield from self._fields("fx_sorted", "m", "score", head, [member])
        total = by + (score_of(there[member]) if there else 0.0)
        if total != total:
            raise OverflowError("the sum is not a number (NaN) and cannot be stored")
        total = cells.plain_score(total)
        return self._last(self._put_scores(head, {member: total}, 1 - len(there)), total)

    def _act_sorted_scores(self, head: Head, members: list[bytes]) -> Plan:
        found = yield from self._fields("fx_sorted", "m", "score", head, members)
        return [score_of(found[member]) if member in found else None for member in members]

    def _act_sorted_rank(self, head: Head, member: bytes, reverse: bool) -> Plan:
        found = yield from self._fields("fx_sorted", "m", "score", head, [member])
        if not found:
            return None
        score = found[member]
        rows = yield from self._rows(
            "SELECT COUNT(*) FROM fx_sorted WHERE id = %s AND (score < %s OR score = %s AND m < %s)",
            *(head.id, score, score, member),
        )
        before: int = rows[0][0]
        return head.n - 1 - before if reverse else before

    def _act_sorted_range(self, head: Head, start: int, stop: int, reverse: bool) -> Plan:
        first, end = cells.bounds(start, stop, head.n)
        order = "DESC" if reverse else "ASC"
        return (
            yield from self._scored(
                f"ORDER BY score {order}, m {order} LIMIT %s OFFSET %s", head.id, end - first, first
            )
        )

    def _act_sorted_by_score(self, head: Head, low: float, high: float, limit: int, reverse: bool) -> Plan:
        order = "DESC" if reverse else "ASC"
        bounds = (score_cell(cells.plain_score(low)), score_cell(cells.plain_score(high)))
        condition = f"AND score BETWEEN %s AND %s ORDER BY score {order}, m {order} LIMIT %s"
        return (yield from self._scored(condition, head.id, *bounds, limit))

    def _act_sorted_remove(self, head: Head, members: list[bytes]) -> Plan:
        return (yield from self._remove("fx_sorted", "m", head, members))

    def _act_sorted_pop(self, head: Head, count: int, largest: bool) -> Plan:
        order = "DESC" if largest else "ASC"
        rows = yield from self._rows(
            f"SELECT m, score FROM fx_sorted WHERE id = %s ORDER BY score {order}, m {order} LIMIT %s", head.id, count
        )
        yield from self._remove("fx_sorted", "m", head, [bytes(member) for member, _ in rows])
        return [(self._codec.decode(member), score_of(score)) for member, score in rows]

    def _act_sorted_page(self, head: Head, after: tuple[float, bytes] | None, count: int) -> Plan:
        if after is None:
            return (yield from self._scored("ORDER BY score, m LIMIT %s", head.id, count))
        score, member = score_cell(after[0]), after[1]
        condition = "AND (score > %s OR score = %s AND m > %s) ORDER BY score, m LIMIT %s"
        return (yield from self._scored(condition, head.id, score, score, member, count))

    # Streams: `lo` and `hi` are the last id.

    def _act_stream_add(self, head: Head, fields: bytes, most: int | None) -> Plan:
        millis = self.now // 1000
        head.lo, head.hi = (millis, 0) if millis > head.lo else (head.lo, head.hi + 1)
        head.n += 1
        name = f"{head.lo}-{head.hi}"
        yield [("INSERT INTO fx_stream (id, ms, seq, v) VALUES (%s, %s, %s, %s)", (head.id, head.lo, head.hi, fields))]
        if most is not None:
            yield from self._act_stream_trim(head, most)
        return name

    def _act_stream_range(
        self, head: Head, after: tuple[int, int] | None, until: tuple[int, int] | None, count: int
    ) -> Plan:
        first, last = after or (-1, 0), until or (_MOST, _MOST)
        rows = yield from self._rows(
            "SELECT ms, seq, v FROM fx_stream WHERE id = %s AND (ms > %s OR ms = %s AND seq > %s) "
            "AND (ms < %s OR ms = %s AND seq <= %s) ORDER BY ms, seq LIMIT %s",
            *(head.id, first[0], *first, last[0], *last, count),
        )
        return self._codec.whole(STREAM, [(f"{ms}-{seq}", cell) for ms, seq, cell in rows])

    def _act_stream_trim(self, head: Head, most: int) -> Plan:
        extra = max(0, head.n - most)
        if extra:
            yield [("DELETE FROM fx_stream WHERE id = %s ORDER BY ms, seq LIMIT %s", (head.id, extra))]
        head.n -= extra
        return extra

    # Bits and Bloom filters: pages of 4 KiB.

    def _pages(self, head: Head, bits: Iterable[int]) -> Plan:
        numbers = sorted({bit // (_PAGE * 8) for bit in bits})
        pages: dict[int, bytearray] = {}
        for start in range(0, len(numbers), CHUNK):
            some = numbers[start : start + CHUNK]
            rows = yield from self._rows(
                f"SELECT page, v FROM fx_page WHERE id = %s AND page IN ({_marks(some)})", head.id, *some
            )
            pages |= {number: bytearray(text) for number, text in rows}
        return pages

    def _store(self, head: Head, pages: dict[int, bytearray]) -> list[Statement]:
        rows = [(head.id, number, bytes(page)) for number, page in pages.items()]
        return inserted("INSERT INTO fx_page (id, page, v)", rows, " ON DUPLICATE KEY UPDATE v = VALUES(v)")

    @staticmethod
    def _bit(pages: dict[int, bytearray], bit: int) -> bool:
        number, within = divmod(bit, _PAGE * 8)
        return number in pages and bool(pages[number][within // 8] & 1 << within % 8)

    @staticmethod
    def _put_bit(pages: dict[int, bytearray], bit: int, value: bool) -> None:
        number, within = divmod(bit, _PAGE * 8)
        page = pages.setdefault(number, bytearray(_PAGE))
        page[within // 8] = page[within // 8] & ~(1 << within % 8) | value << within % 8

    def _act_bits_get(self, head: Head, bit: int) -> Plan:
        return self._bit((yield from self._pages(head, (bit,))), bit)

    def _act_bits_set(self, head: Head, bit: int, value: bool) -> Plan:
        pages = yield from self._pages(head, (bit,))
        was = self._bit(pages, bit)
        self._put_bit(pages, bit, value)
        head.n += value - was
        return self._last(self._store(head, pages), was)

    def _act_bits_toggle(self, head: Head, bit: int) -> Plan:
        pages = yield from self._pages(head, (bit,))
        value = not self._bit(pages, bit)
        self._put_bit(pages, bit, value)
        head.n += 1 if value else -1
        return self._last(self._store(head, pages), value)

    @staticmethod
    def _check_shape(head: Head, bits: int, hashes: int) -> bytes:
        shape = f"{bits} {hashes}".encode()
        if head.value is not None and bytes(head.value) != shape:
            raise cells.wrong_shape()
        return shape

    def _act_bloom_add(self, head: Head, items: list[list[int]], bits: int, hashes: int) -> Plan:
        head.value = self._check_shape(head, bits, hashes)
        pages = yield from self._pages(head, (bit for item in items for bit in item))
        added = 0
        for item in items:
            if not all(self._bit(pages, bit) for bit in item):
                added += 1
                for bit in item:
                    self._put_bit(pages, bit, True)
        head.n += added
        return self._last(self._store(head, pages), added)

    def _act_bloom_has(self, head: Head, items: list[list[int]], bits: int, hashes: int) -> Plan:
        self._check_shape(head, bits, hashes)
        pages = yield from self._pages(head, (bit for item in items for bit in item))
        return [all(self._bit(pages, bit) for bit in item) for item in items]
