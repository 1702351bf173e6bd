"""The lab that Pulumi.yaml and Pulumi.<stack>.yaml describe; see README.md."""

from infra.libvirt.program import main

main()
