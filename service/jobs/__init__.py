"""Reports as durable jobs: the job database, what the API process asks of it, and how workers compute."""
