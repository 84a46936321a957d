-- wrk: heartbeats of many nodes in turn. Arguments: a file with one node token a line, the body, a pause in
-- milliseconds before each request of a connection (0: none).
local requests, at, pause = {}, 0, 0

function init(arguments)
    for token in io.lines(arguments[1]) do
        requests[#requests + 1] = wrk.format("POST", nil, {["Authorization"] = "Bearer " .. token, ["Host"] = wrk.host,
            ["Content-Type"] = "application/json"}, arguments[2])
    end
    pause = tonumber(arguments[3]) or 0
    if pause > 0 then
        delay = function() return math.floor(pause * (0.9 + 0.2 * math.random())) end
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
