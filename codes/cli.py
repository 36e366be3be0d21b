"""The command line: dataclass fields become flags, errors become one line."""

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from codes.errors import InputError, Interrupted

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def option(
    default: Any, help: str, *, choices: tuple = (), aliases: tuple[str, ...] = (), positional: bool = False
) -> Any:
    """Describe one field of an options dataclass: its default, its line of help, what it may be, its other names.

    A positional without a default takes `dataclasses.MISSING`.
    """
    metadata = {"help": help, "choices": choices, "aliases": aliases, "positional": positional}
    return dataclasses.field(default=default, metadata=metadata)


def parse(options: type, description: str, argv: list[str] | None = None) -> Any:
    """Read the command line into the dataclass `options`; bool fields are switches, tuples take several values."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        positional, required = field.metadata["positional"], field.default is dataclasses.MISSING
        names = [field.name] if positional else [f"--{name}" for name in (field.name, *field.metadata["aliases"])]
        default = "" if required or field.default in (None, "", ()) else f" [{shown(field.default)}]"
        settings = {"help": field.metadata["help"].replace("%", "%%") + default}
        if not required:
            settings["default"] = field.default
        if hints[field.name] is bool:
            settings["action"] = argparse.BooleanOptionalAction if field.default else "store_true"
        else:
            settings["type"], several = _type(hints[field.name])
            if several:
                settings["nargs"] = "+" if required else "*"
            elif positional and not required:
                settings["nargs"] = "?"
            if field.metadata["choices"]:
                settings["choices"] = field.metadata["choices"]
            elif not positional:
                settings["metavar"] = settings["type"].__name__.upper()
        if not positional:
            settings |= {"dest": field.name, "required": required}
        parser.add_argument(*names, **settings)
    values = vars(parser.parse_args(argv))
    return options(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def program(main: Callable[[Any], Any], options: type, description: str) -> None:
    """Run a script: parse, call `main`, and tell why it ended in one line.

    Exit codes: 2, what a user can mend; 75, asked to stop, the same command goes on; 1, anything else, as a full disk.
    """
    try:
        main(parse(options, description))
    except InputError as error:
        # From a process that reads data the error comes behind its traceback.
        said = str(error).rpartition("codes.errors.InputError: ")[2]
        print(f"error: {' '.join(said.split())}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(RESUMABLE)
    except OSError as error:
        if not error.strerror:
            raise
        print(f"stopped: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except FloatingPointError as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped: interrupted; what was finished is there", file=sys.stderr)
        sys.exit(130)


def shown(default: Any) -> str:
    """Write a default as it would be typed."""
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _type(hint: Any) -> tuple[type, bool]:
    """Return the type of one value and whether there are several: `int | None` -> int, `tuple[float, ...]` -> float."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False
