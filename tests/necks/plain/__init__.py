"""The necks once more, as plain torch modules with the state dict layouts of the public implementations."""
