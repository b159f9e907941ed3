"""What every gunicorn of a walk has in common."""

# Several servers run at once on a test machine; its socket would be shared by all of
# them.
from __future__ import annotations

control_socket_disable = True
graceful_timeout = 3
