"""What an object that never changes has answered once, it answers again without working it out."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


def remembered(method: Method) -> Method:
    """The method, whose answers stay with its object, by what it was given; whoever gets a list does not change it."""
    name = f"{method.__name__}, remembered"

    @functools.wraps(method)
    def answer(self: Any, *given: Any, **named: Any) -> Any:
        held = self.__dict__.setdefault(name, {})
        asked = (given, tuple(sorted(named.items()))) if named else given
        if asked not in held:
            held[asked] = method(self, *given, **named)
        return held[asked]

    return cast(Method, answer)
