"""Kubernetes' protobuf, `application/vnd.kubernetes.protobuf`: the encoding that Go clients ask for by default.

Here belong the wire format, the table of field numbers and the two directions between a message and the JSON that it
stands for. What an answer looks like, when it is encoded and who shares the bytes is decided in `apiserver/binary.py`.
Source: Kubernetes API concepts, "Kubernetes Protobuf encoding"; generated.proto of k8s.io/api and apimachinery, v1.36.
"""
