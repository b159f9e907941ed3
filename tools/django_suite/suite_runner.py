"""Django's test runner, which also records the result of each test."""

from __future__ import annotations

from typing import Any

from django.test.runner import DiscoverRunner

OUTCOMES: dict[str, str] = {}
"""By test: passed, skipped, failed, "failed as expected" or "passed unexpectedly"."""


class TellingRunner(DiscoverRunner):
    """Runs the suite and stores its results in `OUTCOMES`."""

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        OUTCOMES.update({test.id(): "passed" for test in suite})
        result = super().run_suite(suite, **kwargs)
        told = {
            "skipped": [test for test, _ in result.skipped],
            "failed": [test for test, _ in [*result.failures, *result.errors]],
            "failed as expected": [test for test, _ in result.expectedFailures],
            "passed unexpectedly": result.unexpectedSuccesses,
        }
        for outcome, tests in told.items():
            OUTCOMES.update({_whole(test).id(): outcome for test in tests})
        return result


def _whole(test: Any) -> Any:
    """Return the test that a subtest belongs to."""
    return getattr(test, "test_case", test)
