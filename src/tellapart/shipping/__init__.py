"""What leaves the house: a plain training script, and later exported models and serving."""
