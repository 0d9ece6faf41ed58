"""The Lua that Redis runs for us, each script one atomic step on the keys of one namespace.

Keys, in this order: the namespace's generation, its index (a sorted set of the original keys by the
server's millisecond at which they expire), its graves (a list of indexes that were cleared and whose
records still take memory). Whoever writes buries: a write also drops a few index entries that expired.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from beaker.keys import namespace_digest

__all__ = ["BURY", "CLEAR", "DELETE", "HEADER", "HEADS", "WRITE", "Shard", "sha", "shard_of"]


@dataclass(frozen=True)
class Shard:
    """The names of what the records of a namespace share, or of one of several parts of it."""

    base: str
    generation: str
    index: str
    graves: str

    def grave(self, name: str) -> str:
        """An index that was cleared."""
        return f"{self.base}:d:{name}"


@functools.lru_cache(maxsize=1024)
def shard_of(prefix: str, namespace: str, part: str = "") -> Shard:
    """The braces keep all keys of a shard on one slot of a cluster. Few namespaces are in use at a time."""
    base = f"{prefix}:{{{namespace_digest(namespace)[:40]}{part}}}"
    return Shard(base, f"{base}:g", f"{base}:i", f"{base}:x")


@functools.cache
def sha(source: str) -> str:
    """The name under which Redis keeps a script it has seen."""
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


HEADER = 16 + 16 + 8
"""Bytes before the data: generation, version, and the expiry as a big-endian double."""

_TRIM = """
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
"""

WRITE = (
    _TRIM
    + """
-- KEYS: generation, index, graves, grave, record...
-- ARGV: mode, client's time, expected version, new generation, ttl in ms or '', then member and record's tail for each
local mode, count = ARGV[1], #KEYS - 4
local generation = redis.call('GET', KEYS[1])
if mode ~= 'set' then
  local head = redis.call('GETRANGE', KEYS[5], 0, 39)
  local live = generation and #head == 40 and string.sub(head, 1, 16) == generation
    and struct.unpack('>d', string.sub(head, 33, 40)) > tonumber(ARGV[2])
  if mode == 'add' then
    if live then return 0 end
  elseif not live or string.sub(head, 17, 32) ~= ARGV[3] then
    return 0
  end
end
if mode == 'remove' then
  redis.call('UNLINK', KEYS[5])
  redis.call('ZREM', KEYS[2], ARGV[6])
  return 1
end
if not generation then
  generation = ARGV[4]
  redis.call('SET', KEYS[1], generation)
  if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('RENAME', KEYS[2], KEYS[4])
    redis.call('RPUSH', KEYS[3], generation)
  end
end
local now = now_ms()
local score = '+inf'
if ARGV[5] ~= '' then score = string.format('%.0f', now + tonumber(ARGV[5])) end
for i = 1, count do
  local record = generation .. ARGV[5 + 2 * i]
  if ARGV[5] == '' then
    redis.call('SET', KEYS[4 + i], record)
  else
    redis.call('SET', KEYS[4 + i], record, 'PX', ARGV[5])
  end
  redis.call('ZADD', KEYS[2], score, ARGV[4 + 2 * i])
end
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - 1), 'LIMIT', 0, 2 * count + 2)
if #gone > 0 then redis.call('ZREM', KEYS[2], unpack(gone)) end
return 1 + redis.call('EXISTS', KEYS[3])
"""
)
"""0: refused. 1: done. 2: done, and there are graves."""

DELETE = """
-- KEYS: index, record...  ARGV: member...
for i = 1, #ARGV do
  redis.call('UNLINK', KEYS[1 + i])
  redis.call('ZREM', KEYS[1], ARGV[i])
end
return 1
"""

CLEAR = """
-- KEYS: generation, index, graves, grave  ARGV: the grave's name
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('RENAME', KEYS[2], KEYS[4])
  redis.call('RPUSH', KEYS[3], ARGV[1])
end
return redis.call('EXISTS', KEYS[3])
"""

BURY = """
-- KEYS: generation, graves, grave, record...  ARGV: the grave's name, member...
-- A key that was written again since belongs to the namespace's new generation, and stays.
local generation = redis.call('GET', KEYS[1])
for i = 1, #KEYS - 3 do
  if redis.call('GETRANGE', KEYS[3 + i], 0, 15) ~= generation then
    redis.call('UNLINK', KEYS[3 + i])
  end
  redis.call('ZREM', KEYS[3], ARGV[1 + i])
end
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('LREM', KEYS[2], 0, ARGV[1]) end
return redis.call('EXISTS', KEYS[2])
"""
"""1 while there are graves."""

HEADS = """
-- KEYS: generation, record...
local heads = {redis.call('GET', KEYS[1])}
for i = 2, #KEYS do heads[i] = redis.call('GETRANGE', KEYS[i], 0, 39) end
return heads
"""
