"""The kubelet's HTTPS server: logs, exec, attach, port-forward, stats, for the API server and whoever may ask.

Here belongs what turns requests into streams of a container. Containers are started and ended elsewhere.
"""
