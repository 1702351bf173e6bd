"""Programs that run on the machine that is installed, with its own Python and nothing else: one file each.

They are sent whole (`python3 -c`), read one JSON object and print one. They look and wait; they change nothing.
"""
