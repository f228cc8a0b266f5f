from __future__ import annotations

from tests.doctor.asgi import application as inner
from tests.support.middleware import hidden

application = hidden(inner)
