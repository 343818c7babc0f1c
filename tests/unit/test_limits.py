"""Declaring limits: what is taken, what is refused with its words, and under which gate a job counts."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from angelrt import (
    Actors,
    AngelError,
    Concurrency,
    ConfigError,
    Context,
    InvalidArguments,
    InvalidOptions,
    Queue,
    RateLimit,
    Retry,
    Runtime,
)
from angelrt.context import CurrentJob
from angelrt.limits import KEY_MAX_BYTES, gates_of, quoted, read_rate, rule_of
from tests.unit.unconnected import client

FLOW_ITEM = re.compile(r"[cr][^\s,*=\0]*=[^\s,*=\0]*(\*\d+)?")
ODD = [
    "a b",
    "a,b",
    "a*b",
    "a=b",
    "a%b",
    "a\u00e4b",
    "\U0001f600",
    "'\"",
    "a\\b",
    "{}",
    "~!@#$^&()+;:|<>?/",
    "*" * 40,
    "=",
    ",",
    "x1",
    "k",
    "-",
]

NO_RATES: list[Any] = [
    *("", "5", "/s", "5/", "5/0s", "0/s", "-5/s", "5/-1s", "5/fortnight", "5/367d", "1.5/s", "5/1.5s", "5/s/s", "5 per s", "5/ms"),
    *("\u0663/s", "5/\u0663s", None, 5, b"5/s", "5/s\n/s", "5/99999999999999999999w", "99999999999999/s"),
]


def flow(message: Any, *queues: Queue) -> list[str]:
    """Return the items of the flow with which a message would be written."""
    items = client(*queues).new_job(message).flow.split(",")
    return [item for item in items if item]


# -- concurrency ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, -1, True, False, 1.0, 1.5, "3", None, 10**9 + 1, float("nan")])
def test_a_concurrency_limit_is_a_whole_number_from_one(most: Any) -> None:
    with pytest.raises(InvalidOptions) as caught:
        Concurrency(most)
    text = "Concurrency(most) is a whole number from 1 to 1,000,000,000"
    assert str(caught.value) == f"{text}, not {most!r}; to let nothing through, pause"


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a\0", "a\n", "x" * 129, 7, "a@b", "a,b", "a*"])
def test_the_name_of_a_limit_can_stand_in_a_rule(name: Any) -> None:
    for make in (lambda: Concurrency(1, name=name), lambda: RateLimit("1/s", name=name)):
        with pytest.raises(InvalidOptions, match="the name of a limit is 1 to 128 letters, digits"):
            make()


# -- rates ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "most", "window_ms"),
    [
        ("300/day", 300, 86_400_000),
        ("10/second", 10, 1_000),
        ("10/s", 10, 1_000),
        ("5/30s", 5, 30_000),
        ("5/30 seconds", 5, 30_000),
        ("5 / minute", 5, 60_000),
        ("1_000/2 hours", 1_000, 7_200_000),
        ("1/w", 1, 604_800_000),
        (" 7/h ", 7, 3_600_000),
        ("1/366d", 1, 366 * 86_400_000),
    ],
)
def test_a_rate_is_a_number_and_a_window(rate: str, most: int, window_ms: int) -> None:
    assert read_rate(rate) == (most, window_ms)
    assert RateLimit(rate).spec == f"{most} {window_ms} {most}"


@pytest.mark.parametrize("rate", NO_RATES, ids=repr)
def test_a_rate_that_is_none_is_refused_where_it_is_declared(rate: Any) -> None:
    with pytest.raises(InvalidOptions) as caught:
        RateLimit(rate)
    assert str(caught.value).startswith(f"RateLimit({rate!r})")


@pytest.mark.parametrize("burst", [0, -1, True, 1.5, "3", 11])
def test_a_burst_is_from_one_to_the_limit(burst: Any) -> None:
    with pytest.raises(InvalidOptions, match=r"RateLimit\('10/s'"):
        RateLimit("10/s", burst=burst)


@pytest.mark.parametrize("cost", [0, -1, True, 1.5, 11])
def test_a_cost_is_from_one_to_the_limit(cost: Any) -> None:
    with pytest.raises(InvalidOptions, match="use a whole number from 1 to 10; a job over the limit could never run"):
        RateLimit("10/s", cost=cost)


def test_a_rate_with_its_burst_and_cost() -> None:
    assert RateLimit("10/s", burst=10, cost=10).spec == "10 1000 10"
    assert RateLimit("10/m", burst=1, cost=1).spec == "10 60000 1"


# -- at the actor ---------------------------------------------------------------------------------------------------------------------


async def charge(customer: str, amount: int = 3, region: str = "eu") -> None:
    """Take arguments that limits go by."""


def declared(*limits: Any, queue: str = "q", name: str = "charge") -> Any:
    """Return an actor with limits."""
    return Actors(queue=queue).actor(limits=limits, name=name)(charge)


@pytest.mark.parametrize("limit", [Concurrency(1, per="client"), RateLimit("1/s", per="client")])
def test_per_that_names_no_argument_is_refused_with_the_arguments_that_there_are(limit: Any) -> None:
    with pytest.raises(InvalidOptions) as caught:
        declared(limit)
    assert str(caught.value) == "actor charge: per='client' names no argument: its arguments are customer, amount, region"


def test_cost_that_names_no_argument_is_refused() -> None:
    with pytest.raises(InvalidOptions, match="actor charge: cost='tokens' names no argument"):
        declared(RateLimit("10/s", cost="tokens"))


@pytest.mark.parametrize("limits", [[3], ["300/day"], [None], [Concurrency]])
def test_limits_are_a_list_of_limits(limits: list[Any]) -> None:
    with pytest.raises(InvalidOptions, match="limits are a list of Concurrency"):
        declared(*limits)


@pytest.mark.parametrize("limits", [Concurrency(1), "300/day"])
def test_a_limit_alone_instead_of_a_list_is_refused_with_words(limits: Any) -> None:
    with pytest.raises(AngelError, match="limits"):
        Actors().actor(limits=limits)(charge)


@pytest.mark.parametrize("limit", [Concurrency(1, per="customer"), RateLimit("10/s", cost="amount")])
def test_a_limit_of_a_queue_goes_by_no_argument(limit: Any) -> None:
    with pytest.raises(InvalidOptions, match="names no argument: a queue's limit counts all its jobs; declare it on the actor"):
        Queue("q", limits=[limit])


@pytest.mark.parametrize(
    "others",
    [(Concurrency(1), Concurrency(2)), (RateLimit("1/m"), RateLimit("2/60s")), (Concurrency(1, name="x"), Concurrency(2, name="x"))],
)
def test_two_limits_of_one_rule_that_differ_are_refused_where_they_are_declared(others: Any) -> None:
    with pytest.raises(InvalidOptions, match="name="):
        declared(*others)


def test_one_limit_twice_counts_once() -> None:
    shared = RateLimit("10/s", name="api")
    actor = declared(Concurrency(2), Concurrency(2), shared, RateLimit("10/s", name="api"))
    assert flow(actor.message("x"), Queue("q", limits=[shared])) == ["rapi@q=", "ccharge@q="]


def test_a_queue_is_declared_once() -> None:
    with pytest.raises(ConfigError, match="a queue is declared once"):
        Runtime("redis://nowhere", queues=[Queue("q"), Queue("q")])


# -- at the send ----------------------------------------------------------------------------------------------------------------------


def test_an_actor_with_limits_sends_to_its_own_queue_alone() -> None:
    actor = declared(Concurrency(1))
    with pytest.raises(InvalidOptions) as caught:
        actor.options(queue="other")
    assert str(caught.value) == "options(queue='other'): actor charge has limits, which count in its own queue 'q'"
    assert actor.options(queue="q").message("x").options.queue == "q"


def test_a_cost_needs_a_limit_that_has_one() -> None:
    with pytest.raises(InvalidOptions, match=r"options\(cost=5\): actor charge has no RateLimit\(..., cost=...\)"):
        declared(RateLimit("10/s"), Concurrency(1)).options(cost=5)


@pytest.mark.parametrize("cost", [0, -1, 11, True, 1.5, "1"])
def test_a_cost_that_could_never_run_is_refused_where_it_is_given(cost: Any) -> None:
    with pytest.raises(InvalidOptions):
        declared(RateLimit("10/s", cost=1)).options(cost=cost)


@pytest.mark.parametrize("amount", [0, -5, 11])
def test_a_cost_of_an_argument_is_checked_at_the_send(amount: int) -> None:
    message = declared(RateLimit("10/s", cost="amount")).message("x", amount)
    with pytest.raises(InvalidOptions, match="the cost under RateLimit"):
        client().new_job(message)


def test_options_that_were_checked_hold_for_a_message_that_is_sent_later() -> None:
    message = declared(RateLimit("10/s", cost="amount")).options(cost=7).message("x", 2)
    assert flow(message) == ["rcharge/1s@q=*7"]


@pytest.mark.parametrize("expires", [0, -1, float("nan"), True, "5"])
def test_a_time_to_begin_in_is_above_zero(expires: Any) -> None:
    with pytest.raises(InvalidOptions, match="expires"):
        declared().options(expires=expires)


def test_the_time_to_begin_in_stands_in_the_flow_as_a_time() -> None:
    assert flow(declared().options(expires=timedelta(seconds=5)).message("x")) == ["x1750000005000"]


# -- keys -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["x" * (KEY_MAX_BYTES + 1), "x" * 10_240, "", "a\0b", "a\nb", "\x1b[0m", "\u202e", "\u00e4" * 65, "a\x7f"])
def test_a_key_that_is_none_is_refused_at_the_send(key: str) -> None:
    for limit in (Concurrency(1, per="customer"), RateLimit("1/s", per="customer")):
        with pytest.raises(InvalidArguments) as caught:
            client().new_job(declared(limit).message(key))
        text = str(caught.value)
        assert text.startswith("arguments of actor charge: customer is the key")
        assert "is the key of a limit: use a whole number, or 1 to 128 bytes of printable text" in text
        assert len(text) < 400
        assert text.isprintable()


@pytest.mark.parametrize("value", ["1.5", "[1]", '{"a":1}', "1e3"])
def test_a_number_with_a_fraction_and_a_structure_are_no_keys(value: str) -> None:
    arguments = b'{"customer":%b}' % value.encode()
    with pytest.raises(InvalidArguments, match="is the key of a limit"):
        gates_of([Concurrency(1, per="customer")], "charge", "q", arguments, {})


@pytest.mark.parametrize(
    ("value", "key"),
    [('"x"', "x"), ("7", "7"), ("-7", "-7"), ("true", "true"), ("null", "null"), ("12345678901234567890", "12345678901234567890")],
)
def test_keys_are_texts_and_whole_numbers(value: str, key: str) -> None:
    arguments = b'{"customer":%b}' % value.encode()
    assert gates_of([Concurrency(1, per="customer")], "charge", "q", arguments, {}) == [f"ccharge.customer@q={key}"]


def test_the_default_of_an_argument_is_its_key() -> None:
    actor = declared(Concurrency(1, per="region"), RateLimit("10/m", per="region", cost="amount"))
    assert flow(actor.message("x")) == ["ccharge.region@q=eu", "rcharge.region/60s@q=eu*3"]
    assert flow(actor.message("x", region="us", amount=2)) == ["ccharge.region@q=us", "rcharge.region/60s@q=us*2"]
    assert flow(actor.message("x", region="eu")) == flow(actor.message("x")), "given or left out, it is the same key"


@pytest.mark.parametrize("odd", ODD)
def test_odd_characters_of_values_and_names_stay_apart_from_what_parts_a_flow(odd: str) -> None:
    items = gates_of([Concurrency(1, per="customer"), RateLimit("9/s", per="customer", cost=3)], "charge", "q", b"{}", {"customer": odd})
    assert all(FLOW_ITEM.fullmatch(item) for item in items), items
    assert items[1].endswith("*3")


def test_no_two_values_share_a_gate() -> None:
    gates = [gates_of([Concurrency(1, per="customer")], "a", "q", b"{}", {"customer": odd})[0] for odd in [*ODD, *map(quoted, ODD)]]
    same = [value for value in ODD if quoted(value) == value]
    assert len(set(gates)) == 2 * len(ODD) - len(same)


def test_no_two_rules_share_a_name() -> None:
    rules = {
        rule_of(Concurrency(1), "a", "q"),
        rule_of(Concurrency(1), "a", "p"),
        rule_of(Concurrency(1), "", "q"),
        rule_of(Concurrency(1, per="x"), "a", "q"),
        rule_of(RateLimit("1/s"), "a", "q"),
        rule_of(RateLimit("1/m"), "a", "q"),
        rule_of(RateLimit("1/m", per="x"), "a", "q"),
        rule_of(Concurrency(1, name="shared"), "a", "q"),
    }
    assert len(rules) == 8
    assert rule_of(Concurrency(1, name="shared"), "a", "q") == rule_of(Concurrency(3, name="shared"), "b", "q")


def test_the_gates_of_the_queue_come_first() -> None:
    queue = Queue("q", limits=[RateLimit("10/s"), Concurrency(4)])
    assert flow(declared(Concurrency(1)).message("x"), queue) == ["r/1s@q=", "c@q=", "ccharge@q="]
    assert flow(declared(queue="p").message("x"), queue) == []


# -- what a run says ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [-1, True, 1.5, "3", None])
def test_used_tokens_are_a_whole_number(tokens: Any) -> None:
    with pytest.raises(InvalidOptions, match="tokens that were used are a whole number from 0"):
        Context(CurrentJob("j", "a", "q"), 1, None).used(tokens)


def test_a_retry_that_holds_the_gate_says_for_how_long() -> None:
    with pytest.raises(InvalidOptions, match=r"Retry\(after=60, gate=True\)"):
        Retry(gate=True)
    assert Retry(after=5, gate=True).gate
