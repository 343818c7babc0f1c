"""Key names: one hash tag for all, none shared by two purposes."""

from __future__ import annotations

import pytest

from angelrt import ConfigError
from angelrt.keys import OWN_KEYS, PAGE_KEYS, QUEUE_KEYS, STATS_HOURS, STATS_MINUTES, Keys

HOUR_MS, MINUTE_MS = 3_600_000, 60_000


def test_every_key_has_the_hash_tag_of_the_namespace_so_that_one_slot_holds_all() -> None:
    keys = Keys("shop.eu-1")
    every = keys.every(["a", "b"])
    assert all(key.startswith("{shop.eu-1}:") for key in (*every, keys.inbox("x")))
    assert len(set(every)) == len(every) == len(OWN_KEYS) + len(PAGE_KEYS) + STATS_HOURS + STATS_MINUTES + 2 * len(QUEUE_KEYS)


def test_the_keys_of_a_queue_come_in_the_order_of_the_scripts() -> None:
    assert QUEUE_KEYS == ("ready", "delayed", "leased", "lanes", "opens", "wake", "expires", "turns")
    keys = Keys("n")
    assert keys.queue("photos/large") == tuple(f"{{n}}:{name}:photos/large" for name in QUEUE_KEYS)
    assert keys.queue("photos/large") == keys.queue("photos/large")


def test_the_keys_of_the_partition_come_in_the_order_of_the_scripts_with_the_counters_of_hour_and_minute_last() -> None:
    keys = Keys("n")
    assert keys.own(HOUR_MS) == (*map(keys.key, OWN_KEYS), "{n}:stats:1", "{n}:minutes:60")
    assert keys.own(HOUR_MS - 1) == (*map(keys.key, OWN_KEYS), "{n}:stats:0", "{n}:minutes:59")
    assert len(set(OWN_KEYS)) == len(OWN_KEYS)
    assert not set(OWN_KEYS) & set(QUEUE_KEYS)


def test_a_channel_is_of_one_client_or_one_worker_and_no_key() -> None:
    keys = Keys("n")
    channels = [keys.inbox("x"), keys.inbox("y"), keys.asked("x"), keys.asked("y")]
    assert len(set(channels)) == len(channels)
    assert all(channel.startswith("{n}:") for channel in channels)
    assert not set(channels) & set(keys.every(["x", "y"]))


def test_queues_and_namespaces_never_share_a_key() -> None:
    first, second = Keys("n").every(["a", "a:b"]), Keys("n:a").every(["a", "a:b"])
    assert not set(first) & set(second)
    assert len(set(first)) == len(first)


def test_a_queue_cannot_take_the_name_of_a_key_of_the_partition() -> None:
    keys = Keys("n")
    own = set(keys.every([]))
    names = (*OWN_KEYS, *PAGE_KEYS, "stats", "1", "stats:1", "minutes:1")
    assert not own & {key for queue in names for key in keys.queue(queue)}


def test_the_counters_are_a_ring_of_hours() -> None:
    keys = Keys("n")
    assert keys.stats(0) == keys.stats(HOUR_MS - 0.001) == "{n}:stats:0"
    assert keys.stats(HOUR_MS) == "{n}:stats:1"
    assert keys.stats(STATS_HOURS * HOUR_MS) == keys.stats(0)
    assert keys.every_stats() == [keys.stats(hour * HOUR_MS) for hour in range(STATS_HOURS)]
    assert STATS_HOURS > 24 + 1  # a day, and the hour that runs


def test_the_counters_by_the_minute_are_a_ring_of_more_than_a_day() -> None:
    keys = Keys("n")
    assert keys.minute(0) == keys.minute(MINUTE_MS - 0.001) == "{n}:minutes:0"
    assert keys.minute(STATS_MINUTES * MINUTE_MS) == keys.minute(0) != keys.minute((STATS_MINUTES - 1) * MINUTE_MS)
    assert STATS_MINUTES > 24 * 60 + 1


def test_without_minutes_the_hour_is_named_for_them_and_counted_once() -> None:
    keys = Keys("n", minutes=False)
    assert keys.own(HOUR_MS)[-2:] == ("{n}:stats:1", "{n}:stats:1")


@pytest.mark.parametrize("namespace", ["a", "angelrt", "a" * 64, "A-1_b.c:d"])
def test_namespaces_that_can_be_part_of_a_key(namespace: str) -> None:
    assert Keys(namespace).namespace == namespace


@pytest.mark.parametrize("namespace", ["", "a" * 65, "a b", "a\n", "{a}", "a}", "a/b", "größe", "a\0"])
def test_any_other_namespace_is_refused_with_what_is_allowed(namespace: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Keys(namespace)
    assert str(caught.value) == f"namespace {namespace!r}: use 1 to 64 letters, digits, '_', '.', ':' or '-'"
