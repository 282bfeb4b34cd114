"""Waiting for the Lease: alive for the kubelet, and gone as soon as the process is told to end.

kopf answers the probes of an operator that works, and takes its signals. One that waits has no kopf yet: the kubelet would
restart it for its silence, and the first process of a container does not even hear a SIGTERM that nothing handles.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

SAID = "waits for the Lease"
CLOSING_SECONDS = 1.0  # for a probe in progress: its port is kopf's next


async def waited_for(acquired: Coroutine[Any, Any, None], liveness: tuple[str, int] | None) -> bool:
    """Whether `acquired` came to its end; False where SIGTERM was first. Raises what it raises.

    `liveness` is the address at which /healthz answers meanwhile.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    leads, ends = asyncio.create_task(acquired), asyncio.create_task(told.wait())
    try:
        async with _alive(liveness):
            await asyncio.wait([leads, ends], return_when=asyncio.FIRST_COMPLETED)
        if leads.done():
            leads.result()
        return leads.done() and not told.is_set()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        for task in (leads, ends):
            task.cancel()
        await asyncio.gather(leads, ends, return_exceptions=True)


@asynccontextmanager
async def _alive(address: tuple[str, int] | None) -> AsyncIterator[None]:
    """Answers /healthz while the context lasts."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=SAID)

    if address is None:
        yield
        return
    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSING_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address).start()
        yield
    finally:
        await runner.cleanup()
