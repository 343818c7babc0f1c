"""Queue: what is refused where it is declared, and what the scripts are told of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from angelrt import Actors, Concurrency, ConfigError, InvalidOptions, Queue, RateLimit, Runtime


@pytest.mark.parametrize("aging", [0, 0.0, timedelta(0), 0.0001, timedelta(days=367)])
def test_aging_of_nothing_or_of_years_is_refused(aging: float | timedelta) -> None:
    with pytest.raises(InvalidOptions) as caught:
        Queue("mail", aging=aging)
    assert str(caught.value) == (
        f"Queue('mail', aging={aging!r}): a step of priority is worth more than 0 s and at most a year; leave it out for strict order"
    )


@pytest.mark.parametrize("aging", [-1, timedelta(seconds=-1), float("nan"), float("inf"), True, "60", [60]])
def test_aging_that_is_no_time_is_refused(aging: Any) -> None:
    with pytest.raises(InvalidOptions, match="aging"):
        Queue("mail", aging=aging)


@pytest.mark.parametrize("weight", [0, -1, 0.009, 100.1, float("nan"), float("inf"), True, "2", None])
def test_weight_that_is_no_share_is_refused(weight: Any) -> None:
    with pytest.raises(InvalidOptions) as caught:
        Queue("mail", weights={"ann": weight})
    assert str(caught.value) == f"Queue('mail'): the weight of tenant 'ann' is from 0.01 to 100, not {weight!r}"


@pytest.mark.parametrize("tenant", ["", "x" * 129, "ä" * 65, "a\0b", "a\nb", "\ud800", 7, None, b"ann"])
def test_tenant_that_is_no_name_is_refused_in_weights_and_in_options(tenant: Any) -> None:
    words = f"tenant {str(tenant)[:60]!r}: use 1 to 128 bytes of printable text"
    with pytest.raises(InvalidOptions) as caught:
        Queue("mail", weights={tenant: 1})
    assert str(caught.value) == words
    if tenant is not None:
        with pytest.raises(InvalidOptions) as caught:
            mail().options(tenant=tenant)
        assert str(caught.value) == words


def mail() -> Any:
    """Return an actor."""

    @Actors(queue="mail").actor()
    async def greet(name: str) -> str:
        return name

    return greet


@pytest.mark.parametrize("name", ["", "two words", "a\0b", "x" * 65, "ä", 7, None])
def test_name_that_is_no_queue_is_refused(name: Any) -> None:
    with pytest.raises(InvalidOptions, match="use 1 to 64 letters"):
        Queue(name)


def test_limit_of_a_queue_goes_by_no_argument() -> None:
    with pytest.raises(InvalidOptions) as caught:
        Queue("mail", limits=[Concurrency(1, per="customer")])
    assert str(caught.value) == (
        "queue mail: per='customer' names no argument: a queue's limit counts all its jobs; declare it on the actor"
    )  # fmt: skip
    with pytest.raises(InvalidOptions, match="queue mail: cost='pages' names no argument"):
        Queue("mail", limits=[RateLimit("5/day", cost="pages")])


@pytest.mark.parametrize("limits", [[3], ["3/day"], [None], [Queue("other")]])
def test_what_is_no_limit_is_refused(limits: Any) -> None:
    with pytest.raises(InvalidOptions, match=r"queue mail: limits are a list of Concurrency\(...\) and RateLimit\(...\), not"):
        Queue("mail", limits=limits)


def test_queue_that_is_declared_twice_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Runtime(queues=[Queue("mail"), Queue("photos"), Queue("mail", aging=5)])
    assert str(caught.value) == "Runtime(queues=): a queue is declared once, not twice: ['mail', 'photos', 'mail']"


@pytest.mark.parametrize("queue", ["mail", None, 3])
def test_what_is_no_queue_is_refused(queue: Any) -> None:
    with pytest.raises((ConfigError, InvalidOptions), match="queue"):
        Runtime(queues=[queue])


def test_policies_are_told_by_field() -> None:
    queue = Queue("mail", aging=timedelta(minutes=1), weights={"ann": 2, "bob & co": 0.25, "a,b=c*d": 100})
    assert queue.policies() == {
        "aging mail": "60000",
        "weight mail ann": "2",
        "weight mail bob%20%26%20co": "0.25",
        "weight mail a%2Cb%3Dc%2Ad": "100",
    }


def test_strict_queue_takes_aging_back() -> None:
    assert Queue("mail").policies() == {"aging mail": ""}
    assert (Queue("mail").aging_ms, Queue("mail", aging=0.5).aging_ms) == (0, 500)


@pytest.mark.parametrize("weight", [0.01, 0.333333, 1, 2.5, 99.99, 100])
def test_weight_is_told_exactly_enough(weight: float) -> None:
    assert float(Queue("mail", weights={"ann": weight}).policies()["weight mail ann"]) == pytest.approx(weight, rel=1e-5)


def test_longest_tenant_is_taken() -> None:
    name = "ä" * 64
    assert list(Queue("mail", weights={name: 1}).weights) == [name]
    assert mail().options(tenant=name).message("ann").options.tenant == name
