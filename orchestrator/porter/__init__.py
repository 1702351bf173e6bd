"""The one small privileged daemon of a node: what the kubelet, an ordinary user, cannot do itself.

Here belongs what needs root: pod network, routes, mounts, ownership, cgroup limits. Each is a verb of a closed list,
and each argument is checked against the pods of this node. No decision about pods belongs here.
"""
