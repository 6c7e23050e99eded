import _pack  # noqa: F401  (makes the pack importable as amt_frame_interpolation)

pytest_plugins = ["servers"]  # real ComfyUI servers, for tests/comfyui and tests/browser
