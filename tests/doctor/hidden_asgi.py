from __future__ import annotations

from tests.doctor.asgi import application as inner
from tests.wrapped import hidden

application = hidden(inner)
