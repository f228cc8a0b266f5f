"""The configuration of the Django app."""

from __future__ import annotations

import os

from django.apps import AppConfig, apps
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV


class PhxProtocolConfig(AppConfig):
    name = "phx_protocol"
    verbose_name = "Phoenix Channels"

    def ready(self) -> None:
        from . import (  # noqa: F401 - each registers itself
            checks,
            django_json,
            introspection,
            presence,
            users,
        )
        from .receivers import event_log  # noqa: F401 - each registers itself

        if os.environ.get(DJANGO_AUTORELOAD_ENV) == "true":
            from .node.shutdown import close_sockets_at_exit

            close_sockets_at_exit()
        if apps.is_installed("django.contrib.auth"):
            from django.contrib.auth.signals import user_logged_in, user_logged_out

            from .receivers import django as receivers

            uid = "phx_protocol"
            user_logged_out.connect(receivers.close_sockets_of, dispatch_uid=uid)
            user_logged_in.connect(receivers.close_sockets_of_session, dispatch_uid=uid)
            receivers.watch_passwords()
