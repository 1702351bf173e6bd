"""The node image: one Debian root tree from packages, with Sampan's dependencies and offline container images.

Built once and kept in a cache keyed by its inputs; nothing here knows of labs or nodes.
"""
