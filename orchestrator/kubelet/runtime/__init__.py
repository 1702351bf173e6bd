"""Container runtimes behind one Protocol (`interface.py`): Podman over its REST API, and a fake for tests."""
