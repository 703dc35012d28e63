"""Tests which architectures Gauntlet opens, as written by their exporter: the table of docs/zoo.md."""
