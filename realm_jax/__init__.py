"""REALM in JAX: a language model and its retriever, trained together."""

__version__ = "0.1.0"
