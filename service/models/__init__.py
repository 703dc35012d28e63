"""The models and images that are served, shipped or brought by users, and the work on them. No HTTP in it."""
