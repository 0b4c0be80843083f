"""One file a source of data: how to fetch it, its licence, its pinned hash."""
