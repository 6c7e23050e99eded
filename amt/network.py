"""The AMT network: one class, three configurations.

"AMT: All-Pairs Multi-Field Transforms for Efficient Frame Interpolation", Li et al., CVPR 2023
(https://arxiv.org/abs/2304.09790). Two flows between the wanted frame and its neighbours are refined from
coarse to fine; at every level the correlation of the neighbours around the flows' ends corrects them. The last
level gives several flow fields, and the candidates warped by them are merged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .bands import Band, in_bands, suitable_band_bytes, without_rows
from .correlation import Correlation, choose_correlation
from .decoders import Decoder, UpdateBlock, UpdateWidths
from .encoders import BasicBlock, Block, BottleneckBlock, ContextEncoder, FeatureEncoder, PReLU
from .memory import memory_used
from .padding import Padding
from .sampling import resize_flow, warp

PADDING = Padding(multiple_of=16, minimum=128)
"""Below 128 pixels the coarsest correlation level (1/64) is a single pixel or none."""


@dataclass(frozen=True)
class Config:
    """The numbers in which S, L and G differ."""

    name: str
    block: Block
    feature_widths: tuple[int, int, int, int]
    feature_extra_layer: bool
    feature_channels: int
    context_widths: tuple[int, int, int, int]
    context_first_kernel: int
    side: int
    """Side channels of the decoders' residual blocks."""
    update: UpdateWidths
    full_scale_updates: bool
    """A second update at the full scale of the two finer levels (G)."""
    fields: int
    """Flow fields of the last level."""
    merge_kernel: int


S = Config(
    name="AMT-S",
    block=BottleneckBlock,
    feature_widths=(32, 32, 64, 96),
    feature_extra_layer=False,
    feature_channels=84,
    context_widths=(20, 32, 44, 56),
    context_first_kernel=3,
    side=20,
    update=UpdateWidths(hidden=76, flow=20, correlation=64, correlation2=None, motion=68),
    full_scale_updates=False,
    fields=3,
    merge_kernel=3,
)
L = Config(
    name="AMT-L",
    block=BasicBlock,
    feature_widths=(64, 64, 72, 128),
    feature_extra_layer=False,
    feature_channels=128,
    context_widths=(48, 64, 72, 128),
    context_first_kernel=7,
    side=48,
    update=UpdateWidths(hidden=128, flow=48, correlation=256, correlation2=160, motion=124),
    full_scale_updates=False,
    fields=5,
    merge_kernel=7,
)
G = Config(
    name="AMT-G",
    block=BasicBlock,
    feature_widths=(64, 64, 112, 160),
    feature_extra_layer=True,
    feature_channels=128,
    context_widths=(84, 96, 112, 128),
    context_first_kernel=7,
    side=84,
    update=UpdateWidths(hidden=192, flow=64, correlation=256, correlation2=192, motion=188),
    full_scale_updates=True,
    fields=5,
    merge_kernel=7,
)


@dataclass(frozen=True)
class Motion:
    """What the network found out about a pair: F flow fields, at full resolution."""

    flow0: Tensor
    """From the wanted frame back to frame 0, [b, F, 2, h, w], pixels, float32."""
    flow1: Tensor
    """From the wanted frame on to frame 1, likewise."""
    mask: Tensor
    """Occlusion mask: how far frame 0 is trusted against frame 1, [b, F, 1, h, w], 0..1."""
    residual: Tensor
    """What is added to the colours of each candidate, [b, F, 3, h, w]."""


@dataclass(frozen=True)
class _Refined:
    """What the last level starts from, at half resolution."""

    feature: Tensor
    flow: Tensor
    context0: Tensor
    context1: Tensor


class AMT(nn.Module):
    """Makes the frame at a time between two frames. Frames are RGB, 0..1, of a size that PADDING gives."""

    padding = PADDING

    def __init__(
        self,
        config: Config,
        *,
        any_time: bool = False,
        correlation: Callable[[Tensor, Tensor], Correlation] = choose_correlation,
    ) -> None:
        """any_time: whether the weights were trained for every timestep, or for 0.5 alone.

        correlation: builds the lookups from the two frames' correlation features.
        """
        super().__init__()
        self.config = config
        self.any_time = any_time
        self.correlation = correlation
        c1, c2, c3, c4 = config.context_widths
        fields = config.fields
        self.feat_encoder = FeatureEncoder(
            block=config.block,
            widths=config.feature_widths,
            extra_layer=config.feature_extra_layer,
            out_channels=config.feature_channels,
        )
        self.encoder = ContextEncoder(widths=config.context_widths, first_kernel=config.context_first_kernel)

        # Two context features and a time plane in; a feature and a flow pair out. Then: a feature, two warped
        # context features and a flow pair in. At last, per field: two flows, a mask and a residual.
        self.decoder4 = Decoder(2 * c4 + 1, 2 * c4, c3 + 4, side=config.side)
        self.decoder3 = Decoder(3 * c3 + 4, 3 * c3, c2 + 4, side=config.side)
        self.decoder2 = Decoder(3 * c2 + 4, 3 * c2, c1 + 4, side=config.side)
        self.decoder1 = Decoder(3 * c1 + 4, 3 * c1, 8 * fields, side=config.side)

        self.update4 = UpdateBlock(c3, config.update)
        if config.full_scale_updates:
            self.update3_low = UpdateBlock(c2, config.update, scale=2)
            self.update2_low = UpdateBlock(c1, config.update, scale=4)
            self.update3_high = UpdateBlock(c2, config.update, correlation_scale=2)
            self.update2_high = UpdateBlock(c1, config.update, correlation_scale=4)
        else:
            self.update3 = UpdateBlock(c2, config.update, scale=2)
            self.update2 = UpdateBlock(c1, config.update, scale=4)

        kernel = config.merge_kernel
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * fields, 6 * fields, kernel, 1, kernel // 2),
            PReLU(6 * fields),
            nn.Conv2d(6 * fields, 3, kernel, 1, kernel // 2),
        )

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the convolutions; flows, coordinates, correlation and colours are float32."""
        return next(self.comb_block.parameters()).dtype

    @property
    def merge_halo(self) -> int:
        """How many rows of the half resolution further than itself a row of the merge sees."""
        return (self.config.merge_kernel - 1) // 2

    def memory_used(self, size: tuple[int, int], *, batch: int = 1, device: torch.device | None = None) -> int:
        """About how many bytes a call takes at its peak; see `memory.memory_used`."""
        return memory_used(self, size, batch=batch, device=device)

    def forward(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        """The frame at `timestep`.

        frame0, frame1 [b, c, h, w]: three colours, and whatever should move with them (alpha) after those.
        timestep [b] or [1], strictly between 0 and 1. Returns [b, c, h, w] float32, 0..1.
        Raises ValueError where shapes or times are not of this kind.
        """
        self._check(frame0, frame1, timestep)
        frame0, frame1 = frame0.float(), frame1.float()
        mean = (frame0[:, :3].mean(dim=(1, 2, 3)) + frame1[:, :3].mean(dim=(1, 2, 3)))[:, None, None, None] / 2
        refined = self._refine(frame0[:, :3], frame1[:, :3], timestep, mean)

        def last_level(band: Band) -> tuple[Tensor]:
            above, below = (min(rows, self.merge_halo) for rows in (band.above, band.below))
            used = Band(band.rows, band.above - above, band.below - below)
            top = 2 * (band.rows.start + used.above)
            merged = self._merge(frame0, frame1, self._last_level(refined, used), top)
            return (without_rows(merged, 2 * above, 2 * below),)

        halo = self.decoder1.halo + self.merge_halo
        (merged,) = _in_bands(refined.feature, last_level, width=self.decoder1.channels, halo=halo)
        return merged.clamp_(0, 1)

    def _check(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> None:
        if frame0.shape != frame1.shape or frame0.dim() != 4 or frame0.shape[1] < 3:
            raise ValueError(
                "expected two batches of frames of one shape [b, 3 or more, h, w], "
                f"got {list(frame0.shape)} and {list(frame1.shape)}"
            )
        size = (frame0.shape[2], frame0.shape[3])
        if self.padding.padded(size) != size:
            raise ValueError(f"expected frames padded to {self.padding.padded(size)}, got {size}: use AMT.padding")
        if not bool(((timestep > 0) & (timestep < 1)).all()):
            raise ValueError(
                f"expected timesteps strictly between 0 and 1, got {timestep.flatten().tolist()}: "
                "the frames at 0 and 1 are the inputs themselves"
            )

    def motion(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Motion:
        """Flows, masks and residuals of a pair of mean-subtracted frames."""
        refined = self._refine(frame0, frame1, timestep)
        return self._last_level(refined, Band(slice(0, refined.feature.shape[2]), 0, 0))

    def _refine(self, frame0: Tensor, frame1: Tensor, timestep: Tensor, mean: Tensor | float = 0) -> _Refined:
        """All but the last level, for a pair of frames and what to subtract from both."""
        b, dtype = len(frame0), self.dtype
        timestep = timestep.float().reshape(-1, 1, 1, 1).expand(b, 1, 1, 1)
        frame0, frame1 = (_centred(frame, mean, dtype) for frame in (frame0, frame1))
        correlation: Correlation | None = self.correlation(self._features(frame0), self._features(frame1))
        context0, context1 = self.encoder(frame0), self.encoder(frame1)
        del frame0, frame1

        def look_up(flow: Tensor) -> Tensor:
            assert correlation is not None
            return correlation.lookup(flow[:, :2], flow[:, 2:], timestep)

        time_plane = timestep.to(dtype).expand(b, 1, *context0[3].shape[2:])
        feature, flow = _split(self.decoder4(torch.cat((context0[3], context1[3], time_plane), dim=1)))
        feature, flow = _add(self.update4(feature, flow, look_up(flow)), feature, flow)

        # Level 3 works on the context features at 1/8, level 2 on those at 1/4; each doubles the resolution.
        for level in (3, 2):
            decoder = self.decoder3 if level == 3 else self.decoder2
            feature, delta = self._decode(decoder, feature, context0[level - 1], context1[level - 1], flow)
            flow = delta + resize_flow(flow, 2)
            scale = 2 ** (4 - level)
            coarse_flow = resize_flow(flow, 1 / scale)
            corr = look_up(coarse_flow)
            if level == 2:
                correlation = None  # the last lookup: its maps need not live any longer
            if self.config.full_scale_updates:
                low, high = (
                    (self.update3_low, self.update3_high) if level == 3 else (self.update2_low, self.update2_high)
                )
                feature, flow = _add(low(feature, coarse_flow, corr), feature, flow)
                feature, flow = self._update_full_scale(high, feature, flow, corr)
            else:
                update = self.update3 if level == 3 else self.update2
                feature, flow = _add(update(feature, coarse_flow, corr), feature, flow)
            del corr  # not while the next decoder works
        return _Refined(feature, flow, context0[0], context1[0])

    def _features(self, frames: Tensor) -> Tensor:
        """Features to correlate; one frame after another, as their encoder takes the most memory of all."""
        if len(frames) == 1 or torch.is_grad_enabled():
            return self.feat_encoder(frames)
        return torch.cat([self.feat_encoder(frame) for frame in frames.split(1)])

    def _decode(
        self, decoder: Decoder, feature: Tensor, context0: Tensor, context1: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Feature and flow delta of the next finer level."""

        def decode(band: Band) -> tuple[Tensor, Tensor]:
            near, near_flow = feature[:, :, band.rows], flow[:, :, band.rows]
            gathered = _gather(near, context0, context1, near_flow, band.rows.start)
            return _split(decoder(gathered, band.above, band.below))

        decoded = _in_bands(feature, decode, width=decoder.channels, halo=decoder.halo)
        return decoded[0], decoded[1]

    def _update_full_scale(
        self, block: UpdateBlock, feature: Tensor, flow: Tensor, corr: Tensor
    ) -> tuple[Tensor, Tensor]:
        """feature and flow with a full-scale update's deltas added."""
        scale = block.correlation_scale

        def update(band: Band) -> tuple[Tensor, Tensor]:
            fine = slice(band.rows.start * scale, band.rows.stop * scale)
            near, near_flow = feature[:, :, fine], flow[:, :, fine]
            updated = _add(block(near, near_flow, corr[:, :, band.rows]), near, near_flow)
            above, below = band.above * scale, band.below * scale
            return without_rows(updated[0], above, below), without_rows(updated[1], above, below)

        updated = _in_bands(corr, update, width=block.channels * scale**2, halo=block.halo)
        return updated[0], updated[1]

    def _last_level(self, refined: _Refined, band: Band) -> Motion:
        """What the finest decoder finds out about a band of the refined feature's rows, without the halos."""
        feature, flow = refined.feature[:, :, band.rows], refined.flow[:, :, band.rows]
        gathered = _gather(feature, refined.context0, refined.context1, flow, band.rows.start)
        decoded = self.decoder1(gathered, band.above, band.below)
        del gathered
        coarse = without_rows(resize_flow(flow, 2), 2 * band.above, 2 * band.below)
        fields = self.config.fields
        decoded = _channels_first(decoded.float())
        delta0, delta1, mask, residual = decoded.split((2 * fields, 2 * fields, fields, 3 * fields), dim=1)
        return Motion(
            flow0=_by_field(delta0, 2) + coarse[:, None, :2],
            flow1=_by_field(delta1, 2) + coarse[:, None, 2:],
            mask=_by_field(mask.sigmoid(), 1),
            residual=_by_field(residual, 3),
        )

    def _merge(self, frame0: Tensor, frame1: Tensor, motion: Motion, top: int) -> Tensor:
        """top: the row of the frames that the motion begins at."""
        # Warping is linear and its weights sum to 1, so the mean that was subtracted and would be added back cancels.
        candidates = torch.stack(
            [
                torch.lerp(
                    warp(frame1, motion.flow1[:, field], top),
                    warp(frame0, motion.flow0[:, field], top),
                    motion.mask[:, field],
                )
                for field in range(self.config.fields)
            ],
            dim=1,
        )
        colours = candidates[:, :, :3] + motion.residual
        correction = self.comb_block(colours.flatten(1, 2).to(self.dtype, memory_format=_memory_format(colours.device)))
        merged = colours.mean(dim=1) + correction.float()
        return torch.cat((merged, candidates[:, :, 3:].mean(dim=1)), dim=1)


def _centred(frame: Tensor, mean: Tensor | float, dtype: torch.dtype) -> Tensor:
    centred = torch.empty_like(frame, dtype=dtype, memory_format=_memory_format(frame.device))
    return torch.sub(frame, mean, out=centred)


def _in_bands(x: Tensor, compute: Callable[[Band], tuple[Tensor, ...]], *, width: int, halo: int) -> tuple[Tensor, ...]:
    """Computes in bands of x's rows, with activations of `width` channels at x's resolution."""
    row_bytes = x.shape[0] * width * x.shape[3] * x.element_size()
    band_bytes = suitable_band_bytes(x.device)
    return in_bands(compute, x.shape[2], row_bytes=row_bytes, band_bytes=band_bytes, halo=halo)


def _memory_format(device: torch.device) -> torch.memory_format:
    """What convolutions are fast with: channels last, 1.3 to 4 times on CPUs. Not tried on Apple's MPS."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def _channels_first(x: Tensor) -> Tensor:
    """`contiguous()`; on a CPU, as transpositions of matrices that caches hold: 8 times as fast."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return x.contiguous()
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    for one, its_result in zip(x, result, strict=True):
        pixels = its_result.flatten(1).split(8192, dim=1)
        for part, its_pixels in zip(one.permute(1, 2, 0).flatten(0, 1).split(8192), pixels, strict=True):
            its_pixels.copy_(part.T)
    return result


def _by_field(x: Tensor, channels: int) -> Tensor:
    return x.unflatten(1, (-1, channels))


def _split(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """A decoder's output as (feature, flow pair in float32)."""
    return decoded[:, 4:], decoded[:, :4].float()


def _add(deltas: tuple[Tensor, Tensor], feature: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    # Into the deltas, which nothing else holds: memory is scarcest here.
    return deltas[0].add_(feature), deltas[1].add_(flow)


def _gather(feature: Tensor, context0: Tensor, context1: Tensor, flow: Tensor, top: int = 0) -> Tensor:
    """A decoder's input: the feature, both context features warped to the wanted time, and the flow pair.

    top: the row of the context features that feature and flow begin at.
    """
    warped0, warped1 = warp(context0, flow[:, :2], top), warp(context1, flow[:, 2:], top)
    memory_format = _memory_format(feature.device)
    parts = (feature, warped0, warped1, flow.to(feature.dtype))
    return torch.cat([part.contiguous(memory_format=memory_format) for part in parts], dim=1)
