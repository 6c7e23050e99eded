"""The AMT network: one class, three configurations.

"AMT: All-Pairs Multi-Field Transforms for Efficient Frame Interpolation", Li et al., CVPR 2023
(https://arxiv.org/abs/2304.09790). Two flows between the wanted frame and its neighbours are refined from
coarse to fine; at every level the correlation of the neighbours around the flows' ends corrects them. The last
level gives several flow fields, and the candidates warped by them are merged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import Config
from .correlation import Correlation, CorrelationVolume
from .decoders import Decoder, UpdateBlock
from .encoders import ContextEncoder, FeatureEncoder
from .padding import PADDING
from .sampling import resize, resize_flow, warp

Contexts = tuple[Tensor, Tensor, Tensor, Tensor]
"""Context features of a frame at 1/2, 1/4, 1/8 and 1/16 of the resolution."""


@dataclass(frozen=True)
class Pair:
    """Two frames and what is known of them before any time is asked for. It may be asked for any number of times."""

    frame0: Tensor
    """[b, c, h, w] float32, 0..1."""
    frame1: Tensor
    contexts0: Contexts
    contexts1: Contexts
    correlation: Correlation


@dataclass(frozen=True)
class CoarseMotion:
    """Motion before the last level, at half of the resolution."""

    feature: Tensor
    """[b, c1, h/2, w/2]."""
    flows: tuple[Tensor, Tensor, Tensor]
    """As `Motion.coarse_flows`."""
    context0: Tensor
    """The finest context feature of frame 0, [b, c1, h/2, w/2]."""
    context1: Tensor


@dataclass(frozen=True)
class Motion:
    """Motion between a wanted frame and its two neighbours: F flow fields, at full resolution."""

    flow0: Tensor
    """From the wanted frame back to frame 0, [b, F, 2, h, w], pixels, float32."""
    flow1: Tensor
    """From the wanted frame on to frame 1, likewise."""
    mask: Tensor
    """Occlusion mask: how far frame 0 is trusted against frame 1, [b, F, 1, h, w], 0..1."""
    residual: Tensor
    """What is added to the colours of each candidate, [b, F, 3, h, w]."""
    coarse_flows: tuple[Tensor, Tensor, Tensor]
    """The flow pairs of levels 4, 3 and 2 with their updates: [flow0, flow1] as [b, 4, h/s, w/s] for s = 8, 4 and 2,
    float32, in pixels of their own grids."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Motion:
        """With a function applied to flow0, flow1, mask and residual each, and the coarse flows as they are."""
        fields = (self.flow0, self.flow1, self.mask, self.residual)
        return Motion(*(change(field) for field in fields), coarse_flows=self.coarse_flows)

    def enlarged(self, factor: int, rows: slice | None = None) -> Motion:
        """For frames `factor` times as large, or some rows of them: fields resized, and flows with their vectors."""
        height = self.flow0.shape[-2]
        rows = rows or slice(0, factor * height)
        if factor == 1:
            return self.map(lambda field: field[..., rows, :])
        # A row more on either side, so that rows in parts are what they are in whole.
        first, last = max(rows.start // factor - 1, 0), min(-(-rows.stop // factor) + 1, height)

        def enlarge(field: Tensor) -> Tensor:
            large = resize(rearrange(field[..., first:last, :], "b f c h w -> (b f) c h w"), factor)
            large = large[..., rows.start - factor * first : rows.stop - factor * first, :]
            return rearrange(large, "(b f) c h w -> b f c h w", f=field.shape[1])

        enlarged = self.map(enlarge)
        return replace(enlarged, flow0=enlarged.flow0 * factor, flow1=enlarged.flow1 * factor)


class AMT(nn.Module):
    """Makes the frame at a time between two frames.

    Frames are [b, c, h, w], 0..1: RGB, and whatever should move with it (alpha) in further channels. Height and width
    are those that `padding` gives. A timestep is [b], or [1] for all pairs, strictly between 0 and 1.
    """

    padding = PADDING

    def __init__(
        self,
        config: Config,
        *,
        any_time: bool = False,
        correlation: Callable[[Tensor, Tensor], Correlation] = CorrelationVolume,
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
        self.feat_encoder = FeatureEncoder(config)
        self.encoder = ContextEncoder(config)

        # Level 4 takes two context features and a time plane, and gives a feature and a flow pair. The finer levels
        # take a feature, two warped context features and a flow pair. The last one gives two flows, a mask and a
        # residual for each field.
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
            nn.PReLU(6 * fields),
            nn.Conv2d(6 * fields, 3, kernel, 1, kernel // 2),
        )

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the convolutions; flows, coordinates, correlation and colours are float32."""
        return next(self.comb_block.parameters()).dtype

    def forward(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        """The frame at `timestep`, [b, c, h, w] float32, 0..1. Raises ValueError for other shapes or times."""
        return self.frame_at(self.open_pair(frame0, frame1), timestep)

    def motion(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Motion:
        """Flows, masks and residuals at `timestep`. Raises ValueError as `forward` does."""
        return self.motion_at(self.open_pair(frame0, frame1), timestep)

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> Pair:
        """What belongs to the pair and to no time: context features and correlation. Raises ValueError."""
        self._check_frames(frame0, frame1)
        frame0, frame1 = frame0.float(), frame1.float()
        mean = torch.stack((frame0[:, :3], frame1[:, :3])).mean(dim=(0, 2, 3, 4))[:, None, None, None]
        centred0, centred1 = ((frame[:, :3] - mean).to(self.dtype) for frame in (frame0, frame1))
        return Pair(
            frame0,
            frame1,
            contexts0=self.encoder(centred0),
            contexts1=self.encoder(centred1),
            correlation=self.correlation(self.feat_encoder(centred0), self.feat_encoder(centred1)),
        )

    def frame_at(self, pair: Pair, timestep: Tensor) -> Tensor:
        """The frame at a time between an opened pair, as `forward` gives it. Raises ValueError for other times."""
        return self.merge(pair.frame0, pair.frame1, self.motion_at(pair, timestep))

    def motion_at(self, pair: Pair, timestep: Tensor) -> Motion:
        """Flows, masks and residuals at a time between an opened pair. Raises ValueError for other times."""
        coarse = self._coarse_motion(pair, timestep)
        flow = coarse.flows[-1]
        decoded = self.decoder1(_decoder_input(coarse.feature, coarse.context0, coarse.context1, flow))
        return self._by_field(decoded.float(), resize_flow(flow, 2), coarse.flows)

    def merge(self, frame0: Tensor, frame1: Tensor, motion: Motion) -> Tensor:
        """The frame that the motion makes of its two neighbours, [b, c, h, w] float32, 0..1 (section 6)."""
        # Warping is linear and its weights sum to 1. So the mean, which section 6 subtracts before the warp and adds
        # afterwards, cancels.
        fields = range(self.config.fields)
        warped0 = torch.stack([warp(frame0, motion.flow0[:, field]) for field in fields], dim=1)
        warped1 = torch.stack([warp(frame1, motion.flow1[:, field]) for field in fields], dim=1)
        candidates = torch.lerp(warped1, warped0, motion.mask)
        colours = candidates[:, :, :3] + motion.residual
        correction = self.comb_block(rearrange(colours, "b f c h w -> b (f c) h w").to(self.dtype))
        merged = colours.mean(dim=1) + correction.float()
        return torch.cat((merged, candidates[:, :, 3:].mean(dim=1)), dim=1).clamp(0, 1)

    def _check_frames(self, frame0: Tensor, frame1: Tensor) -> None:
        if frame0.shape != frame1.shape or frame0.dim() != 4 or frame0.shape[1] < 3:
            raise ValueError(
                "expected two batches of frames of one shape [b, 3 or more, h, w], "
                f"got {list(frame0.shape)} and {list(frame1.shape)}"
            )
        size = (frame0.shape[2], frame0.shape[3])
        if self.padding.padded(size) != size:
            raise ValueError(f"expected frames padded to {self.padding.padded(size)}, got {size}: use AMT.padding")

    def check_timestep(self, timestep: Tensor) -> Tensor:
        """The timestep as it is. Raises ValueError where it is not between 0 and 1."""
        if not bool(((timestep > 0) & (timestep < 1)).all()):
            raise ValueError(
                f"expected timesteps strictly between 0 and 1, got {timestep.flatten().tolist()}: "
                "the frames at 0 and 1 are the inputs themselves"
            )
        return timestep

    def _coarse_motion(self, pair: Pair, timestep: Tensor) -> CoarseMotion:
        """Levels 4, 3 and 2 (section 5)."""
        contexts0, contexts1 = pair.contexts0, pair.contexts1
        b = len(pair.frame0)
        timestep = self.check_timestep(timestep).to(pair.frame0.device, torch.float32, non_blocking=True)
        timestep = timestep.reshape(-1, 1, 1, 1).expand(b, 1, 1, 1)

        def look_up(flow: Tensor) -> Tensor:
            return pair.correlation.lookup(flow[:, :2], flow[:, 2:], timestep)

        time_plane = timestep.to(self.dtype).expand(b, 1, *contexts0[3].shape[2:])
        feature, flow = _split(self.decoder4(torch.cat((contexts0[3], contexts1[3], time_plane), dim=1)))
        feature, flow = self._add(self.update4(feature, flow, look_up(flow)), feature, flow)
        feature3, flow3 = self._refine(3, feature, flow, contexts0[2], contexts1[2], look_up)
        feature2, flow2 = self._refine(2, feature3, flow3, contexts0[1], contexts1[1], look_up)
        return CoarseMotion(feature2, (flow, flow3, flow2), contexts0[0], contexts1[0])

    def _refine(
        self,
        level: int,
        feature: Tensor,
        flow: Tensor,
        context0: Tensor,
        context1: Tensor,
        look_up: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Feature and flow pair of level 3 or 2, decoded from those of the level before and corrected."""
        decoder, scale = (self.decoder3, 2) if level == 3 else (self.decoder2, 4)
        feature, flow = self._decode(decoder, feature, flow, context0, context1)
        low_flow = resize_flow(flow, 1 / scale)  # on the correlation's grid, at 1/8
        correlation = look_up(low_flow)
        if not self.config.full_scale_updates:
            update = self.update3 if level == 3 else self.update2
            return self._add(update(feature, low_flow, correlation), feature, flow)
        low, high = (self.update3_low, self.update3_high) if level == 3 else (self.update2_low, self.update2_high)
        feature, flow = self._add(low(feature, low_flow, correlation), feature, flow)
        return self._update_full_scale(high, feature, flow, correlation)

    def _decode(
        self, decoder: Decoder, feature: Tensor, flow: Tensor, context0: Tensor, context1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Feature and flow pair of the next finer level."""
        feature, delta = _split(decoder(_decoder_input(feature, context0, context1, flow)))
        return feature, delta + resize_flow(flow, 2)

    def _update_full_scale(
        self, block: UpdateBlock, feature: Tensor, flow: Tensor, correlation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Feature and flow with the deltas of a full-scale update added."""
        return self._add(block(feature, flow, correlation), feature, flow)

    def _add(self, deltas: tuple[Tensor, Tensor], feature: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Feature and flow corrected by what an update block gives."""
        return feature + deltas[0], flow + deltas[1]

    def _by_field(self, decoded: Tensor, flow: Tensor, coarse_flows: tuple[Tensor, Tensor, Tensor]) -> Motion:
        """What the last decoder gives, [b, 8F, h, w] float32, and the flow pair that its deltas are added to."""
        fields = self.config.fields
        flow0, flow1, mask, residual = (
            rearrange(part, "b (f c) h w -> b f c h w", f=fields)
            for part in decoded.split((2 * fields, 2 * fields, fields, 3 * fields), dim=1)
        )
        return Motion(flow0 + flow[:, None, :2], flow1 + flow[:, None, 2:], mask.sigmoid(), residual, coarse_flows)


def _split(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """A decoder's output as (feature, flow pair in float32)."""
    return decoded[:, 4:], decoded[:, :4].float()


def _decoder_input(feature: Tensor, context0: Tensor, context1: Tensor, flow: Tensor) -> Tensor:
    """The feature, both context features warped to the wanted time, and the flow pair."""
    warped0, warped1 = warp(context0, flow[:, :2]), warp(context1, flow[:, 2:])
    return torch.cat((feature, warped0, warped1, flow.to(feature.dtype)), dim=1)
