"""The orchestrator: API server, scheduler, controllers, kubelet, porter, proxy and DNS, each a package of its own.

Components meet only through the Kubernetes API: none imports another (`pyproject.toml`, importlinter).
"""
