"""Hands are dealt like cards, and the back-off of refused requests."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.apiserver.fairness.retryafter import RETRY_AFTER_MAX_S, RetryAfter
from orchestrator.apiserver.fairness.sharding import deal, flow_hash


@given(st.integers(0, 2**64 - 1), st.integers(1, 128), st.integers(1, 8))
def test_a_hand_is_of_different_cards(entropy: int, deck_size: int, hand_size: int) -> None:
    hand = deal(entropy, deck_size, min(hand_size, deck_size))
    assert len(set(hand)) == len(hand)
    assert all(0 <= card < deck_size for card in hand)


def test_each_hand_is_as_likely_as_any_other() -> None:
    dealt = Counter(deal(entropy, 5, 3) for entropy in range(5 * 4 * 3 * 7))
    assert dealt == Counter(dict.fromkeys(permutations(range(5), 3), 7))


def test_flows_are_told_apart() -> None:
    assert flow_hash("a", "bc") != flow_hash("ab", "c")
    assert flow_hash("service-accounts", "x") == flow_hash("service-accounts", "x") < 2**64


def test_many_refusals_double_the_time_and_few_shorten_it() -> None:
    retry = RetryAfter()
    told = [retry.refused(float(second)) for second in range(1, 200) for _ in range(10)]
    assert told[0] == 1 and max(told) == told[-1] == RETRY_AFTER_MAX_S
    assert sorted(set(told)) == [1, 2, 4, 8, 16, 32]
    later = [retry.refused(1000.0 + 100 * n) for n in range(40)]
    assert later[-1] == 1 and later == sorted(later, reverse=True)


def test_now_and_then_a_refusal_changes_nothing() -> None:
    retry = RetryAfter()
    assert {retry.refused(float(second)) for second in range(1, 60)} == {1}
