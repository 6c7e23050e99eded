import _pack  # noqa: F401  (makes the pack importable as amt_frame_interpolation)
from hypothesis import HealthCheck, settings

pytest_plugins = ["servers"]  # real ComfyUI servers, for tests/comfyui and tests/browser

# how fast a machine is, or how busy, decides no test
settings.register_profile("pack", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pack")
