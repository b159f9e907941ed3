"""Configuration that all gunicorn servers of the end-to-end tests share."""

# Several servers run at once on a test machine; they would all share its socket.
from __future__ import annotations

control_socket_disable = True
graceful_timeout = 3
