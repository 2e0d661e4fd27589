"""Experiments around the daemon: the demo, its pictures and its table.

`lab` may use any room below it; nothing below it uses `lab`.
"""
