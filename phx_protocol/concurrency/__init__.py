"""Tasks, threads, and calling what users write, be it async or not."""
