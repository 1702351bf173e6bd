"""The tools of the VM lab: Pulumi's CLI, what it starts, a hypervisor, and the environment in which all of them work.

whole.ensure() brings what is missing and says so. Nothing is imported here: language_host, program and dynamic_plugin
run in processes of Pulumi's own, for whose start every update waits.
"""
