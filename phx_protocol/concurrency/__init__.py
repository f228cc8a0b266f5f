"""Tasks, threads, and calling the functions of users, async or not."""
