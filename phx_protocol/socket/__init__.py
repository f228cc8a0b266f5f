"""A connection and its channels, independent of the transport."""
