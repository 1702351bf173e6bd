"""One file a plugin, with kube-scheduler's names and semantics; nothing here waits, writes or reads a clock."""
