"""Encryption at rest: values of chosen resources are sealed before they reach the store, opened on the way back.

`configuration.py` reads an EncryptionConfiguration into `Encryption`: for each resource a list of providers (`ciphers`
with keys of their own; `kms`, whose keys a key management service guards). The first seals, and all are tried to open a
value, by the prefix that it carries (`k8s:enc:aesgcm:v1:KEY:`), so keys can be rotated. The format is kube-apiserver's.
`sealedstore.py` is the Store around another. Nothing here knows of resources' meaning, or of the network but a
service's socket.
Source: Tasks, "Encrypting Confidential Data at Rest", "Using a KMS provider"; KEP-3299.
"""
