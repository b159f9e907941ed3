"""How does a program type `manage.py migrate`? The project's own, whichever app has it."""

from __future__ import annotations

import sys
from typing import TextIO, cast

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, OutputWrapper

from migration_route.running.messages import Order
from migration_route.running.work.output import LineWriter
from migration_route.vocabulary import Mode

_MODE_ARGUMENTS = {
    Mode.APPLY: (),
    Mode.FAKE: ("--fake",),
    Mode.FAKE_INITIAL: ("--fake-initial",),
}


def type_migrate(order: Order, target: str, streams: dict[str, LineWriter]) -> None:
    """Run `manage.py migrate` as if it had been typed."""
    place = target.split(".", 1) if target else []
    arguments = [
        *place,
        "--database",
        order.database,
        "--no-input",
        "--no-color",
        *_MODE_ARGUMENTS[Mode(order.mode)],
    ]
    sys.argv = ["manage.py", "migrate", *arguments]
    provider = get_commands()["migrate"]
    command: BaseCommand = (
        provider
        if isinstance(provider, BaseCommand)
        else load_command_class(provider, "migrate")
    )
    command.stdout = OutputWrapper(cast("TextIO", streams["command_stdout"]))
    command.stderr = OutputWrapper(cast("TextIO", streams["command_stderr"]))
    options = vars(command.create_parser("manage.py", "migrate").parse_args(arguments))
    positional = options.pop("args", ())
    command.execute(*positional, **options)
