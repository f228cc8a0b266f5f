"""Masking a client's parameters in the log (``Phoenix.Logger``'s ``filter_parameters``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILTERED = "[FILTERED]"


def is_hidden(name: str, names: Any) -> bool:
    """Return True if the value of the parameter `name` is masked.

    `names` is a list: a parameter is masked if its name contains one of them, ignoring case. Or
    it is ``{"keep": [...]}``: all parameters except these are masked.
    """
    if isinstance(names, Mapping):
        return name not in names["keep"]
    lower = name.lower()
    return any(hidden.lower() in lower for hidden in names)


def filter_parameters(value: Any, names: Any) -> Any:
    """Return `value` with every hidden parameter masked, at any depth.

    A text that contains ``name=`` of a hidden parameter is masked too. See ``is_hidden`` for `names`.
    """
    if isinstance(value, dict):
        return {key: _value(str(key), v, names) for key, v in value.items()}
    if isinstance(value, list):
        return [filter_parameters(item, names) for item in value]
    if isinstance(value, str):
        return FILTERED if _has_secret(value, names) else value
    return value


def _value(name: str, value: Any, names: Any) -> Any:
    if not is_hidden(name, names):
        return filter_parameters(value, names)
    if isinstance(names, Mapping) and isinstance(value, (dict, list)):
        return filter_parameters(value, names)  # a name to keep may be deeper inside
    return FILTERED


def _has_secret(text: str, names: Any) -> bool:
    if isinstance(names, Mapping):
        return False
    lower = text.lower()
    return any(f"{name.lower()}=" in lower for name in names)
