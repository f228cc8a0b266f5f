"""Health: whether a process lives, and whether it takes clients, as views.

``get_phoenix_application(health="/healthz")`` answers the same before Django does.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from .transports.probes import readiness


def live(request: HttpRequest) -> HttpResponse:
    """Answer 200: the process lives. A view for your ``urlpatterns``."""
    return _response(200, "ok")


async def ready(request: HttpRequest) -> HttpResponse:
    """Answer 200, or 503 while the process drains. A view for your ``urlpatterns``.

    With ``?layer`` or ``?state`` also 503 while the channel layer or the state is away.
    """
    return _response(*readiness(request.META.get("QUERY_STRING", "")))


def _response(status: int, text: str) -> HttpResponse:
    answer = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    answer["Cache-Control"] = "no-store"
    return answer
