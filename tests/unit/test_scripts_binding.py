"""The scripts as the server gets them: their text, their names in its cache, and the commands that call them."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from angelrt.keys import OWN_KEYS, QUEUE_KEYS, Keys
from angelrt.scripts import (
    CLAIM,
    CORE,
    ENQUEUE_PLAIN,
    HOLDS,
    LIBRARY,
    PRELUDE,
    SCRIPTS,
    SETTLE,
    SETTLE_WITH_CHILDREN,
    TICK,
    Script,
    as_eval,
    evalsha,
)
from angelrt.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEYS = Keys("n")
every_script = pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)


@pytest.fixture
async def store(server_url: str, namespace: str) -> AsyncIterator[Store]:
    """Verbs of a fresh partition."""
    opened = Store(server_url, Keys(namespace))
    yield opened
    await opened.command("DEL", *opened.keys.every(["default"]))
    await opened.close()


@every_script
def test_a_script_is_its_shebang_the_prelude_and_its_verb(script: Script) -> None:
    shebang, rest = script.source.split("\n", 1)
    assert shebang.startswith("#!lua")
    assert rest.index("-- What every call needs") < rest.index("-- KEYS ")
    assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()  # noqa: S324 - the server's own name for it


def test_only_what_brings_new_work_is_refused_at_the_memory_limit() -> None:
    refused = {name for name, script in SCRIPTS.items() if "allow-oom" not in script.flags and "no-writes" not in script.flags}
    assert refused == {"enqueue", "enqueue_plain", "settle_with_children", "schedule"}
    assert SETTLE.source.partition("\n")[2] == SETTLE_WITH_CHILDREN.source.partition("\n")[2]
    assert SETTLE.sha != SETTLE_WITH_CHILDREN.sha


def test_no_two_scripts_share_a_name_on_the_server() -> None:
    assert len({script.sha for script in SCRIPTS.values()}) == len(SCRIPTS)
    assert all(name == script.name for name, script in SCRIPTS.items())


@every_script
def test_what_all_verbs_share_stands_before_the_verb_in_its_order(script: Script) -> None:
    folder, verb = resources.files("angelrt") / "lua", script.file or script.name
    long = () if script.is_short else (PRELUDE, *([HOLDS, *LIBRARY] if script.has_library else []))
    names = (CORE, *filter(None, [script.beside]), *long, f"{verb}.lua")
    texts = [(folder / name).read_text(encoding="utf-8") for name in names]
    places = [script.source.index(text) for text in texts]
    assert places == sorted(places)


@every_script
async def test_the_server_compiles_it_and_caches_it_under_its_name(store: Store, script: Script) -> None:
    assert await store.command("SCRIPT", "LOAD", script.source) == script.sha.encode()
    assert await store.command("SCRIPT", "EXISTS", script.sha) == [1]


def test_a_call_names_every_key_of_the_partition_then_those_of_its_queues() -> None:
    command = evalsha(KEYS, CLAIM, ["b", "a"], ["1", ""], 3_600_000)
    assert command[:3] == ["EVALSHA", CLAIM.sha, len(OWN_KEYS) + 2 + 2 * len(QUEUE_KEYS)]
    assert command[3:] == [*map(KEYS.key, OWN_KEYS), "{n}:stats:1", "{n}:minutes:60", *KEYS.queue("b"), *KEYS.queue("a"), "1", ""]


def test_a_call_of_a_short_way_names_the_keys_that_it_needs() -> None:
    command = evalsha(KEYS, ENQUEUE_PLAIN, ["b", "a"], ["1", ""], 3_600_000)
    own = ["{n}:jobs", "{n}:queues", "{n}:events", "{n}:rules", "{n}:control", "{n}:stats:1", "{n}:minutes:60"]
    assert command == ["EVALSHA", ENQUEUE_PLAIN.sha, 11, *own, "{n}:ready:b", "{n}:wake:b", "{n}:ready:a", "{n}:wake:a", "1", ""]


NAMES_OF_KEYS = """\
local JOBS, QUEUES, EVENTS, RULES, CONTROL, STATS, MINUTE = unpack(KEYS, 1, 7)
local OWN_KEYS, QUEUE_KEYS = 7, 2
local READY, WAKE = 1, 2"""


def test_a_script_begins_with_the_names_of_its_keys() -> None:
    assert ENQUEUE_PLAIN.source.startswith(f"#!lua\n{NAMES_OF_KEYS}\n-- What every call needs")


@every_script
async def test_the_names_of_keys_stand_for_the_keys_that_a_call_gets(store: Store, script: Script) -> None:
    own, per_queue = script.own_keys, script.queue_keys
    named = f"return {{{', '.join(own).upper()}, {', '.join(f'KEYS[OWN_KEYS + QUEUE_KEYS + {name.upper()}]' for name in per_queue)}}}"
    command = evalsha(store.keys, script, ["b", "a"], [], 0)
    told = [key.decode() for key in await store.command("EVAL", f"{script.key_names}\n{named}", *command[2:])]
    tag = store.keys.key("")
    assert told == [
        *(f"{tag}{ {'stats': 'stats:0', 'minute': 'minutes:0'}.get(name, name) }" for name in own),
        *(f"{tag}{name}:a" for name in per_queue),
    ]


def test_the_call_with_the_text_differs_in_nothing_else() -> None:
    command = evalsha(KEYS, TICK, [], [""], 0)
    assert as_eval(TICK, command) == ["EVAL", TICK.source, *command[2:]]


async def test_a_server_that_forgot_its_scripts_gets_the_one_that_is_called(store: Store) -> None:
    await store.command("SCRIPT", "FLUSH")
    assert (await store.tick(["default"]))[1] == -1
    assert await store.command("SCRIPT", "EXISTS", TICK.sha, CLAIM.sha) == [1, 0]


async def test_the_clock_is_the_servers_unless_a_test_gives_one(store: Store) -> None:
    assert await _time(store) > 1_700_000_000_000
    store.clock = lambda: 1_767_355_200_000.5
    assert await _time(store) == 1_767_355_200_000.5
    assert store.server_ms() == 1_767_355_200_000.5


async def _time(store: Store) -> Any:
    now_ms, _ = await store.tick([])
    return now_ms
