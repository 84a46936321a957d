-- wrk: one request again and again, a POST of the body given, else a GET. Arguments: token ("" for none), body.
function init(arguments)
    if arguments[1] ~= "" then
        wrk.headers["Authorization"] = "Bearer " .. arguments[1]
    end
    if arguments[2] ~= nil then
        wrk.method = "POST"
        wrk.headers["Content-Type"] = "application/json"
        wrk.body = arguments[2]
    end
end
