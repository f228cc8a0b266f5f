from __future__ import annotations

from collections.abc import Iterator

import pytest

from phx_protocol import logs
from tests import servers


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real redis-server for the whole run."""
    with servers.redis(tmp_path_factory.mktemp("redis")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(autouse=True)
def _a_fresh_log() -> None:
    """What a test logs is held back for what it repeats itself, not for other tests."""
    logs._repeats._written.clear()
