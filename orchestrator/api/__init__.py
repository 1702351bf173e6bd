"""The vocabulary that every component shares: objects, resources, selectors, quantities, errors, and rules on them.

Purely computational: no I/O but the loading of schemas and settings; imports nothing else of ours.
"""
