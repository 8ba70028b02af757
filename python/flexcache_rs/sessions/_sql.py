"""Operations on keys as statements of MySQL and MariaDB. `_sql_acts.py` has the containers.

A plan is a generator: it yields statements, which are sent in one round trip, gets their results, and returns the
result of the call, or a `Last`: statements that can be sent together with the commit.
"""

# pyright: basic

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions import _cells as cells
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._cells import QUEUE, SCALAR, SET
from flexcache_rs.sessions._sql_acts import ASKING, OF_HEAD, OF_JOBS, ONE_QUESTION
from flexcache_rs.sessions._sql_pages import PageActs
from flexcache_rs.sessions._sql_schema import LATER, MOST_KEY_BYTES, MOST_NAME_BYTES, NOW, OF_KIND
from flexcache_rs.sessions._sql_statements import CHUNK, Alone, Head, Last, Result, inserted, marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs.sessions._arguments import Touch
    from flexcache_rs.sessions._cells import Call, Codec, Whole
    from flexcache_rs.sessions._sql_statements import Plan, Statement

SET_NOW: Statement = (f"SET @fx_now = {NOW}", ())
_SNAPSHOT: list[Statement] = [
    ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", ()),
    ("START TRANSACTION READ ONLY", ()),
]
# One column with all numbers, because the driver spends more time per column than on its contents.
_HEAD = "SELECT k, v, CONCAT_WS(' ', id, kind, n, lo, hi, seq, COALESCE(expire, '')"
_OF_HEADS = "FROM fx_key WHERE ns = %s AND k"
_VALUE = f"SELECT v, id, kind {_OF_HEADS} = %s AND (expire IS NULL OR expire > {NOW})"
_ID = "SELECT id FROM fx_key WHERE ns = %s AND k = %s"
_MOST = 2**63 - 1
_LONGEST = 2**61
_LOGGED = struct.Struct("<qq")
"""A call in the log of a sliding window: the time until which it counts, and its cost."""

_TIMED = {"fx_gate": "tat", "fx_log": "until", "fx_lease": "expire"}
"""The tables of entries with a name and a deadline, and the columns of the deadlines."""

_NAMES_AT_ONCE = 100


class Plans(PageActs):
    """The plans of calls.

    Args:
        namespace: The namespace of the keys.
        codec: Decodes the results.
        locks: Whether calls that only read lock the read rows, as in transactions.
    """

    def __init__(self, namespace: str, codec: Codec, locks: bool = False) -> None:
        self._ns, self._codec, self._locks = namespace.encode(), codec, locks
        self.now = 0
        self._begin_act()

    def plan(self, call: Call) -> Plan:
        """Return the plan of a call.

        Raises:
            ValueError: A key is longer than the server's index allows.
        """
        if call.name not in ("gate", "log", "lease", "release", "tidy") or call.kind:
            for key in call.keys:
                if len(key) > MOST_KEY_BYTES:
                    raise ValueError(f"key must be at most {MOST_KEY_BYTES} bytes on this backend, not {len(key)}")
        if call.kind:
            return self._act(call)
        plan: Plan = getattr(self, f"_{call.name}")(call)
        return plan

    @staticmethod
    def _last(statements: list[Statement], result: Any) -> Last:
        return Last(statements, lambda _: result)

    # Heads.

    def _heads(
        self,
        keys: Sequence[bytes],
        locks: bool,
        begins: bool = False,
        asks: Sequence[Statement] = (),
        ends: bool = False,
    ) -> Plan:
        """Read the heads of keys, including expired ones.

        Args:
            keys: The keys.
            locks: Whether to lock the rows against other writers.
            begins: Whether to begin a snapshot, so that later reads of the plan see the same state.
            asks: Queries that are sent together with this one. `_answers` then has their results.
            ends: Whether the plan sends nothing after this.
        """
        wanted = list(dict.fromkeys(keys))
        locks = locks or self._locks
        what, lock = (f"{_HEAD})", " FOR UPDATE") if locks else (f"{_HEAD}, {NOW})", "")
        statements: list[Statement] = []
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            statements.append((f"{what} {_OF_HEADS} IN ({marks(some)}) ORDER BY k{lock}", (self._ns, *some)))
        count = len(statements)
        statements += asks
        if locks:
            # Read the time after the rows are locked, because waiting for the locks may have taken long.
            statements.append((f"SELECT {NOW}", ()))
        before = _SNAPSHOT if begins and not locks else []
        after: list[Statement] = [("COMMIT", ())] if before and ends else []
        results = (yield [*before, *statements, *after])[len(before) :]
        if locks:
            self.now = int(results.pop().rows[0][0])
        self._answers = results[count : count + len(asks)]
        found: dict[bytes, Head] = {}
        for result in results[:count]:
            for key, value, numbers in result.rows:
                id_, kind, n, lo, hi, seq, expire, *now = numbers.split(" ")
                if now:
                    self.now = int(now[0])
                deadline = int(expire) if expire else None
                found[key] = Head(int(id_), key, int(kind), value, int(n), int(lo), int(hi), int(seq), deadline)
        return found

    def _is_live(self, head: Head | None) -> bool:
        return head is not None and (head.expire is None or head.expire > self.now)

    def _live(
        self,
        keys: Sequence[bytes],
        locks: bool = False,
        begins: bool = False,
        asks: Sequence[Statement] = (),
        ends: bool = False,
    ) -> Plan:
        found = yield from self._heads(keys, locks, begins, asks, ends)
        return {key: head for key, head in found.items() if self._is_live(head)}

    def _deadline(self, touch: Touch, head: Head | None) -> int | None:
        """Return the deadline after a write."""
        mode, micros = touch
        if mode == "never":
            return None
        if mode == "after" or (mode == "new" and head is None):
            return self.now + micros
        return None if head is None else head.expire

    @staticmethod
    def _removing(heads: Sequence[Head]) -> list[Statement]:
        """Return statements that remove keys. Their elements are removed later."""
        statements: list[Statement] = []
        with_elements = [(head.id, head.kind) for head in heads if OF_KIND[head.kind]]
        statements += inserted("INSERT INTO fx_garbage (id, kind)", with_elements)
        for start in range(0, len(heads), CHUNK):
            some = [head.id for head in heads[start : start + CHUNK]]
            statements.append((f"DELETE FROM fx_key WHERE id IN ({marks(some)})", tuple(some)))
        return statements

    def _make(self, old: Head | None, key: bytes, kind: int, value: bytes | None, expire: int | None) -> Plan:
        """Create a key with a new id, in place of its old content, expired or not."""
        results = yield self._making(old, key, kind, value, expire)
        return Head(results[-1].last_id, key, kind, value, expire=expire)

    def _making(
        self, old: Head | None, key: bytes, kind: int, value: bytes | None, expire: int | None
    ) -> list[Statement]:
        insert = "INSERT INTO fx_key (ns, k, kind, v, expire) VALUES (%s, %s, %s, %s, %s)"
        statements = self._removing([old]) if old is not None else []
        return [*statements, (insert, (self._ns, key, kind, value, expire))]

    @staticmethod
    def _saving(head: Head) -> Statement:
        update = "UPDATE fx_key SET v = %s, n = %s, lo = %s, hi = %s, seq = %s, expire = %s WHERE id = %s"
        return update, (head.value, head.n, head.lo, head.hi, head.seq, head.expire, head.id)

    # Acts.

    def _act(self, call: Call) -> Plan:
        key = call.keys[0]
        act = getattr(self, f"_act_{call.name}", self._act_len)
        questions, are_all = self._questions(call)
        asks = [self._of_key(question, key) for question in questions]
        begins = not call.writes and call.name not in OF_HEAD
        heads = yield from self._heads(call.keys, call.writes, begins, asks, are_all)
        old = heads.get(key)
        head = old if self._is_live(old) else None
        if head is not None and head.kind != call.kind:
            raise cells.wrong_kind(key, head.kind, call.kind)
        self._check_members(call)
        self._begin_act()
        if head is None and call.name not in cells.CREATING:
            return self._of_nothing(act(Head(0, key, call.kind), *call.arguments))
        if head is not None:
            self._know(questions, self._answers)
        is_new = head is None
        if head is None:
            head = yield from self._make(old, key, call.kind, None, self._deadline(call.touch, None))
        if call.kind == QUEUE and call.name in OF_JOBS:
            yield from self._reclaim(head)
        reply = yield from act(head, *call.arguments)
        if not call.writes:
            return reply
        if not is_new:
            head.expire = self._deadline(call.touch, head)
        return self._last([*self._later, self._saving(head)], reply)

    def _questions(self, call: Call) -> tuple[list[Statement], bool]:
        """Return the first queries of an act, and whether it has no others.

        They do not depend on the content of the key, so they are sent together with the query for the head.
        """
        if call.name not in ASKING:
            return [], False
        self._begin_act()
        self._check_members(call)
        anything = Head(0, call.keys[0], call.kind, n=_MOST, hi=_MOST)
        plan = getattr(self, f"_act_{call.name}")(anything, *call.arguments)
        questions: list[Statement] = next(plan, [])
        if call.name in ONE_QUESTION and questions:
            try:
                plan.send([Result((), 0, 0)])
            except StopIteration:
                return questions, True
        if call.kind == QUEUE and call.name in OF_JOBS:
            questions = [*next(self._reclaim(anything)), *questions]
        return questions, False

    def _of_key(self, question: Statement, key: bytes) -> Statement:
        """Rewrite a query on an id, so that it looks up the id of a key itself."""
        sql, (_, *values) = question
        return sql.replace("id = %s", f"id = ({_ID})", 1), (self._ns, key, *values)

    @staticmethod
    def _of_nothing(plan: Plan) -> Any:
        """Return the result of a plan whose queries find nothing."""
        try:
            asked = next(plan)
            while True:
                asked = plan.send([Result((), 0, 0)] * len(asked))
        except StopIteration as stop:
            return stop.value.answer([]) if isinstance(stop.value, Last) else stop.value

    # Keys.

    def _one(self, key: bytes) -> Plan:
        """Read only the part of a key's head that its value needs, which is faster than the whole head."""
        ((rows, *_),) = yield [(_VALUE, (self._ns, key))]
        if not rows:
            return {}
        ((value, id_, kind),) = rows
        return {key: Head(id_, key, kind, value)}

    def _get(self, call: Call) -> Plan:
        is_one = len(call.keys) == 1 and not self._locks
        heads = yield from (self._one(call.keys[0]) if is_one else self._live(call.keys))
        wholes = yield from self._wholes(heads)
        changes = cells.Changes()
        while wholes is None:
            # Another session has replaced the content of a key meanwhile.
            changes.find([head.id for head in heads.values()])
            heads = yield from self._live(call.keys)
            wholes = yield from self._wholes(heads)
        return [wholes.get(key, MISSING) for key in call.keys]

    def _wholes(self, heads: dict[bytes, Head]) -> Plan:
        """Read the whole content of keys, all from one state. Returns None if a key was replaced meanwhile."""
        containers = [head for head in heads.values() if head.kind != SCALAR]
        rows: dict[int, Any] = {}
        if containers:
            asks = [self._all_of(head) for head in containers]
            if self._locks:
                self._answers = yield asks
            else:
                there = yield from self._live([head.key for head in heads.values()], begins=True, asks=asks, ends=True)
                if [head.id for head in heads.values()] != [head.id for head in there.values()]:
                    return None
                heads = there
            rows = {head.id: answer.rows for head, answer in zip(containers, self._answers, strict=True)}
        return {key: self._whole(head, rows.get(head.id, ())) for key, head in heads.items()}

    def _pop(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, True)
        if not heads:
            return [MISSING]
        (head,) = heads.values()
        rows: Sequence[Any] = ()
        if head.kind != SCALAR:
            ((rows, *_),) = yield [self._all_of(head)]
        found = self._whole(head, rows)
        return self._last(self._removing([head]), [found])

    def _set(self, call: Call) -> Plan:
        wholes: list[Whole] = call.arguments[0]
        mode = call.arguments[1]
        for whole in wholes:
            self._check_whole(whole)
        if mode == "always" and call.touch[0] != "keep" and len(wholes) == 1 and wholes[0].kind == SCALAR:
            (result,) = yield self._set_scalar(call.keys[0], wholes[0].cells[0], call.touch)
            if result.changed:
                return 1
            # The key holds a container, whose elements must be removed.
        heads = yield from self._heads(call.keys, True)
        stored = 0
        statements: list[Statement] = []
        for key, whole in zip(call.keys, wholes, strict=True):
            old = heads.get(key)
            head = old if self._is_live(old) else None
            if (mode == "absent" and head is not None) or (mode == "present" and head is None):
                continue
            value = whole.cells[0] if whole.kind == SCALAR else None
            made = yield from self._make(old, key, whole.kind, value, self._deadline(call.touch, head))
            if whole.kind != SCALAR:
                statements += self._filling(made, whole)
                statements.append(self._saving(made))
            stored += 1
        return self._last(statements, stored)

    def _set_scalar(self, key: bytes, cell: bytes, touch: Touch) -> Alone:
        """Store a single value unless the key holds a container. The number of changed rows is 0 if it was not stored.

        The statement also increments `seq`, so that a row changes even if value and deadline stay the same.
        """
        new, old = ("NULL", "NULL") if touch[0] == "never" else (f"{NOW} + {touch[1]}", f"{LATER} + {touch[1]}")
        store = (
            f"INSERT INTO fx_key (ns, k, kind, v, expire) VALUES (%s, %s, {SCALAR}, %s, {new}) ON DUPLICATE KEY UPDATE "
            f"v = IF(kind = {SCALAR}, VALUES(v), v), expire = IF(kind = {SCALAR}, {old}, expire), "
            f"seq = seq + (kind = {SCALAR})"
        )
        return Alone([(store, (self._ns, key, cell))])

    def _delete(self, call: Call) -> Plan:
        if not call.keys:
            return 0
        heads = yield from self._heads(call.keys, True)
        live = sum(map(self._is_live, heads.values()))
        return self._last(self._removing(list(heads.values())), live)

    def _rename(self, call: Call) -> Plan:
        key, to = call.keys
        heads = yield from self._heads(call.keys, True)
        head = heads.get(key)
        if not self._is_live(head):
            return False
        if key == to:
            return True
        statements = self._removing([heads[to]]) if to in heads else []
        return self._last([*statements, ("UPDATE fx_key SET k = %s WHERE id = %s", (to, head.id))], True)

    def _kind(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys)
        return cells.KINDS[heads[call.keys[0]].kind] if heads else None

    def _expire(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, True)
        if not heads:
            return False
        head = heads[call.keys[0]]
        head.expire = self._deadline(call.touch, head)
        return self._last([self._saving(head)], True)

    def _persist(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, True)
        if not heads or heads[call.keys[0]].expire is None:
            return False
        head = heads[call.keys[0]]
        head.expire = None
        return self._last([self._saving(head)], True)

    def _ttl(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys)
        if not heads:
            return MISSING
        expire = heads[call.keys[0]].expire
        return None if expire is None else (expire - self.now) / 1e6

    def _incr(self, call: Call) -> Plan:
        key, (by, initial) = call.keys[0], call.arguments
        heads = yield from self._heads(call.keys, True)
        old = heads.get(key)
        if not self._is_live(old):
            total = cells.add(cells.number_cell(initial), by)
            expire = self._deadline(call.touch, None)
            return self._last(self._making(old, key, SCALAR, cells.number_cell(total), expire), total)
        if old.kind != SCALAR:
            raise cells.wrong_kind(key, old.kind, SCALAR)
        total = cells.add(old.value, by)
        old.value, old.expire = cells.number_cell(total), self._deadline(call.touch, old)
        return self._last([self._saving(old)], total)

    def _combine(self, call: Call) -> Plan:
        names = list(dict.fromkeys(call.keys))
        asks = [self._of_key(("SELECT m FROM fx_set WHERE id = %s", (0,)), key) for key in names]
        heads = yield from self._live(names, begins=True, asks=asks, ends=True)
        for key in names:
            if key in heads and heads[key].kind != SET:
                raise cells.wrong_kind(key, heads[key].kind, SET)
        members: dict[bytes, set[bytes]] = {}
        for key, answer in zip(names, self._answers, strict=True):
            members[key] = {bytes(member) for (member,) in answer.rows} if key in heads else set()
        found = [members[key] for key in call.keys]
        how: dict[str, Any] = {"union": set.union, "intersection": set.intersection, "difference": set.difference}
        combined: set[bytes] = how[call.arguments[0]](*found)
        return self._codec.objects(sorted(combined))

    # All keys.

    _LIVE = "(expire IS NULL OR expire > @fx_now)"

    def _ask(self, sql: str, *values: Any) -> Plan:
        *_, result = yield [SET_NOW, (sql, values)]
        return result.rows

    def _keys(self, call: Call) -> Plan:
        after, count = call.arguments
        later = "k >= %s" if after is None else "k > %s"
        rows = yield from self._ask(
            f"SELECT k FROM fx_key WHERE ns = %s AND {later} AND {self._LIVE} ORDER BY k LIMIT %s",
            *(self._ns, after or b"", count),
        )
        return [bytes(key).decode("utf-8", "replace") for (key,) in rows]

    def _count(self, _: Call) -> Plan:
        rows = yield from self._ask(f"SELECT COUNT(*) FROM fx_key WHERE ns = %s AND {self._LIVE}", self._ns)
        return rows[0][0]

    def _count_expired(self, _: Call) -> Plan:
        rows = yield from self._ask("SELECT COUNT(*) FROM fx_key WHERE ns = %s AND expire <= @fx_now", self._ns)
        return rows[0][0]

    def _expiring(self, _: Call) -> Plan:
        rows = yield from self._ask(
            "SELECT k, expire - @fx_now FROM fx_key WHERE ns = %s AND expire IS NOT NULL ORDER BY k", self._ns
        )
        return [(bytes(key).decode("utf-8", "replace"), int(left) / 1e6) for key, left in rows]

    def _clear(self, _: Call) -> Plan:
        rows = yield from self._ask(
            f"SELECT id, kind, {self._LIVE} FROM fx_key WHERE ns = %s ORDER BY k FOR UPDATE", self._ns
        )
        heads = [Head(number, b"", kind) for number, kind, _ in rows]
        live = sum(int(is_live) for _, _, is_live in rows)
        return self._last(self._removing(heads), live)

    def _purge(self, call: Call) -> Plan:
        (limit,) = call.arguments
        rows = yield from self._ask(
            "SELECT id, kind FROM fx_key WHERE expire <= @fx_now LIMIT %s FOR UPDATE SKIP LOCKED", limit
        )
        heads = [Head(number, b"", kind) for number, kind in rows]
        yield self._removing(heads)
        (garbage,) = yield [("SELECT id, kind FROM fx_garbage LIMIT %s FOR UPDATE SKIP LOCKED", (max(limit, 1),))]
        yield from self._sweep(garbage.rows, max(limit, 1) * 10)
        old: list[Statement] = [
            (f"DELETE FROM {table} WHERE {until} <= @fx_now LIMIT 1000", ()) for table, until in _TIMED.items()
        ]
        return self._last(old, len(heads))

    def _sweep(self, garbage: Sequence[Any], left: int) -> Plan:
        """Remove up to `left` elements of removed keys."""
        for number, kind in garbage:
            for table in OF_KIND[kind]:
                (gone,) = yield [(f"DELETE FROM {table} WHERE id = %s LIMIT %s", (number, max(left, 0)))]
                left -= gone.changed
            if left <= 0:
                return
            yield [("DELETE FROM fx_garbage WHERE id = %s", (number,))]

    def _tidy(self, call: Call) -> Plan:
        """Clean up after earlier writes. If there is nothing to do, this takes two round trips.

        The tables of limiters and leases have no index of deadlines, which each call would have to update. They are
        scanned a part at a time.
        """
        most, places = call.arguments
        looks: list[Statement] = [
            (
                f"SELECT k, {until} <= @fx_now FROM {table} WHERE k > %s ORDER BY k LIMIT %s",
                (places[table], _NAMES_AT_ONCE),
            )
            for table, until in _TIMED.items()
        ]
        _, expired, garbage, *named = yield [
            SET_NOW,
            ("SELECT id, kind FROM fx_key WHERE expire <= @fx_now LIMIT %s FOR UPDATE SKIP LOCKED", (_NAMES_AT_ONCE,)),
            ("SELECT id, kind FROM fx_garbage LIMIT %s FOR UPDATE SKIP LOCKED", (_NAMES_AT_ONCE,)),
            *looks,
        ]
        yield from self._sweep(garbage.rows, most)
        last = self._removing([Head(number, b"", kind) for number, kind in expired.rows])
        for (table, until), found in zip(_TIMED.items(), named, strict=True):
            rows = [(bytes(name), is_over) for name, is_over in found.rows]
            places[table] = rows[-1][0] if len(rows) == _NAMES_AT_ONCE else b""
            over = [name for name, is_over in rows if is_over]
            if over:
                last.append((f"DELETE FROM {table} WHERE k IN ({marks(over)}) AND {until} <= @fx_now", tuple(over)))
        return self._last(last, None)

    # Limiters and leases.

    def _full(self, name: bytes) -> bytes:
        full = bytes([len(self._ns)]) + self._ns + name
        if len(full) > MOST_NAME_BYTES:
            most = MOST_NAME_BYTES - 1 - len(self._ns)
            raise ValueError(
                f"the name of a limit, a lock or a value that is computed must be at most {most} bytes here"
            )
        return full

    def _gate(self, call: Call) -> Plan:
        interval, burst, cost = call.arguments
        name, price = self._full(call.keys[0]), interval * cost
        # If the clock was set back by more than a limiter can be ahead, the limiter starts again.
        base = f"IF(tat > {LATER} + %s, {LATER}, GREATEST(tat, {LATER}))"
        double = 2 * burst
        yield from ()

        def answer(results: list[Result]) -> tuple[bool, float, int]:
            tat, now = map(int, results[-1].rows[0])
            if results[-2].changed:
                return True, 0.0, (burst - (tat - now)) // interval
            start = now if tat > now + double else max(tat, now)
            return False, (start + price - now - burst) / 1e6, 0

        # LATER is read after the row is locked. A time from before the wait for the lock would look like the time of a
        # clock that was set back.
        let_through = (
            f"INSERT INTO fx_gate (k, tat) VALUES (%s, {NOW} + %s) ON DUPLICATE KEY UPDATE "
            f"tat = IF({base} + %s - {LATER} <= %s, {base} + %s, tat)"
        )
        statements: list[Statement] = [
            (let_through, (name, price, double, price, burst, double, price)),
            (f"SELECT tat, {NOW} FROM fx_gate WHERE k = %s", (name,)),
        ]
        return Last(statements, answer)

    def _log(self, call: Call) -> Plan:
        limit, window, cost = call.arguments
        name = self._full(call.keys[0])
        # Create the row if needed, and lock it until the commit. Read the time after that. Otherwise calls that were
        # counted during the wait would look as if they were counted before the clock was set back.
        own = "INSERT INTO fx_log (k, until, v) VALUES (%s, 0, '') ON DUPLICATE KEY UPDATE k = VALUES(k)"
        results = yield [(own, (name,)), SET_NOW, ("SELECT v, @fx_now FROM fx_log WHERE k = %s FOR UPDATE", (name,))]
        cell, now = results[-1].rows[0]
        now = int(now)
        end = now + window
        # Drop calls that would count for longer than a call now. They are from before the clock was set back.
        log = [(until, count) for until, count in _LOGGED.iter_unpack(cell) if now < until <= end]
        answer = cells.logged(log, now, limit, cost)
        if not answer[0]:
            return answer
        log.append((end, cost))
        text = b"".join([_LOGGED.pack(until, count) for until, count in log])
        return self._last([("UPDATE fx_log SET until = %s, v = %s WHERE k = %s", (end, text, name))], answer)

    def _lease(self, call: Call) -> Plan:
        token, micros = call.arguments
        name = self._full(call.keys[0])
        yield from ()

        def answer(results: list[Result]) -> float | None:
            held, left = results[-1].rows[0]
            return None if bytes(held) == token else max(0, int(left)) / 1e6

        # Assign the token before the deadline, whose expression uses the new token.
        take = (
            f"INSERT INTO fx_lease (k, token, expire) VALUES (%s, %s, {NOW} + %s) ON DUPLICATE KEY UPDATE "
            f"token = IF(expire <= {LATER}, VALUES(token), token), "
            f"expire = IF(token = VALUES(token), {LATER} + %s, expire)"
        )
        length = min(micros, _LONGEST)
        statements: list[Statement] = [
            (take, (name, token, length, length)),
            (f"SELECT token, expire - {NOW} FROM fx_lease WHERE k = %s", (name,)),
        ]
        return Last(statements, answer)

    def _release(self, call: Call) -> Plan:
        yield from ()
        delete = "DELETE FROM fx_lease WHERE k = %s AND token = %s"
        return Last([(delete, (self._full(call.keys[0]), call.arguments[0]))], lambda results: results[-1].changed == 1)
