-- For wrk: sends the requests that a file lists, in turn, and reports as one line of JSON.
-- Arguments: the file, and the mean pause before each request in milliseconds (0: none). A line of the file is a method,
-- a path, a tag for If-None-Match and a file with a JSON body, with tabs between; "-" stands for none.
local requests, turn, pause = {}, 0, 0

function init(args)
  math.randomseed(os.time())
  pause = tonumber(args[2])
  local key = args[3]
  for line in io.lines(args[1]) do
    local method, path, tag, body = line:match("([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)")
    local headers = {["Authorization"] = "Bearer " .. key}
    if tag ~= "-" then headers["If-None-Match"] = tag end
    local text = nil
    if body ~= "-" then
      headers["Content-Type"] = "application/json"
      text = io.open(body):read("*a")
    end
    requests[#requests + 1] = wrk.format(method, path, headers, text)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

if os.getenv("WRK_PAUSED") == "1" then
  function delay()
    return math.floor(2 * pause * math.random() + 0.5)
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('{"requests": %d, "seconds": %.4f, "failed": %d, "p50_ms": %.2f, "p99_ms": %.2f}\n',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
