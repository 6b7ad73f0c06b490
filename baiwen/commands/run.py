"""`baiwen run RECIPE|FOLDER [key=value ...]`: every recipe in order; what is done is skipped."""

import argparse

from baiwen import stages


def main(options: argparse.Namespace) -> None:
    """Check all recipes and their inputs before the first one starts, then run them."""
    recipes = stages.load(options.recipe, options.overrides)
    stages.check(recipes)
    for recipe in recipes:
        if stages.run(recipe):
            stages.check(recipes)  # later ones may be done, but of what it held before
