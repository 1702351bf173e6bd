"""Labs on this machine: nodes are the node image booted as namespaces, under a supervisor of our own."""
