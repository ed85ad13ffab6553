"""A causal language model from transformers on one device: the only place that imports torch and transformers.

`loading.load` turns a `ModelSpec` into a `LoadedModel`; what it offers is the `Model` and `Tokenizer` of
`amusd_mp.core.model`. Nothing is imported here, for torch takes seconds: `source` says at once whether a name can be a
model.
"""
