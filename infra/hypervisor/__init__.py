"""The host side of the VM lab: a libvirtd to talk to, whether KVM works, and host processes that outlive a command.

No domain, network or volume is made here: that is the Pulumi program's (infra/libvirt), through infra/provider.
"""
