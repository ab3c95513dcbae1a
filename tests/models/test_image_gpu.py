"""Networks on images on a GPU: the first thing to run where there is one."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("torch finds no GPU here", allow_module_level=True)

from reference.image_stars import LAYOUT, NETWORK, training_stars  # noqa: E402
from reference.tiny_networks import tiny_model, tiny_parallaxes, tiny_stamps  # noqa: E402

from stellarscale.errors import ModelError  # noqa: E402
from stellarscale.models.cswin import _MOST_WINDOWS, CSWinBlock, initialise  # noqa: E402
from stellarscale.models.gpu_kernels import chosen_kernels  # noqa: E402
from stellarscale.models.image_network import build_network  # noqa: E402
from stellarscale.models.image_parallel import Devices, _enter, run_ranks  # noqa: E402
from stellarscale.models.image_predict import ImagePredictor, precision_change  # noqa: E402
from stellarscale.models.image_training import TrainingPlan, train_network  # noqa: E402
from stellarscale.settings.image_network import ImageNetwork, ImagePrediction, ImageTraining  # noqa: E402

N = 70
FP32 = ImagePrediction(samples=32, batch_size=16, precision="fp32")


def predictor(**changes):
    return ImagePredictor([tiny_model()], FP32.model_copy(update=changes), threads=1)


@pytest.mark.filterwarnings("ignore")  # of the compiler, about what could be faster
@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"compile": True}, {"precision": "bf16", "compile": True}])
def test_bf16_and_compilation_change_little(changes):
    change = precision_change(predictor(**changes), predictor(), tiny_stamps(N), tiny_parallaxes(N))
    assert (change > 0).all()
    assert (change < 0.1).all()


def test_results_do_not_depend_on_who_else_is_in_a_batch():
    stamps, parallaxes = tiny_stamps(N), tiny_parallaxes(N)
    fast = predictor(precision="bf16")
    whole, again = (fast.estimate(stamps, *parallaxes)[0] for _ in range(2))
    part = fast.estimate(stamps[20:], *(each[20:] for each in parallaxes))[0]
    assert np.array_equal(whole, again)
    assert np.array_equal(whole[20:], part)


def test_no_pass_waits_for_the_gpu():
    fast, stamps, parallaxes = predictor(precision="bf16"), tiny_stamps(N), tiny_parallaxes(N)
    fast.estimate(stamps, *parallaxes)
    one = fast.passes._one

    def watched(*given):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return one(*given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    object.__setattr__(fast.passes, "_one", watched)
    assert np.isfinite(fast.estimate(stamps, *parallaxes)[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_more_windows_than_a_kernel_takes(dtype):
    block = CSWinBlock(64, 2, stripe=1, resolution=24, mlp_ratio=1.0)
    initialise(block, torch.Generator().manual_seed(1))
    block = block.cuda()
    x = torch.randn(1, 24, 24, 64, device="cuda").expand(_MOST_WINDOWS // 24 + 2, -1, -1, -1).contiguous()
    lowered = torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16")
    with torch.inference_mode(), chosen_kernels("cuda"), lowered:
        made = block(x)
    torch.testing.assert_close(made[-1], made[0], rtol=0, atol=1e-2)
    assert torch.isfinite(made).all()


def test_the_network_of_the_paper_runs_in_bf16():
    network = build_network(ImageNetwork(), n_bands=6, size_px=48, n_outputs=1, seed=1).cuda().eval()
    stamps = torch.randn(64, 6, 48, 48, device="cuda")
    with torch.inference_mode(), chosen_kernels("cuda"):
        exact = network.features(stamps)
        with torch.autocast("cuda", torch.bfloat16):
            fast = network.features(stamps)
    assert ((fast - exact).square().mean().sqrt() / exact.std(dim=0).square().mean().sqrt()).item() < 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_learns_as_on_a_cpu(tmp_path, precision):
    stars = training_stars(tmp_path / "stars", 153)
    training = ImageTraining(epochs=3, batch_size=25, learning_rate=1e-3, early_look=0, precision=precision)
    curves = []
    for kind in ("cpu", "cuda"):
        plan = TrainingPlan("joint", ("K", "dex"), NETWORK, training, LAYOUT, 1, tmp_path / kind)
        curves.append([epoch["loss"] for epoch in train_network(stars, plan, Devices(kind, 1, 2))["curve"]])
    np.testing.assert_allclose(*curves, rtol=1e-3 if precision == "fp32" else 0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_two_gpus_train_as_one_does(tmp_path):
    stars = training_stars(tmp_path / "stars", 153)
    training = ImageTraining(epochs=3, batch_size=25, learning_rate=1e-3, early_look=0, precision="fp32")
    curves = []
    for count in (1, 2):
        plan = TrainingPlan("joint", ("K", "dex"), NETWORK, training, LAYOUT, 1, tmp_path / str(count))
        curves.append([epoch["loss"] for epoch in train_network(stars, plan, Devices("cuda", count, 2))["curve"]])
    np.testing.assert_allclose(*curves, rtol=1e-3)


def _fails(rank, tell):
    rank.summed(torch.zeros(1, device=rank.device))
    if rank.index == 1:
        raise ModelError("nothing to be done")
    rank.summed(torch.zeros(1, device=rank.device)).item()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_an_error_of_one_gpu_ends_the_other():
    with pytest.raises(ModelError, match="nothing to be done"):
        run_ranks(_fails, (), Devices("cuda", 2, 2), print)


def test_one_gpu_can_be_a_group_of_its_own(tmp_path):
    """NCCL itself, as far as one GPU shows it: start, sum and leave, in a process that was spawned."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (0, _sums, (), Devices("cuda", 1, 1), tmp_path / "meeting", queue)
    process = context.Process(target=_enter, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert queue.get() == ("result", 3.0)


def _sums(rank, tell):
    values = torch.full((1,), 3.0, device=rank.device)
    torch.distributed.all_reduce(values)
    return values.item()
