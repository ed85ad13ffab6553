"""A causal language model from transformers on one device: the only place that imports torch and transformers."""
