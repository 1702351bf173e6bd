"""Random requests to the API server. `inputs` makes values and texts, `requests` whole requests, `campaign` sends them
and judges the answers; `python -m tests.fuzz --count 100000 --seed 1` runs one by hand."""
