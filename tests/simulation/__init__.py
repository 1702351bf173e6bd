"""The whole control plane in one process on a virtual clock with a seed: hours of cluster life in seconds."""
