import json

import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.network import AMT, PADDING, Config, G, L, Motion, S
from golden import DATA, TOLERANCES, Case, golden_case, golden_cases, golden_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

CONFIGS = {config.name: config for config in (S, L, G)}
HALF = torch.tensor([0.5])
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks() -> dict[str, AMT]:
    return {name: golden_network(config) for name, config in CONFIGS.items()}


def golden_network(config: Config) -> AMT:
    network = AMT(config)
    network.load_state_dict(golden_state_dict(network))
    return network.eval().requires_grad_(False)


def frames(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth random texture and the same one a few pixels on."""
    noise = torch.rand(shape[0], shape[1], 8, 8, generator=torch.Generator().manual_seed(seed))
    texture = torch.nn.functional.interpolate(noise, (shape[2] + 4, shape[3] + 4), mode="bicubic").clamp(0, 1)
    return texture[..., 2:-2, 2:-2].contiguous(), texture[..., 4:, :-4].contiguous()


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_have_the_published_names_and_shapes(name: str) -> None:
    expected = json.loads((DATA / "state_dict_shapes.json").read_text())[name]
    assert {key: list(value.shape) for key, value in AMT(CONFIGS[name]).state_dict().items()} == expected


@pytest.mark.parametrize("case_name", golden_cases())
def test_golden_tensors_are_met(case_name: str, networks: dict[str, AMT]) -> None:
    case = golden_case(case_name)
    network = networks[case.variant]
    size = (case.frame0.shape[2], case.frame0.shape[3])
    frame0, frame1 = PADDING.pad(case.frame0), PADDING.pad(case.frame1)
    seen: dict[str, Tensor] = {}
    remove = watch(network, seen)
    pair = network.open_pair(frame0, frame1)
    motion = network.motion_at(pair, case.timestep)
    for handle in remove:
        handle.remove()
    seen["image"] = PADDING.crop(network.merge(frame0, frame1, motion), size)
    seen |= named(motion)
    for frame, contexts in enumerate((pair.contexts0, pair.contexts1)):
        seen |= {f"context{frame}_{level}": value for level, value in enumerate(contexts, 1)}
    assert set(case.expected) <= set(seen)
    assert_golden(case, seen)
    torch.testing.assert_close(PADDING.crop(network(frame0, frame1, case.timestep), size), seen["image"])


@pytest.mark.parametrize("case_name", golden_cases())
def test_golden_tensors_are_met_by_the_fast_network(case_name: str, networks: dict[str, AMT]) -> None:
    case = golden_case(case_name)
    network = FastAMT(networks[case.variant])
    size = (case.frame0.shape[2], case.frame0.shape[3])
    frame0, frame1 = PADDING.pad(case.frame0), PADDING.pad(case.frame1)
    motion = network.motion(frame0, frame1, case.timestep)
    image = PADDING.crop(network(frame0, frame1, case.timestep), size)
    assert_golden(case, {"image": image, **named(motion)})
    torch.testing.assert_close(PADDING.crop(network.merge(frame0, frame1, motion), size), image, atol=1e-5, rtol=0)


def named(motion: Motion) -> dict[str, Tensor]:
    """The flows by the specification's names."""
    flows = {"flow0_1": motion.flow0, "flow1_1": motion.flow1}
    for level, pair in zip((4, 3, 2), motion.coarse_flows, strict=True):
        flows[f"flow0_{level}"], flows[f"flow1_{level}"] = pair.chunk(2, dim=1)
    return flows


def assert_golden(case: Case, seen: dict[str, Tensor]) -> None:
    for name in set(case.expected) & set(seen):
        assert case.difference(name, seen[name]) <= TOLERANCES[name.split("_")[0].rstrip("01")], name


def watch(network: AMT, seen: dict[str, Tensor]) -> list[torch.utils.hooks.RemovableHandle]:
    """Records what the specification names: it enters or leaves the network's named parts."""

    def features(_module: object, _inputs: object, output: Tensor) -> None:
        seen["fmap1" if "fmap0" in seen and "fmap1" not in seen else "fmap0"] = output

    def decoder_input(level: int):
        def hook(_module: object, inputs: tuple[Tensor]) -> None:
            channels = network.config.context_widths[level - 1]
            seen[f"feature_{level}"] = inputs[0][:, :channels]

        return hook

    def update_input(level: int):
        def hook(_module: object, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
            seen[f"corr_{level}"] = inputs[2]

        return hook

    suffix = "_low" if network.config.full_scale_updates else ""
    return [
        network.feat_encoder.register_forward_hook(features),
        *(network.get_submodule(f"decoder{k}").register_forward_pre_hook(decoder_input(k)) for k in (1, 2, 3)),
        network.update4.register_forward_pre_hook(update_input(4)),
        *(network.get_submodule(f"update{k}{suffix}").register_forward_pre_hook(update_input(k)) for k in (2, 3)),
    ]


@settings(deadline=None, max_examples=12)
@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_any_size_gives_finite_frames_of_that_size(height: int, width: int) -> None:
    frame0, frame1 = frames(1, 3, height, width)
    made = PADDING.crop(GOLDEN_S(PADDING.pad(frame0), PADDING.pad(frame1), HALF), (height, width))
    assert made.shape == frame0.shape
    assert made.isfinite().all()
    assert made.min() >= 0
    assert made.max() <= 1


GOLDEN_S = golden_network(S)


def test_one_pixel_gives_one_pixel() -> None:
    frame0, frame1 = torch.full((1, 3, 1, 1), 0.2), torch.full((1, 3, 1, 1), 0.6)
    made = PADDING.crop(GOLDEN_S(PADDING.pad(frame0), PADDING.pad(frame1), HALF), (1, 1))
    assert made.shape == (1, 3, 1, 1)
    assert made.isfinite().all()


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_pair_opened_once_gives_the_frames_of_all_times(name: str, fast: bool, networks: dict[str, AMT]) -> None:
    network = FastAMT(networks[name]) if fast else networks[name]
    frame0, frame1 = frames(1, 4, 128, 128)
    pair = network.open_pair(frame0, frame1)
    for time in (0.125, 0.5):
        timestep = torch.tensor([time])
        assert torch.equal(network.frame_at(pair, timestep), network(frame0, frame1, timestep))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_trained(name: str) -> None:
    network = golden_network(CONFIGS[name]).requires_grad_(True)
    frame0, frame1 = frames(1, 3, 128, 128)
    motion = network.motion(frame0, frame1, HALF)
    loss = (network.merge(frame0, frame1, motion) - frame1).abs().mean()
    (loss + sum(flow.abs().mean() for flow in motion.coarse_flows)).backward()
    for parameter_name, parameter in network.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, parameter_name
        assert gradient.isfinite().all(), parameter_name
        # an instance norm takes away what the bias of the convolution before it adds
        assert gradient.abs().max() > 0 or parameter_name.endswith(".bias"), parameter_name


@pytest.mark.parametrize("name", CONFIGS)
def test_batches_of_pairs_equal_single_pairs(name: str, networks: dict[str, AMT]) -> None:
    frame0, frame1 = frames(3, 3, 128, 144)
    times = torch.tensor([0.5, 0.25, 0.8])
    together = networks[name](frame0, frame1, times)
    alone = [networks[name](frame0[i : i + 1], frame1[i : i + 1], times[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-5, rtol=0)


@pytest.mark.parametrize("time", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_times_outside_the_pair_are_refused(time: float) -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        GOLDEN_S(*frames(1, 3, 128, 128), torch.tensor([time]))


@pytest.mark.parametrize("time", [0.0, 1.5, float("nan")])
def test_times_that_no_one_can_look_at_in_time_give_no_picture(time: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, reading a time would make the host wait; the engine refuses pixels that are no numbers."""
    timestep = torch.tensor([time])
    monkeypatch.setattr(
        torch.Tensor, "device", property(lambda self: torch.device("cuda") if self is timestep else CPU)
    )
    assert FastAMT(GOLDEN_S).check_timestep(timestep).isnan().all()


def test_unpadded_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="padded"):
        GOLDEN_S(*frames(1, 3, 100, 128), HALF)


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        GOLDEN_S(frames(1, 3, 128, 128)[0], frames(1, 3, 128, 144)[0], HALF)


def test_alpha_moves_with_the_colours_and_leaves_them_alone() -> None:
    frame0, frame1 = frames(1, 3, 128, 128)
    alpha0, alpha1 = frames(1, 1, 128, 128, seed=1)
    made = GOLDEN_S(torch.cat((frame0, alpha0), 1), torch.cat((frame1, alpha1), 1), HALF)
    torch.testing.assert_close(made[:, :3], GOLDEN_S(frame0, frame1, HALF))
    # Alpha is a mixture of the two alphas: opaque stays opaque, whatever the flows are.
    opaque = torch.ones_like(alpha0)
    made = GOLDEN_S(torch.cat((frame0, opaque), 1), torch.cat((frame1, opaque), 1), HALF)
    torch.testing.assert_close(made[:, 3:], opaque)


def test_alpha_follows_the_flows_and_masks() -> None:
    """Alpha that equals a colour channel goes where that colour goes, but for what is added to colours."""
    frame0, frame1 = frames(1, 3, 128, 128)
    motion = GOLDEN_S.motion(frame0, frame1, HALF)
    made = GOLDEN_S(torch.cat((frame0, frame0[:, :1]), 1), torch.cat((frame1, frame1[:, :1]), 1), HALF)
    fields = []
    for k in range(S.fields):
        ends = [sample(f[0, 0], flow[0, k]) for f, flow in ((frame0, motion.flow0), (frame1, motion.flow1))]
        fields.append(motion.mask[0, k, 0] * ends[0] + (1 - motion.mask[0, k, 0]) * ends[1])
    torch.testing.assert_close(made[0, 3], torch.stack(fields).mean(0), atol=1e-4, rtol=0)


def sample(image: Tensor, flow: Tensor) -> Tensor:
    """Bilinear sampling at pixel + flow with clamped positions, written out."""
    h, w = image.shape
    y, x = torch.meshgrid(torch.arange(h).float(), torch.arange(w).float(), indexing="ij")
    x, y = (x + flow[0]).clamp(0, w - 1), (y + flow[1]).clamp(0, h - 1)
    x0, y0 = x.floor().long(), y.floor().long()
    x1, y1 = (x0 + 1).clamp(max=w - 1), (y0 + 1).clamp(max=h - 1)
    fx, fy = x - x0, y - y0
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return top * (1 - fy) + bottom * fy
