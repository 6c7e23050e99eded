"""AMT for making frames: the network's own parts, run in bands and with the operations that suit the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..network.correlation import Correlation
from ..network.decoders import Decoder, UpdateBlock
from ..network.model import AMT, CoarseMotion, Motion, Pair
from ..network.sampling import resize_flow
from .bands import DECODER_HALO, Band, in_bands, merge_halo, update_halo, without_rows
from .choose import choose_operations
from .memory import memory_used
from .operations import Operations


class FastAMT(AMT):
    """Gives what `AMT` gives, within rounding, and no gradients.

    `forward` and `frame_at` make a frame band by band, and never hold the whole `Motion`.
    """

    def __init__(self, network: AMT, *, correlation: Callable[[Tensor, Tensor], Correlation] | None = None) -> None:
        """Takes over the parts of a network, and shares them with it: the names in the state dict are the same.

        correlation: other lookups than those that suit the device.
        """
        nn.Module.__init__(self)
        self.config = network.config
        self.any_time = network.any_time
        self.compiled = False
        """Whether the parts are compiled; see `compiling`."""
        self._correlation = correlation
        for name, part in network.named_children():
            self.add_module(name, part)

    @property
    def operations(self) -> Operations:
        return choose_operations(next(self.parameters()).device, compiled=self.compiled)

    def memory_used(self, size: tuple[int, int], *, batch: int = 1, device: torch.device | None = None) -> int:
        """About how many bytes a call takes at its peak for frames of (height, width) = size; see `memory`.

        device: where it will run, if that is not where the weights are now.
        """
        device = device or next(self.parameters()).device
        return memory_used(self.config, self.padding.padded(size), batch=batch, device=device, dtype=self.dtype)

    @torch.no_grad()
    def forward(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        # Nothing here holds the pair: its correlation need not live while the frame is made.
        coarse = self._coarse_motion(self.open_pair(frame0, frame1), timestep)
        return self._frame(frame0.float(), frame1.float(), coarse)

    @torch.no_grad()
    def open_pair(self, frame0: Tensor, frame1: Tensor) -> Pair:
        self._check_frames(frame0, frame1)
        operations = self.operations
        frame0, frame1 = frame0.float(), frame1.float()
        mean = (frame0[:, :3].mean(dim=(1, 2, 3)) + frame1[:, :3].mean(dim=(1, 2, 3)))[:, None, None, None] / 2
        centred = []
        for frame in (frame0[:, :3], frame1[:, :3]):
            empty = torch.empty_like(frame, dtype=self.dtype, memory_format=operations.memory_format)
            centred.append(torch.sub(frame, mean, out=empty))
        fmap0, fmap1 = (operations.features(self.feat_encoder, frame) for frame in centred)
        correlation = (self._correlation or operations.correlation)(fmap0, fmap1)
        del fmap0, fmap1
        contexts0, contexts1 = (operations.contexts(self.encoder, frame) for frame in centred)
        return Pair(frame0, frame1, contexts0, contexts1, correlation)

    @torch.no_grad()
    def frame_at(self, pair: Pair, timestep: Tensor) -> Tensor:
        return self._frame(pair.frame0, pair.frame1, self._coarse_motion(pair, timestep))

    @torch.no_grad()
    def motion_at(self, pair: Pair, timestep: Tensor) -> Motion:
        coarse = self._coarse_motion(pair, timestep)

        def last_level(band: Band) -> tuple[Tensor, ...]:
            motion = self._last_level(coarse, band)
            return tuple(part.flatten(1, 2) for part in (motion.flow0, motion.flow1, motion.mask, motion.residual))

        parts = self._in_bands(last_level, coarse.feature, width=self._width(1), halo=DECODER_HALO)
        flow0, flow1, mask, residual = (part.unflatten(1, (self.config.fields, -1)) for part in parts)
        return Motion(flow0, flow1, mask, residual, coarse.flows)

    @torch.no_grad()
    def merge(self, frame0: Tensor, frame1: Tensor, motion: Motion) -> Tensor:
        halo = self.config.merge_kernel - 1

        def merge(band: Band) -> tuple[Tensor]:
            near = motion.map(lambda field: field[..., band.rows, :])
            return (without_rows(self._merge_rows(frame0, frame1, near, band.rows.start), band.above, band.below),)

        # Colours, warped and candidates, of all fields at once.
        (merged,) = self._in_bands(merge, frame0, width=12 * self.config.fields, halo=halo)
        return merged.clamp_(0, 1)

    def _frame(self, frame0: Tensor, frame1: Tensor, coarse: CoarseMotion) -> Tensor:
        """The last level and the merge, band by band."""
        most = merge_halo(self.config)

        def last_level(band: Band) -> tuple[Tensor]:
            # Of the band's halo, the merge needs the inner rows, and the decoder the outer ones.
            above, below = min(band.above, most), min(band.below, most)
            motion = self._last_level(coarse, Band(band.rows, band.above - above, band.below - below))
            merged = self._merge_rows(frame0, frame1, motion, 2 * (band.rows.start + band.above - above))
            return (without_rows(merged, 2 * above, 2 * below),)

        (merged,) = self._in_bands(last_level, coarse.feature, width=self._width(1), halo=DECODER_HALO + most)
        return merged.clamp_(0, 1)

    def _check_timestep(self, timestep: Tensor) -> Tensor:
        if timestep.device.type == "cpu":
            return super()._check_timestep(timestep)
        # The host would wait for the answer of another device. So a wrong time gives pixels that are no numbers.
        return timestep.where((timestep > 0) & (timestep < 1), float("nan"))

    def _decode(
        self, decoder: Decoder, feature: Tensor, flow: Tensor, context0: Tensor, context1: Tensor
    ) -> tuple[Tensor, Tensor]:
        operations = self.operations

        def decode(band: Band) -> tuple[Tensor, Tensor]:
            near, near_flow = feature[:, :, band.rows], flow[:, :, band.rows]
            gathered = _decoder_input(operations, near, context0, context1, near_flow, band.rows.start)
            decoded = operations.decode(decoder, gathered, band.above, band.below)
            return decoded[:, 4:], decoded[:, :4].float()

        width = self._width(3 if decoder is self.decoder3 else 2)
        finer, delta = self._in_bands(decode, feature, width=width, halo=DECODER_HALO)
        return finer, delta + resize_flow(flow, 2)

    def _update_full_scale(
        self, block: UpdateBlock, feature: Tensor, flow: Tensor, correlation: Tensor
    ) -> tuple[Tensor, Tensor]:
        scale = block.correlation_scale

        def update(band: Band) -> tuple[Tensor, Tensor]:
            fine = slice(band.rows.start * scale, band.rows.stop * scale)
            near, near_flow = feature[:, :, fine], flow[:, :, fine]
            deltas = block(near, near_flow, correlation[:, :, band.rows])
            updated = self._add(deltas, near, near_flow)
            above, below = band.above * scale, band.below * scale
            return without_rows(updated[0], above, below), without_rows(updated[1], above, below)

        width = max(self.config.update.correlation, self.config.update.hidden) * scale**2
        updated = self._in_bands(update, correlation, width=width, halo=update_halo(scale))
        return updated[0], updated[1]

    def _add(self, deltas: tuple[Tensor, Tensor], feature: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        # Into the deltas, which nothing else holds: memory is scarcest here.
        return deltas[0].add_(feature), deltas[1].add_(flow)

    def _last_level(self, coarse: CoarseMotion, band: Band) -> Motion:
        """The motion of a band of the coarse feature's rows, without its halos."""
        operations = self.operations
        feature, flow = coarse.feature[:, :, band.rows], coarse.flows[-1][:, :, band.rows]
        gathered = _decoder_input(operations, feature, coarse.context0, coarse.context1, flow, band.rows.start)
        decoded = operations.decode(self.decoder1, gathered, band.above, band.below)
        del gathered
        flow = without_rows(resize_flow(flow, 2), 2 * band.above, 2 * band.below)
        return self._by_field(operations.channels_first(decoded.float()), flow, coarse.flows)

    def _merge_rows(self, frame0: Tensor, frame1: Tensor, motion: Motion, top: int) -> Tensor:
        """The frame's rows from `top` on, as far as the motion reaches, not clamped to 0..1."""
        operations = self.operations
        candidates = torch.stack(
            [
                torch.lerp(
                    operations.warp(frame1, motion.flow1[:, field], top),
                    operations.warp(frame0, motion.flow0[:, field], top),
                    motion.mask[:, field],
                )
                for field in range(self.config.fields)
            ],
            dim=1,
        )
        colours = candidates[:, :, :3] + motion.residual
        correction = operations.combine(
            self.comb_block, colours.flatten(1, 2).to(self.dtype, memory_format=operations.memory_format)
        )
        merged = colours.mean(dim=1) + correction.float()
        return torch.cat((merged, candidates[:, :, 3:].mean(dim=1)), dim=1)

    def _width(self, level: int) -> int:
        """Channels inside the decoder of level 3, 2 or 1."""
        return 3 * self.config.context_widths[level - 1]

    def _in_bands(
        self, compute: Callable[[Band], tuple[Tensor, ...]], x: Tensor, *, width: int, halo: int
    ) -> tuple[Tensor, ...]:
        """Computes in bands of x's rows, with activations of `width` channels at x's resolution."""
        row_bytes = x.shape[0] * width * x.shape[3] * x.element_size()
        return in_bands(compute, x.shape[2], row_bytes=row_bytes, band_bytes=self.operations.band_bytes, halo=halo)


def _decoder_input(
    operations: Operations, feature: Tensor, context0: Tensor, context1: Tensor, flow: Tensor, top: int
) -> Tensor:
    """As in `network.model`; feature and flow are the rows of their level from `top` on."""
    warped0 = operations.warp(context0, flow[:, :2], top)
    warped1 = operations.warp(context1, flow[:, 2:], top)
    parts = (feature, warped0, warped1, flow.to(feature.dtype))
    return torch.cat([part.contiguous(memory_format=operations.memory_format) for part in parts], dim=1)
