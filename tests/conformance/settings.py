"""Django settings of the conformance application, and of the package's own tests."""

from __future__ import annotations

import os

#: servers of Redis, or a cluster
_redis = os.environ.get("PHX_REDIS_URL", "").split()
_layers = {
    "redis": {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {"hosts": _redis},
    },
    "pubsub": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": _redis},
    },
    "core": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": _redis, "capacity": 100_000},
    },
    # as it comes: 100 messages
    "core-default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": _redis},
    },
    "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}

SECRET_KEY = "conformance"
DEBUG = False
ALLOWED_HOSTS = ["*"]
# without "daphne", whose Twisted doubles the time in which a process is there; where runserver runs, it is added
INSTALLED_APPS = ["channels", "phx_protocol"]
ROOT_URLCONF = "tests.conformance.urls"
ASGI_APPLICATION = "tests.conformance.asgi.application"
USE_TZ = True
DATABASES: dict[str, object] = {}
PHX_PROTOCOL: dict[str, object] = {
    # as large as a frame may be here, which Phoenix does not limit: see ConformanceSocket
    "MAX_BROADCAST_SIZE": 11_000_000,
    "SOCKETS": {
        "/socket": "tests.conformance.channels.ConformanceSocket",
        "/strict": "tests.conformance.channels.StrictSocket",
        "/brief": "tests.conformance.channels.BriefSocket",
    },
}
if os.environ.get("PHX_LOCAL_BUS"):
    PHX_PROTOCOL["LOCAL_BUS"] = True
if _threshold := os.environ.get("PHX_GC_THRESHOLD"):
    PHX_PROTOCOL["GC_THRESHOLD"] = int(_threshold)
CHANNEL_LAYERS = {
    "default": _layers[os.environ.get("PHX_LAYER", "redis") if _redis else "memory"],
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"phx_protocol": {"handlers": ["console"], "level": "WARNING"}},
}
