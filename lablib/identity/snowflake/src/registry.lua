-- What every script begins with. Times are milliseconds since 1970.
-- KEYS[1]: the registry's record. KEYS[2]: worker -> the first timestamp that is not leased. KEYS[3]: worker -> its holder.
-- KEYS[4]: who gave a lease back lately, the last one first.
local record, untils, holders, given = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, length, skew = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local workers, agreement, trusted = tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1'
local function text(number) return string.format('%.0f', number) end

-- A clock that is far off would lease a time that others have yet to live through.
local time = redis.call('TIME')
local here = time[1] * 1000 + math.floor(time[2] / 1000)
if math.abs(now - here) > skew then return {'skewed', text(now - here)} end

-- Do we remember every lease that was ever granted? Not after losing the record, and not, unless the disk is trusted, after
-- a restart, which may have lost the last writes, or after having been somebody's replica, which took over what that one
-- knew: the first changes the run's number, the second that of the data's history. (So does the first replica that comes,
-- which costs a wait.) Then nobody gets anything before all that may have been granted is over: no lease goes further than
-- its length beyond its holder's clock, that clock was at most one skew ahead of ours, ours was at most one ahead of the
-- true time, and is at most one behind it now.
local known = redis.call('HMGET', record, 'agreement', 'run', 'opens', 'used')
if known[1] and known[1] ~= agreement then return {'disagrees', known[1]} end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. '/' ..
  string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local used = tonumber(known[4] or '')
local remembers = known[1] and used and redis.call('ZCARD', untils) == used and (known[2] == run or trusted)
if not remembers then
  redis.call('DEL', untils, holders)
  known[3], used = text(here + length + 3 * skew), 0
  redis.call('HSET', record, 'agreement', agreement, 'opens', known[3], 'used', 0)
end
if known[2] ~= run then redis.call('HSET', record, 'run', run) end
local opens = tonumber(known[3])

-- A registry that nobody has used for a day may be forgotten: that is safe, by the rule above.
local function keep()
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, text(86400000 + 2 * length + 3 * skew)) end
end
keep()
