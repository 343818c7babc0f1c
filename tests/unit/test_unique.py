"""Unique: what is refused where it is declared, and which calls are the same work."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from angelrt import Actors, InvalidOptions, Unique
from angelrt.unique import KEY_MAX_CHARS

if TYPE_CHECKING:
    from angelrt import AsyncActor

ITEM = re.compile(r"u[^ ,*\0]+\*[^ ,*\0]+\*[erj]")


def declared(unique: Unique) -> AsyncActor[Any, Any]:
    """Return an actor whose jobs are unique."""

    @Actors().actor(name="search", unique=unique)
    async def search(path: str, size: int = 256, *, deep: bool = False) -> str:
        return f"{path} {size} {deep}"

    return search


def item(unique: Unique, *args: Any, **kwargs: Any) -> str:
    """Return the key of a call as it stands in its flow."""
    actor = declared(unique)
    return unique.item("search", actor.message(*args, **kwargs).arguments, actor.signature.defaults)


# -- the declaration -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"until": "done"}, "Unique(until='done'): use 'finished', 'started', or seconds"),
        ({"until": ""}, "Unique(until=''): use 'finished', 'started', or seconds"),
        ({"until": 0}, "Unique(until=0): a time of uniqueness is at least a millisecond"),
        ({"until": timedelta(0)}, "Unique(until=datetime.timedelta(0)): a time of uniqueness is at least a millisecond"),
        ({"on_conflict": "ignore"}, "Unique(on_conflict='ignore'): use one of existing, replace, reject"),
        ({"on_conflict": None}, "Unique(on_conflict=None): use one of existing, replace, reject"),
        (
            {"debounce": 5, "until": "started"},
            "Unique(debounce=) replaces what waits until it starts: leave until= and on_conflict= out",
        ),
        (
            {"debounce": 5, "on_conflict": "replace"},
            "Unique(debounce=) replaces what waits until it starts: leave until= and on_conflict= out",
        ),
    ],
)
def test_what_could_never_work_is_refused_with_its_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        Unique("path", **options)
    assert str(caught.value) == words


@pytest.mark.parametrize("option", ["until", "debounce"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), timedelta(seconds=-1), True, [5], 10**12])
def test_times_that_are_none_are_refused_by_name(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(InvalidOptions, match=option):
        Unique("path", **options)


@pytest.mark.parametrize("until", [0.0001, timedelta(microseconds=400)])
def test_time_that_rounds_to_nothing_is_refused(until: float | timedelta) -> None:
    with pytest.raises(InvalidOptions, match="until"):
        Unique("path", until=until)


@pytest.mark.parametrize("name", ["paths", "", "path "])
def test_name_that_is_no_argument_is_refused_where_it_is_declared(name: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        declared(Unique("path", name))
    assert str(caught.value) == f"actor search: Unique({name!r}) names no argument: its arguments are path, size, deep"


def test_actor_without_arguments_says_so() -> None:
    with pytest.raises(InvalidOptions, match="names no argument: its arguments are none"):

        @Actors().actor(unique=Unique("path"))
        async def sweep() -> None:
            return None


def test_what_is_no_unique_is_refused_where_it_is_declared() -> None:
    no_unique: Any = "path"
    with pytest.raises(InvalidOptions, match="unique"):
        declared(no_unique)


# -- keys ------------------------------------------------------------------------------------------------------------------------------


def test_same_arguments_are_the_same_key_however_they_are_passed() -> None:
    keys = {
        item(Unique(), "a", 256, deep=False),
        item(Unique(), "a"),
        item(Unique(), size=256, path="a"),
        item(Unique(), deep=False, size=256, path="a"),
    }
    assert len(keys) == 1


def test_order_of_the_names_is_nothing() -> None:
    assert item(Unique("path", "size"), "a", 1) == item(Unique("size", "path"), "a", 1)


def test_only_named_arguments_count() -> None:
    assert item(Unique("path"), "a", 1) == item(Unique("path"), "a", 2, deep=True)
    assert item(Unique("path"), "a") != item(Unique("path"), "b")
    assert item(Unique("path", "deep"), "a") != item(Unique("path", "deep"), "a", deep=True)


def test_every_other_argument_is_another_key() -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("a",), {}),
        (("b",), {}),
        (("a", 1), {}),
        (("a",), {"deep": True}),
        (("",), {}),
    ]
    assert len({item(Unique(), *args, **kwargs) for args, kwargs in calls}) == len(calls)


def test_value_does_not_leak_into_the_next_argument() -> None:
    @Actors().actor(name="join", unique=Unique())
    async def join(one: str, other: str) -> str:
        return one + other

    def key(*args: str) -> str:
        return Unique().item("join", join.message(*args).arguments, join.signature.defaults)

    assert key('a","other":"b', "") != key("a", "b")
    assert key("a", "") != key("", "a")


def test_text_and_number_are_apart() -> None:
    @Actors().actor(name="any")
    async def anything(value: Any) -> Any:
        return value

    def key(value: Any) -> str:
        return Unique().item("any", anything.message(value).arguments, anything.signature.defaults)

    values: list[Any] = [1, "1", True, None, [1], {"a": 1}]
    assert len({key(value) for value in values}) == len(values)
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})


def test_values_of_rich_types_and_their_defaults_are_one_key() -> None:
    noon, day, number = datetime(2026, 1, 2, 12, tzinfo=UTC), date(2026, 1, 2), UUID(int=7)

    @Actors().actor(name="plan")
    async def plan(at: datetime = noon, on: date = day, of: UUID = number) -> str:
        return f"{at} {on} {of}"

    def key(*args: Any) -> str:
        return Unique().item("plan", plan.message(*args).arguments, plan.signature.defaults)

    assert key() == key(noon, day, number), "a default counts as if it were passed"


def test_actors_are_apart() -> None:
    actor = declared(Unique())
    arguments, defaults = actor.message("a").arguments, actor.signature.defaults
    assert Unique().item("search", arguments, defaults) != Unique().item("index", arguments, defaults)


@pytest.mark.parametrize("value", ["a b", "a,b", "a*b", "a=b", "a\0b", "a\nb", "ä\U0001f600", "'\"\\", "%2C", "u*f*e", "]]" * 8])
def test_odd_characters_stand_in_no_way(value: str) -> None:
    key = item(Unique("path"), value)
    assert ITEM.fullmatch(key), key
    assert key != item(Unique("path"), value + "x")


@pytest.mark.parametrize("value", ["x" * 10_000, "ä" * 10_000, "\0" * 10_000])
def test_long_value_is_stored_as_its_digest(value: str) -> None:
    key = item(Unique("path"), value)
    assert len(key) < 2 * KEY_MAX_CHARS
    assert ITEM.fullmatch(key)
    assert key == item(Unique("path"), value)
    assert key != item(Unique("path"), value + "x")


@given(st.text(max_size=60), st.text(max_size=60))
def test_two_values_have_one_key_only_if_they_are_one(one: str, other: str) -> None:
    first, second = item(Unique("path"), one), item(Unique("path"), other)
    assert ITEM.fullmatch(first)
    assert (first == second) == (one == other)


# -- the item ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unique", "ends"),
    [
        (Unique("path"), "*f*e"),
        (Unique("path", until="started"), "*s*e"),
        (Unique("path", until="finished", on_conflict="reject"), "*f*j"),
        (Unique("path", until=1.5, on_conflict="replace"), "*1500*r"),
        (Unique("path", until=timedelta(days=1)), "*86400000*e"),
        (Unique("path", debounce=5), "*s*r"),
    ],
)
def test_item_tells_until_when_and_what_on_a_conflict(unique: Unique, ends: str) -> None:
    assert item(unique, "a").endswith(ends)


def test_debounce_is_kept_in_seconds() -> None:
    assert Unique("path", debounce=timedelta(milliseconds=200)).debounce_s == 0.2
    assert Unique("path").debounce_s is None
