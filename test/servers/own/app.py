# An application for gunicorn, waitress and uWSGI (application) and for uvicorn (asgi).
import os

answer = f"generation {os.environ['GATEWAY_GENERATION']} pid {os.getpid()}\n".encode()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer})
