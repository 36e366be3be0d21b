"""Command line: fields of a dataclass become flags, and errors become one line with an exit code.

No given option is ignored silently. One that the others leave without effect is refused where the result would be
another than was asked for (`unused`), and named in one line where the result is the same (`idle`), since published
commands carry such options. An option that is left at its default is never given.
"""

import argparse
import dataclasses
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from codes.errors import InputError, Interrupted

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def option(
    default: Any,
    help: str,
    *,
    choices: tuple = (),
    renamed: Mapping[str, str] | None = None,
    aliases: tuple[str, ...] = (),
    positional: bool = False,
    group: str = "",
    unused: Callable[[Any], str] | None = None,
    idle: Callable[[Any], str] | None = None,
) -> Any:
    """Describe one field of an options dataclass. A required option has the default `dataclasses.MISSING`.

    renamed: former values and what they are called now; aliases: former names of the flag. Both are accepted and not
    listed in the help. group: heading under which the help lists the option. unused, idle: return, for all options,
    beside or without what this one has no effect ("without --video"), or nothing where it has one; it is then refused,
    or only named.
    """
    metadata = {"help": help, "choices": choices, "renamed": renamed or {}, "aliases": aliases, "group": group}
    return dataclasses.field(
        default=default, metadata=metadata | {"positional": positional, "unused": unused, "idle": idle}
    )


def parse(options: type, description: str, argv: list[str] | None = None) -> Any:
    """Parse the command line into the dataclass `options`; bool fields are switches, tuples take several values."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    hints = typing.get_type_hints(options)
    groups: dict[str, Any] = {"": parser}
    for field in dataclasses.fields(options):
        title = field.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_argument(groups[title], field, hints[field.name])
    missing = object()  # stays where a flag is not given; the defaults are those of the dataclass
    names = [field.name for field in dataclasses.fields(options)]
    values = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, missing))))
    given = {name: value for name, value in values.items() if value is not missing}
    result = options(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    check_used(result, given)
    if os.environ.get("RANK", "0") == "0":  # the other processes of torchrun have the same options
        for line in without_effect(result):
            print(line, file=sys.stderr)
    return result


def check_used(options: Any, given: Iterable[str] | None = None) -> None:
    """Raise InputError for a given option that is not used beside the others.

    given: names of the options on the command line; without them, those whose value is not the default.
    """
    for field in dataclasses.fields(options):
        is_given = _is_set(options, field) if given is None else field.name in given
        if is_given and field.metadata["unused"] and (why := field.metadata["unused"](options)):
            raise InputError(f"--{field.name}: not used {why}; leave it out")


def without_effect(options: Any) -> list[str]:
    """Return a line for each option that is not at its default and changes nothing beside the others."""
    ruled = [field for field in dataclasses.fields(options) if field.metadata["idle"] and _is_set(options, field)]
    reasons = {field.name: field.metadata["idle"](options) for field in ruled}
    return [f"--{name} has no effect {why}" for name, why in reasons.items() if why]


def _is_set(options: Any, field: dataclasses.Field) -> bool:
    return getattr(options, field.name) != field.default


def _add_argument(parser: Any, field: dataclasses.Field, hint: Any) -> None:
    """Add one field to an argument parser, or to a group of it."""
    about, required = field.metadata, field.default is dataclasses.MISSING
    default = None if required else field.default
    is_shown = default is not False and default not in (None, "", ()) and not about["help"].endswith("]")
    help = about["help"].replace("%", "%%") + (f" [{shown(default)}]" if is_shown else "")
    flag = f"--{field.name}"
    if hint is bool:
        action = argparse.BooleanOptionalAction if default else "store_true"
        parser.add_argument(flag, action=action, default=default, help=help)
        return
    kind, several = _type(hint)
    read = _reader(kind, about["renamed"])
    choices = about["choices"] or None
    named = ",".join(str(choice) for choice in about["choices"] if choice != "")  # the help leaves out the empty one
    metavar = f"{{{named}}}" if named else None if about["positional"] else kind.__name__.upper()
    if about["positional"]:
        count = ("+" if required else "*") if several else None if required else "?"
        parser.add_argument(
            field.name, type=read, nargs=count, default=default, choices=choices, metavar=metavar, help=help
        )
        return
    count = ("+" if required else "*") if several else None
    parser.add_argument(
        flag, type=read, nargs=count, default=default, choices=choices, metavar=metavar, required=required, help=help
    )
    for alias in about["aliases"]:
        parser.add_argument(
            f"--{alias}",
            dest=field.name,
            type=read,
            nargs=count,
            default=argparse.SUPPRESS,
            choices=choices,
            help=argparse.SUPPRESS,
        )


def _reader(kind: type, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a function that converts a word of the command line, and former values to those of today."""

    def read(word: str) -> Any:
        return kind(renamed.get(word, word))

    read.__name__ = kind.__name__  # argparse shows it: "invalid int value"
    return read


def program(main: Callable[[Any], Any], options: type, description: str) -> None:
    """Run a script: parse the command line, call `main`, and print errors as one line.

    Exit codes: 2 for wrong input (`InputError`, a file in the place of a folder), 75 if stopped by a signal (the same
    command resumes), 130 after Ctrl-C, 1 for other errors, such as a full disk.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name outside of the terminal's encoding is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        main(parse(options, description))
    except InputError as error:
        # An error of a data loading process comes after its traceback.
        message = str(error).rpartition("codes.errors.InputError: ")[2]
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(RESUMABLE)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        print(f"error: {error.filename}: {error.strerror}; name another place", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if not error.strerror:
            raise
        print(f"stopped: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except FloatingPointError as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped: interrupted; finished files are complete", file=sys.stderr)
        sys.exit(130)


def only(name: str, *values: str) -> Callable[[Any], str]:
    """Return a function that says of an option why it is not used unless another one has one of these values."""
    accepted = ", ".join(values)
    return lambda o: "" if getattr(o, name) in values else f"by --{name} {getattr(o, name)}, only by {accepted}"


def beside(name: str) -> Callable[[Any], str]:
    """Return a function that says of an option why it is not used beside another one."""
    return lambda o: f"beside --{name}" if getattr(o, name) else ""


def without(name: str) -> Callable[[Any], str]:
    """Return a function that says of an option why it is not used without another one."""
    return lambda o: "" if getattr(o, name) else f"without --{name}"


def check_range(options: Any, names: str | tuple[str, ...], least: float, most: float = math.inf) -> None:
    """Check that every value of the named options is finite and lies within least..most.

    Raises: InputError naming the flag, its value and what is accepted.
    """
    for name in (names,) if isinstance(names, str) else names:
        value = getattr(options, name)
        for one in value if isinstance(value, tuple) else (value,):
            if not (least <= one <= most and math.isfinite(one)):  # NaN is in no range
                accepted = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
                raise InputError(f"--{name} {shown(value)}: accepted is {accepted}")


def shown(default: Any) -> str:
    """Format a default as it would be typed."""
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _type(hint: Any) -> tuple[type, bool]:
    """Return the type of one value and whether there are several: `int | None` -> int, `tuple[float, ...]` -> float."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False
