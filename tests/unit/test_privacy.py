"""Nothing watches people: no data of jobs in logs, spans and figures, and no connection but to the Redis that was given."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from angelrt import Runtime, metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PROGRAM_S: Final = 30
MARKS: Final = ("argument", "result", "tenant", "limitkey", "progress", "note", "child", "refused", "wrong")
MARKED: Final = "7f3a9c"
"""Follows the name of each mark: `argument-7f3a9c` is what nobody but the actor may see."""
ERROR: Final = "errortext-7f3a9c"

APP: Final = """
import logging
import os
import sys
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from angelrt import Concurrency, Queue, RetryPolicy, Runtime, Unique

out = open(os.environ["SEEN"], "a", buffering=1)
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter(out=out))]))

rt = Runtime(tracing=True, queues=[Queue("default", weights={"tenant-7f3a9c": 2})])
AGAIN = RetryPolicy(attempts=2, base=0)


@rt.actor(limits=[Concurrency(2, per="account")])
async def works(card: str, account: str) -> str:
    rt.context.progress(0.5, "progress-7f3a9c")
    rt.context.log("note-7f3a9c")
    rt.context.send(child.message("child-7f3a9c"))
    logging.getLogger("app").warning("a line of the actor")
    return "result-7f3a9c"


@rt.actor(unique=Unique())
async def child(what: str) -> None:
    pass


@rt.thread_actor()
def in_thread(what: str) -> str:
    return "result-7f3a9c"


@rt.actor(retry=AGAIN)
async def fails(what: str) -> None:
    raise ValueError("errortext-7f3a9c")


@rt.actor(retry=AGAIN)
async def answers_wrongly(what: str) -> int:
    answer: Any = "wrong-7f3a9c"
    return answer
"""

CLIENT: Final = """
import asyncio
import contextlib
import logging

logging.basicConfig(level=logging.DEBUG)

from angelrt import AngelError, Runtime
from app import answers_wrongly, child, fails, in_thread, rt, works

plain = Runtime(tracing=True)


async def main() -> None:
    async with rt, plain:
        jobs = [
            await works.options(tenant="tenant-7f3a9c").send("argument-7f3a9c", "limitkey-7f3a9c"),
            await in_thread.send("argument-7f3a9c"),
            await fails.send("argument-7f3a9c"),
            await answers_wrongly.send("argument-7f3a9c"),
            await plain.send("child", {"what": ["argument-7f3a9c"]}),
            await plain.send("works", {"card": "argument-7f3a9c", "account": "limitkey-7f3a9c"}, tenant="tenant-7f3a9c"),
            *await rt.send_many([child.message("argument-7f3a9c"), child.message("argument-7f3a9c")]),
        ]
        with contextlib.suppress(AngelError):
            await rt.send("works", {"card": ["refused-7f3a9c"], "account": 1})
        for job in jobs:
            with contextlib.suppress(AngelError):
                await job.result(20)
            print(job.id, (await job.info()).payload)


asyncio.run(main())
"""


@pytest.fixture
async def rt(server_url: str, namespace: str) -> AsyncIterator[Runtime[Any]]:
    """An open runtime, whose namespace is removed afterwards."""
    async with Runtime(server_url, namespace=namespace) as runtime:
        yield runtime
        store = runtime.client().store
        await store.command("UNLINK", *store.keys.every(await store.queues()))


def said_by_a_worker_and_a_client(folder: Path, environment: dict[str, str]) -> tuple[str, str, str]:
    """Run both, with logs as talkative as they are; return the worker's log, the client's, and what the client prints."""
    command = [sys.executable, "-m", "angelrt", "worker", "app:rt", "--log-level", "debug", "--log-format", "json"]
    worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        client = subprocess.run(
            [sys.executable, "client.py"], cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=PROGRAM_S
        )
        assert client.returncode == 0, client.stderr
        worker.send_signal(signal.SIGTERM)
        log, _ = worker.communicate(timeout=PROGRAM_S)
    finally:
        worker.kill()
        worker.wait()
    return log, client.stderr, client.stdout


async def test_no_data_of_jobs_is_in_logs_spans_and_figures(rt: Runtime[Any], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    (tmp_path / "client.py").write_text(CLIENT, encoding="utf-8")
    environment = {**os.environ, "ANGELRT_URL": rt.url or "", "ANGELRT_NAMESPACE": rt.keys.namespace, "SEEN": str(tmp_path / "seen")}
    log, client_log, printed = await asyncio.to_thread(said_by_a_worker_and_a_client, tmp_path, environment)
    assert printed.count(f"argument-{MARKED}") == 8, "the marks are in the jobs"
    store = rt.client().store
    told = {
        "spans and measurements": (tmp_path / "seen").read_text(encoding="utf-8"),
        "Prometheus": (await metrics.text(rt)).decode(),
        "stats": str((await rt.stats()).summary()),
        "workers": str(await rt.workers()),
        "events": str(await store.command("XRANGE", store.keys.key("events"), "-", "+")),
        "log of the client": client_log,
        "log of the worker": log,
    }
    assert {where: [mark for mark in MARKS if f"{mark}-{MARKED}" in text] for where, text in told.items()} == {where: [] for where in told}
    for name in ("send default", "wait default", "run default", "messaging.process.duration"):
        assert name in told["spans and measurements"]
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["actor"] for line in lines if line["message"] == "a line of the actor"] == ["works", "works"]
    only_place = [line["message"].partition(" job ")[0] for line in lines if ERROR in line["message"]]
    assert only_place == ["fails:", "fails:"], "the text of an error stands in the one line that says that a run failed, once for each run"
    assert [where for where, text in told.items() if ERROR in text] == ["log of the worker"]


WATCHED: Final = """
import asyncio
import json
import sys

seen = []


def watch(event, arguments):
    if event == "socket.connect":
        seen.append([event, arguments[1] if isinstance(arguments[1], str) else list(arguments[1])])
    elif event.startswith(("socket.getaddrinfo", "socket.gethostby", "socket.send", "socket.bind", "urllib.", "http.")):
        seen.append([event, str(arguments)])


sys.addaudithook(watch)

from angelrt import Runtime, metrics
from angelrt.tracing import Tracing
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

tracing = Tracing(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
rt = Runtime(sys.argv[1], namespace=sys.argv[2], tracing=tracing)


@rt.actor()
async def works(what: str) -> str:
    return what


async def main() -> None:
    async with rt, rt.worker():
        job = await works.send("x")
        await job.result(20)
        await rt.explain(job.id)
        await rt.stats()
        await rt.workers()
        await metrics.text(rt)


asyncio.run(main())
print(json.dumps(seen))
"""


async def test_nothing_but_the_given_redis_is_connected_to(rt: Runtime[Any]) -> None:
    command = [sys.executable, "-c", WATCHED, rt.url or "", rt.keys.namespace]
    answer = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True, timeout=PROGRAM_S)
    seen = json.loads(answer.stdout)
    path = (rt.url or "").removeprefix("unix://")
    assert len(seen) >= 4, "the client, its subscription, the claims and the leases of the worker"
    assert [found for found in seen if found != ["socket.connect", path]] == []
