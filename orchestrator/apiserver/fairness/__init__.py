"""API priority and fairness: who waits when there is too much to do (KEP-1040).

Pure, on a clock that is handed in: `rules` (which FlowSchema a request matches), `sharding`, `queueset` (fair queues of
one priority level), `demand` and `shares` (how many seats a level has now), `work` (how many a request takes),
`retryafter`. Around them: `levels` (what the objects say, put together), `gate` (what a request goes through),
`upkeep` (the objects that must exist, and their status), `dump` (the debug pages).
No authentication or authorization here: the gate is asked once it is known who asks, before whether they may.
"""
