"""A server for the tests of what reaches over the network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fal_stand_in import StandIn, stand_in
from servers import ServerStarter
from setup.server import LocalServer
from tiny_video import video_bytes

FAL_KEY = "0a1b2c3d-key-id:5e6f7a8b9c-key-secret"


@pytest.fixture(scope="session")
def fal_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """fal.ai on loopback; it delivers a video of 9 frames of 64 x 48."""
    with stand_in(tmp_path_factory.mktemp("fal"), video=video_bytes(9, 64, 48)) as service:
        yield service


@pytest.fixture(scope="session")
def remote_server(fal_service: StandIn, start_server: ServerStarter) -> LocalServer:
    """A server with a fal.ai key that takes `fal_service` for fal.ai, and may fetch frames from loopback."""
    return start_server(env={**fal_service.environment, "FAL_KEY": FAL_KEY, "AMT_URLS": "lan"})
