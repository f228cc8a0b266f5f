"""Users: their names, sessions and permissions. No module here imports anything about sockets."""
