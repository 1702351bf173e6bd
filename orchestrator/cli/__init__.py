"""The `sampan` command of a node: starts one component, or those that share a process. The only place that knows all."""
