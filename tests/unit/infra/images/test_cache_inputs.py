"""The node's root tree is known by a hash of the modules that make it: none may be missing from it."""

from __future__ import annotations

import ast

from infra.images import cache

IMAGES = cache.ROOT / "infra/images"


def imported(module: str) -> set[str]:
    """Modules of infra.images that it imports, `from infra.images import x` and `from infra.images.x import y`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((IMAGES / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "infra.images":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("infra.images."):
            found.add((node.module or "").removeprefix("infra.images."))
    return found


def test_the_hash_covers_every_module_that_the_tree_comes_from() -> None:
    needed, todo = set(), ["tree", "tools"]
    while todo:
        module = todo.pop()
        if module not in needed:
            needed.add(module)
            todo += imported(module)
    assert needed <= set(cache.TREE_MODULES)


def test_a_changed_module_makes_another_tree() -> None:
    files = [IMAGES / f"{module}.py" for module in cache.TREE_MODULES]
    assert cache.digest(files) != cache.digest(files[:-1])
