"""The README section «Five minutes in your own project», followed with the wheel."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of the wheel, as pip would install them."""
    built, installed = (
        tmp_path_factory.mktemp("built"),
        tmp_path_factory.mktemp("installed"),
    )
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", built], cwd=ROOT, check=True, timeout=120)
    (path,) = built.glob("django_migration_route-*.whl")
    zipfile.ZipFile(path).extractall(installed)
    return installed


@pytest.fixture
def environment(wheel: Path) -> Mapping[str, str]:
    kept = {
        key: text for key, text in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"
    }
    return {**kept, "PYTHONPATH": str(wheel), "PYTHONWARNINGS": "error"}


@pytest.fixture
def project(tmp_path: Path, environment: Mapping[str, str]) -> Path:
    command = [sys.executable, "-m", "django", "startproject", "mysite", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, timeout=60)
    return tmp_path


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each code block of the section."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Five minutes in your own project\n")[2].partition("\n## ")[
        0
    ]
    for language, block in BLOCK.findall(section):
        lines = block.splitlines()
        yield language, "\n".join(line.removeprefix("   ") for line in lines) + "\n"


def type_in(project: Path, environment: Mapping[str, str], line: str) -> str:
    """Run a line of a console block in a terminal; answer a question with yes."""
    program, *words = line.split()
    assert program == "python", line
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"yes\n")
        found = subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=environment,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_the_five_minutes_work_to_the_letter(project, environment):
    settings, urls = project / "mysite" / "settings.py", project / "mysite" / "urls.py"
    printed: dict[str, str] = {}
    for language, text in blocks():
        if language == "python" and "TOKENS" in text:
            entry = re.search(r"\{.*\}", printed["token"], re.DOTALL)
            assert entry, printed["token"]
            text = text.replace("[]", f"[{entry[0]}]")
        if language == "python":
            path = settings if text.startswith("# settings.py") else urls
            path.write_text(path.read_text() + text)
        else:
            for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
                if "pip install" in line:
                    continue  # the wheel is on the path already
                verb = line.split()[3]
                printed[verb] = type_in(project, environment, line)
    assert "auth.0001_initial" in printed["plan"]
    assert "applied      sessions.0001_initial" in printed["apply"]
    checked = type_in(project, environment, "python manage.py check")
    assert "no issues" in checked
    shown = type_in(project, environment, "python manage.py migration_route token list")
    assert "ci: apply, plan, read" in shown
    status = "python manage.py migration_route status --check"
    assert ": 0 pending, " in type_in(project, environment, status)


def test_the_wheel_is_what_was_used(environment):
    code = "import migration_route; print(migration_route.__file__)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, env=environment, capture_output=True)
    assert found.stdout.decode().startswith(environment["PYTHONPATH"])


def test_the_smallest_view_can_be_mounted_as_written(project, environment):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (block for _, block in BLOCK.findall(text) if "perform_migration" in block)
    settings, urls = project / "mysite" / "settings.py", project / "mysite" / "urls.py"
    settings.write_text(settings.read_text() + 'INSTALLED_APPS += ["migration_route"]\n')
    urls.write_text(urls.read_text() + block)
    assert "no issues" in type_in(project, environment, "python manage.py check")
