"""Where do the spans of this project go? Into a file, a line for each."""

from __future__ import annotations

import os
from pathlib import Path

from django.apps import AppConfig
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter


class TracedAppConfig(AppConfig):
    """The app."""

    name = "tests.notifications.traced_app"

    def ready(self) -> None:
        """Export, as a project does: in batches, by a thread of its own."""
        if not (name := os.environ.get("TRACED_APP_FILE")):
            return
        file = Path(name).open("a", encoding="utf-8")  # noqa: SIM115 - for the process
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(
            out=file, formatter=lambda span: span.to_json(indent=None) + "\n"
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
