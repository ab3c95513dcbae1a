"""The network on images: stars a second, what samples of the head cost, and a plain network beside it.

Runs on the CPU, and on a GPU when there is one. Random weights and stamps: neither changes the time.

- ``backbone``: features of standardised stamps for each batch size, precision, eager and compiled. ``bf16`` is
  autocast, which keeps the running sums of the blocks in fp32; ``bf16_blocks`` converts the blocks themselves. The
  stem is fp32 in both. ``change`` is the rms difference to fp32 over the scatter between stars.
- ``samples``: one pass of backbone and T sampled heads over one pass of both.
- ``whole``: stored float16 stamps on the host to mean and deviation of every label.
- ``pairs``: the same labels by a plain fp32 eager network and by ours, one after the other, several times. Both run
  the backbone once; the plain one then makes a pass of the head for each sample. ``max_difference`` is over the
  scatter of the labels.

A CPU that others use too gives wall-clock rates that are too low; processor seconds per star are told beside them.
To hold it to two cores: ``taskset -c 0,1 python tests/bench/bench_acf.py --threads 2``. Compiling for a CPU takes
minutes and is done with ``--compile`` only.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference.cswin_plain import plain_samples

from stellarscale.models.image_inputs import ImageScaling, standard_tensor
from stellarscale.models.image_network import ImageRegressor, build_network, dropout_masks
from stellarscale.settings.image_network import ImageNetwork

BANDS, SIZE_PX = 6, 48
NETWORK = ImageNetwork()
SCALING = ImageScaling((5500.0,), (600.0,), (1.0,) * BANDS, (2.0,) * BANDS)
PARTS = ("backbone", "samples", "whole", "pairs")
PRECISIONS = ("fp32", "bf16", "bf16_blocks")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="stars per pass")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 16, 64, 256], help="sampled networks")
    parser.add_argument("--repeats", type=int, default=5, help="timings, or pairs of them, of which the median counts")
    parser.add_argument("--threads", type=int, default=2, help="of torch on a CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="of the benchmark")
    parser.add_argument("--compile", action="store_true", help="torch.compile besides; always on a GPU")
    parser.add_argument("--quick", action="store_true", help="one small batch, one timing, nothing compiled")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    gpu = options.device != "cpu"
    options.batch_sizes = options.batch_sizes or ([64, 128, 256, 512, 1024, 2048] if gpu else [16, 64, 256])
    options.compile = options.compile or gpu
    if options.quick:
        options.batch_sizes, options.samples, options.repeats, options.compile = [8], [1, 16], 1, False
    return options


class Bench:
    """Networks in each precision, and inputs, on one device."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.exact = build_network(NETWORK, n_bands=BANDS, size_px=SIZE_PX, n_outputs=1, seed=1).eval().to(self.device)
        self.coarse = copy.deepcopy(self.exact)
        self.coarse.backbone.coarse()
        self.masks = dropout_masks(2, max(options.samples), self.exact.widths, NETWORK.head.dropout)

    def network(self, precision: str, compiled: bool = False) -> ImageRegressor:
        """The network; a compiled one shares the weights."""
        network = self.coarse if precision == "bf16_blocks" else self.exact
        if not compiled:
            return network
        shared = copy.copy(network)
        shared._modules = {**network._modules, "backbone": torch.compile(network.backbone, dynamic=False)}
        return shared

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Autocast where the precision asks for it."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=name == "bf16"):
            yield

    def features(self, precision: str, stamps: torch.Tensor, network: ImageRegressor) -> torch.Tensor:
        """Features, in fp32."""
        with self.precision(precision):
            return network.features(stamps).float()

    def stamps(self, batch: int) -> torch.Tensor:
        """Standardised stamps on the device."""
        generator = torch.Generator().manual_seed(batch)
        return torch.randn(batch, BANDS, SIZE_PX, SIZE_PX, generator=generator).to(self.device)

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
        """Median rate of several calls after a first one."""
        for _ in range(1 if self.options.quick else 2):
            work()
        runs = [self.timed(work) for _ in range(self.options.repeats)]
        wall, used = (statistics.median(each) for each in zip(*runs, strict=True))
        row = {"stars_s": batch / wall}
        return row | ({} if self.device.type == "cuda" else {"cpu_ms_star": 1e3 * used / batch})


def bench_backbone(bench: Bench) -> list[dict[str, Any]]:
    """Rates of the backbone."""
    rows = []
    for compiled in (False, True) if bench.options.compile else (False,):
        for precision in PRECISIONS:
            network = bench.network(precision, compiled)
            for batch in bench.options.batch_sizes:
                rows.append(_backbone_row(bench, precision, compiled, batch, network))
    return rows


def _backbone_row(bench: Bench, precision: str, compiled: bool, batch: int, network: ImageRegressor) -> dict[str, Any]:
    stamps = bench.stamps(batch)
    few = stamps[: min(batch, 256)]
    exact = bench.exact.features(few)
    forget_peak(bench.device)
    start = time.perf_counter()
    bench.features(precision, stamps, network)
    bench.wait()
    first = time.perf_counter() - start
    row = {"batch": batch, "precision": precision, "compiled": compiled, "first_s": first}
    row |= bench.rate(batch, lambda: bench.features(precision, stamps, network))
    row["peak_mib"] = peak_mib(bench.device)
    difference = bench.features(precision, stamps, network)[: len(few)] - exact
    row["change"] = float(difference.square().mean().sqrt() / exact.std(dim=0).square().mean().sqrt())
    return row


def bench_samples(bench: Bench) -> list[dict[str, Any]]:
    """One pass of the backbone and T heads over one pass of both."""
    rows = []
    for precision in ("fp32", "bf16"):
        network = bench.network(precision)
        for batch in bench.options.batch_sizes:
            stamps, parallax = bench.stamps(batch), bench.parallax(batch)

            def once(network=network, precision=precision, stamps=stamps, parallax=parallax):
                return network.head(bench.features(precision, stamps, network), parallax)

            single = bench.rate(batch, once)["stars_s"]
            features = bench.features(precision, stamps, network)
            for samples in bench.options.samples:
                masks = [mask[:samples] for mask in bench.masks]

                def heads(network=network, features=features, parallax=parallax, masks=masks):
                    return network.sample_head(features, parallax, masks)

                alone = bench.rate(batch, lambda network=network, f=features, p=parallax: network.head(f, p))
                extra = batch / bench.rate(batch, heads)["stars_s"] - batch / alone["stars_s"]
                ratio = 1.0 + extra / (batch / single)
                rows.append({"batch": batch, "precision": precision, "samples": samples, "over_one_pass": ratio})
    return rows


def bench_whole(bench: Bench) -> list[dict[str, Any]]:
    """Stored stamps on the host to mean and deviation."""
    rows = []
    for compiled in (False, True) if bench.options.compile else (False,):
        for precision in PRECISIONS:
            network = bench.network(precision, compiled)
            for batch in bench.options.batch_sizes:
                stored, parallax = bench.stamps(batch).cpu().half(), bench.parallax(batch).cpu()
                if bench.device.type == "cuda":
                    stored, parallax = stored.pin_memory(), parallax.pin_memory()

                def work(network=network, precision=precision, stored=stored, parallax=parallax):
                    stamps = standard_tensor(stored.to(bench.device, non_blocking=True), SCALING)
                    features = bench.features(precision, stamps, network)
                    samples = network.sample_head(features, parallax.to(bench.device, non_blocking=True), bench.masks)
                    return samples.mean(dim=0).cpu(), samples.std(dim=0).cpu()

                row = {"batch": batch, "precision": precision, "compiled": compiled, "samples": len(bench.masks[0])}
                rows.append(row | bench.rate(batch, work))
    return rows


def bench_pairs(bench: Bench) -> list[dict[str, Any]]:
    """A plain fp32 eager network and ours, in turn."""
    weights, rows = bench.exact.state_dict(), []
    for batch in bench.options.batch_sizes:
        stamps, parallax = bench.stamps(batch), bench.parallax(batch)
        for samples in (1, max(bench.options.samples)):
            masks = [mask[:samples] for mask in bench.masks]

            def plain(stamps=stamps, parallax=parallax, masks=masks):
                return plain_samples(stamps, parallax, weights, NETWORK, masks)

            for precision in ("fp32", "bf16_blocks"):
                network = bench.network(precision)

                def ours(network=network, p=precision, stamps=stamps, d=parallax, masks=masks):
                    return network.sample_head(bench.features(p, stamps, network), d, masks)

                same = plain()
                change = float((ours() - same).abs().max() / same.std())
                pairs = [(bench.timed(plain), bench.timed(ours)) for _ in range(bench.options.repeats)]
                walls, used = ([a[kind] / b[kind] for a, b in pairs] for kind in (0, 1))
                row = {"batch": batch, "precision": precision, "samples": samples, "pairs": len(pairs)}
                row |= {"plain_stars_s": batch / statistics.median(a[0] for a, _ in pairs)}
                row |= {"ours_stars_s": batch / statistics.median(b[0] for _, b in pairs)}
                row |= {"wall_ratio": statistics.median(walls), "cpu_ratio": statistics.median(used)}
                rows.append(row | {"max_difference": change})
    return rows


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
    print(f"\n{name}\n" + "".join(f"{key:>15}" for key in rows[0]))
    for row in rows:
        print("".join(f"{value:>15.4g}" if isinstance(value, float) else f"{value!s:>15}" for value in row.values()))


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
        "network": "the paper's, 34.3 M parameters",
    }
    parts = {"backbone": bench_backbone, "samples": bench_samples, "whole": bench_whole, "pairs": bench_pairs}
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in about.items() if value is not None))
    result: dict[str, Any] = dict(about)
    bench = Bench(options)
    with torch.inference_mode():
        for name in options.parts:
            result[name] = parts[name](bench)
            if not options.json:
                show(name, result[name])
    result["peak_mib"] = peak_mib(bench.device)
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
