"""Models that exist elsewhere, read into ours: folders of Hugging Face, GGUF files, their families."""
