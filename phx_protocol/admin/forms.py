"""The form of a broadcast."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget

from ..exceptions import DecodeError
from ..wire import json

#: the most characters of an event, as MAX_EVENT_LENGTH is for clients
EVENT_LENGTH = 1024


#: this event closes connections, if it is broadcast on a topic that is the id of a Socket
DISCONNECT = "disconnect"


class BroadcastForm(forms.Form):
    """The form of an event and its payload, which is a JSON object.

    It refuses the events of the protocol itself, and ``disconnect`` of a user without the
    permission to disconnect.
    """

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

    def __init__(self, *args: Any, may_disconnect: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._may_disconnect = may_disconnect

    def clean_event(self) -> str:
        event: str = self.cleaned_data["event"]
        if event.startswith("phx_"):
            raise forms.ValidationError(
                "Events that begin with phx_ are the protocol's own: clients would take it for a "
                "reply, a crash or the end of their channel."
            )
        if event == DISCONNECT and not self._may_disconnect:
            raise forms.ValidationError(
                "This event closes connections, which you may not do."
            )
        return event

    def clean_payload(self) -> str:
        """Check the payload and return it as it was typed; ``decoded()`` returns its value."""
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
    """Return `error` with the line and column of the field instead of the byte that it names."""
    found = re.search(r" \(byte (\d+)\)", error)
    if found is None:
        return error
    before = typed.encode()[: int(found[1])].decode(errors="ignore")
    lines = before.replace("\r\n", "\n").split("\n")
    place = f" in line {len(lines)}, column {len(lines[-1]) + 1}"
    return error.replace(found[0], place)
