"""A dead worker is noticed by its closed connection; one whose server was away, or which connects anew, is not taken for dead."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from angelrt.worker import deaths
from angelrt.worker.deaths import DeathsLoop
from tests.worker.waiting import until_true

if TYPE_CHECKING:
    from angelrt import Runtime
    from angelrt.store import Store
    from tests.worker.conftest import NewRuntime

QUEUE = "default"
LEASE_MS = 15_000
NO_SUCH_CLIENT = 2**53 - 1


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks of a test count at once, as if they had gone on for a while."""
    monkeypatch.setattr(deaths, "TRUST_S", 0.0)


async def idle() -> None:
    """An actor that is never called: a worker needs one."""


async def run_id(store: Store) -> str:
    """Ask the server which one it is."""
    lines = (await store.command("INFO", "server")).decode().splitlines()
    return next(line.removeprefix("run_id:") for line in lines if line.startswith("run_id:"))


async def register(rt: Runtime[Any], store: Store, *, silent_ms: int = 2_000, server: str = "", client: int | None = None) -> str:
    """Enter a worker that has not beaten for a while, and return its name."""
    if not rt.registered:
        rt.actor()(idle)
    worker = rt.new_worker()
    server = server or await run_id(store)
    await store.beat(worker.id, worker.info(server=server, client=client), [QUEUE])
    await store.command("ZINCRBY", store.keys.key("beats"), -silent_ms, worker.id)
    return worker.id


async def registered(store: Store) -> dict[str, dict[str, Any]]:
    """Return the register."""
    flat = await store.command("HGETALL", store.keys.key("workers"))
    return {name.decode(): orjson.loads(info) for name, info in zip(flat[::2], flat[1::2], strict=True)}


@pytest.mark.usefixtures("trusting")
async def test_a_silent_worker_whose_connection_is_gone_is_struck_off(
    rt: Runtime[Any], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    dead = await register(rt, store, client=NO_SUCH_CLIENT)
    loop = DeathsLoop(store, "watcher", LEASE_MS)
    assert await loop.look() == 1
    assert await registered(store) == {}
    assert f"worker {dead} is struck off, since its connection is closed: 0 jobs taken back" in caplog.text
    assert await loop.look() == 0


@pytest.mark.parametrize(
    ("ago_ms", "pause_s"),
    [
        ({}, 0.5),
        ({"watcher": 900}, 0.5),
        ({"a": 400}, 0.5),
        ({"a": 700}, 0.3),
        ({"watcher": 900, "a": 800, "b": 700}, 0.2),
        ({"silent": 2_000, "a": 750}, 0.25),
        ({"ahead": -2_000}, 0.5),
    ],
)
async def test_the_next_look_comes_when_somebody_could_be_silent(store: Store, ago_ms: dict[str, int], pause_s: float) -> None:
    now_ms, beats = 1_767_355_200_000.0, store.keys.key("beats")
    store.clock = lambda: now_ms
    for name, ms in ago_ms.items():
        await store.command("ZADD", beats, now_ms - ms, name)
    loop = DeathsLoop(store, "watcher", LEASE_MS)
    assert await loop.look() == 0
    assert loop.pause_s == pytest.approx(pause_s)
    await store.command("DEL", beats)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("why", ["beats", "open", "other server", "unknown", "itself"])
async def test_no_other_worker_is_taken_for_dead(rt: Runtime[Any], store: Store, why: str) -> None:
    client = {"open": await store.command("CLIENT", "ID"), "unknown": None}.get(why, NO_SUCH_CLIENT)
    server = secrets.token_hex(20) if why == "other server" else ""
    worker = await register(rt, store, silent_ms=0 if why == "beats" else 2_000, server=server, client=client)
    assert await DeathsLoop(store, worker if why == "itself" else "watcher", LEASE_MS).look() == 0
    assert set(await registered(store)) == {worker}
    await store.expire_worker(worker, [QUEUE], died=False)


@pytest.mark.usefixtures("trusting")
async def test_what_no_connection_tells_the_lease_tells(rt: Runtime[Any], store: Store, caplog: pytest.LogCaptureFixture) -> None:
    silent = await register(rt, store, silent_ms=LEASE_MS + 1)
    assert await DeathsLoop(store, "watcher", LEASE_MS).look() == 1
    assert await registered(store) == {}
    assert f"worker {silent} is struck off, since it has not beaten for 15 s: 0 jobs taken back" in caplog.text


async def test_a_clock_that_was_set_back_and_not_looked_at_since_makes_nobody_dead(
    rt: Runtime[Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "TRUST_S", 1e-9)
    worker = await register(rt, store, silent_ms=500)
    loop = DeathsLoop(store, "watcher", LEASE_MS)
    for _ in range(2):
        store._server_clock._offset_ms = (await _server_ms(store)) + 60_000 - time.monotonic() * 1000  # noqa: SLF001 - the time as known before
        assert await loop.look() == 0
    assert set(await registered(store)) == {worker}
    await store.expire_worker(worker, [QUEUE], died=False)


async def _server_ms(store: Store) -> float:
    seconds, microseconds = await store.command("TIME")
    return int(seconds) * 1000 + int(microseconds) / 1000


async def test_after_a_gap_silence_proves_nothing_until_everybody_has_had_time_to_come_back(rt: Runtime[Any], store: Store) -> None:
    dead = await register(rt, store, client=NO_SUCH_CLIENT)
    loop = DeathsLoop(store, "watcher", LEASE_MS)
    assert await loop.look() == 0, "the first look comes after a gap without end"
    assert set(await registered(store)) == {dead}

    async def is_struck() -> bool:
        return await loop.look() == 1

    await until_true(is_struck, "after some seconds in touch the watcher trusts what it sees")


@pytest.mark.parametrize("by_s", [86_400, -86_400], ids=["forward", "back"])
async def test_a_clock_that_jumps_makes_nobody_dead_and_hides_nobody_who_is(rt: Runtime[Any], store: Store, by_s: int) -> None:
    ahead_s = 0.0
    store.clock = lambda: (time.time() + ahead_s) * 1000
    live, dead = await register(rt, store, silent_ms=0), await register(rt, store, silent_ms=0)
    loop = DeathsLoop(store, "watcher", LEASE_MS)
    await loop.look()
    loop._in_touch_s -= deaths.TRUST_S  # noqa: SLF001 - as if it had looked for a while
    assert await loop.look() == 0
    ahead_s = by_s
    assert await loop.look() == 0, "both look as silent as if they were dead"
    await store.beat(live, b'{"queues":["default"]}', [QUEUE])
    loop._in_touch_s -= deaths.TRUST_S  # noqa: SLF001 - as above
    assert await loop.look() == 1
    assert set(await registered(store)) == {live}, f"{dead} has not beaten since"
    await store.expire_worker(live, [QUEUE], died=False)


@pytest.mark.usefixtures("trusting")
async def test_more_dead_than_one_look_asks_about_are_all_struck_off(rt: Runtime[Any], store: Store) -> None:
    for _ in range(deaths.SILENT_MAX + 1):
        await register(rt, store, client=NO_SUCH_CLIENT)
    loop = DeathsLoop(store, "watcher", LEASE_MS)
    assert [await loop.look() for _ in range(3)] == [deaths.SILENT_MAX, 1, 0]


async def test_a_connection_that_is_renewed_is_no_death(new_runtime: NewRuntime, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with new_runtime() as rt:
        rt.actor()(idle)
        async with rt.worker() as worker, rt.worker() as watcher:

            async def client_of() -> Any:
                return (await registered(store))[worker.id]["client"]

            async def is_known() -> bool:
                return await client_of() is not None

            await until_true(is_known, "the lease thread has registered its connection")
            before = await client_of()
            assert await store.command("CLIENT", "KILL", "ID", before) == 1

            async def is_renewed() -> bool:
                return await client_of() not in (None, before)

            await until_true(is_renewed, "it has registered the new one")
            assert set(await registered(store)) == {worker.id, watcher.id}
    assert "struck off" not in caplog.text


async def test_a_worker_registers_the_connection_that_beats(rt: Runtime[Any], store: Store) -> None:
    rt.actor()(idle)
    async with rt.worker() as worker:

        async def is_known() -> bool:
            return (await registered(store))[worker.id]["client"] is not None

        await until_true(is_known, "the lease thread has registered its connection")
        info = (await registered(store))[worker.id]
        listed = (await store.command("CLIENT", "LIST", "ID", info["client"])).decode()
    assert info["server"] == await run_id(store)
    assert "cmd=evalsha" in listed or "cmd=eval" in listed, "it is the one that runs the beats"
