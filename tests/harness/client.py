"""HTTP client of the end-to-end tests.

It checks every response once for all tests: an error is a problem with a code, every
response names its build, and none contains a secret.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from tests.harness.project import PASSWORD, SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API = "/_m/api/v1/"
NEVER_TO_BE_SEEN = (*SECRETS.values(), "walk-secret-key")


class Surprise(AssertionError):
    """An unexpected response, with all of its content."""

    def __init__(self, answer: httpx.Response, expected: str) -> None:
        request = answer.request
        super().__init__(
            f"{request.method} {request.url}\n"
            f"expected {expected}, got {answer.status_code}\n"
            f"{dict(answer.headers)}\n{answer.text}"
        )


class Client:
    """A client of this package: with a token, as a signed-in user, or anonymous."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=90)
        self.http.event_hooks["response"] = [_look_at]

    def sign_in(self, name: str, *, at: str = "/admin/login/") -> httpx.Response:
        """Sign in as a user on the project's own login page."""
        self.http.get(at)
        form = {"username": name, "password": PASSWORD}
        form["csrfmiddlewaretoken"] = self.http.cookies["csrftoken"]
        answer = self.http.post(at, data=form)
        if answer.status_code == 302:
            self.http.headers["X-CSRFToken"] = self.http.cookies["csrftoken"]
        return answer

    def call(self, method: str, path: str, **words: Any) -> httpx.Response:
        """Call the API; the path is relative to `M/api/v1/`."""
        return self.http.request(method, API + path, **words)

    def get(self, path: str, **query: Any) -> Any:
        """GET from the API and return the body of a 200."""
        return expect(self.call("GET", path, params=query), 200)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return the status of every database, by alias."""
        return {entry["database"]: entry for entry in self.get("status")["databases"]}

    def ask_for_plan(self, *targets: str, database: str = "default") -> httpx.Response:
        """GET a plan and return any response."""
        query: dict[str, Any] = {"database": database, "target": list(targets)}
        return self.call("GET", "plan", params=query)

    def plan(self, *targets: str, database: str = "default") -> Any:
        return expect(self.ask_for_plan(*targets, database=database), 200)

    def ask_for_run(
        self,
        plan: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 90,
        **more: Any,
    ) -> httpx.Response:
        """POST a run of a plan, and return any response."""
        body = {
            "database": plan["database"],
            "targets": plan["targets"],
            "fingerprint": plan["fingerprint"],
            "reason": "a walk",
            **more,
        }
        return self.call("POST", "runs", json=body, headers=headers, timeout=timeout)

    def run(self, plan: Mapping[str, Any], **more: Any) -> Any:
        """POST a run and return it as accepted."""
        answer = self.ask_for_run(plan, **more)
        run = expect(answer, 202)
        if not answer.headers.get("Location", "").endswith(f"{API}runs/{run['id']}"):
            raise Surprise(answer, "Location of the run")
        return run

    def wait_for_end(self, run: str, *, seconds: float = 60) -> Any:
        """Poll a run until it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.call("GET", f"runs/{run}")
            body = expect(answer, 200)
            if body["ended"]:
                return body
            if time.monotonic() > deadline:
                events = self.call("GET", f"runs/{run}/events").text
                raise Surprise(answer, f"an end within {seconds:g} s; its events: {events}")
            time.sleep(0.2)

    def apply(self, *targets: str, database: str = "default") -> Any:
        """Read the plan, run it, and return the ended run."""
        return self.wait_for_end(self.run(self.plan(*targets, database=database))["id"])

    def events(self, run: str) -> list[dict[str, Any]]:
        """Return all events of a run, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["number"] if found else 0
            page = self.get(f"runs/{run}/events", after=after)["events"]
            if not page:
                return found
            found += page

    def printed(self, run: str) -> list[str]:
        """Return the lines that a run printed."""
        return [event["text"] for event in self.events(run) if event["kind"] == "output"]

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the ledger, oldest first."""
        found: list[dict[str, Any]] = []
        query: dict[str, Any] = {}
        while True:
            page = self.get("ledger", **query)
            found += page["entries"]
            if page["next"] is None:
                return found[::-1]
            query = {"before": page["next"]}


def expect(answer: httpx.Response, *statuses: int) -> Any:
    """Return the body when the status is one of these."""
    if answer.status_code not in statuses:
        raise Surprise(answer, f"{statuses}")
    return answer.json()


def expect_problem(
    answer: httpx.Response, statuses: int | Sequence[int], *codes: str
) -> dict[str, Any]:
    """Return the body of a problem that has one of these statuses and codes."""
    wanted = (statuses,) if isinstance(statuses, int) else tuple(statuses)
    if answer.status_code not in wanted:
        raise Surprise(answer, f"{wanted} {codes}")
    problem: dict[str, Any] = answer.json()
    if codes and problem["code"] not in codes:
        raise Surprise(answer, f"{codes}")
    return problem


def _look_at(answer: httpx.Response) -> None:
    path = answer.request.url.path
    if not path.startswith("/_m/"):
        return
    kind = answer.headers.get("Content-Type", "")
    is_stream = kind.startswith("text/event-stream")
    # The files of a zip file of this API are not compressed.
    errors = "replace" if kind == "application/zip" else "strict"
    text = "" if is_stream else answer.read().decode(errors=errors)
    for secret in NEVER_TO_BE_SEEN:
        if secret in text:
            raise Surprise(answer, f"nothing secret, but here is {secret!r}")
    if not path.startswith(API):
        return
    if "Migration-Route-Build" not in answer.headers:
        raise Surprise(answer, "a header Migration-Route-Build")
    # "Not ready" is a valid answer to a load balancer, not an error.
    is_error = answer.status_code >= 400 and path != f"{API}ready"
    if is_error and answer.request.method != "HEAD":
        _look_at_problem(answer, text)


def _look_at_problem(answer: httpx.Response, text: str) -> None:
    if "Traceback (most recent call last)" in text:
        raise Surprise(answer, "a problem without a traceback")
    if not answer.headers["Content-Type"].startswith("application/problem+json"):
        raise Surprise(answer, "a problem as application/problem+json")
    problem = answer.json()
    if not (problem.get("code") and problem.get("status") == answer.status_code):
        raise Surprise(answer, "a problem with a code and its status")
