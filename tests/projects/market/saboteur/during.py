"""A process that blocks a statement, and strikes while it waits.

It outlives the process it kills: the session of a killed worker still waits for the lock
that this process holds, and continues when the lock is released.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import closing

from saboteur.apps import say_struck
from saboteur.sessions import activity_of, connect, is_postgres, kill_session

UNSEEN = 3.0  # seconds after which it strikes although the statement was not seen to wait
HELD = 3.0  # seconds for which the session of the killed process keeps waiting


def main() -> None:
    """Hold the lock, strike, and release the lock after a while."""
    order = json.loads(sys.argv[1])
    with closing(connect()) as blocker, closing(connect()) as other:
        hold(blocker.cursor())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        watch(lambda: is_waiting(other, order["session"]), UNSEEN)
        say_struck(order["label"])
        if order["target"] == "backend":
            kill_session(other, order["session"])
        elif order["target"] != "host":  # the sweep interrupts the host
            os.kill(order[order["target"]], signal.SIGKILL)
        watch(lambda: activity_of(other, order["session"]) is None, HELD)


def hold(cursor) -> None:
    """Take a lock that blocks both a change of the table and a concurrent index build."""
    cursor.execute("BEGIN")
    if is_postgres():
        cursor.execute("LOCK TABLE shop_item IN ROW EXCLUSIVE MODE")
    else:
        cursor.execute("SELECT id FROM shop_item LIMIT 1")


def is_waiting(other, session: int) -> bool:
    """Return whether the statement waits for the lock."""
    waits_for = activity_of(other, session) or ""
    return waits_for == "Lock" or "metadata lock" in waits_for


def watch(seen, seconds: float) -> None:
    """Wait until the condition is true, or for that many seconds."""
    deadline = time.monotonic() + seconds
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
