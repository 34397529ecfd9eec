"""Recipes: published methods, and ours, as choices of parts in plain data."""

from .recipe import RECIPES, Parts, Recipe, recipe_named, recipes

__all__ = ["RECIPES", "Parts", "Recipe", "recipe_named", "recipes"]
