"""The compute process: attacks, smoothing and uploaded models, with torch, behind a Unix socket."""
