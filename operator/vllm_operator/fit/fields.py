"""Reads a config.json that anybody may have written: wrong types, nulls and absurd numbers are absent, never an error."""

from collections.abc import Mapping

LARGEST = 10**9
"""Above any dimension a model has; a larger number is taken for damage."""


class Fields:
    """A mapping read by type; every needed field that is absent or unusable is remembered in `missing`."""

    __slots__ = ("_data", "_path", "missing")

    def __init__(self, data: object, path: str = "", missing: list[str] | None = None) -> None:
        self._data: Mapping[str, object] = data if isinstance(data, Mapping) else {}
        self._path = path
        self.missing: list[str] = missing if missing is not None else []

    def raw(self, name: str) -> object:
        return self._data.get(name)

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    def is_null(self, name: str) -> bool:
        """Whether the name is there and says null, which is not the same as leaving it to a default."""
        return name in self._data and self._data[name] is None

    def whole(self, *names: str, least: int = 1) -> int | None:
        """The first of these names that holds a whole number from `least` up, else None."""
        for name in names:
            value = self._data.get(name)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST:
                return value
        return None

    def need(self, *names: str, default: int | None = None) -> int:
        """Like `whole`; absent is remembered under the first name and reads as 1, so that reading can go on.

        A default stands in for a field that is absent, not for one that holds something unusable.
        """
        value = self.whole(*names)
        if value is None and default is not None and not any(name in self for name in names):
            return default
        if value is None:
            self.missing.append(self._path + names[0])
            return 1
        return value

    def number(self, *names: str) -> float | None:
        """The first of these names that holds a finite number above 0, else None."""
        for name in names:
            value = self._data.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST:
                return float(value)
        return None

    def text(self, *names: str) -> str:
        for name in names:
            value = self._data.get(name)
            if isinstance(value, str) and value:
                return value
        return ""

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._data.get(name)
        return value if isinstance(value, bool) else default

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._data.get(name)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()

    def wholes(self, name: str) -> tuple[int, ...]:
        value = self._data.get(name)
        if not isinstance(value, list | tuple):
            return ()
        return tuple(item for item in value if isinstance(item, int) and not isinstance(item, bool))

    def saying(self, more: Mapping[str, object]) -> "Fields":
        """The same part of the same file with these in place of what it says, sharing `missing`."""
        return Fields({**self._data, **more}, self._path, self.missing)

    def part(self, name: str) -> "Fields":
        """A nested mapping (empty when absent), sharing `missing` and naming its fields `name.field`."""
        return Fields(self._data.get(name), f"{self._path}{name}.", self.missing)

    def parts(self, name: str) -> tuple["Fields", ...]:
        """The mappings of a list, sharing `missing`; what is no mapping reads as an empty one."""
        value = self._data.get(name)
        listed = value if isinstance(value, list | tuple) else ()
        return tuple(Fields(each, f"{self._path}{name}.", self.missing) for each in listed)
