"""A ComfyUI to work with: found or made, started, asked over HTTP, and its editor in a browser."""

import _pack  # noqa: F401  (makes the pack importable as amt_frame_interpolation)
