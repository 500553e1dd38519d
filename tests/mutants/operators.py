"""The mutants of a Python module. Only what stands in a function is changed: the rest is declarations and data.

Left out are the texts of messages, annotations, defaults of parameters, assertions and `__repr__`.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

from .mutant import Change

#: Each comparison and what it becomes: at its edge, and its opposite.
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
}  # fmt: skip

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip

#: Functions that are exchanged.
TWINS = {"min": "max", "max": "min", "all": "any", "any": "all"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def changes_of(source: bytes) -> Iterator[Change]:
    """Every change that is made to a module, in the order of the source."""
    for function, name in _functions(ast.parse(source), ""):
        yield from _Function(source, name).changes(function)


def _functions(node: ast.AST, around: str) -> Iterator[tuple[Function, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            name = f"{around}.{child.name}".lstrip(".")
            if child.name != "__repr__":
                yield child, name
                yield from _functions(child, name)
        else:
            yield from _functions(child, f"{around}.{child.name}" if isinstance(child, ast.ClassDef) else around)


class _Function:
    """The changes of one function, without the functions inside it."""

    def __init__(self, source: bytes, name: str) -> None:
        self._name = name
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def changes(self, function: Function) -> Iterator[Change]:
        body = function.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]  # the docstring
        for statement in body:
            yield from self._of(statement)

    def _of(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, Function | ast.ClassDef | ast.Assert | ast.JoinedStr | ast.Lambda) or _is_unreachable(node):
            return
        for kinds, make in OPERATORS:
            if isinstance(node, kinds):
                for mutated in make(node):
                    yield self._change(node, mutated)
        annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
        for child in ast.iter_child_nodes(node):
            if child is not annotation:
                yield from self._of(child)

    def _change(self, node: ast.AST, mutated: ast.AST) -> Change:
        assert isinstance(node, ast.stmt | ast.expr)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        if isinstance(node, ast.If):  # only its condition is replaced
            assert isinstance(mutated, ast.If)
            before, after, node, mutated = (
                f"if {_text(node.test)}",
                f"if {_text(mutated.test)}",
                node.test,
                mutated.test,
            )
        else:
            before, after = _text(node), _text(mutated)
        return Change(
            self._name,
            node.lineno,
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0),
            f"({_text(mutated)})" if isinstance(mutated, ast.expr) else _text(mutated),
            before,
            after,
        )


def _text(node: ast.AST) -> str:
    return ast.unparse(node)


def _is_unreachable(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is not None and "AssertionError" in _text(node.exc)


# -- the operators ----------------------------------------------------------------------------------


def _comparisons(node: ast.Compare) -> Iterator[ast.expr]:
    for place, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            mutated = copy.deepcopy(node)
            mutated.ops[place] = other()
            yield mutated


def _and_or(node: ast.BoolOp) -> Iterator[ast.expr]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for dropped in range(len(node.values)):
        left = [value for place, value in enumerate(node.values) if place != dropped]
        yield left[0] if len(left) == 1 else ast.BoolOp(node.op, left)


def _without_not(node: ast.UnaryOp) -> Iterator[ast.expr]:
    if isinstance(node.op, ast.Not):
        yield node.operand


def _conditions(node: ast.If) -> Iterator[ast.If]:
    for test in (_negated(node.test), ast.Constant(False)):
        yield ast.If(test, node.body, node.orelse)


def _choices(node: ast.IfExp) -> Iterator[ast.expr]:
    yield ast.IfExp(_negated(node.test), node.body, node.orelse)


def _negated(test: ast.expr) -> ast.expr:
    return (
        test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else ast.UnaryOp(ast.Not(), test)
    )


def _constants(node: ast.Constant) -> Iterator[ast.expr]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)


def _arithmetic(node: ast.BinOp) -> Iterator[ast.expr]:
    if type(node.op) in ARITHMETIC and not isinstance(node.left, ast.JoinedStr):
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)


def _twins(node: ast.Call) -> Iterator[ast.expr]:
    if isinstance(node.func, ast.Name) and node.func.id in TWINS:
        yield ast.Call(ast.Name(TWINS[node.func.id]), node.args, node.keywords)


def _acts(value: ast.expr) -> bool:
    """Whether an expression does something by itself. A bare ``yield`` only makes its function a generator."""
    return isinstance(value, ast.Call | ast.Await | ast.YieldFrom) or (
        isinstance(value, ast.Yield) and value.value is not None
    )


def _dropped(node: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(node, ast.Expr) and not _acts(node.value):
        return
    yield ast.Pass()


def _nothing_returned(node: ast.Return) -> Iterator[ast.stmt]:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(ast.Constant(None))


def _loops(node: ast.stmt) -> Iterator[ast.stmt]:
    yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()


#: The kinds of node, and what makes mutants of them.
OPERATORS: list[tuple[tuple[type[ast.AST], ...], Callable[..., Iterator[ast.AST]]]] = [
    ((ast.Compare,), _comparisons),
    ((ast.BoolOp,), _and_or),
    ((ast.UnaryOp,), _without_not),
    ((ast.If,), _conditions),
    ((ast.IfExp,), _choices),
    ((ast.Constant,), _constants),
    ((ast.BinOp,), _arithmetic),
    ((ast.Call,), _twins),
    ((ast.Expr, ast.Assign, ast.AugAssign, ast.Raise), _dropped),
    ((ast.Return,), _nothing_returned),
    ((ast.Continue, ast.Break), _loops),
]
