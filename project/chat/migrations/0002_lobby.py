from typing import Any

from django.db import migrations


def open_lobby(apps: Any, schema_editor: Any) -> None:
    apps.get_model("chat", "Room").objects.get_or_create(name="lobby")


class Migration(migrations.Migration):
    dependencies = [("chat", "0001_initial")]

    operations = [migrations.RunPython(open_lobby, migrations.RunPython.noop)]
