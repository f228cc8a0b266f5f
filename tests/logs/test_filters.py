"""Parameters in the log: which are masked, and which are not."""

from __future__ import annotations

from phx_protocol.logs.filters import filter_parameters

PARAMS = {
    "user": "ada",
    "userToken": "secret",
    "nested": [{"password": "secret", "a": 1}],
    "url": "/login?Password=secret",
    "note": "a password",
}


def test_a_parameter_with_one_of_the_names_in_it_is_masked_at_any_depth() -> None:
    assert filter_parameters(PARAMS, ["password", "token"]) == {
        "user": "ada",
        "userToken": "[FILTERED]",
        "nested": [{"password": "[FILTERED]", "a": 1}],
        "url": "[FILTERED]",
        "note": "a password",
    }


def test_all_parameters_except_some_can_be_masked() -> None:
    assert filter_parameters(PARAMS, {"keep": ["user", "a"]}) == {
        "user": "ada",
        "userToken": "[FILTERED]",
        "nested": [{"password": "[FILTERED]", "a": 1}],
        "url": "[FILTERED]",
        "note": "[FILTERED]",
    }


def test_a_value_that_is_not_a_mapping_stays() -> None:
    assert filter_parameters(None, ["token"]) is None
    assert filter_parameters(b"token=1", ["token"]) == b"token=1"
