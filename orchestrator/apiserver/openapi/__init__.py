"""OpenAPI: the published schemas and the paths of what is served, for `kubectl explain`, apply and client generators.

`documents` makes them of the resource table, with `custom` for kinds that a definition describes and `roots` for what
is no resource; `serving` answers requests. What other servers serve is asked of them (`remote`) and joined to ours
(`merging`, `converting`). Their encodings are in `protobuf/`. Source: Kubernetes docs, "OpenAPI"; KEP-2896.
"""
