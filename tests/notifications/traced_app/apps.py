"""Exports the spans of this project to a file, one per line."""

from __future__ import annotations

import os
from pathlib import Path

from django.apps import AppConfig
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter


class TracedAppConfig(AppConfig):
    name = "tests.notifications.traced_app"

    def ready(self) -> None:
        """Export as a project does: in batches, in a separate thread."""
        if not (name := os.environ.get("TRACED_APP_FILE")):
            return
        file = Path(name).open("a", encoding="utf-8")  # noqa: SIM115 - for the process
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(
            out=file, formatter=lambda span: span.to_json(indent=None) + "\n"
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
