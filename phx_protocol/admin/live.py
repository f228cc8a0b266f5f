"""LiveAdmin: the base of the admin's pages for the models without tables."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from ..exceptions import PhxError, StateError
from ..introspection import list_sockets, sees_one_process

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

View = Callable[..., HttpResponseBase]
#: a page: its route, name and view, and the permission of its action (None: it has no action)
Page = tuple[str, str, View, str | None]

#: seconds after which a page loads its data again
REFRESH = 3


class LiveAdmin(ModelAdmin):
    """An admin whose pages need the permission ``view_<model>``, and those of actions their own too."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def pages(self) -> list[Page]:
        """Return the pages that replace Django's: nothing can be added, changed or deleted."""
        return [("", "changelist", self.changelist_view, None)]

    def get_urls(self) -> list[URLPattern]:
        model = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path(route, self._for_those_who_may(view, needs), name=f"{model}_{name}")
            for route, name, view, needs in self.pages()
        ]

    def _for_those_who_may(self, view: View, needs: str | None) -> View:
        """Wrap `view`: 403 without permission, and a page that explains an outage of the state."""

        @functools.wraps(view)
        def page(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            if not self.has_view_permission(request):
                raise PermissionDenied
            if needs is not None and not has_perm(request, needs):
                raise PermissionDenied
            try:
                return view(request, **kwargs)
            except (StateError, TimeoutError) as error:
                context = {"title": "No answer", "error": error}
                return self.render(request, "unavailable", context, status=503)

        return self.admin_site.admin_view(page)

    def render(
        self,
        request: HttpRequest,
        template: str,
        context: dict[str, Any],
        status: int = 200,
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "refresh": REFRESH,
        }
        name = f"admin/phx_protocol/{template}.html"
        return TemplateResponse(request, name, {**shared, **context}, status=status)

    def address(self, page: str, *args: str) -> str:
        """Return the URL of a page of this app: ``address("topic_change", address_of(topic))``."""
        name = f"admin:{self.opts.app_label}_{page}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    def act(
        self,
        request: HttpRequest,
        action: Callable[[], None],
        on: Model,
        done: str,
        then: str,
    ) -> HttpResponseRedirect:
        """Run `action`, log what was `done` to `on`, and show it on the page `then`.

        An action that fails may still have changed this process, so that is logged as well.
        """
        try:
            action()
        except (PhxError, TimeoutError) as error:
            done = f"{done} But this failed: {error}."
            messages.error(request, done)
        else:
            messages.success(request, done)
        self.log_change(request, on, done)
        return HttpResponseRedirect(then)


def has_perm(request: HttpRequest, permission: str) -> bool:
    """Return whether the user has a permission of this app: ``has_perm(request, "close_topic")``."""
    user: Any = request.user
    return bool(user.has_perm(f"phx_protocol.{permission}"))


def visibility() -> str:
    """Return which processes this one can see: "all", "itself" or "nothing".

    It is "nothing" if this process serves no socket and cannot see those that do.
    """
    if not sees_one_process():
        return "all"
    return "itself" if list_sockets(limit=1) else "nothing"


def to_datetime(seconds: float) -> datetime.datetime:
    """Return `seconds` of the epoch as a datetime for templates."""
    zone = datetime.timezone.utc if settings.USE_TZ else None
    return datetime.datetime.fromtimestamp(seconds, zone)
