"""The disk of a VM made from the node's root tree: what a machine needs besides, the initrd, the file system.

Only infra/images/vm.py is called from outside; nothing here knows of labs, libvirt or how a node is installed.
"""
