"""What goes in and out over HTTP: the border that every request passes, the routes, the bodies, the page."""
