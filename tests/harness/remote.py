"""Runs the client `migration-route` in a process of its own, as a pipeline does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.deadlines import until
from tests.harness.project import SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent


def environment(url: str, who: str | None = "ci", **more: str) -> dict[str, str]:
    """Return the environment of a pipeline job: the URL of the API, and a token."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "MIGRATION_ROUTE_", "PYTEST_"))
    }
    token = {"MIGRATION_ROUTE_TOKEN": SECRETS[who]} if who else {}
    path = f"{BIN}{os.pathsep}{own['PATH']}"
    return {**own, **token, "MIGRATION_ROUTE_URL": url, "PATH": path, **more}


def call(
    url: str, *words: str, who: str | None = "ci", text: str = "", timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    """Run the client to its end."""
    answer = subprocess.run(
        [BIN / "migration-route", *words],
        env=environment(url, who),
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    _look_at(answer.stdout + answer.stderr)
    return answer


def as_json(url: str, *words: str, code: int = 0, who: str = "ci") -> Any:
    """Run the client with `--json` and decode its output."""
    answer = call(url, *words, "--json", who=who)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


class Calling:
    """A running client; its output goes to files beside the project."""

    def __init__(
        self, folder: Path, command: list[str | Path], words: Mapping[str, str]
    ) -> None:
        self.said = folder / f"client-{id(self):x}.out"
        self.errors = folder / f"client-{id(self):x}.err"
        with self.said.open("wb") as out, self.errors.open("wb") as error:
            self.process = subprocess.Popen(
                command,
                env=dict(words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                start_new_session=True,
            )

    def text(self) -> str:
        """Return its output so far, from both streams."""
        return self.said.read_text() + self.errors.read_text()

    def await_words(self, words: str) -> None:
        """Wait until it has printed this."""
        until(lambda: words in self.text(), seconds=40, what=f"{words!r}\n{self.text()}")

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self, *, seconds: float = 60) -> int:
        """Wait for its end and return the exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the client has not ended\n{self.text()}") from None
        _look_at(self.text())
        return code


def begin(folder: Path, url: str, *words: str, who: str = "ci") -> Calling:
    """Start the client and return at once."""
    return Calling(folder, [BIN / "migration-route", *words], environment(url, who))


def _look_at(text: str) -> None:
    assert "Traceback" not in text, text
    for secret in SECRETS.values():
        assert secret not in text, "a secret is printed"
