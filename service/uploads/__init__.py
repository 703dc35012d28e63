"""What users upload, models and evaluation sets: where it is kept and how it is opened."""
