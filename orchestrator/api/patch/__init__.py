"""The four ways to change an object in part, and the bookkeeping of who set which field.

Pure functions on JSON: `json_patch`, `merge_patch`, `strategic` take a document and a patch and return a new document;
`apply` merges a server-side apply; `managed_fields` keeps the record that `apply` relies on. `request` is the way in:
one function for a PATCH body of the first three types. Nothing here knows of HTTP beyond the error classes.
"""
