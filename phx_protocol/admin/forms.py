"""The form of a broadcast."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget

from ..exceptions import DecodeError
from ..wire import json

#: characters of an event, as MAX_EVENT_LENGTH has it for clients
EVENT_LENGTH = 1024


class BroadcastForm(forms.Form):
    """An event and its payload, which is a JSON object."""

    event = forms.CharField(
        max_length=EVENT_LENGTH,
        help_text="As in new_msg.",
        strip=False,
        widget=AdminTextInputWidget(
            attrs={"autocapitalize": "none", "autocomplete": "off", "autofocus": True}
        ),
    )
    payload = forms.CharField(
        help_text='A JSON object, as in {"body": "hello"}.',
        initial="{}",
        strip=False,
        widget=AdminTextareaWidget(attrs={"spellcheck": "false"}),
    )

    def clean_payload(self) -> str:
        """The payload as it was typed; ``decoded()`` has its value."""
        typed: str = self.cleaned_data["payload"]
        try:
            payload = json.decode(typed)
        except DecodeError as error:
            raise forms.ValidationError(f"This is {_with_place(str(error), typed)}.")
        if not isinstance(payload, dict):
            raise forms.ValidationError(
                'The payload must be a JSON object, as in {"body": "hello"}.'
            )
        return typed

    def decoded(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.decode(self.cleaned_data["payload"])
        return payload


def _with_place(error: str, typed: str) -> str:
    """`error` with the line and the column, in the field, of the byte that it names."""
    found = re.search(r" \(byte (\d+)\)", error)
    if found is None:
        return error
    before = typed.encode()[: int(found[1])].decode(errors="ignore")
    lines = before.replace("\r\n", "\n").split("\n")
    place = f" in line {len(lines)}, column {len(lines[-1]) + 1}"
    return error.replace(found[0], place)
