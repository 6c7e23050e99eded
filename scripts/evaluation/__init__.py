"""The parts of `scripts/evaluate.py`: what is compared, what is measured, and how it is told."""
