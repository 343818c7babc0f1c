"""Declaring actors: names, options, groups; and what is refused, with its words."""

from __future__ import annotations

import functools
import itertools
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from angelrt import Actors, AsyncActor, ConfigError, InvalidArguments, InvalidOptions, RetryPolicy, RuntimeNotOpen, SyncActor
from angelrt.actor import ActorOptions

ENGLISH = "use 1 to 64 letters, digits, '_', '.', ':', '/' or '-'"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


async def fetch(url: str, *, tries: int = 3) -> str:
    """Fetch a page."""
    return f"{url} {tries}"


def resize(path: str, size: int = 256) -> str:
    return f"{path} {size}"


class Shop:
    """Holds functions as people write them."""

    async def method(self, path: str) -> str:
        return path

    @staticmethod
    def static(path: str) -> str:
        return path

    def __call__(self, path: str) -> str:
        return path


async def test_an_actor_is_called_as_the_function_that_it_is() -> None:
    group = Actors()
    assert await group.actor()(fetch)("a", tries=1) == "a 1"
    assert group.thread_actor(name="t")(resize)("a", size=2) == "a 2"
    assert group.process_actor(name="p")(resize)("a") == "a 256"


def test_a_remote_actor_cannot_be_called_and_says_what_to_do() -> None:
    charge = Actors().remote(name="billing.charge", queue="billing")(resize)
    with pytest.raises(ConfigError) as caught:
        charge("a")
    assert str(caught.value) == "actor billing.charge is remote: its code runs in another service; use .send()"


@pytest.mark.parametrize(("kind", "type_"), [("actor", AsyncActor), ("thread_actor", SyncActor), ("process_actor", SyncActor)])
def test_the_defaults_are_those_of_the_design(kind: str, type_: Any) -> None:
    actor: Any = getattr(Actors(), kind)()(fetch if kind == "actor" else resize)
    assert actor.__class__ is type_
    word = {"actor": "async", "thread_actor": "thread", "process_actor": "process"}[kind]
    assert actor.definition == ActorOptions(actor.name, word, "default", 5, 300.0, RetryPolicy(8, 2.0, 600.0))


def test_every_option_of_a_declaration_is_kept() -> None:
    policy = RetryPolicy(attempts=2)
    actor = Actors(queue="g").actor(name="shop.fetch", queue="q", priority=0, timeout=timedelta(minutes=1), retry=policy)(fetch)
    assert actor.definition == ActorOptions("shop.fetch", "async", "q", 0, 60.0, policy)
    assert repr(actor) == "<async actor shop.fetch on queue q>"
    assert actor.__doc__ == "Fetch a page."


def test_the_queue_of_a_group_holds_for_actors_that_name_none() -> None:
    group = Actors(queue="photos")
    assert group.actor()(fetch).definition.queue == "photos"
    assert group.remote(name="r")(resize).definition.queue == "photos"
    assert group.thread_actor(queue="slow")(resize).definition.queue == "slow"


def test_a_name_is_the_qualified_name_without_its_surroundings() -> None:
    def inner(path: str) -> str:
        return path

    group = Actors()
    assert group.actor()(fetch).name == "fetch"
    assert group.thread_actor()(inner).name == "inner"
    assert group.thread_actor()(lambda path: path).name == "<lambda>"
    assert group.thread_actor()(Shop.static).name == "Shop.static"
    assert group.actor()(Shop.method).name == "Shop.method"
    assert group.thread_actor(name="größe")(resize).name == "größe"
    assert set(group.registered) == {"fetch", "inner", "<lambda>", "Shop.static", "Shop.method", "größe"}


def test_a_method_cannot_be_sent_without_its_object_and_the_error_names_what_is_missing() -> None:
    with pytest.raises(InvalidArguments, match=r"^arguments of actor Shop\.method: \S+: Field required$"):
        Actors().actor()(Shop.method).message("a.jpg")  # type: ignore[arg-type, call-arg]


def test_a_parameter_may_be_named_self() -> None:
    def odd(self: int) -> int:
        return self

    assert Actors().thread_actor()(odd).message(self=1).arguments == b'{"self":1}'


@pytest.mark.parametrize("name", ["a b", "a|b", "a\0", "a\n", "x" * 129, "(a)"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        Actors().thread_actor(name=name)(resize)
    assert str(caught.value) == f"actor {name!r}: a name is 1 to 128 letters, digits or any of '._:/<>-', and name= gives an actor one"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue": "a b"}, f"queue 'a b': {ENGLISH}"),
        ({"queue": "x" * 65}, f"queue {'x' * 65!r}: {ENGLISH}"),
        ({"priority": 10}, "priority 10: use 0 (first) to 9 (last); the default is 5"),
        ({"priority": -1}, "priority -1: use 0 (first) to 9 (last); the default is 5"),
        ({"priority": True}, "priority True: use 0 (first) to 9 (last); the default is 5"),
        ({"timeout": 0}, "timeout must be above 0 s, not 0"),
        ({"timeout": -1}, "timeout must be seconds or a timedelta from 0 to ten years, not -1"),
        ({"timeout": None}, "timeout must be seconds or a timedelta from 0 to ten years, not None"),
        ({"timeout": math.inf}, "timeout must be seconds or a timedelta from 0 to ten years, not inf"),
    ],
)
def test_a_declaration_out_of_range_is_refused(options: dict[str, Any], words: str) -> None:
    group = Actors()
    with pytest.raises(InvalidOptions) as caught:
        group.thread_actor(**options)(resize)
    assert str(caught.value) == words
    assert not group.registered


@pytest.mark.parametrize("retry", [3, "often", {"attempts": 3}])
def test_a_retry_that_is_no_policy_is_refused(retry: Any) -> None:
    with pytest.raises(InvalidOptions, match=r"RetryPolicy\("):
        Actors().thread_actor(retry=retry)(resize)


def test_a_group_with_a_queue_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidOptions) as caught:
        Actors(queue="")
    assert str(caught.value) == f"queue '': {ENGLISH}"


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda group: group.actor()(resize), ["actor resize: rt.actor() takes an `async def`", "thread_actor", "process_actor"]),
        (lambda group: group.thread_actor()(fetch), ["actor fetch: rt.thread_actor() takes a `def`", "rt.actor()"]),
        (lambda group: group.process_actor()(fetch), ["actor fetch: rt.process_actor() takes a `def`", "rt.actor()"]),
        (lambda group: group.remote(name="b.f")(fetch), ["actor b.f: rt.remote() takes a `def`"]),
    ],
)
def test_the_wrong_kind_of_function_is_refused_with_the_right_decorator(declare: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        declare(Actors())
    for part in words:
        assert part in str(caught.value)
    assert "remote_actor" not in str(caught.value)


@pytest.mark.parametrize("name", [None, "named"])
@pytest.mark.parametrize("value", [functools.partial(resize, size=1), Shop(), 7], ids=["partial", "object", "number"])
def test_what_is_no_function_is_refused(value: Any, name: str | None) -> None:
    with pytest.raises(ConfigError, match="function"):
        Actors().thread_actor(name=name)(value)


def test_two_actors_of_one_name_are_refused_with_both_places() -> None:
    group = Actors()
    group.thread_actor(name="shop.resize")(resize)
    with pytest.raises(ConfigError) as caught:
        group.actor(name="shop.resize")(fetch)
    places = f"{__name__}.resize and {__name__}.fetch"
    assert str(caught.value) == f"two actors are named 'shop.resize' ({places}): pass name= to one of them"


def test_groups_that_share_a_name_cannot_be_included_together() -> None:
    whole, first, second = Actors(), Actors(), Actors()
    first.thread_actor()(resize)
    second.thread_actor()(resize)
    whole.include(first)
    with pytest.raises(ConfigError, match="two actors are named 'resize'"):
        whole.include(second)


def test_a_refused_name_leaves_no_trace() -> None:
    whole, group = Actors(), Actors()
    taken = whole.thread_actor()(resize)
    whole.include(group)
    with pytest.raises(ConfigError, match="two actors are named 'resize'"):
        group.thread_actor()(resize)
    assert whole.registered == {"resize": taken}
    assert group.registered == {}


def test_a_refused_group_leaves_no_trace() -> None:
    whole, group = Actors(), Actors()
    taken = whole.thread_actor()(resize)
    group.actor()(fetch)
    group.thread_actor()(resize)
    with pytest.raises(ConfigError, match="two actors are named 'resize'"):
        whole.include(group)
    assert whole.registered == {"resize": taken}


def test_a_name_that_is_taken_further_up_is_refused_too() -> None:
    whole, middle, leaf = Actors(), Actors(), Actors()
    taken = whole.thread_actor()(resize)
    whole.include(middle)
    own = leaf.thread_actor()(resize)
    with pytest.raises(ConfigError, match="two actors are named 'resize'"):
        middle.include(leaf)
    assert (whole.registered, middle.registered, leaf.registered) == ({"resize": taken}, {}, {"resize": own})


def test_a_group_brings_what_it_declares_now_and_later_to_all_above_it() -> None:
    whole, middle, leaf = Actors(), Actors(), Actors()
    early = leaf.actor()(fetch)
    middle.include(leaf)
    whole.include(middle)
    late = leaf.thread_actor()(resize)
    assert whole.registered == middle.registered == leaf.registered == {"fetch": early, "resize": late}


def test_a_group_that_is_reached_by_two_ways_counts_once() -> None:
    whole, left, right, leaf = Actors(), Actors(), Actors(), Actors()
    left.include(leaf)
    right.include(leaf)
    whole.include(left, right)
    actor = leaf.thread_actor()(resize)
    assert whole.registered == {"resize": actor}


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_circle_of_groups_is_refused(length: int) -> None:
    groups = [Actors() for _ in range(length)]
    for outer, inner in itertools.pairwise(groups):
        outer.include(inner)
    with pytest.raises(ConfigError) as caught:
        groups[-1].include(groups[0])
    assert str(caught.value) == "a group is included once, and not in itself"
    assert groups[0].thread_actor()(resize).name == "resize"


def test_a_group_is_included_once() -> None:
    whole, group = Actors(), Actors()
    whole.include(group)
    with pytest.raises(ConfigError, match="a group is included once"):
        whole.include(group)


async def test_a_group_without_a_runtime_says_so() -> None:
    actor = Actors().actor()(fetch)
    with pytest.raises(RuntimeNotOpen) as caught:
        await actor.send("a")
    assert str(caught.value) == "this group of actors belongs to no runtime yet: call rt.include(group)"
    with pytest.raises(RuntimeNotOpen):
        actor.send_sync("a")
    with pytest.raises(RuntimeNotOpen):
        actor.job("x")


def test_a_message_is_checked_and_encoded_without_a_runtime() -> None:
    actor = Actors().actor()(fetch)
    assert actor.message("a").arguments == b'{"url":"a"}'
    with pytest.raises(InvalidArguments, match=r"^arguments of actor fetch: url: "):
        actor.message(1)  # type: ignore[arg-type]


def test_every_option_of_a_send_is_kept() -> None:
    actor = Actors().actor()(fetch)
    options = actor.options(id="x", at=NOON, priority=0, queue="q", timeout=timedelta(seconds=2), attempts=3).message("a").options
    assert (options.id, options.at_ms, options.priority, options.queue, options.timeout_s, options.attempts, options.delay_s) == (
        *("x", NOON.timestamp() * 1000, 0, "q", 2.0, 3, None),
    )
    assert actor.options(delay=timedelta(minutes=1)).message("a").options.delay_s == 60.0
    assert actor.options().message("a") == actor.message("a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delay": -1}, "options(delay=) must be seconds or a timedelta from 0 to ten years, not -1"),
        ({"delay": "60"}, "options(delay=) must be seconds or a timedelta from 0 to ten years, not '60'"),
        ({"delay": 1, "at": NOON}, "options(delay=, at=): give one of them"),
        ({"at": NOON.replace(tzinfo=None)}, "the time has no zone; use datetime.now(UTC) + ... or .astimezone()"),
        ({"at": 1_767_355_200}, "options(at=1767355200)"),
        ({"at": datetime.max.replace(tzinfo=UTC)}, "ten years"),
        ({"priority": 10}, "priority 10: use 0 (first) to 9 (last); the default is 5"),
        ({"priority": 5.0}, "priority 5.0: use 0 (first) to 9 (last); the default is 5"),
        ({"queue": "a|b"}, f"queue 'a|b': {ENGLISH}"),
        ({"queue": 3}, f"queue 3: {ENGLISH}"),
        ({"timeout": 0}, "timeout must be above 0 s, not 0"),
        ({"attempts": 0}, "(attempts=) counts runs and is at least 1, not 0"),
        ({"attempts": 1.5}, "(attempts=) counts runs and is at least 1, not 1.5"),
        ({"id": ""}, "id '': use 1 to 128 bytes of printable text"),
        ({"id": 7}, "id 7: use 1 to 128 bytes of printable text"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        Actors().actor()(fetch).options(**options)
    assert words in str(caught.value)
