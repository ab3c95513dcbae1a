"""The network on images: stars a second, what samples of the head cost, and a plain network beside it.

Runs on the CPU, and on a GPU when there is one. Random weights and stamps: neither changes the time.

- ``whole``: stored float16 stamps on the host to mean and deviation of the label, by the product's own predictor,
  eight passes at a time. ``first_s`` has the compilation in it, here and below.
- ``backbone``: features of standardised stamps for each batch size, precision, eager and compiled. ``bf16`` is
  autocast; the stem and the running sums of the blocks are fp32. ``change`` is the rms difference to fp32 over the
  scatter between stars.
- ``samples``: one pass of backbone and T sampled heads over one pass of both, by processor time on a CPU.
- ``pairs``: the same labels by a plain fp32 eager network and by ours, one after the other, several times. Both run
  the backbone once; the plain one then makes a pass of the head for each sample. ``max_difference`` is over the
  scatter of the labels.
- ``training``: stars a second of the product's own training, an epoch without its validation. ``feed_ms_star`` is
  what making a batch costs, which a thread of its own does.
- ``attention``: the attention of each stage by each of torch's kernels, of which the product takes flash for bf16.
- ``kernels``: what the time of one bf16 pass of the backbone goes to.

What does not fit into the memory of a GPU is told so, and the file of ``--out`` is written anew after each part. It
needs numpy, scipy, numba, pyarrow, pydantic, PyYAML, tqdm and torch (2.11 or later), and no installation: run it in the
checkout with ``PYTHONPATH=.``. On a GPU it is meant to take less than ten minutes; one batch size is compiled.

A CPU that others use too gives wall-clock rates that are too low; processor seconds per star are told beside them.
To hold it to two cores: ``taskset -c 0,1 python tests/bench/bench_acf.py --threads 2``. Compiling for a CPU takes
minutes and is done with ``--compile`` only.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference.cswin_plain import plain_samples
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from stellarscale.errors import ModelError
from stellarscale.models.cswin import lower_weights, resolutions
from stellarscale.models.gpu_kernels import chosen_kernels
from stellarscale.models.image_augment import epoch_order
from stellarscale.models.image_inputs import ImageScaling
from stellarscale.models.image_network import build_network, dropout_masks
from stellarscale.models.image_parallel import Rank
from stellarscale.models.image_predict import ImagePredictor
from stellarscale.models.image_stars import BatchMaker, StandardStars, TrainingStars
from stellarscale.models.image_store import ImageModel
from stellarscale.models.image_trainer import Trainer
from stellarscale.settings.image_network import ImageNetwork, ImagePrediction, ImageTraining
from stellarscale.stamp_columns import StampFormat

STAMPS = StampFormat(("u", "v", "g", "r", "i", "z"), 48, "float16", (5.0,) * 6, 25.0, True)
BANDS, SIZE_PX, _ = STAMPS.shape
NETWORK = ImageNetwork()
SCALING = ImageScaling((5500.0,), (600.0,), (1.0,) * BANDS, (2.0,) * BANDS)
PRECISIONS = ("fp32", "bf16")
PASSES = 8  # that the product gives its predictor at a time


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="stars per pass")
    parser.add_argument("--compiled-batch-sizes", type=int, nargs="+", help="those of them to compile for")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 16, 64, 256], help="sampled networks")
    parser.add_argument("--train-batch-sizes", type=int, nargs="+", help="stars per step of the training")
    parser.add_argument("--repeats", type=int, help="timings, or pairs of them, of which the median counts")
    parser.add_argument("--threads", type=int, default=2, help="of torch on a CPU")
    parser.add_argument("--parts", nargs="+", choices=MEASURED, default=list(MEASURED), help="of the benchmark")
    parser.add_argument("--compile", action="store_true", help="torch.compile besides; always on a GPU")
    parser.add_argument("--quick", action="store_true", help="one small batch, one timing, nothing compiled")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--out", type=Path, help="file that gets the JSON object besides")
    options = parser.parse_args(argv)
    gpu = options.device != "cpu"
    options.batch_sizes = options.batch_sizes or ([256, 512, 1024, 2048, 4096] if gpu else [16, 64, 256])
    options.compiled_batch_sizes = options.compiled_batch_sizes or ([1024] if gpu else options.batch_sizes)
    options.train_batch_sizes = options.train_batch_sizes or ([128, 512] if gpu else [32])
    options.repeats = options.repeats or (5 if gpu else 3)
    options.compile = options.compile or gpu
    if options.quick:
        options.batch_sizes, options.samples, options.repeats, options.compile = [8], [1, 16], 1, False
    return options


class Bench:
    """Networks in each precision, and inputs, on one device."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.exact = build_network(NETWORK, n_bands=BANDS, size_px=SIZE_PX, n_outputs=1, seed=1).eval().to(self.device)
        self.masks = dropout_masks(2, max(options.samples), self.exact.widths, NETWORK.head.dropout)
        lowered = deepcopy(self.exact)
        lower_weights(lowered.backbone)
        networks = dict(zip(PRECISIONS, (self.exact, lowered), strict=True))
        self.eager = {name: network.features for name, network in networks.items()}
        self.compiled = {name: torch.compile(each, dynamic=False) for name, each in self.eager.items()}

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Autocast where the precision asks for it."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=name == "bf16"):
            yield

    def features(self, precision: str, stamps: torch.Tensor, compiled: bool = False) -> torch.Tensor:
        """Features, in fp32."""
        with self.precision(precision):
            return (self.compiled if compiled else self.eager)[precision](stamps)

    def stamps(self, batch: int) -> torch.Tensor:
        """Standardised stamps on the device."""
        generator = torch.Generator().manual_seed(batch)
        return torch.randn(batch, BANDS, SIZE_PX, SIZE_PX, generator=generator).to(self.device)

    def stored(self, n: int) -> np.ndarray:
        """Stamps as they are stored, the same few again and again."""
        return np.resize(self.stamps(min(n, 64)).cpu().half().numpy(), (n, BANDS, SIZE_PX, SIZE_PX))

    def parallax(self, batch: int) -> torch.Tensor:
        """Standardised parallaxes on the device."""
        return torch.randn(batch, 2, generator=torch.Generator().manual_seed(batch)).to(self.device)

    def timed(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Wall-clock and processor seconds of one call."""
        self.wait()
        wall, used = time.perf_counter(), time.process_time()
        work()
        self.wait()
        return time.perf_counter() - wall, time.process_time() - used

    def wait(self) -> None:
        """Until the device has done all it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, batch: int, work: Callable[[], Any]) -> dict[str, float]:
        """Median rate of several calls after a first one, and the seconds of that one."""
        first, _ = self.timed(work)
        runs = [self.timed(work) for _ in range(self.options.repeats)]
        wall, used = (statistics.median(each) for each in zip(*runs, strict=True))
        row = {"first_s": first, "stars_s": batch / wall}
        return row | ({} if self.device.type == "cuda" else {"cpu_ms_star": 1e3 * used / batch})

    def cost_ms(self, batch: int, work: Callable[[], Any]) -> float:
        """Milliseconds per star: of the processor, on a CPU that others may use too."""
        row = self.rate(batch, work)
        return row.get("cpu_ms_star", 1e3 / row["stars_s"])


def fitting(about: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a measurement tells, or that it does not fit into the memory of the GPU or its kernel does not take it."""
    try:
        return about | work()
    except (RuntimeError, ModelError) as error:  # an error of the memory is one
        failed = str(error).splitlines()[0][:80]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return about | {"failed": failed}


def bench_backbone(bench: Bench) -> list[dict[str, Any]]:
    """Rates of the backbone."""
    return [
        fitting({"batch": batch, "precision": precision, "compiled": compiled}, partial(_backbone_row, bench, *each))
        for each in _settings(bench)
        for precision, compiled, batch in [each]
    ]


def _settings(bench: Bench) -> Iterator[tuple[str, bool, int]]:
    """Precision, whether compiled, and batch size of each measurement."""
    for compiled in (False, True) if bench.options.compile else (False,):
        for precision in PRECISIONS:
            for batch in bench.options.compiled_batch_sizes if compiled else bench.options.batch_sizes:
                torch.compiler.reset()  # after eight shapes of one function torch compiles no more
                yield precision, compiled, batch


def _backbone_row(bench: Bench, precision: str, compiled: bool, batch: int) -> dict[str, Any]:
    stamps = bench.stamps(batch)
    few = stamps[: min(batch, 256)]
    exact = bench.exact.features(few)
    forget_peak(bench.device)
    row = bench.rate(batch, lambda: bench.features(precision, stamps, compiled))
    row["peak_mib"] = peak_mib(bench.device)
    difference = bench.features(precision, stamps, compiled)[: len(few)] - exact
    row["change"] = float(difference.square().mean().sqrt() / exact.std(dim=0).square().mean().sqrt())
    return row


def bench_samples(bench: Bench) -> list[dict[str, Any]]:
    """One pass of the backbone and T heads over one pass of both."""
    rows = []
    for precision in PRECISIONS:
        for batch in bench.options.batch_sizes:
            stamps, parallax = bench.stamps(batch), bench.parallax(batch)
            features = bench.features(precision, stamps)
            backbone = bench.cost_ms(batch, partial(bench.features, precision, stamps))
            head = bench.cost_ms(batch, partial(bench.exact.head, features, parallax))
            for samples in bench.options.samples:
                masks = [torch.from_numpy(mask[:samples]).to(bench.device) for mask in bench.masks]
                work = partial(bench.exact.sample_head, features, parallax, masks)
                heads = bench.cost_ms(batch, work)
                row = {"batch": batch, "precision": precision, "samples": samples, "heads_ms_star": heads}
                rows.append(row | {"over_one_pass": (backbone + heads) / (backbone + head)})
    return rows


def bench_whole(bench: Bench) -> list[dict[str, Any]]:
    """Stored stamps on the host to mean and deviation, by the product's predictor."""
    rows = []
    weights = {name: weight.cpu() for name, weight in bench.exact.state_dict().items()}  # each predictor copies them
    model = ImageModel(("teff",), ("K",), NETWORK, STAMPS, SCALING)
    samples = max(bench.options.samples)
    for precision, compiled, batch in _settings(bench):
        settings = ImagePrediction(samples=samples, batch_size=batch, precision=precision, compile=compiled)
        predictor = ImagePredictor([(model, weights)], settings, threads=bench.options.threads)
        n = PASSES * batch if bench.device.type == "cuda" else batch
        stored, parallax = bench.stored(n), np.abs(bench.parallax(n).cpu().double().numpy().T)
        row = {"batch": batch, "precision": precision, "compiled": compiled, "samples": samples}
        rows.append(fitting(row, partial(bench.rate, n, partial(predictor.estimate, stored, *parallax))))
    return rows


def bench_pairs(bench: Bench) -> list[dict[str, Any]]:
    """A plain fp32 eager network and ours, in turn."""
    weights, rows = bench.exact.state_dict(), []
    for batch in bench.options.batch_sizes:
        stamps, parallax = bench.stamps(batch), bench.parallax(batch)
        plain = partial(plain_samples, stamps, parallax, weights, NETWORK, bench.masks)
        same = plain()
        for precision in PRECISIONS:

            def ours(precision=precision, stamps=stamps, parallax=parallax):
                return bench.exact.sample_head(bench.features(precision, stamps), parallax, bench.masks)

            change = float((ours() - same).abs().max() / same.std())
            pairs = [(bench.timed(plain), bench.timed(ours)) for _ in range(bench.options.repeats)]
            walls, used = ([a[kind] / b[kind] for a, b in pairs] for kind in (0, 1))
            row = {"batch": batch, "precision": precision, "samples": len(bench.masks[0]), "pairs": len(pairs)}
            row |= {"plain_stars_s": batch / statistics.median(a[0] for a, _ in pairs)}
            row |= {"ours_stars_s": batch / statistics.median(b[0] for _, b in pairs)}
            row |= {"wall_ratio": statistics.median(walls), "cpu_ratio": statistics.median(used)}
            rows.append(row | {"max_difference": change})
    return rows


def bench_training(bench: Bench) -> list[dict[str, Any]]:
    """Epochs of the training."""
    rows = []
    steps = 20 if bench.device.type == "cuda" else 2
    for batch in bench.options.train_batch_sizes:
        with tempfile.TemporaryDirectory() as folder:
            standard = StandardStars.of(_stars(bench, Path(folder), steps * batch), NETWORK)
            for precision in PRECISIONS:
                settings = ImageTraining(batch_size=batch, precision=precision, epochs=100)
                trainer = Trainer(standard, NETWORK, settings, rank=Rank(0, 1, bench.device), seed=1, where="bench")
                forget_peak(bench.device)
                epochs = [bench.timed(partial(trainer.run_epoch, epoch)) for epoch in range(1 + bench.options.repeats)]
                rate = statistics.median(record["stars_per_s"] for record in trainer.curve[1:])
                row = {"batch": batch, "precision": precision, "stars_s": rate}
                if bench.device.type == "cpu":
                    row["cpu_ms_star"] = 1e3 * statistics.median(used for _, used in epochs[1:]) / (steps * batch)
                row |= {"feed_ms_star": _feed_ms(bench, standard, batch), "peak_mib": peak_mib(bench.device)}
                rows.append(row)
    return rows


def _stars(bench: Bench, folder: Path, n: int) -> TrainingStars:
    """Training stars with stamps of noise."""
    np.save(folder / "stamps.npy", bench.stored(n))
    rng = np.random.default_rng(1)
    parallax = np.column_stack([rng.uniform(0.5, 2, n), rng.uniform(0.02, 0.05, n)])
    labels = rng.normal(5500, 600, (n, 1))
    return TrainingStars(folder / "stamps.npy", ("teff",), labels, parallax, np.zeros(n, np.int8))


def _feed_ms(bench: Bench, standard: StandardStars, batch: int) -> float:
    """Of making one batch, per star."""
    maker = BatchMaker(standard, standard.stars.open_stamps(), 1, True, (bench.exact.widths, NETWORK.head.dropout))
    rows = epoch_order(1, 0, standard.train)[:batch]
    start = time.perf_counter()
    for step in range(10):
        maker.batch(rows, epoch=0, step=step)
    return 1e2 * (time.perf_counter() - start) / batch


def bench_attention(bench: Bench) -> list[dict[str, Any]]:
    """Microseconds a star of one block's attention in one direction, by stage and kernel."""
    batch = bench.options.compiled_batch_sizes[0]
    backbone, rows = NETWORK.backbone, []
    for stage, size in enumerate(resolutions(backbone, SIZE_PX)):
        stripe = backbone.stripes[stage]
        windows, heads = batch * size // stripe, backbone.heads[stage] // (1 if stripe == size else 2)
        shape = (3, windows, heads, stripe * size, backbone.channels[stage] // backbone.heads[stage])
        qkv = torch.randn(shape, device=bench.device).to(torch.bfloat16).unbind()
        for kernel in ATTENTION:

            def timed(kernel=kernel, qkv=qkv):
                with sdpa_kernel(kernel):
                    row = bench.rate(batch, lambda: scaled_dot_product_attention(*qkv))
                return {"first_s": row["first_s"], "us_star": 1e6 / row["stars_s"]}

            about = {
                "stage": stage + 1,
                "windows": windows,
                "tokens": stripe * size,
                "kernel": kernel.name.removesuffix("_ATTENTION"),
            }
            rows.append(fitting(about, timed))
    return rows


def bench_kernels(bench: Bench) -> list[dict[str, Any]]:
    """The dozen that take most of the time of one pass."""
    from torch.profiler import ProfilerActivity, profile

    gpu, batch = bench.device.type == "cuda", bench.options.compiled_batch_sizes[0]
    stamps = bench.stamps(batch)
    bench.features("bf16", stamps)
    bench.wait()
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiled:
        bench.features("bf16", stamps)
        bench.wait()
    kernels = [
        (each.self_device_time_total if gpu else each.self_cpu_time_total, each) for each in profiled.key_averages()
    ]
    total_us = sum(time_us for time_us, _ in kernels)
    kernels = sorted(kernels, key=lambda each: -each[0])
    told = [(time_us, each.count, each.key[:70]) for time_us, each in kernels[:12]]
    told.append((total_us, sum(each.count for _, each in kernels), "all"))
    return [{"us_star": us / batch, "share": us / total_us, "calls": n, "kernel": f"  {key}"} for us, n, key in told]


ATTENTION = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH)
MEASURED: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "whole": bench_whole,
    "backbone": bench_backbone,
    "samples": bench_samples,
    "pairs": bench_pairs,
    "training": bench_training,
    "attention": bench_attention,
    "kernels": bench_kernels,
}


def forget_peak(device: torch.device) -> None:
    """Begin a new measurement of the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_mib(device: torch.device) -> float:
    """Of a GPU since it was forgotten; of the process since it began otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(name: str, rows: list[dict[str, Any]]) -> None:
    """A table of one part."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n{name}\n" + "".join(f"{key:>15}" for key in keys))
    for row in rows:
        values = [row.get(key, "") for key in keys]
        told = (f"{value:>15.4g}" if isinstance(value, float) else f"{value!s:>15}" for value in values)
        print("".join(told), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    np.random.seed(0)
    gpu = options.device != "cpu"
    about = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU {platform.processor() or platform.machine()}",
        "threads": None if gpu else options.threads,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1) if gpu else None,
        "network": "the paper's, 34.3 M parameters",
    }
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in about.items() if value is not None))
    result: dict[str, Any] = dict(about)
    bench = Bench(options)
    for name in options.parts:
        start = time.perf_counter()
        with nullcontext() if name == "training" else torch.inference_mode(), chosen_kernels(bench.device.type):
            result[name] = MEASURED[name](bench)
        result[f"{name}_seconds"] = round(time.perf_counter() - start, 1)
        if not options.json:
            show(name, result[name])
        result["peak_mib"] = peak_mib(bench.device)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
