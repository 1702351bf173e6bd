"""The controllers: each watches a kind and makes the world agree with it, one file a controller.

A controller is a pure `plan(observed) -> actions` and a thin shell that gathers what informers saw and carries the
actions out. Controllers do not know one another: they meet through the API. `main.py` starts them all.
"""
