"""An app with which a process kills itself: before or after one of its steps, the PHX_TEST_DIE_AT-th.

Steps are statements and commits, and calls that keep rows in a history or send them to the layer.
"""
