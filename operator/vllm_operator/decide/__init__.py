"""From what is wanted and what is seen to what is done: one decision, pure. `deciding` has the table of cases.

Import `decide` from here; `types` is importable without the rest, so that those who look need not know how it is decided.
"""
