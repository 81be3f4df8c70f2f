# An application for gunicorn (wsgi) and for uvicorn (asgi). A request takes a moment, so that some are under way at a restart.
import asyncio
import os
import time

answer = f"generation {os.environ['GATEWAY_GENERATION']}\n".encode()


def wsgi(environ, start_response):
    time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer})
