"""The model in the box: a ResNet50 that learned from random weights, and its judges."""
