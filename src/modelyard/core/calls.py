"""``[calls]`` of ``model.toml``: the models that a model may ask."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from modelyard.core.names import Name


class Calls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other models that this one asks."""

    models: Annotated[
        list[Name],
        Meta(
            description="Models that this one may call, see `docs/composition.md`. With these "
            "`[cache] ttl_s` is 0 unless it is given: an answer depends on theirs."
        ),
    ] = []
