"""The command `apr-dali bench`: what augmentations cost on this machine. Imports nothing heavy until it runs."""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from apr_dali.bench.processes import in_own_process
from apr_dali.bench.rows import APR, DYNAMIC, QUICK, STORED, Row, select
from apr_dali.bench.simulate import Plan, answer, parse_plan
from apr_dali.commands.arguments import positive
from apr_dali.errors import InputError
from apr_dali.recipes import HW_DECODER_LOAD
from apr_dali.runtime import cpus
from apr_dali.runtime.files import make_output, write_whole
from apr_dali.runtime.json_text import json_text

if TYPE_CHECKING:
    from apr_dali.bench.images import Places
    from apr_dali.bench.measure import Settings

_MORE = """\
rows are WAY/AUG/SIZE, such as dali-cpu/apr-sp/224; --only takes rows,
beginnings of rows, a way, an augmentation or a size by itself, and * for
anything:

  apr-dali bench --only 'dali-cpu/apr-*' dali-cpu/none

--simulate says how many cores keep these GPUs fed, with batch images per GPU
and step, which takes 90 ms where the network sees each image once: from files
as they are, from tars, from files re-encoded to 500 and 256 pixels, and in
dynamic mode:

  apr-dali bench --simulate gpus=8 step=90ms [batch=256] [cores=64]
"""
_ROUNDS, _SECONDS, _QUICK_ROUNDS, _QUICK_SECONDS = 5, 2.0, 3, 0.5
# What --simulate measures where no rows are named: every way to keep and read photographs.
_FOR_PLAN = ("dali-*/none/224", "dali-*/apr-sp/224")

Thing = TypeVar("Thing")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog, parser.formatter_class = _MORE, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="the main rows, short rounds: two minutes on two cores")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="measure these (default: all)")
    parser.add_argument("--data", metavar="DIR", help="class folders, read at 224 px (default: built-in photographs)")
    parser.add_argument("--output", default="runs/bench", metavar="DIR", help="for the files (default: %(default)s)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of DALI, workers of DataLoaders (default: cores)"
    )
    parser.add_argument(
        "--hw-decoder-load",
        type=_share,
        default=HW_DECODER_LOAD,
        metavar="SHARE",
        help="of JPEGs for the GPU's hardware decoder (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"(default: {_ROUNDS}; quick: {_QUICK_ROUNDS})")
    parser.add_argument(
        "--profile",
        nargs="?",
        const="apr-sp",
        choices=("none", *APR),
        metavar="AUG",
        help="where the time of the DALI pipeline with AUG goes: none, apr-p, apr-s or apr-sp (%(const)s)",
    )
    parser.add_argument("--simulate", nargs="+", metavar="KEY=VALUE", help="what keeps so many GPUs fed; see below")
    parser.add_argument(
        "--repeat-unmixed", action="store_true", help="with --simulate: unmixed batches come in all views"
    )
    parser.add_argument("--from", dest="source", metavar="FILE", help="with --simulate: an earlier bench.json")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in 0..1, got {text!r}")
    return value


def run(args: argparse.Namespace) -> int:
    """Measure, or answer from what was measured; returns the exit status."""
    plan = None if args.simulate is None else parse_plan(args.simulate)
    if args.profile is not None and (plan is not None or args.only):
        raise InputError("--profile stands by itself: leave out --simulate and --only")
    if args.repeat_unmixed and plan is None:
        raise InputError("--repeat-unmixed is for --simulate: what is measured mixes every batch")
    if args.source is not None:
        if plan is None:
            raise InputError("--from is for --simulate: give both, or measure anew")
        _say(answer(plan, _load(args.source), args.only, args.repeat_unmixed))
        return 0
    output = make_output(args.output)
    if args.profile is not None:
        _profile(args, output)
    else:
        _bench(args, output, plan)
    return 0


def _bench(args: argparse.Namespace, output: Path, plan: Plan | None) -> None:
    patterns = args.only or (_FOR_PLAN if plan is not None else QUICK if args.quick else ())
    select(patterns, gpu=True)  # a row that does not exist anywhere is reported at once
    from apr_dali.bench import checks, measure, report
    from apr_dali.bench.images import prepare
    from apr_dali.bench.stored import mean_sizes

    gpu = _find_gpu(args)
    rows = _possible(select(patterns, gpu is not None), args)
    kinds = [kind for kind in STORED if any(row.kind == kind for row in rows)]
    places, settings = prepare(output, args.data, kinds), _settings(args)
    for row in _progress(rows, "checking the outputs"):
        in_own_process(checks.check_row, row, places, args.threads)
    turns = _progress(rows * settings.rounds, "measuring")
    found = measure.in_turns(turns, lambda row: in_own_process(measure.measure_row, row, places, settings))
    result = _about(args, settings, places, gpu) | {"rows": measure.records(found, settings)}
    if places.stored:
        result["stored"] = mean_sizes(places.folder, places.stored)
    _write(output / "bench.json", result)
    write_whole(output / "bench.png", report.picture(result))
    print(report.table(result))
    if plan is not None:
        print()
        _say(answer(plan, result["rows"], args.only, args.repeat_unmixed))
    print(f"\nwritten: {output / 'bench.json'}, {output / 'bench.png'}")


def _possible(rows: Sequence[Row], args: argparse.Namespace) -> tuple[Row, ...]:
    """The rows without those of dynamic mode where DALI is too old for them, which is said."""
    from apr_dali.bench import measure

    dynamic = [row for row in rows if row.kind == DYNAMIC]
    if any(row.on_gpu for row in dynamic) and args.hw_decoder_load != HW_DECODER_LOAD:
        raise InputError("--hw-decoder-load is not for dynamic mode, which takes DALI's: name other rows with --only")
    lacking = in_own_process(measure.lacks_dynamic_mode) if dynamic else ""
    if not lacking:
        return tuple(rows)
    if len(dynamic) == len(rows):
        raise InputError(f"dynamic mode cannot be measured: {lacking}")
    print(f"without the rows of dynamic mode: {lacking}", file=sys.stderr)
    return tuple(row for row in rows if row.kind != DYNAMIC)


def _find_gpu(args: argparse.Namespace) -> str | None:
    """The name of the GPU, None without one."""
    from apr_dali.bench import measure

    gpu = in_own_process(measure.gpu_name)
    if gpu is None and args.hw_decoder_load != HW_DECODER_LOAD:
        raise InputError("--hw-decoder-load changes nothing here: it is for a GPU's decoder, and there is no GPU")
    return gpu


def _profile(args: argparse.Namespace, output: Path) -> None:
    from apr_dali.bench import checks, measure, report
    from apr_dali.bench.feeds import threads_of
    from apr_dali.bench.images import prepare

    gpu = _find_gpu(args)
    settings, places = _settings(args), prepare(output, args.data)
    row = Row("dali-cpu" if gpu is None else "dali-gpu", args.profile, 224)
    names = [stage for stage in measure.STAGES if stage != "operator" or row.aug != "none"]
    in_own_process(checks.check_row, row, places, args.threads)
    turns = _progress(names * settings.rounds, "measuring")
    found = measure.in_turns(turns, lambda stage: in_own_process(measure.measure_stage, stage, row, places, settings))
    threads = threads_of(row, args.threads)
    parts = measure.parts(found, threads)
    result = _about(args, settings, places, gpu) | {
        "row": row.name,
        "threads": threads,
        "parts": [vars(part) for part in parts],
        "rounds": found,
    }
    _write(output / "profile.json", result)
    print(report.stage_table(parts, threads, f"{row.name}, batch {row.batch_size}, {threads} threads"))
    print(f"\nwritten: {output / 'profile.json'}")


def _settings(args: argparse.Namespace) -> Settings:
    from apr_dali.bench.measure import Settings

    rounds, seconds = (_QUICK_ROUNDS, _QUICK_SECONDS) if args.quick else (_ROUNDS, _SECONDS)
    return Settings(args.rounds or rounds, seconds, args.threads, args.hw_decoder_load)


def _about(args: argparse.Namespace, settings: Settings, places: Places, gpu: str | None) -> dict[str, Any]:
    """What the numbers were measured with."""
    from apr_dali.runtime.environment import versions

    given = {"rounds": settings.rounds, "seconds": settings.seconds, "threads": settings.threads, "quick": args.quick}
    if gpu is not None:
        given["hw_decoder_load"] = settings.hw_decoder_load
    machine = {"cpu": _cpu(), "cores": cpus.usable(), "gpu": gpu}
    return {"machine": machine, "versions": versions(), "settings": given | {"data": places.folder}}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _load(file: str) -> list[dict[str, Any]]:
    """The rows of an earlier bench.json."""
    try:
        rows = json.loads(Path(file).read_text())["rows"]
        for row in rows:
            _way, _aug, _size = row["name"].split("/")
            if not all(0 < float(row[key]) < math.inf for key in ("cpu_ms", "images_per_s")):
                raise ValueError(f"{row['name']} has no time or no rate")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"--from {file} is not a bench.json that this command wrote: {error}") from error
    return list(rows)


def _write(path: Path, result: dict[str, Any]) -> None:
    write_whole(path, (json_text(result, indent=1) + "\n").encode())


def _say(text: str) -> None:
    import textwrap

    for line in text.splitlines():
        print("\n".join(textwrap.wrap(line, 80, subsequent_indent="  ", break_on_hyphens=False)))


def _progress(work: Sequence[Thing], title: str) -> Iterable[Thing]:
    from tqdm import tqdm

    return tqdm(work, desc=title, file=sys.stderr, leave=False)
