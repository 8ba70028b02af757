"""Scripts that Valkey and Redis run in one step, one for each call. `_redis.py` has the form of the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.scripts import END_LEASE, Script
from flexcache_rs.sessions._redis_acts import ACTS, KIND
from flexcache_rs.sessions._redis_replies import register

if TYPE_CHECKING:
    from collections.abc import Sequence

_WHOLE = """
-- All of what a key holds: a text, or its kind and its parts.
local function whole(key)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'table' then return text end
  local kind = kind_of(key)
  if kind == 2 then return {kind, call('LRANGE', key, 0, -1)} end
  if kind == 3 then return {kind, call('LRANGE', key, 2, -1)} end
  if kind == 4 then return {kind, call('HGETALL', key)} end
  if kind == 5 then return {kind, call('SMEMBERS', key)} end
  if kind == 6 then return {kind, call('ZRANGE', key, 0, -1, 'WITHSCORES')} end
  return {kind, call('XRANGE', key, '-', '+')}
end
"""

_OTHER = {
    "get": _WHOLE
    + """
local found = {}
for i, key in ipairs(KEYS) do found[i] = whole(key) end
return found
""",
    "pop_key": _WHOLE
    + """
local found = whole(KEYS[1])
call('DEL', KEYS[1])
return {found}
""",
    "kind": "return (kind_of(KEYS[1]))",
    # ARGV: mode, change of the deadline, milliseconds, and for each key its kind, the number of cells, and the cells.
    # The cells of a sorted set are scores and members alternately.
    "set": """
local at, stored = 4, 0
local commands = {'', 'RPUSH', 'RPUSH', 'HSET', 'SADD', 'ZADD'}
for _, key in ipairs(KEYS) do
  local kind, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local first, last = at + 2, at + 1 + count
  at = last + 1
  local there = call('EXISTS', key) == 1
  if not (ARGV[1] == 'absent' and there) and not (ARGV[1] == 'present' and not there) then
    local ttl = ARGV[2] == 'keep' and call('PTTL', key) or -1
    if there then call('UNLINK', key) end
    if kind == 1 then call('SET', key, ARGV[first])
    elseif kind ~= 3 and count == 0 then call('SET', key, '\\255K' .. kind) end
    if kind == 3 then call('RPUSH', key, QUEUE, '') end
    if count > 0 and (kind == 2 or kind == 3) then wake(key) end
    if kind ~= 1 then
      for i = first, last, 1000 do call(commands[kind], key, unpack(ARGV, i, math.min(i + 999, last))) end
    end
    if ARGV[2] == 'after' then call('PEXPIRE', key, ARGV[3]) elseif ttl > 0 then call('PEXPIRE', key, ttl) end
    stored = stored + 1
  end
end
return stored
""",
    "rename": """
if call('EXISTS', KEYS[1]) == 0 then return 0 end
if KEYS[1] ~= KEYS[2] then
  call('RENAME', KEYS[1], KEYS[2])
  local kind = kind_of(KEYS[2])
  if kind == 2 or kind == 3 or kind == 7 then wake(KEYS[2]) end
end
return 1
""",
    "expire": """
if ARGV[1] == 'never' then call('PERSIST', KEYS[1]) end
return call('EXISTS', KEYS[1])
""",
    # ARGV: change of the deadline, milliseconds, the int to add or '', the value of a new key, and to store a sum of
    # floats: the sum and the expected old value.
    "incr": """
local have = kind_of(KEYS[1])
if have > 1 then return {0, have} end
local old = have == 1 and call('GET', KEYS[1])
local sum
if have == 0 then
  if ARGV[4] == '' then return {6} end
  sum = ARGV[4]
  call('SET', KEYS[1], sum)
elseif ARGV[5] ~= '' then
  if old ~= ARGV[6] then return {5, old} end
  sum = ARGV[5]
  call('SET', KEYS[1], sum, 'KEEPTTL')
else
  if ARGV[3] == '' then return {5, old} end
  if type(redis.pcall('INCRBY', KEYS[1], ARGV[3])) == 'table' then return {5, old} end
  sum = call('GET', KEYS[1])
end
if ARGV[1] == 'after' or (ARGV[1] == 'new' and have == 0) then call('PEXPIRE', KEYS[1], ARGV[2])
elseif ARGV[1] == 'never' then call('PERSIST', KEYS[1]) end
return {1, sum}
""",
    "combine": """
local there, all, first = {}, true, true
for i, key in ipairs(KEYS) do
  local kind, empty = kind_of(key)
  if kind ~= 0 and kind ~= 5 then return {0, kind, i} end
  if kind == 5 and not empty then there[#there + 1] = key
  else
    all = false
    if i == 1 then first = false end
  end
end
if #there == 0 or (ARGV[1] == 'intersection' and not all) or (ARGV[1] == 'difference' and not first) then
  return {1, {}}
end
local commands = {union = 'SUNION', intersection = 'SINTER', difference = 'SDIFF'}
if #there <= 1000 then return {1, call(commands[ARGV[1]], unpack(there))} end
-- Lua passes only some thousands of keys at once. Members of a union are in one part, other members are in all parts.
local parts, counts, found = 0, {}, {}
for at = 2, #there, 1000 do
  parts = parts + 1
  for _, member in ipairs(call(commands[ARGV[1]], there[1], unpack(there, at, math.min(at + 999, #there)))) do
    counts[member] = (counts[member] or 0) + 1
  end
end
for member, count in pairs(counts) do
  if ARGV[1] == 'union' or count == parts then found[#found + 1] = member end
end
return {1, found}
""",
    # The same as on disk. If the clock was set back by more than a limiter can be ahead, the limiter starts again.
    "gate": """
local now, interval, burst, cost = micros(), tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tat = tonumber(call('GET', KEYS[1]) or now)
if tat > now + 2 * burst or tat < now then tat = now end
-- By how much the limiter would be ahead. A time itself may be too large to be an exact number here.
local ahead = tat - now + interval * cost
if ahead > burst then return {0, string.format('%.0f', ahead - burst), 0} end
call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.max(1, math.ceil(ahead / 1000)))
return {1, '0', math.floor((burst - ahead) / interval)}
""",
    # A sorted set with a member for each call that counts. The score is the time until which it counts, and the member
    # has its cost and a unique part. A score later than that of a call now is from before the clock was set back.
    "log": """
local now, limit, window, cost = micros(), tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local last = string.format('%.0f', now + window)
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
call('ZREMRANGEBYSCORE', KEYS[1], '(' .. last, '+inf')
local log, counted = call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), 0
for i = 1, #log, 2 do counted = counted + tonumber(string.match(log[i], '^%d+')) end
if counted + cost <= limit then
  call('ZADD', KEYS[1], last, ARGV[3] .. ':' .. ARGV[4])
  call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1)
  return {1, '0', limit - counted - cost}
end
local excess, wait = counted + cost - limit, 0
for i = 1, #log, 2 do
  excess = excess - tonumber(string.match(log[i], '^%d+'))
  wait = tonumber(log[i + 1]) - now
  if excess <= 0 then break end
end
return {0, string.format('%.0f', wait), math.max(0, limit - counted)}
""",
    "lease": """
local held = call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  -- Another program may have removed the deadline.
  local left = call('PTTL', KEYS[1])
  return left < 0 and 1000 or left
end
call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return -1
""",
    "release": END_LEASE
    + """
if call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
wake(KEYS[1])
finish(KEYS[1])
return 1
""",
}

_TRANSACTION = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function forget(id)
  local copies = redis.call('SMEMBERS', KEYS[1] .. ':' .. id)
  for i = 1, #copies, 1000 do redis.call('UNLINK', unpack(copies, i, math.min(i + 999, #copies))) end
  redis.call('DEL', KEYS[1] .. ':' .. id)
  redis.call('ZREM', KEYS[1], id)
end
"""

BEGIN_TRANSACTION = (
    _TRANSACTION
    + """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)) do forget(id) end
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], now + 60000, ARGV[1]) end
return 1
"""
)
"""Begins a transaction, and removes the copies of transactions that were not continued for a minute."""

TOUCH = (
    _TRANSACTION
    + """
local until_when = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_when or tonumber(until_when) <= now then return 0 end
redis.call('ZADD', KEYS[1], now + 60000, ARGV[1])
for i = 2, #KEYS, 2 do
  redis.call('SADD', KEYS[1] .. ':' .. ARGV[1], KEYS[i + 1])
  redis.call('UNLINK', KEYS[i + 1])
  redis.call('COPY', KEYS[i], KEYS[i + 1])
end
return 1
"""
)
"""Prolongs a transaction by a minute, and copies keys for it. Returns 0 if it had ended."""

COMMIT = (
    KIND
    + _TRANSACTION
    + """
local until_when = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_when or tonumber(until_when) <= now then return 0 end
for i = 2, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i + 1]) == 1 then
    redis.call('RENAME', KEYS[i + 1], KEYS[i])
    local kind = kind_of(KEYS[i])
    if kind == 2 or kind == 3 or kind == 7 then wake(KEYS[i]) end
  else redis.call('UNLINK', KEYS[i]) end
end
forget(ARGV[1])
return 1
"""
)
"""Renames the copies that a transaction has written to the original names. Returns 0 if it had ended."""

JOIN = (
    _TRANSACTION
    + """
for i = 2, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAME', KEYS[i], KEYS[i + 1])
  else redis.call('UNLINK', KEYS[i + 1]) end
  redis.call('SADD', KEYS[1] .. ':' .. ARGV[1], KEYS[i + 1])
end
return 1
"""
)
"""Renames the copies of an inner transaction to those of the outer one."""

FORGET = _TRANSACTION + "forget(ARGV[1]) return 1"
"""Removes all copies of a transaction."""

_TEXTS = {
    **ACTS,
    **{name: KIND + text for name, text in _OTHER.items()},
    "BEGIN": BEGIN_TRANSACTION,
    "JOIN": JOIN,
    "FORGET": FORGET,
}

_SCRIPTS = {name: Script(text, 1) for name, text in _TEXTS.items()}
for _name, _script in _SCRIPTS.items():
    register(_name, _script.hash, _script.text)
register("TOUCH", TOUCH)
register("COMMIT", COMMIT)
_BY_HASH = {script.hash: script for script in _SCRIPTS.values()}


def script(name: str, keys: Sequence[bytes], *arguments: Any) -> tuple[Any, ...]:
    """Return the command that runs a script."""
    return ("EVALSHA", _SCRIPTS[name].hash, len(keys), *keys, *arguments)


def with_text(command: Sequence[Any]) -> tuple[Any, ...]:
    """Return the same command with the script's text, for a server that does not have the script."""
    return ("EVAL", _BY_HASH[command[1]].text, *command[2:])
