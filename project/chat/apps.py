from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "project.chat"
