import os

from aiohttp import web


async def answer(request):
    return web.Response(text=f"generation {os.environ['GATEWAY_GENERATION']} pid {os.getpid()}\n")


application = web.Application()
application.router.add_get("/", answer)
web.run_app(application, host="127.0.0.1", port=int(os.environ["PORT"]))
