"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

LOG_LEVELS = ("debug", "info", "warning", "error")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code: 0 well, 1 no (a misfit, a refusal, the operator's end), 2 wrong input."""
    from vllm_operator.commands.wrong import WrongInput

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # "≤" on a terminal that has no such sign
    options = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except WrongInput as error:
        print(f"vllm-operator: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    made = argparse.ArgumentParser(prog="vllm-operator", description="Serves language models with vLLM on Kubernetes.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="watch the cluster and serve its VLLMModels"))

    render = commands.add_parser("render", help="print the objects that a VLLMModel becomes")
    render.add_argument("file", metavar="FILE", help='YAML with VLLMModels, "-" for standard input')
    render.add_argument("--settings", metavar="FILE", help="the platform's settings")
    render.add_argument("--answer", metavar="FILE", help="an inspection's answer (JSON), for the true commit and size")
    render.set_defaults(command=_render)

    crd = commands.add_parser("crd", help="print the CustomResourceDefinition")
    crd.set_defaults(command=_crd)

    fit = commands.add_parser("fit", help="say whether a VLLMModel fits an accelerator")
    fit.add_argument("file", metavar="FILE", help='YAML with VLLMModels, "-" for standard input')
    fit.add_argument(
        "--config", metavar="DIR", help="folder with the model's config.json, and its weights or their index"
    )
    fit.add_argument("--accelerator", metavar="NAME", help="instead of the model's; unset both: every one")
    fit.add_argument("--settings", metavar="FILE", help="the platform's settings")
    fit.add_argument("--output", choices=("table", "json"), default="table")
    fit.set_defaults(command=_fit)

    diagnose = commands.add_parser("diagnose", help="say what a server's log shows and what to change")
    diagnose.add_argument("file", metavar="LOGFILE", help='the log, "-" for standard input')
    diagnose.add_argument("--exit-code", type=int, metavar="N", help="the container's exit code")
    diagnose.add_argument("--output", choices=("text", "json"), default="text")
    diagnose.set_defaults(command=_diagnose)

    settings = commands.add_parser("settings", help="check the platform's settings")
    settings.add_argument("file", metavar="FILE")
    settings.set_defaults(command=_settings)

    version = commands.add_parser("version", help="print the operator's version")
    version.set_defaults(command=_version)
    return made


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--namespace", action="append", default=[], metavar="NAME", help="serve this namespace only; may be repeated"
    )
    run.add_argument("--settings", metavar="FILE", help="the platform's settings")
    run.add_argument(
        "--probe-via",
        choices=("pod", "proxy"),
        default="pod",
        help="ask servers at their pod's address, or (outside the cluster) through the API server",
    )
    run.add_argument("--liveness", metavar="HOST:PORT", help="answer liveness probes at /healthz")
    run.add_argument("--metrics", metavar="HOST:PORT", help="serve Prometheus metrics at /metrics")
    run.add_argument("--leader-elect", action="store_true", help="wait for the Lease before working")
    run.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from vllm_operator.run import Options, run

    return run(
        Options(
            namespaces=tuple(dict.fromkeys(options.namespace)),
            settings=options.settings,
            probe_via=options.probe_via,
            liveness=options.liveness,
            metrics=options.metrics,
            leader_elect=options.leader_elect,
            log_level=options.log_level,
        )
    )


def _render(options: argparse.Namespace) -> int:
    from vllm_operator.commands.rendering import render_command

    return render_command(options.file, options.settings, options.answer)


def _crd(options: argparse.Namespace) -> int:
    from vllm_operator.crd import crd_yaml

    print(crd_yaml(), end="")
    return 0


def _fit(options: argparse.Namespace) -> int:
    from vllm_operator.commands.fitting import fit_command

    return fit_command(options.file, options.config, options.accelerator, options.settings, options.output)


def _diagnose(options: argparse.Namespace) -> int:
    from vllm_operator.commands.diagnosing import diagnose_command

    return diagnose_command(options.file, options.exit_code, options.output)


def _settings(options: argparse.Namespace) -> int:
    from vllm_operator.commands.rendering import settings_of

    settings_of(options.file)
    print(f"{options.file}: all keys and values are good")
    return 0


def _version(options: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(version("vllm-operator"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
