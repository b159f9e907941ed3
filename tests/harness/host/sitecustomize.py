"""Makes a Python process believe that it runs on another host, as its environment says.

`TEST_HOST_NAME` is the name of the host: a UTS namespace of its own where the process may
have one, else what `socket.gethostname` returns. `TEST_HOST_CLOCK` is how many seconds
its clock is ahead. The variables are inherited, so whatever the process starts runs on
the same host.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import socket
import sys
import time
from typing import Any

_CLONE_NEWUTS = 0x04000000
_Real = datetime.datetime


def enter_host(name: str) -> None:
    """Take the name of a host, in this process and in those that it starts."""
    if socket.gethostname() == name:
        return
    if sys.platform == "linux" and ctypes.CDLL(None).unshare(_CLONE_NEWUTS) == 0:
        socket.sethostname(name)
    else:
        socket.gethostname = lambda: name


def shift_clock(seconds: float) -> None:
    """Set the clock of this process ahead: `time.time` and `datetime.now`."""
    read, ahead = time.time, datetime.timedelta(seconds=seconds)

    class _Type(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, _Real)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, _Real)

    class Shifted(_Real, metaclass=_Type):
        """The type of moments; what it makes are ordinary ones."""

        def __new__(cls, *arguments: Any, **words: Any) -> Any:
            return _Real(*arguments, **words)

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return _Real.now(tz) + ahead

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    time.time = lambda: read() + seconds
    datetime.datetime = Shifted  # type: ignore[misc]


if _name := os.environ.get("TEST_HOST_NAME"):
    enter_host(_name)
if _seconds := float(os.environ.get("TEST_HOST_CLOCK") or 0):
    shift_clock(_seconds)
