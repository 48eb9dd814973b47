"""The recipe: one file describes a whole run. Defaults < recipe < command-line flags, and no fourth layer."""

from aasut.recipe.data import Data, GroupColumn, LabelColumn, Range, Split, Table
from aasut.recipe.economics import ApiPrice, Economics, Ranges
from aasut.recipe.experts import Experts
from aasut.recipe.field import FieldRecipe
from aasut.recipe.file import LONGEST, load, parse, text_at
from aasut.recipe.mixture import MixtureRecipe
from aasut.recipe.models import Asked, Endpoint, Judge, ModelAddress, OtherTeacher, Teacher
from aasut.recipe.recipe import Evaluate, Export, Recipe
from aasut.recipe.section import Section
from aasut.recipe.student import Heal, Lora, OnPolicy, Preference, Shape, Student, Vocabulary
from aasut.recipe.task import AnyTask, ClassifyTask, ExtractTask, GenerateTask, ToolsTask

__all__ = [
    "LONGEST",
    "AnyTask",
    "ApiPrice",
    "Asked",
    "ClassifyTask",
    "Data",
    "Economics",
    "Endpoint",
    "Evaluate",
    "Experts",
    "Export",
    "ExtractTask",
    "FieldRecipe",
    "GenerateTask",
    "GroupColumn",
    "Heal",
    "Judge",
    "LabelColumn",
    "Lora",
    "MixtureRecipe",
    "ModelAddress",
    "OnPolicy",
    "OtherTeacher",
    "Preference",
    "Range",
    "Ranges",
    "Recipe",
    "Section",
    "Shape",
    "Split",
    "Student",
    "Table",
    "Teacher",
    "ToolsTask",
    "Vocabulary",
    "load",
    "parse",
    "text_at",
]
