"""People draw, photograph, record and write; others say whether it will do; whoever wants takes it all back."""
