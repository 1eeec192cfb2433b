"""The command line: run, plan, leaderboard, merge, list, definitions, pretrain. Nothing else parses arguments.

python -m sae_bench_htopk run suites/quickstart.yaml
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sae_bench_htopk.errors import InputError  # nothing that is heavy: processes that make tokens import this file too


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = argparse.ArgumentParser(prog="sae_bench_htopk", description="Trains and compares sparse autoencoders; writes a leaderboard.")
    commands = top.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where leaderboard/ and runs/ are (default: here)")
    common.add_argument("--variants", type=Path, action="append", default=[], metavar="DIR", help="a folder of further variants")
    common.add_argument("--metrics", type=Path, action="append", default=[], metavar="DIR", help="a folder of further metrics")
    for name, text in (("run", "train and evaluate what is missing, and write the page"), ("plan", "say what run would do, and why")):
        command = commands.add_parser(name, parents=[common], help=text)
        command.add_argument("suite", help="a YAML file, or the name of a packaged suite")
        command.add_argument("--device", default="auto", help="auto, cpu or cuda; of a plan also a GPU that is not here, such as H200")
        command.add_argument("--at-once", type=int, metavar="N", help="train at most N SAEs in one pass over the text (default: as many as memory holds)")
    board = commands.add_parser("leaderboard", parents=[common], help="rebuild pages from the records alone")
    board.add_argument("suite", nargs="?", help="the suite whose page or data is wanted (default: every suite that has records)")
    what = board.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is not what its records say")
    what.add_argument("--format", choices=("csv", "json"), help="change nothing; print every number of the records, one a row")
    merging = commands.add_parser("merge", parents=[common], help="bring in the records of another leaderboard folder; exit 1 if anything is doubtful")
    merging.add_argument("source", type=Path, nargs="+", metavar="DIR", help="a leaderboard folder, with <suite>/<train key>.json in it")
    commands.add_parser("list", parents=[common], help="name variants, metrics and suites")
    commands.add_parser("definitions", parents=[common], help="say what every number means, as Markdown")
    trainer = commands.add_parser("pretrain", help="train the embedded language model anew")
    trainer.add_argument("--out", type=Path, required=True, metavar="DIR")
    trainer.add_argument("--compile", action="store_true", help="compile the model first; wants a C++ compiler")
    return top


def device_of(asked: str, command: str) -> str:
    """cpu or cuda, or for a plan a GPU of the table. Raises InputError if there is no such device, or only in the table."""
    import torch

    from sae_bench_htopk import plugins
    from sae_bench_htopk.rates import MEASURED

    if asked in MEASURED:
        if command == "plan":
            return asked
        raise InputError(f"--device {asked}: a GPU that plan knows from a table; to run on one, give cuda on a machine that has it")
    if asked not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {asked}: {plugins.suggest(asked, ['auto', 'cpu', 'cuda', *MEASURED])}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device; wanted cpu, auto, or a machine with one")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def run_or_plan(options: argparse.Namespace) -> int:
    """Loads the suite and does, or says, what is missing of it."""
    from transformers.utils import logging

    from sae_bench_htopk import plan_text, suite
    from sae_bench_htopk.checkpoint import ModelError
    from sae_bench_htopk.run import Runner
    from sae_bench_htopk.text import TextError

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    chosen = suite.load(options.suite)
    device = device_of(options.device, options.command)
    if options.at_once is not None and options.at_once < 1:
        raise InputError(f"--at-once {options.at_once}: wanted a whole number of at least 1")
    try:
        runner = Runner(chosen, options.output, device, options.at_once)
        if options.command == "run":
            print(runner.run())
        else:
            print(plan_text.table(chosen, runner.items, device, chosen.text.source.notes(), options.at_once))
    except (TextError, ModelError) as error:  # these name the key; the suite that holds it is known here
        raise InputError(f"{options.suite}: {error}") from error
    return 0


def rebuild(options: argparse.Namespace) -> int:
    """Writes every page anew, or compares them with their records, or prints the records' numbers."""
    gc.disable()  # records are millions of objects, none of which is let go: to look through them for any that are takes longer than reading them
    try:
        return from_records(options)
    finally:
        gc.enable()


def from_records(options: argparse.Namespace) -> int:
    """The same."""
    if options.format or options.check:
        return told(options)
    from sae_bench_htopk import drawing

    with drawing.aside() as draw:  # before anything that is heavy is imported
        from sae_bench_htopk import leaderboard

        root = options.output / "leaderboard"
        pages = leaderboard.build_all(root, leaderboard.chosen(root, options.suite), draw)
    print(*pages, sep="\n")
    return 0


def told(options: argparse.Namespace) -> int:
    """Prints the numbers, or compares pages with their records."""
    from sae_bench_htopk import leaderboard, tidy_rows

    root = options.output / "leaderboard"
    suites = leaderboard.chosen(root, options.suite)
    if options.format:
        for line in tidy_rows.LINES[options.format](root, suites):
            print(line)
        return 0
    differences = leaderboard.check(root, suites)
    for line in differences:
        print(line, file=sys.stderr)
    return 1 if differences else 0


def merge(options: argparse.Namespace) -> int:
    """Brings in the records of other folders, one after the other; pages are not made anew."""
    from sae_bench_htopk import merging

    doubtful = False
    for source in options.source:
        done, doubts = merging.merge(source, options.output / "leaderboard")
        for line in done or [f"{source}: nothing that is not here already"]:
            print(line)
        for line in doubts:
            print(line, file=sys.stderr)
        doubtful |= bool(doubts)
    return 1 if doubtful else 0


def show(options: argparse.Namespace) -> int:
    """Every variant, metric and suite with its one line; a variant whose code is no longer that of its records says so."""
    from sae_bench_htopk import plan, plugins, suite

    changed = plan.changed_variants(options.output)
    sections = {kind: {name: plugins.first_line(kind, name) for name in plugins.names(kind)} for kind in ("variants", "metrics")}
    sections["suites"] = {name: suite.title_of(name) for name in suite.suite_names()}
    for section, lines in sections.items():
        print(section)
        for name, line in lines.items():
            print(f"  {name:28}{line}{changed.get(name, '') if section == 'variants' else ''}")
    return 0


def define(options: argparse.Namespace) -> int:
    """Prints what metrics/README.md holds."""
    from sae_bench_htopk import definitions

    print(definitions.page(), end="")
    return 0


def pretrain(options: argparse.Namespace) -> int:
    """Trains the embedded model on the quickstart's text and prints its card."""
    from sae_bench_htopk import suite
    from sae_bench_htopk.pretrain import Recipe, pretrain
    from sae_bench_htopk.progress import note
    from sae_bench_htopk.text import Installed

    source = suite.load("quickstart").text.source
    assert isinstance(source, Installed)
    print(pretrain(source, options.out, Recipe(), options.compile, note))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 if all is well, 1 if a check found differences, 2 after one sentence on stderr if the input is at fault."""
    options = parser().parse_args(arguments)
    commands = {"run": run_or_plan, "plan": run_or_plan, "leaderboard": rebuild, "merge": merge, "list": show, "definitions": define, "pretrain": pretrain}
    try:
        for kind in ("variants", "metrics"):
            for directory in getattr(options, kind, []):
                from sae_bench_htopk import plugins  # heavy, so only where it is wanted

                plugins.add_folder(kind, directory)
        done = commands[options.command](options)
        sys.stdout.flush()
        return done
    except (InputError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's own last flush has somewhere to go
        return 0
    except KeyboardInterrupt:
        print("interrupted; every finished seed and the last snapshot are kept, and the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    code = main()
    gc.freeze()  # what is left goes with the process; to look through it for garbage first takes a second where there are many records
    sys.exit(code)
