"""How the service is watched: metrics, logs, traces, the worker's port."""
