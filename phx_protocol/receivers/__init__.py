"""The receivers of Django's signals and of this package's own."""
