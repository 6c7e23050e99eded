"""Damages files and looks at what the pack makes of them.

python scripts/fuzz checkpoints     files of weights, through the loader
python scripts/fuzz clips           videos of many kinds, whole and damaged, through the video pipeline
"""
