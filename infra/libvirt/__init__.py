"""Labs of virtual machines: one Pulumi program, the values that it hands to libvirt, and the dynamic resources between.

Nothing here speaks to libvirt itself: that is infra/provider's, behind the SDK `pulumi_libvirt`.
"""
