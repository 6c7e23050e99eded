"""Judging weights (`python scripts/evaluation --help`): what is compared, what is measured, and how it is told."""
