"""What the engine asks of a network."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from .network.padding import Padding


class Interpolator(Protocol):
    """A network that makes the middle of two frames."""

    @property
    def padding(self) -> Padding:
        """The sizes that it takes."""
        ...

    @property
    def any_time(self) -> bool:
        """False for a network that knows the timestep 0.5 alone. True for an `AnyTimeInterpolator`."""
        ...

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor, /) -> Tensor:
        """Padded frames [b, c, h, w] and timesteps [b], which lie on the CPU -> [b, c, h, w] float32."""
        ...


class AnyTimeInterpolator(Protocol):
    """A network that opens a pair of frames once, and makes the frames at any number of times between them."""

    @property
    def padding(self) -> Padding: ...

    @property
    def any_time(self) -> bool: ...

    def open_pair(self, frame0: Tensor, frame1: Tensor, /) -> Any:
        """What belongs to padded frames [b, c, h, w] and to no time."""
        ...

    def frame_at(self, pair: Any, timestep: Tensor, /) -> Tensor:
        """The frames [b, c, h, w] float32 at timesteps [b], which lie on the CPU, between opened pairs."""
        ...
