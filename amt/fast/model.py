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
from .lookups import extra_memory
from .memory import memory_used
from .operations import Operations, weights_format


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
        # Convolutions want weights in the format of what they are applied to. Others are copied at every call.
        for weight in self.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=weights_format())

    @property
    def operations(self) -> Operations:
        return choose_operations(next(self.parameters()).device, compiled=self.compiled)

    def memory_used(self, size: tuple[int, int], *, batch: int = 1, device: torch.device | None = None) -> int:
        """About how many bytes a call takes at its peak for frames of (height, width) = size; see `memory`.

        device: where it will run, if that is not where the weights are now.
        """
        device = device or next(self.parameters()).device
        height, width = self.padding.padded(size)
        used = memory_used(self.config, (height, width), batch=batch, device=device, dtype=self.dtype)
        if self._correlation is not None:
            return used
        maps = torch.Size((batch, self.config.feature_channels, height // 8, width // 8))
        return used + extra_memory(maps, self.dtype, device)

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
        # Both frames as one batch: half as many operations, each on twice as much.
        b, _, height, width = frame0.shape
        like = {"dtype": self.dtype, "device": frame0.device, "memory_format": operations.memory_format}
        centred = torch.empty(2 * b, 3, height, width, **like)
        torch.sub(frame0[:, :3], mean, out=centred[:b])
        torch.sub(frame1[:, :3], mean, out=centred[b:])
        fmap0, fmap1 = operations.features(self.feat_encoder, centred).chunk(2)
        correlation = (self._correlation or operations.correlation)(fmap0, fmap1)
        del fmap0, fmap1
        contexts0, contexts1 = operations.contexts(self.encoder, centred)
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
        """As `AMT.merge`; the motion may also be one of frames so many times as small as these."""
        halo = self.config.merge_kernel - 1
        factor = frame0.shape[-1] // motion.flow0.shape[-1]

        def merge(band: Band) -> tuple[Tensor]:
            near = motion.enlarged(factor, band.rows)
            merged = self.operations.merge(self.comb_block, frame0, frame1, near, band.rows.start)
            return (without_rows(merged, band.above, band.below),)

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
            top = 2 * (band.rows.start + band.above - above)
            merged = self.operations.merge(self.comb_block, frame0, frame1, motion, top)
            return (without_rows(merged, 2 * above, 2 * below),)

        (merged,) = self._in_bands(last_level, coarse.feature, width=self._width(1), halo=DECODER_HALO + most)
        return merged.clamp_(0, 1)

    def check_timestep(self, timestep: Tensor) -> Tensor:
        if timestep.device.type == "cpu":
            timestep = super().check_timestep(timestep)
            # From pinned memory it comes to the device without a wait.
            on_cuda = next(self.parameters()).device.type == "cuda"
            return timestep.pin_memory() if on_cuda else timestep
        # The host would wait for the answer of another device. So a wrong time gives pixels that are no numbers.
        return timestep.where((timestep > 0) & (timestep < 1), float("nan"))

    def _decode(
        self, decoder: Decoder, feature: Tensor, flow: Tensor, context0: Tensor, context1: Tensor
    ) -> tuple[Tensor, Tensor]:
        operations = self.operations

        def decode(band: Band) -> tuple[Tensor, Tensor]:
            near, near_flow = feature[:, :, band.rows], flow[:, :, band.rows]
            gathered = operations.decoder_input(near, context0, context1, near_flow, band.rows.start)
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
        gathered = operations.decoder_input(feature, coarse.context0, coarse.context1, flow, band.rows.start)
        decoded = operations.decode(self.decoder1, gathered, band.above, band.below)
        del gathered
        flow = without_rows(resize_flow(flow, 2), 2 * band.above, 2 * band.below)
        return Motion(*operations.fields(decoded, flow), coarse.flows)

    def _width(self, level: int) -> int:
        """Channels inside the decoder of level 3, 2 or 1."""
        return 3 * self.config.context_widths[level - 1]

    def _in_bands(
        self, compute: Callable[[Band], tuple[Tensor, ...]], x: Tensor, *, width: int, halo: int
    ) -> tuple[Tensor, ...]:
        """Computes in bands of x's rows, with activations of `width` channels at x's resolution."""
        row_bytes = x.shape[0] * width * x.shape[3] * x.element_size()
        return in_bands(compute, x.shape[2], row_bytes=row_bytes, band_bytes=self.operations.band_bytes, halo=halo)
