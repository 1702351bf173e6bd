"""The `sampan` command of a node: starts a component, or those that share a process. It alone knows them all."""
