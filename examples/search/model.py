"""What session and workers agree on: the data, the candidates, and how one is scored."""

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

GRID = {"C": [0.1, 1, 10], "gamma": [0.0001, 0.001, 0.01]}


def data():
    digits = load_digits(n_class=6)
    return digits.data[:600], digits.target[:600]


def model(parameters):
    return SVC(**parameters)


def score(parameters):
    """The mean accuracy of a three-fold cross-validation."""
    return float(cross_val_score(model(parameters), *data(), cv=3).mean())
