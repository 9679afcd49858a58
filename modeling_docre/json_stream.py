"""JSON of any size, decoded value by value, with the place of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

_SPACE = " \t\r\n"
# Characters that are read at once.
_CHUNK = 1 << 20
# Characters of the longest thing that a string's end does not end: two escapes of a surrogate pair, and some more.
_UNDIVIDED = 16


class JsonProblem(ValueError):
    """
    What is wrong with a JSON text, and where; whoever knows its name words the message.

    Args:
        problem (`str`): What the decoder says.
        line (`int`): Line, from 1.
        column (`int`): Column, from 1.
        cut (`bool`): Whether the text seems to end too early.
        syntax (`bool`): Whether it is against JSON's grammar; otherwise Python cannot hold it.
    """

    def __init__(self, problem: str, line: int, column: int, *, cut: bool, syntax: bool) -> None:
        super().__init__(f"{problem} at line {line} column {column}")
        self.problem, self.line, self.column, self.cut, self.syntax = problem, line, column, cut, syntax


class JsonWindow:
    """
    The part of a JSON text that is being decoded; knows its place in the whole.

    Args:
        stream (`TextIO`): The text, at its beginning.
        chunk (`int`, *optional*, defaults to 1,048,576): Characters that are read at once.
    """

    def __init__(self, stream: TextIO, chunk: int = _CHUNK) -> None:
        self.stream = stream
        self.chunk = chunk
        self.text = ""
        self.at = 0
        self.line = 1  # of the window's first character, as is the column
        self.column = 1

    def peek(self) -> str:
        """Return the next character that is not white space; `""` at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.text) or not self._grow(self.chunk):
                return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """
        Decode the value that begins here.

        Raises:
            JsonProblem: when it is not JSON, or cannot be held.
        """
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                place = error.pos - self.at  # growing moves the window
                # Whether the value may be cut off by the window's end; what is wrong elsewhere stays wrong.
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _UNDIVIDED
                if not cut:
                    raise self.error(error.msg, error.pos) from None
                # Doubling keeps the repeated work linear.
                if not self._grow(max(self.chunk, len(self.text))):
                    raise self.error(error.msg, self.at + place) from None
                continue
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, endless brackets
                raise self.error(str(error), self.at, syntax=False) from None
            # A number that reaches the window's end may go on behind it.
            if end == len(self.text) and isinstance(value, int | float) and self._grow(self.chunk):
                continue
            self.at = end
            return value

    def items(self) -> Iterator[Any]:
        """
        Decode the items of the list that begins here, and that must be all there is.

        Yields:
            The items.

        Raises:
            JsonProblem: when it is not JSON; what stands before the place was yielded already.
        """
        self.peek()
        self.at += 1
        closed = self.peek() == "]"
        while not closed:
            yield self.value()
            separator = self.peek()
            if separator not in (",", "]"):
                raise self.error("expected a comma or the end of the list", self.at)
            closed = separator == "]"
            if not closed:
                self.at += 1
                self.peek()
        self.at += 1
        if self.peek():
            raise self.error("something follows the list", self.at)

    def error(self, problem: str, place: int, *, syntax: bool = True) -> JsonProblem:
        """Make the error at a place of the window."""
        lines = self.text.count("\n", 0, place)
        column = place - self.text.rfind("\n", 0, place) if lines else self.column + place
        cut = not self.text[place:].strip(_SPACE) or problem.startswith("Unterminated string")
        return JsonProblem(problem, self.line + lines, column, cut=cut, syntax=syntax)

    def _grow(self, size: int) -> bool:
        done = self.text[: self.at]
        if done:
            lines = done.count("\n")
            self.column = len(done) - done.rfind("\n") if lines else self.column + len(done)
            self.line += lines
        more = self.stream.read(size)
        self.text = self.text[self.at :] + more
        self.at = 0
        return bool(more)


__all__ = ["JsonProblem", "JsonWindow"]
