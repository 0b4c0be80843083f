"""One folder a modality; each defines `MODALITY`, a class that follows `plait.contract.Modality`."""
