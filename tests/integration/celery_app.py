"""A worker that broadcasts: ``celery -A tests.integration.celery_app worker -P gevent``."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.views_settings")

import django  # noqa: E402
from celery import Celery  # noqa: E402

django.setup()

from phx_protocol import broadcast, disconnect_user  # noqa: E402

app = Celery("celery_app", broker=os.environ.get("PHX_REDIS_URL"))


@app.task(name="tell")  # type: ignore[misc]
def tell(topic: str, n: int) -> None:
    from django.contrib.auth.models import User

    disconnect_user(-1)
    broadcast(topic, "news", {"n": n, "users": User.objects.count()})
