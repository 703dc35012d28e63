"""Properties of the kinds that the verification competition of 2021 used, made and decided here."""
