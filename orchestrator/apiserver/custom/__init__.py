"""Custom resources while the server runs: definitions are accepted, served, and taken away again."""
