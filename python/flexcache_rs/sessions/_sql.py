"""Calls as statements of MySQL and MariaDB: keys, and what becomes of them. `_sql_acts.py` has the containers.

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
from flexcache_rs.sessions._sql_acts import Acts
from flexcache_rs.sessions._sql_schema import MOST_KEY_BYTES, MOST_NAME_BYTES, NOW, OF_KIND
from flexcache_rs.sessions._sql_statements import CHUNK, Head, Last, inserted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs.sessions._arguments import Touch
    from flexcache_rs.sessions._cells import Call, Codec, Whole
    from flexcache_rs.sessions._sql_statements import Plan, Result, Statement

SET_NOW: Statement = (f"SET @fx_now = {NOW}", ())
_SNAPSHOT: Statement = ("START TRANSACTION READ ONLY", ())
_HEAD = "SELECT id, k, kind, v, n, lo, hi, seq, expire FROM fx_key WHERE ns = %s AND k"
_NAMED = "ns = %s AND k = %s"
_LONGEST = 2**61
_LOGGED = struct.Struct("<qq")
"""A call that a sliding window counts: until when, and for how many."""

_TIMED = {"fx_gate": "tat", "fx_log": "until", "fx_lease": "expire"}
"""What is kept by name until a time."""

_NAMES_AT_ONCE = 100


class Plans(Acts):
    """The plans of calls.

    Args:
        namespace: What separates keys.
        codec: Makes objects of the answers.
        locks: Whether calls that only read lock what they read, as in transactions.
    """

    def __init__(self, namespace: str, codec: Codec, locks: bool = False) -> None:
        self._ns, self._codec, self._locks = namespace.encode(), codec, locks
        self.now = 0

    def plan(self, call: Call) -> Plan:
        """The plan of a call.

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

    # Heads.

    def _heads(self, keys: Sequence[bytes], locks: bool, begins: bool = False) -> Plan:
        """The heads of keys, those included that have expired. With `begins` what follows is of the same state."""
        wanted = list(dict.fromkeys(keys))
        lock = " FOR UPDATE" if locks or self._locks else ""
        statements: list[Statement] = [SET_NOW, ("SELECT @fx_now", ())]
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            statements.append((f"{_HEAD} IN ({', '.join(['%s'] * len(some))}) ORDER BY k{lock}", (self._ns, *some)))
        before = [_SNAPSHOT] if begins and not self._locks else []
        results = (yield [*before, *statements])[len(before) :]
        self.now = int(results[1].rows[0][0])
        found: dict[bytes, Head] = {}
        for result in results[2:]:
            for number, key, *rest in result.rows:
                found[bytes(key)] = Head(number, bytes(key), *rest)
        return found

    def _is_live(self, head: Head | None) -> bool:
        return head is not None and (head.expire is None or head.expire > self.now)

    def _live(self, keys: Sequence[bytes], locks: bool = False, begins: bool = False) -> Plan:
        found = yield from self._heads(keys, locks, begins)
        return {key: head for key, head in found.items() if self._is_live(head)}

    def _deadline(self, touch: Touch, head: Head | None) -> int | None:
        """The deadline that a write leaves."""
        mode, micros = touch
        if mode == "never":
            return None
        if mode == "after" or (mode == "new" and head is None):
            return self.now + micros
        return None if head is None else head.expire

    @staticmethod
    def _removing(heads: Sequence[Head]) -> list[Statement]:
        """Removes keys. Their elements go later."""
        statements: list[Statement] = []
        with_elements = [(head.id, head.kind) for head in heads if OF_KIND[head.kind]]
        statements += inserted("INSERT INTO fx_garbage (id, kind)", with_elements)
        for start in range(0, len(heads), CHUNK):
            some = [head.id for head in heads[start : start + CHUNK]]
            statements.append((f"DELETE FROM fx_key WHERE id IN ({', '.join(['%s'] * len(some))})", tuple(some)))
        return statements

    def _make(self, old: Head | None, key: bytes, kind: int, value: bytes | None, expire: int | None) -> Plan:
        """Makes a key in place of what it held, dead or alive. Its id is a new one."""
        insert = "INSERT INTO fx_key (ns, k, kind, v, expire) VALUES (%s, %s, %s, %s, %s)"
        statements = self._removing([old]) if old is not None else []
        results = yield [*statements, (insert, (self._ns, key, kind, value, expire))]
        return Head(results[-1].last_id, key, kind, value, expire=expire)

    @staticmethod
    def _saving(head: Head) -> Statement:
        update = "UPDATE fx_key SET v = %s, n = %s, lo = %s, hi = %s, seq = %s, expire = %s WHERE id = %s"
        return update, (head.value, head.n, head.lo, head.hi, head.seq, head.expire, head.id)

    # Acts.

    def _act(self, call: Call) -> Plan:
        key = call.keys[0]
        heads = yield from self._heads(call.keys, call.writes, begins=not call.writes)
        old = heads.get(key)
        head = old if self._is_live(old) else None
        if head is not None and head.kind != call.kind:
            raise cells.wrong_kind(key, head.kind, call.kind)
        self._check_members(call)
        act = getattr(self, f"_act_{call.name}", self._act_len)
        if head is None and call.name not in cells.CREATING:
            # An id that no key has: nothing is found, and nothing changes.
            reply = yield from act(Head(-1, key, call.kind), *call.arguments)
            return Last([], reply.answer) if isinstance(reply, Last) else reply
        is_new = head is None
        if head is None:
            head = yield from self._make(old, key, call.kind, None, self._deadline(call.touch, None))
        if call.kind == QUEUE and call.writes and call.name != "push":
            yield from self._reclaim(head)
        reply = yield from act(head, *call.arguments)
        if not call.writes:
            return reply
        if not is_new:
            head.expire = self._deadline(call.touch, head)
        if isinstance(reply, Last):
            return Last([*reply.statements, self._saving(head)], reply.answer)
        return Last([self._saving(head)], lambda _: reply)

    # Keys.

    def _get(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys)
        if any(head.kind != SCALAR for head in heads.values()) and not self._locks:
            # From one state, with the elements.
            heads = yield from self._live(call.keys, begins=True)
        wholes = {}
        for key, head in heads.items():
            wholes[key] = yield from self._whole(head)
        return [wholes.get(key, MISSING) for key in call.keys]

    def _pop(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, True)
        if not heads:
            return [MISSING]
        (head,) = heads.values()
        found = yield from self._whole(head)
        return Last(self._removing([head]), lambda _: [found])

    def _set(self, call: Call) -> Plan:
        wholes: list[Whole] = call.arguments[0]
        mode = call.arguments[1]
        for whole in wholes:
            self._check_whole(whole)
        if mode == "always" and call.touch[0] != "keep" and len(wholes) == 1 and wholes[0].kind == SCALAR:
            yield from ()
            return self._set_scalar(call.keys[0], wholes[0].cells[0], call.touch)
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
        return Last(statements, lambda _: stored)

    def _set_scalar(self, key: bytes, cell: bytes, touch: Touch) -> Last:
        """In one round trip."""
        expire = "NULL" if touch[0] == "never" else f"@fx_now + {touch[1]}"
        name = (self._ns, key)
        statements: list[Statement] = [
            SET_NOW,
            (
                "INSERT INTO fx_garbage (id, kind) SELECT id, kind FROM fx_key WHERE ns = %s AND k = %s AND kind <> 1",
                name,
            ),
            (f"DELETE FROM fx_key WHERE {_NAMED}", name),
            (f"INSERT INTO fx_key (ns, k, kind, v, expire) VALUES (%s, %s, 1, %s, {expire})", (*name, cell)),
        ]
        return Last(statements, lambda _: 1)

    def _delete(self, call: Call) -> Plan:
        if not call.keys:
            return 0
        heads = yield from self._heads(call.keys, True)
        live = sum(map(self._is_live, heads.values()))
        return Last(self._removing(list(heads.values())), lambda _: live)

    def _rename(self, call: Call) -> Plan:
        key, to = call.keys
        heads = yield from self._heads(call.keys, True)
        head = heads.get(key)
        if not self._is_live(head):
            return False
        if key == to:
            return True
        statements = self._removing([heads[to]]) if to in heads else []
        return Last([*statements, ("UPDATE fx_key SET k = %s WHERE id = %s", (to, head.id))], lambda _: True)

    def _kind(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys)
        return cells.KINDS[heads[call.keys[0]].kind] if heads else None

    def _expire(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, True)
        if not heads:
            return False
        head = heads[call.keys[0]]
        head.expire = self._deadline(call.touch, head)
        return Last([self._saving(head)], lambda _: True)

    def _persist(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, True)
        if not heads or heads[call.keys[0]].expire is None:
            return False
        head = heads[call.keys[0]]
        head.expire = None
        return Last([self._saving(head)], lambda _: True)

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
            yield from self._make(old, key, SCALAR, cells.number_cell(total), self._deadline(call.touch, None))
            return total
        if old.kind != SCALAR:
            raise cells.wrong_kind(key, old.kind, SCALAR)
        total = cells.add(old.value, by)
        old.value, old.expire = cells.number_cell(total), self._deadline(call.touch, old)
        return Last([self._saving(old)], lambda _: total)

    def _combine(self, call: Call) -> Plan:
        heads = yield from self._live(call.keys, begins=True)
        for key, head in heads.items():
            if head.kind != SET:
                raise cells.wrong_kind(key, head.kind, SET)
        found: list[set[bytes]] = []
        for key in call.keys:
            rows: Sequence[Any] = ()
            if key in heads:
                (result,) = yield [("SELECT m FROM fx_set WHERE id = %s", (heads[key].id,))]
                rows = result.rows
            found.append({bytes(member) for (member,) in rows})
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
        return Last(self._removing(heads), lambda _: live)

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
        return Last(old, lambda _: len(heads))

    def _sweep(self, garbage: Sequence[Any], left: int) -> Plan:
        """Removes up to so many elements of keys that are gone."""
        for number, kind in garbage:
            for table in OF_KIND[kind]:
                (gone,) = yield [(f"DELETE FROM {table} WHERE id = %s LIMIT %s", (number, max(left, 0)))]
                left -= gone.changed
            if left <= 0:
                return
            yield [("DELETE FROM fx_garbage WHERE id = %s", (number,))]

    def _tidy(self, call: Call) -> Plan:
        """What some writes do for those that come after them, in two round trips where there is nothing to do.

        Whether what is kept by name is over is looked at by turns: there is no index of it, which each call would have
        to change.
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
                marks = ", ".join(["%s"] * len(over))
                last.append((f"DELETE FROM {table} WHERE k IN ({marks}) AND {until} <= @fx_now", tuple(over)))
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
        # Where the clock was set back by more than a gate can owe, it begins anew.
        base = "IF(tat > @fx_now + %s, @fx_now, GREATEST(tat, @fx_now))"
        double = 2 * burst
        yield from ()

        def answer(results: list[Result]) -> tuple[bool, float, int]:
            tat, now = map(int, results[-1].rows[0])
            if results[-2].changed:
                return True, 0.0, (burst - (tat - now)) // interval
            start = now if tat > now + double else max(tat, now)
            return False, (start + price - now - burst) / 1e6, 0

        let_through = (
            "INSERT INTO fx_gate (k, tat) VALUES (%s, @fx_now + %s) ON DUPLICATE KEY UPDATE "
            f"tat = IF({base} + %s - @fx_now <= %s, {base} + %s, tat)"
        )
        statements: list[Statement] = [
            SET_NOW,
            (let_through, (name, price, double, price, burst, double, price)),
            ("SELECT tat, @fx_now FROM fx_gate WHERE k = %s", (name,)),
        ]
        return Last(statements, answer)

    def _log(self, call: Call) -> Plan:
        limit, window, cost = call.arguments
        name = self._full(call.keys[0])
        # The row is there, and ours until the commit: others that call wait. The time is read after that, or what was
        # counted meanwhile would look like what was counted before the clock was set back.
        own = "INSERT INTO fx_log (k, until, v) VALUES (%s, 0, '') ON DUPLICATE KEY UPDATE k = VALUES(k)"
        results = yield [(own, (name,)), SET_NOW, ("SELECT v, @fx_now FROM fx_log WHERE k = %s FOR UPDATE", (name,))]
        cell, now = results[-1].rows[0]
        now = int(now)
        end = now + window
        # A call that would count for longer than those of now was counted before the clock was set back.
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

        # The token is assigned before the deadline: the second looks at the first.
        take = (
            "INSERT INTO fx_lease (k, token, expire) VALUES (%s, %s, @fx_now + %s) ON DUPLICATE KEY UPDATE "
            "token = IF(expire <= @fx_now, VALUES(token), token), "
            "expire = IF(token = VALUES(token), VALUES(expire), expire)"
        )
        statements: list[Statement] = [
            SET_NOW,
            (take, (name, token, min(micros, _LONGEST))),
            ("SELECT token, expire - @fx_now FROM fx_lease WHERE k = %s", (name,)),
        ]
        return Last(statements, answer)

    def _release(self, call: Call) -> Plan:
        yield from ()
        delete = "DELETE FROM fx_lease WHERE k = %s AND token = %s"
        return Last([(delete, (self._full(call.keys[0]), call.arguments[0]))], lambda results: results[-1].changed == 1)
