"""Benchmarks and load tests of the service: against peers, during a report, with bad input, over time."""
