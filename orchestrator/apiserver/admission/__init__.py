"""Admission: what else must hold of a write, once it is known who writes and that they may. One file a plugin.

A plugin sees the new and the old object; a mutating one may change the new, a validating one may only refuse. They
read other objects from the watch cache, never the network."""
