"""Subresources that are connections: pods' log, exec, attach and portforward, and the proxies of pods, services, nodes.

The API server ends none of these protocols; it finds the other end, says who asks for what, and carries bytes.
"""
