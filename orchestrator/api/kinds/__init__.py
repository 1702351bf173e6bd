"""Kinds: what makes a Pod a Pod. One file a kind family: defaults, validation, what a write may change, table columns.

`registry.rules(resource)` finds the `KindRules` of a resource; a kind without a file of its own has the generic rules
(metadata, schema). Messages and field paths are kube-apiserver's: they are part of the API.
To add a kind: write its functions in the file of its family, put a KindRules in that file's RULES.
"""
