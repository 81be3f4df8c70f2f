# A server without a host: asyncio opens a socket for each family, in any order.
import asyncio


async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(answer, None, 18789)
    await server.serve_forever()


asyncio.run(main())
