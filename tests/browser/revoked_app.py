"""The page of token_app at a site whose tokens can be revoked."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.revocation_settings")

from phx_protocol.asgi import get_phoenix_application  # noqa: E402
from tests.integration.token_app import page  # noqa: E402

application = get_phoenix_application(http=page)
