"""Rooms with traces, exported into the file SPANS: ``uvicorn tests.contrib.traces_asgi:application``."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.contrib.traces_settings")

from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import (  # noqa: E402
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)

from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from phx_protocol.contrib import opentelemetry  # noqa: E402


def line(span: ReadableSpan) -> str:
    return span.to_json(indent=None) + "\n"


exporter = ConsoleSpanExporter(out=open(os.environ["SPANS"], "a"), formatter=line)
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
opentelemetry.instrument()
application = get_phoenix_application()
