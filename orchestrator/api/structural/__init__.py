"""Structural schemas: the types of custom resources, as their CustomResourceDefinitions give them.

`compiled` turns the JSON of a schema into a tree; the other modules walk an object along it: `pruning` removes what is
not specified, `defaulting` fills in, `values` finds what does not hold. Source: Concepts, "CustomResourceDefinition",
structural schemas; KEP-95, KEP-576, KEP-575.
"""
