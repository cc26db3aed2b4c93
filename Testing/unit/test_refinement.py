"""The refinement of a region: schedule, HU map, plans, and what it may and may not do to an image (a random network will do for that)."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.inference.intensity import PASTA_PIECEWISE, Intensity  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402
from PASTALib.refinement.checkpoint import random_denoiser  # noqa: E402
from PASTALib.refinement.diffusion import REFINEMENT_MAP, HuMap, Schedule  # noqa: E402
from PASTALib.refinement.network import DenoiserShape, DenoisingNet, network_input, noise_table  # noqa: E402
from PASTALib.refinement.plan import LIMITS, MODES, RefinePlan, plan_for  # noqa: E402
from PASTALib.refinement.refine import Refiner, around_noise  # noqa: E402

SHAPE = DenoiserShape((8, 16))


@pytest.fixture(scope="module")
def refiner():
    return Refiner(random_denoiser(SHAPE), "cpu", "fp32")


@pytest.fixture(scope="module")
def region():
    """hu, label, organ, changed of a noisy ball in noisy tissue, (30, 34, 38)."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:30, :34, :38]
    far = np.sqrt((z - 15.0) ** 2 + (y - 17) ** 2 + (x - 19) ** 2)
    hu = (100 - 40 * (far < 7) + 12 * rng.standard_normal(far.shape)).astype(np.float32)
    return hu, far < 7, np.ones(far.shape, bool), far < 10


# ---------------------------------------------------------------------------------------------------------------
# Mathematics


def test_schedule_is_that_of_the_paper_and_of_monai():
    schedule = Schedule()
    assert schedule.noise[5] == pytest.approx(0.0265, abs=1e-3)  # the paper's t = 5
    assert schedule.kept[0] == 1 and len(schedule.kept) == 1001
    monai = pytest.importorskip("monai.networks.schedulers")
    theirs = monai.DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", beta_start=1e-4, beta_end=2e-2)
    np.testing.assert_allclose(schedule.kept[1:], theirs.alphas_cumprod.numpy(), rtol=2e-4)


@pytest.mark.parametrize("t", [5, 3, 1, 700])
def test_reverse_steps_are_monais(t):
    monai = pytest.importorskip("monai.networks.schedulers")
    schedule, rng = Schedule(), np.random.default_rng(t)
    image = rng.uniform(-0.9, 0.9, (1, 1, 4, 4, 4)).astype(np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    x = schedule.add_noise(image, noise, t)
    theirs = monai.DDPMScheduler(1000, "linear_beta", beta_start=1e-4, beta_end=2e-2, variance_type="fixed_small")
    as_torch = torch.from_numpy
    noised = theirs.add_noise(as_torch(image), as_torch(noise), torch.tensor([t - 1]))
    np.testing.assert_allclose(x, noised.numpy(), atol=2e-5)
    guess = 0.7 * noise  # any prediction
    clean = schedule.clean(x, guess, t, (-1, 1))
    drawn = rng.standard_normal(image.shape, dtype=np.float32)
    ours = schedule.ancestral(x, clean, t, t - 1, drawn)
    theirs.set_timesteps(1000)

    class Drawn:  # their step draws from a generator: give it our numbers
        def __call__(self, *_, **__):
            return as_torch(drawn)

    original, torch.randn = torch.randn, Drawn()
    try:
        stepped, estimate = theirs.step(as_torch(guess), t - 1, as_torch(x))
    finally:
        torch.randn = original
    np.testing.assert_allclose(clean, estimate.numpy(), atol=2e-3 if t > 100 else 2e-5)
    np.testing.assert_allclose(
        ours, stepped.numpy(), atol=2e-3 if t > 100 else 2e-4
    )  # theirs: 1 - ᾱ in single precision


def test_steps_may_be_left_out():
    """Two steps at once have the mean of the posterior two steps back: with the true image and noise the marginal is exact."""
    schedule = Schedule()
    image, noise = np.float32(0.3) * np.ones(200_000, np.float32), np.random.default_rng(0).standard_normal(200_000)
    x = schedule.add_noise(image, noise.astype(np.float32), 40)
    drawn = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    at = schedule.ancestral(x, image, 40, 10, drawn)
    assert at.mean() == pytest.approx(0.3 * np.sqrt(schedule.kept[10]), abs=1e-3)
    assert at.std() == pytest.approx(schedule.noise[10], rel=0.01)
    np.testing.assert_allclose(schedule.ancestral(x, image, 40, 0, drawn), image, atol=1e-6)
    np.testing.assert_allclose(
        schedule.implicit(image, noise.astype(np.float32), 10), schedule.add_noise(image, noise.astype(np.float32), 10)
    )


def test_hu_map_is_exact_where_it_does_not_saturate():
    hu_map = HuMap(REFINEMENT_MAP)
    hu = np.arange(-1200, 1600, dtype=np.float32)
    back = hu_map.hu(hu_map.units(hu))
    free = hu_map.invertible(hu)
    assert free.sum() == 2299 and np.abs(back - hu)[free].max() < 2e-3
    assert not free[[0, -1]].any()
    noise = Schedule().noise[5]
    assert hu_map.noise_hu(noise, 60) == pytest.approx(11.0, abs=0.5)  # as its comment says
    assert hu_map.noise_hu(noise, -800) == pytest.approx(53, abs=1)
    assert hu_map.noise_hu(noise, 800) == pytest.approx(66, abs=1)
    assert hu_map.noise_hu(noise, 2000) == np.inf
    assert HuMap(PASTA_PIECEWISE).noise_hu(noise / 2, 0) == pytest.approx(7.5, abs=0.2)  # 0..1 is half of -1..1


@pytest.mark.parametrize("intensity", [Intensity.standardised(-100, 200, 0, 1), Intensity((0.0, 1.0), (1.0, 1.0))])
def test_hu_maps_without_an_inverse_are_refused(intensity):
    with pytest.raises(InputError, match="no inverse"):
        HuMap(intensity)


def test_schedule_and_shape_survive_json_and_refuse_nonsense():
    assert Schedule.from_json(Schedule(50, 1e-3, 0.1).to_json()) == Schedule(50, 1e-3, 0.1)
    assert DenoiserShape.from_json(SHAPE.to_json()) == SHAPE
    for bad in (
        {"kind": "cosine"},
        {"kind": "linear"},
        3,
        {"kind": "linear", "steps": 0, "first_beta": 1, "last_beta": 2},
    ):
        with pytest.raises(InputError):
            Schedule.from_json(bad)
    for bad in ({}, {"channels": [8, 9], "blocks": 1, "groups": 8}, {"channels": "x", "blocks": 1, "groups": 8}):
        with pytest.raises(InputError):
            DenoiserShape.from_json(bad)


# ---------------------------------------------------------------------------------------------------------------
# Network


def test_network_has_the_papers_width_and_fits_the_starter_weights():
    network = DenoisingNet(DenoiserShape())
    assert network.shape.channels[0] == 16
    assert sum(p.numel() for p in network.parameters()) * 2 < 8e6  # fp16
    out = network(torch.randn(2, 3, 16, 8, 24), torch.tensor([5, 900]), torch.tensor([0.03, 0.01]))
    assert out.shape == (2, 1, 16, 8, 24) and not out.any()  # zero at first, as diffusion models begin


def test_network_sees_mask_step_and_level():
    network = random_denoiser(SHAPE).network
    for block in [b for level in network.down for b in level]:
        torch.nn.init.normal_(block.step.weight, std=0.2)
    x, sd, level = torch.randn(1, 1, 16, 16, 16) * 0.1, noise_table(Schedule()), torch.tensor([0.03])
    mask = torch.zeros_like(x)
    first = network(network_input(x, mask, sd[[5]]), torch.tensor([5]), level)
    assert not torch.allclose(first, network(network_input(x, mask + 1, sd[[5]]), torch.tensor([5]), level), atol=1e-4)
    assert not torch.allclose(first, network(network_input(x, mask, sd[[5]]), torch.tensor([500]), level), atol=1e-4)
    assert not torch.allclose(first, network(network_input(x, mask, sd[[5]]), torch.tensor([5]), level * 2), atol=1e-4)


def test_one_image_and_a_batch_give_the_same():
    """For one image scale and shift are folded into the normalisation."""
    network = random_denoiser(SHAPE).network
    for block in [b for level in network.down for b in level]:
        torch.nn.init.normal_(block.step.weight, std=0.2)
    inputs, steps = torch.randn(2, 3, 8, 8, 8), torch.tensor([3, 70])
    levels = torch.tensor([0.02, 0.08])
    both = network(inputs, steps, levels)
    for number in range(2):
        alone = network(*(a[number : number + 1] for a in (inputs, steps, levels)))
        torch.testing.assert_close(alone[0], both[number], atol=1e-5, rtol=1e-4)


def test_detail_does_not_drown_in_half_precision():
    """At step 1 the noise is 0.01 of an image of 0.6: bf16 keeps eight bits, the detail channel all that counts."""
    sd = noise_table(Schedule())[[1]]
    noise = torch.randn(1, 1, 24, 24, 24)
    x = 0.6 + sd * noise
    detail = network_input(x, torch.zeros_like(x), sd)[:, 1].to(torch.bfloat16).float()
    lost = (x.to(torch.bfloat16).float() - x).std() / sd.item()
    kept = torch.corrcoef(torch.stack([detail.flatten(), noise.flatten()]))[0, 1]
    assert lost > 0.1 and kept > 0.9


# ---------------------------------------------------------------------------------------------------------------
# Refining


@pytest.mark.parametrize("mode", MODES)
def test_outside_nothing_changes_bit_for_bit_and_the_mean_stays(refiner, region, mode):
    hu, label, organ, changed = region
    before = hu.copy()
    out = refiner(hu, label, organ, changed, RefinePlan(mode), noise_hu=12.0)
    np.testing.assert_array_equal(hu, before)  # the input is not written to
    assert out.dtype == np.float32 and np.array_equal(out[~changed], hu[~changed])
    assert np.abs(out - hu)[changed].max() > 1.0
    assert abs(out[label].mean(dtype=float) - hu[label].mean(dtype=float)) < 0.05
    assert np.abs(out - hu).max() < 3 * 12 + 5  # the limit, and the mean's correction


def test_a_constant_image_stays_constant(refiner, region):
    _, label, organ, changed = region
    flat = np.full(label.shape, 77, np.float32)
    np.testing.assert_array_equal(refiner(flat, label, organ, changed), flat)
    assert around_noise(flat, organ, changed) == 0


def test_saturated_voxels_stay(refiner, region):
    hu, label, organ, changed = region
    hu = hu.copy()
    hu[14:16, 16:18, 18:20] = 2000
    hu[10, 17, 19] = -1024
    out = refiner(hu, label, organ, changed, noise_hu=12.0)
    assert (out[14:16, 16:18, 18:20] == 2000).all() and out[10, 17, 19] == -1024
    assert (out != hu).any()


def test_the_seed_decides(refiner, region):
    first, again, other = (refiner(*region, noise_hu=12.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_step_is_shown_in_order(refiner, region):
    hu, label, organ, changed = region
    told, shown = [], []
    out = refiner(
        *region,
        RefinePlan(steps=3),
        noise_hu=12.0,
        progress=lambda step, of, text: told.append((step, of)),
        on_step=lambda step, of, image: shown.append((step, of, image)),
    )
    assert [(step, of) for step, of, _ in shown] == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(shown[-1][2], out)
    for _, _, image in shown:
        assert np.array_equal(image[~changed], hu[~changed])
    assert told[0] == (0, 3) and told[-1] == (3, 3) and told == sorted(told)
    np.testing.assert_array_equal(out, refiner(*region, RefinePlan(steps=3), noise_hu=12.0))  # watching changes nothing


def test_cancel_passes_through(refiner, region):
    def stop(step, of, text):
        if step == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        refiner(*region, noise_hu=12.0, progress=stop)


def test_axes_follow_the_patient(refiner, region):
    """An array stored in another order of axes gives the same voxels."""
    upright = refiner(*region, noise_hu=12.0)
    stored = (2, 0, 1)
    turned = [a.transpose(stored) for a in region]
    out = refiner(*turned, noise_hu=12.0, order=tuple(int(i) for i in np.argsort(stored)))
    np.testing.assert_array_equal(out.transpose(np.argsort(stored)), upright)


def test_thin_stacks_and_borders(refiner):
    """Five slices, and a lesion that reaches the scan's border."""
    rng = np.random.default_rng(3)
    hu = (50 + 10 * rng.standard_normal((5, 40, 40))).astype(np.float32)
    changed = np.zeros(hu.shape, bool)
    changed[1:5, :12, 20:] = True
    out = refiner(hu, changed, np.ones_like(changed), changed)
    assert np.array_equal(out[~changed], hu[~changed]) and (out[changed] != hu[changed]).mean() > 0.9


def test_only_windows_that_the_lesion_touches_are_computed(refiner, monkeypatch):
    """Two far ends of a long box: overlapping windows, none where nothing may change, and no seam in what they agree on."""
    rng = np.random.default_rng(4)
    hu = (60 + 10 * rng.standard_normal((16, 16, 420))).astype(np.float32)
    changed = np.zeros(hu.shape, bool)
    changed[4:12, 4:12, 10:60] = changed[4:12, 4:12, 350:410] = True
    places = []
    original = Refiner.noise_in

    def spy(self, x, mask, t, level):
        places.append(x.shape)
        return original(self, x, mask, t, level)

    monkeypatch.setattr(Refiner, "noise_in", spy)
    out = refiner(hu, changed, changed, changed, RefinePlan(steps=1), noise_hu=10.0)
    assert len(places) == 3 and set(places) == {(16, 16, 96)}  # of six
    assert (
        np.array_equal(out[~changed], hu[~changed])
        and (out != hu)[..., 10:60].any()
        and (out != hu)[..., 350:410].any()
    )


def test_overlapping_windows_leave_no_seam(refiner, monkeypatch):
    """A network that says the same everywhere: the weighted sum must, too."""
    hu = (60 + 10 * np.random.default_rng(5).standard_normal((16, 16, 300))).astype(np.float32)
    changed = np.zeros(hu.shape, bool)
    changed[:, :, 8:292] = True
    monkeypatch.setattr(Refiner, "noise_in", lambda self, x, mask, t, level: np.full(x.shape, 0.5, np.float32))
    out = refiner(hu, np.zeros_like(changed), changed, changed, RefinePlan("reverse", 1, 1), noise_hu=10.0)
    step = (out - hu)[4:12, 4:12, 16:284]
    assert np.ptp(step) < 0.01 and abs(step.mean()) > 1


@pytest.mark.parametrize("strength", [1.0, 0.3, 1.8])
def test_with_the_best_possible_network_noise_becomes_the_scans(refiner, monkeypatch, strength):
    """White noise of 12 HU around the lesion, another amount in it; a network that knows the scan's (the ideal one is linear here).

    Five steps from t = 5 bring the lesion's noise most of the way, and leave what was right as it was.
    """
    rng = np.random.default_rng(6)
    shape = (32, 32, 32)
    changed = np.zeros(shape, bool)
    changed[6:26, 6:26, 6:26] = True
    noise = 12 * rng.standard_normal(shape)
    hu = (60 + np.where(changed, strength * noise, noise)).astype(np.float32)
    schedule, hu_map = refiner.model.schedule, refiner.model.hu_map
    middle, scan = float(hu_map.units(np.float32(60))), 12 * float(hu_map.slope(np.float32(60)))

    def ideal(self, x, mask, t, level):
        kept, sd = schedule.kept[t], schedule.noise[t]
        return (sd * (x - np.sqrt(kept) * middle) / (kept * scan**2 + sd**2)).astype(np.float32)

    monkeypatch.setattr(Refiner, "noise_in", ideal)
    out = refiner(hu, changed, changed, changed, RefinePlan(largest_change=10.0), noise_hu=12.0)
    core = out[9:23, 9:23, 9:23]
    before, after = abs(strength - 1), abs(core.std() / 12 - 1)
    assert after < (0.04 if strength == 1.0 else 0.5 * before)
    assert np.abs(core - hu[9:23, 9:23, 9:23]).mean() > 4  # it is other noise, not the same


@pytest.mark.parametrize("given", [True, False])
def test_noise_keeps_the_spectrum_that_is_given(refiner, monkeypatch, given):
    """Soft noise, as of a smooth kernel, and the network that is best for it: with the scan's spectrum it stays, taken for white it becomes harsh."""
    rng = np.random.default_rng(7)
    shape = (32, 32, 32)
    across = np.fft.fftfreq(32)
    power = np.exp(-(across[:, None, None] ** 2 + across[None, :, None] ** 2 + across[None, None, :] ** 2) / 0.02)
    power = (power / power.mean()).astype(np.float32)
    noise = 12 * np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * np.sqrt(power)).real
    hu = (60 + noise).astype(np.float32)
    changed = np.zeros(shape, bool)
    changed[6:26, 6:26, 6:26] = True
    schedule, hu_map = refiner.model.schedule, refiner.model.hu_map
    middle, slope = float(hu_map.units(np.float32(60))), float(hu_map.slope(np.float32(60)))
    scan = (12 * slope) ** 2 * power

    def ideal(self, x, mask, t, level):
        kept, sd = schedule.kept[t], schedule.noise[t]
        filtered = np.fft.fftn(x - np.sqrt(kept) * middle) * sd / (kept * scan + sd**2)
        return np.fft.ifftn(filtered).real.astype(np.float32)

    monkeypatch.setattr(Refiner, "noise_in", ideal)
    plan = RefinePlan(largest_change=10.0)
    out = refiner(hu, changed, changed, changed, plan, noise_hu=12.0, noise_power=power if given else None)
    harshness = [float(np.diff(image[9:23, 9:23, 9:23], axis=2).std()) for image in (hu, out)]
    assert abs(harshness[1] / harshness[0] - 1) < 0.06 if given else harshness[1] > 1.2 * harshness[0]
    assert np.abs(out - hu)[9:23, 9:23, 9:23].mean() > 2  # it is other noise, not the same


def test_the_scans_spectrum_reaches_the_network_on_any_axes(refiner):
    """A turned scan with its turned spectrum gives the turned image."""
    rng = np.random.default_rng(8)
    hu = (60 + 12 * rng.standard_normal((24, 32, 40))).astype(np.float32)
    power = np.ones((8, 16, 32), np.float32)
    power[:, 4:13] = 0.1
    changed = np.zeros(hu.shape, bool)
    changed[6:18, 8:24, 10:30] = True
    upright = refiner(hu, changed, changed, changed, noise_hu=12.0, noise_power=power)
    turned = [np.ascontiguousarray(a.transpose(2, 0, 1)) for a in (hu, changed, changed, changed)]
    out = refiner(*turned, noise_hu=12.0, noise_power=power.transpose(2, 0, 1), order=(1, 2, 0))
    np.testing.assert_array_equal(out.transpose(1, 2, 0), upright)
    assert not np.array_equal(upright, refiner(hu, changed, changed, changed, noise_hu=12.0))


def test_bad_settings_say_what_is_wanted(region):
    model = random_denoiser(SHAPE)
    with pytest.raises(InputError, match="one of auto, fp32, bf16"):
        Refiner(model, engine="fast")
    with pytest.raises(ValueError, match="one 3-D shape"):
        Refiner(model)(region[0], region[1][1:], *region[2:])
    for bad in (
        {"mode": "magic"},
        {"start": 0},
        {"steps": 6},
        {"start": True},
        {"largest_change": 0},
        {"start": 51, "steps": 5},
    ):
        with pytest.raises(InputError, match="wanted|use one of"):
            RefinePlan(**bad)


# ---------------------------------------------------------------------------------------------------------------
# Plans


def test_reverse_steps_of_a_plan():
    assert RefinePlan().times() == [(5, 4), (4, 3), (3, 2), (2, 1), (1, 0)]
    assert RefinePlan(start=20, steps=4).times() == [(20, 15), (15, 10), (10, 5), (5, 0)]
    assert RefinePlan("repeat", steps=3, repeat_at=2).times() == [(2, 0)] * 3


def test_limits_per_type():
    whole = RefinePlan()
    assert plan_for("liver_tumor", whole) == (whole, "")
    for stone in ("gallstone", "kidney_stone"):
        plan, why = plan_for(stone, whole)
        assert plan is None and "stones" in why
    plan, why = plan_for("lung_tumor", whole)
    assert (plan.start, plan.steps) == (2, 2) and "lung" in why
    assert plan_for("lung_tumor", RefinePlan(start=1, steps=1)) == (RefinePlan(start=1, steps=1), "")
    assert plan_for("bone_metastasis", RefinePlan("repeat")) == (RefinePlan("repeat"), "")
    assert plan_for("lung_tumor", RefinePlan("repeat", repeat_at=4))[0] == RefinePlan("repeat", repeat_at=2)
    assert plan_for("gallstone", RefinePlan("repeat"))[0] is None
    hu_map, noise = HuMap(REFINEMENT_MAP), Schedule().noise
    for key, at in (("lung_tumor", -800), ("bone_metastasis", 600)):  # the figures in the reasons are true
        said = [int(word) for word in LIMITS[key].why.replace(",", " ").split() if word.isdigit()]
        assert hu_map.noise_hu(noise[5], at) == pytest.approx(said[1], abs=1)
        assert hu_map.noise_hu(noise[LIMITS[key].latest], at) == pytest.approx(said[-1], abs=1)
