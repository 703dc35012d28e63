"""What goes in and out over HTTP: bodies and queries as pydantic models, images inside of JSON."""
