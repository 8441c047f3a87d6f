"""Measurements against peers, as ratios taken in one run: ``make bench`` writes RESULTS.md.

Peer and ours take turns in short rounds, so that a slow phase of the machine meets both; a cost is
the median over the rounds. ``benchmarks.naive`` is the peer that most people would write first:
numpy on every frame and prometheus_client for every metric, on the audio thread.
"""
