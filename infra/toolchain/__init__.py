"""The tools of the VM lab: Pulumi's CLI, what it starts, the environment they need; brought where they are missing."""
