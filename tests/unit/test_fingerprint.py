"""Keys hold all that an answer depends on, and nothing else."""

from __future__ import annotations

import hashlib
import io

from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.fingerprint import KeySpace, digest_stream, digest_tenant, digest_tree

words = st.text("ab/:", max_size=3)  # few and alike
questions = st.tuples(words, words, words, words)


def key_of(question: tuple[str, str, str, str]) -> bytes:
    tenant, model, digest, raw_input = question
    space = KeySpace(model=model, digest=digest)
    return space.key(raw_input.encode(), tenant=digest_tenant(tenant))


cuts = st.lists(st.integers(min_value=0, max_value=6), min_size=3, max_size=3).map(sorted)


def cut(text: str, at: list[int]) -> tuple[str, str, str, str]:
    return text[: at[0]], text[at[0] : at[1]], text[at[1] : at[2]], text[at[2] :]


@given(st.text("ab", min_size=3, max_size=6), cuts, cuts)
def test_where_one_part_ends_and_the_next_begins_matters(
    text: str, left: list[int], right: list[int]
) -> None:
    is_same = cut(text, left) == cut(text, right)
    assert (key_of(cut(text, left)) == key_of(cut(text, right))) == is_same


@given(questions, st.sampled_from(range(4)))
def test_a_change_in_any_part_changes_the_key(
    question: tuple[str, str, str, str], position: int
) -> None:
    tenant, model, digest, raw_input = (
        part + "!" if position == number else part for number, part in enumerate(question)
    )
    assert key_of((tenant, model, digest, raw_input)) != key_of(question)


@given(st.binary(), st.binary())
def test_a_key_depends_on_every_byte_of_the_input(left: bytes, right: bytes) -> None:
    keys = KeySpace(model="iris/1", digest="sha256:0")
    assert (keys.key(left) == keys.key(right)) == (left == right)
    assert keys.key(memoryview(left)) == keys.key(left)
    assert len(keys.key(left)) == 16


@given(st.binary())
def test_a_stream_is_digested_whole(content: bytes) -> None:
    assert digest_stream(io.BytesIO(content)) == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_stream_of_several_pieces_is_digested_whole() -> None:
    content = bytes(range(256)) * 10_000
    assert digest_stream(io.BytesIO(content)) == f"sha256:{hashlib.sha256(content).hexdigest()}"


@given(st.data(), st.lists(st.tuples(words, words), unique_by=lambda file: file[0]))
def test_the_digest_of_a_tree_has_no_order(
    data: st.DataObject, files: list[tuple[str, str]]
) -> None:
    assert digest_tree(data.draw(st.permutations(files))) == digest_tree(files)


@given(st.sets(st.tuples(words, words)), st.sets(st.tuples(words, words)))
def test_different_trees_have_different_digests(
    left: set[tuple[str, str]], right: set[tuple[str, str]]
) -> None:
    assert (digest_tree(left) == digest_tree(right)) == (left == right)
