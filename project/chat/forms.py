from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.http import HttpRequest
from django.utils.text import slugify

from .models import Room


class NameForm(forms.Form):
    """Sign in with a name alone. Users with a password must use the login of the admin."""

    name = forms.CharField(
        label="Your name", max_length=30, validators=[UnicodeUsernameValidator()]
    )
    name.widget.attrs.update(
        autofocus=True, autocomplete="nickname", spellcheck="false"
    )

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def clean_name(self) -> str:
        name: str = User.normalize_username(self.cleaned_data["name"])
        for user in User.objects.filter(username__iexact=name):
            privileged = user.is_staff or user.is_superuser or not user.is_active
            if privileged or user.has_usable_password():
                raise forms.ValidationError("This name is taken.", "taken")
        return name

    def get_user(self) -> User:
        user, _ = User.objects.get_or_create(
            username=self.cleaned_data["name"],
            defaults={"password": make_password(None)},
        )
        return user


class RoomForm(forms.Form):
    """Open a room: "Book Club" becomes book-club."""

    name = forms.CharField(label="Open a room", max_length=40)
    name.widget.attrs.update(placeholder="book-club", autocomplete="off")

    def clean_name(self) -> str:
        name: str = slugify(self.cleaned_data["name"])
        if not name:
            raise forms.ValidationError("Use letters, digits and hyphens.", "invalid")
        return name

    def get_room(self) -> Room:
        return Room.objects.get_or_create(name=self.cleaned_data["name"])[0]
