"""Scripts that the server runs in one step. Each is sent as its hash, or as its text if the server does not have it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.replies import OF_SCRIPTS, array, data, number, parts, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.remote.client import Client


_NAME = "a script (EVALSHA)"
"""The name of all scripts in errors."""

_LEASES = {b"held": (bytes, bytes), b"failed": (bytes, bytes), b"elsewhere": (bytes, int, bytes)}
"""The parts of the replies of `LEASE`, by the first part."""


def _lease(command: str, reply: Any) -> list[Any]:
    kind = array(command, reply, 1)[0]
    return parts(command, reply, *(_LEASES.get(kind, ()) if isinstance(kind, bytes) else ()))


def _total(command: str, reply: Any) -> bytes | None:
    """Return a reply of `ADD_TO`."""
    digits = data(command, reply)
    if digits is None or digits.removeprefix(b"-").isdigit():
        return digits
    raise unexpected(command, reply)


def _numbers(count: int) -> Callable[[str, Any], list[int]]:
    return lambda command, reply: parts(command, reply, *[int] * count)


class Script:
    """One script.

    Args:
        text: In Lua.
        keys: The number of its keys, which come before its other arguments.
        reply: Checks the reply, unless it may be any.
    """

    def __init__(self, text: str, keys: int, reply: Callable[[str, Any], Any] | None = None) -> None:
        self.text, self._keys = text.encode(), keys
        self.hash = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
        if reply is not None:
            OF_SCRIPTS[self.hash] = OF_SCRIPTS[self.text] = lambda _, given: reply(_NAME, given)

    def command(self, *arguments: Any) -> tuple[Any, ...]:
        """What runs it with its keys and arguments, if the server has it. Otherwise, the server refuses the command."""
        return ("EVALSHA", self.hash, self._keys, *arguments)

    def places(self, arguments: Sequence[Any]) -> Sequence[bytes]:
        """Return the keys among its arguments."""
        return arguments[: self._keys]

    def run(self, client: Client, *arguments: Any) -> Any:
        """Run the script with its keys and arguments."""
        try:
            return client.execute(*self.command(*arguments))
        except RemoteError as error:
            if not isinstance(error.__cause__, client.exceptions.NoScriptError):
                raise
        return client.execute("EVAL", self.text, self._keys, *arguments)


REPLACE = Script(
    """
if (redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) or '') ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3]) end
return 1
""",
    1,
    number,
)
"""Replaces a value that begins with some bytes. Returns whether it did."""

_TAKE = """
if (redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) or '') ~= ARGV[1] then return -1 end
return redis.call('DEL', unpack(KEYS))
"""

TAKE = Script(_TAKE, 2, number)
"""Removes a value that begins with some bytes, and the lease of its key. Returns the number of removed keys, or -1."""

TAKE_ALONE = Script(_TAKE, 1, number)
"""The same without the lease."""

TOUCH = Script(
    """
if (redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) or '') ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], 2, ARGV[2])
if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end
return 1
""",
    1,
    number,
)
"""Changes the deadline of a value that begins with some bytes. Returns whether it did."""

ADD_TO = Script(
    """
local head = redis.call('GETRANGE', KEYS[1], 0, 21) or ''
if #head < 22 or string.byte(head, 1) ~= 252 or string.byte(head, 2) ~= 3 or string.sub(head, 15, 22) ~= ARGV[1] then
  return false
end
local body = redis.call('GETRANGE', KEYS[1], 22, -1) or ''
if #body > 15 then return false end
local sum = tonumber(body) + tonumber(ARGV[2])
if sum > 9007199254740991 or sum < -9007199254740991 then return false end
local text = string.format('%.0f', sum)
redis.call('SET', KEYS[1], string.sub(head, 1, 10) .. ARGV[3] .. ARGV[1] .. text, 'KEEPTTL')
return text
""",
    1,
    _total,
)
"""Adds to an int without tags. Returns the sum, or nothing if it is not an int or too large for the server."""


def is_exact(number: int) -> bool:
    """Whether `ADD_TO` can add a number: those of scripts are floats."""
    return -(1 << 53) < number < 1 << 53


LEASE = Script(
    """
local there = redis.call('GET', KEYS[2])
if there and ARGV[3] ~= '1' and string.sub(there, 2, 17) ~= ARGV[5] then
  if string.sub(there, 1, 1) == 'L' then return {'elsewhere', redis.call('PTTL', KEYS[2]), string.sub(there, 2)} end
  if ARGV[4] ~= '' and string.sub(there, 2, 17) == ARGV[4] then return {'failed', string.sub(there, 18)} end
end
redis.call('SET', KEYS[2], 'L' .. ARGV[1], 'PX', ARGV[2])
return {'held', redis.call('GETRANGE', KEYS[1], 0, 21) or ''}
""",
    2,
    _lease,
)
"""Takes a lease, or returns its holder, or the failure of the awaited load. A lease is stored as `L`, its token and its
nonces. The last argument is a token that counts as void."""

END_LEASE = """
local function finish(lease)
  local ended = redis.pcall('DEL', lease)
  if type(ended) == 'table' then redis.call('SET', lease, '', 'PX', 1) end
end
"""
"""Ends a lease. A user who may take one can set it, but not everybody may delete keys."""

STORE_WITH_LEASE = Script(
    END_LEASE
    + """
if string.sub(redis.call('GET', KEYS[2]) or '', 1, 17) ~= 'L' .. ARGV[1] then return 0 end
finish(KEYS[2])
if (redis.call('GETRANGE', KEYS[1], 0, 21) or '') ~= ARGV[2] then return 0 end
if ARGV[4] == '0' then redis.call('SET', KEYS[1], ARGV[3]) else redis.call('SET', KEYS[1], ARGV[3], 'PXAT', ARGV[4]) end
return 1
""",
    2,
    number,
)
"""Stores a value if its lease is still held and the key was not written since. Returns whether it did.

If the value has expired since, nothing is stored either, because that looks like a removal by another program.
"""

RELEASE = Script(
    END_LEASE
    + """
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 17) ~= 'L' .. ARGV[1] then return 0 end
if ARGV[2] == '' then finish(KEYS[1])
else redis.call('SET', KEYS[1], 'F' .. ARGV[1] .. ARGV[2], 'PX', 1000) end
return 1
""",
    1,
    number,
)
"""Gives a lease back, and stores a failure of its load for a second."""

TELL = Script(
    "if redis.call('SET', KEYS[1], '', 'NX') then redis.call('DEL', KEYS[1]) end return 1",
    1,
    number,
)
"""Makes the server announce a write of an absent key."""

LOCK = Script(
    """
if redis.call('PTTL', KEYS[1]) ~= -2 then return {0} end
local number = redis.pcall('INCR', KEYS[2])
if type(number) ~= 'number' then
  local is_foreign = string.find(number.err, 'not an integer') or string.find(number.err, 'overflow')
  return is_foreign and redis.error_reply('WRONGTYPE ' .. number.err) or number
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {number}
""",
    2,
    _numbers(1),
)
"""Takes a lock. Returns its number, or 0 if it is held."""

UNLOCK = Script(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0", 1, number
)
"""Releases a lock. Returns whether it was held."""

RENEW = Script(
    """
if string.sub(redis.call('GET', KEYS[1]) or '', 1, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""",
    1,
    number,
)
"""Extends a lock or a lease that begins with some bytes. Returns whether it is held."""

LIMIT = Script(
    """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, period, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local step = period / limit
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if not tat or tat ~= tat then return redis.error_reply('WRONGTYPE not the time of a limiter') end
if tat < now or tat > now + 2 * period then tat = now end
local new = tat + step * cost
if new - now > period + 0.5 then
  return {0, math.floor((period - (tat - now)) / step + 0.000001), math.ceil(new - now - period)}
end
redis.call('SET', KEYS[1], string.format('%.3f', new), 'PX', math.ceil((new - now) / 1000))
return {1, math.floor((period - (new - now)) / step + 0.000001), 0}
""",
    1,
    _numbers(3),
)
"""Takes uses of a limiter by GCRA. Returns whether they were taken, how many are left, and the microseconds to wait."""

LIMIT_WINDOW = Script(
    """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, period, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - period))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + period), '+inf')
local used = redis.call('ZCARD', KEYS[1])
if used + cost > limit then
  local last = used + cost - limit - 1
  local at = redis.call('ZRANGE', KEYS[1], last, last, 'WITHSCORES')[2]
  return {0, limit - used, at + period - now}
end
for use = 1, cost do redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[4] .. use) end
redis.call('PEXPIRE', KEYS[1], math.ceil(period / 1000))
return {1, limit - used - cost, 0}
""",
    1,
    _numbers(3),
)
"""The same with a sliding window, which has the times of all uses of the last period."""
