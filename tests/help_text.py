"""Reads what `--help` says about each argument, and what there is to be said."""

import dataclasses
import re
import typing

COLUMNS = "110"
"""Width at which the groups of arguments stand below each other."""
_MISSING = re.compile(r"\((default|required|optional|repeatable)\b.*\)$", re.DOTALL)


def explained(text):
    """The words about every argument but `--help`, without those on its default; boxes around them may be blank."""
    found, name = {}, None
    for line in re.findall(r"^  (.*?)\s*$", text.replace("│", " "), re.MULTILINE):
        head, _, words = line.partition("  ")
        if re.match(r"--?[a-z]|[A-Z_]+$", head):
            name = head.split()[0]
            found[name] = [words.strip()]
        elif name and not head:
            found[name].append(words.strip())
    del found["-h,"]
    return {name: _MISSING.sub("", " ".join(lines)).strip() for name, lines in found.items()}


def leaves(config):
    """Dotted names of a config class's fields, those of nested configs included."""
    hints = typing.get_type_hints(config)
    names = []
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(hints[field.name]):
            names += [f"{field.name}.{name}" for name in leaves(hints[field.name])]
        else:
            names.append(field.name)
    return names


def check_help(text, config):
    """Asserts that the help has every field of the config, each with words of its own."""
    found = explained(text)
    assert len(found) == len(leaves(config)), (sorted(found), leaves(config))
    silent = [name for name, words in found.items() if not re.search(r"\w", words)]
    assert not silent, f"--help says nothing about {silent}"
