"""The endpoints that the API processes answer, and ``table``, which lists all there are."""
