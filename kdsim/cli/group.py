"""The command line: ``kdsim COMMAND --help``.

Commands are loaded when they are called, so that ``kdsim --help`` answers at once. Exit status:
0 done, 2 bad input, 1 the work failed, 130 interrupted; bad input never shows a traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kdsim._version import __version__
from kdsim.errors import KdsimError

#: Command -> (module:attribute, one line of help). The help stands here so that listing the
#: commands loads none of them.
_COMMANDS = {
    "init": (
        "kdsim.cli.commands.start:init",
        "Write a commented scenario, or a policy, to start from.",
    ),
    "list": (
        "kdsim.cli.commands.start:list_all",
        "What ships: scenarios, policies, models, devices.",
    ),
    "compare": (
        "kdsim.cli.commands.runs:compare",
        "Compare policies: the main job; table and plot.",
    ),
    "run": ("kdsim.cli.commands.runs:run", "Simulate one run; segments, timeline, trace."),
    "optimum": ("kdsim.cli.commands.runs:optimum", "The proven minimal makespan and its schedule."),
    "check": ("kdsim.cli.commands.check:check", "Validate scenarios and policies only."),
    "curves": ("kdsim.cli.commands.runs:curves", "Draw f and g over the allocations."),
    "sweep": ("kdsim.cli.commands.sweep:sweep", "Run a whole design into a store, resumable."),
    "plot": ("kdsim.cli.commands.figures:plot", "Draw the figures of a store."),
    "report": (
        "kdsim.cli.commands.figures:report",
        "Write a store as one self-contained HTML page.",
    ),
    "status": ("kdsim.cli.commands.store:status", "How far a store is: done, pending, failed."),
    "export": ("kdsim.cli.commands.store:export", "Export a store as CSV or Parquet."),
    "rerun": ("kdsim.cli.commands.store:rerun", "Reproduce one row of a store bit for bit."),
    "advise": ("kdsim.cli.commands.advise:advise", "Answers: cores, link, policy, and how sure."),
    "map": ("kdsim.cli.commands.map:policy_map", "Where the policy matters, over any two fields."),
    "learning": (
        "kdsim.cli.commands.learning:learning",
        "Accuracy against simulated time on a device.",
    ),
    "devices": (
        "kdsim.cli.commands.devices:devices",
        "The device library: real devices to simulate.",
    ),
    "calibrate": (
        "calibration.commands.calibrate:command",
        "Measure this device, fit its curves, validate them.",
    ),
    "workload": ("kdsim.cli.group:workload", "Run a real torch workload."),
}
_WORKLOADS = {
    "edge-kd": ("calibration.commands.edge_kd:command", "Distil over TCP from a teacher process."),
    "aflkd": ("calibration.commands.aflkd:command", "Adaptive frozen-layer distillation."),
    "dissimilarity": (
        "calibration.commands.dissimilarity:command",
        "Decentralised distillation, five dissimilarity measures.",
    ),
    "split": ("calibration.commands.split:command", "Split inference over several workers."),
}


class _LazyCommands(Mapping[str, click.Command]):
    """Commands by name; each is imported when it is asked for."""

    def __init__(self, places: dict[str, tuple[str, str]]) -> None:
        self.places = places

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = self.places[name][0].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise _missing(error, name) from None
        command.name = name
        return verbatim_examples(command)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = _LazyCommands(lazy)

    @property
    def commands(self) -> Any:
        """The commands; click looks them up here, also for its "Did you mean"."""
        return self._lazy

    @commands.setter
    def commands(self, _: Any) -> None:
        """Accept click's own empty mapping."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of a session."""
        return list(self._lazy)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.places.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        found = [
            CompletionItem(name, help=text)
            for name, (_, text) in self._lazy.places.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


def verbatim_examples(command: click.Command) -> click.Command:
    r"""Keep the line breaks of the examples in a command's help, and in its subcommands'.

    Click leaves a paragraph alone that begins with a backspace character. Docstrings are raw,
    so that in them this mark is the two characters ``\b``.
    """
    if command.help:
        command.help = command.help.replace("\\b\n", "\b\n")
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        for member in command.commands.values():
            verbatim_examples(member)
    return command


def _missing(error: ModuleNotFoundError, command: str) -> KdsimError:
    missing = (error.name or "").split(".")[0]
    extras = {"torch": "torch", "sklearn": "torch", "pooch": "torch", "distributed": "cluster"}
    if missing in extras:
        return KdsimError(
            f"{command} needs {missing}, which is not installed; "
            f"install it with: pip install 'kdsim[{extras[missing]}]'"
        )
    if missing in ("kdsim", "calibration"):
        return KdsimError(f"{command} is not part of this installation (no module {error.name})")
    return KdsimError(
        f"{command} needs {missing}, which is not installed; install it with: pip install {missing}"
    )


@click.group(
    cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="kdsim")
def cli() -> None:
    r"""Simulate who gets the cores in edge knowledge distillation.

    An edge device receives a teacher's logits and trains a student on the same few cores. kdsim
    says what each way of sharing them costs, and what the best possible would be.

    \b
    Examples:
      kdsim compare measured                  policies on a really measured device
      kdsim compare paper-1to1 -o fig5.png    the paper's comparison, with its figure
      kdsim optimum my-device.yaml            the proven minimal makespan
    """


@click.group(cls=LazyGroup, lazy=_WORKLOADS)
def workload() -> None:
    r"""Run a real workload; each gives a result and the cost profile that a scenario reads.

    \b
    Example:
      kdsim workload edge-kd --help
    """


verbatim_examples(cli)


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit; every error that kdsim knows is one message."""
    _prepare_streams()
    try:
        # Not standalone: click's own errors are handled here as well.
        status = cli.main(args=argv, prog_name="kdsim", standalone_mode=False)
        sys.stdout.flush()
    except KdsimError as error:
        _say(str(error))
        status = error.exit_code
    except click.exceptions.Abort:
        _say("interrupted")
        status = 130
    except KeyboardInterrupt:
        _say("interrupted")
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except BrokenPipeError:
        status = _exit_on_closed_pipe()
    except ModuleNotFoundError as error:
        missing = _missing(error, "this command")
        _say(str(missing))
        status = missing.exit_code
    except SystemExit as error:
        # Of click's own: shell completion ends so, and so does a closed pipe. A user's code that
        # calls sys.exit was refused where it was called.
        status = _exit_on_closed_pipe() if _lost_reader(error) else error.code
    except OSError as error:
        if error.filename is None:  # a full disk under standard output
            _exit_on_closed_pipe()
            _say(f"the output cannot be written: {error.strerror or error}")
            status = 1
        else:
            _say(f"{error.filename}: {error.strerror or error}")
            status = 2
    except MemoryError:
        _say("out of memory")
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _prepare_streams() -> None:
    """Make standard output and error fit for whatever is printed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: nothing is shown
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open to the very end
        elif name == "stdout" and hasattr(stream, "reconfigure"):
            # A character that the terminal's encoding lacks must not cost the result.
            stream.reconfigure(errors="replace")


def _lost_reader(error: SystemExit) -> bool:
    """Whether this is how rich, or click (which silences standard output), end on a closed pipe."""
    silenced = "PacifyFlush" in type(sys.stdout).__name__
    return silenced or isinstance(error.__context__, BrokenPipeError)


def _exit_on_closed_pipe() -> int:
    """Exit without a message when the reader of the output (head, less) has closed the pipe."""
    # Keeps Python from complaining at exit about what it could not flush.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(text: str) -> None:
    for line in text.splitlines() or [""]:
        click.echo(f"kdsim: {line}", err=True)


if __name__ == "__main__":
    main()
