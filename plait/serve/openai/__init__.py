"""Requests and answers in OpenAI's shapes. What a shape does not know, it refuses by name."""
