"""The site: by which of its URLs it is known, and what clients connect to it with."""

from __future__ import annotations

import pytest

from tests.management.doctor.site import alone, faults, mount, site

__all__ = ["alone", "mount"]


def test_connect_parameters_and_tokens_are_passed_on(mount: str) -> None:
    args = (f"{mount}/guarded", "--idle", "0.5")
    assert [f["check"] for f in faults(*args)] == ["websocket"]
    assert not faults(*args, "--param", "token=good", "--param", "a=b c")
    assert not faults(*args, "--auth-token", "good")


@pytest.mark.parametrize(
    "url",
    ["http://a/s", "ws://a/s/", "http://a/s/websocket?vsn=1", "ws://a/s/longpoll"],
)
def test_a_mount_is_known_by_any_of_its_urls(url: str) -> None:
    assert site(url).websocket("2.0.0") == "ws://a/s/websocket?vsn=2.0.0"
    assert site(url).origin == "http://a"
