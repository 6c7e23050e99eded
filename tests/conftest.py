import _pack  # noqa: F401  (makes the pack importable as amt_frame_interpolation)
