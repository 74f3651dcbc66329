"""Hypothesis strategies for the lines of a metrics log: valid, torn and arbitrary ones."""

import json

from hypothesis import strategies as st

numbers = st.one_of(
    st.integers(-5, 60),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)
metric = st.fixed_dictionaries(
    {"step": st.one_of(st.integers(0, 60), numbers), "split": st.sampled_from(["train", "val", "samples", "test", 3])},
    optional=dict.fromkeys(("loss", "lr", "time", "grad_norm", "cer", "similarity", "seconds"), numbers),
)
event = st.fixed_dictionaries(
    {"event": st.sampled_from(["start", "stop", "finish", "skip", "oom", "choice", "x", None])},
    optional={
        "step": numbers,
        "total_steps": numbers,
        "resumed": numbers,
        "run_id": numbers,
        "time": numbers,
        "parts": numbers,
        "candidates": st.one_of(
            numbers, st.lists(st.one_of(numbers, st.fixed_dictionaries({"step": numbers, "cer": numbers})))
        ),
    },
)
record_line = st.one_of(metric, event).map(lambda record: json.dumps(record).encode())
torn_line = st.tuples(record_line, st.integers(1, 40)).map(lambda pair: pair[0][: -pair[1]])
any_line = st.one_of(record_line, record_line, torn_line, st.binary(max_size=30))
