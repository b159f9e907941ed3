"""How is the process of a run started that other processes may have come for as well?"""

from __future__ import annotations

import socket
import subprocess

from migration_route.errors import LaunchFailed
from migration_route.ledger import carriers
from migration_route.ledger.records import RunRecord
from migration_route.running.launchers.process import begin


def start_taken(run: str, *words: str) -> tuple[RunRecord, subprocess.Popen[bytes]]:
    """Take a run, and start its process with these further words; of several callers,
    one does.

    Raises `NotInThisState` when it is another's or has begun, `UnknownRun`,
    `LaunchFailed`.
    """
    word = carriers.new_word()
    taken = carriers.take(run, word, host=socket.gethostname(), pid=None)
    try:
        return taken, begin(run, "run", run, f"--carrier={word}", *words)
    except LaunchFailed:
        carriers.hand_back(run, word)
        raise
