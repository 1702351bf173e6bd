"""Authentication: who sent a request. One file a kind of credential; `chain.py` asks them in turn.

Nothing here decides what an identity may do: that is `authz`.
"""
