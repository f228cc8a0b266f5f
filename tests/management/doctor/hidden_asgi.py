from __future__ import annotations

from tests.management.doctor.asgi import application as inner
from tests.support.middleware import hidden

application = hidden(inner)
