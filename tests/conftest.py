import signal

import _pack  # noqa: F401  (makes the pack importable as amt_frame_interpolation)
import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["servers"]  # real ComfyUI servers, for tests/comfyui and tests/browser

# how fast a machine is, or how busy, decides no test
settings.register_profile("pack", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pack")


def pytest_configure() -> None:
    """A script's background job starts with SIGINT ignored, which every server in a test would inherit."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick tests first, those in a browser last: Playwright leaves an event loop running in this thread.

    Those of a cluster wait more than they work, so they run beside the ones in a browser. Of these the file that takes
    longest comes first, so that no process works alone at the end.
    """
    tiers = {"comfyui": 1, "test_cluster.py": 2, "test_words.py": 3, "browser": 4}
    items.sort(key=lambda item: tiers.get(item.path.name, tiers.get(item.path.parent.name, 0)))
