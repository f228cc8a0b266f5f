"""What a project may want besides; nothing of the package itself imports it."""
