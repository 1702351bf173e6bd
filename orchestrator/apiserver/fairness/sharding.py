"""Shuffle sharding: a flow is dealt a hand of queues, and each of its requests goes to the shortest of the hand.

Two flows have seldom the same hand, so a flow that fills all queues of its own leaves others at least one that is free.
The hash of the flow is the shuffled deck: its remainders by deck size, deck size - 1, … pick the cards one by one.
Source: KEP-1040, "Shuffle Sharding"; Kubernetes docs, "API Priority and Fairness".
"""

from __future__ import annotations

import hashlib


def flow_hash(schema: str, distinguisher: str) -> int:
    """64 bits that are the same on every server."""
    return int.from_bytes(hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()[:8], "little")


def deal(entropy: int, deck_size: int, hand_size: int) -> tuple[int, ...]:
    """`hand_size` different cards of 0..`deck_size`-1, each hand as likely as any other."""
    hand: list[int] = []
    for dealt in range(hand_size):
        entropy, card = divmod(entropy, deck_size - dealt)
        for other in sorted(hand):  # `card` counts the cards that are left
            card += other <= card
        hand.append(card)
    return tuple(hand)
