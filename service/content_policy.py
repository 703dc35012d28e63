"""Content security policies: what a browser may do with what we send."""

FRAMELESS = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
NOTHING = f"default-src 'none'; {FRAMELESS}"
SELF_CONTAINED = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {FRAMELESS}"
"""For a page of ours: it runs no script and cannot load anything from anywhere."""
