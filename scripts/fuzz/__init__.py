"""Damages files and looks at what the pack makes of them.

python scripts/fuzz checkpoints     files of weights, through the loader
"""
