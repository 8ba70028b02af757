"""Operations on containers as statements of MySQL and MariaDB. Each element has a row, as in a directory."""

# pyright: basic

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions import _cells as cells
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._cells import LIST, MAP, QUEUE, SCALAR, SET, SORTED, STREAM
from flexcache_rs.sessions._sql_schema import MOST_MEMBER_BYTES, NOW
from flexcache_rs.sessions._sql_statements import CHUNK, Last, inserted, marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flexcache_rs.sessions._cells import Call, Codec, Whole
    from flexcache_rs.sessions._sql_statements import Head, Plan, Result, Statement

_MOST = 2**63 - 1
PAGE_BITS = 4096 * 8
ONE_QUESTION = frozenset(
    (
        *("list_page", "map_get", "map_page", "set_has", "set_page", "sorted_scores", "sorted_by_score", "sorted_page"),
        *("stream_range", "bits_get", "bloom_has"),
    )
)
"""The acts that only read, with a single query."""

ASKING = ONE_QUESTION | frozenset(
    (
        *("index", "sorted_rank", "pop", "reserve", "map_set", "map_default", "map_incr", "map_delete"),
        *("set_add", "set_discard", "set_pop", "sorted_add", "sorted_incr", "sorted_remove", "sorted_pop"),
        *("bits_set", "bits_toggle", "bloom_add"),
    )
)
"""The acts whose first query does not depend on the content of the key."""

OF_HEAD = frozenset(("len", "bits_count"))
"""The acts that need only the head."""

OF_JOBS = frozenset(("pop", "reserve", "ack", "release"))
"""The acts before which jobs whose time is over return to their queue."""

_MANY = frozenset(("map_get", "map_delete", "set_add", "set_discard", "set_has", "sorted_scores", "sorted_remove"))
_ONE = frozenset(("map_default", "map_incr", "sorted_incr", "sorted_rank"))


_ALL_OF = (
    *("", "", "SELECT v FROM fx_list WHERE id = %s ORDER BY pos", "SELECT v FROM fx_list WHERE id = %s ORDER BY pos"),
    *("SELECT f, v FROM fx_map WHERE id = %s ORDER BY f", "SELECT m FROM fx_set WHERE id = %s"),
    "SELECT m, score FROM fx_sorted WHERE id = %s ORDER BY score, m",
    "SELECT ms, seq, v FROM fx_stream WHERE id = %s ORDER BY ms, seq",
    *(("SELECT page, v FROM fx_page WHERE id = %s ORDER BY page",) * 2),
)
"""By kind: the query for all elements."""


def score_cell(score: float) -> bytes:
    """Encode a score as bytes that sort like the numbers."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", score))
    return struct.pack(">Q", bits ^ (2**64 - 1 if bits >> 63 else 1 << 63))


def score_of(cell: bytes) -> float:
    """Decode the bytes of a score."""
    (bits,) = struct.unpack(">Q", cell)
    score: float
    (score,) = struct.unpack(">d", struct.pack(">Q", bits ^ (1 << 63 if bits >> 63 else 2**64 - 1)))
    return score


def _check_lengths(members: Iterable[bytes]) -> None:
    for member in members:
        if len(member) > MOST_MEMBER_BYTES:
            raise ValueError(
                f"a member or a field must be at most {MOST_MEMBER_BYTES} bytes on this backend, not {len(member)}"
            )


class Acts:
    """The plans of acts on a container. They change the head, which is stored afterwards."""

    _codec: Codec
    now: int

    def _begin_act(self) -> None:
        # The results of queries that were sent together with the head, by SQL and values without the id.
        self._known: dict[tuple[Any, ...], Sequence[Any]] = {}
        # Statements to send together with the last ones.
        self._later: list[Statement] = []

    def _know(self, questions: Sequence[Statement], answers: Sequence[Result]) -> None:
        for (sql, (_, *values)), answer in zip(questions, answers, strict=True):
            self._known[(sql, *values)] = answer.rows

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
        """Return statements that store the whole content of a new container."""
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

    def _rows(self, sql: str, id_: int, *values: Any) -> Plan:
        known = self._known.pop((sql, *values), None)
        if known is not None:
            return known
        (result,) = yield [(sql, (id_, *values))]
        return result.rows

    @staticmethod
    def _all_of(head: Head) -> Statement:
        """Return the query for all elements of a container."""
        return _ALL_OF[head.kind], (head.id,)

    def _whole(self, head: Head, rows: Sequence[Any]) -> Any:
        """Decode the whole content of a key, whose elements are in these rows."""
        kind = head.kind
        if kind == SCALAR:
            return self._codec.decode(head.value or b"")
        if kind in (LIST, QUEUE, SET):
            return self._codec.whole(kind, [cell for (cell,) in rows])
        if kind == MAP:
            return self._codec.whole(kind, rows)
        if kind == SORTED:
            return self._codec.whole(kind, [(member, score_of(score)) for member, score in rows])
        if kind == STREAM:
            return self._codec.whole(kind, [(f"{ms}-{seq}", cell) for ms, seq, cell in rows])
        return self._codec.whole(
            kind,
            [
                page * PAGE_BITS + at * 8 + bit
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
        """Remove the first or the last elements, and return them, starting from that end."""
        if count <= 0 or not head.n:
            return []
        order, compare = ("ASC", "<=") if left else ("DESC", ">=")
        rows = yield from self._rows(
            f"SELECT pos, v FROM fx_list WHERE id = %s ORDER BY pos {order} LIMIT %s", head.id, count
        )
        if not rows:
            return []
        end = rows[-1][0]
        self._later.append((f"DELETE FROM fx_list WHERE id = %s AND pos {compare} %s", (head.id, end)))
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
            yield from self._drop(head, not left, head.n - most)
        else:
            self._later += statements
        return head.n

    @staticmethod
    def _asking(answer: Callable[[Sequence[Any]], Any], sql: str, *values: Any) -> Last:
        """Return the last query of an act that only reads."""
        return Last([(sql, values)], lambda results: answer(results[0].rows))

    def _act_pop(self, head: Head, left: bool, count: int) -> Plan:
        found = yield from self._drop(head, left, count)
        return self._codec.objects(found)

    def _act_at(self, head: Head, i: int) -> Plan:
        position = yield from self._position_of(head, i)
        if position is None:
            return MISSING
        sql = "SELECT v FROM fx_list WHERE id = %s AND pos = %s"
        return self._asking(lambda rows: self._codec.decode(rows[0][0]), sql, head.id, position)

    def _act_put(self, head: Head, i: int, cell: bytes) -> Plan:
        position = yield from self._position_of(head, i)
        if position is None:
            raise cells.no_element(i)
        self._later.append(("UPDATE fx_list SET v = %s WHERE id = %s AND pos = %s", (cell, head.id, position)))
        return True

    def _act_range(self, head: Head, start: int, stop: int) -> Plan:
        first, end = cells.bounds(start, stop, head.n)
        if first == end:
            return []
        position = yield from self._position(head, first)
        sql = "SELECT v FROM fx_list WHERE id = %s AND pos >= %s ORDER BY pos LIMIT %s"
        objects = self._codec.objects
        return self._asking(lambda rows: objects(cell for (cell,) in rows), sql, head.id, position, end - first)

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
        sql = "SELECT COUNT(*) FROM fx_list WHERE id = %s AND pos < %s"
        return self._asking(lambda rows: rows[0][0], sql, head.id, rows[0][0])

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
            self._later.append((f"DELETE FROM fx_list WHERE id = %s AND pos IN ({marks(some)})", (head.id, *some)))
        head.n -= len(rows)
        return len(rows)

    def _act_insert(self, head: Head, i: int, cell: bytes) -> Plan:
        place, _ = cells.bounds(i, -1, head.n)
        position = head.hi if place == head.n else (yield from self._position(head, place))
        self._later += [
            ("UPDATE fx_list SET pos = pos + 1 WHERE id = %s AND pos >= %s ORDER BY pos DESC", (head.id, position)),
            ("INSERT INTO fx_list (id, pos, v) VALUES (%s, %s, %s)", (head.id, position, cell)),
        ]
        head.hi += 1
        head.n += 1
        return head.n

    # Jobs that are reserved.

    def _reclaim(self, head: Head) -> Plan:
        """Return jobs whose time is over to the front of the queue, in their order."""
        rows = yield from self._rows(
            f"SELECT job, v FROM fx_job WHERE id = %s AND until <= {NOW} ORDER BY job DESC", head.id
        )
        if rows:
            jobs = [job for job, _ in rows]
            yield [
                (f"DELETE FROM fx_job WHERE id = %s AND job IN ({marks(jobs)})", (head.id, *jobs)),
                *self._push_rows(head, [cell for _, cell in rows], True),
            ]
            # The results of earlier queries are outdated now.
            self._known.clear()

    def _act_reserve(self, head: Head, micros: int) -> Plan:
        found = yield from self._drop(head, True, 1)
        if not found:
            return None
        # A worker may still hold a job of a removed queue. It must not end a job of the new queue under that key.
        head.seq = max(head.seq + 1, self.now)
        until = min(self.now + micros, _MOST)
        values = (head.id, head.seq, until, found[0])
        self._later.append(("INSERT INTO fx_job (id, job, until, v) VALUES (%s, %s, %s, %s)", values))
        return head.seq, self._codec.decode(found[0])

    def _end_job(self, head: Head, job: int) -> Plan:
        rows = yield from self._rows("SELECT v FROM fx_job WHERE id = %s AND job = %s", head.id, job)
        if rows:
            self._later.append(("DELETE FROM fx_job WHERE id = %s AND job = %s", (head.id, job)))
        return [cell for (cell,) in rows]

    def _act_ack(self, head: Head, job: int) -> Plan:
        return bool((yield from self._end_job(head, job)))

    def _act_release(self, head: Head, job: int) -> Plan:
        found = yield from self._end_job(head, job)
        self._later += self._push_rows(head, found, True)
        return bool(found)

    # Maps.

    def _fields(self, table: str, column: str, wanted: str, head: Head, members: Sequence[bytes]) -> Plan:
        """Read a column of the rows of some members. Returns a dict by member."""
        found: dict[bytes, Any] = {}
        for start in range(0, len(members), CHUNK):
            some = members[start : start + CHUNK]
            sql = f"SELECT {column}, {wanted} FROM {table} WHERE id = %s AND {column} IN ({marks(some)})"
            found |= {bytes(name): value for name, value in (yield from self._rows(sql, head.id, *some))}
        return found

    def _remove(self, table: str, column: str, head: Head, members: Sequence[bytes]) -> Plan:
        """Remove the present ones of some members. Returns how many."""
        there = list((yield from self._fields(table, column, "1", head, members)))
        self._remove_there(table, column, head, there)
        return len(there)

    def _remove_there(self, table: str, column: str, head: Head, there: Sequence[bytes]) -> None:
        for start in range(0, len(there), CHUNK):
            some = there[start : start + CHUNK]
            sql = f"DELETE FROM {table} WHERE id = %s AND {column} IN ({marks(some)})"
            self._later.append((sql, (head.id, *some)))
        head.n -= len(there)

    def _act_map_get(self, head: Head, fields: list[bytes]) -> Plan:
        found = yield from self._fields("fx_map", "f", "v", head, fields)
        return [self._codec.optional(found.get(field)) for field in fields]

    def _put_pairs(self, head: Head, pairs: dict[bytes, bytes], there: Sequence[bytes]) -> int:
        """Store pairs in a map. `there` are the fields that exist already. Returns how many are new."""
        rows = [(head.id, field, value) for field, value in pairs.items()]
        head.n += len(pairs) - len(there)
        self._later += inserted("INSERT INTO fx_map (id, f, v)", rows, " ON DUPLICATE KEY UPDATE v = VALUES(v)")
        return len(pairs) - len(there)

    def _act_map_set(self, head: Head, pairs: list[bytes]) -> Plan:
        wanted = {pairs[i]: pairs[i + 1] for i in range(0, len(pairs), 2)}
        there = yield from self._fields("fx_map", "f", "1", head, list(wanted))
        return self._put_pairs(head, wanted, list(there))

    def _act_map_default(self, head: Head, field: bytes, cell: bytes) -> Plan:
        found = yield from self._fields("fx_map", "f", "v", head, [field])
        if field in found:
            return self._codec.decode(found[field])
        self._put_pairs(head, {field: cell}, ())
        return self._codec.decode(cell)

    def _act_map_incr(self, head: Head, field: bytes, by: cells.Number) -> Plan:
        found = yield from self._fields("fx_map", "f", "v", head, [field])
        total = cells.add(found.get(field), by)
        self._put_pairs(head, {field: cells.number_cell(total)}, list(found))
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
        there = yield from self._fields("fx_set", "m", "1", head, members)
        rows = [(head.id, member) for member in dict.fromkeys(members) if member not in there]
        self._later += inserted("INSERT INTO fx_set (id, m)", rows)
        head.n += len(rows)
        return len(rows)

    def _act_set_discard(self, head: Head, members: list[bytes]) -> Plan:
        return (yield from self._remove("fx_set", "m", head, members))

    def _act_set_has(self, head: Head, members: list[bytes]) -> Plan:
        found = yield from self._fields("fx_set", "m", "1", head, members)
        return [member in found for member in members]

    def _act_set_pop(self, head: Head, count: int) -> Plan:
        rows = yield from self._rows("SELECT m FROM fx_set WHERE id = %s ORDER BY m LIMIT %s", head.id, count)
        found = [cell for (cell,) in rows]
        self._remove_there("fx_set", "m", head, found)
        return self._codec.objects(found)

    def _act_set_page(self, head: Head, after: bytes | None, count: int) -> Plan:
        later = "m >= %s" if after is None else "m > %s"
        rows = yield from self._rows(
            f"SELECT m FROM fx_set WHERE id = %s AND {later} ORDER BY m LIMIT %s", head.id, after or b"", count
        )
        return self._codec.objects(cell for (cell,) in rows)

    # Sorted sets.

    def _scored(self, condition: str, id_: int, *values: Any) -> Plan:
        rows = yield from self._rows(f"SELECT m, score FROM fx_sorted WHERE id = %s {condition}", id_, *values)
        return [(self._codec.decode(member), score_of(score)) for member, score in rows]

    def _put_scores(self, head: Head, scores: dict[bytes, float], added: int) -> None:
        head.n += added
        rows = [(head.id, member, score_cell(cells.plain_score(score))) for member, score in scores.items()]
        update = " ON DUPLICATE KEY UPDATE score = VALUES(score)"
        self._later += inserted("INSERT INTO fx_sorted (id, m, score)", rows, update)

    def _act_sorted_add(self, head: Head, scores: dict[bytes, float], if_absent: bool, greater: bool) -> Plan:
        there = yield from self._fields("fx_sorted", "m", "score", head, list(scores))
        wanted = {
            member: score
            for member, score in scores.items()
            if member not in there or not (if_absent or (greater and score <= score_of(there[member])))
        }
        added = len(scores) - len(there)
        self._put_scores(head, wanted, added)
        return added

    def _act_sorted_incr(self, head: Head, member: bytes, by: float) -> Plan:
        there = yield from self._fields("fx_sorted", "m", "score", head, [member])
        total = by + (score_of(there[member]) if there else 0.0)
        if total != total:
            raise OverflowError("the sum is not a number (NaN) and cannot be stored")
        total = cells.plain_score(total)
        self._put_scores(head, {member: total}, 1 - len(there))
        return total

    def _act_sorted_scores(self, head: Head, members: list[bytes]) -> Plan:
        found = yield from self._fields("fx_sorted", "m", "score", head, members)
        return [score_of(found[member]) if member in found else None for member in members]

    def _act_sorted_rank(self, head: Head, member: bytes, reverse: bool) -> Plan:
        found = yield from self._fields("fx_sorted", "m", "score", head, [member])
        if not found:
            return None
        score = found[member]
        sql = "SELECT COUNT(*) FROM fx_sorted WHERE id = %s AND (score < %s OR score = %s AND m < %s)"
        last = head.n - 1

        def answer(rows: Sequence[Any]) -> int:
            before: int = rows[0][0]
            return last - before if reverse else before

        return self._asking(answer, sql, head.id, score, score, member)

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
        self._remove_there("fx_sorted", "m", head, [bytes(member) for member, _ in rows])
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
        values = (head.id, head.lo, head.hi, fields)
        self._later.append(("INSERT INTO fx_stream (id, ms, seq, v) VALUES (%s, %s, %s, %s)", values))
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
        yield from ()
        extra = max(0, head.n - most)
        if extra:
            self._later.append(("DELETE FROM fx_stream WHERE id = %s ORDER BY ms, seq LIMIT %s", (head.id, extra)))
        head.n -= extra
        return extra
