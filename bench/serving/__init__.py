"""What serving costs and what it holds: beside its peers, beside a report, under bad input, over time."""
