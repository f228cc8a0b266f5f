"""A page that says where Django takes it to be."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.scheme} {request.path_info}")


urlpatterns = [path("page", page)]
