"""The kubelet: an ordinary user's program that turns the Pods bound to its node into containers of that user's Podman.

Here belong: what a pod should look like on a node (pure: `sync`, `podstatus`, `env`, …) and the workers that make it
so.
Here do not: anything that needs root (the porter does that, behind `porter.py`), and anything about other nodes.
"""
