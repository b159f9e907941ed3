"""Tests of COMMAND, which starts the project's commands, and of its default."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from migration_route.checks import check_settings
from migration_route.conf import read_settings
from migration_route.conf.command import command_line, default_command
from migration_route.core import subprocesses
from migration_route.core.errors import LaunchFailed

DJANGO = ("python", "-m", "django")
SETDEFAULT = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', {name!r})\n"
ASSIGN = "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = {name!r}\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a project whose settings are `shopfront.settings.production`."""
    root = tmp_path / "srv" / "shop"
    package = root / "shopfront" / "settings"
    package.mkdir(parents=True)
    (root / "shopfront" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "production.py").touch()
    monkeypatch.syspath_prepend(root)
    name = "shopfront.settings.production"
    module = ModuleType(name)
    module.__file__ = str(package / "production.py")
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", name)
    monkeypatch.chdir(tmp_path)
    return root


def write(folder: Path, text: str) -> Path:
    path = folder / "manage.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        SETDEFAULT.format(name="shopfront.settings.local"),
        SETDEFAULT.format(name="shopfront.settings.production"),
        ASSIGN.format(name="shopfront.settings.production"),
        "from shopfront.cli import main\nmain()\n",
    ],
    ids=["default", "same", "assigned", "elsewhere"],
)
def test_the_manage_py_beside_the_settings_is_used(shop: Path, text: str) -> None:
    """Regardless of the server's working directory."""
    path = write(shop, text)
    assert default_command() == ("python", str(path))
    assert command_line(()) == [sys.executable, str(path), "migration_route"]


@pytest.mark.parametrize(
    "text",
    [
        SETDEFAULT.format(name="bookings.settings"),
        ASSIGN.format(name="shopfront.settings.local"),
        ASSIGN.format(name="bookings.settings"),
        "this is no Python",
        "\0",
    ],
    ids=["other-default", "other-stage", "other-assigned", "broken", "null"],
)
def test_a_manage_py_with_other_settings_is_not_used(shop: Path, text: str) -> None:
    """It would use other databases."""
    write(shop, text)
    assert default_command() == DJANGO


def test_a_manage_py_of_somebody_else_is_not_used(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    """Neither in the working directory, nor in BASE_DIR unless that contains the
    settings."""
    stranger = tmp_path / "elsewhere"
    stranger.mkdir()
    write(stranger, SETDEFAULT.format(name="shopfront.settings.production"))
    monkeypatch.chdir(stranger)
    settings.BASE_DIR = stranger  # type: ignore[attr-defined]
    assert default_command() == DJANGO
    write(tmp_path, "import nothing_that_names_settings\n")
    monkeypatch.chdir(tmp_path)  # above the settings, but possibly another project's
    assert default_command() == DJANGO


@pytest.mark.parametrize("by", ["working directory", "BASE_DIR"])
def test_a_manage_py_above_the_sources_is_used(
    shop: Path, monkeypatch: pytest.MonkeyPatch, settings: object, by: str
) -> None:
    """As in a `src` layout."""
    path = write(shop.parent, SETDEFAULT.format(name="shopfront.settings.local"))
    if by == "BASE_DIR":
        settings.BASE_DIR = str(shop.parent)  # type: ignore[attr-defined]
    else:
        monkeypatch.chdir(shop.parent)
    assert default_command() == ("python", str(path))


def test_settings_that_are_no_file_have_djangos_own_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A removed working directory causes no error."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "made_in_memory")
    assert default_command() == DJANGO
    assert command_line(())[1:] == ["-m", "django", "migration_route"]


@pytest.mark.parametrize("first", ["python", "python3", "python3.13"])
def test_python_is_the_interpreter_of_this_process(shop: Path, first: str) -> None:
    """PATH may lead to another interpreter; a relative script is resolved beside the
    settings."""
    path = write(shop, "")
    words = command_line((first, "-X", "utf8", "manage.py"))
    expected = [sys.executable, "-X", "utf8", str(path), "migration_route"]
    assert words == expected


def test_a_program_of_ones_own_is_started_as_it_is(tmp_path: Path) -> None:
    """Such as an entry point that the project installs."""
    program = tmp_path / "shopctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert command_line((str(program), "admin")) == [
        str(program),
        "admin",
        "migration_route",
    ]


@pytest.mark.parametrize(
    "command",
    [["/no/such/program"], ["no-such-program", "x"], ["python", "no/such/manage.py"]],
)
def test_a_command_that_cannot_be_started_is_an_error(
    settings: object, command: list[str]
) -> None:
    """The system checks report it in advance; a launch fails as well."""
    settings.MIGRATION_ROUTE = {"COMMAND": command}  # type: ignore[attr-defined]
    (found,) = check_settings(None)
    assert found.id == "migration_route.E010"
    assert command[-1] in found.msg or command[0] in found.msg
    with pytest.raises(LaunchFailed, match="COMMAND cannot be started"):
        command_line(tuple(command))


@pytest.mark.parametrize(
    "wrong", ["python manage.py", [], {}, [1], [""], ["python", None], ["a\0b"], 7]
)
def test_a_command_that_is_no_list_of_words_is_told(
    settings: object, wrong: object
) -> None:
    """A string would have to be split."""
    found = read_settings({"COMMAND": wrong})
    assert found.command == ()
    assert any("COMMAND must be a list of strings" in text for text in found.problems)


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/usr/sbin/apache2"])
def test_an_embedded_interpreter_is_found(
    monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    """uWSGI and mod_wsgi report themselves, or nothing, as the executable."""
    monkeypatch.setattr(sys, "executable", executable)
    found = subprocesses.interpreter()
    code = "import sys; print(sys.prefix)"
    answer = subprocess.run([found, "-c", code], capture_output=True, check=True, text=True)
    assert answer.stdout.strip() == sys.prefix


def test_without_an_interpreter_the_launch_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message names the setting to change."""
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(LaunchFailed, match="COMMAND"):
        subprocesses.interpreter()


def test_a_process_with_other_settings_refuses_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that chooses its own settings would use other databases."""
    script = write(
        tmp_path,
        "import os, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n",
    )
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shopfront.settings")
    answer = subprocess.run(
        [*command_line(("python", str(script))), "status"],
        env=subprocesses.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode
    error = subprocesses.error_in(answer.stderr)
    assert "'tests.settings'" in error
    assert "'shopfront.settings'" in error
    assert "COMMAND" in error
    usual = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    typed = [sys.executable, str(script), "migration_route", "status", "--help"]
    assert subprocess.run(typed, env=usual, check=False).returncode == 0
