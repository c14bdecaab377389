"""The audit log as anybody can verify it: tree, tiles, checkpoints, exports, and the verifier.

What stands in `merkle`, `tiles`, `note`, `checkpoint`, `entry`, `checks`, `export` and `verifier`
is pure: it needs no database and no server, so an auditor can run it elsewhere.
"""
