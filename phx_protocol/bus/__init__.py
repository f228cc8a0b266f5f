"""The local bus: the processes of one project that have no Redis reach each other on one machine.

Each process that serves opens a Unix socket in a folder that only its user can enter. It is for
development, and for a small site with one serving process and some commands or cron jobs: it is no
cluster. Presences and histories stay in their process.
"""
