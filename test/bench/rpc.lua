-- wrk: POST one body to the URL's path. Arguments: token ("" for none), body.
function init(arguments)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    if arguments[1] ~= "" then
        wrk.headers["Authorization"] = "Bearer " .. arguments[1]
    end
    wrk.body = arguments[2]
end
