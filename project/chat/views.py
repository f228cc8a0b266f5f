from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseForbidden,
    JsonResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from phx_protocol.tokens import user_token

from .forms import RoomForm
from .models import Room


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    form = RoomForm(request.POST or None)
    if form.is_valid():
        return redirect(form.get_room())
    listed = Room.objects.annotate(total=Count("messages")).order_by("name")
    return render(request, "chat/rooms.html", {"rooms": listed, "form": form})


@never_cache  # the channel brings only what was said since the page was made
def room(request: HttpRequest, name: str) -> HttpResponse:
    """Open to all: it is the channel's join that turns visitors away. They see no messages."""
    room = get_object_or_404(Room, name=name)
    context = {
        "room": room,
        "latest": room.latest() if request.user.is_authenticated else None,
        "rooms": Room.objects.all(),
        "form": RoomForm(),
    }
    return render(request, "chat/room.html", context)


@require_POST
@login_required
def hello(request: HttpRequest, name: str) -> HttpResponse:
    """An ordinary view that reaches everybody in the room: the message does it itself.

    Everybody but the page that asks: that one has the message from the answer.
    """
    assert request.user.is_authenticated  # as the decorator sees to
    room = get_object_or_404(Room, name=name)
    body = "Hello from a Django view!"
    message = room.messages.create(author=request.user, body=body)
    return JsonResponse(message.as_payload())


def token(request: HttpRequest) -> HttpResponse:
    """A new token for a page that is open for days, as long as its visitor is signed in."""
    if not request.user.is_authenticated:
        return HttpResponseForbidden()
    new = user_token(request.user, request.session)
    return HttpResponse(new, content_type="text/plain")
