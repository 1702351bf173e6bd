"""The revisioned key-value store under the API server: one interface, a memory and a SQLite implementation.

Here belong keys, bytes, revisions, watch and compaction; nothing here knows what an object is.
"""
