"""Checks the keys of a step's input against the parameters of its function, where the step is made.

The server checks them too, with the values, before it accepts a workflow. Here, the error is raised at the line of the
step. Nothing is checked if the signature does not tell the keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from stepwave._actions.action import ActionLike
from stepwave._actions.declarations import DeclaredKeys, code_place, declared_keys

__all__ = ["InputKeys"]


class InputKeys:
    """Checks the inputs of a workflow's steps. The signature of a function is read once, for all of its steps."""

    def __init__(self) -> None:
        self._declared: dict[int, tuple[ActionLike, DeclaredKeys | None]] = {}

    def check(self, step_id: str, action: ActionLike, value: object) -> None:
        """Check the input of a step, or of its fallback. One that is no object is left to the server.

        Raises:
            TypeError: The function has no parameter for a key, or needs a key that is missing. All are named.
        """
        if not isinstance(value, Mapping) or (keys := self._keys_of(action)) is None:
            return
        problems = [_unknown_text(key, keys) for key in value if key not in keys.known and not keys.takes_others]
        problems += _missing_texts(value, keys)
        if problems:
            raise TypeError(f"step {step_id!r}: {'; '.join(problems)}; see {code_place(action)}")

    def check_dependencies(self, step_id: str, action: ActionLike, dependencies: Sequence[str]) -> None:
        """Check the input of a step that gets an object of its dependencies' outputs. Keys too many are ignored there.

        Raises:
            TypeError: The function needs a key that is no dependency's id. All are named.
        """
        keys = self._keys_of(action)
        if keys is not None and (problems := _missing_texts(dependencies, keys)):
            given = f"without an input, it gets the outputs of its dependencies by id: {', '.join(dependencies)}"
            raise TypeError(f"step {step_id!r}: {given}; {'; '.join(problems)}; see {code_place(action)}")

    def _keys_of(self, action: ActionLike) -> DeclaredKeys | None:
        if isinstance(action, str):
            return None
        if id(action) not in self._declared:  # the action is kept too, so that no other one gets its id
            self._declared[id(action)] = action, declared_keys(action)
        return self._declared[id(action)][1]


def _unknown_text(key: str, keys: DeclaredKeys) -> str:
    near = get_close_matches(key, keys.known, 1)
    listed = f"; it takes {', '.join(keys.known)}" if keys.known else ", and takes no input"
    return f"the action does not know the key {key!r}" + (f"; did you mean {near[0]!r}?" if near else listed)


def _missing_texts(given: Iterable[str], keys: DeclaredKeys) -> list[str]:
    missing = [repr(key) for key in keys.required if key not in given]
    return [f"the action needs the key {', '.join(missing)}"] if missing else []
