"""Wrong uses of right declarations: each one is an error under both checkers."""

from __future__ import annotations

from datetime import UTC, datetime

from shop import Thumb, charge, digest, download, notify, rt, stateless, thumbnail, use

from angelrt import Context, Fail, Job, Retry, Snooze


async def arguments_of_a_plain_call() -> None:
    await thumbnail(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await thumbnail("a.jpg", size="big")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    download()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    digest(["1"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    charge(100, "c1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def arguments_of_a_job() -> None:
    await thumbnail.send()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await thumbnail.send("a.jpg", 256, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await thumbnail.send("a.jpg", sise=256)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await thumbnail.send(path=b"a.jpg")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await notify.send("a@b", 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    await charge.send("c1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await thumbnail.options(delay=60).send(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    download.send_sync(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.options(id="x").send_sync("a.jpg", size=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    digest.message([1], 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def options_of_one_send() -> None:
    thumbnail.options(dely=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    thumbnail.options(delay="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.options(at=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.options(priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.options(id=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.options(60)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    thumbnail.options(attempts=2.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rt.send("shop.thumbnail", {"path": "a.jpg"}, dely=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await rt.send("shop.thumbnail", "a.jpg")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.send_sync("shop.thumbnail", {"path": "a.jpg"}, dely=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rt.send_sync("shop.thumbnail", {"path": "a.jpg"}, delay="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def many_of_what_is_no_message() -> None:
    await rt.send_many([thumbnail])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rt.send_many([thumbnail.send("a.jpg")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.send_many_sync(["a.jpg"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    jobs: list[Job[str]] = await rt.send_many([thumbnail.message("a.jpg")])  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]
    use(jobs)


async def results_of_another_type() -> None:
    job = await thumbnail.send("a.jpg")
    text: str = await job.result(timeout=10)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    number: int = thumbnail.job("saved").result_sync()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    other: Job[str] = await thumbnail.send("a.jpg")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    count: int = download("https://example.org")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    thumb: Thumb = await charge.send("c1", 100)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await job.result(timeout="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    use((await job.result()).height)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    use((await job.info()).createdAt)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    use(text, number, other, count, thumb)


async def what_is_not_awaited() -> None:
    use(thumbnail.send("a.jpg").id)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    use(thumbnail("a.jpg").width)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]


@rt.actor()
async def the_context() -> None:
    use(rt.context.state.connexions)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    use(stateless.context.state.connections)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    rt.context.send(thumbnail)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.context.progress("half")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rt.context.attempt = "first"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    wrong: Context[int] = rt.context  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    rt.job(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    use(wrong)


async def verdicts(attempt: int) -> None:
    if attempt == 1:
        raise Retry(after="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    if attempt == 2:
        raise Retry(after=datetime.now(UTC))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    if attempt == 3:
        raise Snooze  # type: ignore[call-arg]  # pyright: ignore[reportGeneralTypeIssues]
    if attempt == 4:
        raise Snooze(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    raise Fail(after=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
