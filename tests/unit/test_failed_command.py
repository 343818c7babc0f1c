"""`python -m angelrt failed`: what its commands print, do, and refuse."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from angelrt import InvalidOptions
from angelrt.cli import app
from tests.scripts.partition import Partition, job, verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FAILURE = b'{"actor":"a","type":"ValueError","message":"[bold]broken\\nin two","traceback":""}'


@pytest.fixture
async def part(server_url: str, namespace: str) -> AsyncIterator[Partition]:
    """Three failed jobs of each of two actors; removed afterwards."""
    partition = Partition(server_url, namespace)
    jobs = [job(f"{actor}{n}", actor=actor) for n in range(3) for actor in "ab"]
    await partition.send(*jobs)
    await partition.claim(actors=("a", "b"))
    await partition.settle(*(verdict(each.id, "f", FAILURE) for each in jobs))
    yield partition
    await partition.remove()


async def command(server_url: str, namespace: str, *words: str) -> str:
    """Run a command; return what it printed. Raises what it raises."""
    invoked = [*words, "--url", server_url, "--namespace", namespace]
    result = await asyncio.to_thread(CliRunner().invoke, app, ["failed", *invoked], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


async def test_the_commands_list_replay_and_purge(server_url: str, namespace: str, part: Partition) -> None:
    shown = await command(server_url, namespace, "list", "--limit", "4")
    assert "Failed jobs: 4 of 6" in shown
    assert "[bold]broken" in shown
    assert f"More: --before {part.now_ms:.0f}:a2" in shown
    page = json.loads(await command(server_url, namespace, "list", "--json", "--before", f"{part.now_ms:.0f}:a2"))
    assert ([letter["id"] for letter in page["letters"]], page["total"]) == (["a1", "a0"], 6)
    page = json.loads(await command(server_url, namespace, "list", "--json", "--actor", "b", "--limit", "2", "--error", "ValueError"))
    assert [letter["id"] for letter in page["letters"]] == ["b2", "b1"]
    assert await command(server_url, namespace, "replay", "a0") == "1 run again\n"
    assert json.loads(await command(server_url, namespace, "replay", "--actor", "b", "--json"))["replayed"] == 3
    assert await command(server_url, namespace, "purge", "a1") == "1 forgotten\n"
    assert "1 run again, the last of them at 20" in await command(server_url, namespace, "replay", "--all", "--per-second", "10")
    assert json.loads(await command(server_url, namespace, "purge", "--all", "--json")) == {"purged": 0}


async def test_the_commands_refuse_what_is_not_clear(server_url: str, namespace: str, part: Partition) -> None:
    for words, why in (
        (("replay",), "failed replay: name one job, or a filter, or --all"),
        (("replay", "a1", "--all"), "failed replay: name one job, or a filter, or --all"),
        (("replay", "a1", "--per-second", "5"), "failed replay: --per-second is for many"),
        (("purge",), "failed purge: name one job, or a filter, or --all"),
        (("purge", "a1", "--all"), "failed purge: name one job, or a filter, or --all"),
        (("list", "--before", "1:a", "--actor", "a"), "failed list: --before goes on in the list of all"),
        (("list", "--before", "x"), "'x' is no cursor: pass what the page before gave"),
    ):
        with pytest.raises(InvalidOptions, match=re.escape(why)):
            await command(server_url, namespace, *words)
    assert len((await part.state()).failed) == 6
    assert "a1" in await command(server_url, namespace, "list", "--since", "2025-01-01", "--until", "2030-01-01")
