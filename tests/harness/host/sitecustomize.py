"""Makes a Python process run as if on another host, configured by its environment.

`TEST_HOST_NAME` is the name of the host: a UTS namespace of its own where the process may
have one, else what `socket.gethostname` returns. `TEST_HOST_CLOCK` is how many seconds its
clock is ahead. Child processes inherit the variables, so they run on the same host.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import socket
import sys
import time

_CLONE_NEWUTS = 0x04000000


def enter_host(name: str) -> None:
    """Set the host name of this process and its children."""
    if socket.gethostname() == name:
        return
    if sys.platform == "linux" and ctypes.CDLL(None).unshare(_CLONE_NEWUTS) == 0:
        socket.sethostname(name)
    else:
        socket.gethostname = lambda: name


def shift_clock(seconds: float) -> None:
    """Set the clock of this process ahead: `time.time`, and `now` of the type `datetime`.

    The type itself is patched, not replaced: its instances, and the annotations that name
    it, must refer to the same type.
    """
    read, ahead = time.time, datetime.timedelta(seconds=seconds)
    usual = datetime.datetime.now

    def now(cls: type, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        moment = usual(datetime.UTC) + ahead
        return moment.astimezone(tz) if tz else moment.astimezone().replace(tzinfo=None)

    time.time = lambda: read() + seconds
    (methods,) = gc.get_referents(datetime.datetime.__dict__)
    methods["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if _name := os.environ.get("TEST_HOST_NAME"):
    enter_host(_name)
if _seconds := float(os.environ.get("TEST_HOST_CLOCK") or 0):
    shift_clock(_seconds)
