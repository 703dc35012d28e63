"""The command line of Gauntlet: one file per command."""
