"""Checkpoints: what is known, what is here, safe download and safe loading."""
