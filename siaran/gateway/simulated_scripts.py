"""What the simulated network does in one atomic step, as Lua scripts for its Valkey.

Every script gets its keys from `simulated_keys` and all times, in milliseconds of the Unix epoch, from its caller. An answer
begins with a device's standing: `online`, `dropped`, `replaced`, `banned` or `logged_out`, and until when.
"""

import hashlib
from dataclasses import dataclass, field

from siaran.gateway.simulated_keys import CONTROL

FOR_EVER = 253_370_764_800_000
"""The end of a ban or drop that has none: the year 9999."""

_STANDING = """
local function standing(device, generation, now)
  local facts = redis.call('HMGET', device, 'linked', 'link_generation', 'banned_until', 'dropped_until')
  if facts[1] ~= '1' or facts[2] ~= generation then return 'logged_out', '' end
  if facts[3] and tonumber(facts[3]) > tonumber(now) then return 'banned', facts[3] end
  if facts[4] and tonumber(facts[4]) > tonumber(now) then return 'dropped', facts[4] end
  return 'online', ''
end
"""

# Notices name the connections they end, so that one that arrives late never ends a newer connection.
_END_CONNECTIONS = f"""
local function end_connections(connections, kind, device_id, until_at)
  local tokens = redis.call('SMEMBERS', connections)
  redis.call('DEL', connections)
  if #tokens > 0 then
    local notice = {{kind = kind, device = device_id, tokens = tokens, until_at = until_at}}
    redis.call('PUBLISH', '{CONTROL}', cjson.encode(notice))
  end
end
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name Valkey caches it under."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


CONNECT = Script(
    _STANDING
    + _END_CONNECTIONS
    + """
-- KEYS device, connections, inbox, config, taken; ARGV device id, token, link generation, now, 'connect' or 'resume'
-- 'resume' brings back a connection that was interrupted: it yields to a newer one instead of closing it. What it was given
-- before, and has not handled, it is given again.
local status, until_at = standing(KEYS[1], ARGV[3], ARGV[4])
if status ~= 'online' then return {status, until_at} end
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 0 then
  if redis.call('HGET', KEYS[4], 'replace_connections') ~= 'false' then
    if ARGV[5] == 'resume' and redis.call('SCARD', KEYS[2]) > 0 then return {'replaced', ''} end
    end_connections(KEYS[2], 'replaced', ARGV[1], '')
  end
  redis.call('SADD', KEYS[2], ARGV[2])
end
for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
  if redis.call('HGET', KEYS[5], field) == ARGV[2] then redis.call('HDEL', KEYS[5], field) end
end
return {'online', '', redis.call('HGETALL', KEYS[3])}
"""
)

STORE_ATTEMPT = Script(
    _STANDING
    + """
-- KEYS device, connections, store, attempts, config; ARGV token, link generation, now, key, WhatsApp id, to
local status, until_at = standing(KEYS[1], ARGV[2], ARGV[3])
if status ~= 'online' then return {status, until_at} end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return {'replaced', ''} end
redis.call('HSET', KEYS[3], ARGV[4], ARGV[5])
return {'online', '', redis.call('HINCRBY', KEYS[4], ARGV[6], 1), redis.call('HGET', KEYS[5], 'revision') or '0'}
"""
)

TRANSMIT = Script(
    _STANDING
    + """
-- KEYS device, connections, chats, inbox, transmissions, rejections
-- ARGV token, link generation, now, rejection or '', device id, to, WhatsApp id, body digest, type, key,
--      then the field and value of each inbox entry
local status, until_at = standing(KEYS[1], ARGV[2], ARGV[3])
if status ~= 'online' then return {status, until_at} end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return {'replaced', ''} end
local code = ARGV[4]
local restricted = code ~= 'not_on_whatsapp' and redis.call('HGET', KEYS[1], 'restricted') == '1'
if restricted and redis.call('SISMEMBER', KEYS[3], ARGV[6]) == 0 then code = 'restricted_463' end
if code ~= '' then
  redis.call('XADD', KEYS[6], '*', 'device', ARGV[5], 'to', ARGV[6], 'code', code, 'key', ARGV[10], 'at', ARGV[3])
  return {'online', code}
end
redis.call('XADD', KEYS[5], '*', 'device', ARGV[5], 'to', ARGV[6], 'id', ARGV[7], 'body', ARGV[8], 'type', ARGV[9],
  'key', ARGV[10], 'at', ARGV[3])
redis.call('SADD', KEYS[3], ARGV[6])
for i = 11, #ARGV, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
return {'online', ''}
"""
)

TAKE = Script("""
-- KEYS the connections, the inbox and the taken of each entry's device; ARGV the token and the field of each entry
-- Only a live connection takes an entry, once, and none that another live one has taken. It stays in the inbox until it is
-- handled: the process that took it may be killed. The answer has the values, nil for what was not taken.
local values = {}
for i = 1, #ARGV / 2 do
  local connections, inbox, taken = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local token, field = ARGV[2 * i - 1], ARGV[2 * i]
  local value = false
  if redis.call('SISMEMBER', connections, token) == 1 then
    local taker = redis.call('HGET', taken, field)
    if not taker or redis.call('SISMEMBER', connections, taker) == 0 then
      value = redis.call('HGET', inbox, field)
      if value then redis.call('HSET', taken, field, token) end
    end
  end
  values[i] = value
end
return values
""")

HANDLED = Script("""
-- KEYS the inbox and the taken of each entry's device; ARGV the field of each entry
for i = 1, #ARGV do
  redis.call('HDEL', KEYS[2 * i - 1], ARGV[i])
  redis.call('HDEL', KEYS[2 * i], ARGV[i])
end
return 'OK'
""")

RELEASE = Script("""
-- KEYS the connections of each device; ARGV the token of each
for i = 1, #KEYS do redis.call('SREM', KEYS[i], ARGV[i]) end
return 'OK'
""")

FIND_ATTEMPT = Script("""
-- KEYS store, config; ARGV key
if redis.call('HGET', KEYS[2], 'forget_attempts') == 'true' then return {'forgotten'} end
return {'kept', redis.call('HGET', KEYS[1], 'generation'), redis.call('HGET', KEYS[1], ARGV[1])}
""")

LINK = Script(
    _END_CONNECTIONS
    + """
-- KEYS device, connections, store, inbox, chats, companions, taken; ARGV device id, phone
if redis.call('HGET', KEYS[1], 'phone') ~= ARGV[2] then redis.call('DEL', KEYS[5]) end
local generation = redis.call('HINCRBY', KEYS[1], 'link_generation', 1)
local jid = ARGV[2] .. ':' .. redis.call('HINCRBY', KEYS[6], ARGV[2], 1) .. '@s.whatsapp.net'
redis.call('HSET', KEYS[1], 'linked', '1', 'phone', ARGV[2], 'jid', jid)
redis.call('HDEL', KEYS[1], 'banned_until', 'dropped_until', 'restricted')
redis.call('DEL', KEYS[3], KEYS[4], KEYS[7])
redis.call('HSET', KEYS[3], 'generation', generation)
end_connections(KEYS[2], 'logged_out', ARGV[1], '')
return {jid, generation}
"""
)

LOG_OUT = Script(
    _END_CONNECTIONS
    + """
-- KEYS device, connections, store, inbox, taken; ARGV device id
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'linked', '0')
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
end_connections(KEYS[2], 'logged_out', ARGV[1], '')
return 1
"""
)

INTERRUPT = Script(
    _END_CONNECTIONS
    + """
-- KEYS device, connections; ARGV device id, 'dropped' or 'banned', until when
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[2] .. '_until', ARGV[3])
end_connections(KEYS[2], ARGV[2], ARGV[1], ARGV[3])
return 1
"""
)

DELIVER = Script(f"""
-- KEYS device, chats, inbox; ARGV device id, phone, field, value
if redis.call('HGET', KEYS[1], 'linked') ~= '1' then return 0 end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
local notice = {{kind = 'incoming', device = ARGV[1], field = ARGV[3], value = ARGV[4]}}
redis.call('PUBLISH', '{CONTROL}', cjson.encode(notice))
return 1
""")

RESTORE = Script(f"""
-- KEYS device; ARGV device id
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[1], 'dropped_until', 'banned_until')
redis.call('PUBLISH', '{CONTROL}', cjson.encode({{kind = 'restored', device = ARGV[1]}}))
return 1
""")

RESTRICT = Script("""
-- KEYS device; ARGV '1' or '0'
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'restricted', ARGV[1])
return 1
""")

CONFIGURE = Script(f"""
-- KEYS config; ARGV fields and values
redis.call('HSET', KEYS[1], unpack(ARGV))
redis.call('PUBLISH', '{CONTROL}', cjson.encode({{kind = 'configured'}}))
return 'OK'
""")

BEGIN_LINK = Script("""
-- KEYS link, pending link of the device; ARGV prefix of links, token, device id, phone, expires at, kept for (ms)
local older = redis.call('GET', KEYS[2])
if older and redis.call('EXISTS', ARGV[1] .. older) == 1 then redis.call('HSET', ARGV[1] .. older, 'expires_at', 0) end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[6])
redis.call('HSET', KEYS[1], 'device', ARGV[3], 'phone', ARGV[4], 'expires_at', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 'OK'
""")

SCAN_LINK = Script("""
-- KEYS link; ARGV now
local facts = redis.call('HMGET', KEYS[1], 'device', 'phone', 'expires_at')
if not facts[1] then return {'unknown'} end
if tonumber(facts[3]) <= tonumber(ARGV[1]) then return {'expired'} end
redis.call('DEL', KEYS[1])
return {'scanned', facts[1], facts[2]}
""")
