"""What an object that never changes has answered once, it answers again without working it out."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def remembered(method: Callable[Concatenate[Owner, Given], Answer]) -> Callable[Concatenate[Owner, Given], Answer]:
    """The method, whose answers stay with its object, by what it was given; whoever gets a list does not change it."""
    name = f"{method.__name__}, remembered"

    @functools.wraps(method)
    def answer(self: Owner, *given: Given.args, **named: Given.kwargs) -> Answer:
        held: dict[Any, Answer] = self.__dict__.setdefault(name, {})
        asked = (given, tuple(sorted(named.items()))) if named else given
        if asked not in held:
            held[asked] = method(self, *given, **named)
        return held[asked]

    return answer
