-- wrk: heartbeats of many nodes in turn. Arguments: a file with one node token a line, the body.
local requests, at = {}, 0

function init(arguments)
    local number = 0
    for token in io.lines(arguments[1]) do
        number = number + 1
        requests[number] = wrk.format("POST", nil, {["Authorization"] = "Bearer " .. token, ["Host"] = wrk.host,
            ["Content-Type"] = "application/json"}, arguments[2])
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
