"""Operations on the container of one key, as Lua scripts for Valkey and Redis. `_redis.py` has the form of the keys.

`ARGV` begins with the change of the deadline, its milliseconds, and the kind that is wanted. A script answers
`{1, ...}`, or `{0, kind}` where the key holds something of another kind.
"""

from __future__ import annotations

KIND = """
local call = redis.call
local QUEUE = '\\255K3'
-- The number of what a key holds, and whether it is a container without elements, which is a text of three bytes.
local function kind_of(key)
  local t = call('TYPE', key).ok
  if t == 'string' then
    local head = call('GETRANGE', key, 0, 2)
    if #head < 3 or string.sub(head, 1, 2) ~= '\\255K' then return 1, false end
    local kind = string.byte(head, 3) - 48
    -- Other programs may have stored such bytes.
    if kind < 2 or kind > 9 then return 1, false end
    return kind, kind < 8
  end
  if t == 'none' then return 0, false end
  if t == 'list' then
    if call('LINDEX', key, 0) == QUEUE then return 3, false end
    return 2, false
  end
  if t == 'hash' then return 4, false end
  if t == 'set' then return 5, false end
  if t == 'zset' then return 6, false end
  return 7, false
end
-- Tells those who wait for an element of a key, or for a lease. Nobody waits for a transaction's copy.
local function wake(name)
  local base = string.match(name, '^sessions:[^:#]*')
  if base and string.sub(name, #base + 1, #base + 6) ~= '#copy:' then
    redis.pcall('PUBLISH', base .. '#wakes', name)
  end
end
local function micros()
  local t = call('TIME')
  return t[1] * 1000000 + t[2]
end
-- A command with any number of arguments from a table, so many at a time. The sum of its answers.
local function many(command, key, from, first, step)
  local sum = 0
  for i = first, #from, step do sum = sum + call(command, key, unpack(from, i, math.min(i + step - 1, #from))) end
  return sum
end
"""

# Fast paths for the most frequent case: a non-empty list or queue whose deadline stays. The general code comes later.
_QUICK = {
    "push": """
if ARGV[1] == 'keep' and ARGV[4] ~= '1' and ARGV[5] == '' and #ARGV < 1000 then
  local first = redis.pcall('LINDEX', KEYS[1], 0)
  if type(first) == 'string' and (first == '\\255K3') == (ARGV[3] == '3') then
    local heads = ARGV[3] == '3' and 2 or 0
    if heads == 0 or redis.call('LLEN', KEYS[1]) > heads then
      return {1, redis.call('RPUSH', KEYS[1], unpack(ARGV, 6)) - heads}
    end
  end
end
""",
    "pop": """
if ARGV[1] == 'keep' and ARGV[3] == '2' then
  local first = redis.pcall('LINDEX', KEYS[1], 0)
  if type(first) == 'string' and first ~= '\\255K3' and redis.call('LLEN', KEYS[1]) > tonumber(ARGV[5]) then
    return {1, redis.call(ARGV[4] == '1' and 'LPOP' or 'RPOP', KEYS[1], ARGV[5])}
  end
end
""",
}

_BEGIN = (
    KIND
    + """
local K, WANT = KEYS[1], tonumber(ARGV[3])
local have, empty = kind_of(K)
if have ~= 0 and have ~= WANT then return {0, have} end
local heads = WANT == 3 and 2 or 0
local function length()
  if have == 0 or empty then return 0 end
  return call('LLEN', K) - heads
end
local function bounds(start, stop, len)
  if start < 0 then start = start + len end
  if stop < 0 then stop = stop + len end
  local first = math.min(math.max(start, 0), len)
  return first, math.max(first, math.min(math.max(stop + 1, 0), len))
end
"""
)

_WRITE = (
    _BEGIN
    + """
local ttl = call('PTTL', K)
if empty then call('DEL', K) end
local state = ''
local function heads_off()
  if heads == 0 then return end
  local two = call('LPOP', K, 2)
  if two then state = two[2] end
end
local function heads_on()
  if heads == 2 then call('LPUSH', K, state, QUEUE) end
end
-- The last job's number, and the jobs that are reserved: number, until when, cell.
local function unpacked()
  if state == '' then return {0, {}} end
  return cmsgpack.unpack(state)
end
-- Puts jobs back whose time is over, in their order, before those that wait. The heads are off.
local function reclaim()
  if state == '' then return end
  local jobs, now, kept, over = unpacked(), micros(), {}, {}
  for _, job in ipairs(jobs[2]) do
    if job[2] <= now then over[#over + 1] = job[3] else kept[#kept + 1] = job end
  end
  if #over == 0 then return end
  for i = #over, 1, -1 do call('LPUSH', K, over[i]) end
  state = cmsgpack.pack({jobs[1], kept})
end
-- What a write leaves: the text that stands for no elements, and the deadline.
local function finish(answer, creates)
  if call('EXISTS', K) == 0 then
    if have == 0 and not creates then return {1, answer} end
    call('SET', K, '\\255K' .. WANT)
  end
  if ARGV[1] == 'after' or (ARGV[1] == 'new' and have == 0) then call('PEXPIRE', K, ARGV[2])
  elseif ARGV[1] == 'never' then call('PERSIST', K)
  elseif ttl > 0 and call('PTTL', K) < 0 then call('PEXPIRE', K, ttl) end
  return {1, answer}
end
"""
)

_READ = {
    "len": """
if have == 0 or empty then return {1, 0} end
if WANT == 4 then return {1, call('HLEN', K)} end
if WANT == 5 then return {1, call('SCARD', K)} end
if WANT == 6 then return {1, call('ZCARD', K)} end
if WANT == 7 then return {1, call('XLEN', K)} end
if WANT == 8 then return {1, tonumber(call('GETRANGE', K, 27, 47)) or 0} end
if WANT == 9 then return {1, call('BITCOUNT', K, 3, -1)} end
return {1, length()}
""",
    "at": """
local len, i = length(), tonumber(ARGV[4])
if i < 0 then i = i + len end
if i < 0 or i >= len then return {1, false} end
return {1, call('LINDEX', K, i + heads)}
""",
    "range": """
local first, stop = bounds(tonumber(ARGV[4]), tonumber(ARGV[5]), length())
if first == stop then return {1, {}} end
return {1, call('LRANGE', K, first + heads, stop - 1 + heads)}
""",
    "index": """
if length() == 0 then return {1, false} end
for _, i in ipairs(call('LPOS', K, ARGV[4], 'COUNT', heads + 1)) do
  if i >= heads then return {1, i - heads} end
end
return {1, false}
""",
    "list_page": """
local first = tonumber(ARGV[4])
local stop = math.min(first + tonumber(ARGV[5]), length())
if first >= stop then return {1, {}} end
return {1, call('LRANGE', K, first + heads, stop - 1 + heads)}
""",
    "map_get": """
local found = {}
for i = 4, #ARGV do found[i - 3] = have ~= 0 and not empty and call('HGET', K, ARGV[i]) end
return {1, found}
""",
    "map_page": """
if have == 0 or empty then return {1, {'0', {}}} end
if ARGV[4] == '' then return {1, {'0', call('HGETALL', K)}} end
return {1, call('HSCAN', K, ARGV[4], 'COUNT', ARGV[5])}
""",
    "set_has": """
local found = {}
for i = 4, #ARGV do found[i - 3] = (have ~= 0 and not empty) and call('SISMEMBER', K, ARGV[i]) or 0 end
return {1, found}
""",
    "set_page": """
if have == 0 or empty then return {1, {'0', {}}} end
if ARGV[4] == '' then return {1, {'0', call('SMEMBERS', K)}} end
return {1, call('SSCAN', K, ARGV[4], 'COUNT', ARGV[5])}
""",
    "sorted_scores": """
local found = {}
for i = 4, #ARGV do found[i - 3] = have ~= 0 and not empty and call('ZSCORE', K, ARGV[i]) end
return {1, found}
""",
    "sorted_rank": """
if have == 0 or empty then return {1, false} end
return {1, call(ARGV[5] == '1' and 'ZREVRANK' or 'ZRANK', K, ARGV[4])}
""",
    "sorted_range": """
if have == 0 or empty then return {1, {}} end
return {1, call(ARGV[6] == '1' and 'ZREVRANGE' or 'ZRANGE', K, ARGV[4], ARGV[5], 'WITHSCORES')}
""",
    "sorted_by_score": """
if have == 0 or empty then return {1, {}} end
local low, high = ARGV[4], ARGV[5]
if ARGV[7] == '1' then return {1, call('ZREVRANGEBYSCORE', K, high, low, 'WITHSCORES', 'LIMIT', 0, ARGV[6])} end
return {1, call('ZRANGEBYSCORE', K, low, high, 'WITHSCORES', 'LIMIT', 0, ARGV[6])}
""",
    # The rank after a member that may have been removed. Inserting the member for a moment finds it.
    "sorted_page": """
if have == 0 or empty then return {1, {}} end
local first = 0
if ARGV[5] ~= '' then
  local score = call('ZSCORE', K, ARGV[6])
  call('ZADD', K, ARGV[5], ARGV[6])
  first = call('ZRANK', K, ARGV[6]) + (score and tonumber(score) <= tonumber(ARGV[5]) and 1 or 0)
  if score then call('ZADD', K, score, ARGV[6]) else call('ZREM', K, ARGV[6]) end
end
return {1, call('ZRANGE', K, first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')}
""",
    "stream_range": """
-- For none the server answers null.
if have == 0 or ARGV[6] == '0' then return {1, {}} end
return {1, call('XRANGE', K, ARGV[4], ARGV[5], 'COUNT', ARGV[6])}
""",
    "bits_get": "return {1, have == 0 and 0 or call('GETBIT', K, ARGV[4])}",
    "bits_count": "return {1, have == 0 and 0 or call('BITCOUNT', K, 3, -1)}",
    "bloom_has": """
if have ~= 0 and call('GETRANGE', K, 3, 26) ~= ARGV[4] then return {4} end
local found, hashes = {}, tonumber(ARGV[5])
for i = 6, #ARGV, hashes do
  local all = have ~= 0
  for j = i, i + hashes - 1 do all = all and call('GETBIT', K, ARGV[j]) == 1 end
  found[#found + 1] = all and 1 or 0
end
return {1, found}
""",
}

_CHANGE = {
    "push": """
local left, most = ARGV[4] == '1', ARGV[5]
if length() == 0 then wake(K) end
if heads == 2 and have == 0 then call('RPUSH', K, QUEUE, '') end
if left or most ~= '' then heads_off() end
for i = 6, #ARGV, 1000 do call(left and 'LPUSH' or 'RPUSH', K, unpack(ARGV, i, math.min(i + 999, #ARGV))) end
if most ~= '' then
  -- Larger numbers are no exact ones here, and the server would refuse their texts.
  local n = math.min(tonumber(most), call('LLEN', K))
  if n == 0 then call('DEL', K) elseif left then call('LTRIM', K, 0, n - 1) else call('LTRIM', K, -n, -1) end
end
if left or most ~= '' then heads_on() end
return finish(math.max(call('LLEN', K) - heads, 0), true)
""",
    "pop": """
local cells = {}
if have ~= 0 then
  heads_off()
  reclaim()
  local n = math.min(tonumber(ARGV[5]), call('LLEN', K))
  if n > 0 then cells = call(ARGV[4] == '1' and 'LPOP' or 'RPOP', K, n) end
  heads_on()
end
return finish(cells, false)
""",
    "put": """
local len, i = empty and 0 or (have ~= 0 and call('LLEN', K) - heads or 0), tonumber(ARGV[4])
if i < 0 then i = i + len end
if i < 0 or i >= len then
  finish(0, false)
  return {2}
end
call('LSET', K, i + heads, ARGV[5])
return finish(1, false)
""",
    "trim": """
if have == 0 then return {1, 0} end
heads_off()
local first, stop = bounds(tonumber(ARGV[4]), tonumber(ARGV[5]), call('LLEN', K))
if first == stop then call('DEL', K) else call('LTRIM', K, first, stop - 1) end
heads_on()
return finish(stop - first, false)
""",
    "remove": """
if have == 0 then return {1, 0} end
heads_off()
local removed = call('LREM', K, ARGV[5], ARGV[4])
heads_on()
return finish(removed, false)
""",
    "insert": """
if heads == 2 and have == 0 then call('RPUSH', K, QUEUE, '') end
heads_off()
local len = call('LLEN', K)
if len == 0 then wake(K) end
local first = bounds(tonumber(ARGV[4]), -1, len)
local later = first < len and call('LRANGE', K, first, -1) or {}
if first == 0 then call('DEL', K) elseif first < len then call('LTRIM', K, 0, first - 1) end
call('RPUSH', K, ARGV[5])
many('RPUSH', K, later, 1, 1000)
heads_on()
return finish(len + 1, true)
""",
    "reserve": """
if have == 0 then return {1, false} end
heads_off()
reclaim()
local cell = call('LPOP', K)
if not cell then
  heads_on()
  return finish(false, false)
end
local jobs = unpacked()
-- A worker may still hold a job of a removed queue. It must not end a job of the new queue under that key.
jobs[1] = math.max(jobs[1] + 1, micros())
-- The year 2255 stands for never: later moments are no exact numbers here.
jobs[2][#jobs[2] + 1] = {jobs[1], math.min(micros() + tonumber(ARGV[4]), 9000000000000000), cell}
state = cmsgpack.pack(jobs)
heads_on()
return finish({jobs[1], cell}, false)
""",
    "end_job": """
if have == 0 then return {1, 0} end
heads_off()
reclaim()
local jobs, found = unpacked(), 0
for i, job in ipairs(jobs[2]) do
  if job[1] == tonumber(ARGV[4]) then
    found = 1
    table.remove(jobs[2], i)
    state = cmsgpack.pack(jobs)
    if ARGV[5] == '1' then
      if call('LPUSH', K, job[3]) == 1 then wake(K) end
    end
    break
  end
end
heads_on()
return finish(found, false)
""",
    "map_set": """
return finish(many('HSET', K, ARGV, 4, 1000), true)
""",
    "map_default": """
call('HSETNX', K, ARGV[4], ARGV[5])
return finish(call('HGET', K, ARGV[4]), true)
""",
    # The script adds ints. The client adds floats, and stores the sum if the cell has not changed meanwhile.
    "map_incr": """
local old = have ~= 0 and call('HGET', K, ARGV[4])
if ARGV[6] ~= '' then
  if (old or '') ~= ARGV[7] or (not old) ~= (ARGV[8] == '1') then
    if have == 0 or empty then finish(0, false) end
    return {1, {5, old}}
  end
  call('HSET', K, ARGV[4], ARGV[6])
  return finish({1, ARGV[6]}, true)
end
if ARGV[5] == '' then
  if have == 0 or empty then finish(0, false) end
  return {1, {5, old}}
end
local added = redis.pcall('HINCRBY', K, ARGV[4], ARGV[5])
if type(added) == 'table' then
  if have == 0 or empty then finish(0, false) end
  return {1, {5, old}}
end
return finish({1, call('HGET', K, ARGV[4])}, true)
""",
    "map_delete": "return finish(many('HDEL', K, ARGV, 4, 1000), false)",
    "set_add": "return finish(many('SADD', K, ARGV, 4, 1000), true)",
    "set_discard": "return finish(many('SREM', K, ARGV, 4, 1000), false)",
    "set_pop": """
local found = {}
if have ~= 0 and ARGV[4] ~= '0' then found = call('SPOP', K, ARGV[4]) end
return finish(found, false)
""",
    "sorted_add": """
local added, option = 0, ARGV[4]
for i = 5, #ARGV, 1000 do
  if option == '' then added = added + call('ZADD', K, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  else added = added + call('ZADD', K, option, unpack(ARGV, i, math.min(i + 999, #ARGV))) end
end
return finish(added, true)
""",
    "sorted_incr": """
local score = redis.pcall('ZINCRBY', K, ARGV[5], ARGV[4])
if type(score) == 'table' then
  finish(0, false)
  return {3}
end
return finish(score, true)
""",
    "sorted_remove": "return finish(many('ZREM', K, ARGV, 4, 1000), false)",
    "sorted_pop": """
local found = {}
if have ~= 0 then found = call(ARGV[5] == '1' and 'ZPOPMAX' or 'ZPOPMIN', K, ARGV[4]) end
return finish(found, false)
""",
    "stream_add": """
wake(K)
if ARGV[5] == '' then return finish(call('XADD', K, '*', 'v', ARGV[4]), true) end
return finish(call('XADD', K, 'MAXLEN', ARGV[5], '*', 'v', ARGV[4]), true)
""",
    "stream_trim": """
if have == 0 then return {1, 0} end
return finish(call('XTRIM', K, 'MAXLEN', ARGV[4]), false)
""",
    "bits_set": """
if have == 0 then call('SET', K, '\\255K9') end
return finish(call('SETBIT', K, ARGV[4], ARGV[5]), true)
""",
    "bits_toggle": """
if have == 0 then call('SET', K, '\\255K9') end
local bit = 1 - call('GETBIT', K, ARGV[4])
call('SETBIT', K, ARGV[4], bit)
return finish(bit, true)
""",
    "bloom_add": """
if have == 0 then call('SET', K, '\\255K8' .. ARGV[4] .. string.rep('0', 21))
elseif call('GETRANGE', K, 3, 26) ~= ARGV[4] then return {4} end
local added, hashes = 0, tonumber(ARGV[5])
for i = 6, #ARGV, hashes do
  local is_new = false
  for j = i, i + hashes - 1 do
    if call('SETBIT', K, ARGV[j], 1) == 0 then is_new = true end
  end
  if is_new then added = added + 1 end
end
call('SETRANGE', K, 27, string.format('%021d', (tonumber(call('GETRANGE', K, 27, 47)) or 0) + added))
return finish(added, true)
""",
}

ACTS = {
    **{name: _BEGIN + text for name, text in _READ.items()},
    **{name: _QUICK.get(name, "") + _WRITE + text for name, text in _CHANGE.items()},
}
"""The scripts by the names of their acts."""
