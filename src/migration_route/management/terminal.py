"""How does a verb of the command say what it has found? As the remote client does."""

from __future__ import annotations

from migration_route.rendering.terminal import Terminal as Terminal
from migration_route.rendering.terminal import pretty as pretty
