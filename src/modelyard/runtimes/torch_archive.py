"""Reads torch's archive before torch does, and hands on what cannot run code.

``torch.export.load`` is not made for files of strangers. It unpickles parts of an archive, loads
compiled libraries that are in it, evaluates expressions and guards as Python, writes names into the
code that it generates, and looks operators up by any path that begins with ``torch``. So a new
archive is made of the parts that are needed: tensors as they are, and the program, of which every
text is checked. Records whose checksum is wrong are found on the way.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modelyard.core.artefacts import ArtefactError

_ROOT = "m"
_PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_EXAMPLE = "data/sample_inputs/model.pt"
_KEPT = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/version|data/weights/weight_\d+"
    r"|data/constants/tensor_\d+)\Z"
)
_NAME = re.compile(r"[A-Za-z0-9_.:+-]*\Z")

_OPERATORS = re.compile(
    r"(torch\.ops\.(aten|prims|quantized_decomposed)\.(?!__|_?from_file)\w+\.(?!_)\w+"
    r"|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.(?!_)\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\._C\._set_grad_enabled"
    r"|torch\._?sym_(int|float|max|min|ite|not|sqrt|sum)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_|not_"
    r"|lshift|rshift|getitem|abs)"
    r"|math\.(ceil|floor|trunc|sqrt))\Z"
)
_FUNCTIONS = {  # of sizes
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs"),
    *("PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "Where", "PowByNatural"),
    *("CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat", "RoundToInt", "ToFloat", "Identity"),
    *("FloatPow", "FloatTrueDiv", "IntTrueDiv", "LShift", "RShift", "floor", "ceiling"),
    *("Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"),
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "true", "false", "oo", "int_oo"),
}
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


_DAMAGE = (zipfile.BadZipFile, zlib.error)


class _Refused(Exception):
    """Something in the archive could run code, or is damaged; the text says what."""


def read_archive(source: Path | io.BytesIO, shown: str) -> io.BytesIO:
    """Return an archive of the parts that ``torch.export.load`` needs.

    Raises:
        ArtefactError: It is damaged, or it cannot be loaded without running code.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _copy(archive)
    except _Refused as error:
        raise ArtefactError(f"{shown}: {error}") from None
    except (*_DAMAGE, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ArtefactError(
            f"{shown} is no program that torch.export has saved, or is damaged"
        ) from (error)
    except (OSError, RuntimeError) as error:  # a RuntimeError: it is encrypted, for one
        raise ArtefactError(f"{shown} cannot be read, or is damaged") from error


def _copy(archive: zipfile.ZipFile) -> io.BytesIO:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    roots = {name.partition("/")[0] for name in names}
    if len(roots) != 1:
        raise _Refused("it is no program that torch.export.save of a newer torch has written")
    found = {name.partition("/")[2]: name for name in names}
    if len(found) != len(names):
        raise _Refused("a record is there twice")
    if compiled := next((name for name in found if name.startswith("data/aotinductor")), None):
        raise _Refused(
            f"{compiled} is compiled code, which is not loaded: save it with torch.export"
        )
    if _PROGRAM not in found:
        raise _Refused(f"{_PROGRAM} is missing: save it with torch.export.save of a newer torch")
    texts = {name: json.loads(archive.read(found[name])) for name in (_PROGRAM, *_CONFIGS)}
    for name in _CONFIGS:
        _check_payloads(texts[name]["config"])
    _check_program(texts[_PROGRAM])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as kept:
        for name, full_name in found.items():
            if _KEPT.match(name):
                kept.writestr(f"{_ROOT}/{name}", archive.read(full_name))
        for name, text in texts.items():
            kept.writestr(f"{_ROOT}/{name}", json.dumps(text))
        kept.writestr(f"{_ROOT}/{_EXAMPLE}", b"")  # it is a pickle
    made.seek(0)
    return made


def _check_payloads(payloads: dict[str, Any]) -> None:
    for name, payload in payloads.items():
        path = payload["path_name"]
        if payload["use_pickle"] or not re.match(r"(weight|tensor)_\d+\Z", path):
            raise _Refused(f"{name} is a pickle, which can run any code")
        _check(payload, name)


def _check_program(program: dict[str, Any]) -> None:
    """Check a program, and take out what is not needed to run it."""
    program["guards_code"] = []  # would be run as Python; types and shapes are checked before
    _check(program, "")


def _check(value: Any, key: str) -> None:
    """Check all texts in a part of a program, which is the value of ``key``."""
    if isinstance(value, dict):
        if isinstance(value.get("metadata"), dict):
            value["metadata"] = {}  # where an operator came from
        for name, inner in value.items():
            if not _NAME.match(name):
                raise _Refused(f"{name[:40]!r} is no name")
            if name in ("as_custom_obj", "as_opaque_obj") or (name == "custom_obj" and inner):
                raise _Refused("it holds an object of a class of its own, which only a pickle can")
            _check(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, key)
    elif isinstance(value, str):
        _check_text(value, key)


def _check_text(text: str, key: str) -> None:
    if key in ("as_string", "as_strings"):
        return  # an argument of an operator
    if key in ("target", "as_operator"):
        if not _OPERATORS.match(text):
            raise _Refused(
                f"it calls {text[:80]!r}, which is no operator of torch's that is served"
            )
    elif key == "expr_str":
        if not _is_size(text):
            raise _Refused(f"{text[:80]!r} is no expression of sizes")
    elif key in ("in_spec", "out_spec"):
        _check_structure(json.loads(text)[1])
    elif not _NAME.match(text):
        raise _Refused(f"{text[:40]!r} is no name")


def _is_size(text: str) -> bool:
    """Return whether a text, which is evaluated, has only functions of sizes in it."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _are_sizes([tree.body])


def _are_sizes(nodes: Iterable[ast.AST]) -> bool:
    return all(map(_is_size_node, nodes))


def _is_size_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        is_name = isinstance(node.value, str) and re.match(r"[a-z]+\d+\Z", node.value)
        return isinstance(node.value, int | float) or bool(is_name)
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or bool(re.match(r"[a-z]{1,2}\d+\Z", node.id))
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        return is_known and _are_sizes([*node.args, *(one.value for one in node.keywords)])
    is_sum = isinstance(node, ast.BinOp | ast.UnaryOp | ast.Compare | ast.BoolOp | ast.Tuple)
    parts = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
    return is_sum and _are_sizes(parts)


def _check_structure(spec: dict[str, Any]) -> None:
    """Check how arguments or results are nested."""
    if spec["type"] not in _CONTAINERS:
        raise _Refused(f"it takes or gives a {spec['type']}: tuples, lists and dicts can be served")
    keys = json.loads(spec["context"] or "null") or []
    if not isinstance(keys, list) or not all(
        isinstance(key, str) and _NAME.match(key) for key in keys
    ):
        raise _Refused("it takes or gives a dict with keys that are no names")
    for inner in spec["children_spec"]:
        _check_structure(inner)
