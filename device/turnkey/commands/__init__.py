"""`turnkey`'s commands, a file for each noun; `turnkey.cli` mounts them.

Thin: they read arguments, call, and say what came of it.
"""
