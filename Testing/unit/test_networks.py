"""The network: parameter counts, names and shapes of the released weights, and a forward pass written a second time without modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from PASTALib.errors import InputError
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise, parameter_count


def on_meta(**shape) -> PastaNet:
    with torch.device("meta"):
        return PastaNet(NetworkShape(**shape))


def randomised(network: PastaNet, seed: int = 0) -> PastaNet:
    """Every value drawn at random, norms and biases too, so that a part left out or misplaced shows."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        fan = value[0].numel() if value.ndim > 1 else 1
        value.copy_(
            torch.randn(value.shape, generator=generator) * (2 / fan) ** 0.5
            if value.ndim > 1
            else torch.rand(value.shape, generator=generator) + 0.2
        )
    return network.eval()


# ---------------------------------------------------------------------------------------------------------------
# The published table


@pytest.mark.parametrize(
    ("classes", "outputs", "wanted"),
    [
        (26, 0, 240_313_664),
        (3, 0, 240_268_032),
        (2, 0, 240_266_048),
        (14, 14, 240_949_582),
        (13, 13, 240_947_341),
        (2, 2, 240_922_690),
        (1, 1, 240_920_449),
        (0, 0, 56_526_144),
        (0, 14, 56_526_144 + 659_726),
    ],
)
def test_parameters_are_the_published_ones(classes, outputs, wanted):
    assert parameter_count(on_meta(classes=classes, attribute_outputs=outputs)) == wanted


def published_table(classes: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released state dict, from its description and not from our modules."""
    table: dict[str, tuple[int, ...]] = {}

    def unit(name: str, inputs: int, outputs: int) -> None:
        table[f"{name}.conv.weight"] = (outputs, inputs, 3, 3, 3)
        for tensor in ("conv.bias", "instnorm.weight", "instnorm.bias"):
            table[f"{name}.{tensor}"] = (outputs,)

    for stage, (before, after) in enumerate([(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]):
        unit(f"conv_blocks_context.{stage}.blocks.0", before, after)
        unit(f"conv_blocks_context.{stage}.blocks.1", after, after)
    unit("conv_blocks_context.5.0.blocks.0", 1024, 1024)
    unit("conv_blocks_context.5.1.blocks.0", 1024, 1024)
    for level, (below, here) in enumerate([(1024, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]):
        table[f"tu.{level}.weight"] = (below, here, 2, 2, 2)
        unit(f"conv_blocks_localization.{level}.0.blocks.0", 2 * here, here)
        unit(f"conv_blocks_localization.{level}.1.blocks.0", here, here)
        table[f"seg_outputs.{level}.weight"] = (classes, here, 1, 1, 1)
    for layer, (before, after) in {0: (1024, 512), 2: (512, 256), 4: (256, outputs)}.items():
        if outputs:
            table[f"head.{layer}.weight"], table[f"head.{layer}.bias"] = (after, before), (after,)
    return table


@pytest.mark.parametrize(("classes", "outputs", "tensors"), [(26, 0, 98), (3, 0, 98), (14, 14, 104), (13, 13, 104)])
def test_names_and_shapes_are_the_published_ones(classes, outputs, tensors):
    network = on_meta(classes=classes, attribute_outputs=outputs)
    found = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert found == published_table(classes, outputs)
    assert len(found) == tensors


def test_some_shapes_written_out():
    table = published_table(26, 14)
    assert table["conv_blocks_context.1.blocks.0.conv.weight"] == (128, 64, 3, 3, 3)
    assert table["conv_blocks_localization.0.0.blocks.0.conv.weight"] == (1024, 2048, 3, 3, 3)
    assert table["conv_blocks_localization.4.0.blocks.0.conv.weight"] == (64, 128, 3, 3, 3)
    assert table["tu.4.weight"] == (128, 64, 2, 2, 2) and table["seg_outputs.4.weight"] == (26, 64, 1, 1, 1)
    assert table["head.4.weight"] == (14, 256) and table["head.4.bias"] == (14,)


def test_split_of_the_parameters():
    network = on_meta()
    counts = {name: parameter_count(module) for name, module in network.named_children()}
    assert counts == {
        "conv_blocks_context": 113_155_392,
        "conv_blocks_localization": 113_147_520,
        "tu": 13_959_168,
        "seg_outputs": 51_584,
    }
    stages = [parameter_count(stage) for stage in network.conv_blocks_context]
    assert stages == [112_704, 664_320, 2_655_744, 10_619_904, 42_473_472, 56_629_248]


# ---------------------------------------------------------------------------------------------------------------
# The forward pass, once more, from the state dict alone


def unit(state, name, x, stride=1):
    x = F.conv3d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], stride=stride, padding=1)
    mean = x.mean((2, 3, 4), keepdim=True)
    x = (x - mean) / ((x - mean) ** 2).mean((2, 3, 4), keepdim=True).add(1e-5).sqrt()
    x = x * state[f"{name}.instnorm.weight"].view(1, -1, 1, 1, 1) + state[f"{name}.instnorm.bias"].view(1, -1, 1, 1, 1)
    return torch.where(x > 0, x, 0.01 * x)


def by_hand(state, x):
    """(five outputs, full resolution first; feature vector; attribute logits) of a six-level network."""
    skips = []
    for stage in range(5):
        x = unit(state, f"conv_blocks_context.{stage}.blocks.0", x, 2 if stage else 1)
        x = unit(state, f"conv_blocks_context.{stage}.blocks.1", x)
        skips.append(x)
    features = F.adaptive_avg_pool3d(x, 1).flatten(1)
    hidden = F.leaky_relu(features @ state["head.0.weight"].T + state["head.0.bias"], 0.01)
    hidden = F.leaky_relu(hidden @ state["head.2.weight"].T + state["head.2.bias"], 0.01)
    logits = hidden @ state["head.4.weight"].T + state["head.4.bias"]

    x = unit(state, "conv_blocks_context.5.0.blocks.0", x, 2)
    x = unit(state, "conv_blocks_context.5.1.blocks.0", x)
    outputs = []
    for level in range(5):
        x = F.conv_transpose3d(x, state[f"tu.{level}.weight"], state.get(f"tu.{level}.bias"), stride=2)
        x = torch.cat([x, skips[4 - level]], dim=1)
        x = unit(state, f"conv_blocks_localization.{level}.0.blocks.0", x)
        x = unit(state, f"conv_blocks_localization.{level}.1.blocks.0", x)
        outputs.append(F.conv3d(x, state[f"seg_outputs.{level}.weight"], state.get(f"seg_outputs.{level}.bias")))
    return outputs[::-1], features, logits


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("size", [(64, 64, 64), (32, 32, 64)])
def test_forward_agrees_with_a_second_writing(size, biases):
    shape = NetworkShape.of_width(8, classes=5, attribute_outputs=13, biases=biases)
    network = randomised(PastaNet(shape, deep_supervision=True))
    x = torch.randn((2 if size[0] < 64 else 1, 1, *size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs, features, logits = by_hand(network.state_dict(), x)
        found = network(x)
        assert len(found) == 5
        for ours, theirs in zip(found, outputs):
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max())
        torch.testing.assert_close(network.features(x), features, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.attributes(x), logits, atol=1e-5, rtol=1e-5)
        network.deep_supervision = False
        torch.testing.assert_close(network(x), found[0])
    assert found[0].shape[2:] == size and found[0].std() > 0.01


def test_too_small_for_the_bottleneck_is_said():
    network = PastaNet(NetworkShape.of_width(2, classes=3))
    with pytest.raises(ValueError, match="spatial"):
        network(torch.zeros(1, 1, 32, 32, 32))


def test_encoder_alone_takes_a_small_cube():
    network = PastaNet(NetworkShape.of_width(2, classes=0, attribute_outputs=13)).eval()
    with torch.no_grad():
        assert network.features(torch.randn(3, 1, 32, 32, 32)).shape == (3, 32)
        assert network.attributes(torch.randn(3, 1, 32, 32, 32)).shape == (3, 13)
    with pytest.raises(InputError, match="encoder only"):
        network(torch.zeros(1, 1, 64, 64, 64))


def test_segmenting_network_without_a_head_says_so():
    with pytest.raises(InputError, match="no attribute head"):
        PastaNet(NetworkShape.of_width(2, classes=3)).attributes(torch.zeros(1, 1, 32, 32, 32))


def test_multiples_and_levels():
    assert NetworkShape().multiple == 32 and NetworkShape(classes=0).multiple == 16
    assert NetworkShape.of_width(64).channels == (64, 128, 256, 512, 1024, 1024)
    with pytest.raises(ValueError, match="levels"):
        PastaNet(NetworkShape((4, 8)))


def test_initialise_is_repeatable_and_does_not_seed_globally():
    shape = NetworkShape.of_width(2, classes=3, attribute_outputs=13)
    before = torch.random.get_rng_state()
    first = initialise(PastaNet(shape), seed=3).state_dict()
    torch.random.set_rng_state(before)
    torch.rand(7)
    second = initialise(PastaNet(shape), seed=3).state_dict()
    other = initialise(PastaNet(shape), seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["tu.0.weight"], other["tu.0.weight"])
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])
    assert first["conv_blocks_context.2.blocks.0.conv.bias"].abs().max() == 0


def test_gradients_reach_every_parameter():
    network = PastaNet(NetworkShape.of_width(2, classes=3, attribute_outputs=13), deep_supervision=True)
    x = torch.randn(1, 1, 32, 32, 64)
    loss = sum(output.square().mean() for output in network(x)) + network.attributes(x).square().mean()
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_network_runs_in_half_precision_and_channels_last(dtype):
    shape = NetworkShape.of_width(4, 4, classes=3)
    full, half = (initialise(PastaNet(shape), 0).eval() for _ in range(2))
    half = half.to(dtype).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = full(x)
        found = half(x.to(dtype).contiguous(memory_format=torch.channels_last_3d)).float()
    assert (found - wanted).abs().mean() < 0.05 * wanted.abs().mean()


def test_the_network_is_one_graph_for_torch_compile():
    """Traced whole, without a break; which compiler takes it from there is up to the user."""
    network = initialise(PastaNet(NetworkShape.of_width(4, 4, classes=3)), 0).eval()
    x = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(torch.compile(network, fullgraph=True, backend="eager")(x), network(x))
