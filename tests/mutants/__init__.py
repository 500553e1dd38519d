"""Mutants: small changes to the code, each of which some test must notice (``python -m tests.mutants``).

A fixed sample is drawn from all mutants of the core, Python and Lua. Each mutant is put into a copy of the tree, and
the tests that reach its line run until one fails. A mutant that no test notices is a hole in the tests, or it is
equivalent: it changes nothing that anybody could see. Those are listed in ``equivalent.toml``, each with its reason.

Maintained tools were considered first. mutmut has no fixed sample, and runs mutants in forks of one process, which the
threads and servers of these tests do not survive. cosmic-ray changes the working tree in place, runs one test command
for all mutants, and knows a mutant by its place in the file, so an edit above it makes another sample. Neither knows
Lua.

- `operators` makes the mutants of a Python module, and `lua` those of a script.
- `sample` enumerates them, names them, and draws the sample.
- `reach` finds out which tests reach which line.
- `run` judges mutants in copies of the tree, several at a time, and keeps the results.
"""
