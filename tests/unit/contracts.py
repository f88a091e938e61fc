"""Contracts for annotations that are written in a test."""

from __future__ import annotations

from typing import Any

from modelyard.core.contract import Contract, contract_of


def model_class(takes: Any, gives: Any = list[Any]) -> type:
    """Give a class whose ``predict`` has these annotations."""

    def predict(_self: object, instances: object) -> object:
        return instances

    predict.__annotations__ = {"instances": takes, "return": gives}
    return type("Served", (), {"predict": predict})


def contract_for(takes: Any, gives: Any = list[Any]) -> Contract:
    """Give the contract of a model that takes and gives this."""
    return contract_of(model_class(takes, gives))
