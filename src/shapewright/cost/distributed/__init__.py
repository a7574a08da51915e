"""Distributed forms of an operator as sibling functions: time, what is sent, what must be held, and the least possible.

Decisions: every form is a closed formula of the devices P, the latency of a message ``alpha`` [s] and the time of a
byte ``beta`` [s/B], both per link and direction, and broadcasts over arrays; ``tests/unit/cost/test_distributed.py``
plays the same schedules message by message and finds the same seconds. A device sends one message and receives one at a
time. Groups that cross nodes take the alpha and beta of the wire between nodes.
"""
