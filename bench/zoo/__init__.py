"""Which architectures Gauntlet opens as their exporter writes them: the table of docs/zoo.md."""
