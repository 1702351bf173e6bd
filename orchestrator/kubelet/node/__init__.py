"""The node itself: its registration and status, its lease, admission of pods, and garbage collection."""
