"""``input_data`` as a runner gets it, decoded for each kind of model.

The first byte says which form.
"""

from __future__ import annotations

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.messages import Form
from tests.fuzz.models import CONTRACTS
from tests.fuzz.refusals import check_refusal

FORMS: tuple[Form, ...] = ("json", "msgpack", "raw")


def run(data: bytes) -> None:
    form, raw = FORMS[(data[0] if data else 0) % len(FORMS)], data[1:]
    for contract in CONTRACTS:
        try:
            instances = contract.decode(raw, form)
        except (Malformed, InvalidInput) as error:
            check_refusal(error)
            assert "own check" not in error.detail, error  # these models have none
            continue
        assert len(instances)
        if form == "json":
            again = contract.encode_instances(instances)
            assert len(contract.decode(again, form)) == len(instances)
