"""What a browser gets: the page, its scripts and styles."""
