"""Pages written from the code say what it says; the page of errors has every code."""

from __future__ import annotations

import re

import pytest

from deploy.docs.metrics import NOTES, families
from deploy.docs.reference import PAGES, meanings_of
from modelyard.core.manifest_keys import keys
from modelyard.gateway.problems import STATUS
from modelyard.settings import Settings
from tests.docs.pages import DOCS

ERROR = re.compile(r"^### (\w+)\n\n\*\*(\d+)\.\*\* .+\n(?:.+\n)*\n\*\*Do:\*\* .+", re.MULTILINE)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_reference_page_is_what_the_code_says(page: str) -> None:
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == PAGES[page](), "run `make reference`"


def test_every_key_of_model_toml_is_on_its_page() -> None:
    page = PAGES["model-toml.md"]()
    for key in keys():
        assert key.meaning in page, key


def test_every_setting_is_explained() -> None:
    assert set(meanings_of(Settings)) == set(Settings.__struct_fields__)


def test_every_metric_has_its_causes_and_what_to_do() -> None:
    assert set(NOTES) == {name for name, _, _ in families()}


def test_every_error_is_explained_with_its_status_and_what_to_do() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    explained = {code: int(status) for code, status in ERROR.findall(page)}
    assert explained == {code: status.value for code, status in STATUS.items()}
