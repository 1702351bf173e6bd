"""Settings: a component's YAML file becomes the frozen struct that the component declares.

Field names in the file are the struct's own. Unknown fields are refused: a mistyped setting must not be ignored.
Errors: SettingsError names the file, the field (as `$.field`) and what was expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

T = TypeVar("T")


class SettingsError(ValueError):
    """A settings file that cannot be used; the message names file, field and rule."""


def load(path: str | Path, kind: type[T]) -> T:
    try:
        text = Path(path).read_text()
        data = yaml.safe_load(text) or {}
        known = {field.name for field in msgspec.inspect.type_info(kind).fields}  # type: ignore[attr-defined]
        if unknown := sorted(set(data) - known):
            raise SettingsError(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return msgspec.convert(data, kind)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise SettingsError(f"{path}: {error}") from error
