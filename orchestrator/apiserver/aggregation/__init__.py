"""The aggregator: API groups that another server serves, registered as APIServices, seen through this one."""
