"""The error tree: one root, drawn as it is, and a JobFailed that says all it knows."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import angelrt
from angelrt import AngelError, Fail, JobFailed, Retry, Snooze, errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == "angelrt.errors"]


def failed(**changes: object) -> JobFailed:
    """Make the error of a job that failed in its second attempt."""
    parts: dict[str, object] = {
        "job_id": "P7DwYso6N1ndiK",
        "actor": "shop.thumbnail",
        "error_type": "ValueError",
        "error_message": "no picture",
        "remote_traceback": "Traceback (most recent call last):\n  ...\nValueError: no picture\n",
        "attempts": 2,
    }
    return JobFailed(**(parts | changes))  # type: ignore[arg-type]


def test_every_error_has_the_one_root_and_a_place_in_the_drawing() -> None:
    drawing = errors.__doc__ or ""
    for kind in CLASSES:
        assert issubclass(kind, AngelError)
        assert f" {kind.__name__} " in drawing or kind is AngelError
        assert kind.__doc__


def test_the_drawing_names_nothing_that_is_not_there() -> None:
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.strip().startswith(("├──", "└──"))}
    assert drawn == {kind.__name__ for kind in CLASSES} - {"AngelError"}


def test_every_error_can_be_caught_by_its_public_name() -> None:
    assert {kind.__name__ for kind in CLASSES} <= set(angelrt.__all__)


@pytest.mark.parametrize("verdict", [Retry, Snooze, Fail])
def test_verdicts_are_no_errors_of_the_library(verdict: type[Exception]) -> None:
    assert not issubclass(verdict, AngelError)


def test_job_failed_names_job_actor_error_and_attempts() -> None:
    head, _, trace = str(failed()).partition("\n\nremote traceback:\n")
    assert head == "job P7DwYso6N1ndiK of actor shop.thumbnail failed after 2 attempts: ValueError: no picture"
    assert trace.startswith("Traceback (most recent call last):")


def test_job_failed_after_one_attempt_without_a_traceback() -> None:
    assert str(failed(attempts=1, remote_traceback="")) == (
        "job P7DwYso6N1ndiK of actor shop.thumbnail failed after 1 attempt: ValueError: no picture"
    )


@pytest.mark.parametrize("clone", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301 - made in this line
def test_job_failed_survives_a_copy_and_a_process_pool(clone: type) -> None:
    error = failed()
    again = clone(error)
    assert type(again) is JobFailed
    assert vars(again) == vars(error)
    assert str(again) == str(error)
