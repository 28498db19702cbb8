"""Tokens of alphaTex, with the line and column of whatever does not fit."""

from __future__ import annotations

import re
from typing import NoReturn

from .alphatex_types import AlphaTexError, Arguments

# One match is one token with the white space and comments before it.
_TOKEN = re.compile(
    r"(?:[\s\v]+|//[^\n]*|/\*.*?\*/)*"
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\\\?[^\s./:(){}|*\\"']+|[.:(){}|*]|[^\s./:(){}|*\\"']+|\Z)""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
INTEGER = re.compile(r"-?\d+\Z")
# What may stand without quotes and is not a number.
WORD = re.compile(r"""(?!-?\d+\Z)[^\s./:(){}|*\\"']+\Z""")


def unquote(literal: str) -> str:
    """The text between the quotes of a string literal, escapes resolved."""
    body = literal[1:-1]
    if "\\" not in body:
        return body
    plain = {"n": "\n", "N": "\n", "t": "\t", "T": "\t", "r": "\r", "R": "\r"}
    text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else plain.get(m[2], m[2]), body)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def rounded(value: int | float) -> int | float:
    """A number as we keep it: whole when it is whole, else with three digits."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else round(value, 3)
    return value


class TokenReader:
    """A list of tokens and a place in it.

    Attributes:
        tokens: The tokens; the last one is empty.
        starts: Offset of each token in the text.
        at: Index of the next token.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        self.starts: list[int] = []
        self.at = 0
        self._tokenise()

    def _tokenise(self) -> None:
        text, end = self.text, 0
        tokens, starts = self.tokens, self.starts
        for match in _TOKEN.finditer(text):
            if match.start() != end:
                break
            tokens.append(match[1])
            starts.append(match.start(1))
            end = match.end()
        if not tokens or tokens[-1] != "":
            position = end
            while position < len(text) and text[position].isspace():
                position += 1
            self._fail_at(position, f"unexpected {text[position : position + 1]!r}")

    def _fail_at(self, position: int, message: str) -> NoReturn:
        line = self.text.count("\n", 0, position) + 1
        column = position - (self.text.rfind("\n", 0, position) + 1) + 1
        raise AlphaTexError(line, column, message)

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Refuses the text at one token, by default the next."""
        self._fail_at(self.starts[self.at if at is None else at], message)

    def expect(self, token: str) -> None:
        """Steps over a token that has to be here."""
        if self.tokens[self.at] != token:
            self.fail(f"expected {token!r}, found {self.shown()}")
        self.at += 1

    def shown(self) -> str:
        """The next token as messages show it."""
        return repr(self.tokens[self.at]) if self.tokens[self.at] else "the end of the text"

    def value(self) -> str | int | float:
        """One argument: a string, a number (12, -2, 14.4) or a word (lower case, as alphaTab compares words)."""
        tokens, at = self.tokens, self.at
        token = tokens[at]
        if token == "" or token in ".:(){}|*" or token[0] == "\\":
            self.fail(f"expected a value, found {self.shown()}")
        self.at = at + 1
        if token[0] in "\"'":
            return unquote(token)
        if not INTEGER.match(token):
            return token.lower()
        after = self.starts[at] + len(token)
        touches = tokens[at + 1] == "." and self.starts[at + 1] == after
        if touches and tokens[at + 2].isdecimal() and self.starts[at + 2] == after + 1:
            self.at = at + 3
            return float(f"{token}.{tokens[at + 2]}")
        return int(token)

    def arguments(self) -> Arguments:
        """One value, or several in parentheses."""
        if self.tokens[self.at] != "(":
            return (self.value(),)
        self.at += 1
        values = []
        while self.tokens[self.at] != ")":
            values.append(self.value())
        self.at += 1
        return tuple(values)

    def properties(self) -> list[tuple[str, Arguments]]:
        """Properties of a tag; a word is a name unless it directly follows a name that takes an argument."""
        self.expect("{")
        found = []
        while self.tokens[self.at] != "}":
            name = str(self.value())
            token = self.tokens[self.at]
            arguments: Arguments = ()
            if (
                token == "("
                or token[:1] in ('"', "'")
                or INTEGER.match(token)
                or name in ("instrument", "showdiagram", "showfingering", "showname")
            ):
                arguments = self.arguments()
            found.append((name, arguments))
        self.at += 1
        return found
