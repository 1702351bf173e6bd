"""CEL: the expressions of validation rules, match conditions and admission policies.

`engine` compiles and evaluates with a maintained CEL library, `library` adds the functions that Kubernetes has besides,
`syntax` and `estimate` read an expression before it runs, `rules` are the `x-kubernetes-validations` of a schema.
Source: Reference, "Common Expression Language in Kubernetes"; KEP-2876.
"""
