"""An app that needs no agent: answers with its name. Usage: stub_app.py NAME PORT

/slow?MS waits first, /fail is a 500, /headers shows what came, /count how many requests there were.
An upgrade to "websocket" is taken, and then every byte comes back.
"""

import asyncio
import base64
import hashlib
import re
import sys

NAME, PORT = sys.argv[1], int(sys.argv[2])
COUNT = 0
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def answer(path, head, writer):
    global COUNT
    COUNT += 1
    status, body = "200 OK", f"{NAME}\n"
    if path.startswith("/slow?"):
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(int(path[6:]) / 1000, done.set_result, None)
        await done
    elif path == "/fail":
        status = "500 Internal Server Error"
    elif path == "/headers":
        body = head
    elif path == "/count":
        body = f"{COUNT}\n"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    await writer.drain()


async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if "upgrade: websocket" in head.lower():
                key = re.search(r"(?i)sec-websocket-key: *(\S+)", head)[1] + GUID
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
                while data := await reader.read(65536):
                    writer.write(data)
                return
            length = [line.split(":")[1] for line in head.lower().split("\r\n")
                      if line.startswith("content-length:")]
            if length:
                await reader.readexactly(int(length[0]))
            await answer(head.split()[1], head, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, backlog=4096)
    async with server:
        await server.serve_forever()


asyncio.run(main())
