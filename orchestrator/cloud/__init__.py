"""The cloud controller: what a cluster asks of the place that it runs in, and what that place tells the cluster.

`provider.py` says what a cloud is; `local.py` and `libvirt.py` are the two we have. The controllers (node,
nodelifecycle, route, service, volume) know only the protocols. What a Linux gateway does for both, load balancers
and routes, is in `gateway…`. Nothing here knows how a lab was made: infra/ does.
"""
