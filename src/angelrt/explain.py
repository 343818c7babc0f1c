"""Why a job waits, in words and in data: the facts are of `explain.lua`, which asks the rules that `claim` goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

import orjson

from . import fleet, views
from .control import words
from .errors import JobNotFound
from .job import STATUS_OF_STATE, Explanation, Reason, at_ms, shown_record
from .stats import add_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from .job import WorkerInfo
    from .store import Store

HOUR_MS: Final = 3_600_000
PAUSED: Final = {"q": "queue", "a": "actor", "g": "key"}


class Told(NamedTuple):
    """What the script told of one job."""

    state: str
    queue: str
    score: float
    record: bytes
    run: bytes
    result: bytes
    facts: list[tuple[str, list[str]]]


async def explain(store: Store, job_id: str, *, lease_ms: float, attempts_of: Callable[[str], int | None]) -> Explanation:
    """Return what holds a job; `attempts_of` gives an actor's attempts where it is declared. Raises JobNotFound."""
    placed = (await store.inspect([job_id]))[0]
    if not placed.state:
        raise JobNotFound(views.not_found(job_id))
    workers = [one for one in await fleet.workers(store, lease_ms) if one.is_live and placed.queue in one.queues]
    told = await _ask(store, placed.queue, job_id, workers)
    record = shown_record(told.record)
    now_ms = store.server_ms()
    speed = await _speed(store, told.queue, now_ms) if told.state in ("ready", "lanes") else 0.0
    found = _Finder(job_id, told, workers, now_ms, speed, record.meta.get("a") or attempts_of(record.actor))
    reasons = list(found.reasons())
    status = STATUS_OF_STATE["lane" if told.state == "lanes" else told.state]
    queue = told.queue or (views.failed_in(views.read_outcome(told.result)[0].flow) if told.result else None)
    return Explanation(id=job_id, actor=record.actor, queue=queue, status=status, reasons=reasons, expected_at=found.expected_at(reasons))


async def _ask(store: Store, queue: str, job_id: str, workers: Sequence[WorkerInfo]) -> Told:
    actors = "\0".join(("", *{actor: None for one in workers for actor in one.actors}, ""))
    reply = await store.explain(job_id, [queue] if queue else [], actors)
    state, of_queue, score, record, run, result, *flat = reply
    if not state:
        raise JobNotFound(views.not_found(job_id))
    told = iter(part.decode(errors="replace") for part in flat)
    facts = [(name, [next(told) for _ in range(int(next(told)))]) for name in told]
    return Told(state.decode(), of_queue.decode(), float(score or 0), record, run, await store.blob_result(job_id, result), facts)


async def _speed(store: Store, queue: str, now_ms: float) -> float:
    """Return how many jobs of a queue ended in a second, by the counters of this hour and the one before."""
    replies = await store.commands(*[["HGETALL", store.keys.stats(ms)] for ms in (now_ms, now_ms - HOUR_MS)])
    hours = [add_up([dict(zip(flat[::2], flat[1::2], strict=True))]) for flat in replies]
    ended = [sum(n["completed"] + n["failed"] for (name, _), n in hour.items() if name == queue) for hour in hours]
    past_s = max(now_ms % HOUR_MS / 1000, 1.0)
    return ended[0] / past_s if ended[0] else ended[1] / (HOUR_MS / 1000)


class _Finder:
    """Turns what the script told into reasons."""

    def __init__(
        self, job_id: str, told: Told, workers: Sequence[WorkerInfo], now_ms: float, speed: float, attempts_max: int | None
    ) -> None:
        self._id = job_id
        self._told = told
        self._workers = workers
        self._now_ms = now_ms
        self._speed = speed
        self._run = views.read_run(told.run) if told.run else None
        self._words = {
            "paused": self._paused,
            "missing": self._missing,
            "gate": self._gate,
            "apart": self._apart,
            "behind": self._behind,
            "line": self._line,
        }
        self._attempts_max = f" of {attempts_max}" if attempts_max else ""

    def reasons(self) -> Iterator[Reason]:
        """Yield what holds the job, the strongest reason first."""
        state = self._told.state
        if state in views.ENDED:
            yield self._ended(state)
            return
        if state == "leased":
            yield from self._running()
            return
        if state == "delayed":
            yield self._due()
        for name, values in self._told.facts:
            yield self._words[name](values)
        yield from self._expires()

    def expected_at(self, reasons: Sequence[Reason]) -> datetime | None:
        """Return when the job is expected to begin: the latest of what is known; None beside a reason that only somebody can end."""
        times: list[float] = []
        for reason in reasons:
            if reason.kind in ("paused", "missing", "no_worker", "apart", "ended", "running", "stopping"):
                return None
            if reason.kind in ("gate", "due") and reason.data["atMs"] is None:
                return None
            if reason.kind in ("gate", "line", "due"):
                times.append(reason.data["atMs"] or 0)
        return at_ms(max(times)) if times and max(times) > 0 else None

    def _ended(self, state: str) -> Reason:
        run, payload = views.read_outcome(self._told.result) if self._told.result else (None, b"")
        when = f"{at_ms(self._told.score):%Y-%m-%d %H:%M:%S} UTC"
        if state == "cancelled" and run is not None:
            return Reason(kind="ended", text=f"it {views.why_cancelled(run.flow)} at {when}", data={"outcome": state})
        error = self._error(payload)
        tries = f" after {run.attempts} attempt{'s' if run.attempts != 1 else ''}" if run is not None else ""
        return Reason(kind="ended", text=f"it {state} at {when}{tries}{error}", data={"outcome": state})

    def _running(self) -> Iterator[Reason]:
        run = self._run
        if run is None:
            return
        since = f"{at_ms(run.started_ms):%H:%M:%S} UTC"
        data = {"worker": run.worker, "attempt": run.attempts, "sinceMs": run.started_ms}
        yield Reason(
            kind="running", text=f"it runs on worker {run.worker} since {since}, attempt {run.attempts}{self._attempts_max}", data=data
        )
        who = next((item[1:] for item in run.flow.split(",") if item[0] == "k"), "")
        if who:
            yield Reason(kind="stopping", text=f"{unquote(who)} has cancelled it: its run was asked to stop", data={"by": unquote(who)})

    def _due(self) -> Reason:
        due_ms = self._told.score
        text = f"it is due at {at_ms(due_ms):%Y-%m-%d %H:%M:%S} UTC, {in_words(due_ms - self._now_ms)}"
        if self._run is not None and self._run.attempts:
            error = self._error(views.read_outcome(self._told.result)[1] if self._told.result else b"")
            text = f"attempt {self._run.attempts + 1}{self._attempts_max} {text.removeprefix('it ')}{error}"
        return Reason(kind="due", text=text, data={"atMs": due_ms})

    def _error(self, payload: bytes) -> str:
        error = views.error_of(payload)
        return f"; the last error was {error.type}: {error.message}" if error else ""

    def _paused(self, values: list[str]) -> Reason:
        kind, name, value = values
        told = orjson.loads(value)
        since = f"{at_ms(told['at']):%Y-%m-%d %H:%M:%S} UTC"
        why = f": {told['reason']}" if told["reason"] else ""
        text = f"{PAUSED[kind]} {unquote(name)} is paused since {since} by {told['by']}{why}"
        return Reason(kind="paused", text=text, data={"what": PAUSED[kind], "name": name, **told})

    def _missing(self, values: list[str]) -> Reason:
        queue = self._told.queue
        if not self._workers:
            return Reason(kind="no_worker", text=f"no live worker serves queue {queue}", data={"queue": queue})
        text = f"no live worker of queue {queue} has actor {values[0]}: deploy one that declares it"
        return Reason(kind="missing", text=text, data={"actor": values[0]})

    def _gate(self, values: list[str]) -> Reason:
        kind, name, at, limit, taken, held_until, *holders = values
        at_time = None if at == "-1" else float(at)
        data = {"gate": name, "limit": words(limit), "taken": int(taken), "atMs": at_time, "holders": holders}
        rule, _, value = name.partition("=")
        shown = f"limit {unquote(rule)}{f' for {unquote(value)}' if value else ''}: {words(limit)}"
        if float(held_until) > self._now_ms:
            text = f"{shown}; held back, as a run was told to try again {in_words(float(held_until) - self._now_ms)}"
        elif (at_time is not None and at_time <= self._now_ms) or (kind == "c" and not holders):
            text = f"{shown}; it opens when those before this job have gone"
        elif kind == "c":
            text = f"{shown}; held by {', '.join(holders)}{f' and {int(taken) - len(holders)} more' if int(taken) > len(holders) else ''}"
        elif at_time is None:
            text = f"{shown}, which is less than this job takes: raise the limit or cancel it"
        else:
            text = f"{shown}; {taken} taken, and enough are free {in_words(at_time - self._now_ms)}"
        return Reason(kind="gate", text=text, data=data)

    def _apart(self, values: list[str]) -> Reason:
        deaths = int(values[0])
        if deaths == 1:
            text = (
                "it waits for a worker that runs nothing else, with at most seven others that were in the same danger: its last worker died"
            )
        else:
            text = f"it waits to run alone: its last {deaths} workers died"
        return Reason(kind="apart", text=text, data={"deaths": deaths})

    def _behind(self, values: list[str]) -> Reason:
        before, of = map(int, values)
        tenant = self._tenant()
        whose = f" of tenant {tenant}" if tenant else ""
        text = (
            f"{before} of the {of} jobs{whose} that wait there stand before it"
            if before
            else f"it is the first of {of}{whose} that wait there"
        )
        data: dict[str, Any] = {"before": before, "of": of}
        if tenant:
            text += "; tenants take turns"
            data["tenant"] = tenant
        return Reason(kind="behind", text=text, data=data)

    def _tenant(self) -> str:
        return unquote(next((item[1:] for item in (self._run.flow if self._run else "-").split(",") if item[0] == "t"), ""))

    def _line(self, values: list[str]) -> Reason:
        place, of = map(int, values)
        data: dict[str, Any] = {"place": place, "of": of, "jobsPerS": self._speed, "atMs": None}
        tenant = self._tenant()
        text = f"it is number {place} of {of} in line"
        if tenant:
            text = f"it is number {place} of {of} in the line of tenant {tenant}; tenants take turns"
            data["tenant"] = tenant
        elif self._speed and not any(name in ("paused", "missing", "gate") for name, _ in self._told.facts):
            data["atMs"] = self._now_ms + place / self._speed * 1000
            text += f"; at the present {self._speed:.3g} jobs a second it begins {in_words(data['atMs'] - self._now_ms)}"
        running, slots = sum(one.running for one in self._workers), sum(one.concurrency for one in self._workers)
        if slots and running >= slots:
            whose = f"the {len(self._workers)} workers" if len(self._workers) > 1 else "the only worker"
            text += f"; all {slots} slots of {whose} are taken" if slots > 1 else f"; the only slot of {whose} is taken"
        return Reason(kind="line", text=text, data=data | {"running": running, "slots": slots})

    def _expires(self) -> Iterator[Reason]:
        at = next((item[1:] for item in (self._run.flow if self._run else "-").split(",") if item[0] == "x"), "")
        if at:
            text = f"it is cancelled if it has not begun {in_words(float(at) - self._now_ms)}"
            yield Reason(kind="expires", text=text, data={"atMs": float(at)})


def in_words(milliseconds: float) -> str:
    """Return a time from now in words, as "in 3 min 20 s"."""
    total_s = milliseconds / 1000
    if total_s < 1:
        return "now" if total_s <= 0 else f"in {milliseconds:.0f} ms"
    days, rest = divmod(round(total_s), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    return "in " + " ".join([f"{number} {unit}" for number, unit in parts if number][:2])
