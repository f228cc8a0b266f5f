"""The ASGI application: Django, and the socket at /socket/websocket."""

import os

from phx_protocol.asgi import get_phoenix_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_phoenix_application()
