"""Wrong declarations: each one is an error under both checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shop import State, group, lifespan, rt, use

from angelrt import Actors, Context, Keep, Retention, RetryPolicy, Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@rt.actor  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
async def without_parentheses(path: str) -> str:
    return path


@rt.actor()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def a_def_where_an_async_def_belongs(path: str) -> str:
    return path


@rt.actor(qeue="photos")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
async def a_misspelt_option(path: str) -> str:
    return path


@rt.actor(queue=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def a_queue_that_is_no_text(path: str) -> str:
    return path


@group.thread_actor(timeout="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def a_timeout_that_is_text(path: str) -> str:
    return path


@group.process_actor(retry=8)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def a_number_where_a_policy_belongs(path: str) -> str:
    return path


@rt.remote(queue="billing")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def a_remote_actor_without_its_name(customer: str) -> str:
    raise NotImplementedError


@rt.remote(name="billing.refund", timeout=30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def a_timeout_that_the_other_service_decides(customer: str) -> str:
    raise NotImplementedError


def policies_and_retention() -> None:
    RetryPolicy(attempts="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(8, backoff=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retention(completed=3_600)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Keep("1h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Runtime(lease="15")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def not_async(context: Context[Any], call_next: Callable[[], Awaitable[Any]]) -> int:
    use(context, call_next)
    return 1


async def without_call_next(context: Context[Any]) -> Any:
    raise NotImplementedError


async def called_with_arguments(context: Context[Any], call_next: Callable[[Context[Any]], Awaitable[Any]]) -> Any:
    raise NotImplementedError


def middleware_of_another_shape() -> None:
    Runtime(middleware=[not_async])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Runtime(middleware=[without_call_next])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Runtime(middleware=[called_with_arguments])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Runtime(middleware=log_runs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def log_runs(context: Context[Any], call_next: Callable[[], Awaitable[Any]]) -> Any:
    raise NotImplementedError


async def no_context_manager() -> State:
    raise NotImplementedError


def states() -> None:
    Runtime(lifespan=no_context_manager)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    other: Runtime[int] = Runtime(lifespan=lifespan)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    Actors().include("shop.photos")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    group.worker()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    use(other)
