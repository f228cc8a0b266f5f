"""A connection and its channels, whatever carries it."""
