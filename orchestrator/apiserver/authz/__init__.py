"""Authorization: may this identity do this? RBAC and the Node authorizer, the roles that a cluster starts with, and the
review kinds that answer the same question as an object. Everything here reads memory only."""
