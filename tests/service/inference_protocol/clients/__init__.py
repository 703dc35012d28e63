"""Run in the clients' own environment, by tests/service/v2/test_clients.py: neither torch nor Gauntlet is there."""
