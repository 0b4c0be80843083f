"""How well people agree on what they labelled, and the one answer that is made of their labels."""
