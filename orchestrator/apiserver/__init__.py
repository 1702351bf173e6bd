"""The API server: a function from Request to Response over a revisioned store, and the network rim around it.

Here belong parsing, verbs, the watch cache, discovery and the access chain. What a kind means (defaults, validation,
columns, patches) is in `orchestrator.api`; nothing here names a kind except where Kubernetes serves it specially.
"""
