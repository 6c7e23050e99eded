import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT, compile_parts
from amt_frame_interpolation.amt.network import AMT, Config, G, S
from golden import golden_state_dict

HALF = torch.tensor([0.5])


def network(config: Config = S) -> FastAMT:
    made = AMT(config)
    made.load_state_dict(golden_state_dict(made))
    return FastAMT(made)


def frames(height: int, width: int, batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(height)
    texture = torch.rand(batch, 3, height // 8, width // 8, generator=generator)
    texture = torch.nn.functional.interpolate(texture, (height, width), mode="bicubic").clamp(0, 1)
    return [texture, texture.roll((2, 5), (2, 3))]


@pytest.fixture(autouse=True)
def _forget_what_was_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("config", "shapes"),
    [(S, ((128, 144, 1), (160, 128, 2))), (G, ((128, 144, 1),))],
    ids=("AMT-S", "AMT-G"),
)
def test_a_compiled_network_gives_the_same_frames_at_every_size(
    config: Config, shapes: tuple[tuple[int, int, int], ...]
) -> None:
    # The backend that leaves out code generation, which takes minutes: what it is given is the same.
    plain, compiled = network(config), network(config)
    compilation = compile_parts(compiled, backend="aot_eager")
    with torch.inference_mode():
        for height, width, batch in shapes:
            pair = frames(height, width, batch)
            torch.testing.assert_close(compiled(*pair, HALF), plain(*pair, HALF), atol=1e-4, rtol=0)
    assert compilation.failure is None


def test_where_compiling_fails_the_network_runs_as_it_is_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("no working compiler was found\nwith many lines of advice")

    plain, compiled = network(), network()
    compilation = compile_parts(compiled, backend=no_compiler)
    pair = frames(128, 128)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        for _ in range(2):
            torch.testing.assert_close(compiled(*pair, HALF), plain(*pair, HALF), atol=1e-4, rtol=0)
    assert compilation.failure
    assert "no working compiler was found" in compilation.failure
    assert "\n" not in compilation.failure
    assert [record.getMessage() for record in caplog.records if "compil" in record.getMessage()] == [
        f"AMT runs without torch.compile: {compilation.failure}"
    ]


def test_running_out_of_memory_is_no_failure_of_compiling() -> None:
    def crowded(*_: object) -> Callable[..., None]:
        def run(*_: object) -> None:
            raise torch.OutOfMemoryError("out of memory")

        return run

    compiled = network()
    compilation = compile_parts(compiled, backend=crowded)
    with torch.inference_mode(), pytest.raises(torch.OutOfMemoryError):
        compiled(*frames(128, 128), HALF)
    assert compilation.failure is None


def test_compiling_leaves_the_weights_names_alone() -> None:
    compiled = network()
    names = list(compiled.state_dict())
    compile_parts(compiled)
    assert list(compiled.state_dict()) == names
