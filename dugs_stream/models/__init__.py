"""A trained model from a factory and safe weights, and the AlexNet that comes with the house."""
