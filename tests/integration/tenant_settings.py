"""A site with django-tenants: each tenant has a schema of its own in one PostgreSQL."""

from __future__ import annotations

import os

from tests.conformance.settings import *  # noqa: F401,F403

SHARED_APPS = [
    "django_tenants",
    "django.contrib.contenttypes",
    "tests.integration.tenants",
    "channels",
    "phx_protocol",
]
TENANT_APPS = ["tests.integration.tenant_notes"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL, TENANT_DOMAIN_MODEL = "tenants.Tenant", "tenants.Domain"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django_tenants.postgresql_backend",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": os.environ.get("PHX_POSTGRES", ""),
        "CONN_MAX_AGE": 60,
    }
}
PHX_PROTOCOL = {
    "SYNC_THREADS": 4,
    "SHUTDOWN_TIMEOUT": 1.0,
    "SOCKETS": {
        "/socket": "tests.integration.tenant_app.TenantSocket",
        "/control": "tests.integration.tenant_app.ControlSocket",
    },
}
