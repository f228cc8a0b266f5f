"""Optional modules for projects; the rest of the package does not import them."""
