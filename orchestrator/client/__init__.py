"""The client of the Kubernetes API: what every component speaks with, whatever carries its requests.

REST calls and errors (`client.py`), what carries them (`network.py`, `inprocess.py`), watches and shared caches
(`watch.py`, `informer.py`), and the patterns built on them: work queues, events, leader election. Nothing here knows
any controller, node or store.
"""
