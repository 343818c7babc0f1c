"""Random histories of a fleet against the real scripts: after every step, what the server holds is what the model says."""

from __future__ import annotations

import secrets

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from angelrt import store as store_module
from tests.properties import steps
from tests.properties.fleet import Fleet

PHASES = tuple(phase for phase in Phase if phase is not Phase.explain)  # it would trace every line of each step: minutes for little
STEPS_MIN = 50
EXAMPLES_A_ROUND = 10  # with more, Hypothesis goes over to small changes of earlier examples, and few histories are new


class QueueMachine(RuleBasedStateMachine):
    """One rule for all steps: of many rules, Hypothesis leaves out half in each example, and most histories would never get anywhere."""

    def __init__(self, url: str) -> None:
        """Take a namespace of the server."""
        super().__init__()
        self.fleet = Fleet(url)

    def teardown(self) -> None:
        self.fleet.close()

    @initialize(drafts=st.lists(steps.job_drafts, min_size=4, max_size=8))
    def begin(self, drafts: list[steps.JobDraft]) -> None:
        self.fleet.enqueue(drafts, "", "")

    @rule(step=steps.steps)
    def step(self, step: steps.Step) -> None:
        name, arguments = step
        getattr(self.fleet, name)(**arguments)

    @invariant()
    def server_holds_what_the_model_says(self) -> None:
        self.fleet.check()


@pytest.mark.timeout(3_600)  # a failure is worth the time that it takes to find its shortest history
def test_scripts_do_what_the_model_does(server_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(store_module, "RETRY_BASE_S", 0.0)  # the pauses are for a server that recovers; this one is well
    caplog.set_level("ERROR", "angelrt")  # thousands of requests and replies are lost here, on purpose
    profile = settings()
    steps_count = max(STEPS_MIN, profile.stateful_step_count)
    options = settings(profile, print_blob=True, phases=PHASES, max_examples=EXAMPLES_A_ROUND, stateful_step_count=steps_count)
    first = 0 if profile.derandomize else secrets.randbits(64)
    for number in range(first, first + profile.max_examples // 5):
        run_state_machine_as_test(seed(number)(lambda: QueueMachine(server_url)), settings=options)
