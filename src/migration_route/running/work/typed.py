"""How does a program type `manage.py migrate`? The project's own, whichever app has it."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser
from typing import TextIO, cast

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import DEFAULT_DB_ALIAS

from migration_route.running.messages import Order
from migration_route.running.work.output import LineWriter
from migration_route.vocabulary import Mode

_MODE_OPTIONS = {Mode.FAKE: "fake", Mode.FAKE_INITIAL: "fake_initial"}
_USUAL = {"interactive": "--no-input", "no_color": "--no-color"}
"""How the options are spelled that a command may well not have, or spell otherwise."""


def type_migrate(order: Order, target: str, streams: dict[str, LineWriter]) -> None:
    """Run `manage.py migrate` as if it had been typed."""
    provider = get_commands()["migrate"]
    command: BaseCommand = (
        provider
        if isinstance(provider, BaseCommand)
        else load_command_class(provider, "migrate")
    )
    command.stdout = OutputWrapper(cast("TextIO", streams["command_stdout"]))
    command.stderr = OutputWrapper(cast("TextIO", streams["command_stderr"]))
    parser = command.create_parser("manage.py", "migrate")
    place = target.split(".", 1) if target else []
    arguments = [*place, *_options(parser, order)]
    sys.argv = ["manage.py", "migrate", *arguments]
    options = vars(parser.parse_args(arguments))
    positional = options.pop("args", ())
    command.execute(*positional, **options)


def _options(parser: ArgumentParser, order: Order) -> list[str]:
    """Return the options of an order, each as this parser spells it: as in `call_command`,
    it is the destination of an option that counts.

    Raises `CommandError` where the command has no option for what the order asks for.
    """
    found = {action.dest: action for action in parser._actions if action.option_strings}
    words = []
    for destination, usual in _USUAL.items():
        if action := found.get(destination):
            words.append(_spelled(action, usual))
    if action := found.get("database"):
        words += [_spelled(action, "--database"), order.database]
    elif order.database != DEFAULT_DB_ALIAS:
        raise CommandError(
            "The migrate command of this project has no option for the database: it "
            f"cannot migrate {order.database!r}."
        )
    if mode := _MODE_OPTIONS.get(Mode(order.mode)):
        if mode not in found:
            raise CommandError(
                f"The migrate command of this project has no option for {mode!r}."
            )
        words.append(_spelled(found[mode], f"--{mode.replace('_', '-')}"))
    return words


def _spelled(action: Action, usual: str) -> str:
    return usual if usual in action.option_strings else action.option_strings[-1]
