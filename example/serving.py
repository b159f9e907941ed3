"""Serves the demo with gunicorn where it is installed, else with Django's own server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from django.core.handlers.wsgi import WSGIHandler

HOST = "127.0.0.1"


def serve(application: WSGIHandler, port: int, *, announce: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; call `announce` when the port is open."""
    if find_spec("gunicorn"):
        _gunicorn(application, port, announce)
    else:
        _django(application, port, announce)


def _gunicorn(application: WSGIHandler, port: int, announce: Callable[[], None]) -> None:
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in {
                "bind": f"{HOST}:{port}",
                "workers": 1,
                "threads": 8,
                "graceful_timeout": 3,
                "loglevel": "warning",
                "control_socket_disable": True,
                "when_ready": lambda _: announce(),
            }.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> WSGIHandler:
            return application

    Server().run()


def _django(application: WSGIHandler, port: int, announce: Callable[[], None]) -> None:
    from django.core.servers.basehttp import run

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        run(HOST, port, application, threading=True, on_bind=lambda _: announce())
    except KeyboardInterrupt:
        print("\nThe demo has stopped.")
    except OSError as error:
        raise SystemExit(f"Port {port} cannot be used: {error}") from error
