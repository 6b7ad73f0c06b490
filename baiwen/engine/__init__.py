"""The engine: a trained model that answers."""
