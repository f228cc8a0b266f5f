"""Users: who they are, what their session says, what they may do. Nothing here knows of sockets."""
