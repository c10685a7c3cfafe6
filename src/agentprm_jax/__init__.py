"""Process reward models for LLM agents in JAX."""
